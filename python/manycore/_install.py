"""Makes the name ``multiprocessing`` mean manycore."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from . import _stdlib

__all__ = ["install", "is_installed"]


class _Alias(importlib.abc.Loader):
    """Loads a module by handing out another one."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias's spec over the module's own.
        module.__spec__ = self._spec


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ``multiprocessing`` and ``multiprocessing.<name>`` here."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "multiprocessing" or "." in name:
            return None
        ours = f"{__package__}.{name}" if name else str(__package__)
        if name and importlib.util.find_spec(ours) is None:
            return importlib.machinery.PathFinder.find_spec(fullname, _stdlib.package.__path__)
        return importlib.machinery.ModuleSpec(fullname, _Alias(ours))


def is_installed() -> bool:
    """Whether ``multiprocessing`` means manycore in this process."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def install() -> None:
    """Makes ``multiprocessing`` mean manycore, here and in all processes started from here.

    Call it before the modules that use ``multiprocessing`` are imported: what they have imported
    already stays the standard library's. A second call does nothing.
    """
    if is_installed():
        return
    for full_name, module in list(sys.modules.items()):
        name = full_name.partition(".")[2] if full_name.startswith("multiprocessing.") else ""
        if not name or "." in name:
            continue
        _stdlib.keep(name, module)
        if name not in _stdlib.SHARED:
            del sys.modules[full_name]
    sys.modules["multiprocessing"] = sys.modules[str(__package__)]
    sys.meta_path.insert(0, _Finder())
