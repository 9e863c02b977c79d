"""The life of a small pool."""

from __future__ import annotations

import time
from multiprocessing.context import BaseContext

from bench.calls import add_one
from bench.registry import WORKERS, case, check

CYCLES = 5


@case("startup", unit="cycle", goal=2)
def startup(context: BaseContext) -> float:
    """5 times from nothing: `Pool(2)`, one `map` of 4 numbers, `close()`, `join()`.

    A fork server, where there is one, already runs.
    """
    cycle(context)
    start = time.perf_counter()
    for _ in range(CYCLES):
        cycle(context)
    return (time.perf_counter() - start) / CYCLES


def cycle(context: BaseContext) -> None:
    """One pool, from start to end."""
    pool = context.Pool(WORKERS)
    check(pool.map(add_one, range(4)), [1, 2, 3, 4])
    pool.close()
    pool.join()
