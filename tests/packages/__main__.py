"""Runs well-known packages on manycore and compares what they do with the interpreter alone.

    python -m tests.packages [case …]
"""

import argparse
import sys
import time
from collections.abc import Callable

from .cases import CASES
from .run import Failed, check


def main() -> int:
    """Runs the cases that the arguments name, or all; 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.packages")
    names = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(names))
    chosen = parser.parse_args().cases
    if unknown := set(chosen) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    failures = 0
    for case in CASES:
        if not chosen or case.name in chosen:
            failures += sum(not _passes(case.name, how, run) for how, run in check(case))
    print(f"{failures} failed" if failures else "all passed")
    return 1 if failures else 0


def _passes(name: str, how: str, run: Callable[[], str]) -> bool:
    begin = time.monotonic()
    try:
        verdict, passed = run(), True
    except Failed as error:
        verdict, passed = f"FAILED: {error}", False
    print(f"{name:20} {how:10} {time.monotonic() - begin:5.1f} s  {verdict}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
