"""A real notebook: cells run by nbclient in a Jupyter kernel, with pools that outlive changes."""

import json
import subprocess
import sys

import pytest

for package in ("ipykernel", "nbclient"):
    pytest.importorskip(package, exc_type=ImportError)

pytestmark = pytest.mark.patience(300)

# Runs the cells that come as JSON on stdin, and prints what they print.
RUN = """
import json, sys
import nbclient, nbformat
from traitlets.config import Config

cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
config = Config(ConnectionFileMixin={"transport": "ipc"})
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120, config=config).execute()
for cell in notebook.cells:
    for output in cell.outputs:
        print(output.get("text", output), end="")
"""

BEGIN = """
import functools
import manycore as mp
ctx = mp.get_context({method!r})
early = ctx.Pool(2)
"""

END = """
early.close()
early.join()
print("done")
"""


def run(method, *cells):
    cells = [BEGIN.format(method=method), *cells, END]
    result = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.returncode == 0
    *lines, last = result.stdout.splitlines()
    assert last == "done"
    return lines


def test_a_cell_run_again_counts_at_once(start_method):
    run(
        start_method,
        "def double(x):\n    return x * 2",
        "assert early.map(double, [1, 2]) == [2, 4]",
        "def double(x):\n    return x * 20",
        "assert early.map(double, [1, 2]) == [20, 40]",
        "assert early.apply(double, (3,)) == 60",
        "def helper(x):\n    return x + 1\ndef outer(x):\n    return helper(x)",
        "assert early.map(outer, [1]) == [2]",
        "def helper(x):\n    return x + 100",
        "assert early.map(outer, [1]) == [101]",
        "assert list(early.imap(outer, [1, 2])) == [101, 102]",
    )


def test_functions_of_all_kinds(start_method):
    run(
        start_method,
        "factor = 3\nassert early.map(lambda x: x * factor, [1, 2]) == [3, 6]",
        "factor = 4\nassert early.map(lambda x: x * factor, [1, 2]) == [4, 8]",
        """
def times(n):
    def multiply(x):
        return x * n * factor
    return multiply
assert early.map(times(10), [1]) == [40]
assert early.apply(times, (5,))(1) == 20
""",
        """
def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function.__name__, function(*args)
    return wrapper

@logged
def add(a, b):
    return a + b

@functools.lru_cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

assert early.starmap(add, [(1, 2)]) == [("add", 3)]
assert early.map(fibonacci, [10, 20]) == [55, 6765]
assert early.apply(functools.partial(lambda a, b: (a, b), 1), (2,)) == (1, 2)
""",
        """
def even(n):
    return True if n == 0 else odd(n - 1)
def odd(n):
    return False if n == 0 else even(n - 1)
assert early.map(even, [4, 7]) == [True, False]
""",
    )


def test_classes(start_method):
    define = """
class Point:
    made = 0
    def __init__(self, x):
        self.x = x
        type(self).made += 1
    def moved(self, by):
        return type(self)(self.x + by * {scale})
class Wrong(Exception):
    def __init__(self, point):
        super().__init__(point)
        self.point = point
def fail(point):
    raise Wrong(point)
"""
    check = """
made = Point.made
points = early.map(Point(1).moved, [1, 2])
assert [type(point) is Point for point in points] == [True, True]
assert [point.x for point in points] == [1 + {scale}, 1 + 2 * {scale}]
assert Point.made == made + 1, "a worker's class must not overwrite ours"
assert isinstance(early.apply(Point, (5,)), Point)
assert early.map(Point.moved.__get__(Point(1)), [0])[0].x == 1
try:
    early.apply(fail, (Point(7),))
except Wrong as error:
    assert type(error.point) is Point and error.point.x == 7
else:
    assert False
"""
    run(
        start_method,
        define.format(scale=1),
        check.format(scale=1),
        define.format(scale=10),
        check.format(scale=10),
    )


def test_initializer_and_processes(start_method):
    lines = run(
        start_method,
        """
queue = None
def initialize(q):
    global queue
    queue = q
def put(x):
    queue.put(x)
q = ctx.SimpleQueue()
with ctx.Pool(2, initialize, (q,)) as pool:
    pool.map(put, [1, 2, 3])
    assert sorted(q.get() for _ in range(3)) == [1, 2, 3]
""",
        """
def put(x):
    queue.put(-x)
class Putter(ctx.Process):
    def __init__(self, q):
        super().__init__()
        self.q = q
    def run(self):
        initialize(self.q)
        put(1)
process = Putter(q)
process.start()
assert q.get() == -1
process.join()
assert process.exitcode == 0
process = ctx.Process(target=lambda: q.put(secret))
secret = "cell"
process.start()
assert q.get() == "cell"
process.join()
print(process.exitcode)
""",
    )
    assert lines == ["0"]
