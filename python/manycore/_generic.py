"""Base classes that are generic for type checkers, and plain classes at run time."""

from __future__ import annotations

__all__ = ["Plain"]


class Plain:
    """``Plain(cls)[T]`` is ``cls``: the standard library's classes cannot all be subscripted."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __getitem__(self, parameters: object) -> type:
        return self._cls
