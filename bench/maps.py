"""The price of one item in a map, and whether the work is shared out well."""

from __future__ import annotations

import time

from bench.calls import warm
from bench.registry import WORKERS, case, check
from bench.rivals.base import Adapter

ITEMS = 500_000
FEW_ITEMS = 10_000
MAPS = 10

LONG, SHORT = 0.060, 0.002
SKEWED = [LONG] * 4 + [SHORT] * 60
IDEAL = sum(SKEWED) / WORKERS


def square(number: int) -> int:
    """The task."""
    return number * number


def serial(items: int, repetitions: int = 1) -> float:
    """`[square(x) for x in range(items)]`, in seconds per item."""
    start = time.perf_counter()
    for _ in range(repetitions):
        results = [square(number) for number in range(items)]
    seconds = time.perf_counter() - start
    check(len(results), items)
    return seconds / repetitions / items


@case(
    "map",
    unit="item",
    needs="Pool map",
    goal=4,
    beats_serial=True,
    serial=lambda: serial(ITEMS),
)
def map_squares(system: Adapter) -> float:
    """One `Pool(2)`, warm; `pool.map(square, range(500_000))` with the chunks it chooses.

    A library that takes single items unless it is told gets the chunks of the standard library.
    """
    chunksize = system.chunksize(ITEMS, WORKERS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = pool.map(square, range(ITEMS), chunksize=chunksize)
        seconds = time.perf_counter() - start
    check(results, [number * number for number in range(ITEMS)])
    return seconds / ITEMS


@case(
    "map_10k",
    unit="item",
    needs="Pool map",
    beats_serial=True,
    serial=lambda: serial(FEW_ITEMS, MAPS),
)
def map_10k(system: Adapter) -> float:
    """One `Pool(2)`, warm; 10 times `pool.map(square, range(10_000))`, chunks as in `map`."""
    chunksize = system.chunksize(FEW_ITEMS, WORKERS)
    count = system.count(MAPS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        for _ in range(count):
            results = pool.map(square, range(FEW_ITEMS), chunksize=chunksize)
        seconds = time.perf_counter() - start
    check(results, [number * number for number in range(FEW_ITEMS)])
    return seconds / count / FEW_ITEMS


def burn(seconds: float) -> float:
    """Takes so many seconds of a processor, not of the clock."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


@case("skewed", unit="job", needs="Pool map", share=0.93, ideal=IDEAL)
def skewed(system: Adapter) -> float:
    """One `Pool(2)`, warm; `pool.map(burn, seconds)` of 4 tasks of 60 ms and then 60 of 2 ms.

    A task takes its time of a processor, so two of them take 180 ms at best. The figure is that
    ideal by the time it took. Chunks are what `map` chooses.
    """
    with system.Pool(WORKERS) as pool:
        warm(pool)
        start = time.perf_counter()
        results = pool.map(burn, SKEWED)
        seconds = time.perf_counter() - start
    check(results, SKEWED)
    return seconds
