"""What a figure was measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import manycore

from bench.environment import NOT_INSTALLED
from bench.systems import SYSTEMS

ROOT = Path(__file__).resolve().parent.parent

Machine = dict[str, str | int | dict[str, str]]


def describe() -> Machine:
    """Machine, versions, commit and date, without the name of the machine."""
    system = ".".join(platform.release().split(".")[:2])
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "python": platform.python_version(),
        "manycore": manycore.__version__,
        "numpy": version("numpy"),
        "system": f"{platform.system()} {system} {platform.machine()}",
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "versions": {name: system.version() or "" for name, system in SYSTEMS.items()},
        "not installed": not_installed(),
    }


def stem(machine: Machine) -> str:
    """The name of the files with the results of a day, a commit and a Python."""
    commit = str(machine["commit"]).replace("+", "-changed")
    minor = str(machine["python"]).rpartition(".")[0]
    return f"{str(machine['date'])[:10]}-{commit}-python{minor}"


def not_installed() -> dict[str, str]:
    """The rivals that are not here, and what pip said about them."""
    path = Path(sys.prefix) / NOT_INSTALLED
    errors = json.loads(path.read_text()) if path.exists() else {}
    return {
        name: errors.get(system.package, "not in this environment")
        for name, system in SYSTEMS.items()
        if system.version() is None
    }


def commit() -> str:
    """The commit that is checked out, with a plus sign if something else was measured."""
    head = git("rev-parse", "--short=10", "HEAD")
    return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def git(*arguments: str) -> str:
    """What git says about this repository; empty where there is none."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def processor() -> str:
    """The model of the processor, as the system calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
