import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import manycore
import pytest

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]


def run(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def end(process):
    process.join()
    assert process.exitcode == 0


def test_lock(ctx):
    lock = ctx.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(block=False) is False
    assert lock.acquire(True, 0.01) is False
    assert lock.acquire(timeout=-1) is False
    assert lock.release() is None
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()
    with lock as taken:
        assert taken is True
        assert lock.acquire(False) is False
    assert lock.acquire(False) is True
    lock.release()


def test_rlock(ctx):
    lock = ctx.RLock()
    assert lock.acquire() is True
    assert lock.acquire() is True
    assert lock.acquire(False) is True
    for _ in range(3):
        assert lock.release() is None
    with pytest.raises(AssertionError, match="not owned by thread"):
        lock.release()


def test_rlock_belongs_to_a_thread(ctx):
    lock = ctx.RLock()
    results = []

    def other():
        results.append(lock.acquire(False))
        try:
            lock.release()
        except AssertionError as error:
            results.append(str(error))

    with lock:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert results == [False, "attempt to release recursive lock not owned by thread"]


def test_semaphore(ctx):
    semaphore = ctx.Semaphore(2)
    assert semaphore.get_value() == 2
    assert semaphore.acquire() is True
    assert semaphore.acquire() is True
    assert semaphore.acquire(False) is False
    assert semaphore.acquire(True, 0.01) is False
    assert semaphore.get_value() == 0
    for _ in range(3):
        semaphore.release()
    assert semaphore.get_value() == 3


def test_bounded_semaphore(ctx):
    semaphore = ctx.BoundedSemaphore(2)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    with semaphore:
        assert semaphore.get_value() == 1
    assert semaphore.get_value() == 2


def test_impossible_semaphore():
    with pytest.raises(OSError, match="Invalid argument"):
        manycore.Semaphore(-1)
    for value in (2**31, 2**40, 2**80, -(2**40)):
        with pytest.raises(OverflowError, match="too large to convert to C int"):
            manycore.Semaphore(value)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_only_while_spawning(kind):
    shared = getattr(manycore, kind)()
    with pytest.raises(RuntimeError, match=f"{kind} objects should only be shared"):
        pickle.dumps(shared)


def test_reprs(ctx):
    assert repr(ctx.Lock()) == "<Lock(owner=None)>"
    assert repr(ctx.RLock()) == "<RLock(None, 0)>"
    assert repr(ctx.Semaphore(3)) == "<Semaphore(value=3)>"
    assert repr(ctx.BoundedSemaphore(3)) == "<BoundedSemaphore(value=3, maxvalue=3)>"
    assert repr(ctx.Event()).endswith(" unset>")
    lock, rlock = ctx.Lock(), ctx.RLock()
    with lock, rlock, rlock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert repr(rlock) == "<RLock(MainProcess, 2)>"
        seen = []
        thread = threading.Thread(target=lambda: seen.extend(map(repr, (lock, rlock))))
        thread.start()
        thread.join()
        assert seen == ["<Lock(owner=SomeOtherThread)>", "<RLock(SomeOtherThread, nonzero)>"]
    queue = ctx.SimpleQueue()
    release = ctx.Event()
    holder = run(ctx, hold, lock, queue, release)
    queue.get()
    assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
    release.set()
    end(holder)


def hold(lock, queue, release):
    with lock:
        queue.put(os.getpid())
        release.wait()


def count(lock, value, rounds):
    for _ in range(rounds):
        with lock:
            value.value += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_mutual_exclusion(ctx, kind):
    lock = getattr(ctx, kind)()
    value = ctx.RawValue("q")
    processes = [run(ctx, count, lock, value, 20_000) for _ in range(3)]
    for process in processes:
        end(process)
    assert value.value == 60_000


def release_it(lock):
    lock.release()


def test_another_process_may_release_a_lock(ctx):
    lock = ctx.Lock()
    lock.acquire()
    end(run(ctx, release_it, lock))
    assert lock.acquire(timeout=60)
    lock.release()


def die_holding(lock, queue):
    lock.acquire()
    queue.put(os.getpid())
    time.sleep(100)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_death_of_the_holder_is_reported(ctx, kind):
    lock = getattr(ctx, kind)()
    queue = ctx.SimpleQueue()
    holder = run(ctx, die_holding, lock, queue)
    pid = queue.get()
    assert lock.acquire(timeout=0.05) is False
    os.kill(pid, signal.SIGKILL)
    holder.join()
    with pytest.raises(manycore.OwnerDied, match=str(pid)) as info:
        lock.acquire()
    assert info.value.pid == pid
    assert isinstance(info.value, manycore.ProcessError)


def test_signal_ends_acquire(ctx):
    def handler(*_):
        raise InterruptedError("ring")

    lock = ctx.Lock()
    lock.acquire()
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(InterruptedError, match="ring"):
            lock.acquire()
    finally:
        signal.signal(signal.SIGALRM, old)
    lock.release()


def test_signal_handler_that_returns_does_not_end_acquire(ctx):
    semaphore = ctx.Semaphore(0)
    old = signal.signal(signal.SIGALRM, lambda *_: semaphore.release())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert semaphore.acquire(timeout=60) is True
    finally:
        signal.signal(signal.SIGALRM, old)


def await_condition(condition, ready, woken, timeout):
    with condition:
        ready.release()
        woken.put(condition.wait(timeout))


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_condition(ctx, kind):
    condition = ctx.Condition(getattr(ctx, kind)())
    ready, woken = ctx.Semaphore(0), ctx.SimpleQueue()
    processes = [run(ctx, await_condition, condition, ready, woken, None) for _ in range(4)]
    for _ in processes:
        ready.acquire()
    with condition:
        condition.notify()
    assert woken.get() is True
    assert not woken._poll(0.1)
    with condition:
        condition.notify(2)
    assert (woken.get(), woken.get()) == (True, True)
    assert not woken._poll(0.1)
    with condition:
        condition.notify_all()
    assert woken.get() is True
    for process in processes:
        end(process)


def test_condition_timeout(ctx):
    condition = ctx.Condition()
    with condition, condition:
        begun = time.monotonic()
        assert condition.wait(0.1) is False
        assert time.monotonic() - begun >= 0.1
        # Both levels have been taken again.
        assert condition._lock._semlock._count() == 2
        condition.notify_all()


def test_condition_needs_the_lock(ctx):
    condition = ctx.Condition()
    with pytest.raises(AssertionError):
        condition.wait()
    with pytest.raises(AssertionError):
        condition.notify()


def test_condition_wait_for(ctx):
    condition, value = ctx.Condition(), ctx.Value("i")
    process = run(ctx, wait_for_four, condition, value)
    for _ in range(4):
        time.sleep(0.01)
        with condition:
            value.value += 1
            condition.notify()
    end(process)
    with condition:
        assert condition.wait_for(lambda: False, timeout=0.05) is False


def wait_for_four(condition, value):
    with condition:
        assert condition.wait_for(lambda: value.value == 4)


def test_condition_interrupted_by_a_signal(ctx):
    def handler(*_):
        raise InterruptedError("ring")

    condition = ctx.Condition()
    old = signal.signal(signal.SIGALRM, handler)
    try:
        with condition:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(InterruptedError, match="ring"):
                condition.wait()
            assert condition._lock._semlock._is_mine()
            condition.notify_all()
    finally:
        signal.signal(signal.SIGALRM, old)


def pass_event(event, queue):
    queue.put(event.wait(60))


def test_event(ctx):
    event = ctx.Event()
    assert not event.is_set()
    assert event.wait(0) is False
    assert event.wait(0.01) is False
    queue = ctx.SimpleQueue()
    processes = [run(ctx, pass_event, event, queue) for _ in range(3)]
    event.set()
    assert [queue.get() for _ in processes] == [True] * 3
    assert event.is_set()
    assert event.wait() is True
    event.clear()
    assert not event.is_set()
    for process in processes:
        end(process)


def pass_barrier(barrier, rounds, queue):
    queue.put([barrier.wait(60) for _ in range(rounds)])


def test_barrier(ctx):
    barrier = ctx.Barrier(3)
    queue = ctx.SimpleQueue()
    processes = [run(ctx, pass_barrier, barrier, 50, queue) for _ in range(3)]
    indices = [queue.get() for _ in processes]
    for process in processes:
        end(process)
    assert all(sorted(turn) == [0, 1, 2] for turn in zip(*indices, strict=True))
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_barrier_breaks(ctx):
    barrier = ctx.Barrier(2, timeout=0.05)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def acquire_many(locks, queue):
    queue.put(sum(lock.acquire() for lock in locks))


def test_many_locks_travel(ctx):
    locks = [ctx.Lock() for _ in range(400)]
    queue = ctx.SimpleQueue()
    process = run(ctx, acquire_many, locks, queue)
    assert queue.get() == 400
    end(process)
    assert not any(lock.acquire(False) for lock in locks[:1])


def stop_here(ctx, lock, event):
    ctx.Process(target=release_it, args=(lock,)).start()
    event.wait()


def test_locks_travel_on_to_grandchildren(ctx):
    lock, event = ctx.Lock(), ctx.Event()
    lock.acquire()
    process = run(ctx, stop_here, ctx, lock, event)
    assert lock.acquire(timeout=60)
    event.set()
    end(process)


def test_timeout_beyond_floats(ctx):
    lock = ctx.Lock()
    for arguments in ((True, 10**400), (False, -(10**400))):
        with pytest.raises(OverflowError):
            lock.acquire(*arguments)
    with pytest.raises(OverflowError):
        lock.acquire(timeout=10**400)
    assert lock.acquire(True, 10**20) is True


@pytest.mark.parametrize("name", ["__enter__", "__exit__"])
def test_descriptors_are_only_made_for_classes(name):
    kind = type(vars(manycore.synchronize.Lock)[name])
    with pytest.raises(TypeError, match="cannot create"):
        kind()
    with pytest.raises(TypeError, match=r"not safe|cannot create"):
        object.__new__(kind)


FINALIZER = """
import sys, manycore

class Owner:
    def __init__(self):
        self.locks = [manycore.Lock(), manycore.RLock(), manycore.Condition()]
        self.lock = manycore.Lock()
        self.value, self.text = manycore.Value("i"), manycore.Array("c", 3)
        self.is_late, self.errors, self.print = sys.is_finalizing, (TypeError, ValueError), print

    def fails(self, call, *args):
        try:
            call(*args)
        except self.errors:
            return True

    def __del__(self):
        assert self.is_late()
        for lock in self.locks:
            with lock:
                pass
            assert lock.acquire(block=True)
            lock.release()
        with self.lock:
            assert not self.lock.acquire(timeout=0.01)
        assert self.fails(self.lock.release)
        assert self.fails(self.value.__setattr__, "value", "x")
        self.value.value += 1
        self.text.raw = bytearray(b"abc")
        self.print(self.value.value, self.text.value, self.text[:])

owner = Owner()
"""


def test_finalizers_use_locks_when_the_interpreter_ends():
    command = [sys.executable, "-c", FINALIZER]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "1 b'abc' b'abc'\n"


def test_notify_of_nobody(ctx):
    condition = ctx.Condition()
    with condition:
        condition.notify(0)
        condition.notify(-1)
        condition.notify(2**80)
