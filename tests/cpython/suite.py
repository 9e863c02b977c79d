"""Runs one module of the interpreter's own tests, in the test environment.

    python suite.py MODULE DESCRIPTOR [PATTERN ...]

Writes one line of JSON to the descriptor for each step: ``{"start": id}`` when a test begins,
``{"id": …, "outcome": …, "reason": …}`` when it has ended, and last whether the module has left
something behind. Tests whose ids match a pattern are left out.
"""

import faulthandler
import fnmatch
import gc
import json
import os
import signal
import sys
import time
import unittest
from collections.abc import Iterator
from typing import Any, TextIO


class Recorder(unittest.TextTestResult):
    """Writes down each outcome when it is known."""

    lines: TextIO
    _broke_off = False

    def startTest(self, test: unittest.TestCase) -> None:
        """Says that ``test`` begins."""
        super().startTest(test)
        self._write(start=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        """Whatever has not failed by now, and has cleaned up, has passed."""
        from test import support

        super().stopTest(test)
        if support.environment_altered:
            self._write(id=test.id(), outcome="failed", reason="it left something behind")
            # What is found after the last test is nobody's in particular.
            support.environment_altered = False
        self._write(id=test.id(), outcome="passed")
        # What failed may have left something in the cycle of its traceback.
        gc.collect()
        if self._broke_off:
            self._broke_off = False
            _reap()

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        """Writes down a skipped test."""
        super().addSkip(test, reason)
        self._write(id=test.id(), outcome="skipped", reason=reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """Writes down an error; it may be that of a class or module."""
        super().addError(test, err)
        self._failed(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """Writes down a failure."""
        super().addFailure(test, err)
        self._failed(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        """A test fails with any of its parts."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, err)

    def _failed(self, test: unittest.TestCase, err: Any) -> None:
        # Other tests may count on a child that is not waited for: a killed resource tracker, say.
        self._broke_off = _is_of_futures(test)
        reason = f"{err[0].__name__}: {err[1]}".splitlines()[0][:160]
        self._write(id=test.id(), outcome="failed", reason=reason)

    def _write(self, **line: Any) -> None:
        self.lines.write(json.dumps(line) + "\n")
        self.lines.flush()


def _reap() -> None:
    """Gives the children of a test that broke off a moment to end, lest the next is blamed."""
    from test import support

    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        support.reap_children()
        time.sleep(0.05)
    support.environment_altered = False


def _each(suite: Any) -> Iterator[Any]:
    if isinstance(suite, unittest.TestSuite):
        for part in suite:
            yield from _each(part)
    else:
        yield suite


def _is_of_futures(test: Any) -> bool:
    return type(test).__module__.startswith("test.test_concurrent_futures")


def _of_processes(test: Any) -> bool:
    """Of the tests of ``concurrent.futures`` those of processes are ours."""
    return not _is_of_futures(test) or "ProcessPool" in type(test).__name__


def _matches(test: Any, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(test.id(), pattern) for pattern in patterns)


def main(name: str, descriptor: int, left_out: list[str]) -> None:
    """Runs the module's tests."""
    from test import support

    faulthandler.enable()
    # A shell starts what runs in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No network but this machine's, no audio, no gigabytes; time and processor as they want.
    support.use_resources = ["cpu", "walltime", "subprocess"]
    support.verbose = 0
    with os.fdopen(descriptor, "w") as lines:
        Recorder.lines = lines
        tests = _each(unittest.defaultTestLoader.loadTestsFromName(name))
        chosen = [test for test in tests if _of_processes(test) and not _matches(test, left_out)]
        runner = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Recorder)
        runner.run(unittest.TestSuite(chosen))
        lines.write(json.dumps({"altered": bool(support.environment_altered)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
