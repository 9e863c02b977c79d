import queue

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
