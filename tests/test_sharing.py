"""Locks, queues, values and the like in the tasks, results and functions of a pool."""

import copy
import ctypes
import functools
import io
import multiprocessing.reduction
import os
import pickle
import queue
import signal
import socket
import threading
import time
from pathlib import Path

import manycore
import pytest
from manycore import connection


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool
    pool.join()


def add(value, rounds=1, start=None):
    if start is not None:
        start.wait()
    for _ in range(rounds):
        with value.get_lock():
            value.value += 1
    return os.getpid()


def add_second(number, value):
    add(value)
    return number


def add_keyword(*, value):
    add(value)


def test_every_method_takes_a_value(ctx, pool):
    value = ctx.Value("q")
    pool.apply(add, (value,))
    pool.apply(add_keyword, kwds={"value": value})
    pool.apply_async(add, (value, 3)).get()
    pool.map(add, [value] * 10)
    pool.map_async(add, [value] * 10, chunksize=3).get()
    assert pool.starmap(add_second, [(n, value) for n in range(10)]) == list(range(10))
    pool.starmap_async(add_second, [(n, value) for n in range(10)]).get()
    list(pool.imap(add, [value] * 10))
    list(pool.imap(add, (value for _ in range(10)), chunksize=4))
    list(pool.imap_unordered(add, (value for _ in range(10))))
    assert value.value == 75


def test_nothing_is_lost_under_the_lock(ctx, pool):
    value = ctx.Value("q")
    add_together = functools.partial(add, rounds=5000, start=ctx.Barrier(2))
    workers = set(pool.map(add_together, [value] * 2, chunksize=1))
    assert len(workers) == 2
    assert value.value == 10_000


class Account:
    def __init__(self, ctx):
        self.value = ctx.Value("q")

    def pay(self, amount):
        with self.value.get_lock():
            self.value.value += amount


def test_in_the_function_s_state(ctx, pool):
    value, account = ctx.Value("q"), Account(ctx)
    for _ in range(3):
        pool.map(functools.partial(add_second, value=value), range(10))
    pool.map(account.pay, range(10))
    pool.apply(account.pay, (5,))
    assert value.value == 30
    assert account.value.value == 50


def hold(lock, held, release):
    with lock:
        held.set()
        release.wait()


def test_locks_exclude(ctx, pool):
    for lock in (ctx.Lock(), ctx.RLock(), ctx.Semaphore(1), ctx.BoundedSemaphore(1)):
        held, release = ctx.Event(), ctx.Event()
        result = pool.apply_async(hold, (lock, held, release))
        held.wait()
        assert not lock.acquire(block=False)
        release.set()
        assert lock.acquire()
        lock.release()
        result.get()


def meet(barrier):
    return barrier.wait()


def take(condition, items):
    with condition:
        condition.wait_for(lambda: items.value)
        items.value -= 1


def test_barrier_and_condition(ctx, pool):
    assert sorted(pool.map(meet, [ctx.Barrier(2)] * 2, chunksize=1)) == [0, 1]
    condition, items = ctx.Condition(), ctx.Value("i", lock=False)
    taken = [pool.apply_async(take, (condition, items)) for _ in range(2)]
    for _ in range(2):
        with condition:
            items.value += 1
            condition.notify()
    for result in taken:
        result.get()
    assert items.value == 0


def put(q, items):
    for item in items:
        q.put(item)


def drain(q, out):
    while (item := q.get()) is not None:
        out.put(item * 2)
    return type(q).__name__


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues(ctx, pool, kind):
    one, other = getattr(ctx, kind)(), ctx.Queue()
    drained = pool.apply_async(drain, (one, other))
    pool.apply(put, (one, range(100)))
    one.put(None)
    assert drained.get() == kind
    assert [other.get() for _ in range(100)] == [2 * n for n in range(100)]
    if kind == "JoinableQueue":
        for _ in range(101):
            one.task_done()
        one.join()


def test_a_bounded_queue_stays_bounded(ctx, pool):
    q = ctx.Queue(2)
    pool.apply(put, (q, range(2)))
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    assert pool.apply(q.get) == 0
    assert q.get() == 1


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


def double(array, raw, number, point, text):
    for i in range(len(array)):
        array[i] *= 2
    raw[1] = 7.5
    number.value = -1
    point.x += 1
    point.y += 1
    text.value = b"bye"


def test_arrays_and_structures(ctx, pool):
    array, raw, number = ctx.Array("i", range(10)), ctx.RawArray("d", 3), ctx.RawValue("h")
    point, text = ctx.Value(Point, 3, 4), ctx.Array("c", b"hello")
    pool.apply(double, (array, raw, number, point, text))
    assert array[:] == [2 * i for i in range(10)]
    assert (list(raw), number.value) == ([0, 7.5, 0], -1)
    assert (point.x, point.y, text.value) == (4, 5, b"bye")


def first_and_last(array):
    array[0], array[-1] = 1, 2


def test_large_array(ctx, pool):
    array = ctx.RawArray("d", 1 << 20)
    pool.apply(first_and_last, (array,))
    assert (array[0], array[-1]) == (1, 2)


def greet(end):
    with end:
        end.send(("hello", end.recv()))
    return True


def test_connections(pool):
    for _ in range(5):
        ours, theirs = manycore.Pipe()
        with ours:
            greeted = pool.apply_async(greet, (theirs,))
            theirs.close()
            ours.send("you")
            assert ours.recv() == ("hello", "you")
            assert greeted.get()
            # Nobody has the other end any more.
            with pytest.raises(EOFError):
                ours.recv()


def test_connection_in_the_function(pool):
    reader, writer = manycore.Pipe(False)
    with reader, writer:
        pool.map(functools.partial(connection.Connection.send, writer), range(100))
        assert sorted(reader.recv() for _ in range(100)) == list(range(100))


def echo(sock):
    with sock:
        sock.sendall(sock.recv(100))


def test_sockets(pool):
    ours, theirs = socket.socketpair()
    with ours:
        echoed = pool.apply_async(echo, (theirs,))
        theirs.close()
        ours.sendall(b"abc")
        assert ours.recv(100) == b"abc"
        assert ours.recv(100) == b""
        echoed.get()


def make_value(method, number):
    return manycore.get_context(method).Value("q", number)


def same(*things):
    return things


def make_pipe():
    return manycore.Pipe(False)


def test_results(ctx, pool, start_method):
    made = pool.apply(make_value, (start_method, 5))
    assert made.value == 5
    pool.map(add, [made] * 10)
    assert made.value == 15
    value, q, lock = ctx.Value("q"), ctx.Queue(), ctx.Lock()
    value2, q2, lock2 = pool.apply(same, (value, q, lock))
    value2.value += 1
    q2.put("item")
    lock2.acquire()
    assert value.value == 1
    assert q.get() == "item"
    assert not lock.acquire(block=False)
    lock2.release()
    reader, writer = pool.apply(make_pipe)
    with reader, writer:
        writer.send("through the worker's pipe")
        assert reader.recv() == "through the worker's pipe"


_kept = []


def keep(*objects):
    _kept.extend(objects)


def kept():
    return _kept


def test_what_came_with_the_process_is_a_result(ctx):
    value, raw, (reader, writer) = ctx.Value("q"), ctx.RawArray("i", 3), ctx.Pipe(False)
    with reader, ctx.Pool(1, keep, (value, raw, writer)) as pool:
        writer.close()
        # A spawned worker has loaded nothing of ours that the three did not need.
        value2, raw2, writer2 = pool.apply(kept)
        value2.value, raw2[0] = 5, 7
        assert (value.value, raw[0]) == (5, 7)
        with writer2:
            writer2.send("sent")
        assert reader.recv() == "sent"
    pool.join()
    _kept.clear()


def test_an_idle_pool_lets_go_of_a_result(pool):
    reader, writer = manycore.Pipe(False)
    with reader:
        for _ in range(3):
            # From here to a worker and back, so both sides have had it.
            (copy,) = pool.apply(same, (writer,))
            writer.close()
            writer = copy
        writer.send(1)
        writer.close()
        assert reader.recv() == 1
        with pytest.raises(EOFError):
            reader.recv()


def footprint(lock):
    with lock:
        pass
    maps = Path("/proc/self/maps").read_text().count("memfd:")
    return os.getpid(), len(os.listdir("/proc/self/fd")), maps


def test_a_lock_in_many_tasks_travels_once(ctx):
    lock = ctx.Lock()
    with ctx.Pool(1) as pool:
        first = pool.apply(footprint, (lock,))
        assert pool.map(footprint, [lock] * 1000, chunksize=10)[-1] == first
        for _ in range(100):
            assert pool.apply(footprint, (lock,)) == first
            assert pool.apply(functools.partial(footprint, lock)) == first
    pool.join()


def memfds(pid):
    targets = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
    maps = Path(f"/proc/{pid}/maps").read_text()
    return sum("memfd:" in target for target in targets), maps.count("memfd:")


def array_of(array):
    return len(array)


@pytest.mark.parametrize("closed_over", [False, True])
def test_an_idle_pool_lets_go_of_what_is_gone(ctx, closed_over):
    with ctx.Pool(1) as pool:
        # A small one first, for what comes with it and stays.
        keep = ctx.Value("i")
        pid = pool.apply(add, (keep,))
        before = memfds(pid)
        array = ctx.RawArray("b", 1 << 20)
        if closed_over:
            assert pool.apply(functools.partial(array_of, array)) == 1 << 20
        else:
            assert pool.apply(array_of, (array,)) == 1 << 20
        assert memfds(pid) != before
        del array
        # The parent does nothing with the pool. The watchdog ends this.
        while memfds(pid) != before:
            time.sleep(0.01)
    pool.join()


def stop_at(gate, started, value):
    started.set()
    gate.acquire()
    add(value)


def test_tasks_of_a_dead_worker_keep_what_they_share(ctx):
    value, gate, started = ctx.Value("q"), ctx.Semaphore(0), ctx.Event()
    with ctx.Pool(1) as pool:
        pool.apply(abs, (1,))
        # Measured as short, so the worker is given tasks ahead.
        pool.map(abs, range(1000))
        stuck = pool.apply_async(stop_at, (gate, started, value))
        readers, tasks = [], []
        for _ in range(20):
            reader, writer = manycore.Pipe(False)
            tasks.append(pool.apply_async(tell, (writer, ctx.Value("q", 7))))
            writer.close()
            readers.append(reader)
        started.wait()
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        with pytest.raises(manycore.WorkerDied):
            stuck.get()
        for reader, task in zip(readers, tasks, strict=True):
            task.get()
            with reader:
                assert reader.recv() == 7
                with pytest.raises(EOFError):
                    reader.recv()
    pool.join()
    assert value.value == 0


def tell(writer, value):
    with writer:
        writer.send(value.value)


def test_nothing_is_open_after_terminate(ctx):
    gate = ctx.Semaphore(0)
    pool = ctx.Pool(1)
    value = ctx.Value("q")
    pool.apply_async(stop_at, (gate, ctx.Event(), value))
    readers = []
    for _ in range(100):
        reader, writer = manycore.Pipe(False)
        pool.apply_async(tell, (writer, value))
        writer.close()
        readers.append(reader)
    pool.terminate()
    pool.join()
    for reader in readers:
        with reader, pytest.raises(EOFError):
            reader.recv()


def test_new_workers_get_it_again(ctx):
    value = ctx.Value("q")
    with ctx.Pool(2, maxtasksperchild=3) as pool:
        pids = set(pool.map(add, [value] * 30, chunksize=1))
        assert len(pids) >= 10
    pool.join()
    assert value.value == 30


# ---- what stays refused


def shared(ctx):
    return [
        ctx.Lock(),
        ctx.RLock(),
        ctx.Semaphore(),
        ctx.BoundedSemaphore(),
        ctx.Event(),
        ctx.Condition(),
        ctx.Barrier(2),
        ctx.Queue(),
        ctx.JoinableQueue(),
        ctx.SimpleQueue(),
        ctx.Value("i"),
        ctx.Array("i", 2),
        ctx.RawValue("i"),
        ctx.RawArray("i", 2),
    ]


REFUSED = "should only be shared between processes"


def test_other_pickles_are_refused(ctx):
    reader, writer = manycore.Pipe(False)
    with reader, writer:
        for obj in shared(ctx):
            if not isinstance(obj, ctypes.Array | ctypes._SimpleCData):
                with pytest.raises(RuntimeError, match=REFUSED):
                    pickle.dumps(obj)
                with pytest.raises(RuntimeError, match=REFUSED):
                    copy.deepcopy(obj)
            with pytest.raises(RuntimeError, match=REFUSED):
                multiprocessing.reduction.ForkingPickler.dumps(obj)
            with pytest.raises(RuntimeError, match=REFUSED):
                writer.send(obj)


class Nested:
    """Pickles something else while it is pickled itself."""

    def __init__(self, obj, dumps):
        self.obj, self.dumps = obj, dumps

    def __reduce__(self):
        return pickle.loads, (self.dumps(self.obj),)


def plain(obj):
    stream = io.BytesIO()
    pickle.Pickler(stream).dump(obj)
    return stream.getvalue()


def forking(obj):
    return bytes(multiprocessing.reduction.ForkingPickler.dumps(obj))


@pytest.mark.parametrize("dumps", [pickle.dumps, plain, forking])
def test_a_pickle_inside_a_message_is_refused(ctx, pool, dumps):
    for obj in shared(ctx):
        if isinstance(obj, ctypes.Array | ctypes._SimpleCData) and dumps is not forking:
            continue
        with pytest.raises(RuntimeError, match=REFUSED):
            pool.apply(same, (Nested(obj, dumps),))
    assert pool.apply(same, (Nested([1, 2], dumps),)) == ([1, 2],)


class Slow:
    """Waits in the middle of its pickle."""

    def __init__(self, entered, leave):
        self.entered, self.leave = entered, leave

    def __reduce__(self):
        self.entered.set()
        self.leave.wait()
        return int, (7,)


def test_another_thread_s_pickle_is_refused(ctx, pool):
    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=pool.apply, args=(same, (Slow(entered, leave),)))
    thread.start()
    entered.wait()
    try:
        with pytest.raises(RuntimeError, match=REFUSED):
            pickle.dumps(ctx.Lock())
    finally:
        leave.set()
        thread.join()


def test_the_key_stays_here(pool):
    key = manycore.current_process().authkey
    with pytest.raises(TypeError, match="disallowed for security reasons"):
        pool.apply(same, (key,))


def test_a_failed_message_keeps_nothing(ctx, pool):
    lock = ctx.Lock()
    with pytest.raises(TypeError):
        pool.apply(same, (lock, memoryview(b"")))
    reader, writer = manycore.Pipe(False)
    with reader:
        with pytest.raises(TypeError):
            pool.apply(same, (writer, memoryview(b"")))
        writer.close()
        with pytest.raises(EOFError):
            reader.recv()
    assert pool.apply(footprint, (lock,))


def test_registered_reducers_count(pool):
    class Local:
        pass

    manycore.reducer.register(Local, lambda obj: (int, (9,)))
    try:
        assert pool.apply(same, (Local(),)) == (9,)
    finally:
        del manycore.reducer.ForkingPickler._extra_reducers[Local]


def test_in_a_closure(ctx, pool):
    value, lock, (reader, writer) = ctx.Value("q"), ctx.Lock(), manycore.Pipe(False)

    class Local:
        def __init__(self):
            self.lock = lock

    local = Local()

    def pay(amount):
        with local.lock:
            value.value += amount
            writer.send(amount)
        return len(os.listdir("/proc/self/fd"))

    with reader, writer:
        open_after = {pool.apply(pay, (1,)) for _ in range(50)}
        assert len(open_after) <= 2
        pool.map(pay, range(100))
        assert value.value == 50 + sum(range(100))
        assert sorted(reader.recv() for _ in range(150)) == sorted([1] * 50 + list(range(100)))

    def make():
        return lambda: lock

    assert lock.acquire()
    assert not pool.apply(make)().acquire(block=False)
    lock.release()
