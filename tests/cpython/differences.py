"""The tests that are known not to pass, each with the reason: ``differences.toml``."""

import fnmatch
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .environment import Python
from .run import Outcome, Outcomes

LIST = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True)
class Difference:
    """Tests that fail, and why. Ids are patterns, without the leading ``test.``."""

    tests: tuple[str, ...]
    reason: str
    pythons: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    #: The tests would wait for ever, so they are not run.
    hangs: bool = False

    def covers(self, test: str, python: Python, suite: str) -> bool:
        """Whether this is why ``test`` fails on ``python`` in ``suite``."""
        if self.pythons and python.minor not in self.pythons:
            return False
        # The executor is the only one of which tests fail for reasons of its own.
        if suite not in self.suites and (self.suites or suite == "executor"):
            return False
        name = test.removeprefix("test.")
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.tests)


def read() -> list[Difference]:
    """The list, in its order."""
    with LIST.open("rb") as file:
        entries = tomllib.load(file).get("difference", [])
    return [
        Difference(
            tuple(entry["tests"]),
            entry["reason"],
            tuple(entry.get("pythons", ())),
            tuple(entry.get("suites", ())),
            entry.get("hangs", False),
        )
        for entry in entries
    ]


def hanging(differences: list[Difference], python: Python, suite: str) -> list[str]:
    """Patterns of the tests that are not to be run."""
    return [
        pattern
        for difference in differences
        for pattern in difference.tests
        if difference.hangs and difference.covers(f"test.{pattern}", python, suite)
    ]


def unexpected(
    outcomes: Outcomes, differences: list[Difference], python: Python, suite: str
) -> Iterator[tuple[str, Outcome]]:
    """The tests that fail without being listed, or are listed and do not fail."""
    for test, outcome in outcomes.tests.items():
        listed = any(difference.covers(test, python, suite) for difference in differences)
        if listed and outcome.outcome == "passed":
            yield test, Outcome("passed, but is listed")
        elif not listed and outcome.outcome not in ("passed", "skipped"):
            yield test, outcome
