"""Makes the name ``multiprocessing`` mean manycore."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import _alias, _choice, _stdlib

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


def is_installed() -> bool:
    """Whether ``multiprocessing`` means manycore in this process."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def install() -> None:
    """Makes ``multiprocessing`` mean manycore, here and in all processes started from here.

    Call it before the modules that use ``multiprocessing`` are imported: what they have imported
    already stays the standard library's. A second call does nothing, and neither does any where
    manycore has no engine: ``multiprocessing`` is then what manycore is.
    """
    if is_installed() or not _choice.HAS_ENGINE:
        return
    for full_name, module in list(sys.modules.items()):
        name = full_name.partition(".")[2] if full_name.startswith("multiprocessing.") else ""
        if not name or "." in name:
            continue
        _stdlib.keep(name, module)
        if name not in _stdlib.SHARED:
            del sys.modules[full_name]
    sys.modules["multiprocessing"] = sys.modules[str(__package__)]
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
