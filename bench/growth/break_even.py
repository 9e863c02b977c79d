"""From where on a pool pays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.calls import warm
from bench.growth.series import COMPARED, series
from bench.registry import WORKERS, check
from bench.rivals.base import Adapter

ROUNDS = 3
LONGEST = 1 << 17
"""Turns of a task that is long enough for every pool; some milliseconds."""


def spin(turns: int) -> int:
    """The task: a loop, so that it takes the same work on every system."""
    done = 0
    for _ in range(turns):
        done += 1
    return done


@series("break_even", of="workers", sizes=(WORKERS,), systems=COMPARED)
def break_even(system: Adapter, size: int) -> dict[str, float]:
    """The shortest task from which on `pool.imap`, chunksize 1, on n warm workers beats a loop.

    As many tasks as take 30 ms, at least 20 of them; medians of 3. By halves, until it is known
    to a tenth.
    """
    with system.Pool(size) as pool:
        warm(pool)
        if not pays(pool, LONGEST):
            raise RuntimeError(f"does not pay for {serial_time(LONGEST, 10) * 1e3:.0f} ms either")
        low, high = 1, LONGEST
        while high > low * 1.1 and high - low > 1:
            middle = round((low * high) ** 0.5)
            if pays(pool, middle):
                high = middle
            else:
                low = middle
    return {"seconds": serial_time(high, 1000)}


def pays(pool: Any, turns: int) -> bool:
    """Whether the pool is faster for tasks of so many turns."""
    tasks = max(20, round(0.03 / serial_time(turns, 10)))
    loop, parallel = [], []
    for _ in range(ROUNDS):
        loop.append(timed(lambda: map(spin, [turns] * tasks), turns * tasks))
        parallel.append(timed(lambda: pool.imap(spin, [turns] * tasks), turns * tasks))
    return statistics.median(parallel) < statistics.median(loop)


def timed(results: Callable[[], Any], expected: int) -> float:
    """Seconds that all results take."""
    start = time.perf_counter()
    total = sum(results())
    seconds = time.perf_counter() - start
    check(total, expected)
    return seconds


def serial_time(turns: int, tasks: int) -> float:
    """Seconds that one task takes in a loop."""
    return timed(lambda: map(spin, [turns] * tasks), turns * tasks) / tasks
