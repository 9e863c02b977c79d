"""What does the work: the engine, or the standard library where there is no engine.

Without an engine every submodule that the standard library has *is* the standard library's, so
that the names are the same and mean what they mean there.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

from . import _alias, _stdlib

__all__ = ["HAS_ENGINE", "version"]

#: ``rust`` or ``stdlib``; without it the engine works if this system has one.
VARIABLE = "MANYCORE_ENGINE"

_NONE = f"this installation has none for {sys.platform}"

# Tells the processes that are started from here that the program has been warned.
_WARNED = "_MANYCORE_ENGINE_WARNED"


def _reason_against() -> str | None:
    """Why this process has to do without the engine, if it has to."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "rust", "stdlib"):
        raise ValueError(f"{VARIABLE}={wanted!r}: it is 'rust' or 'stdlib', or not set")
    if wanted == "stdlib":
        return f"{VARIABLE}=stdlib"
    try:
        importlib.import_module("._engine", __package__)
    except ModuleNotFoundError as error:
        if error.name != f"{__package__}._engine":
            raise
        if wanted == "rust":
            raise ImportError(f"{VARIABLE}=rust, but {_NONE}") from None
        return _NONE
    return None


class _Finder:
    """Finds the standard library's modules under our names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or not name:
            return None
        if name == "_engine":
            raise NotImplementedError(f"{fullname}: manycore works without its engine ({_reason})")
        if name == "futures":
            return _alias.spec(fullname, "concurrent.futures")
        theirs = f"multiprocessing.{name}"
        where = path if "." in name else _stdlib.package.__path__
        found = importlib.machinery.PathFinder.find_spec(theirs, where)
        return None if found is None else _alias.spec(fullname, theirs)


def _do_without(reason: str) -> None:
    sys.meta_path.insert(0, _Finder())
    default = _stdlib.context._default_context
    contexts = _stdlib.context._concrete_contexts
    if (method := _stdlib.start_method_of_environment(contexts)) is not None:
        default._default_context = contexts[method]
    if os.environ.setdefault(_WARNED, str(os.getpid())) == str(os.getpid()):
        warnings.warn(
            f"manycore works without its engine ({reason}): it is the standard library's "
            "multiprocessing, as slow as that, and hangs where that hangs",
            RuntimeWarning,
            stacklevel=4,
        )


def version() -> str:
    """The package's version."""
    if HAS_ENGINE:
        from ._engine import __version__

        return __version__
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of(str(__package__))
    except PackageNotFoundError:
        return "unknown"


_reason = _reason_against()
#: Whether the engine does the work in this process.
HAS_ENGINE = _reason is None
if _reason is not None:
    _do_without(_reason)
