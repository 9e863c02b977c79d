"""Makes the name ``multiprocessing`` mean manycore."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from types import ModuleType

from . import _alias, _choice, _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install", "is_installed"]


class _Finder:
    """Finds ``multiprocessing`` and ``multiprocessing.<name>`` here."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "multiprocessing" or "." in name:
            return None
        find_in = importlib.machinery.PathFinder.find_spec
        if name in _stdlib.SHARED:
            return find_in(fullname, _stdlib.package.__path__)
        ours = f"{__package__}.{name}" if name else str(__package__)
        if name and find_in(ours, sys.modules[str(__package__)].__path__) is None:
            return find_in(fullname, _stdlib.package.__path__)
        return _alias.spec(fullname, ours)


def _adopt_contexts() -> None:
    """Makes ours of the standard library's contexts, to which the functions there are bound."""
    from . import context

    theirs = _stdlib.context
    _send_as_ours(theirs.Process, context.Process)
    for name, ours in context._concrete_contexts.items():
        their = theirs._concrete_contexts[name]
        _send_as_ours(their.Process, ours.Process)
        their.__class__ = type(ours)
    default, our_default = theirs._default_context, context._default_context
    if (chosen := default._actual_context) is not None and our_default._actual_context is None:
        our_default._actual_context = context._concrete_contexts[chosen._name]
    default.__class__ = type(our_default)
    # From now on there is one default start method.
    default.__dict__ = our_default.__dict__


def _adopt_queues(theirs: ModuleType) -> None:
    """Makes subclasses of their queues ones of ours, unless they need the feeder thread.

    They are that in a child, which has `install` called before it imports them.
    """
    from . import queues

    for name in queues.__all__:
        their, our = getattr(theirs, name), getattr(queues, name)
        for cls in their.__subclasses__():
            of_others = cls.__module__ not in (theirs.__name__, queues.__name__)
            if of_others and not queues.has_feeder(cls):
                cls.__bases__ = tuple(our if base is their else base for base in cls.__bases__)


def _send_as_ours(theirs: type[BaseProcess], ours: type[BaseProcess]) -> None:
    """Has children know a process of their class by the name that ours has now."""

    def reduce(process: BaseProcess) -> tuple[Any, ...]:
        cls = ours if type(process) is theirs else type(process)
        return _without_init, (cls,), process.__dict__

    theirs.__reduce__ = reduce  # type: ignore[method-assign, assignment]


def _without_init(cls: type[BaseProcess]) -> BaseProcess:
    return cls.__new__(cls)


def is_installed() -> bool:
    """Whether ``multiprocessing`` means manycore in this process."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def install() -> None:
    """Makes ``multiprocessing`` mean manycore, here and in all processes started from here.

    A module that has imported ``multiprocessing`` before gets manycore by the functions and the
    contexts that it has. Only classes that it has imported from submodules, such as
    ``multiprocessing.pool.Pool``, stay the standard library's. A second call does nothing, and
    neither does any where manycore has no engine: ``multiprocessing`` is then what manycore is.
    """
    if is_installed() or not _choice.HAS_ENGINE:
        return
    ours = sys.modules[str(__package__)]
    _adopt_contexts()
    if (queues := sys.modules.get("multiprocessing.queues")) is not None:
        _adopt_queues(queues)
    for full_name, module in list(sys.modules.items()):
        name = full_name.partition(".")[2] if full_name.startswith("multiprocessing.") else ""
        if not name or "." in name:
            continue
        _stdlib.keep(name, module)
        if name in _stdlib.SHARED:
            # An import that finds it loaded leaves the package as it is.
            setattr(ours, name, module)
        else:
            del sys.modules[full_name]
    sys.modules["multiprocessing"] = ours
    for name in set(ours.__all__) & vars(_stdlib.package).keys():
        setattr(_stdlib.package, name, getattr(ours, name))
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
