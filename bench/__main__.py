"""Measures the cases on all systems in turn: `python -m bench --cases apply,imap`."""

from __future__ import annotations

import argparse
import sys

from bench import machine, results
from bench.child import FailedError, run
from bench.once import SERIAL
from bench.registry import METHODS, Case, load
from bench.results import Measurement
from bench.systems import OURS, STDLIB, SYSTEMS

ROUNDS = 5
DOES_NOT_APPLY = "-"


def planned(cases: list[Case], systems: list[str], methods: list[str]) -> list[list[Measurement]]:
    """What is to be measured: for each case what is measured in turn."""
    return [[*of_case(case, systems, methods)] for case in cases]


def of_case(case: Case, systems: list[str], methods: list[str]) -> list[Measurement]:
    """The measurements of a case, without figures yet."""
    found = []
    for name in systems:
        system = SYSTEMS[name]
        if system.has(case) and system.version() is not None:
            chosen = [one for one in case.methods if one in methods]
            ours = name in (OURS, STDLIB)
            found += [
                Measurement(case.name, name, one) for one in (chosen if ours else system.methods)
            ]
    if case.serial is not None:
        found.append(Measurement(case.name, SERIAL, DOES_NOT_APPLY))
    return found


def measure(turns: list[Measurement], rounds: int) -> None:
    """All rounds of a case; another one goes first in each."""
    for turn in range(rounds):
        first = turn % len(turns)
        for one in turns[first:] + turns[:first]:
            if one.failed is None:
                measure_once(one)


def measure_once(one: Measurement) -> None:
    """One round of one system. What a rival cannot do is a result; what we cannot ends the run."""
    try:
        found = run("bench.once", one.case, one.system, one.start_method)
        one.rounds.append(float(found))
    except FailedError as error:
        if one.system in (OURS, STDLIB):
            raise SystemExit(f"{one.case}, {one.system}, {one.start_method}: {error}") from None
        one.failed = str(error).strip().splitlines()[-1]
        print(f"{one.case}, {one.system}: {one.failed}", file=sys.stderr, flush=True)


def parse(arguments: list[str], names: list[str]) -> argparse.Namespace:
    """The options; unknown names are refused."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--cases", default=",".join(names), help="comma-separated (default: all)")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated")
    parser.add_argument("--start-methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each (default: {ROUNDS})")
    parser.add_argument(
        "--add", action="store_true", help="to the results of this commit, not in their place"
    )
    options = parser.parse_args(arguments)
    for option, known in (("cases", names), ("systems", SYSTEMS), ("start_methods", METHODS)):
        chosen = getattr(options, option).split(",")
        setattr(options, option, chosen)
        if unknown := set(chosen) - set(known):
            parser.error(f"no such {option}: {', '.join(sorted(unknown))}; {', '.join(known)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main(arguments: list[str]) -> None:
    """Measures, prints the tables and writes them to bench/results."""
    cases = load()
    options = parse(arguments, list(cases))
    place = machine.describe()
    plan = planned([cases[name] for name in options.cases], options.systems, options.start_methods)
    for turns in plan:
        print(f"{turns[0].case} …", file=sys.stderr, flush=True)
        measure(turns, options.rounds)
    found = [one for turns in plan for one in turns]
    path, text = results.write(place, cases, found, add=options.add)
    print(text)
    print(f"Written to {path.relative_to(machine.ROOT)} and its .json.")


if __name__ == "__main__":
    main(sys.argv[1:])
