"""The tutorial programs on the standard library and on manycore, side by side.

Each program runs unmodified as `python script.py` and as `python -m manycore script.py`, in turn,
round after round; what they print is read, and the medians make one table. The exit status is 1
if a result differs or a program fails.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUNDS = {"pool_map": 4, "every_method": 3, "processes": 2, "big_sums": 2, "small_functions": 2}
"""How often each program runs on each system; the longer ones less often."""
BUDGET = 55.0
"""Seconds within which the demo ends; on a slow machine it leaves out rounds, never the first."""

SYSTEMS = ("multiprocessing", "manycore")
LINE = re.compile(
    r"(?P<case>.+?) \| (?P<way>.+?) \| (?P<seconds>[\d.]+) s \| result (?P<digest>\w+)"
)
LEVEL = 0.95
"""Above this ratio a difference counts as noise, and the two as level."""
TIMEOUT = 120


class ProgramError(Exception):
    """A program did not end well; the text says which and how."""


@dataclass
class Case:
    """One row of the table: the times and the digests of one way to do one case."""

    program: str
    case: str
    way: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)

    def add(self, system: str, seconds: float, digest: str) -> None:
        """Notes one measurement of `system`, in seconds."""
        self.seconds.setdefault(system, []).append(seconds)
        self.digests.add(digest)

    def median(self, system: str) -> float:
        """The median time of `system`, in seconds; a KeyError if it never printed this case."""
        return statistics.median(self.seconds[system])

    @property
    def ratio(self) -> float:
        """How many times faster manycore is."""
        return self.median("multiprocessing") / self.median("manycore")

    @property
    def is_lost(self) -> bool:
        """Whether the standard library was the faster one, by more than chance, in every round."""
        slowest, fastest = max(self.seconds["multiprocessing"]), min(self.seconds["manycore"])
        return self.ratio < LEVEL and slowest < fastest


def is_equal(row: Case, serial: Case) -> bool:
    """Whether both systems, in all rounds, had the result of plain serial code."""
    return len(row.digests | serial.digests) == 1


def command(system: str, script: Path, method: str | None, arguments: list[str]) -> list[str]:
    """The command that runs `script` on `system`."""
    if system == "manycore":
        chosen = ["--start-method", method] if method else []
        return [sys.executable, "-m", "manycore", *chosen, str(script), *arguments]
    chosen = [str(HERE / "plain.py"), method] if method else []
    return [sys.executable, *chosen, str(script), *arguments]


def run(system: str, script: Path, method: str | None, arguments: list[str]) -> str:
    """What the program prints on `system`."""
    environment = {k: v for k, v in os.environ.items() if k != "MANYCORE_START_METHOD"}
    try:
        done = subprocess.run(
            command(system, script, method, arguments),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as expired:
        raise ProgramError(f"{script.name} on {system} did not end in {TIMEOUT} s") from expired
    if done.returncode != 0:
        raise ProgramError(f"{script.name} on {system}: exit {done.returncode}\n{done.stderr}")
    if f"Pool of {system}." not in done.stdout:
        raise ProgramError(f"{script.name} did not run on {system}:\n{done.stdout[:200]}")
    return done.stdout


def measurements(output: str) -> Iterator[tuple[str, str, float, str]]:
    """The timed lines in what a program printed: case, way, seconds, digest."""
    for match in map(LINE.fullmatch, output.splitlines()):
        if match:
            yield match["case"], match["way"], float(match["seconds"]), match["digest"]


class Measured(dict[tuple[str, str, str], Case]):
    """All rows by program, case and way."""

    def one_round(self, program: str, turn: int, method: str | None, arguments: list[str]) -> None:
        """Runs one program once on each system and adds what it printed."""
        # The order changes with each round, so that neither system always has the warmer machine.
        for system in SYSTEMS if turn % 2 == 0 else SYSTEMS[::-1]:
            output = run(system, HERE / f"{program}.py", method, arguments)
            for case, way, seconds, digest in measurements(output):
                row = self.setdefault((program, case, way), Case(program, case, way))
                row.add("serial" if way == "serial" else system, seconds, digest)

    def pairs(self) -> list[tuple[Case, Case]]:
        """Each parallel row with its serial one, in the order in which they were printed."""
        rows = [row for row in self.values() if row.way != "serial"]
        if lacking := [row.program for row in rows if set(row.seconds) != set(SYSTEMS)]:
            raise ProgramError(f"{lacking[0]}: the two systems did not print the same cases")
        return [(row, self[row.program, row.case, "serial"]) for row in rows]


def measure(options: argparse.Namespace) -> list[tuple[Case, Case]]:
    """Runs the programs, round after round, as long as there is time for one more."""
    programs = options.programs or list(ROUNDS)
    rounds = {name: options.rounds or (1 if options.quick else ROUNDS[name]) for name in programs}
    arguments = ["--quick"] if options.quick else []
    measured, took = Measured(), dict.fromkeys(programs, 0.0)
    start = time.perf_counter()
    for turn in range(max(rounds.values())):
        for program in (name for name in programs if turn < rounds[name]):
            before = time.perf_counter() - start
            if turn > 0 and not options.rounds and before + took[program] > BUDGET:
                continue
            print(f"round {turn + 1}: {program} …", file=sys.stderr, flush=True)
            measured.one_round(program, turn, options.start_method, arguments)
            took[program] = time.perf_counter() - start - before
    return measured.pairs()


def readable(seconds: float) -> str:
    """A time with three digits and its unit."""
    unit, scale = ("s", 1) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{seconds * scale:#.3g}".rstrip(".") + f" {unit}"


def table(pairs: list[tuple[Case, Case]]) -> Iterator[str]:
    """The lines of the table."""
    titles = ("program", "case", "way", "serial", *SYSTEMS, "ratio", "equal")
    rows = [
        (
            row.program,
            row.case,
            row.way,
            readable(serial.median("serial")),
            readable(row.median("multiprocessing")),
            readable(row.median("manycore")),
            f"{row.ratio:.1f}x",
            "yes" if is_equal(row, serial) else "NO",
        )
        for row, serial in pairs
    ]
    widths = [max(len(line[i]) for line in [titles, *rows]) for i in range(len(titles))]
    for line in [titles, tuple("-" * width for width in widths), *rows]:
        cells = [
            text.ljust(width) if i < 3 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def verdict(pairs: list[tuple[Case, Case]]) -> Iterator[str]:
    """One line for each case that the standard library wins, and one on plain serial code."""
    lost = [row for row, _ in pairs if row.is_lost]
    for row in lost:
        yield (
            f"The standard library wins: {row.program}, {row.case}, {row.way}: "
            f"{readable(row.median('multiprocessing'))} against {readable(row.median('manycore'))}."
        )
    if not lost:
        yield "The standard library wins nowhere in this run."
    beaten = sum(row.median("manycore") > serial.median("serial") for row, serial in pairs)
    yield f"Plain serial code is faster than manycore in {beaten} of {len(pairs)} rows."


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"))
    parser.add_argument("--rounds", type=int, help="how often each program runs on each system")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("programs", nargs="*", help=f"some of: {', '.join(ROUNDS)} (default: all)")
    options = parser.parse_args(arguments)
    if unknown := set(options.programs) - set(ROUNDS):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main(arguments: list[str]) -> int:
    """Runs the demo; 0 if all results are equal, else 1."""
    options = parse(arguments)
    start = time.perf_counter()
    try:
        pairs = measure(options)
    except ProgramError as failure:
        print(failure, file=sys.stderr)
        return 1
    method = options.start_method or "default"
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, start method: {method}")
    print(*table(pairs), "", *verdict(pairs), sep="\n")
    equal = all(is_equal(row, serial) for row, serial in pairs)
    print(f"All {len(pairs)} results are equal." if equal else "SOME RESULTS DIFFER.")
    print(f"{time.perf_counter() - start:.0f} s in all.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
