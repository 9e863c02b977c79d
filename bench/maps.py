"""The price of one item in a long map."""

from __future__ import annotations

import time
from multiprocessing.context import BaseContext

from bench.calls import warm
from bench.registry import WORKERS, case, check

ITEMS = 500_000


def square(number: int) -> int:
    """The task."""
    return number * number


def serial_squares() -> float:
    """`[square(x) for x in range(500_000)]`, in seconds per item."""
    start = time.perf_counter()
    results = [square(number) for number in range(ITEMS)]
    seconds = time.perf_counter() - start
    check(len(results), ITEMS)
    return seconds / ITEMS


@case("map", unit="item", goal=4, serial=serial_squares)
def map_squares(context: BaseContext) -> float:
    """One `Pool(2)`, warm; `pool.map(square, range(500_000))` with the chunks it chooses."""
    with context.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = pool.map(square, range(ITEMS))
        seconds = time.perf_counter() - start
    check(results, [number * number for number in range(ITEMS)])
    return seconds / ITEMS
