"""The standard library's package and this one in a single program."""

import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.queues
import multiprocessing.reduction
import multiprocessing.synchronize
import multiprocessing.util
import queue
import threading

import manycore
import pytest
from manycore import forkserver, util


@pytest.fixture
def original(start_method):
    """The standard library's context of the same start method."""
    yield multiprocessing.get_context(start_method)
    # Its fork server would otherwise stay for the tests to come.
    multiprocessing.forkserver._forkserver._stop()


@pytest.fixture(params=["ours", "theirs"])
def sides(request, ctx, original):
    """The context whose process gets what the other context has made."""
    return (ctx, original) if request.param == "ours" else (original, ctx)


def run(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()


def start(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(process):
    process.join()
    assert process.exitcode == 0
    process.close()


# ---- what one side has made, in the process of the other


def count(lock, value):
    for _ in range(200):
        with lock:
            value.value += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_locks(sides, kind):
    runs, makes = sides
    lock, value = getattr(makes, kind)(), makes.Value("q", lock=False)
    process = start(runs, count, lock, value)
    count(lock, value)
    finish(process)
    assert value.value == 400


def answer(one, other):
    one.wait()
    other.set()


def test_events(sides):
    runs, makes = sides
    one, other = makes.Event(), makes.Event()
    process = start(runs, answer, one, other)
    one.set()
    other.wait()
    finish(process)


def take(condition, items):
    with condition:
        condition.wait_for(lambda: items.value)
        items.value -= 1
        condition.notify()


def test_conditions(sides):
    runs, makes = sides
    condition, items = makes.Condition(), makes.Value("i", lock=False)
    process = start(runs, take, condition, items)
    with condition:
        items.value += 1
        condition.notify()
        condition.wait_for(lambda: not items.value)
    finish(process)


def meet(barrier):
    for _ in range(3):
        barrier.wait()


def test_barriers(sides):
    runs, makes = sides
    barrier = makes.Barrier(2)
    process = start(runs, meet, barrier)
    meet(barrier)
    finish(process)


def double(one, other):
    while (item := one.get()) is not None:
        other.put(item * 2)


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues(sides, kind):
    runs, makes = sides
    one, other = getattr(makes, kind)(), getattr(makes, kind)()
    process = start(runs, double, one, other)
    for n in range(100):
        one.put(n)
    one.put(None)
    assert [other.get() for _ in range(100)] == [2 * n for n in range(100)]
    finish(process)
    for q in (one, other):
        q.close()
        if kind != "SimpleQueue":
            q.join_thread()


def change(value, array, raw):
    with value.get_lock():
        value.value *= 2
    with array.get_lock():
        array[0] = 7
    raw[1] = 1.5


def test_values_and_arrays(sides):
    runs, makes = sides
    value, array, raw = makes.Value("i", 21), makes.Array("i", 3), makes.RawArray("d", 2)
    run(runs, change, value, array, raw)
    assert (value.value, array[:], list(raw)) == (42, [7, 0, 0], [0, 1.5])


def greet(connection):
    with connection:
        connection.send(("hello", connection.recv()))


def test_connections(sides):
    runs, makes = sides
    for duplex in (True, False):
        ours, theirs = makes.Pipe()
        with ours:
            process = start(runs, greet, theirs)
            theirs.close()
            ours.send(duplex)
            assert ours.recv() == ("hello", duplex)
            finish(process)


def many(objects, value):
    assert len(objects) == 300
    for lock in objects:
        with lock:
            value.value += 1


def test_many_of_ours_are_few_descriptors(ctx, original):
    locks, value = [ctx.Lock() for _ in range(300)], ctx.Value("i", lock=False)
    run(original, many, locks, value)
    run(ctx, many, locks, value)
    assert value.value == 600


# ---- one process table, one logger, one registry


def report(end):
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    assert manycore.current_process() is me
    assert manycore.parent_process() is parent
    record = logging.LogRecord("name", logging.INFO, "path", 1, "text", (), None)
    with end:
        end.send((me.name, me.pid, bytes(me.authkey), parent.pid, record.processName))


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_current_process(ctx, original, side):
    context = ctx if side == "ours" else original
    here = multiprocessing.current_process()
    assert manycore.current_process() is here
    reader, writer = context.Pipe(False)
    with reader:
        process = context.Process(target=report, args=(writer,), name="some name")
        process.start()
        writer.close()
        name = "some name"
        assert reader.recv() == (name, process.pid, bytes(here.authkey), here.pid, name)
        finish(process)


def test_active_children(ctx, original):
    go = ctx.Event()
    ours, theirs = start(ctx, go.wait), start(original, go.wait)
    for package in (manycore, multiprocessing):
        assert {ours, theirs} <= set(package.active_children())
    assert isinstance(ours, multiprocessing.process.BaseProcess)
    go.set()
    finish(ours)
    finish(theirs)
    assert not {ours, theirs} & set(multiprocessing.active_children())


def clean_up_at_exit(q):
    multiprocessing.util.Finalize(None, q.put, args=("finalized",), exitpriority=1)
    util.Finalize(None, q.put, args=("finalized first",), exitpriority=2)


def test_finalizers_of_a_child(ctx):
    q = ctx.Queue()
    run(ctx, clean_up_at_exit, q)
    assert [q.get(timeout=30), q.get(timeout=30)] == ["finalized first", "finalized"]


def test_finalizers_of_a_worker(ctx):
    q = ctx.Queue()
    with ctx.Pool(1, clean_up_at_exit, (q,)) as pool:
        pool.apply(abs, (1,))
        pool.close()
        pool.join()
    assert [q.get(timeout=30), q.get(timeout=30)] == ["finalized first", "finalized"]


class Forked:
    def __init__(self):
        self.times = 0

    def again(self):
        self.times += 1


def send_times(forked, end):
    with end:
        end.send(forked.times)


@pytest.mark.parametrize("module", [multiprocessing.util, util])
def test_after_fork_hooks(module):
    ctx = manycore.get_context("fork")
    forked = Forked()
    module.register_after_fork(forked, Forked.again)
    reader, writer = ctx.Pipe(False)
    with reader, writer:
        run(ctx, send_times, forked, writer)
        assert (reader.recv(), forked.times) == (1, 0)


class Number:
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        raise TypeError("only by the registry")


def number_to(q, number):
    q.put(number.number)


def test_registered_reducers(ctx):
    table = multiprocessing.reduction.ForkingPickler
    assert manycore.reducer.ForkingPickler is table
    table.register(Number, lambda number: (Number, (number.number,)))
    q = ctx.Queue()
    try:
        run(ctx, number_to, q, Number(5))
        q.put(Number(6))
        assert (q.get(), q.get().number) == (5, 6)
    finally:
        del table._extra_reducers[Number]


@pytest.mark.parametrize(
    "name", ["AuthenticationError", "BufferTooShort", "ProcessError", "TimeoutError"]
)
def test_exceptions(name):
    assert getattr(manycore, name) is getattr(multiprocessing, name)
    assert issubclass(manycore.WorkerDied, multiprocessing.ProcessError)


def test_our_timeouts_are_the_standard_library_s(ctx):
    with ctx.Pool(1) as pool:
        event = ctx.Event()
        result = pool.apply_async(event.wait)
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0.01)
        event.set()
        assert result.get()
    pool.join()
    with pytest.raises(queue.Empty):
        ctx.Queue().get(timeout=0.01)


def test_our_objects_are_instances_of_the_base_classes(ctx):
    assert isinstance(ctx, multiprocessing.context.BaseContext)
    reader, writer = ctx.Pipe()
    with reader, writer:
        assert isinstance(reader, multiprocessing.connection.Connection)
        assert multiprocessing.connection.wait([reader, writer], 0) == []
        writer.send(1)
        assert multiprocessing.connection.wait([reader]) == [reader]
    process = start(ctx, int)
    assert multiprocessing.connection.wait([process.sentinel]) == [process.sentinel]
    finish(process)
    assert isinstance(ctx.SimpleQueue(), multiprocessing.queues.SimpleQueue)


def nested(context_name, start_method, value):
    package = {"ours": manycore, "theirs": multiprocessing}[context_name]
    run(package.get_context(start_method), add_one, value)


def add_one(value):
    with value.get_lock():
        value.value += 1


@pytest.mark.parametrize("outer", ["ours", "theirs"])
@pytest.mark.parametrize("inner", ["ours", "theirs"])
def test_processes_of_one_kind_in_the_other(ctx, original, start_method, outer, inner):
    value = ctx.Value("i")
    context = ctx if outer == "ours" else original
    run(context, nested, inner, start_method, value)
    assert value.value == 1


def test_both_fork_servers_at_once():
    ours, theirs = manycore.get_context("forkserver"), multiprocessing.get_context("forkserver")
    value = ours.Value("i")
    try:
        threads = [
            threading.Thread(target=run, args=(context, add_one, value))
            for context in (ours, theirs) * 3
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        multiprocessing.forkserver._forkserver._stop()
    assert value.value == 6
    assert forkserver._forkserver is not multiprocessing.forkserver._forkserver
