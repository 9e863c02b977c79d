"""One measurement in a process of its own: ``python -m bench.once FILE CASE SYSTEM METHOD``.

Writes the seconds per operation into the file. The system `serial` is the case's plain code.
"""

from __future__ import annotations

import faulthandler
import sys
from pathlib import Path

from bench.child import WATCHDOG
from bench.registry import load
from bench.systems import SYSTEMS

SERIAL = "serial"


def measure(case: str, system: str, method: str) -> float:
    """Seconds per operation."""
    chosen = load()[case]
    if system == SERIAL:
        assert chosen.serial is not None
        return chosen.serial()
    adapter = SYSTEMS[system].start(method)
    try:
        return chosen.measure(adapter)
    finally:
        adapter.close()


def main(file: str, case: str, system: str, method: str) -> None:
    """Measures once."""
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    Path(file).write_text(repr(measure(case, system, method)))
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
