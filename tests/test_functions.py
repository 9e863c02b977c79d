"""Functions and classes that pickle cannot take by their name, in tasks and processes."""

import enum
import functools
import gc
import io
import pickle
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import manycore
import numpy as np
import pytest
from manycore import _by_value, _peers


def call(function, *args):
    return function(*args)


def call_each(function, items):
    return [function(item) for item in items]


FACTOR = 7


def make_adder(n):
    return lambda x: x + n


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
    pool.join()


def test_every_method_takes_a_closure(pool):
    n = 10

    def add(x, y=0):
        return x + y + n

    assert pool.apply(add, (1,), {"y": 2}) == 13
    assert pool.apply_async(add, (1, 2)).get(30) == 13
    assert pool.map(add, range(50)) == list(range(10, 60))
    assert pool.map_async(add, [1, 2], chunksize=1).get(30) == [11, 12]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [13, 17]
    assert pool.starmap_async(add, [(1, 2), (3, 4)]).get(30) == [13, 17]
    assert list(pool.imap(add, range(3))) == [10, 11, 12]
    assert list(pool.imap(add, iter(range(3)), chunksize=2)) == [10, 11, 12]
    assert sorted(pool.imap_unordered(add, iter(range(3)))) == [10, 11, 12]
    n = 20
    assert pool.map(add, [1]) == [21]


def test_kinds_of_functions(pool):
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function.__name__, function(*args)

        return wrapper

    @logged
    def double(x):
        return 2 * x

    @functools.cache
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    async def coroutine():
        return FACTOR

    def generator(n):
        yield from range(n)

    assert pool.map(double, [1, 2]) == [("double", 2), ("double", 4)]
    assert pool.map(fibonacci, [10, 50]) == [55, 12586269025]
    assert pool.map(even, [4, 7]) == [True, False]
    assert pool.map(functools.partial(lambda x, y: x * y, 3), [1, 2]) == [3, 6]
    assert pool.map(lambda x, *, _factor=FACTOR: x * _factor, [2]) == [14]
    assert pool.apply(lambda g: list(g(3)), (generator,)) == [0, 1, 2]
    assert pool.apply(lambda c: c.__code__.co_name, (coroutine,)) == "coroutine"


def test_globals_of_an_importable_module_are_the_module(pool):
    assert pool.apply(lambda: FACTOR) == FACTOR
    assert pool.apply(lambda: call.__module__) == __name__
    assert pool.apply(lambda f: f is call, (call,)) is True


def test_functions_as_arguments_and_results(pool):
    assert pool.apply(call, (lambda x: x + 1, 1)) == 2
    assert pool.starmap(call, [(make_adder(i), i) for i in range(5)]) == [0, 2, 4, 6, 8]
    assert list(pool.imap(lambda f: f(1), map(make_adder, range(3)))) == [1, 2, 3]
    adders = pool.map(make_adder, range(3))
    assert [add(10) for add in adders] == [10, 11, 12]
    assert pool.apply(lambda: {"key": lambda x: x * FACTOR})["key"](2) == 14


def test_local_classes(pool):
    @dataclass
    class Point:
        x: int
        made = 0

        def moved(self, by):
            return type(self)(self.x + by)

        @functools.cached_property
        def square(self):
            return self.x**2

    class Child(Point):
        def moved(self, by):
            return super().moved(2 * by)

    class Color(enum.Enum):
        RED = 1

    class WrongError(Exception):
        def __init__(self, point, text):
            super().__init__(point, text)
            self.point = point

    def fail(point):
        raise WrongError(point, "oh")

    def make():
        class Inner:
            value = 5

        return Inner()

    Point.made = 3
    assert pool.map(Point(1).moved, [1, 2]) == [Point(2), Point(3)]
    assert pool.map(lambda p: p, [Child(1)]) == [Child(1)]
    assert type(pool.apply(Child(1).moved, (1,))) is Child
    assert pool.map(Point, [1]) == [Point(1)]
    assert pool.apply(lambda: Point(4)) == Point(4)
    assert pool.apply(lambda p: p.square, (Point(3),)) == 9
    assert pool.apply(lambda c: c, (Color.RED,)) is Color.RED
    assert Point.made == 3
    with pytest.raises(WrongError, match="oh") as caught:
        pool.apply(fail, (Point(1),))
    assert caught.value.point == Point(1)
    assert "in fail" in str(caught.value.__cause__)
    assert pool.apply(make).value == 5


def test_a_result_does_not_overwrite_its_class(pool):
    class Counter:
        made = 0

    def count(counter):
        type(counter).made += 1
        return counter

    for expected in range(1, 4):
        assert type(pool.apply(count, (Counter(),))) is Counter
        assert Counter.made == expected - 1
        Counter.made = expected


def test_a_changed_class_arrives_changed(pool):
    class Greeter:
        def greet(self):
            return "hello"

    assert pool.apply(lambda g: g.greet(), (Greeter(),)) == "hello"
    Greeter.greet = lambda self: "bye"
    assert pool.map(lambda g: g.greet(), [Greeter()] * 9, chunksize=1) == ["bye"] * 9


def test_buffers_of_a_closure(pool):
    array = np.arange(300_000)

    def total(x):
        return int(array.sum()) + x

    class Holder:
        def __init__(self, array):
            self.array = array

    assert pool.map(total, [0, 1]) == [array.sum(), array.sum() + 1]
    held = pool.apply(lambda h: Holder(h.array * 2), (Holder(array),))
    assert (held.array == array * 2).all()
    held.array[0] = 1


def test_a_start_by_value_leaves_no_garbage(ctx):
    def start():
        process = ctx.Process(target=lambda: None)
        process.start()
        process.join()

    start()
    gc.collect()
    gc.disable()
    try:
        start()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_initializer(ctx):
    found = []

    def initialize(value):
        found.append(value)

    with ctx.Pool(1, initialize, (lambda: 3,)) as pool:
        assert pool.apply(abs, (-1,)) == 1
    pool.join()
    assert found == []

    def fail():
        raise KeyError("from the initializer")

    with ctx.Pool(1, fail) as pool, pytest.raises(KeyError, match="from the initializer"):
        pool.apply(abs, (1,))
    pool.join()


def test_process_target_and_local_subclass(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=lambda: queue.put(FACTOR), name="lambda")
    process.start()
    assert queue.get() == FACTOR
    process.join()
    assert process.exitcode == 0

    class Local(ctx.Process):
        def __init__(self, value):
            super().__init__(daemon=True)
            self.value = value

        def run(self):
            queue.put((self.value(), type(self).__name__, self.daemon))

    process = Local(lambda: 5)
    process.start()
    assert queue.get() == (5, "Local", True)
    process.join()
    assert process.exitcode == 0
    queue.close()


def test_registered_reducers_count(pool):
    class Handle:
        def __init__(self):
            self.lock = threading.Lock()

    def reduce_handle(handle):
        return Handle, ()

    ForkingPickler.register(Handle, reduce_handle)
    try:
        assert type(pool.apply(call, (lambda h: h.lock.locked(), Handle()))) is bool
    finally:
        del ForkingPickler._extra_reducers[Handle]


def test_errors_say_what_and_why(pool, tmp_path):
    lock = threading.Lock()

    def locked(x):
        with lock:
            return x

    class Holder:
        held = lock

    message = r"locked cannot be pickled because of the variable 'lock' .*_thread.lock"
    with pytest.raises(pickle.PicklingError, match=message):
        pool.apply(locked, (1,))
    with pytest.raises(pickle.PicklingError, match=message):
        pool.map(call, [locked])
    with pytest.raises(pickle.PicklingError, match=r"lambda.* because of its default arguments"):
        pool.apply(lambda x=lock: x)
    with pytest.raises(pickle.PicklingError, match=r"Holder.* because of its attribute 'held'"):
        pool.apply(call, (Holder,))
    assert pool.apply(abs, (-1,)) == 1
    # What the standard library refuses, and cloudpickle would send as something else.
    with open(tmp_path / "file", "w+") as file, pytest.raises(TypeError, match="TextIOWrapper"):
        pool.apply(call, (file,))
    with pytest.raises(TypeError, match="memoryview"):
        pool.apply(bytes, (memoryview(b"x"),))


@pytest.mark.parametrize("peer", [_peers.Blank(), _peers.Importer(), _peers.Forked(False)])
def test_the_same_function_has_the_same_pickle(peer):
    class Local:
        def method(self):
            return Local, FACTOR

    def function(x, y=frozenset((1, 2))):
        return [Local().method(), x, y, (lambda: FACTOR)()]

    pickles = {_by_value.dumps(function, peer) for _ in range(5)}
    assert len(pickles) == 1
    assert pickle.loads(pickles.pop())(1)[0] == (Local, FACTOR)


def test_what_pickle_takes_is_pickled_as_ever():
    for value in (call, {"a": [1, 2]}, manycore.Pool, functools.partial(call, 1)):
        expected = bytes(ForkingPickler.dumps(value))
        assert _peers.dumps(value, _peers.Importer()) == expected


def test_cloudpickle_is_loaded_only_when_it_is_needed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import manycore as mp, sys\n"
        "def loaded(_):\n    return 'cloudpickle' in sys.modules\n"
        "class Point: pass\n"
        "class Wrong(Exception): pass\n"
        "def fail(_):\n    raise Wrong(f'in {__name__}: __main__.Point')\n"
        "if __name__ == '__main__':\n"
        "    for method in 'fork', 'spawn', 'forkserver':\n"
        "        with mp.get_context(method).Pool(1) as pool:\n"
        "            try:\n"
        "                pool.map(fail, [1])\n"
        "            except Wrong:\n"
        "                print(pool.map(loaded, [1, Point()]))\n"
        "    print(loaded(1))\n"
        "    pool = mp.Pool(1)\n"
        "    pool.apply(lambda: 1)\n"
        "    print(loaded(1))\n"
        "    pool.terminate()\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["[False, False]"] * 3 + ["False", "True"]


def test_the_pickle_s_beginning_leaves_nothing_behind():
    buffer = io.BytesIO()
    freight = _by_value._Freight(_peers.Blank())
    assert _by_value._dump([1, 2], buffer, False, freight, None) == b""
    freight.values["a_global_of_this_test"] = pickle.dumps([3])
    try:
        before = freight.pack()
        assert pickle.loads(before + buffer.getvalue()) == [1, 2]
        assert pickle._loads(before + pickle.dumps([4, 4])) == [4, 4]
        assert sys.modules["__main__"].a_global_of_this_test == [3]
    finally:
        del sys.modules["__main__"].a_global_of_this_test
        _peers.received.clear()


def test_a_pool_that_the_main_module_knew_is_collected():
    main = sys.modules["__main__"]
    # A list cannot be referred to weakly: the pool holds it, to know whether it is bound anew.
    main.results_of_this_test = results = []
    pool = manycore.get_context("fork").Pool(1)
    results += [pool, pool.apply_async(abs, (-1,))]
    assert results[1].get(30) == 1
    pool.terminate()
    pool.join()
    reference = weakref.ref(pool)
    del main.results_of_this_test, results, pool
    gc.collect()
    assert reference() is None
