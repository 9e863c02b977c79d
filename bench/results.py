"""What was measured, as JSON to compute with and as a table to read."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.registry import Case

RESULTS = Path(__file__).resolve().parent / "results"
SCALES = {"call": ("µs", 1e6), "task": ("µs", 1e6), "item": ("ns", 1e9), "cycle": ("ms", 1e3)}


@dataclass
class Measurement:
    """All rounds of one case under one start method, in seconds per operation."""

    case: str
    start_method: str
    multiprocessing: list[float]
    manycore: list[float]
    serial: list[float]

    @property
    def ratio(self) -> float:
        """How many times faster manycore is, by the medians."""
        return statistics.median(self.multiprocessing) / statistics.median(self.manycore)


def readable(case: Case, rounds: list[float]) -> str:
    """The median in the unit of the case."""
    if not rounds:
        return ""
    seconds = statistics.median(rounds)
    if case.nbytes is not None:
        return f"{case.nbytes / seconds / 1e9:.2f} GB/s"
    unit, scale = SCALES[case.unit]
    return f"{seconds * scale:#.3g}".rstrip(".") + f" {unit}/{case.unit}"


def spread(rounds: list[float]) -> str:
    """How far the rounds lie apart: (slowest - fastest) / median."""
    return f"{(max(rounds) - min(rounds)) / statistics.median(rounds):.0%}"


def row(case: Case, found: Measurement) -> str:
    """One line of the table."""
    reached = "yes" if found.ratio >= case.goal else "**no**"
    cells = [
        case.name,
        found.start_method,
        readable(case, found.multiprocessing),
        readable(case, found.manycore),
        f"{found.ratio:.1f}x",
        f"{case.goal:g}x",
        reached,
        f"{spread(found.multiprocessing)}, {spread(found.manycore)}",
        readable(case, found.serial),
    ]
    return f"| {' | '.join(cells)} |"


def markdown(
    machine: dict[str, str | int], cases: dict[str, Case], found: list[Measurement]
) -> Iterator[str]:
    """The lines of the report: where it was measured, the table, where we lose, the definitions."""
    yield f"# manycore {machine['manycore']}, commit {machine['commit']}, {machine['date']}"
    yield ""
    yield (
        f"{machine['processors']} processors ({machine['processor']}), {machine['system']}, "
        f"Python {machine['python']}, numpy {machine['numpy']}. Medians of "
        f"{min(len(one.manycore) for one in found)} rounds, both systems in turn; 2 workers."
    )
    yield ""
    yield (
        "| case | start method | multiprocessing | manycore | ratio | goal | reached "
        "| spread | serial |"
    )
    yield "|---|---|---:|---:|---:|---:|---|---|---:|"
    yield from (row(cases[one.case], one) for one in found)
    yield ""
    lost = [one for one in found if one.ratio < 1]
    yield from (f"The standard library wins: {one.case}, {one.start_method}." for one in lost)
    if not lost:
        yield "The standard library wins nowhere in this run."
    yield ""
    names = dict.fromkeys(one.case for one in found)
    yield from (f"- **{name}**: {cases[name].definition}" for name in names)


def write(
    machine: dict[str, str | int], cases: dict[str, Case], found: list[Measurement]
) -> tuple[Path, str]:
    """Writes the JSON and the Markdown file; returns the path of the second and its text."""
    stem = f"{str(machine['date'])[:10]}-{machine['commit']}".replace("+", "-changed")
    text = "\n".join(markdown(machine, cases, found)) + "\n"
    data = {"machine": machine, "measurements": [asdict(one) for one in found]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{stem}.json").write_text(json.dumps(data, indent=1) + "\n")
    (RESULTS / f"{stem}.md").write_text(text)
    return RESULTS / f"{stem}.md", text
