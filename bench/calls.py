"""The price of one small task."""

from __future__ import annotations

import time
from typing import Any

from bench.registry import WORKERS, case, check
from bench.rivals.base import Adapter

ROUND_TRIPS = 4_000
TASKS = 10_000
LOOK_UPS = 200
LENGTH = 100_000


def add_one(number: int) -> int:
    """The task: as good as nothing."""
    return number + 1


def warm(pool: Any) -> None:
    """Makes sure that every worker runs and knows the function."""
    check(pool.map(add_one, range(100), chunksize=1), list(range(1, 101)))


@case("apply", unit="call", needs="Pool map apply", goal=25)
def apply(system: Adapter) -> float:
    """One `Pool(2)`, warm; 4,000 times `pool.apply(add_one, (i,))`, each after the one before."""
    count = system.count(ROUND_TRIPS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = [pool.apply(add_one, (number,)) for number in range(count)]
        seconds = time.perf_counter() - start
    check(results, list(range(1, count + 1)))
    return seconds / count


@case("imap", unit="task", needs="Pool map imap", goal=12)
def imap(system: Adapter) -> float:
    """One `Pool(2)`, warm; all of `pool.imap(add_one, range(10_000))`, chunksize 1, as a list."""
    count = system.count(TASKS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = list(pool.imap(add_one, range(count)))
        seconds = time.perf_counter() - start
    check(results, list(range(1, count + 1)))
    return seconds / count


@case("imap_unordered", unit="task", needs="Pool imap_unordered", goal=12)
def imap_unordered(system: Adapter) -> float:
    """As `imap`, with `imap_unordered`; the results are sorted after the clock has stopped."""
    count = system.count(TASKS)
    with system.Pool(WORKERS) as pool:
        check(sorted(pool.imap_unordered(add_one, range(100))), list(range(1, 101)))
        start = time.perf_counter()
        results = list(pool.imap_unordered(add_one, range(count)))
        seconds = time.perf_counter() - start
    check(sorted(results), list(range(1, count + 1)))
    return seconds / count


@case("apply_async", unit="task", needs="Pool map apply_async", goal=12)
def apply_async(system: Adapter) -> float:
    """One `Pool(2)`, warm; 10,000 times `apply_async` at once, then `get()` of all, in order."""
    count = system.count(TASKS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        waiting = [pool.apply_async(add_one, (number,)) for number in range(count)]
        results = [result.get() for result in waiting]
        seconds = time.perf_counter() - start
    check(results, list(range(1, count + 1)))
    return seconds / count


class Model:
    """An object of 100,000 numbers, which takes some milliseconds to pickle."""

    def __init__(self) -> None:
        self.table = list(range(LENGTH))

    def look_up(self, number: int) -> int:
        """The task."""
        return self.table[number]


@case("bound_method", unit="task", needs="Pool map imap", goal=12)
def bound_method(system: Adapter) -> float:
    """One `Pool(2)`, warm; all of `pool.imap(model.look_up, range(200))`, chunksize 1, as a list.

    `model` has a list of 100,000 numbers.
    """
    model = Model()
    count = system.count(LOOK_UPS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = list(pool.imap(model.look_up, range(count)))
        seconds = time.perf_counter() - start
    check(results, list(range(count)))
    return seconds / count
