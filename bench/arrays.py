"""Large arrays there and back."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.registry import WORKERS, case, check
from bench.rivals.base import Adapter

LENGTH = 2_000_000
NBYTES = LENGTH * 8
PAGE = 4096 // 8
CALLS = 10


@cache
def numbers() -> NDArray[np.float64]:
    """16 MB, made once in each process."""
    return np.arange(LENGTH, dtype=np.float64)


def sample(array: NDArray[np.float64]) -> float:
    """The sum of one number of each page: all pages are looked at, and little is computed."""
    return float(array[::PAGE].sum())


def ready(_: int) -> None:
    """Makes the array in this worker; slow enough that every worker gets such a task."""
    numbers()
    time.sleep(0.02)


@case("array_argument", unit="array", needs="Pool apply", goal=15, nbytes=NBYTES)
def array_argument(system: Adapter) -> float:
    """One `Pool(2)`, warm; 10 times `pool.apply(sample, (array,))` with 2,000,000 float64 (16 MB).

    The worker adds up one number of each page of what it got.
    """
    array = numbers()
    expected = sample(array)
    count = system.count(CALLS)
    with system.Pool(WORKERS) as pool:
        for _ in range(2 * WORKERS):
            check(pool.apply(sample, (array,)), expected)
        start = time.perf_counter()
        results = [pool.apply(sample, (array,)) for _ in range(count)]
        seconds = time.perf_counter() - start
    check(results, [expected] * count)
    return seconds / count


@case("array_result", unit="array", needs="Pool map apply", goal=15, nbytes=NBYTES)
def array_result(system: Adapter) -> float:
    """One `Pool(2)`, warm; 10 times `pool.apply(numbers)`, which returns the same 16 MB.

    The worker has made the array before the clock starts; the parent adds up one number of each
    page of each array and drops it.
    """
    expected = sample(numbers())
    count = system.count(CALLS)
    with system.Pool(WORKERS) as pool:
        pool.map(ready, range(2 * WORKERS), chunksize=1)
        for _ in range(2 * WORKERS):
            check(sample(pool.apply(numbers)), expected)
        start = time.perf_counter()
        results = [sample(pool.apply(numbers)) for _ in range(count)]
        seconds = time.perf_counter() - start
    check(results, [expected] * count)
    return seconds / count
