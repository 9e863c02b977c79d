"""Long runs that look for what a short test meets only by chance: `make stress`.

Each scenario is a function with its sizes as arguments; it returns what it has counted, and raises
if anything was lost, doubled or wrong. The short forms of them run with all other tests.
"""

import time


def spin(seconds: float) -> None:
    """Takes so long a time of a processor."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
