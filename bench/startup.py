"""The life of a small pool."""

from __future__ import annotations

import time

from bench.calls import add_one
from bench.registry import METHODS, WORKERS, case, check
from bench.rivals.base import Adapter

CYCLES = 5


@case(
    "startup",
    unit="cycle",
    needs="Pool map",
    goal={"fork": 2, "forkserver": 5, "spawn": 2},
    methods=METHODS,
)
def startup(system: Adapter) -> float:
    """5 times from nothing: `Pool(2)`, one `map` of 4 numbers, `close()`, `join()`.

    A fork server, where there is one, already runs.
    """
    cycle(system)
    count = system.count(CYCLES)
    start = time.perf_counter()
    for _ in range(count):
        cycle(system)
    return (time.perf_counter() - start) / count


def cycle(system: Adapter) -> None:
    """One pool, from start to end."""
    pool = system.Pool(WORKERS)
    check(pool.map(add_one, range(4)), [1, 2, 3, 4])
    pool.close()
    pool.join()
