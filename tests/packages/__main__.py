"""Runs well-known packages on manycore and compares what they do with the interpreter alone.

python -m tests.packages [case …]
"""

import argparse
import sys
import time

from .cases import CASES
from .run import Case, CheckError, check


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
            failures += sum(not _passes(case, method) for method in case.methods)
    print(f"{failures} failed" if failures else "all passed")
    return 1 if failures else 0


def _passes(case: Case, method: str | None) -> bool:
    begin = time.monotonic()
    try:
        verdict, passed = check(case, method), True
    except CheckError as error:
        verdict, passed = f"FAILED: {error}", False
    seconds = time.monotonic() - begin
    print(f"{case.name:12} {method or 'its own':10} {seconds:5.1f} s  {verdict}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
