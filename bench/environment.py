"""Makes an environment to measure in: ``python -m bench.environment [PYTHON]``.

It is below the environment that runs this, one for each version of Python, and finds manycore in
the work tree. Prints the command of its interpreter. Without an argument, Python 3.13 if this
machine has it, else the Python that runs this.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "bench" / "requirements.txt"
VERSION = "3.13"
"""The version whose figures count."""

NOT_INSTALLED = "not-installed.json"
"""Which rivals could not be installed, and why; in the environment."""


def main(arguments: list[str]) -> None:
    """Prints the path of the environment's interpreter."""
    command = shlex.split(arguments[0]) if arguments else default()
    version = output([*command, "-c", "import platform; print(platform.python_version())"])
    home = Path(sys.prefix) / "bench" / version
    if not (home / "ready").exists() or (home / "ready").read_text() != REQUIREMENTS.read_text():
        shutil.rmtree(home, ignore_errors=True)
        make(command, home)
        (home / "ready").write_text(REQUIREMENTS.read_text())
    print(home / "bin" / "python")


def default() -> list[str]:
    """The Python to measure on."""
    find = [sys.executable, "-m", "tests.cpython.pythons", VERSION]
    found = subprocess.run(find, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shlex.split(found) or [sys.executable]


def make(command: list[str], home: Path) -> None:
    """A new environment with all that can be installed there, and with manycore as it is here."""
    print(f"Making {home} …", file=sys.stderr)
    subprocess.run([*command, "-m", "venv", str(home)], check=True)
    python = str(home / "bin" / "python")
    ours, rivals = requirements()
    if error := install(python, ours):
        raise SystemExit(error)
    errors = {} if install(python, rivals) is None else one_by_one(python, rivals)
    (home / NOT_INSTALLED).write_text(json.dumps(errors, indent=1) + "\n")
    packages = output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    (Path(packages) / "manycore.pth").write_text(f"{ROOT / 'python'}\n")


def requirements() -> tuple[list[str], list[str]]:
    """What we need, and the rivals."""
    parts = REQUIREMENTS.read_text().partition("# The rivals")
    ours, rivals = (
        [line for line in part.splitlines()[first:] if line and not line.startswith("#")]
        for part, first in ((parts[0], 0), (parts[2], 1))
    )
    return ours, rivals


def one_by_one(python: str, rivals: list[str]) -> dict[str, str]:
    """Installs what can be installed; the errors of the others."""
    errors = {rival: install(python, [rival]) for rival in rivals}
    return {rival: error for rival, error in errors.items() if error}


def install(python: str, packages: list[str]) -> str | None:
    """Installs packages; gives pip's last error, if there is one."""
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return errors[-1] if errors else f"pip ended with {done.returncode}"


def output(command: list[str]) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
