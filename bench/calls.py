"""The price of one small task."""

from __future__ import annotations

import time
from multiprocessing.context import BaseContext
from multiprocessing.pool import Pool

from bench.registry import WORKERS, case, check

ROUND_TRIPS = 2_000
TASKS = 10_000


def add_one(number: int) -> int:
    """The task: as good as nothing."""
    return number + 1


def warm(pool: Pool) -> None:
    """Makes sure that every worker runs and knows the function."""
    check(pool.map(add_one, range(100), chunksize=1), list(range(1, 101)))


@case("apply", unit="call", goal=25)
def apply(context: BaseContext) -> float:
    """One `Pool(2)`, warm; 2,000 times `pool.apply(add_one, (i,))`, each after the one before."""
    with context.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = [pool.apply(add_one, (number,)) for number in range(ROUND_TRIPS)]
        seconds = time.perf_counter() - start
    check(results, list(range(1, ROUND_TRIPS + 1)))
    return seconds / ROUND_TRIPS


@case("imap", unit="task", goal=12)
def imap(context: BaseContext) -> float:
    """One `Pool(2)`, warm; all of `pool.imap(add_one, range(10_000))`, chunksize 1, as a list."""
    with context.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = list(pool.imap(add_one, range(TASKS)))
        seconds = time.perf_counter() - start
    check(results, list(range(1, TASKS + 1)))
    return seconds / TASKS


@case("imap_unordered", unit="task", goal=12)
def imap_unordered(context: BaseContext) -> float:
    """As `imap`, with `imap_unordered`; the results are sorted after the clock has stopped."""
    with context.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = list(pool.imap_unordered(add_one, range(TASKS)))
        seconds = time.perf_counter() - start
    check(sorted(results), list(range(1, TASKS + 1)))
    return seconds / TASKS


@case("apply_async", unit="task", goal=12)
def apply_async(context: BaseContext) -> float:
    """One `Pool(2)`, warm; 10,000 times `apply_async` at once, then `get()` of all, in order."""
    with context.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        waiting = [pool.apply_async(add_one, (number,)) for number in range(TASKS)]
        results = [result.get() for result in waiting]
        seconds = time.perf_counter() - start
    check(results, list(range(1, TASKS + 1)))
    return seconds / TASKS
