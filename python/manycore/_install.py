"""Makes the name ``multiprocessing`` mean manycore."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import _stdlib

__all__ = ["install", "is_installed"]


class _Alias:
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


# Not derived from importlib.abc, which is the slowest import of all that we would need.
class _Finder:
    """Finds ``multiprocessing`` and ``multiprocessing.<name>`` here."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "multiprocessing" or "." in name:
            return None
        find_in = importlib.machinery.PathFinder.find_spec
        ours = f"{__package__}.{name}" if name else str(__package__)
        if name and find_in(ours, sys.modules[str(__package__)].__path__) is None:
            return find_in(fullname, _stdlib.package.__path__)
        alias: Any = _Alias(ours)
        return importlib.machinery.ModuleSpec(fullname, alias)


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
    package = sys.modules[str(__package__)]
    for full_name, module in list(sys.modules.items()):
        name = full_name.partition(".")[2] if full_name.startswith("multiprocessing.") else ""
        if not name or "." in name:
            continue
        _stdlib.keep(name, module)
        if name in _stdlib.SHARED:
            setattr(package, name, module)
        else:
            del sys.modules[full_name]
    sys.modules["multiprocessing"] = package
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
