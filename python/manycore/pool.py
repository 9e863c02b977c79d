"""Pools of worker processes, with the API of ``multiprocessing.pool``."""

import itertools
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _engine, _peers, _stdlib
from ._staffing import Batch
from ._worker import Seat, work
from .context import TimeoutError, ours

__all__ = ["Pool", "ThreadPool"]

_S = TypeVar("_S")
_T = TypeVar("_T")

if TYPE_CHECKING:
    from multiprocessing import pool as _original
else:
    _original = _stdlib.load("pool")

INIT = _original.INIT
RUN = _original.RUN
CLOSE = _original.CLOSE
TERMINATE = _original.TERMINATE

ThreadPool = _original.ThreadPool

# After `install` others look for these here. The type stubs do not know them.
_untyped: Any = _original
ExceptionWithTraceback = _untyped.ExceptionWithTraceback
MaybeEncodingError = _untyped.MaybeEncodingError
RemoteTraceback = _untyped.RemoteTraceback
mapstar = _untyped.mapstar
rebuild_exc = _untyped.rebuild_exc
starmapstar = _untyped.starmapstar

#: So many items of an iterator may be without result before its reading waits.
READ_AHEAD = 1024


class _Staff:
    """Starts the workers of a pool. It knows nothing of the pool, which may be collected."""

    def __init__(
        self,
        context: Any,
        make_process: Callable[..., Any],
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        peer: _peers.Peer,
    ) -> None:
        self.context = context
        # What the workers know by name; that may lead to the pool, whose engine holds it.
        self.peer = weakref.ref(peer)
        self.make_process = make_process
        self.initializer = initializer
        self.initargs = tuple(initargs)
        self.processes: list[Any] = []

    def prepare(self, count: int) -> Batch:
        """Makes so many workers, ready to be started."""
        peer = self.peer()
        if peer is not None:
            peer.before_start()

        def make(seat: Seat) -> Any:
            args = (seat, self.initializer, self.initargs)
            process = self.make_process(self.context, target=work, args=args)
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process._grace_ms = 0
            # Those that are started later are like the first ones.
            if peer is not None:
                process._peer = peer
            return process

        return Batch(count, make, self._enter)

    def _enter(self, process: Any) -> None:
        self.processes.append(process)
        _stdlib.util.debug("added worker")

    def ended(self, pid: int) -> None:
        """Takes note that the worker with this pid has ended."""
        for process in list(self.processes):
            if process.pid == pid:
                process.join()
                self.processes.remove(process)
                _stdlib.util.debug("cleaning up worker %s", pid)

    def over(self) -> None:
        """Nothing is left of the pool."""

    def join(self) -> None:
        """Waits for the processes that have been told to end."""
        for process in list(self.processes):
            process.join()


class Pool(_original.Pool):
    """A pool of worker processes.

    Args:
        processes: How many workers; by default one for each CPU that this process may use.
        initializer: Called in each worker first, as ``initializer(*initargs)``. If it raises, the
            pool has failed: what was submitted ends with that exception.
        initargs: The arguments of ``initializer``.
        maxtasksperchild: Replace a worker after so many tasks (chunks, for ``map``).
        context: The context whose ``Process`` makes the workers. One of the standard library's
            stands for ours with the same start method.

    Raises:
        ValueError: ``processes`` or ``maxtasksperchild`` is less than 1.
        TypeError: ``initializer`` is not callable.
    """

    _engine: _engine.Pool

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Makes a worker's process object; a hook for subclasses."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._state = INIT
        self._ctx = context = ours(context)
        if processes is None:
            processes = _default_size()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        peer = _peers.for_children(context.get_start_method())
        self._staff = _Staff(context, self.Process, initializer, initargs, peer)
        try:
            self._engine = _engine.Pool(self._staff, processes, maxtasksperchild, peer)
        except BaseException:
            _give_up(self._staff)
            raise
        self._terminate = _stdlib.util.Finalize(
            self, _terminate, args=(self._engine, self._staff), exitpriority=15
        )
        self._state = RUN

    @property
    def _pool(self) -> list[Any]:
        return self._staff.processes

    def _repopulate_pool(self) -> None:
        """Does nothing: the engine replaces a worker as soon as it has gone."""

    def __del__(self, _warn: Any = warnings.warn, _run: Any = RUN) -> None:
        if getattr(self, "_state", None) == _run:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = type(self)
        size = len(self._staff.processes)
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={size}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def apply(
        self, func: Callable[..., _T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
    ) -> _T:
        """Returns ``func(*args, **kwds)``, called in a worker."""
        self._check_running()
        result: _T = self._engine.apply(func, args, kwds)
        return result

    def apply_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[_T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "ApplyResult[_T]":
        """Starts ``func(*args, **kwds)`` in a worker; the result comes by the returned object."""
        self._check_running()
        result: ApplyResult[_T] = ApplyResult(self, callback, error_callback)
        if result._started is None:
            result._job = self._engine.call(func, args, kwds, None)
        else:
            result._start(self._engine.call(func, args, kwds, result._finish))
        return result

    def map(
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = None
    ) -> list[_T]:
        """Returns ``[func(x) for x in iterable]``, called in the workers.

        Without ``chunksize`` the chunks are sized by the measured time of the calls.
        """
        return self._map_async(func, iterable, "map", chunksize).get()

    def map_async(  # type: ignore[override]
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "MapResult[_T]":
        """Starts a ``map``; the list comes by the returned object."""
        result = self._map_async(func, iterable, "map", chunksize, callback, error_callback)
        result._job.start()
        return result

    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[_T]:
        """Returns ``[func(*args) for args in iterable]``, called in the workers."""
        return self._map_async(func, iterable, "starmap", chunksize).get()

    def starmap_async(  # type: ignore[override]
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "MapResult[_T]":
        """Starts a ``starmap``; the list comes by the returned object."""
        result = self._map_async(func, iterable, "starmap", chunksize, callback, error_callback)
        result._job.start()
        return result

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Any,
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "MapResult[Any]":
        self._check_running()
        items = _sequence(iterable)
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if not items:
            callback = error_callback = None
        result: MapResult[Any] = MapResult(self, callback, error_callback)
        result._start(self._engine.submit(func, items, mapper, chunksize, result._callback()))
        return result

    def imap(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int = 1
    ) -> "IMapIterator[_T]":
        """An iterator over ``func(x)`` for each ``x`` of ``iterable``, in their order."""
        results: IMapIterator[_T] = self._imap(func, iterable, chunksize, IMapIterator)
        return results

    def imap_unordered(  # type: ignore[override]
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int = 1
    ) -> "IMapIterator[_T]":
        """As :meth:`imap`, in the order in which the results come."""
        results: IMapIterator[_T] = self._imap(func, iterable, chunksize, IMapUnorderedIterator)
        return results

    def _imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        kind: type["IMapIterator[Any]"],
    ) -> Any:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        mode = "item" if chunksize == 1 else "map"
        if type(iterable) in (list, tuple, range):
            items = _sequence(iterable)
            job = self._engine.submit(func, items, mode, chunksize, None)
            job.start()
        else:
            job = self._engine.open(func, mode)
            _feed(job, iterable, chunksize)
        results = kind(self, job)
        if chunksize == 1:
            return results
        return (item for chunk in results for item in chunk)

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """No more tasks; the workers leave when all that were submitted have ended."""
        _stdlib.util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._engine.close()

    def terminate(self) -> None:
        """Ends the workers at once. Every task without outcome gets an error."""
        _stdlib.util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Waits for the workers to leave.

        Raises:
            ValueError: Neither ``close`` nor ``terminate`` was called before.
        """
        _stdlib.util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._engine.join()
        self._staff.join()

    def __enter__(self) -> "Pool":
        self._check_running()
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.terminate()


def _default_size() -> int:
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return count or 1


def _sequence(iterable: Iterable[Any]) -> Any:
    """What can be cut into slices, and is nobody else's to change meanwhile."""
    if type(iterable) in (tuple, range):
        return iterable
    return list(iterable)


def _terminate(engine: _engine.Pool, staff: _Staff) -> None:
    engine.terminate()
    staff.join()


def _give_up(staff: _Staff) -> None:
    """Ends the workers of a pool that could not be completed."""
    for process in staff.processes:
        if process.exitcode is None:
            process.terminate()
    staff.join()


def _feed(job: _engine.Job, iterable: Iterable[Any], chunksize: int) -> None:
    """Reads an iterator in a thread of its own: it may wait for what its results are used for."""
    items = iter(iterable)
    chunks = items if chunksize == 1 else _chunks(items, chunksize)
    threading.Thread(target=_feed_all, args=(job, chunks), daemon=True).start()


def _chunks(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk


def _feed_all(job: _engine.Job, items: Iterator[Any]) -> None:
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - it is the item's outcome
                job.push_error(error)
                break
            job.push(item, READ_AHEAD)
            del item
    except ValueError:
        # The pool was terminated; its jobs have got their outcome with that.
        pass
    finally:
        job.end()


class ApplyResult(Generic[_T]):
    """The outcome of one call, when it is there."""

    _job: _engine.Job
    _on_success: Callable[[_T], object] | None = None
    _on_error: Callable[[BaseException], object] | None = None
    _started: threading.Event | None = None

    def __init__(
        self,
        pool: Pool | None,
        callback: Callable[[_T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        # The pool lives as long as somebody may want this outcome.
        self._pool = pool
        if callback or error_callback:
            self._on_success = callback
            self._on_error = error_callback
            self._started = threading.Event()

    def _callback(self) -> Callable[[], None] | None:
        return self._finish if self._started else None

    def _start(self, job: _engine.Job) -> None:
        self._job = job
        if self._started:
            self._started.set()

    def _finish(self) -> None:
        """Runs on the pool's own thread, before anybody sees the outcome."""
        assert self._started is not None
        self._started.wait()
        on_success, self._on_success = self._on_success, None
        on_error, self._on_error = self._on_error, None
        try:
            value = self._job.value()
        except BaseException as error:  # noqa: BLE001 - it is the call's outcome
            if on_error is not None:
                on_error(error)
        else:
            if on_success is not None:
                on_success(value)

    def ready(self) -> bool:
        """Whether the outcome is there."""
        return self._job.ready()

    def successful(self) -> bool:
        """Whether the call returned.

        Raises:
            ValueError: The outcome is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        try:
            self._job.value()
        except BaseException:  # noqa: BLE001 - whatever the call raised
            return False
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Waits for the outcome, at most ``timeout`` seconds."""
        self._job.wait(timeout)

    def get(self, timeout: float | None = None) -> _T:
        """Returns the result, or raises what the call raised.

        Raises:
            TimeoutError: It was not there within ``timeout`` seconds.
            WorkerDied: The worker died while it ran the call.
        """
        job = self._job
        if not (job.ready() or job.wait(timeout)):
            raise TimeoutError
        self._pool = None
        value: _T = job.value()
        return value

    __class_getitem__: Any = classmethod(GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[_T]]):
    """The list of results of a ``map``, when all are there."""


class IMapIterator(Generic[_T]):
    """Results as they come, in the order of the items."""

    _ordered = True

    def __init__(self, pool: Pool, job: _engine.Job) -> None:
        self._pool: Pool | None = pool
        self._job = job

    def __iter__(self) -> "IMapIterator[_T]":
        return self

    def next(self, timeout: float | None = None) -> _T:
        """The next result.

        Raises:
            TimeoutError: It was not there within ``timeout`` seconds.
            StopIteration: There are no more.
        """
        try:
            item: _T = self._job.next(timeout, self._ordered)
        except StopIteration:
            self._pool = None
            raise
        return item

    __next__ = next


class IMapUnorderedIterator(IMapIterator[_T]):
    """Results in the order in which they come."""

    _ordered = False


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("pool")
