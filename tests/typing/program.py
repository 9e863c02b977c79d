"""A typed program, as a user writes it. It is checked with `mypy --strict`, and it runs.

`assert_type` fails the check if an editor would show another type.
"""

import ctypes
import logging
from ctypes import Array, c_int
from multiprocessing.managers import DictProxy, ListProxy, ValueProxy
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, assert_type

import manycore as mp
from manycore import connection, context, managers, pool, queues, synchronize
from manycore.dummy import Pool as ThreadPool
from manycore.reduction import ForkingPickler
from manycore.shared_memory import ShareableList, SharedMemory
from manycore.sharedctypes import Synchronized, SynchronizedArray
from manycore.util import Finalize, get_temp_dir


def length(text: str) -> int:
    return len(text)


def add(one: int, other: int) -> int:
    return one + other


def child(queue: "queues.Queue[int]", end: connection.Connection, lock: synchronize.Lock) -> None:
    with lock:
        queue.put(1)
    end.send("text")


class Worker(mp.Process):
    def __init__(self, number: int) -> None:
        super().__init__(name=f"worker {number}", daemon=True)
        self.number = number

    def run(self) -> None:
        assert self.number


def pools() -> None:
    with mp.Pool(2, initializer=length, initargs=("x",)) as workers:
        assert_type(workers, pool.Pool)
        assert_type(workers.apply(length, ("a",)), int)
        result = workers.apply_async(length, ("a",), callback=lambda number: None)
        assert_type(result, "pool.ApplyResult[int]")
        assert_type(result.get(timeout=60), int)
        assert_type(result.successful(), bool)
        assert_type(workers.map(length, ["a", "b"]), list[int])
        assert_type(workers.map_async(length, ["a"]).get(), list[int])
        assert_type(workers.starmap(add, [(1, 2)]), list[int])
        assert_type(workers.starmap_async(add, [(1, 2)]).get(), list[int])
        assert_type(workers.imap(length, ["a"]).next(), int)
        for number in workers.imap_unordered(length, ["a"], chunksize=1):
            assert_type(number, int)
        if TYPE_CHECKING:
            workers.map(length, [1])  # type: ignore[arg-type]
            workers.mpa(length, ["a"])  # type: ignore[attr-defined]
    ThreadPool(1).terminate()


def processes() -> None:
    queue: queues.Queue[int] = mp.Queue(maxsize=3)
    simple = mp.SimpleQueue()
    one, other = mp.Pipe()
    assert_type(one, connection.Connection)
    assert_type(mp.Lock(), synchronize.Lock)
    process = mp.Process(target=child, args=(queue, one, mp.Lock()))
    process.start()
    assert_type(queue.get(timeout=60), int)
    assert_type(other.recv(), Any)
    assert_type(other.poll(0.0), bool)
    process.join()
    assert_type(process.exitcode, int | None)
    assert_type(simple.empty(), bool)
    assert_type(mp.current_process(), BaseProcess)
    assert_type(mp.parent_process(), BaseProcess | None)
    assert_type(mp.active_children(), list[BaseProcess])
    assert_type(mp.cpu_count(), int)
    worker = Worker(3)
    worker.start()
    worker.join()
    if TYPE_CHECKING:
        queue.put("text")  # type: ignore[arg-type]
        mp.Process(traget=child)  # type: ignore[call-arg]


def locks() -> None:
    condition, event = mp.Condition(), mp.Event()
    assert_type(condition, synchronize.Condition)
    assert_type(event.wait(0), bool)
    assert_type(mp.Semaphore(2).get_value(), int)
    assert_type(mp.RLock().acquire(timeout=1.0), bool)
    assert_type(mp.Barrier(2).parties, int)
    with condition:
        condition.notify_all()


def values() -> None:
    typed = mp.Value(c_int, 3)
    assert_type(typed, "Synchronized[int]")
    typed.value += 1
    with typed.get_lock():
        assert_type(typed.value, int)
    assert_type(mp.Value("i", 3), "Synchronized[Any]")
    assert_type(mp.Value(c_int, lock=False), c_int)
    assert_type(mp.Array("i", 3), "SynchronizedArray[Any]")
    assert_type(mp.Array(ctypes.c_double, [1.0])[0], float)
    assert_type(mp.RawArray(c_int, 3), "Array[c_int]")
    assert_type(mp.RawValue(c_int), c_int)


def server() -> None:
    with mp.Manager() as manager:
        assert_type(manager, managers.SyncManager)
        assert_type(manager.list([1, 2]), "ListProxy[int]")
        assert_type(manager.dict(a=1), "DictProxy[str, int]")
        assert_type(manager.Value("i", 1), "ValueProxy[int]")
        if TYPE_CHECKING:
            manager.lits()  # type: ignore[attr-defined]


def contexts() -> None:
    spawn = mp.get_context("spawn")
    assert_type(spawn, context.SpawnContext)
    assert_type(spawn.Queue(), "queues.Queue[Any]")
    assert_type(mp.get_all_start_methods(), list[str])
    assert_type(mp.get_logger(), logging.Logger)


def the_rest() -> None:
    memory = SharedMemory(create=True, size=1)
    assert_type(memory.name, str)
    memory.close()
    memory.unlink()
    numbers = ShareableList([1, 2])
    assert_type(numbers[0], int)
    numbers.shm.close()
    numbers.shm.unlink()
    assert_type(get_temp_dir(), str)
    assert_type(bytes(ForkingPickler.dumps(1)), bytes)
    Finalize(None, length, args=("x",), exitpriority=1).cancel()
    try:
        raise mp.WorkerDied("gone", pid=1, exitcode=-9, task=0)
    except mp.ProcessError as error:
        assert isinstance(error, mp.WorkerDied)
        assert_type(error.exitcode, int | None)
    shared = mp.shared([1, 2])
    assert_type(shared, mp.Shared[list[int]])
    assert_type(shared.get(), list[int])
    assert_type(shared.nbytes, int)
    assert_type(mp.__version__, str)
    mp.install()


if __name__ == "__main__":
    for part in (contexts, pools, processes, locks, values, server, the_rest):
        part()
    print("typed")
