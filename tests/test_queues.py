import itertools
import os
import pickle
import queue
import signal
import time

import manycore
import pytest
from manycore.connection import wait
from manycore.queues import JoinableQueue, Queue


def run(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def end(process):
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_in_one_process(ctx, kind):
    q = getattr(ctx, kind)()
    assert q.empty()
    assert not q.full()
    for item in (1, "two", [3], None):
        q.put(item)
    assert q.qsize() == 4
    assert not q.empty()
    assert [q.get(), q.get(block=False), q.get(timeout=1), q.get_nowait()] == [1, "two", [3], None]
    with pytest.raises(queue.Empty):
        q.get_nowait()
    with pytest.raises(queue.Empty):
        q.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        q.get(True, -1)
    q.close()
    q.join_thread()


def test_bounded(ctx):
    q = ctx.Queue(maxsize=2)
    q.put(1)
    q.put_nowait(2)
    assert q.full()
    with pytest.raises(queue.Full):
        q.put(3, block=False)
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    begun = time.monotonic()
    with pytest.raises(queue.Full):
        q.put(3, timeout=0.05)
    assert time.monotonic() - begun >= 0.05
    assert [q.get(), q.get()] == [1, 2]


def test_full_keeps_no_view_of_the_pickle(ctx):
    q = ctx.Queue(1)
    q.put(1)
    with pytest.raises(queue.Full) as caught:
        q.put_nowait(2)
    # A view that is collected together with its buffer is reported from Python 3.14 on.
    held = {type(value) for entry in caught.traceback for value in entry.locals.values()}
    assert Queue in held
    assert memoryview not in held
    q.get()


def test_closed(ctx):
    q = ctx.Queue()
    q.put(1)
    with pytest.raises(AssertionError, match="not closed"):
        q.join_thread()
    q.close()
    q.join_thread()
    with pytest.raises(ValueError, match="is closed"):
        q.put(2)
    with pytest.raises(ValueError, match="is closed"):
        q.get()


def produce(q, who, n):
    for number in range(n):
        q.put((who, number))


def consume(q, results):
    found = []
    while (item := q.get()) is not None:
        found.append(item)
    results.put(found)


def test_many_producers_and_consumers(ctx):
    q, results = ctx.Queue(), ctx.Queue()
    producers = [run(ctx, produce, q, who, 3000) for who in range(3)]
    consumers = [run(ctx, consume, q, results) for _ in range(2)]
    for process in producers:
        end(process)
    for _ in consumers:
        q.put(None)
    found = [results.get() for _ in consumers]
    for process in consumers:
        end(process)
    assert sorted(itertools.chain(*found)) == [(who, n) for who in range(3) for n in range(3000)]
    for part in found:
        for who in range(3):
            numbers = [n for w, n in part if w == who]
            assert numbers == sorted(numbers)


def test_full_queue_does_not_wait_for_readers_at_exit(ctx):
    q = ctx.Queue()
    process = run(ctx, produce, q, "x" * 1000, 5000)
    end(process)
    assert q.qsize() == 5000
    assert [q.get()[1] for _ in range(5000)] == list(range(5000))


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 1 << 20, (1 << 22) + 1])
def test_sizes(ctx, size):
    q, back = ctx.Queue(), ctx.Queue()
    process = run(ctx, echo, q, back)
    payload = os.urandom(size)
    q.put(payload)
    assert back.get() == payload
    end(process)


def echo(q, back):
    back.put(q.get())


def check_parts(q, back):
    while (obj := q.get()) is not None:
        back.put((obj, type(obj)))


def test_large_parts(ctx):
    q, back = ctx.Queue(), ctx.Queue()
    process = run(ctx, check_parts, q, back)
    large = os.urandom(100_000)
    for obj in (
        large,
        bytearray(large),
        [large, large, "ü" * 100_000, bytearray(large), 1],
        {"a": (large, [large[:70_000]]), "b": list(range(50_000))},
        [large[:65_536], large[:65_535], large[:8191], large[:8192]],
        [bytes([i % 256]) * 70_000 for i in range(1100)],
    ):
        q.put(obj)
        assert back.get() == (obj, type(obj))
    q.put([large, large])
    (one, other), _ = back.get()
    assert one is other
    q.put(None)
    end(process)


def test_buffers_arrive_writable(ctx):
    numpy = pytest.importorskip("numpy")
    q, back = ctx.Queue(), ctx.Queue()
    process = run(ctx, check_parts, q, back)
    for shape in (3, 100_000, (400, 500)):
        array = numpy.zeros(shape)
        q.put(array)
        received, _ = back.get()
        assert (received == array).all()
        received += 1
        assert not array.any()
    q.put(None)
    end(process)


class Registered:
    pass


def _replace(_obj):
    return str, ("registered",)


def test_reducers_count_whenever_they_are_registered(ctx, monkeypatch):
    from multiprocessing.reduction import ForkingPickler

    q = ctx.Queue()
    q.put(Registered())
    assert type(q.get()) is Registered
    reducers: dict = ForkingPickler._extra_reducers
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", dict(reducers))
    ForkingPickler.register(Registered, _replace)
    q.put([Registered()])
    assert q.get() == ["registered"]


def test_what_is_shared_does_not_go_through_a_queue(ctx, capsys):
    q = ctx.Queue()
    q.put(ctx.Lock())
    q.put(1)
    assert q.get() == 1
    assert "through inheritance" in capsys.readouterr().err


class GetsAnother:
    """Unpickled, it takes the next item."""

    def __init__(self, q):
        self.q = q

    def __reduce__(self):
        return _get_another, ()


def _get_another():
    return ("with", Current.q.get())


class Current:
    q = None


def test_unpickling_may_use_the_queue(ctx):
    Current.q = ctx.Queue()
    Current.q.put([GetsAnother(Current.q), "first"])
    Current.q.put("second")
    assert Current.q.get() == [("with", "second"), "first"]
    Current.q = None


def take_if_there(q, turn, rounds, counts):
    got = 0
    for _ in range(rounds):
        turn.wait()
        try:
            q.get_nowait()
            got += 1
        except queue.Empty:
            pass
        turn.wait()
    counts.put(got)


def test_who_is_too_late_for_a_long_item_does_not_wait_for_the_next(ctx):
    rounds, takers = 300, 3
    q, counts, turn = ctx.Queue(), ctx.Queue(), ctx.Barrier(takers + 1)
    processes = [run(ctx, take_if_there, q, turn, rounds, counts) for _ in range(takers)]
    # Its many parts need room, which takes time between the look at it and the second one.
    item = [pickle.PickleBuffer(bytearray(16 << 10)) for _ in range(100)]
    for _ in range(rounds):
        q.put(item)
        turn.wait()
        turn.wait()
        assert q.empty()
    assert sum(counts.get() for _ in range(takers)) == rounds
    for process in processes:
        end(process)


class Unpicklable:
    def __reduce__(self):
        raise ArithmeticError("no")


class Reporting(Queue):
    errors: list = []  # noqa: RUF012

    @staticmethod
    def _on_queue_feeder_error(e, obj):
        Reporting.errors.append((type(e), type(obj)))


def test_what_cannot_be_pickled_is_reported_and_left_out(ctx, capsys):
    q = ctx.Queue(maxsize=1)
    q.put(Unpicklable())
    q.put(1)
    assert q.get() == 1
    assert "ArithmeticError: no" in capsys.readouterr().err
    q = Reporting(ctx=ctx)
    q.put(Unpicklable())
    assert q.empty()
    assert Reporting.errors.pop() == (ArithmeticError, Unpicklable)


def put_forever(q):
    for number in range(1 << 40):
        q.put(number)


def test_killed_producer_leaves_the_queue_whole(ctx):
    q = ctx.Queue()
    for _ in range(5):
        process = run(ctx, put_forever, q)
        assert q.get() == 0
        process.kill()
        process.join()
        n = 1
        while not q.empty():
            assert q.get() == n
            n += 1
        q.put("still works")
        assert q.get() == "still works"


def get_forever(q):
    while True:
        q.get()


def test_killed_consumer_leaves_the_queue_whole(ctx):
    q = ctx.Queue()
    for _ in range(5):
        process = run(ctx, get_forever, q)
        for number in range(300):
            q.put(number)
        process.kill()
        process.join()
        left = []
        while not q.empty():
            left.append(q.get())
        assert left == list(range(300 - len(left), 300))


def work(q, n):
    for _ in range(n):
        q.get()
        q.task_done()


def test_joinable(ctx):
    q = ctx.JoinableQueue()
    q.join()
    processes = [run(ctx, work, q, 25) for _ in range(2)]
    for number in range(50):
        q.put(number)
    q.join()
    assert q.empty()
    for process in processes:
        end(process)
    with pytest.raises(ValueError, match="task_done"):
        q.task_done()


def test_joinable_that_is_full(ctx):
    q = ctx.JoinableQueue(1)
    q.put(1)
    with pytest.raises(queue.Full):
        q.put(2, block=False)
    q.get()
    q.task_done()
    q.join()


def test_simple_queue(ctx):
    q = ctx.SimpleQueue()
    assert q.empty()
    process = run(ctx, produce, q, "a", 3)
    assert [q.get() for _ in range(3)] == [("a", 0), ("a", 1), ("a", 2)]
    end(process)
    assert q.empty()
    q.close()
    assert q._reader.closed
    assert q._writer.closed


def test_signal_ends_get(ctx):
    def handler(*_):
        raise InterruptedError("ring")

    q = ctx.Queue()
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(InterruptedError, match="ring"):
            q.get()
    finally:
        signal.signal(signal.SIGALRM, old)


def test_is_a_queue_of_the_standard_library():
    from multiprocessing import queues

    assert isinstance(manycore.Queue(), queues.Queue)
    assert manycore.queues.Queue[int].__origin__ is Queue


class Sending(Queue):
    """Begins the feeder thread itself, as loky's queue does."""

    def __init__(self, label, *, ctx):
        super().__init__(4, ctx=ctx)
        self.label = label

    def _start_thread(self):
        self.label += " started"
        super()._start_thread()

    def __getstate__(self):
        return (*super().__getstate__(), self._rlock, self._wlock, self.label)

    def __setstate__(self, state):
        *state, self._rlock, self._wlock, self.label = state
        super().__setstate__(tuple(state))


class JoinableSending(JoinableQueue):
    started = False

    def _start_thread(self):
        self.started = True
        super()._start_thread()


def answer(q, back):
    back.put((q.get(), q.label))
    back.close()
    back.join_thread()
    os._exit(0 if back.label == "back started" else 1)


def test_subclass_with_a_feeder_thread_of_its_own(ctx):
    q, back = Sending("there", ctx=ctx), Sending("back", ctx=ctx)
    process = run(ctx, answer, q, back)
    q.put({"an": "item"})
    assert q.label == "there started"
    assert back.get() == ({"an": "item"}, "there")
    end(process)
    for each in (q, back):
        each.close()
        each.join_thread()


def test_joinable_subclass_with_a_feeder_thread_of_its_own(ctx):
    q = JoinableSending(ctx=ctx)
    process = run(ctx, work, q, 3)
    for item in range(3):
        q.put(item)
    q.join()
    assert q.started
    end(process)
    q.close()
    q.join_thread()


def _put_later(queue, go):
    go.wait()
    queue.put("item")


def test_wait_for_a_queue_and_a_process(ctx):
    queue, go = ctx.Queue(), ctx.Event()
    child = ctx.Process(target=_put_later, args=(queue, go))
    child.start()
    assert wait([queue._reader, child.sentinel], 0) == []
    go.set()
    while queue._reader not in wait([queue._reader]):
        pass
    assert queue.get(block=False) == "item"
    assert wait([queue._reader, child.sentinel]) == [child.sentinel]
    assert not queue._reader.poll()
    child.join()
    queue.close()


def test_the_descriptor_follows_many_processes(ctx):
    queue, go = ctx.Queue(), ctx.Event()
    children = [ctx.Process(target=_put_later, args=(queue, go)) for _ in range(4)]
    for child in children:
        child.start()
    readable = queue._reader.fileno()
    go.set()
    for _ in children:
        # An item that the descriptor does not tell of would leave us here.
        wait([readable])
        assert queue.get(block=False) == "item"
    for child in children:
        child.join()
    assert wait([readable], 0) == []
