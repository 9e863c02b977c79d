"""Runs a program on the standard library's multiprocessing with a start method of your choice.

    python examples/plain.py spawn examples/pool_map.py --quick

This is what `python -m manycore --start-method spawn script.py` does for manycore.
"""

import multiprocessing
import os
import runpy
import sys

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: plain.py START_METHOD SCRIPT [ARGUMENTS]")
    method, script = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    multiprocessing.set_start_method(method)
    runpy.run_path(script, run_name="__main__")
