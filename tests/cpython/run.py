"""Runs a module of tests in a process of its own and collects the outcomes, hangs included."""

import io
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .environment import HERE, Python

#: Seconds without any news from the tests after which the present one hangs.
PATIENCE = 240


@dataclass
class Outcome:
    """What became of one test: passed, failed, skipped, crashed or hung."""

    outcome: str
    reason: str = ""


@dataclass
class Outcomes:
    """The outcomes of one module's tests, by their ids."""

    tests: dict[str, Outcome] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Takes in a line that ``suite.py`` wrote. The first word on a failure stands."""
        known = self.tests.get(line["id"])
        if known is None:
            self.tests[line["id"]] = Outcome(line["outcome"], line.get("reason", ""))
        elif known.outcome in ("passed", "skipped") and line["outcome"] == "failed":
            known.outcome, known.reason = line["outcome"], line.get("reason", "")


def run_module(
    python: Python, module: str, system: str, log: Path, left_out: list[str]
) -> Outcomes:
    """Runs ``module`` on ``system``; goes on behind a test that hangs or crashes.

    Args:
        python: The environment's interpreter.
        module: The name of a module of tests.
        system: As in the hook: "manycore", "stdlib" or "executor".
        log: The file to which the output is added.
        left_out: Patterns of the ids of tests that are not run.
    """
    outcomes = Outcomes()
    while (broken := _run(python, module, system, log, outcomes, left_out)) is not None:
        test, outcome = broken
        again = test in outcomes.tests
        outcomes.tests[test] = outcome
        if again:
            break
    return outcomes


def _run(*arguments: Any) -> tuple[str, Outcome] | None:
    with tempfile.TemporaryDirectory(prefix="manycore-", ignore_cleanup_errors=True) as directory:
        return _Run(*arguments, directory).wait()


class _Run:
    """One process that runs tests."""

    def __init__(
        self,
        python: Python,
        module: str,
        system: str,
        log: Path,
        outcomes: Outcomes,
        left_out: list[str],
        directory: str,
    ) -> None:
        self._module = module
        self._outcomes = outcomes
        self._test: str | None = None
        self._finished = False
        reader, writer = os.pipe()
        command = [*python.command, str(HERE / "suite.py"), module, str(writer)]
        command += [*outcomes.tests, *(f"test.{pattern}" for pattern in left_out)]
        environment = {**os.environ, "TESTED_SYSTEM": system}
        with open(log, "a") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[writer],
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
        os.close(writer)
        self._lines = io.FileIO(reader)

    def wait(self) -> tuple[str, Outcome] | None:
        """The test that broke the run, with its outcome; None if it came to its end."""
        with self._lines:
            while self._readable() and (line := self._lines.readline()):
                self._take(json.loads(line))
        hung = self._process.poll() is None and not self._ends()
        self._end()
        if self._finished and not hung:
            return None
        test = self._test or f"{self._module}.(loading)"
        if hung:
            return test, Outcome("hung", f"no news for {PATIENCE} s")
        return test, Outcome("crashed", f"exit code {self._process.returncode}")

    def _readable(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._lines, selectors.EVENT_READ)
            return bool(selector.select(PATIENCE))

    def _take(self, line: dict[str, Any]) -> None:
        if "start" in line:
            self._test = line["start"]
        elif "id" in line:
            self._outcomes.take(line)
        else:
            self._finished = True
            if line["altered"]:
                name = f"{self._module}.(environment)"
                self._outcomes.tests[name] = Outcome("failed", "the tests left something behind")

    def _ends(self) -> bool:
        if not self._finished:
            return False
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _end(self) -> None:
        """Ends what is left of the run; first of all, all processes print their stacks."""
        for signum in (signal.SIGABRT, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, signum)
            except ProcessLookupError:
                break
            time.sleep(0.5)
        self._process.wait()
