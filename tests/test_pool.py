import gc
import math
import multiprocessing.pool
import operator
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import manycore
import manycore.pool
import numpy as np
import pytest


def square(x):
    return x * x


def multiply(x, y=1, *, z=1):
    return x * y * z


def pid_of(_):
    return os.getpid()


class Thing:
    pass


def thing(x):
    if x == 9:
        raise ArithmeticError("nine")
    return Thing()


def barrier_wait(barrier):
    return barrier.wait(60)


def wait_for(event):
    return event is not None and event.wait()


def fail_at_three(x):
    if x == 3:
        raise ArithmeticError("three")
    return x


def leave(code):
    sys.exit(code)


def make_lock(_):
    return threading.Lock()


def total(array):
    return float(array.sum()), array.flags.writeable


def ones(count):
    return np.ones(count)


def wait_and_return(x, seconds):
    time.sleep(seconds)
    return x


def meet(barrier, x):
    barrier.wait(30)
    return x


class NeedsTwoError(Exception):
    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


def raise_needs_two(_):
    raise NeedsTwoError(1, 2)


class Counter:
    """An object with state: each call of the pool starts with what the parent has."""

    def __init__(self):
        self.count = 0

    def add(self, x):
        self.count += x
        return self.count


_configured = None


def configure(value):
    global _configured
    _configured = value


def configured(_):
    return _configured


def refuse():
    raise LookupError("no configuration")


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
    pool.join()


def test_is_a_pool(pool):
    assert isinstance(pool, multiprocessing.pool.Pool)
    assert type(pool).__module__ == "manycore.pool"
    assert repr(pool) == "<manycore.pool.Pool state=RUN pool_size=2>"
    assert len(pool._pool) == 2
    assert all("PoolWorker" in process.name and process.daemon for process in pool._pool)


def same(*values):
    return values


@pytest.mark.parametrize("edge", [0, 1, 2**31, 2**32, 2**63, 2**64, 2**200])
def test_numbers_arrive_as_they_are(pool, edge):
    numbers = [sign * edge + by for sign in (1, -1) for by in (-1, 0, 1)]
    assert list(pool.imap(square, numbers)) == [n * n for n in numbers]
    for number in numbers:
        values = (number, True, None)
        arrived = pool.apply(same, values)
        assert arrived == values
        assert list(map(type, arrived)) == list(map(type, values))
    floats = [float(edge), -0.0, math.inf, 5e-324]
    assert list(map(repr, pool.imap(float, floats))) == list(map(repr, floats))
    assert [pool.apply(same, (1, 2.5, False)[:n]) for n in range(4)] == [
        (),
        (1,),
        (1, 2.5),
        (1, 2.5, False),
    ]


def test_apply(pool):
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(multiply, (2,), {"y": 3, "z": 4}) == 24
    assert pool.apply(multiply, [2, 3]) == 6


def test_map_keeps_the_order(pool):
    for size in (0, 1, 2, 3, 10, 1000, 20_000):
        assert pool.map(square, range(size)) == [x * x for x in range(size)]
    assert pool.map(square, list(range(100)), chunksize=7) == [x * x for x in range(100)]
    assert pool.map(square, iter(range(100))) == [x * x for x in range(100)]
    assert pool.map(square, {3: 0, 4: 0}) == [9, 16]
    assert pool.map(str.upper, "abc") == ["A", "B", "C"]


def test_starmap(pool):
    assert pool.starmap(multiply, [(x, x + 1) for x in range(50)]) == [
        x * (x + 1) for x in range(50)
    ]
    assert pool.starmap(multiply, zip(range(5), range(5), strict=True), chunksize=2) == [
        0,
        1,
        4,
        9,
        16,
    ]


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_imap(pool, chunksize):
    expected = [x * x for x in range(500)]
    assert list(pool.imap(square, range(500), chunksize)) == expected
    assert list(pool.imap(square, (x for x in range(500)), chunksize)) == expected
    assert sorted(pool.imap_unordered(square, range(500), chunksize)) == expected
    assert sorted(pool.imap_unordered(square, iter(range(500)), chunksize)) == expected


def test_imap_next(pool):
    results = pool.imap(square, range(2))
    assert results.next(timeout=30) == 0
    assert next(results) == 1
    with pytest.raises(StopIteration):
        results.next()
    slow = pool.imap(time.sleep, [0.5])
    with pytest.raises(manycore.TimeoutError):
        slow.next(timeout=0.01)
    assert slow.next(timeout=30) is None


def test_a_long_task_holds_nothing_back(ctx, pool):
    # Each worker is given several short tasks ahead; without end is what is behind this one.
    pool.map(wait_for, [None] * 100, chunksize=1)
    released = ctx.Event()
    results = pool.imap_unordered(wait_for, [None] * 300 + [released] + [None] * 300)
    assert not any(next(results) for _ in range(600))
    released.set()
    assert list(results) == [True]


def test_a_long_call_holds_nothing_back(ctx, pool):
    for _ in range(100):
        pool.apply(wait_for, (None,))
    released = ctx.Event()
    ended = threading.Semaphore(0)
    # With a callback nobody needs to wait: then it is the pool's own thread that has to see it.
    calls = [
        pool.apply_async(wait_for, (x,), callback=lambda _: ended.release())
        for x in [None] * 300 + [released] + [None] * 300
    ]
    for _ in range(600):
        assert ended.acquire(timeout=60)
    assert not calls[300].ready()
    released.set()
    assert [call.get() for call in calls] == [False] * 300 + [True] + [False] * 300


def test_a_map_that_failed_keeps_no_results(pool):
    result = pool.map_async(thing, range(10), chunksize=1)
    with pytest.raises(ArithmeticError):
        result.get()
    gc.collect()
    assert not any(isinstance(obj, Thing) for obj in gc.get_objects())
    with pytest.raises(ArithmeticError):
        result.get()


def test_a_long_call_holds_nothing_back_from_a_pool_at_rest(ctx):
    ended = threading.Semaphore(0)
    with ctx.Pool(4) as pool:
        for _ in range(10):
            for _ in range(100):
                pool.apply(wait_for, (None,))
            # Nobody waits, and no worker has a reason to ring: they sleep, and so does the pool.
            time.sleep(0.02)
            released = ctx.Event()
            long = pool.apply_async(wait_for, (released,))
            for _ in range(5):
                pool.apply_async(wait_for, (None,), callback=lambda _: ended.release())
            for _ in range(5):
                assert ended.acquire(timeout=60)
            released.set()
            assert long.get()


def test_a_worker_that_is_late_for_its_tasks_gets_others_later(ctx):
    with ctx.Pool(2) as pool:
        for _ in range(300):
            pool.apply(wait_for, (None,))
        for late in [worker.pid for worker in pool._pool] * 5:
            os.kill(late, signal.SIGSTOP)
            calls = [pool.apply_async(wait_for, (None,)) for _ in range(40)]
            # Whoever waits takes back what this worker has not begun.
            calls[-1].wait(0.01)
            os.kill(late, signal.SIGCONT)
            assert not any(call.get(timeout=60) for call in calls)
        barrier = ctx.Barrier(2)
        assert sorted(pool.map(barrier_wait, [barrier] * 2, chunksize=1)) == [0, 1]


def test_several_threads_share_the_results_of_an_iterator(pool):
    for _ in range(20):
        results = pool.imap_unordered(square, range(2000))
        values = []
        threads = [
            threading.Thread(target=lambda r=results, v=values: v.extend(r)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(values) == [x * x for x in range(2000)]


def test_an_iterator_may_wait_for_the_results(pool):
    allowed = threading.Semaphore(3)

    def numbers():
        for x in range(50):
            assert allowed.acquire(timeout=30)
            yield x

    for number, result in enumerate(pool.imap(square, numbers())):
        assert result == number * number
        allowed.release()


def test_an_iterator_that_raises(pool):
    def numbers():
        yield from range(3)
        raise ArithmeticError("no more")

    results = pool.imap(square, numbers())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ArithmeticError, match="no more"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    with pytest.raises(ArithmeticError, match="no more"):
        pool.map(square, numbers())
    assert pool.apply(square, (3,)) == 9


def test_apply_async(pool):
    results = [pool.apply_async(square, (x,)) for x in range(2000)]
    assert [result.get(timeout=30) for result in results] == [x * x for x in range(2000)]
    assert all(result.ready() and result.successful() for result in results)


def test_a_result_that_is_not_there(pool):
    result = pool.apply_async(wait_and_return, (7, 0.5))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(manycore.TimeoutError):
        result.get(timeout=0.01)
    result.wait(30)
    assert result.ready()
    assert result.get() == 7
    assert result.get() == 7


def test_callbacks(pool):
    values, errors = [], []
    assert pool.apply_async(square, (3,), callback=values.append).get(30) == 9
    assert pool.map_async(square, [1, 2], callback=values.append).get(30) == [1, 4]
    assert pool.starmap_async(multiply, [(1, 2)], callback=values.append).get(30) == [2]
    assert values == [9, [1, 4], [2]]
    failed = pool.apply_async(
        fail_at_three, (3,), callback=values.append, error_callback=errors.append
    )
    failed.wait(30)
    assert not failed.successful()
    with pytest.raises(ArithmeticError):
        pool.map_async(fail_at_three, range(5), error_callback=errors.append).get(30)
    assert len(values) == 3
    assert [type(error) for error in errors] == [ArithmeticError] * 2


def test_a_callback_comes_though_nobody_waits(pool):
    done = threading.Event()
    pool.map_async(square, range(10_000), callback=lambda _: done.set())
    assert done.wait(30)


def test_a_callback_may_use_the_pool(pool):
    values = []
    done = threading.Event()

    def first(value):
        values.append(value)
        values.append(pool.apply_async(square, (value,)).get(30))
        pool.apply_async(square, (10,), callback=second)

    def second(value):
        values.append(value)
        done.set()

    pool.apply_async(square, (3,), callback=first)
    assert done.wait(30)
    assert values == [9, 81, 100]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_callback_that_raises_harms_nobody(pool):
    def callback(_):
        raise ArithmeticError("in the callback")

    assert pool.apply_async(square, (3,), callback=callback).get(30) == 9
    assert pool.apply(square, (4,)) == 16


def test_exceptions(pool):
    with pytest.raises(ArithmeticError, match="three") as caught:
        pool.apply(fail_at_three, (3,))
    assert type(caught.value.__cause__) is multiprocessing.pool.RemoteTraceback
    assert "fail_at_three" in str(caught.value.__cause__)
    with pytest.raises(ArithmeticError, match="three"):
        pool.map(fail_at_three, range(10), chunksize=1)
    results = pool.imap(fail_at_three, range(5))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ArithmeticError):
        next(results)
    assert next(results) == 4


def test_a_worker_survives_system_exit(pool):
    with pytest.raises(SystemExit) as caught:
        pool.apply(leave, (3,))
    assert caught.value.code == 3
    assert pool.map(square, [1, 2]) == [1, 4]


def test_an_exception_that_cannot_be_unpickled(pool):
    with pytest.raises(manycore.RemoteError, match="NeedsTwoError: 1") as caught:
        pool.apply(raise_needs_two, (0,))
    assert "raise_needs_two" in str(caught.value.__cause__)
    assert pool.apply(square, (2,)) == 4


def test_what_cannot_be_pickled_fails_its_call_only(pool):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'"):
        pool.apply(lock.acquire)
    result = pool.apply_async(square, (lock,))
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'"):
        result.get(30)
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'"):
        pool.map(square, [1, lock])
    with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="Error sending result"):
        pool.apply(make_lock, (1,))
    results = pool.imap(square, [1, lock, 3])
    assert next(results) == 1
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'"):
        next(results)
    assert next(results) == 9


def test_wrong_arguments(ctx, pool):
    with pytest.raises(ValueError, match="Number of processes must be at least 1"):
        ctx.Pool(0)
    with pytest.raises(ValueError, match="Number of processes must be at least 1"):
        ctx.Pool(-1)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ctx.Pool(1, initializer=3)
    with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
        ctx.Pool(1, maxtasksperchild=0)
    with pytest.raises(ValueError, match=r"Chunksize must be 1\+, not 0"):
        pool.imap(square, [1], chunksize=0)
    with pytest.raises(TypeError):
        pool.map(square, 3)
    with pytest.raises(TypeError):
        pool.apply(square, 3)
    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pool.apply(str, (pool,))
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()


def test_close_and_join(ctx):
    pool = ctx.Pool(2)
    results = [pool.apply_async(wait_and_return, (x, 0.01)) for x in range(20)]
    lazy = pool.imap(square, iter(range(2000)))
    pool.close()
    for call in (pool.apply, pool.map, pool.imap, pool.apply_async):
        with pytest.raises(ValueError, match="Pool not running"):
            call(square, (1,))
    pool.join()
    assert [result.get(0) for result in results] == list(range(20))
    assert list(lazy) == [x * x for x in range(2000)]


def test_terminate_settles_everything(ctx):
    pool = ctx.Pool(2)
    results = [pool.apply_async(time.sleep, (1000,)) for _ in range(10)]
    iterator = pool.imap(time.sleep, [1000] * 10)
    endless = pool.imap(time.sleep, iter(lambda: 1000, None))
    pool.terminate()
    for result in results:
        with pytest.raises(manycore.ProcessError, match="terminated"):
            result.get(30)
    with pytest.raises(manycore.ProcessError, match="terminated"):
        next(iterator)
    with pytest.raises(manycore.ProcessError, match="terminated"):
        next(endless)
    pool.terminate()
    pool.close()
    pool.join()
    assert not pool._pool


def test_with_ends_the_pool(ctx):
    with ctx.Pool(2) as pool:
        workers = list(pool._pool)
        assert pool.map(square, range(3)) == [0, 1, 4]
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(square, [1])
    pool.join()
    assert all(worker.exitcode is not None for worker in workers)


def test_a_dropped_pool_warns_and_ends(ctx):
    pool = ctx.Pool(1)
    worker = pool._pool[0]
    pools = [pool]
    del pool
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        pools.clear()
    worker.join(30)
    assert worker.exitcode is not None


def test_a_pool_lives_as_long_as_its_results(ctx):
    pool = ctx.Pool(1)
    result = pool.apply_async(wait_and_return, (5, 0.1))
    workers = list(pool._pool)
    del pool
    gc.collect()
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        assert result.get(30) == 5
    for worker in workers:
        worker.join(30)


def test_initializer(ctx):
    with ctx.Pool(2, initializer=configure, initargs=("yes",)) as pool:
        assert pool.map(configured, range(10)) == ["yes"] * 10


def test_an_initializer_that_raises_fails_the_pool(ctx):
    with ctx.Pool(2, initializer=refuse) as pool:
        with pytest.raises(LookupError, match="no configuration") as caught:
            pool.map(square, range(10))
        assert "refuse" in str(caught.value.__cause__)
        with pytest.raises(LookupError, match="no configuration"):
            pool.apply(square, (1,))
    pool.join()


def test_maxtasksperchild(ctx):
    with ctx.Pool(2, maxtasksperchild=3) as pool:
        workers = pool.map(pid_of, range(30), chunksize=1)
        assert all(workers.count(worker) <= 3 for worker in workers)
        pool.close()
        pool.join()


def test_several_threads(pool):
    errors = []

    def work(base):
        try:
            for number in range(base, base + 200):
                assert pool.apply(square, (number,)) == number * number
                assert pool.map(square, [number, 2]) == [number * number, 4]
        except BaseException as error:  # noqa: BLE001 - the main thread looks at it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_two_tasks_run_at_once(ctx):
    # Under fork a barrier is inherited; elsewhere it goes with the worker's start.
    barrier = ctx.Barrier(2)
    with ctx.Pool(2, initializer=configure, initargs=(barrier,)) as pool:
        assert pool.map(meet_configured, range(2), chunksize=1) == [0, 1]


def meet_configured(x):
    return meet(_configured, x)


def test_state_of_a_bound_method_starts_anew_with_each_call(ctx):
    with ctx.Pool(1) as pool:
        counter = Counter()
        assert pool.apply(counter.add, (1,)) == 1
        assert pool.apply(counter.add, (1,)) == 1
        counter.count = 10
        assert pool.apply(counter.add, (1,)) == 11


@pytest.mark.parametrize("size", [0, 1, 1000, 5000, 130_000, 2_000_000])
def test_arrays_arrive_whole_and_writable(pool, size):
    array = np.arange(size, dtype=float)
    for _ in range(3):
        assert pool.apply(total, (array,)) == (array.sum(), True)
        result = pool.apply(ones, (size,))
        assert result.shape == (size,)
        assert result.flags.writeable
        result += 1
        assert (result == 2).all()
    results = pool.map(ones, [size] * 4, chunksize=1)
    results[0][:] = 5
    assert all((result == 1).all() for result in results[1:])


def test_large_pickles(pool):
    text = "x" * 3_000_000
    assert pool.apply(str.upper, (text,)) == text.upper()
    assert pool.map(len, [b"y" * size for size in (0, 40_000, 70_000, 10_000_000)]) == [
        0,
        40_000,
        70_000,
        10_000_000,
    ]
    numbers = list(range(300_000))
    assert pool.apply(sorted, (numbers,), {"reverse": True}) == numbers[::-1]


def test_many_functions(pool):
    for number in range(200):
        adder = operator.methodcaller("__add__", number)
        assert pool.apply(adder, (1,)) == number + 1


def test_references_are_dropped(pool):
    array = np.ones(300_000)
    gone = weakref.ref(array)
    assert pool.map(total, [array]) == [(300_000.0, True)]
    del array
    gc.collect()
    assert gone() is None


def test_builtin_and_c_functions(pool):
    assert pool.map(math.sqrt, [1, 4, 9]) == [1, 2, 3]
    assert pool.map(abs, [-1, 2]) == [1, 2]
    assert pool.apply(dict, ([("a", 1)],)) == {"a": 1}


def test_a_forked_copy_is_told_at_once(pool):
    pid = os.fork()
    if pid == 0:
        try:
            pool.apply(square, (1,))
        except RuntimeError as error:
            os._exit(0 if "belongs to process" in str(error) else 2)
        os._exit(3)
    assert os.waitpid(pid, 0)[1] == 0
    assert pool.apply(square, (2,)) == 4


def test_leaving_the_interpreter_with_a_busy_pool(tmp_path, start_method):
    script = tmp_path / "leave.py"
    script.write_text(
        textwrap.dedent(f"""
            import time, manycore
            if __name__ == "__main__":
                pool = manycore.get_context("{start_method}").Pool(2)
                result = pool.apply_async(time.sleep, (1000,))
                print(*(p.pid for p in pool._pool))
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    for pid in done.stdout.split():
        assert not os.path.exists(f"/proc/{pid}")


def test_a_context_of_the_standard_library(start_method):
    with manycore.pool.Pool(1, context=multiprocessing.get_context(start_method)) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool._pool[0]._start_method == start_method


def test_a_context_with_foreign_processes():
    class Foreign(multiprocessing.context.ForkContext):
        Process = multiprocessing.context.ForkProcess

        def get_context(self, method=None):
            return self

    class Staffing(manycore.pool.Pool):
        @staticmethod
        def Process(ctx, *args, **kwargs):
            return Foreign().Process(*args, **kwargs)

    with pytest.raises(TypeError, match=r"context: its processes are .*ForkProcess"):
        Staffing(1)
