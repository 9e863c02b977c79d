"""One line per timed case, in a form that people read and `demo.py` compares."""

import hashlib
import multiprocessing
import sys

QUICK = "--quick" in sys.argv
"""Small sizes, for a first look and for the tests."""


def introduce(program):
    """Says whose `multiprocessing` this is and how it starts processes."""
    module = multiprocessing.Pool.__module__
    print(f"{program}: Pool of {module}, start method {multiprocessing.get_start_method()}")


def report(case, way, seconds, result):
    """Prints what was done, in which way, how long it took, and a digest of the result."""
    print(f"{case} | {way} | {seconds:.6f} s | result {digest(result)}", flush=True)


def digest(result):
    """Eight digits that are equal when the results are, floats to nine significant digits."""
    return hashlib.sha256(repr(rounded(result)).encode()).hexdigest()[:8]


def rounded(value):
    """The same value with tuples for its lists and nine significant digits for its floats."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, (list, tuple)):
        return tuple(rounded(item) for item in value)
    return value
