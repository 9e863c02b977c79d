"""The standard library's own ``multiprocessing``, whatever that name means by now.

After :func:`manycore.install` the name ``multiprocessing`` means manycore, so our own code reaches
the originals through here: ``_stdlib.util``, ``_stdlib.queues`` and so on, each loaded when it is
first asked for.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import multiprocessing as package
import os
import sys
import threading
from collections.abc import Callable, Mapping

# Those that everything needs; the package itself has imported them already.
from multiprocessing import context as _context
from multiprocessing import process as _process
from multiprocessing import reduction as _reduction
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SHARED", "load", "package"]

#: Submodules of which there is one for both packages: they hold state (the process table, the
#: finalizers, the pickle registry) that must not exist twice.
SHARED = frozenset(
    (
        "dummy",
        "heap",
        "process",
        "reduction",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "util",
    )
)

#: Names the start method that programs use which choose none themselves.
START_METHOD_VARIABLE = "MANYCORE_START_METHOD"

# We use more of them than their type stubs know.
context: Any = _context
process: Any = _process
reduction: Any = _reduction

_loaded: dict[str, Any] = {"context": context, "process": process, "reduction": reduction}
_lock = threading.RLock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def load(name: str) -> Any:
    """The standard library's ``multiprocessing.<name>``."""
    module = _loaded.get(name)
    if module is not None:
        return module
    with _lock:
        if name not in _loaded:
            _loaded[name] = _import(f"multiprocessing.{name}")
        # From now on it is found without `__getattr__`.
        return globals().setdefault(name, _loaded[name])


def start_method_of_environment(contexts: Mapping[str, object]) -> str | None:
    """The start method that the environment names for programs that choose none."""
    method = os.environ.get(START_METHOD_VARIABLE)
    if method and method not in contexts:
        raise ValueError(
            f"{START_METHOD_VARIABLE}={method!r}: a start method is one of {', '.join(contexts)}"
        )
    return method or None


def keep(name: str, module: ModuleType) -> None:
    """Remembers an original that is about to lose its place in ``sys.modules``."""
    _loaded.setdefault(name, module)


def rest_of(name: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for what only the standard library's module has."""

    def find(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module 'manycore.{name}' has no attribute {attribute!r}")
        found = getattr(load(name), attribute)
        if isinstance(found, ModuleType) and found.__name__.startswith("multiprocessing."):
            return importlib.import_module(found.__name__.replace("multiprocessing", "manycore", 1))
        return found

    return find


def _import(full_name: str) -> ModuleType:
    if sys.modules.get("multiprocessing") is package:
        return importlib.import_module(full_name)
    from importlib.util import module_from_spec

    if (module := sys.modules.get(full_name)) and full_name.partition(".")[2] in SHARED:
        return module
    # The name is taken by manycore: run the original's code in a module beside it.
    spec = importlib.machinery.PathFinder.find_spec(full_name, package.__path__)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {full_name!r}", name=full_name)
    module = module_from_spec(spec)
    name = full_name.partition(".")[2]
    if name in SHARED:
        sys.modules[full_name] = module
    spec.loader.exec_module(module)
    if name in SHARED:
        setattr(sys.modules["multiprocessing"], name, module)
    return module


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return load(name)
    except ModuleNotFoundError as error:
        raise AttributeError(name) from error
