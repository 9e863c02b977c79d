"""What the process at the other end has by name already.

A pickle may name what its reader can find. For modules that is what can be imported; for the main
module it depends on how the reader was started, and the classes here know.
"""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Callable
from functools import _lru_cache_wrapper
from types import FunctionType

from . import _engine, _main, _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Blank",
    "Forked",
    "Importer",
    "Parent",
    "Peer",
    "become_worker",
    "dumps",
    "for_children",
]

#: What pickle raises for that which it cannot take.
REFUSALS = (pickle.PicklingError, AttributeError, TypeError)

#: What pickle takes by its name.
_DEFINITIONS: Any = (FunctionType, type, _lru_cache_wrapper)


class Peer:
    """A process for which something is pickled."""

    #: Functions and classes of the main module that the reader is known to have, by name. None
    #: if everything that names the main module has to be looked at.
    known: dict[str, Any] | None
    #: Whether the main module's definitions go by value, with the globals that they use.
    by_value = False
    #: Whether the reader is this process's parent.
    is_parent = False

    def __init__(self) -> None:
        self.known = None
        #: Globals that every such process has been sent at its start.
        self.given: set[str] = set()

    def resolves(self, name: str, value: object) -> bool:
        """Whether the reader has this function or class of the main module by this name."""
        return False

    def has(self, name: str) -> bool:
        """Whether the reader has something by this name in the main module."""
        return name in self.given

    def keeps(self, name: str, value: object) -> bool:
        """Whether the reader need not be sent this value of a global."""
        return self.resolves(name, value)

    def before_start(self) -> None:
        """Called before another such process is started."""


class Blank(Peer):
    """A child that has nothing of the main module."""

    by_value = True


#: What the children that import the main module are known to have: the same for all of them.
_imported: dict[str, Any] = {}


class Importer(Peer):
    """A child that has imported the main module."""

    def __init__(self) -> None:
        super().__init__()
        self.known = _imported

    def resolves(self, name: str, value: object) -> bool:
        """Whether the reader has this function or class of the main module by this name."""
        if _imported.get(name) is value:
            return True
        source = _main.source()
        if _is_definition(value) and source is not None and not source.defines(name, value):
            return False
        if isinstance(value, _DEFINITIONS):
            _imported[name] = value
        return True

    def has(self, name: str) -> bool:
        """Whether the reader has something by this name in the main module."""
        source = _main.source()
        return source is None or source.binds(name) or super().has(name)

    def keeps(self, name: str, value: object) -> bool:
        """Whether the reader need not be sent this value of a global."""
        return _is_definition(value) and self.resolves(name, value)


class Forked(Peer):
    """Children that are copies of this process, as it is when this object is made."""

    def __init__(self, by_value: bool) -> None:
        super().__init__()
        self.by_value = by_value
        names = _main.namespace().copy()
        self._inherited = {name: _hold(value) for name, value in names.items()}
        self._names = frozenset(names)
        if not by_value:
            self.known = {n: v for n, v in names.items() if isinstance(v, _DEFINITIONS)}

    def resolves(self, name: str, value: object) -> bool:
        """Whether the reader has this function or class of the main module by this name."""
        held = self._inherited.get(name)
        if held is None:
            return False
        if (held[0] if type(held) is tuple else held()) is value:
            return True
        # From now on it depends on the age of a child what it has.
        self._inherited.pop(name, None)
        if self.known is not None:
            self.known.pop(name, None)
        return False

    def has(self, name: str) -> bool:
        """Whether the reader has something by this name in the main module."""
        return name in self._names

    def before_start(self) -> None:
        """Forgets what a later copy has not in common with the earlier ones."""
        names = _main.namespace()
        for name in list(self._inherited):
            self.resolves(name, names.get(name, self))


class Parent(Peer):
    """The process that has started this one."""

    is_parent = True

    def __init__(self) -> None:
        super().__init__()
        self.known = {}
        #: The main module's names when this process had just begun.
        self.start = _main.namespace().copy()

    def resolves(self, name: str, value: object) -> bool:
        """Whether the reader has this function or class of the main module by this name."""
        return _main.namespace().get(name, self) is value

    def has(self, name: str) -> bool:
        """Whether the reader has something by this name in the main module."""
        return name in self.start or name in received

    def keeps(self, name: str, value: object) -> bool:
        """Whether the reader need not be sent this value of a global."""
        return self.has(name)


def for_children(method: str) -> Peer:
    """What the children are like that are started by ``method`` now."""
    by_value = _main.stays_behind(method)
    if method == "fork":
        return Forked(by_value)
    return Blank() if by_value else Importer()


#: In a worker: the process that it works for.
parent: Parent | None = None

#: What this process has received of its parent's main module: the hash of each value's pickle.
received: dict[str, int] = {}


def become_worker() -> None:
    """Notes what this process has, before the first task can have changed it."""
    global parent
    parent = Parent()


def _hold(value: object) -> Any:
    """Something to tell a value by later, and that does not keep it alive if that can be."""
    if not _is_definition(value):
        try:
            return weakref.ref(value)
        except TypeError:
            pass
    return (value,)


def _is_definition(value: object) -> bool:
    return isinstance(value, _DEFINITIONS) and getattr(value, "__module__", None) in _main.NAMES


def dumps(obj: object, peer: Peer, retry: Callable[[], object] = list) -> bytes:
    """Pickles in one piece: by reference if that will do, else by value, after ``retry()``."""
    error: Exception | None = None
    buffer = io.BytesIO()
    try:
        _stdlib.reduction.dump(obj, buffer)
        if not _engine.names_unknown(buffer.getvalue(), peer):
            return buffer.getvalue()
    except REFUSALS as refusal:
        error = refusal
    from ._by_value import dumps

    try:
        retry()
        return dumps(obj, peer, error)
    finally:
        # Its traceback has this frame: a cycle that would keep what all callers have.
        error = None
