"""Items from one process to another."""

from __future__ import annotations

import time
from typing import Any

from bench.registry import case, check
from bench.rivals.base import Adapter

SMALL_ITEMS = 20_000
LARGE_ITEMS = 200
NBYTES = 1 << 20


def produce_numbers(queue: Any, count: int) -> None:
    """The producer of small items."""
    for number in range(count):
        queue.put(number)


def produce_bytes(queue: Any, count: int) -> None:
    """The producer of large items; the last byte says which one it is."""
    items = [bytes(NBYTES - 1) + bytes([number]) for number in range(8)]
    for number in range(count):
        queue.put(items[number % 8])


def get(
    system: Adapter, queue: Any, produce: Any, count: int, keep: Any
) -> tuple[float, list[Any]]:
    """Seconds from the first item to the last one, and what is kept of each."""
    process = system.Process(target=produce, args=(queue, count))
    process.start()
    kept = [keep(queue.get())]
    start = time.perf_counter()
    for _ in range(count - 1):
        kept.append(keep(queue.get()))
    seconds = time.perf_counter() - start
    process.join()
    return seconds, kept


@case("queue_small", unit="item", needs="Process Queue", goal=6)
def queue_small(system: Adapter) -> float:
    """A `Queue`; a process puts 20,000 ints, we get them; the clock starts with the first one."""
    count = system.count(SMALL_ITEMS)
    seconds, kept = get(system, system.Queue(), produce_numbers, count, int)
    check(kept, list(range(count)))
    return seconds / (count - 1)


def ends(item: bytes) -> tuple[int, int]:
    """Which item it is, and whether it is whole."""
    return len(item), item[-1]


@case("queue_1mb", unit="item", needs="Process Queue", goal=10, nbytes=NBYTES)
def queue_1mb(system: Adapter) -> float:
    """As `queue_small`, with 200 times 1 MB of bytes; each is dropped after a look at its end."""
    count = system.count(LARGE_ITEMS)
    seconds, kept = get(system, system.Queue(), produce_bytes, count, ends)
    check(kept, [(NBYTES, number % 8) for number in range(count)])
    return seconds / (count - 1)
