"""`python -m tests.stress chaos --method fork --kills 10000`; prints what was counted, as JSON."""

from __future__ import annotations

import argparse
import faulthandler
import inspect
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.stress.chaos import chaos
from tests.stress.deaths import deaths
from tests.stress.ends import interrupts, orphans
from tests.stress.leaks import leaks
from tests.stress.workloads import workloads

SCENARIOS: dict[str, Any] = {
    function.__name__: function
    for function in (chaos, deaths, interrupts, leaks, orphans, workloads)
}


def main() -> None:
    """Runs one scenario with the sizes that are given."""
    parser = argparse.ArgumentParser(prog="tests.stress")
    commands = parser.add_subparsers(dest="scenario", required=True)
    for name, function in SCENARIOS.items():
        command = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            kind = type(parameter.default)
            command.add_argument(f"--{parameter.name}", type=kind, default=parameter.default)
    options = vars(parser.parse_args())
    name = options.pop("scenario")
    faulthandler.enable()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        counts = SCENARIOS[name](Path(directory), **options)
    took = round(time.monotonic() - start, 1)
    print(json.dumps({"scenario": name, **options, **counts, "seconds": took}))


if __name__ == "__main__":
    main()
