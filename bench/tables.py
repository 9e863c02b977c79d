"""The results as Markdown; `python -m bench.tables FILE.json` puts them into the docs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bench.machine import ROOT
from bench.registry import Case, load
from bench.results import Measurement, Results, read
from bench.systems import OURS, STDLIB, SYSTEMS

UNITS = (("ns", 1e9), ("µs", 1e6), ("ms", 1e3), ("s", 1.0))
PAGE = ROOT / "docs" / "performance.md"


def report(results: Results, cases: dict[str, Case]) -> Iterator[str]:
    """The whole report."""
    machine = results.machine
    yield f"# manycore {machine['manycore']}, commit {machine['commit']}, {machine['date']}"
    yield ""
    yield from figures(results, cases)


def figures(results: Results, cases: dict[str, Case]) -> Iterator[str]:
    """Where it was measured and all tables."""
    yield described(results)
    yield ""
    yield from against_stdlib(results, cases)
    yield ""
    yield from against_rivals(results, cases)
    yield ""
    yield from shortcomings(results, cases)
    yield ""
    yield "What an operation is:"
    yield ""
    for name in names(results):
        yield f"- **{name}**, the {cases[name].unit}: {cases[name].definition}"


def described(results: Results) -> str:
    """The machine and how often."""
    machine = results.machine
    rounds = min((len(one.rounds) for one in results.found if not one.failed), default=0)
    return (
        f"{machine['processors']} processors ({machine['processor']}), {machine['system']}, "
        f"Python {machine['python']}, numpy {machine['numpy']}, commit {machine['commit']}. "
        f"Medians of {rounds} rounds, all systems in turn, each in a process of its own; 2 workers."
    )


def against_stdlib(results: Results, cases: dict[str, Case]) -> Iterator[str]:
    """The table with the goals."""
    titles = f"case|start method|{STDLIB}|{OURS}|ratio|goal|reached|spread|serial|rivals ahead"
    yield from table(
        titles.split("|"), [row(results, cases[name], way) for name, way in results.rows()]
    )


def row(results: Results, case: Case, method: str) -> list[str]:
    """One line: a case under a start method."""
    theirs = results.get(case.name, STDLIB, method)
    ours = results.get(case.name, OURS, method)
    ratio, serial = results.ratio(case.name, method), results.serial(case.name)
    best = results.best(case.name)
    is_best = best is not None and best.start_method == method
    return [
        case.name,
        method,
        readable(case, theirs),
        readable(case, ours),
        f"{ratio:.1f}x" if ratio else "",
        goal(case, method),
        {True: "yes", False: "**no**", None: ""}[results.reached(case, method)],
        ", ".join(one.spread for one in (theirs, ours) if one),
        readable(case, serial) if serial else "",
        ", ".join(results.ahead(case.name)) if is_best else "",
    ]


def goal(case: Case, method: str) -> str:
    """The goal in words."""
    parts = [f"{case.goal.ratio[method]:g}x"] if method in case.goal.ratio else []
    parts += ["faster than serial"] if case.goal.beats_serial else []
    parts += [f"{case.goal.share:g} of ideal"] if case.goal.share else []
    return ", ".join(parts)


def against_rivals(results: Results, cases: dict[str, Case]) -> Iterator[str]:
    """A line for each case, a column for each system."""
    measured = {one.system for one in results.found}
    rivals = [name for name in SYSTEMS if name in measured and name not in (STDLIB, OURS)]
    if not rivals:
        return
    versions = results.machine["versions"]
    assert isinstance(versions, dict)
    yield "Each library under the start method that is best for it:"
    yield ""
    yield from table(
        ["case", STDLIB, OURS, *(f"{name} {versions[name]}".strip() for name in rivals)],
        [
            [name, *(cell(results, cases[name], system) for system in (STDLIB, OURS, *rivals))]
            for name in names(results)
        ],
    )


def cell(results: Results, case: Case, system: str) -> str:
    """A rival's best figure, in bold where it is ahead of us."""
    if any(one.failed for one in results.found if (one.case, one.system) == (case.name, system)):
        return "failed"
    text = readable(case, results.best(case.name, system))
    return f"**{text}**" if system in results.ahead(case.name) else text


def shortcomings(results: Results, cases: dict[str, Case]) -> Iterator[str]:
    """Where we lose, and whom we could not ask."""
    rows = [(cases[name], way) for name, way in results.rows()]
    lost = [(case, way) for case, way in rows if (results.ratio(case.name, way) or 1) < 1]
    missed = [(case, way) for case, way in rows if results.reached(case, way) is False]
    yield from listed("The standard library is faster", lost)
    yield from listed("The goal is missed", missed)
    ahead = {name: results.ahead(name) for name in names(results)}
    texts = [f"{name} ({', '.join(rivals)})" for name, rivals in ahead.items() if rivals]
    yield f"- A rival is faster: {', '.join(texts) or 'nowhere'}."
    for one in results.found:
        if one.failed:
            yield f"- {one.system} has failed at {one.case}: {one.failed}"
    absent = results.machine["not installed"]
    assert isinstance(absent, dict)
    yield from (f"- {name} could not be measured: {reason}" for name, reason in absent.items())


def listed(what: str, rows: list[tuple[Case, str]]) -> Iterator[str]:
    """A line with cases and their start methods."""
    by_case: dict[str, list[str]] = {}
    for case, method in rows:
        by_case.setdefault(case.name, []).append(method)
    texts = [f"{name} ({', '.join(methods)})" for name, methods in by_case.items()]
    yield f"- {what}: {', '.join(texts) or 'nowhere'}."


def names(results: Results) -> list[str]:
    """The cases that were measured, in their order."""
    return list(dict.fromkeys(one.case for one in results.found))


def readable(case: Case, one: Measurement | None) -> str:
    """The median in the unit of the case."""
    if one is None:
        return "-"
    if case.nbytes is not None:
        return f"{case.nbytes / one.seconds / 1e9:.2f} GB/s"
    if case.ideal is not None:
        return f"{case.ideal / one.seconds:.2f}"
    return duration(one.seconds)


def duration(seconds: float) -> str:
    """Three digits of it, in a unit that keeps it short."""
    fits = ((unit, scale) for unit, scale in UNITS if seconds * scale < 999.5)
    unit, scale = next(fits, UNITS[-1])
    return f"{seconds * scale:#.3g}".rstrip(".") + f" {unit}"


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """A table; what is a figure stands right."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(cells)} |" for cells in rows)


def insert(text: str, mark: str, lines: list[str]) -> str:
    """The text with the lines between two marks."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, found, rest = text.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise SystemExit(f"{PAGE} has no {begin} … {end}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def main(arguments: list[str]) -> None:
    """Writes the tables of a file of results to the page."""
    (path,) = arguments
    lines = [*figures(read(Path(path)), load())]
    PAGE.write_text(insert(PAGE.read_text(), "figures", lines))


if __name__ == "__main__":
    main(sys.argv[1:])
