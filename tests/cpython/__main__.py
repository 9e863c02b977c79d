"""Runs the interpreter's own tests for multiprocessing on manycore.

    python -m tests.cpython [--suites fork,spawn,…] [--system stdlib] < commands

Reads the commands of the interpreters, one a line, or takes those given by ``--python``.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from . import differences
from .environment import WORK, Python, modules
from .run import Outcomes, run_module


def main() -> int:
    """Runs what the arguments ask for; 1 if something is not as it is listed."""
    options = _options()
    known = differences.read()
    surprises = 0
    for command in options.python or map(str.strip, sys.stdin):
        python = Python.find(command)
        environment = python.environment(options.work)
        for suite, names in modules(environment).items():
            if options.suites and suite not in options.suites.split(","):
                continue
            if suite == "executor" and options.system == "stdlib":
                continue
            surprises += _run_suite(options, known, environment, suite, names)
    return 1 if surprises else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cpython", description=__doc__)
    parser.add_argument("--python", action="append", help="the command of an interpreter")
    parser.add_argument("--suites", help="such as fork,main,futures; default: all")
    parser.add_argument("--modules", default="", help="only modules with this in their name")
    parser.add_argument("--system", choices=("manycore", "stdlib"), default="manycore")
    parser.add_argument("--work", type=Path, default=WORK, help="where to work")
    options = parser.parse_args()
    options.work = options.work.resolve()
    return options


def _run_suite(
    options: argparse.Namespace,
    known: list[differences.Difference],
    python: Python,
    suite: str,
    names: list[str],
) -> int:
    results = options.work / "results"
    results.mkdir(parents=True, exist_ok=True)
    name = f"{python.minor}-{suite}-{options.system}"
    system = "executor" if suite == "executor" else options.system
    hanging = differences.hanging(known, python, suite)
    log = results / f"{name}.log"
    log.unlink(missing_ok=True)
    outcomes = Outcomes()
    begin = time.monotonic()
    for module in names:
        if options.modules in module:
            outcomes.tests.update(run_module(python, module, system, log, hanging).tests)
    seconds = time.monotonic() - begin
    tests = {test: asdict(outcome) for test, outcome in outcomes.tests.items()}
    (results / f"{name}.json").write_text(json.dumps(tests, indent=1))
    _print(python, suite, options.system, outcomes, seconds)
    if options.system == "stdlib":
        return 0
    wrong = list(differences.unexpected(outcomes, known, python, suite))
    for test, outcome in wrong:
        print(f"  {test}: {outcome.outcome} {outcome.reason}")
    return len(wrong)


def _print(python: Python, suite: str, system: str, outcomes: Outcomes, seconds: float) -> None:
    counts = Counter(outcome.outcome for outcome in outcomes.tests.values())
    figures = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
    print(f"{system} {python.version} {suite}: {figures} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
