"""``concurrent.futures`` with a ``ProcessPoolExecutor`` on manycore's engine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import operator
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    TimeoutError,
    as_completed,
    process,
    thread,
    wait,
)
from concurrent.futures._base import _result_or_cancel  # type: ignore[attr-defined]
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from . import _engine, _peers, _stdlib
from . import context as _context
from ._future import Future as _Future
from ._staffing import Batch
from ._worker import Seat, call_chunk, work_for_executor
from .pool import _default_size

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "process",
    "thread",
    "wait",
]

_TERMINATE = "terminate"
_KILL = "kill"

#: The pools for which the interpreter's exit waits.
_running: dict[_Staff, _engine.Pool] = {}
_exiting = False


def _exit() -> None:
    """Runs before the interpreter joins its threads, as in the standard library."""
    global _exiting
    _exiting = True
    engines = list(_running.values())
    for engine in engines:
        engine.close()
    for engine in engines:
        engine.join()


def _finish(engine: _engine.Pool) -> None:
    engine.close()
    engine.join()


threading._register_atexit(_exit)  # type: ignore[attr-defined]
# A forked child has neither the workers nor what they work for.
os.register_at_fork(after_in_child=_running.clear)


class _Staff:
    """The workers of an executor. It knows nothing of the executor, which may be collected."""

    def __init__(
        self, context: Any, initializer: Callable[..., object] | None, initargs: Iterable[Any]
    ) -> None:
        self.context = context
        #: What the workers know by name; made when they are first started.
        self.peer: Any = None
        self.initializer = initializer
        self.initargs = tuple(initargs)
        self.processes: dict[int, Any] = {}
        self._finalizer: Any = None

    def choose_peer(self) -> Any:
        """The workers' peer: what this process has now, as the first of them begin."""
        self.peer = _peers.for_children(self.context.get_start_method())
        return self.peer

    def begin(self, engine: _engine.Pool) -> None:
        """From here on an exit waits for what the executor was given."""
        # A child of multiprocessing waits for its own children before `_exit` runs there.
        self._finalizer = _stdlib.util.Finalize(None, _finish, args=(engine,), exitpriority=100)
        _running[self] = engine
        if _exiting:
            engine.close()

    def prepare(self, count: int) -> Batch:
        """Makes so many workers, ready to be started."""
        self.peer.before_start()
        return Batch(count, self._make, self._enter)

    def _make(self, seat: Seat) -> Any:
        args = (seat, self.initializer, self.initargs)
        worker = self.context.Process(target=work_for_executor, args=args)
        worker._grace_ms = 0
        worker._peer = self.peer
        return worker

    def _enter(self, worker: Any) -> None:
        self.processes[worker.pid] = worker

    def ended(self, pid: int) -> None:
        """Takes note that the worker with this pid has ended."""
        worker = self.processes.pop(pid, None)
        if worker is not None:
            worker.join()

    def over(self) -> None:
        """Nothing is left of the pool. This is the last that its own thread does in Python."""
        if sys.version_info < (3, 12):
            # It stays in this table if a callback has asked for the current thread's name.
            threading._active.pop(threading.get_ident(), None)  # type: ignore[attr-defined]
        _running.pop(self, None)
        if self._finalizer is not None:
            self._finalizer.cancel()


# It is for isinstance() only: none of its parts is used, and some are properties here.
_Base: Any = process.ProcessPoolExecutor


class ProcessPoolExecutor(_Base):  # type: ignore[misc]
    """Calls functions in worker processes.

    A worker that dies costs the call that it was running, which raises ``WorkerDied``, a
    ``BrokenProcessPool``. It is replaced, and the executor goes on.

    Args:
        max_workers: At most so many workers; by default one for each CPU.
        mp_context: Its start method is that of the workers.
        initializer: Called in each worker first, as ``initializer(*initargs)``. If it raises, the
            executor is broken.
        initargs: The arguments of ``initializer``.
        max_tasks_per_child: Replace a worker after so many calls. Not with the start method fork;
            without ``mp_context`` it is spawn.

    Raises:
        ValueError: ``max_workers`` or ``max_tasks_per_child`` is less than 1, or the latter is
            given with the start method fork.
        TypeError: ``initializer`` is not callable, or a number is not an integer.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = _default_size()
        self._max_workers = operator.index(max_workers)
        if self._max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._mp_context: Any = _find_context(mp_context, max_tasks_per_child)
        self._safe_to_dynamically_spawn_children = self._mp_context.get_start_method() != "fork"
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._initializer = initializer
        self._initargs = initargs
        self._check_max_tasks(max_tasks_per_child)
        self._max_tasks_per_child = max_tasks_per_child
        self._staff = _Staff(self._mp_context, initializer, initargs)
        self._processes: Any = self._staff.processes
        self._engine: _engine.Pool | None = None
        self._breakage: str | None = None
        self._shutdown_thread = False
        self._shutdown_lock = threading.Lock()
        self._finalizer: weakref.finalize[..., Any] | None = None

    def _check_max_tasks(self, most: int | None) -> None:
        if most is None:
            return
        if not isinstance(most, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if most <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        if not self._safe_to_dynamically_spawn_children:
            raise ValueError(
                "max_tasks_per_child is incompatible with"
                " the 'fork' multiprocessing start method;"
                " supply a different mp_context."
            )

    @property
    def _executor_manager_thread(self) -> Any:
        """What stands for the standard library's thread, in case somebody wants to join it."""
        return None if self._engine is None else _Manager(self._engine)

    @property
    def _broken(self) -> str | bool:
        """Why the executor is broken; False if it is not."""
        if self._breakage is None and self._engine is not None and self._engine.has_failed():
            self._breakage = (
                "A child process terminated abruptly, the process pool is not usable anymore"
            )
            self._shutdown_thread = True
        return self._breakage or False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Has ``fn(*args, **kwargs)`` called in a worker.

        Returns:
            The call's ``Future``.

        Raises:
            RuntimeError: The executor was shut down.
            BrokenProcessPool: It is broken.
        """
        self._check_open()
        engine = self._engine or self._begin()
        try:
            job = engine.call_soon(fn, args, kwargs)
        except ValueError:
            # It was shut down just now.
            self._check_open()
            raise
        return _Future(job)

    def _check_open(self) -> None:
        if broken := self._broken:
            raise BrokenProcessPool(broken)
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _begin(self) -> _engine.Pool:
        """Makes the pool. With fork it starts all workers now, else each when it is needed."""
        with self._shutdown_lock:
            self._check_open()
            if self._engine is None:
                on_demand = self._safe_to_dynamically_spawn_children
                most = self._max_tasks_per_child
                peer = self._staff.choose_peer()
                engine = _engine.Pool(self._staff, self._max_workers, most, peer, on_demand)
                self._staff.begin(engine)
                self._finalizer = weakref.finalize(self, _leave, engine)
                self._finalizer.atexit = False
                self._engine = engine
            return self._engine

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Returns an iterator over ``fn(*args)`` for each ``args`` of ``zip(*iterables)``.

        Args:
            fn: What to call.
            iterables: Its arguments.
            timeout: So many seconds from now all results have to be there.
            chunksize: So many calls make one task of a worker.
            buffersize: At most so many tasks are submitted ahead of the results that were taken;
                without it all are, at once.

        Raises:
            TimeoutError: By the iterator: a result was not there in time.
            ValueError: ``chunksize`` or ``buffersize`` is less than 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else timeout + time.monotonic()
        # As with the builtin map, the shortest ends it.
        calls = zip(*iterables, strict=False)
        if chunksize == 1:
            return self._map(fn, calls, deadline, buffersize)
        chunks = ((chunk,) for chunk in _chunks(calls, chunksize))
        results = self._map(partial(call_chunk, fn), chunks, deadline, buffersize)
        return _chain(results)

    def _map(
        self,
        fn: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        deadline: float | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        ahead = itertools.islice(calls, buffersize)
        futures = deque(self.submit(fn, *args) for args in ahead)
        more = None
        if buffersize is not None:
            more = partial(_submit_next, weakref.ref(self), fn, calls)
        return _results(futures, deadline, more)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls; the workers leave when all that were submitted have ended.

        Args:
            wait: Return only then.
            cancel_futures: Cancel the calls that no worker has.
        """
        with self._shutdown_lock:
            # Which of the two it was is to be known later.
            self._breakage = self._broken or None  # type: ignore[assignment]
            self._shutdown_thread = True
            engine = self._engine
            self._processes = None
        if engine is None:
            return
        engine.close()
        if cancel_futures:
            engine.cancel_waiting()
        if wait:
            engine.join()
            self._forget()

    def _forget(self) -> None:
        """Lets go of what the pool had."""
        if self._finalizer is not None:
            self._finalizer.detach()
        self._engine = None

    def terminate_workers(self) -> None:
        """Ends the workers by SIGTERM. Running calls fail with ``BrokenProcessPool``."""
        self._force_shutdown(operation=_TERMINATE)

    def kill_workers(self) -> None:
        """Ends the workers by SIGKILL. Running calls fail with ``BrokenProcessPool``."""
        self._force_shutdown(operation=_KILL)

    def _force_shutdown(self, operation: str) -> None:
        if operation not in (_TERMINATE, _KILL):
            raise ValueError(f"Unsupported operation: {operation!r}")
        workers = list((self._processes or {}).values())
        engine = self._engine
        self.shutdown(wait=False, cancel_futures=True)
        if engine is None:
            return
        engine.abandon()
        for worker in workers:
            # It may have ended meanwhile, and been closed.
            with contextlib.suppress(ValueError):
                if worker.is_alive():
                    worker.terminate() if operation == _TERMINATE else worker.kill()


class _Manager:
    """An engine, with what a thread is waited for."""

    def __init__(self, engine: _engine.Pool) -> None:
        self._engine = engine

    def join(self, timeout: float | None = None) -> None:
        self._engine.join(timeout)

    def is_alive(self) -> bool:
        return not self._engine.join(0)


def _find_context(given: Any, max_tasks: int | None) -> Any:
    """Our context with the start method that the user means."""
    if given is None and max_tasks is not None:
        return _context._default_context.get_context("spawn")
    return _context.ours(given)


def _leave(engine: _engine.Pool) -> None:
    """The executor was collected: the workers leave when all work is done."""
    # In a forked child there is nothing to close.
    with contextlib.suppress(RuntimeError):
        engine.close()


def _submit_next(
    executor: Callable[[], ProcessPoolExecutor | None],
    fn: Callable[..., Any],
    calls: Iterator[tuple[Any, ...]],
) -> Any:
    """The future of the next call, if there are both a call and an executor."""
    alive = executor()
    args = next(calls, None) if alive is not None else None
    return None if alive is None or args is None else alive.submit(fn, *args)


def _results(
    futures: deque[Any], deadline: float | None, more: Callable[[], Any] | None
) -> Iterator[Any]:
    try:
        while futures:
            if more is not None and (future := more()) is not None:
                futures.append(future)
                del future
            left = None if deadline is None else deadline - time.monotonic()
            # No name here for the future or its result, which may be large.
            yield _result_or_cancel(futures.popleft(), left)
    finally:
        for future in reversed(futures):
            future.cancel()


def _chunks(calls: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := tuple(itertools.islice(calls, size)):
        yield chunk


def _chain(results: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in results:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def __getattr__(name: str) -> Any:
    # What this Python's concurrent.futures has besides.
    if name == "InterpreterPoolExecutor":
        return getattr(concurrent.futures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
