"""Measures the cases on all systems in turn: `python -m bench --cases apply,imap`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import machine, results
from bench.once import SERIAL, WATCHDOG
from bench.registry import METHODS, Case, load
from bench.results import Measurement
from bench.systems import OURS, STDLIB, SYSTEMS

ROUNDS = 5
DOES_NOT_APPLY = "-"


class FailedError(Exception):
    """A measurement has ended without a figure."""


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
        one.rounds.append(run(one.case, one.system, one.start_method))
    except FailedError as error:
        if one.system in (OURS, STDLIB):
            raise SystemExit(f"{one.case}, {one.system}, {one.start_method}: {error}") from None
        one.failed = str(error).strip().splitlines()[-1]
        print(f"{one.case}, {one.system}: {one.failed}", file=sys.stderr, flush=True)


def run(case: str, system: str, method: str) -> float:
    """Seconds per operation, measured by a new process, of which nothing is left afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "seconds")
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.once", str(file), case, system, method],
            cwd=machine.ROOT,
            env={**os.environ, "PYTHONPATH": str(machine.ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(log := Path(directory, "log")).open("wb"),
            start_new_session=True,
        )
        try:
            code = process.wait(WATCHDOG + 10)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            end(process)
        if code != 0 or not file.exists():
            raise FailedError(log.read_text(errors="replace") or f"ended with {code}")
        return float(file.read_text())


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of a measurement: its process and those that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
    plan = planned([cases[name] for name in options.cases], options.systems, options.start_methods)
    for turns in plan:
        print(f"{turns[0].case} …", file=sys.stderr, flush=True)
        measure(turns, options.rounds)
    found = [one for turns in plan for one in turns]
    path, text = results.write(machine.describe(), cases, found, add=options.add)
    print(text)
    print(f"Written to {path.relative_to(machine.ROOT)} and its .json.")


if __name__ == "__main__":
    main(sys.argv[1:])
