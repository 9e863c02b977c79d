"""Runs our own Python tests on other Pythons: ``python -m tests.cpython.ours [ARG …] < commands``.

Arguments go to pytest.
"""

import os
import subprocess
import sys

from .environment import TOP, WORK, Python


def main() -> int:
    """Runs the tests on each Python whose command is on a line of the input."""
    failed = [python.version for python in map(Python.find, sys.stdin) if not _passes(python)]
    if failed:
        print("our tests fail on Python", ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


def _passes(python: Python) -> bool:
    environment = python.environment(WORK)
    print(f"our tests on Python {python.version}", flush=True)
    # Our tests compare with the standard library: there the name stays its own.
    variables = {**os.environ, "TESTED_SYSTEM": "stdlib"}
    command = [*environment.command, "-m", "pytest", "-q", *sys.argv[1:]]
    return subprocess.run(command, cwd=TOP, env=variables).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
