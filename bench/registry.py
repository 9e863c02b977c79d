"""What a case is, and the list of all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.rivals.base import Adapter

Measure = Callable[[Adapter], float]
"""Does the work of a case once on a system and returns the seconds per operation."""

Unit = Literal["call", "task", "item", "array", "cycle", "job", "round trip", "pair"]
"""What one operation is."""

WORKERS = 2
METHODS = ("fork", "forkserver", "spawn")
USUAL_METHODS = METHODS[:2]


class WrongResultError(Exception):
    """A system returned something else than plain serial code does."""


@dataclass(frozen=True)
class Goal:
    """What the design asks for."""

    ratio: Mapping[str, float] = field(default_factory=dict)
    """Times faster than the standard library, for each start method."""
    beats_serial: bool = False
    """Faster than plain serial code."""
    share: float | None = None
    """Of what two processors could do at best."""


@dataclass(frozen=True)
class Case:
    """One scenario: what is done, in words, and the function that does it."""

    name: str
    definition: str
    unit: Unit
    needs: frozenset[str]
    """The names that a system has to offer."""
    goal: Goal
    measure: Measure
    serial: Callable[[], float] | None = None
    """The same work without any process, in seconds per operation, where that is of interest."""
    nbytes: int | None = None
    """Bytes moved by one operation, where a rate says more than a time."""
    ideal: float | None = None
    """Seconds that an operation takes at best, where the share of it says more than a time."""
    methods: tuple[str, ...] = USUAL_METHODS
    """The start methods under which it is of interest."""


CASES: dict[str, Case] = {}


def case(
    name: str,
    *,
    unit: Unit,
    needs: str,
    goal: float | Mapping[str, float] | None = None,
    beats_serial: bool = False,
    share: float | None = None,
    serial: Callable[[], float] | None = None,
    nbytes: int | None = None,
    ideal: float | None = None,
    methods: tuple[str, ...] = USUAL_METHODS,
) -> Callable[[Measure], Measure]:
    """Registers a function as the case `name`; its docstring is the definition."""
    ratio = dict.fromkeys(METHODS, goal) if isinstance(goal, int | float) else goal or {}

    def register(measure: Measure) -> Measure:
        definition = " ".join((measure.__doc__ or "").split())
        CASES[name] = Case(
            name,
            definition,
            unit,
            frozenset(needs.split()),
            Goal(ratio, beats_serial, share),
            measure,
            serial,
            nbytes,
            ideal,
            methods,
        )
        return measure

    return register


def load() -> dict[str, Case]:
    """All cases, in the order of the tables."""
    for module in ("calls", "maps", "arrays", "startup", "queues", "primitives"):
        importlib.import_module(f"bench.{module}")
    return CASES


def check(result: object, expected: object) -> None:
    """Raises WrongResultError unless the two are equal."""
    if result != expected:
        raise WrongResultError(f"{str(result)[:80]} instead of {str(expected)[:80]}")
