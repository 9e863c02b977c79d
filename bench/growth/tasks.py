"""The price of a task against how many there are, how large they are, and how many workers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from bench.calls import add_one, warm
from bench.growth.series import COMPARED, series
from bench.maps import square
from bench.registry import WORKERS, check
from bench.rivals.base import Adapter

POWERS = tuple(10**power for power in range(3, 8))
KILOBYTE, MEGABYTE, GIGABYTE = 1 << 10, 1 << 20, 1 << 30


def begin_peak() -> float:
    """The memory that this process has, in bytes, from which its peak starts anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """The most memory that this process has had since then, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return float(line.split()[1]) * 1024


@series(
    "imap",
    of="tasks",
    sizes=POWERS,
    systems=COMPARED,
    limits={"multiprocessing": 10**6, "concurrent.futures": 10**5, "loky": 10**5},
)
def imap(system: Adapter, size: int) -> dict[str, float]:
    """`pool.imap(add_one, range(n))`, chunksize 1, on 2 warm workers; results are dropped."""
    with system.Pool(WORKERS) as pool:
        warm(pool)
        before = begin_peak()
        start = time.perf_counter()
        total = sum(pool.imap(add_one, range(size)))
        seconds = time.perf_counter() - start
    check(total, size * (size + 1) // 2)
    return {"seconds": seconds / size, "bytes": peak() - before}


@series("map", of="items", sizes=POWERS, systems=COMPARED)
def map_squares(system: Adapter, size: int) -> dict[str, float]:
    """`pool.map(square, range(n))` with the chunks it chooses, on 2 warm workers."""
    chunksize = system.chunksize(size, WORKERS)
    with system.Pool(WORKERS) as pool:
        warm(pool)
        before = begin_peak()
        start = time.perf_counter()
        results = pool.map(square, range(size), chunksize=chunksize)
        seconds = time.perf_counter() - start
    check(sum(results), sum(number * number for number in range(size)))
    return {"seconds": seconds / size, "bytes": peak() - before}


@series("apply_async", of="tasks", sizes=POWERS[:3], systems=COMPARED)
def apply_async(system: Adapter, size: int) -> dict[str, float]:
    """`apply_async` n times at once, then `get()` of all in order, on 2 warm workers."""
    with system.Pool(WORKERS) as pool:
        warm(pool)
        before = begin_peak()
        start = time.perf_counter()
        waiting = [pool.apply_async(add_one, (number,)) for number in range(size)]
        total = sum(result.get() for result in waiting)
        seconds = time.perf_counter() - start
    check(total, size * (size + 1) // 2)
    return {"seconds": seconds / size, "bytes": peak() - before}


WORKER_COUNTS = (1, 2, 8, 64, 256)


@series("workers", of="workers", sizes=WORKER_COUNTS, systems=COMPARED, limits={"loky": 64})
def workers(system: Adapter, size: int) -> dict[str, float]:
    """`pool.imap(add_one, range(4_000))`, chunksize 1, on n warm workers of 2 processors."""
    tasks = 4_000
    with system.Pool(size) as pool:
        warm(pool)
        start = time.perf_counter()
        total = sum(pool.imap(add_one, range(tasks)))
        seconds = time.perf_counter() - start
    check(total, tasks * (tasks + 1) // 2)
    return {"seconds": seconds / tasks}


WAIT = 0.010


def wait(number: int) -> int:
    """A task that needs no processor."""
    time.sleep(WAIT)
    return number


@series("waiting", of="workers", sizes=WORKER_COUNTS, systems=COMPARED, limits={"loky": 64})
def waiting(system: Adapter, size: int) -> dict[str, float]:
    """`pool.imap(wait, range(20 * n))`, chunksize 1, on n warm workers; a task sleeps 10 ms.

    At best, that is 200 ms; the share is that time by what it took.
    """
    tasks = 20 * size
    with system.Pool(size) as pool:
        pool.map(wait, range(4 * size), chunksize=1)
        start = time.perf_counter()
        total = sum(pool.imap(wait, range(tasks)))
        seconds = time.perf_counter() - start
    check(total, tasks * (tasks - 1) // 2)
    return {"seconds": seconds / tasks, "share": WAIT * tasks / size / seconds}


SIZES = (
    1,
    KILOBYTE,
    16 * KILOBYTE,
    64 * KILOBYTE,
    256 * KILOBYTE,
    MEGABYTE,
    4 * MEGABYTE,
    64 * MEGABYTE,
    GIGABYTE,
    4 * GIGABYTE,
)


@series("payload", of="bytes", sizes=SIZES, systems=COMPARED)
def payload(system: Adapter, size: int) -> dict[str, float]:
    """`pool.apply(len, (array,))` on 2 warm workers, with n bytes as a numpy array."""
    array = np.ones(size, np.uint8)
    calls = max(1, min(500, 256 * MEGABYTE // size))
    with system.Pool(WORKERS) as pool:
        for _ in range(2 * WORKERS if size < GIGABYTE else 1):
            check(pool.apply(len, (array,)), size)
        start = time.perf_counter()
        results = [pool.apply(len, (array,)) for _ in range(calls)]
        seconds = time.perf_counter() - start
    check(results, [size] * calls)
    return {"seconds": seconds / calls}
