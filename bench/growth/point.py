"""One point in a process of its own: ``python -m bench.growth.point FILE SERIES SYSTEM SIZE``."""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path

from bench.child import WATCHDOG
from bench.growth.series import load
from bench.systems import SYSTEMS


def main(file: str, name: str, system: str, size: str) -> None:
    """Measures once and writes the figures."""
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    chosen = SYSTEMS[system]
    adapter = chosen.start(chosen.methods[0])
    try:
        Path(file).write_text(json.dumps(load()[name].measure(adapter, int(size))))
    finally:
        adapter.close()
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
