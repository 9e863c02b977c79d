"""Measures the cases on both systems in turn: `python -m bench --cases apply,imap`."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import sys

from bench import machine, results
from bench.registry import Case, load

WATCHDOG = 120
"""Seconds that one round of one case may take before all stacks are printed and we give up."""


def round_of(case: Case, system: str, method: str) -> float:
    """One measurement of `case` on the module named `system`, in seconds per operation."""
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    try:
        return case.measure(importlib.import_module(system).get_context(method))
    finally:
        faulthandler.cancel_dump_traceback_later()


def measure(case: Case, method: str, rounds: int) -> results.Measurement:
    """All rounds of a case; the system that goes first changes with each."""
    found = results.Measurement(case.name, method, [], [], [])
    for turn in range(rounds):
        systems = ["multiprocessing", "manycore"]
        for system in systems if turn % 2 == 0 else systems[::-1]:
            getattr(found, system).append(round_of(case, system, method))
        if case.serial is not None:
            found.serial.append(case.serial())
    return found


def parse(arguments: list[str], names: list[str]) -> argparse.Namespace:
    """The options; unknown names are refused."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--cases", default=",".join(names), help="comma-separated (default: all)")
    parser.add_argument("--start-methods", default="fork,forkserver", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=7, help="of each case (default: 7)")
    options = parser.parse_args(arguments)
    options.cases = options.cases.split(",")
    options.start_methods = options.start_methods.split(",")
    if unknown := set(options.cases) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if unknown := set(options.start_methods) - {"fork", "spawn", "forkserver"}:
        parser.error(f"no such start method: {', '.join(sorted(unknown))}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main(arguments: list[str]) -> None:
    """Measures, prints the table and writes it to bench/results."""
    cases = load()
    options = parse(arguments, list(cases))
    found = []
    for method in options.start_methods:
        for name in options.cases:
            print(f"{name}, {method} …", file=sys.stderr, flush=True)
            found.append(measure(cases[name], method, options.rounds))
    path, text = results.write(machine.describe(), cases, found)
    print(text)
    print(f"Written to {path.relative_to(machine.ROOT)} and its .json.")


if __name__ == "__main__":
    main(sys.argv[1:])
