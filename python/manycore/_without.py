"""What needs the engine, where there is none."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["Shared", "shared"]


class Shared:
    """There are none: see :func:`shared`."""


def shared(obj: Any) -> NoReturn:
    """Raises NotImplementedError: the standard library has nothing like it."""
    raise NotImplementedError("manycore.shared needs the engine, which is not used here")
