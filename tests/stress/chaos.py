"""Workers that are killed at random while a pool works."""

from __future__ import annotations

import mmap
import os
import random
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.stress import spin, systems

WORKERS = 4
#: So many tasks are without outcome at any time.
OUTSTANDING = 40
#: A task's time, in seconds.
TASK = 0.001
#: The marks of so many tasks are kept; a task has long ended when its place is used again.
PLACES = 1 << 20
#: Seconds after which a task that has no outcome hangs.
PATIENCE = 60.0

_marks: dict[str, mmap.mmap] = {}


def mapped(path: str) -> mmap.mmap:
    """In a worker: a byte for each task, which all processes write to."""
    if path not in _marks:
        with open(path, "r+b") as file:
            _marks[path] = mmap.mmap(file.fileno(), PLACES)
    return _marks[path]


def work(path: str, number: int) -> int:
    """Says that it has started, and takes a while."""
    marks = mapped(path)
    marks[number % PLACES] += 1
    spin(TASK)
    return number


class Killer:
    """Kills a worker of a pool every so often."""

    def __init__(self, pool: Any, pause: float, seed: int) -> None:
        self.pool = pool
        self.pause = pause
        self.random = random.Random(seed)
        self.kills = 0
        self.stopped = Event()

    def run(self) -> None:
        while not self.stopped.wait(self.pause):
            pids = self.pool.pids()
            if not pids:
                continue
            try:
                os.kill(self.random.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills += 1


@contextmanager
def killing(killer: Killer) -> Iterator[None]:
    thread = Thread(target=killer.run)
    thread.start()
    try:
        yield
    finally:
        killer.stopped.set()
        thread.join()


def chaos(
    directory: Path,
    system: str = "manycore",
    method: str = "fork",
    kills: int = 10_000,
    pause: float = 0.02,
    seed: int = 1,
) -> dict[str, int]:
    """Kills a worker every ``pause`` seconds while tasks of 1 ms run, until there were ``kills``.

    Each task ends in its own result or in its worker's death, none is started twice, and the pool
    works afterwards.
    """
    path = str(directory / "marks")
    Path(path).write_bytes(bytes(PLACES))
    pool = systems.make(system, method, WORKERS)
    try:
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), PLACES) as marks:
            return _chaos(pool, path, marks, Killer(pool, pause, seed), kills)
    except BaseException:
        pool.abandon()
        raise


def _chaos(pool: Any, path: str, marks: mmap.mmap, killer: Killer, kills: int) -> dict[str, int]:
    counts = {"tasks": 0, "returned": 0, "lost": 0}
    waiting: deque[tuple[int, Any]] = deque()

    def send() -> None:
        number = counts["tasks"]
        counts["tasks"] += 1
        marks[number % PLACES] = 0
        waiting.append((number, pool.submit(work, path, number)))

    def take() -> None:
        number, task = waiting.popleft()
        returned = False
        try:
            result = pool.result(task, PATIENCE)
        except TimeoutError:
            raise AssertionError(f"task {number} hangs: {counts}, {killer.kills} kills") from None
        except systems.Lost:
            counts["lost"] += 1
        else:
            assert result == number, f"task {number} returned {result}"
            counts["returned"] += 1
            returned = True
        times = marks[number % PLACES]
        assert times <= 1, f"task {number} was started {times} times"
        assert not returned or times == 1, f"task {number} returned and was not started"

    with killing(killer):
        while killer.kills < kills:
            while len(waiting) < OUTSTANDING:
                send()
            take()
    while waiting:
        take()
    lost = counts["lost"]
    for _ in range(200):
        send()
    while waiting:
        take()
    assert counts["lost"] == lost, "tasks were lost when no worker was killed any more"
    pool.close()
    return counts | {"kills": killer.kills}
