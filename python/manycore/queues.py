"""Queues between processes."""

from __future__ import annotations

import traceback
import types
from multiprocessing.context import BaseContext
from queue import Empty, Full
from typing import TYPE_CHECKING, Any, TypeVar

from . import _engine, _stdlib, connection
from ._block import assert_shareable
from ._generic import Plain

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_T = TypeVar("_T")

if TYPE_CHECKING:
    from multiprocessing.queues import Queue as _Queue
    from multiprocessing.queues import SimpleQueue as _SimpleQueue
else:
    _Queue, _SimpleQueue = Plain(_stdlib.queues.Queue), Plain(_stdlib.queues.SimpleQueue)


#: The standard library's feeder thread. Who writes it anew, as loky does, counts on all that the
#: class has around it.
_FEEDING = frozenset(("_feed", "_start_thread"))

#: Its queue reports an error to locks that the thread which puts may hold.
_EXECUTOR = "concurrent.futures.process"


def has_feeder(cls: type) -> bool:
    """Whether a subclass needs the standard library's feeder thread."""
    return cls.__module__ == _EXECUTOR or not _FEEDING.isdisjoint(vars(cls))


#: What the engine's queue gives when it has nothing.
_NOTHING = object()


class _End:
    """What is left of a queue's pipe: something to close."""

    closed = False

    def close(self) -> None:
        """Does nothing to the queue: nobody ever waits for this end."""
        self.closed = True


class _Reader(_End):
    """Something to wait for, with ``connection.wait``, selectors or an event loop."""

    def __init__(self, queue: _engine.Queue) -> None:
        self._queue = queue

    def fileno(self) -> int:
        """A descriptor that is readable while the queue has items."""
        if self.closed:
            raise OSError("handle is closed")
        return self._queue.readable()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item; waits at most ``timeout`` seconds for one."""
        return _engine.poll(self.fileno(), timeout)


class Queue(_Queue[_T]):
    """A first-in first-out queue that any number of processes put into and get from.

    Objects are pickled by ``put`` itself and are in the queue when it returns: there is no feeder
    thread. With ``maxsize`` greater than 0 ``put`` waits while so many objects are queued.
    """

    def __init__(self, maxsize: int = 0, *, ctx: BaseContext) -> None:
        self._maxsize = _engine.SEM_VALUE_MAX if maxsize <= 0 else maxsize
        self._queue = _engine.Queue(maxsize)
        self._ignore_epipe = False
        self._open()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Puts a subclass that has a feeder thread of its own on the class that has one."""
        super().__init_subclass__(**kwargs)
        if has_feeder(cls):
            theirs: dict[type, type] = {
                Queue: _stdlib.queues.Queue,
                JoinableQueue: _stdlib.queues.JoinableQueue,
            }
            cls.__bases__ = tuple(theirs.get(base, base) for base in cls.__bases__)

    def _open(self) -> None:
        self._closed = False
        # Whether this process has put anything: the standard library then has a pipe to close.
        self._used = False
        self._reader = _Reader(self._queue)
        self._writer = _End()

    def __getstate__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        return self._ignore_epipe, self._maxsize, self._queue

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._ignore_epipe, self._maxsize, self._queue = state
        self._open()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """Puts ``obj`` into the queue.

        Waits while the queue is full, at most ``timeout`` seconds, not at all unless ``block``;
        then raises ``queue.Full``. ValueError after ``close``. An object that cannot be pickled is
        reported on stderr and left out.
        """
        if self._closed:
            self._check_open()
        self._used = True
        failure = self._queue.put(obj, timeout if block else 0)
        if failure is not None:
            self._not_put(obj, failure)

    def _not_put(self, obj: Any, failure: bool | Exception) -> None:
        if isinstance(failure, bool):
            raise Full
        self._on_queue_feeder_error(failure, obj)

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Takes the oldest object.

        Waits while there is none, at most ``timeout`` seconds, not at all unless ``block``; then
        raises ``queue.Empty``. ValueError after ``close``.
        """
        if self._closed:
            self._check_open()
        obj = self._queue.get(_NOTHING, timeout if block else 0)
        if obj is _NOTHING:
            raise Empty
        return obj  # type: ignore[no-any-return]

    def qsize(self) -> int:
        """How many objects are queued."""
        return len(self._queue)

    def empty(self) -> bool:
        """Whether no object is queued. OSError after ``close``, if anything was put here."""
        if self._closed and self._used:
            raise OSError("handle is closed")
        return not len(self._queue)

    def full(self) -> bool:
        """Whether as many objects are queued as may be."""
        return len(self._queue) >= self._maxsize

    def close(self) -> None:
        """Says that this process will put and get no more. What it has put stays queued."""
        self._closed = True

    def join_thread(self) -> None:
        """Returns at once: nothing that was put waits to be sent. Only after ``close``."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: there is no thread to be joined at exit."""

    def _terminate_broken(self) -> None:
        self.close()

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: Any) -> None:
        """Called when ``obj`` cannot be pickled; subclasses override it."""
        traceback.print_exception(e)

    __class_getitem__: Any = classmethod(types.GenericAlias)


class JoinableQueue(Queue[_T]):
    """A queue that knows which objects have been dealt with."""

    def __init__(self, maxsize: int = 0, *, ctx: BaseContext) -> None:
        super().__init__(maxsize, ctx=ctx)
        self._unfinished_tasks = ctx.Semaphore(0)
        self._cond = ctx.Condition()

    def __getstate__(self) -> tuple[Any, ...]:
        return (*super().__getstate__(), self._cond, self._unfinished_tasks)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state[:-2])
        self._cond, self._unfinished_tasks = state[-2:]

    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """As ``Queue.put``; the object counts as unfinished until ``task_done``."""
        if self._closed:
            self._check_open()
        self._used = True
        # Counted before it can be taken, so that task_done never finds nothing to count down.
        self._unfinished_tasks.release()
        failure: bool | Exception | None = False
        try:
            failure = self._queue.put(obj, timeout if block else 0)
        finally:
            if failure is not None:
                self.task_done()
        if failure is not None:
            self._not_put(obj, failure)

    def task_done(self) -> None:
        """Says that an object which ``get`` returned has been dealt with.

        ValueError if called more often than objects were put.
        """
        with self._cond:
            if not self._unfinished_tasks.acquire(False):
                raise ValueError("task_done() called too many times")
            if not self._unfinished_tasks.get_value():
                self._cond.notify_all()

    def join(self) -> None:
        """Waits until every object has been dealt with."""
        with self._cond:
            while self._unfinished_tasks.get_value():
                self._cond.wait()


class SimpleQueue(_SimpleQueue[_T]):
    """A queue that is a pipe with two locks: ``put`` waits while the pipe is full."""

    def __init__(self, *, ctx: BaseContext) -> None:
        self._reader, self._writer = connection.Pipe(duplex=False)
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()
        self._poll = self._reader.poll

    def put(self, obj: _T) -> None:
        """Puts ``obj`` into the queue; waits while the pipe is full."""
        data = _engine.dumps(obj)
        with self._wlock:
            self._writer.send_bytes(data)

    def get(self) -> _T:
        """Takes the oldest object; waits while there is none."""
        with self._rlock:
            data = self._reader.recv_bytes()
        # Without the lock: it may take long, and run anything.
        return _engine.loads(data)  # type: ignore[no-any-return]

    def __getstate__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        # The locks first: where they are refused, no descriptor has been passed on yet.
        return self._rlock, self._wlock, self._reader, self._writer

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._rlock, self._wlock, self._reader, self._writer = state
        self._poll = self._reader.poll


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("queues")
