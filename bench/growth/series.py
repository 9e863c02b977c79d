"""What a series is, and the list of all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.rivals.base import Adapter
from bench.systems import OURS, STDLIB

Measure = Callable[[Adapter, int], dict[str, float]]
"""Measures one point: the system and the size; gives figures by their names."""

COMPARED = (OURS, STDLIB, "concurrent.futures", "loky")
BOTH = (OURS, STDLIB)


@dataclass(frozen=True)
class Series:
    """One kind of growth."""

    name: str
    definition: str
    sizes: tuple[int, ...]
    limits: Mapping[str, int]
    """The largest size of each system; what is larger takes it minutes."""
    measure: Measure
    of: str
    """What the size is."""

    def points(self, largest: int | None) -> list[tuple[int, str]]:
        """Sizes and systems in the order in which they are measured."""
        return [
            (size, system)
            for size in self.sizes
            for system, limit in self.limits.items()
            if size <= (limit if largest is None else min(limit, largest))
        ]


SERIES: dict[str, Series] = {}


def series(
    name: str,
    *,
    of: str,
    sizes: tuple[int, ...],
    systems: tuple[str, ...] = BOTH,
    limits: Mapping[str, int] | None = None,
) -> Callable[[Measure], Measure]:
    """Registers a function as the series `name`; its docstring is the definition."""

    def register(measure: Measure) -> Measure:
        definition = " ".join((measure.__doc__ or "").split())
        all_limits = dict.fromkeys(systems, sizes[-1]) | dict(limits or {})
        SERIES[name] = Series(name, definition, sizes, all_limits, measure, of)
        return measure

    return register


def load() -> dict[str, Series]:
    """All series, in the order of the tables."""
    for module in ("tasks", "memory", "break_even"):
        importlib.import_module(f"bench.growth.{module}")
    return SERIES
