"""Tasks of all lengths and sizes, through all methods of a pool, from several threads."""

from __future__ import annotations

import random
import time
from pathlib import Path
from threading import Thread
from typing import Any

from tests.stress import spin

Item = tuple[int, int, int]


def work(item: Item) -> tuple[int, bytes]:
    """Takes so many microseconds, and returns so many bytes."""
    number, microseconds, size = item
    if microseconds > 900:
        time.sleep(microseconds / 1e6)
    else:
        spin(microseconds / 1e6)
    return number, b"x" * size


def items(chance: random.Random) -> list[Item]:
    """Items of a kind: all short, all alike, a few long ones among short ones, anything."""
    times = chance.choice([[0], [0, 50, 100, 200], [2] * 49 + [3000], [0] * 4 + [5, 50, 500, 2000]])
    sizes = [0] * 97 + [10, 1000, 50_000]
    count = chance.choice([1, 3, 10, 100, 400, 1500])
    return [(n, chance.choice(times), chance.choice(sizes)) for n in range(count)]


def call(pool: Any, chance: random.Random) -> int:
    """Calls one of the methods and compares the results; returns how many tasks that were."""
    given = items(chance)
    chunk = chance.choice([None, 1, 1, 2, 7, 50])
    match chance.choice(["map", "starmap", "imap", "imap_unordered", "apply_async", "apply"]):
        case "map":
            got = pool.map(work, given, chunk)
        case "starmap":
            got = pool.starmap_async(work, [(item,) for item in given], chunk).get()
        case "imap":
            got = list(pool.imap(work, given, chunk or 1))
        case "imap_unordered":
            got = sorted(pool.imap_unordered(work, given, chunk or 1))
        case "apply_async":
            got = [result.get() for result in [pool.apply_async(work, (one,)) for one in given]]
        case "apply":
            given = given[:50]
            got = [pool.apply(work, (item,)) for item in given]
    assert got == [(number, b"x" * size) for number, _, size in given]
    return len(given)


def workloads(
    directory: Path,
    system: str = "manycore",
    method: str = "fork",
    seconds: float = 60.0,
    seed: int = 1,
) -> dict[str, int]:
    """Makes pools and calls their methods for so many seconds; every result is compared."""
    import importlib

    context = importlib.import_module(system).get_context(method)
    chance = random.Random(seed)
    counts = {"pools": 0, "tasks": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with context.Pool(chance.choice([1, 2, 2, 3, 4, 8])) as pool:
            threads = chance.choice([1, 1, 3])
            counts["tasks"] += sum(_in_threads(pool, chance, threads))
            pool.close()
            pool.join()
        counts["pools"] += 1
    return counts


def _in_threads(pool: Any, chance: random.Random, threads: int) -> list[int]:
    done: list[int] = []
    failed: list[BaseException] = []

    def run(own: random.Random) -> None:
        try:
            done.extend(call(pool, own) for _ in range(4))
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    running = [Thread(target=run, args=(random.Random(chance.random()),)) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        raise failed[0]
    return done
