"""Finds the Pythons that the tests can run on: ``python -m tests.cpython.pythons [VERSION …]``.

Prints a command a line, for each version the first that works: from the search path, from pyenv,
and from the systems below ``ROOTS`` (see ``make debian-root``), which a script enters.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .environment import HERE

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")

ROOTS = Path(os.environ.get("ROOTS", Path(sys.prefix) / "roots"))


def find(version: str) -> str | None:
    """The command of an interpreter of this version that has the tests of multiprocessing."""
    return next((shlex.join(command) for command in _places(version) if _works(command)), None)


def _places(version: str) -> Iterator[list[str]]:
    if path := shutil.which(f"python{version}"):
        yield [path]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip()
        for path in sorted(Path(root).glob(f"versions/{version}.*/bin/python{version}")):
            yield [str(path)]
    for root in sorted(ROOTS.resolve().glob("*")):
        if (root / f"usr/bin/python{version}").exists():
            yield [str(HERE / "in_root.sh"), str(root), f"/usr/bin/python{version}"]


def _works(command: list[str]) -> bool:
    check = [*command, "-c", "import test._test_multiprocessing"]
    return subprocess.run(check, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def main() -> None:
    """Prints what there is; what was asked for and is not there goes to stderr."""
    for version in sys.argv[1:] or VERSIONS:
        command = find(version)
        print(
            command or f"no Python {version} with its tests", file=None if command else sys.stderr
        )


if __name__ == "__main__":
    main()
