"""One module under two names, for the import system."""

from __future__ import annotations

import importlib
import importlib.machinery
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["spec"]


# Not derived from importlib.abc, which is the slowest import of all that we would need.
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


def spec(name: str, target: str) -> importlib.machinery.ModuleSpec:
    """Has the import of ``name`` give the module ``target``."""
    alias: Any = _Alias(target)
    return importlib.machinery.ModuleSpec(name, alias)
