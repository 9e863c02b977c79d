"""What a case is, and the list of all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Literal

Measure = Callable[[BaseContext], float]
"""Does the work of a case once on a context and returns the seconds per operation."""

Unit = Literal["call", "task", "item", "array", "cycle"]

WORKERS = 2


class WrongResultError(Exception):
    """A system returned something else than plain serial code does."""


@dataclass(frozen=True)
class Case:
    """One scenario: what is done, in words, and the function that does it."""

    name: str
    definition: str
    unit: Unit
    goal: float
    measure: Measure
    serial: Callable[[], float] | None = None
    """The same work without any process, in seconds per operation, where that is of interest."""
    nbytes: int | None = None
    """Bytes moved by one operation, where a rate says more than a time."""


CASES: dict[str, Case] = {}


def case(
    name: str,
    *,
    unit: Unit,
    goal: float,
    serial: Callable[[], float] | None = None,
    nbytes: int | None = None,
) -> Callable[[Measure], Measure]:
    """Registers a function as the case `name`; its docstring is the definition."""

    def register(measure: Measure) -> Measure:
        definition = " ".join((measure.__doc__ or "").split())
        CASES[name] = Case(name, definition, unit, goal, measure, serial, nbytes)
        return measure

    return register


def load() -> dict[str, Case]:
    """All cases, in the order of the tables."""
    for module in ("calls", "maps", "arrays", "startup"):
        importlib.import_module(f"bench.{module}")
    return CASES


def check(result: object, expected: object) -> None:
    """Raises WrongResultError unless the two are equal."""
    if result != expected:
        raise WrongResultError(f"{str(result)[:80]} instead of {str(expected)[:80]}")
