"""Shared objects, and what a function carries with it: once in memory, not once for each worker."""

import copy
import functools
import gc
import mmap
import multiprocessing.resource_sharer
import os
import pickle
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import manycore
import numpy as np
import pytest
from manycore.futures import ProcessPoolExecutor

MANY = 8 << 20

# The module has it from Python 3.13 on.
MAP_NORESERVE = 0x4000


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def array():
    return np.arange(MANY // 8)


def look_up(array, place):
    assert type(array) is np.ndarray
    return int(array[place])


def look_up_named(place, *, array):
    return look_up(array, place)


def test_every_way_of_a_call(pool, array):
    shared = manycore.shared(array)
    expected = list(range(10))
    assert pool.map(partial(look_up, shared), expected) == expected
    assert pool.map(partial(look_up_named, array=shared), expected) == expected
    assert pool.starmap(look_up, [(shared, n) for n in expected]) == expected
    assert list(pool.imap(partial(look_up, shared), expected)) == expected
    assert list(pool.imap(partial(look_up, shared), iter(expected), chunksize=3)) == expected
    assert sorted(pool.imap_unordered(partial(look_up, shared), expected)) == expected
    assert pool.apply(look_up, (shared, 5)) == 5
    assert pool.apply(look_up_named, (6,), {"array": shared}) == 6
    assert pool.apply_async(look_up, (shared, 7)).get() == 7
    assert pool.map(len, [shared] * 4) == [len(array)] * 4
    assert list(pool.imap(len, [shared] * 4)) == [len(array)] * 4


def test_executor(ctx, array):
    shared = manycore.shared(array)
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert executor.submit(look_up, shared, 5).result() == 5
        assert list(executor.map(partial(look_up, shared), range(5))) == list(range(5))
        chunks = executor.map(look_up, [shared] * 5, range(5), chunksize=2)
        assert list(chunks) == list(range(5))


def inside(things, attribute):
    return [type(thing).__name__ for thing in (*things, attribute.shared)], things[0].get()[3]


class Holder:
    shared = None


def test_inside_of_something_it_stays_what_it_is(pool, array):
    holder = Holder()
    holder.shared = shared = manycore.shared(array)
    names, item = pool.apply(inside, ([shared], holder))
    assert names == ["Shared", "Shared"]
    assert item == 3
    assert pool.map(lambda n: int(shared.get()[n]), range(5)) == list(range(5))


def same(things):
    return things


def test_it_comes_back_as_the_same(pool, array):
    shared = manycore.shared(array)
    assert pool.apply(same, ([shared],))[0] is shared
    result = pool.apply(same, (shared,))
    assert type(result) is np.ndarray
    assert (result == array).all()


def make_shared(n):
    return manycore.shared(np.full(MANY // 8, n))


def test_a_worker_makes_one(pool):
    made = pool.map(make_shared, [1, 2])
    assert [int(shared.get()[5]) for shared in made] == [1, 2]
    # On to the other worker, from here.
    assert pool.map(partial(look_up, made[1]), [1] * 4, chunksize=1) == [2] * 4


class Counted:
    made = 0

    def __init__(self):
        self.array = np.zeros(MANY // 8)

    def __setstate__(self, state):
        Counted.made += 1
        self.__dict__ = state


def count(counted, start, n):
    # Both workers, and each more than once.
    if start is not None and n < 2:
        start.wait()
    return os.getpid(), id(counted.array), Counted.made


@pytest.mark.parametrize("bound", [False, True])
def test_a_thousand_tasks_make_one_object_in_a_worker(ctx, pool, bound):
    shared, start = manycore.shared(Counted()), ctx.Barrier(2)
    if bound:
        pool.map(partial(count, shared, start), range(2), chunksize=1)
        made = pool.map(partial(count, shared, None), range(1000), chunksize=1)
        made += [pool.apply(partial(count, shared, None), (n,)) for n in range(5)]
    else:
        pool.starmap(count, [(shared, start, n) for n in range(2)], chunksize=1)
        made = pool.starmap(count, [(shared, None, n) for n in range(1000)], chunksize=1)
    assert {n for *_, n in made} == {1}
    assert len(set(made)) == len({pid for pid, *_ in made})
    assert Counted.made == 0


def write(array, meet, value):
    meet.wait()
    array[:] = value
    meet.wait()
    return int(array[0]), int(array[-1])


def test_what_is_written_is_the_worker_s_own(ctx, pool, array):
    shared = manycore.shared(array)
    meet = ctx.Barrier(2)
    written = pool.starmap(write, [(shared, meet, n) for n in (1, 2)], chunksize=1)
    assert written == [(1, 1), (2, 2)]
    assert (shared.get() == np.arange(MANY // 8)).all()
    shared.get()[:] = 5
    with ctx.Pool(1) as other:
        assert other.apply(look_up, (shared, 3)) == 3
    other.join()
    assert (array == np.arange(MANY // 8)).all()


_initialized = None


def initialize(array, *, more=None):
    global _initialized
    _initialized = array


def look_up_initialized(place):
    return look_up(_initialized, place)


def test_initializer(ctx, array):
    shared = manycore.shared(array)
    for call in ((initialize, (shared,)), (partial(initialize, shared), ())):
        with ctx.Pool(2, *call) as pool:
            assert pool.map(look_up_initialized, range(5)) == list(range(5))
        pool.join()
        with ProcessPoolExecutor(1, ctx, *call) as executor:
            assert executor.submit(look_up_initialized, 5).result() == 5


def put_sum(queue, array, *, other):
    queue.put((int(array.sum()), other is array))


def test_process(ctx, array):
    shared, queue = manycore.shared(array), ctx.Queue()
    process = ctx.Process(target=put_sum, args=(queue, shared), kwargs={"other": shared})
    process.start()
    assert queue.get() == (array.sum(), True)
    process.join()
    process = ctx.Process(target=partial(put_sum, queue, shared, other=1))
    process.start()
    assert queue.get() == (array.sum(), False)
    process.join()


def take(queue, connection, out):
    with connection:
        one, other = queue.get(), connection.recv()
        out.put((type(one).__name__, one is other, int(one.get()[7])))


@pytest.mark.skipif(sys.platform != "linux", reason="as for connections")
def test_queues_and_connections(ctx, array):
    shared, queue, out = manycore.shared(array), ctx.Queue(), ctx.Queue()
    reader, writer = ctx.Pipe(False)
    process = ctx.Process(target=take, args=(queue, reader, out))
    process.start()
    with reader, writer:
        queue.put(shared)
        writer.send(shared)
        assert out.get() == ("Shared", True, 7)
    process.join()
    process.close()
    multiprocessing.resource_sharer.stop()


def memory(pid, least):
    """The shares of a process in the large pieces of shared memory that it has mapped."""
    total, large = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if "-" in name:
            start, end = (int(part, 16) for part in name.split("-"))
            large = "memfd:" in rest and end - start >= least
        elif name == "Pss:" and large:
            total += int(rest.split()[0]) << 10
    return total


def read_all(array, meet):
    total = int(array.sum())
    meet.wait()
    used = memory(os.getpid(), MANY)
    meet.wait()
    return total, used


def test_all_workers_read_the_same_memory(ctx):
    shared, meet = manycore.shared(np.ones(4 * MANY, "u1")), ctx.Barrier(8)
    with ctx.Pool(8) as pool:
        read = pool.starmap(read_all, [(shared, meet)] * 8, chunksize=1)
    pool.join()
    assert {total for total, _ in read} == {4 * MANY}
    assert 3.5 * MANY < sum(used for _, used in read) < 4.5 * MANY


def large_memory(pid):
    """How many large pieces of shared memory a process has open or mapped."""
    sizes = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if "memfd:" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                sizes.append(os.stat(f"/proc/{pid}/fd/{fd}").st_size)
        except OSError:
            continue
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in maps if "memfd:" in line]
    sizes += [int(end, 16) - int(start, 16) for start, end in ranges]
    return sum(size >= MANY for size in sizes)


@pytest.mark.parametrize("bound", [False, True])
def test_it_goes_with_its_last_user(ctx, array, bound):
    with ctx.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        before = large_memory(os.getpid()), large_memory(pid)
        shared = manycore.shared(array)
        assert large_memory(os.getpid()) > before[0]
        if bound:
            assert pool.apply(partial(look_up, shared), (5,)) == 5
        else:
            assert pool.apply(look_up, (shared, 5)) == 5
        assert shared.get()[3] == 3
        assert large_memory(pid) > before[1]
        del shared
        gc.collect()
        assert large_memory(os.getpid()) == before[0]
        # The parent does nothing with the pool. The watchdog ends this.
        while large_memory(pid) != before[1]:
            time.sleep(0.01)
    pool.join()


def keep(array):
    global _initialized
    _initialized = array


def test_a_worker_may_use_it_for_longer(ctx, array):
    with ctx.Pool(1) as pool:
        pool.apply(keep, (manycore.shared(array),))
        assert pool.apply(look_up_initialized, (9,)) == 9
    pool.join()


def test_the_object_itself():
    array = np.arange(MANY // 8)
    shared = manycore.shared({"array": array, "more": [1, 2]})
    assert shared.get() is shared.get()
    assert shared.get()["more"] == [1, 2]
    assert (shared.get()["array"] == array).all()
    assert MANY < shared.nbytes < MANY + 10_000
    assert repr(shared) == f"<manycore.Shared of {shared.nbytes} bytes>"
    assert copy.copy(shared) is copy.deepcopy(shared) is shared
    assert isinstance(shared, manycore.Shared)
    assert manycore.Shared[int].__origin__ is manycore.Shared
    for small in (5, None, "text", [], np.arange(3)):
        assert repr(manycore.shared(small).get()) == repr(small)


def test_what_cannot_be_shared(ctx):
    for thing in (ctx.Lock(), ctx.Queue(), ctx.Value("i"), manycore.shared(5)):
        with pytest.raises(TypeError, match="obj: it has locks, queues"):
            manycore.shared([thing])
    with pytest.raises(TypeError, match="generator"):
        manycore.shared(iter(lambda: 1, 2) for _ in range(2))
    with pytest.raises(TypeError, match="only be sent to another process"):
        pickle.dumps(manycore.shared(5))


def test_definitions_of_a_script_without_guard():
    script = """
        import manycore
        from dataclasses import dataclass
        from functools import partial

        @dataclass
        class Model:
            weights: list

            def score(self, n):
                return self.weights[n] * factor

        factor = 3
        shared = manycore.shared(Model([1, 2, 3]))
        for method in ("fork", "spawn", "forkserver"):
            with manycore.get_context(method).Pool(2) as pool:
                print(pool.map(partial(Model.score, shared), range(3)))
    """
    script = textwrap.dedent(script)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[3, 6, 9]\n" * 3, done.stderr


class Model:
    """Something large with a method."""

    def __init__(self, size=MANY):
        self.weights = np.ones(size // 8)
        self.calls = 0

    def score(self, n):
        self.calls += 1
        self.weights[0] += 1
        return n, self.calls, self.weights[0], float(self.weights[1])


def sent(pool, call):
    before = pool._engine.bytes_sent()
    result = call()
    return pool._engine.bytes_sent() - before, result


CALLS = {
    "map": lambda pool, function: pool.map(function, range(100), chunksize=10),
    "imap": lambda pool, function: list(pool.imap(function, range(100))),
    "apply": lambda pool, function: [pool.apply(function, (n,)) for n in range(5)],
    "apply_async": lambda pool, function: [
        result.get() for result in [pool.apply_async(function, (n,)) for n in range(5)]
    ],
}


@pytest.mark.parametrize("way", CALLS)
def test_a_method_s_object_crosses_once(pool, way):
    model = Model()
    size, results = sent(pool, lambda: CALLS[way](pool, model.score))
    assert MANY < size < 1.1 * MANY
    # Each call of the API begins with the object as it is now.
    size, again = sent(pool, lambda: CALLS[way](pool, model.score))
    assert size < MANY / 100
    for result in (results, again):
        assert [n for n, *_ in result] == list(range(len(result)))
        assert min(calls for _, calls, *_ in result) == 1
        assert {first for *_, first, _ in result} == {calls + 1 for _, calls, *_ in result}
    model.weights[1] = 5
    size, results = sent(pool, lambda: CALLS[way](pool, model.score))
    assert MANY < size < 1.1 * MANY
    assert {second for *_, second in results} == {5}
    assert model.calls == 0


def in_pieces(data, n):
    return len(data), n


@pytest.mark.parametrize("data", [b"x" * MANY, list(range(MANY // 4))], ids=["bytes", "list"])
def test_other_large_functions(pool, data):
    function = functools.partial(in_pieces, data)
    size, results = sent(pool, lambda: pool.map(function, range(50)))
    assert results == [(len(data), n) for n in range(50)]
    assert MANY / 2 < size < 1.5 * MANY
    size, _ = sent(pool, lambda: pool.map(function, range(50)))
    assert size < MANY / 100
    assert pool.map(lambda n: (len(data), n), range(5)) == results[:5]


def test_functions_that_change_do_not_pile_up(ctx):
    with ctx.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        model = Model(64 << 20)
        for n in range(8):
            model.weights[1] = n
            assert pool.apply(model.score, (1,))[-1] == n
        del model
        pool.apply(abs, (1,))
        # At most 256 MiB are kept, and the worker has objects of two.
        assert large_memory(os.getpid()) <= 3
        while large_memory(pid) > 3 + 2:
            time.sleep(0.01)
    pool.join()


def endless():
    """An array that is far larger than any memory; its pages do not exist."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, 1 << 42, flags=flags), "u1")


NO_MEMORY = r"no memory for .*: 4\.0 TiB are needed, .* of the .* are left"


def test_want_of_memory_is_an_error(pool):
    array = endless()
    for call in (
        lambda: manycore.shared(array),
        lambda: pool.apply(len, (array,)),
        lambda: pool.apply_async(len, (array,)).get(),
        lambda: pool.map(len, [array]),
        lambda: list(pool.imap(len, iter([array]))),
        lambda: pool.map(partial(look_up, array), range(3)),
        lambda: pool.apply(endless),
    ):
        with pytest.raises(MemoryError, match=NO_MEMORY):
            call()
    assert pool.map(abs, range(5)) == list(range(5))
    assert pool.apply(np.ones, (MANY,)).sum() == MANY
