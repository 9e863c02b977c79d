import queue
import threading

import manycore
import pytest
from manycore import managers


def fill(shared, items, lock, namespace):
    with lock:
        shared["pid"] = manycore.current_process().pid
        items.append(len(items))
        namespace.x = 42


def test_sync_manager(ctx):
    with ctx.Manager() as manager:
        assert type(manager) is managers.SyncManager
        shared, items, lock = manager.dict(), manager.list([0]), manager.Lock()
        namespace = manager.Namespace()
        process = ctx.Process(target=fill, args=(shared, items, lock, namespace))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert shared["pid"] == process.pid
        assert list(items) == [0, 1]
        assert namespace.x == 42
        q = manager.Queue(1)
        q.put("a")
        with pytest.raises(queue.Full):
            q.put_nowait("b")
        assert q.get() == "a"
        value = manager.Value("i", 3)
        value.value += 1
        assert value.value == 4


class Counter:
    def __init__(self):
        self.n = 0

    def count(self):
        self.n += 1
        return self.n


class OurManager(managers.BaseManager):
    pass


OurManager.register("Counter", Counter)


def test_own_type(ctx):
    manager = OurManager(ctx=ctx)
    manager.start()
    try:
        counter = manager.Counter()
        assert [counter.count(), counter.count()] == [1, 2]
        assert manager._process.__class__.__module__ == "manycore.context"
    finally:
        manager.shutdown()


def test_default_context_is_ours(default_method):
    manycore.set_start_method("fork", force=True)
    assert OurManager()._ctx is manycore.get_context("fork")


def test_remote_error(ctx):
    with ctx.Manager() as manager, pytest.raises(KeyError):
        manager.dict()["missing"]


def is_fast(proxy):
    proxy._callmethod("__len__")
    return type(proxy._tls.connection).__module__ == "manycore.connection"


def tell(shared, out):
    out.append(is_fast(shared))


def test_proxies_use_our_connections_everywhere(ctx):
    with ctx.Pool(1) as pool, ctx.Manager() as manager:
        shared, out = manager.dict(), manager.list()
        assert is_fast(shared)
        process = ctx.Process(target=tell, args=(shared, out))
        process.start()
        process.join()
        # The manager is younger than the worker, which learns of it from the task.
        assert pool.apply(is_fast, (shared,))
        assert list(out) == [True]
    pool.join()


def test_the_original_s_managers_are_left_alone():
    import multiprocessing.managers

    class Theirs(multiprocessing.managers.SyncManager):
        pass

    with Theirs(ctx=multiprocessing.get_context("fork")) as manager:
        shared = manager.dict(a=1)
        assert shared["a"] == 1
        assert type(shared._tls.connection) is multiprocessing.connection.Connection


def count_up(shared, lock, key, n):
    for number in range(n):
        shared[key] = number
        assert shared[key] == number
        with lock:
            shared["sum"] += 1


def test_many_threads_and_processes(ctx):
    with ctx.Manager() as manager:
        shared, lock = manager.dict(sum=0), manager.Lock()
        workers = [
            make(target=count_up, args=(shared, lock, f"{make}{i}", 50))
            for make in (threading.Thread, ctx.Process)
            for i in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert shared["sum"] == 300


def test_proxies_in_proxies(ctx):
    with ctx.Manager() as manager:
        outer, inner = manager.dict(), manager.list([1])
        outer["inner"] = inner
        outer["inner"].append(2)
        assert list(inner) == [1, 2]
        assert isinstance(outer["inner"], managers.ListProxy)


def test_shared_memory_manager(ctx):
    manager = managers.SharedMemoryManager(ctx=ctx)
    manager.start()
    try:
        assert list(manager.ShareableList([1, "two"])) == [1, "two"]
        assert manager.SharedMemory(10).size >= 10
    finally:
        manager.shutdown()
