"""What was measured: as JSON to compute with and as tables to read."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Machine, stem
from bench.once import SERIAL
from bench.registry import METHODS, Case
from bench.systems import OURS, STDLIB

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Measurement:
    """All rounds of one case on one system, in seconds per operation."""

    case: str
    system: str
    start_method: str
    rounds: list[float] = field(default_factory=list)
    failed: str | None = None
    """Why there is no figure."""

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> str:
        """How far the rounds lie apart: (slowest - fastest) / median."""
        return f"{(max(self.rounds) - min(self.rounds)) / self.seconds:.0%}"


class Results:
    """All measurements of a run, with the questions that the tables ask."""

    def __init__(self, machine: Machine, found: list[Measurement]) -> None:
        self.machine = machine
        self.found = found
        self._by_name = {(one.case, one.system, one.start_method): one for one in found}

    def get(self, case: str, system: str, method: str) -> Measurement | None:
        """The measurement, if it has a figure."""
        one = self._by_name.get((case, system, method))
        return one if one and one.rounds and not one.failed else None

    def rows(self) -> list[tuple[str, str]]:
        """Case and start method of what was measured on us."""
        ours = [one for one in self.found if one.system == OURS and one.rounds]
        cases = dict.fromkeys(one.case for one in ours)
        return [(name, way) for name in cases for way in METHODS if self.get(name, OURS, way)]

    def ratio(self, case: str, method: str) -> float | None:
        """How many times faster we are than the standard library."""
        ours, theirs = self.get(case, OURS, method), self.get(case, STDLIB, method)
        return theirs.seconds / ours.seconds if ours and theirs else None

    def serial(self, case: str) -> Measurement | None:
        """The plain code, where that was measured."""
        return next((one for one in self.of(case) if one.system == SERIAL), None)

    def of(self, case: str) -> list[Measurement]:
        """All figures of a case."""
        return [one for one in self.found if one.case == case and one.rounds and not one.failed]

    def rivals(self, case: str) -> list[Measurement]:
        """The figures of the others, fastest first."""
        others = [one for one in self.of(case) if one.system not in (OURS, STDLIB, SERIAL)]
        return sorted(others, key=lambda one: one.seconds)

    def best(self, case: str, system: str = OURS) -> Measurement | None:
        """The figure of a system under the start method that is best for it."""
        its = [one for one in self.of(case) if one.system == system]
        return min(its, key=lambda one: one.seconds, default=None)

    def ahead(self, case: str) -> list[str]:
        """The rivals that are faster than we are, fastest first."""
        best = self.best(case)
        return [one.system for one in self.rivals(case) if best and one.seconds < best.seconds]

    def reached(self, case: Case, method: str) -> bool | None:
        """Whether all goals of a case are; None if it has none or they cannot be told."""
        ours, serial = self.get(case.name, OURS, method), self.serial(case.name)
        answers = []
        if method in case.goal.ratio and (ratio := self.ratio(case.name, method)):
            answers.append(ratio >= case.goal.ratio[method])
        if case.goal.beats_serial and serial and ours:
            answers.append(ours.seconds < serial.seconds)
        if case.goal.share and case.ideal and ours:
            answers.append(case.ideal / ours.seconds >= case.goal.share)
        return all(answers) if answers else None


def read(path: Path) -> Results:
    """The results in a JSON file."""
    data = json.loads(path.read_text())
    return Results(data["machine"], [Measurement(**one) for one in data["measurements"]])


def write(
    machine: Machine, cases: dict[str, Case], found: list[Measurement], add: bool = False
) -> tuple[Path, str]:
    """Writes the JSON and the Markdown file; returns the path of the second and its text."""
    from bench import tables

    path = RESULTS / f"{stem(machine)}.json"
    if add and path.exists():
        found = merge(read(path).found, found, list(cases))
    results = Results(machine, found)
    text = "\n".join(tables.report(results, cases)) + "\n"
    RESULTS.mkdir(exist_ok=True)
    data: dict[str, Any] = {"machine": machine, "measurements": [asdict(one) for one in found]}
    path.write_text(json.dumps(data, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    return path.with_suffix(".md"), text


def merge(old: list[Measurement], new: list[Measurement], cases: list[str]) -> list[Measurement]:
    """Both; a case that was measured again replaces the old one as a whole."""
    again = {one.case for one in new}
    both = [one for one in old if one.case not in again] + new
    return sorted(both, key=lambda one: cases.index(one.case))
