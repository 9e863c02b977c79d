"""Measures how costs grow: `python -m bench.growth --series imap,payload`."""

from __future__ import annotations

import argparse
import json
import sys
import time

from bench import machine
from bench.child import FailedError, run
from bench.growth import page, plots
from bench.growth.page import Point
from bench.growth.series import Series, load

ROUNDS = 5
BUDGET = 10.0
"""Seconds after which a point has no further rounds."""


def measure(series: Series, rounds: int, largest: int | None) -> list[Point]:
    """All points; rounds of the systems in turn, as many as fit into the budget of a point."""
    points = [Point(series.name, system, size) for size, system in series.points(largest)]
    for size in dict.fromkeys(point.size for point in points):
        print(f"{series.name}, {size:,} {series.of} …", file=sys.stderr, flush=True)
        turns = [point for point in points if point.size == size]
        spent = dict.fromkeys([point.system for point in turns], 0.0)
        for turn in range(rounds):
            first = turn % len(turns)
            for point in turns[first:] + turns[:first]:
                if point.failed is None and spent[point.system] < BUDGET:
                    spent[point.system] += measure_once(point)
    return points


def measure_once(point: Point) -> float:
    """One round; returns how long it took."""
    start = time.monotonic()
    try:
        found = run("bench.growth.point", point.series, point.system, str(point.size))
        point.rounds.append(json.loads(found))
    except FailedError as error:
        point.failed = str(error).splitlines()[-1]
        print(f"{point.series}, {point.system}: {error}", file=sys.stderr, flush=True)
    return time.monotonic() - start


def main(arguments: list[str]) -> None:
    """Measures, prints the tables, writes them and the pictures to bench/results."""
    known = load()
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--series", default=",".join(known), help="comma-separated (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each (default: {ROUNDS})")
    parser.add_argument(
        "--largest-payload", type=int, default=1 << 30, help="in bytes (default: 1 GB)"
    )
    parser.add_argument(
        "--add", action="store_true", help="to the results of this commit, not in their place"
    )
    options = parser.parse_args(arguments)
    names = options.series.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"no such series: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    place, add = machine.describe(), options.add
    for name in names:
        largest = options.largest_payload if name == "payload" else None
        path, growth = page.write(
            place, measure(known[name], options.rounds, largest), known, add=add
        )
        add = True
    for name, picture in plots.draw(growth).items():
        path.with_name(f"{path.stem}-{name}.svg").write_text(picture)
    print("\n".join(page.tables(growth, known)))
    print(f"\nWritten to {path.relative_to(machine.ROOT)} and the files beside it.")


if __name__ == "__main__":
    main(sys.argv[1:])
