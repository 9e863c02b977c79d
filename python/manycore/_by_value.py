"""Pickles functions and classes by value, where pickle would take them by a name.

cloudpickle does the work. What is added here:

- Functions of the main module are bound to the reader's own main module, and the globals that they
  use travel beside them, each in a pickle of its own. So a name that an initializer binds in a
  worker is the one that the tasks see.
- A class travels as its identity and its pickle. A reader that knows the class does not read that,
  so nothing overwrites what a class of its own has become.
- Functions of other modules are bound to these modules.

This module is imported when it is first needed, since cloudpickle takes its time.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import functools
import importlib
import importlib.machinery
import io
import pickle
import struct
import sys
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

from . import _block, _engine, _main, _peers, _stdlib

__all__ = ["Pickler", "dump", "dumps"]

#: Names that each main module has for itself.
_OWN = frozenset(
    [
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__loader__",
        "__name__",
        "__package__",
        "__spec__",
    ]
)
_GLOBAL_OPCODES = frozenset(
    (
        "DELETE_GLOBAL",
        "LOAD_FROM_DICT_OR_GLOBALS",
        "LOAD_GLOBAL",
        "LOAD_NAME",  # in the body of a class
        "STORE_GLOBAL",
    )
)

_global_names_cache: weakref.WeakKeyDictionary[CodeType, tuple[str, ...]]
_global_names_cache = weakref.WeakKeyDictionary()

#: The pickles of classes that have come from other processes.
_bodies: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()


def dump(
    obj: object, sink: _engine.Sink, peer: _peers.Peer | None, error: Exception | None
) -> bytes:
    """Pickles ``obj`` into ``sink`` and returns what belongs before it.

    ``error`` is what pickle has raised by itself. It is raised again if it still holds.
    """
    freight = _Freight(peer or _peers.parent or _peers.Peer(), sink)
    return _dump(obj, sink, True, freight, error)


def dumps(obj: object, peer: _peers.Peer, error: Exception | None = None) -> bytes:
    """Pickles ``obj`` in one piece that ``peer`` will read in any case."""
    freight = _Freight(peer)
    buffer = io.BytesIO()
    before = _dump(obj, buffer, False, freight, error)
    peer.given.update(freight.values)
    return before + buffer.getvalue()


def _dump(
    obj: object, sink: Any, with_buffers: bool, freight: _Freight, error: Exception | None
) -> bytes:
    pickler = Pickler(sink, freight, sink if with_buffers else None)
    try:
        pickler.dump(obj)
        return freight.pack()
    except Exception as failure:
        if error is not None and (type(error), str(error)) == (type(failure), str(failure)):
            raise error from None
        raise _explain(failure, freight) from failure


class _Freight:
    """The globals of the main module that have to come along."""

    def __init__(self, peer: _peers.Peer, sink: _engine.Sink | None = None) -> None:
        self.peer = peer
        #: Of the message, if it is one that shared objects can go with.
        self.sink = sink
        #: The functions and classes that went by value so far.
        self.definitions: list[Any] = []
        self.values: dict[str, bytes] = {}
        self._asked: dict[str, str] = {}
        self._open: list[str] = []

    def need(self, names: Iterable[str], user: str) -> None:
        """Notes that ``user`` uses these globals."""
        for name in names:
            if name not in self._asked and name not in _OWN:
                self._asked[name] = user
                self._open.append(name)

    def trace(self, value: object) -> None:
        """Notes the globals of something that the reader has: they may have changed since."""
        if isinstance(value, type):
            for member in list(vars(value).values()):
                self._trace_function(member)
        else:
            self._trace_function(value)

    def _trace_function(self, value: Any) -> None:
        value = getattr(value, "__func__", getattr(value, "__wrapped__", value))
        if isinstance(value, FunctionType) and value.__globals__ is _main.namespace():
            self.need(_global_names(value.__code__), value.__qualname__)

    def pack(self) -> bytes:
        """The instructions that bind the globals in the reader, to go before its pickle."""
        while self._open:
            self._add(self._open.pop())
        if not self.values:
            return b""
        data = pickle.dumps(tuple(self.values.items()), 5)
        entry = b"_add" if self.peer.is_parent else b"_bind"
        # A pickle within a pickle: what it leaves behind is only what `_bind` does.
        return b"".join(
            (
                pickle.PROTO + b"\x05",
                pickle.GLOBAL + __name__.encode() + b"\n" + entry + b"\n",
                pickle.BINBYTES8 + struct.pack("<Q", len(data)) + data,
                pickle.TUPLE1 + pickle.REDUCE + pickle.POP,
            )
        )

    def _add(self, name: str) -> None:
        names = _main.namespace()
        if name not in names:
            return
        value = names[name]
        if self.peer.keeps(name, value):
            if self.peer.by_value:
                self.trace(value)
            return
        open_before, definitions_before = len(self._open), len(self.definitions)
        try:
            self.values[name] = self.pickle(value)
        except Exception as error:
            if not self.peer.has(name):
                raise pickle.PicklingError(
                    f"{self._asked[name]}() uses the global {name!r} of the main module, "
                    f"which cannot be pickled: {type(error).__name__}: {error}"
                ) from error
            # The reader has this one, as in the standard library, and what it needs.
            for unneeded in self._open[open_before:]:
                del self._asked[unneeded]
            del self._open[open_before:], self.definitions[definitions_before:]

    def pickle(self, value: object, within: tuple[type, ...] = ()) -> bytes:
        """The pickle of one value that comes along."""
        buffer = io.BytesIO()
        Pickler(buffer, self, None, within).dump(value)
        return buffer.getvalue()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles by value what the reader does not have by name."""

    def __init__(
        self,
        file: Any,
        freight: _Freight,
        buffer_callback: Callable[[Any], Any] | None = None,
        within: tuple[type, ...] = (),
    ) -> None:
        # It is looked at in the base class's constructor.
        self.dispatch_table = _dispatch_table(freight.sink)
        super().__init__(file, 5, buffer_callback)
        self._freight = freight
        self._within = within
        self._homes: dict[str, _Home] = {}

    def reducer_override(self, obj: Any) -> Any:
        """How to pickle functions and classes; all else has its reducers."""
        if isinstance(obj, type):
            return NotImplemented if self._is_known(obj) else self._reduce_class(obj)
        if isinstance(obj, FunctionType):
            return NotImplemented if self._is_known(obj) else self._function_reduce(obj)
        if type(obj) is functools._lru_cache_wrapper:
            return NotImplemented if self._is_known(obj) else self._reduce_cached(obj)
        return NotImplemented

    def _is_known(self, obj: Any) -> bool:
        """Whether the reader has this definition of the main module by its name."""
        if getattr(obj, "__module__", None) not in _main.NAMES:
            return False
        first, *others = obj.__qualname__.split(".")
        owner = found = _main.namespace().get(first)
        for name in others:
            found = getattr(found, name, None)
        if found is not obj or not self._freight.peer.resolves(first, owner):
            return False
        if self._freight.peer.by_value:
            self._freight.trace(obj)
        return True

    def _reduce_class(self, cls: type) -> Any:
        if cls in cloudpickle._BUILTIN_TYPE_NAMES or cloudpickle._should_pickle_by_reference(cls):
            return cloudpickle._class_reduce(cls)
        if self._within and cls is self._within[-1]:
            return cloudpickle._dynamic_class_reduce(cls)
        identity = cloudpickle._get_or_create_tracker_id(cls)
        if cls in self._within:
            return _find_class, (identity,)
        body = _bodies.get(cls)
        if body is None:
            self._freight.definitions.append(cls)
            body = self._freight.pickle(cls, (*self._within, cls))
        return _load_class, (identity, body)

    def _reduce_cached(self, cached: Any) -> Any:
        if cloudpickle._lookup_module_and_qualname(cached) is not None:
            return NotImplemented
        return _rebuild_cached, (cached.__wrapped__, cached.cache_parameters())

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        self._freight.definitions.append(func)
        names = _global_names(func.__code__)
        home = _home(func) if names else None
        code, base, *rest = self._function_getnewargs(func)
        state = cloudpickle._function_getstate(func)
        if home is None:
            return cloudpickle._make_function, (code, base, *rest), state, *_SET_FUNCTION
        state[1]["__globals__"] = {}
        if home == "__main__":
            self._freight.need(names, func.__qualname__)
        base = self._homes.setdefault(home, _Home(home))
        return _make_function, (code, base, *rest), state, *_SET_FUNCTION


def _dispatch_table(sink: _engine.Sink | None) -> Any:
    if sink is not None:
        return _block.MessageReducers(sink, ChainMap(_REDUCERS, copyreg.dispatch_table))
    registered = _stdlib.reduction.ForkingPickler._extra_reducers
    return ChainMap(registered, _REDUCERS, copyreg.dispatch_table)


class _Home:
    """Stands for a module's names, whatever they are in the reader."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> Any:
        return _names_of, (self._name,)


def _names_of(module: str) -> dict[str, Any]:
    if module == "__main__":
        return _main.namespace()
    return vars(sys.modules.get(module) or importlib.import_module(module))


def _home(func: FunctionType) -> str | None:
    """The module that the reader has, too, and whose names are the function's globals."""
    names = func.__globals__
    if names is _main.namespace():
        return "__main__"
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or vars(module) is not names or not _is_importable(module.__name__):
        return None
    return module.__name__


_importable: dict[str, bool] = {}


def _is_importable(name: str) -> bool:
    """Whether a fresh process finds the same module, and not only what somebody put here."""
    if name not in _importable:
        _importable[name] = _finds_again(name)
    return _importable[name]


def _finds_again(name: str) -> bool:
    spec = getattr(sys.modules[name], "__spec__", None)
    package = name.rpartition(".")[0]
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    if spec is None or (package and path is None):
        return False
    found = importlib.machinery.PathFinder.find_spec(name, path)
    return found is not None and found.origin == spec.origin


def _make_function(code: CodeType, names: dict[str, Any], *rest: Any) -> FunctionType:
    names.setdefault("__builtins__", builtins)
    return FunctionType(code, names, *rest)


def _set_function(func: FunctionType, state: Any) -> None:
    builtins_before = func.__globals__["__builtins__"]
    cloudpickle._function_setstate(func, state)
    func.__globals__["__builtins__"] = builtins_before


#: The end of what a reducer returns for a function: no items, and what sets its state.
_SET_FUNCTION = (None, None, _set_function)


def _load_class(identity: str, body: bytes) -> type:
    """The class that is known by this identity, read from its pickle if it is new or changed."""
    known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    if known is not None and _bodies.get(known, body) == body:
        return known  # type: ignore[no-any-return]
    cls: type = pickle.loads(body)
    _bodies[cls] = body
    return cls


def _find_class(identity: str) -> type:
    return cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID[identity]  # type: ignore[no-any-return]


def _rebuild_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(cached: functools.cached_property[Any]) -> Any:
    # It has a lock before Python 3.12.
    return _rebuild_cached_property, (cached.func, cached.attrname)


def _rebuild_cached_property(function: Any, name: str | None) -> functools.cached_property[Any]:
    cached = functools.cached_property(function)
    if name is not None:
        cached.__set_name__(object, name)
    return cached


def _reduce_stream(stream: Any) -> Any:
    for name in ("stdout", "stderr"):
        if stream is getattr(sys, name):
            return getattr, (sys, name)
    return stream.__reduce_ex__(pickle.HIGHEST_PROTOCOL)


def _reducers() -> dict[type, Callable[[Any], Any]]:
    reducers = dict(cloudpickle.Pickler._dispatch_table)
    # These would arrive as something else than they were.
    del reducers[memoryview]
    reducers[io.TextIOWrapper] = _reduce_stream
    reducers[functools.cached_property] = _reduce_cached_property
    return reducers


_REDUCERS = _reducers()


def _global_names(code: CodeType) -> tuple[str, ...]:
    """The names that code, and code within it, looks up in its module."""
    names = _global_names_cache.get(code)
    if names is None:
        names = _global_names_cache[code] = tuple(dict.fromkeys(_walk_global_names(code)))
    return names


def _walk_global_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_OPCODES:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _walk_global_names(constant)


def _bind(data: bytes) -> None:
    """Binds what the parent sends of its main module.

    A value that was received before leaves what this process has made of it since. Another one
    counts, unless this process had bound the name itself before it first received it.
    """
    names = _main.namespace()
    for name, pickled in reversed(pickle.loads(data)):
        value_hash = hash(pickled)
        if _peers.received.get(name) == value_hash:
            continue
        if _may_bind(name, names):
            names[name] = pickle.loads(pickled)
        _peers.received[name] = value_hash


def _may_bind(name: str, names: dict[str, Any]) -> bool:
    if name in _peers.received or name not in names or _peers.parent is None:
        return True
    start = _peers.parent.start
    return name in start and start[name] is names[name]


def _add(data: bytes) -> None:
    """Binds what a worker sends of its main module, where there is nothing by that name."""
    names = _main.namespace()
    for name, pickled in reversed(pickle.loads(data)):
        if name not in names:
            names[name] = pickle.loads(pickled)


def _explain(failure: Exception, freight: _Freight) -> pickle.PicklingError:
    """One error that names what cannot be pickled, and why."""
    for definition in reversed(freight.definitions):
        for what, value in _parts(definition):
            try:
                freight.pickle(value)
            except Exception as error:  # noqa: BLE001 - the user's classes raise what they like
                return pickle.PicklingError(
                    f"{definition.__qualname__} cannot be pickled because of {what}: "
                    f"{type(error).__name__}: {error}"
                )
    if isinstance(failure, pickle.PicklingError):
        return pickle.PicklingError(*failure.args)
    return pickle.PicklingError(f"{type(failure).__name__}: {failure}")


def _parts(definition: Any) -> Iterator[tuple[str, object]]:
    """What a function or class carries besides code."""
    if isinstance(definition, type):
        for name, value in vars(definition).items():
            if name not in ("__dict__", "__weakref__"):
                yield f"its attribute {name!r}", value
    else:
        yield from _captured(definition)


def _captured(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable {name!r} that it uses", cell.cell_contents
        except ValueError:
            continue
    yield "its default arguments", (function.__defaults__, function.__kwdefaults__)
    yield "its attributes", vars(function)
