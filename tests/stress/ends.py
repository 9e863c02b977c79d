"""Programs that are ended at a random moment: by SIGKILL, and by Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: What a process has in its environment that comes from the program under test.
MARK = "MANYCORE_STRESS"
#: Seconds in which everything has to be gone.
GRACE = 1.0


class Left(AssertionError):  # noqa: N818 - it is a finding
    """Something is still there."""


def marked(mark: str) -> list[int]:
    """The processes with this mark, but for those that have ended and were not waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}\0".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def wait_until_gone(mark: str, home: Path, names: set[str]) -> None:
    """Waits until no process, no file and no named shared memory is left.

    Raises:
        Left: Something is there after the grace.
    """
    deadline = time.monotonic() + GRACE
    while True:
        processes = marked(mark)
        files = [str(path) for path in home.rglob("*") if not path.is_dir()]
        memory = sorted(set(os.listdir("/dev/shm")) - names)
        if not (processes or files or memory):
            return
        if time.monotonic() > deadline:
            raise Left(f"{describe(processes)}, files {files}, shared memory {memory}")
        time.sleep(0.01)


def describe(pids: list[int]) -> list[str]:
    """What these processes are."""
    found = []
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found.append(f"{pid} {words}")
    return found


@contextmanager
def victim(directory: Path, method: str, seed: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running program and the mark of its processes; nothing of it is left afterwards."""
    home = directory / f"home-{seed}"
    home.mkdir()
    mark = f"{os.getpid()}-{method}-{seed}"
    names = set(os.listdir("/dev/shm"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stress.victim", method, str(seed)],
        cwd=ROOT,
        env={**os.environ, MARK: mark, "TMPDIR": str(home), "PYTHONFAULTHANDLER": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, mark
        wait_until_gone(mark, home, names)
    finally:
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def orphans(
    directory: Path, method: str = "fork", rounds: int = 1000, seed: int = 1
) -> Counter[str]:
    """Kills a program after up to a second, and looks for what it has left after another."""
    chance, counts = random.Random(seed), Counter({"clean": 0})
    for number in range(rounds):
        with victim(directory, method, seed + number) as (process, _):
            time.sleep(chance.random())
            process.kill()
            process.wait()
        counts["clean"] += 1
    return counts


def interrupts(
    directory: Path, method: str = "fork", rounds: int = 500, seed: int = 1
) -> Counter[str]:
    """Sends Ctrl-C to a program and all its children after up to 1.2 seconds.

    It ends within a second with at most one traceback, and leaves nothing.
    """
    chance, counts = random.Random(seed), Counter({"clean": 0, "before_main": 0})
    for number in range(rounds):
        with victim(directory, method, seed + number) as (process, mark):
            time.sleep(0.1 + chance.random() * 1.1)
            os.killpg(process.pid, signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                left = describe(marked(mark))
                process.send_signal(signal.SIGABRT)
                _, stacks = process.communicate()
                raise Left(f"{mark} goes on: {left}\n{stacks}") from None
            assert process.returncode in (-signal.SIGINT, 1, 130), (process.returncode, errors)
            # What a task was interrupted in is the cause of the parent's exception.
            remote = errors.count("RemoteTraceback:")
            assert errors.count("Traceback (most recent") <= 1 + remote, errors
            assert errors.count("KeyboardInterrupt") <= 1 + remote, errors
        counts["clean"] += 1
        counts["before_main"] += "KeyboardInterrupt" not in errors
    return counts
