"""Growth as JSON and as tables; `python -m bench.growth.page FILE.json` puts it into the docs."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.growth.series import Series, load
from bench.machine import Machine, stem
from bench.results import RESULTS
from bench.tables import PAGE, duration, insert, table

MARK = "growth"
PICTURES = ("payload", "workers")


@dataclass
class Point:
    """All rounds of one point, and the figures that each gave."""

    series: str
    system: str
    size: int
    rounds: list[dict[str, float]] = field(default_factory=list)
    failed: str | None = None

    def figure(self, name: str) -> float:
        """The median of one of its figures."""
        return statistics.median(one[name] for one in self.rounds)


@dataclass
class Growth:
    """A run."""

    machine: Machine
    points: list[Point]

    def of(self, series: str) -> list[Point]:
        """The points of a series that have figures."""
        return [one for one in self.points if one.series == series and one.rounds]

    def systems(self, series: str) -> list[str]:
        """The systems that have some."""
        return list(dict.fromkeys(one.system for one in self.of(series)))


def read(path: Path) -> Growth:
    """The run in a JSON file."""
    data = json.loads(path.read_text())
    return Growth(data["machine"], [Point(**one) for one in data["points"]])


def write(
    machine: Machine, points: list[Point], known: dict[str, Series], add: bool
) -> tuple[Path, Growth]:
    """Writes the JSON and the Markdown file."""
    path = RESULTS / f"{stem(machine)}-growth.json"
    if add and path.exists():
        again = {one.series for one in points}
        points = [one for one in read(path).points if one.series not in again] + points
        points.sort(key=lambda one: list(known).index(one.series))
    growth = Growth(machine, points)
    RESULTS.mkdir(exist_ok=True)
    data = {"machine": machine, "points": [asdict(one) for one in points]}
    path.write_text(json.dumps(data, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(tables(growth, known)) + "\n")
    return path, growth


def tables(growth: Growth, known: dict[str, Series]) -> Iterator[str]:
    """Where it was measured, and a table for each series."""
    machine = growth.machine
    most = max(len(one.rounds) for one in growth.points)
    yield (
        f"{machine['processors']} processors ({machine['processor']}), {machine['system']}, "
        f"Python {machine['python']}, commit {machine['commit']}. Start method fork, loky its own. "
        f"Medians of {most} rounds, of fewer where these take more than 10 s."
    )
    for name in dict.fromkeys(one.series for one in growth.points):
        yield ""
        yield f"**{name}**: {known[name].definition}"
        yield ""
        yield from of_series(growth, known[name])
    for one in growth.points:
        if one.failed:
            yield f"\n{one.system} has failed at {one.series}, {one.size:,}: {one.failed}"


def of_series(growth: Growth, series: Series) -> Iterator[str]:
    """A line for each size; for each figure a column for each system."""
    points = {(one.size, one.system): one for one in growth.of(series.name)}
    systems = growth.systems(series.name)
    names = list(dict.fromkeys(name for one in points.values() for name in one.rounds[0]))
    head = [f"{system}, {name}" for name in names for system in systems]
    rows = [
        [readable_size(size, series.of)]
        + [
            readable(name, points[size, system].figure(name)) if (size, system) in points else "-"
            for name in names
            for system in systems
        ]
        for size in dict.fromkeys(one.size for one in points.values())
    ]
    yield from table([series.of, *head], rows)


def readable(name: str, figure: float) -> str:
    """A figure in the unit that its name says."""
    if name in ("seconds", "processor"):
        return duration(figure)
    if name == "bytes":
        return readable_size(round(figure), name)
    return f"{figure:.2f}"


def readable_size(size: int, of: str) -> str:
    """A number of things."""
    if of != "bytes":
        return f"{size:,}"
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if abs(size) >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def main(arguments: list[str]) -> None:
    """Writes the tables and the pictures of a run to the page."""
    path = Path(arguments[0])
    lines = [*tables(read(path), load()), ""]
    for name in PICTURES:
        source = path.with_name(f"{path.stem}-{name}.svg")
        if source.exists():
            shutil.copy(source, PAGE.with_name(f"growth-{name}.svg"))
            lines += [f"![Time of a task against {name}](growth-{name}.svg)", ""]
    PAGE.write_text(insert(PAGE.read_text(), MARK, lines))


if __name__ == "__main__":
    main(sys.argv[1:])
