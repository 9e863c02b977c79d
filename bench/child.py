"""Every measurement has a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WATCHDOG = 100
"""Seconds after which a measurement prints all stacks and gives up."""


class FailedError(Exception):
    """A measurement has ended without a figure."""


def run(module: str, *arguments: str) -> str:
    """What `python -m module FILE …` writes into the file; nothing else is left of it."""
    with tempfile.TemporaryDirectory() as directory:
        file, log = Path(directory, "found"), Path(directory, "log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(file), *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            code = wait(process)
        if code != 0 or not file.exists():
            raise FailedError(log.read_text(errors="replace").strip() or f"ended with {code}")
        return file.read_text()


def wait(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit code, or None if it had to be killed; kills what it has started and left."""
    try:
        return process.wait(WATCHDOG + 10)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
