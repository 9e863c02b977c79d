"""What a program that makes pool after pool gathers."""

from __future__ import annotations

import importlib
import os
import threading
from pathlib import Path
from typing import Any


def add_one(number: int) -> int:
    """A task."""
    return number + 1


def private() -> int:
    """The memory that only this process has, in kibibytes."""
    text = Path("/proc/self/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines())
    return sum(int(words[1]) for words in lines if words[0] in ("Private_Clean:", "Private_Dirty:"))


def children() -> int:
    """How many children this process has."""
    tasks = Path("/proc/self/task").glob("*/children")
    return sum(len(path.read_text().split()) for path in tasks)


def held() -> dict[str, int]:
    """What this process has at the moment."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(os.listdir("/proc/self/task")),
        "children": children(),
        "names": len(os.listdir("/dev/shm")),
    }


def use(context: Any) -> None:
    """One pool from its start to its end."""
    with context.Pool(2) as pool:
        assert pool.map(add_one, range(10)) == list(range(1, 11))
        pool.close()
        pool.join()


def leaks(
    directory: Path, system: str = "manycore", method: str = "fork", pools: int = 10_000
) -> dict[str, int]:
    """Makes, uses and closes pools; what has been gathered after the first hundredth."""
    context = importlib.import_module(system).get_context(method)
    for _ in range(max(10, pools // 100)):
        use(context)
    before, memory = held(), private()
    for _ in range(pools):
        use(context)
    after = held()
    assert after == before, (before, after)
    return {"grown_kib": private() - memory}
