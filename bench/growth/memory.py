"""What waits, sleeps and is shared: its memory."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.calls import add_one, warm
from bench.growth.series import series
from bench.registry import WORKERS, check
from bench.rivals.base import Adapter

MEGABYTE = 1 << 20


def memory(pid: int, what: str = "Pss") -> float:
    """Bytes of a process: Pss has its share of what it shares with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return float(line.split()[1]) * 1024
    raise LookupError(what)


def private(pid: int) -> float:
    """Bytes that a process has for itself."""
    return memory(pid, "Private_Dirty") + memory(pid, "Private_Clean")


def children() -> list[int]:
    """Our processes, and theirs."""
    found, to_ask = [], [os.getpid()]
    while to_ask:
        for thread in Path(f"/proc/{to_ask.pop()}/task").iterdir():
            to_ask += (pids := [int(pid) for pid in (thread / "children").read_text().split()])
            found += pids
    return found


def held(path: str) -> None:
    """A task that lasts until nobody writes to a named pipe any more."""
    with open(path, "rb") as gate:
        gate.read()


@series("pending", of="tasks", sizes=(10_000, 100_000))
def pending(system: Adapter, size: int) -> dict[str, float]:
    """Bytes for each of n pending `apply_async(add_one, (i,))`, all processes together.

    All workers are held up while memory is counted, and 1,000 tasks were pending before.
    """
    with tempfile.TemporaryDirectory() as directory, system.Pool(WORKERS) as pool:
        warm(pool)
        pend(pool, directory, 1_000)
        return {"bytes": pend(pool, directory, size) / size}


def pend(pool: Any, directory: str, count: int) -> float:
    """Bytes that so many tasks take; they are done afterwards."""
    path = os.path.join(directory, f"gate{count}")
    os.mkfifo(path)
    # Reading and writing, so that the open waits for nobody.
    gate = os.open(path, os.O_RDWR)
    holding = [pool.apply_async(held, (path,)) for _ in range(WORKERS)]
    before = whole()
    waiting = [pool.apply_async(add_one, (number,)) for number in range(count)]
    after = whole()
    os.close(gate)
    check(sum(result.get() for result in waiting), count * (count + 1) // 2)
    for result in holding:
        result.get()
    os.unlink(path)
    return after - before


def whole() -> float:
    """Bytes of this process and all that it has started; shared ones count once."""
    return sum(memory(pid) for pid in (os.getpid(), *children()))


READERS = 8
shared_array: Any
"""In a worker, what it was given at its start."""


def set_array(raw: Any) -> None:
    """What the workers are given at their start."""
    global shared_array
    shared_array = np.frombuffer(raw, np.uint8)


def read_all(_: int) -> int:
    """Reads every byte of the shared array, and lets the others read, too."""
    total = int(shared_array.sum())
    time.sleep(0.05)
    return total


@series("shared", of="bytes", sizes=(16 * MEGABYTE, 256 * MEGABYTE))
def shared(system: Adapter, size: int) -> dict[str, float]:
    """8 workers read all of one `RawArray` of n bytes: their memory in comparison with before."""
    raw = system.RawArray("B", size)
    np.frombuffer(raw, np.uint8)[:] = 1
    with system.Pool(READERS, set_array, (raw,)) as pool:
        pool.map(time.sleep, [0.05] * READERS, chunksize=1)
        before = sum(memory(pid) for pid in children())
        check(set(pool.map(read_all, range(4 * READERS), chunksize=1)), {size})
        after = sum(memory(pid) for pid in children())
    return {"bytes": after - before, "copies": (after - before) / size}


@series("idle", of="workers", sizes=(2, 8, 64))
def idle(system: Adapter, size: int) -> dict[str, float]:
    """A pool of n workers that has done one `map` does nothing for 2 s.

    Processor time and wake-ups in a second, of all threads but the one that sleeps; bytes of memory
    that a worker has for itself.
    """
    with system.Pool(size) as pool:
        pool.map(time.sleep, [0.02] * size, chunksize=1)
        time.sleep(0.5)
        workers = children()
        before, switches = used(workers)
        time.sleep(2)
        after, more = used(workers)
        bytes_each = sum(map(private, workers)) / len(workers)
    return {
        "processor": (after - before) / 2,
        "wakeups": (more - switches) / 2,
        "bytes": bytes_each,
    }


def used(workers: list[int]) -> tuple[float, float]:
    """Seconds of a processor and switches of all threads but the one that asks, so far."""
    asking = str(threading.get_native_id())
    threads = [
        thread
        for pid in (os.getpid(), *workers)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        if thread.name != asking
    ]
    fields = [(thread / "schedstat").read_text().split() for thread in threads]
    return sum(int(field[0]) for field in fields) / 1e9, sum(int(field[2]) for field in fields)
