"""The typed program runs; `make lint` checks its types."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "typing" / "program.py"


def test_program(start_method):
    done = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM],
        env={**os.environ, "MANYCORE_START_METHOD": start_method},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "typed\n", "")
