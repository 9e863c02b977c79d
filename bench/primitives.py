"""Pipes, locks, shared values and managers."""

from __future__ import annotations

import time
from typing import Any

from bench.registry import case, check
from bench.rivals.base import Adapter

ROUND_TRIPS = 4_000
OPERATIONS = 100_000
MANAGER_OPERATIONS = 2_000


def echo(connection: Any) -> None:
    """Sends back what it gets, until that is None."""
    while (item := connection.recv()) is not None:
        connection.send(item)


@case("pipe", unit="round trip", needs="Process Pipe", goal=8)
def pipe(system: Adapter) -> float:
    """A `Pipe`; we send 4,000 ints, each after the one before came back from a process."""
    count = system.count(ROUND_TRIPS)
    here, there = system.Pipe()
    process = system.Process(target=echo, args=(there,))
    process.start()
    here.send(0)
    here.recv()
    results = []
    start = time.perf_counter()
    for number in range(count):
        here.send(number)
        results.append(here.recv())
    seconds = time.perf_counter() - start
    here.send(None)
    process.join()
    check(results, list(range(count)))
    return seconds / count


@case("lock", unit="item", needs="Lock", goal=3)
def lock(system: Adapter) -> float:
    """`with lock: done += 1`, 100,000 times, while nobody else wants it."""
    lock = system.Lock()
    count = system.count(OPERATIONS)
    done = 0
    start = time.perf_counter()
    for _ in range(count):
        with lock:
            done += 1
    seconds = time.perf_counter() - start
    check(done, count)
    return seconds / count


@case("value", unit="item", needs="Value", goal=4)
def value(system: Adapter) -> float:
    """`with v.get_lock(): v.value += 1`, 100,000 times, with `v = Value("i", 0)`."""
    v = system.Value("i", 0)
    count = system.count(OPERATIONS)
    start = time.perf_counter()
    for _ in range(count):
        with v.get_lock():
            v.value += 1
    seconds = time.perf_counter() - start
    check(v.value, count)
    return seconds / count


@case("array", unit="item", needs="Array", goal=6)
def array(system: Adapter) -> float:
    """`a[3] += 1`, 100,000 times, with `a = Array("i", 10)`, which has a lock."""
    a = system.Array("i", 10)
    count = system.count(OPERATIONS)
    start = time.perf_counter()
    for _ in range(count):
        a[3] += 1
    seconds = time.perf_counter() - start
    check(a[3], count)
    return seconds / count


@case("manager", unit="pair", needs="Manager", goal=5)
def manager(system: Adapter) -> float:
    """`d["a"] = i` and `d["a"]`, 2,000 times, with `d = manager.dict()`; both are one operation."""
    count = system.count(MANAGER_OPERATIONS)
    with system.Manager() as server:
        d = server.dict(a=0)
        results = []
        start = time.perf_counter()
        for number in range(count):
            d["a"] = number
            results.append(d["a"])
        seconds = time.perf_counter() - start
    check(results, list(range(count)))
    return seconds / count
