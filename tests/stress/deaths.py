"""How long it takes until a worker's death is known, and until another takes its place."""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from tests.stress import systems

PATIENCE = 60.0


def say_and_stay(path: str) -> None:
    """Writes its process's number to a pipe, and never returns."""
    with open(path, "wb", buffering=0) as pipe:
        pipe.write(os.getpid().to_bytes(4, "little"))
    while True:
        time.sleep(1)


def deaths(
    directory: Path, system: str = "manycore", method: str = "fork", rounds: int = 200
) -> dict[str, float]:
    """In milliseconds: from a worker's death to the exception, and to the next task's start.

    The pool has one worker, so the next task needs the replacement.
    """
    path = str(directory / "pipe")
    os.mkfifo(path)
    pool = systems.make(system, method, 1)
    known, replaced = [], []
    try:
        for _ in range(rounds):
            one, other = _round(pool, path)
            known.append(one * 1000)
            replaced.append(other * 1000)
        pool.close()
    except BaseException:
        pool.abandon()
        raise
    return {
        "known_median": statistics.median(known),
        "known_99": sorted(known)[int(rounds * 0.99)],
        "replaced_median": statistics.median(replaced),
        "replaced_99": sorted(replaced)[int(rounds * 0.99)],
    }


def _round(pool: Any, path: str) -> tuple[float, float]:
    stuck = pool.submit(say_and_stay, path)
    with open(path, "rb") as pipe:
        pid = int.from_bytes(pipe.read(4), "little")
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    try:
        pool.result(stuck, PATIENCE)
    except systems.Lost:
        known = time.monotonic()
    else:
        raise AssertionError("a task that never returns has returned")
    task = pool.submit(time.monotonic)
    return known - killed, pool.result(task, PATIENCE) - killed
