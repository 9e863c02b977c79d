"""Locks and their relatives between processes, over the engine's futexes.

The calls that are made often (acquire, release, the with-statement) are the engine's own methods;
what is here is how the objects present themselves and travel to a child.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import current_process
from typing import TYPE_CHECKING, Any

from . import _engine, _stdlib
from ._block import BufferWrapper, assert_shareable

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

SEM_VALUE_MAX = _engine.SEM_VALUE_MAX
RECURSIVE_MUTEX, SEMAPHORE = range(2)


def _rebuild(cls: Any, block: _engine.Block) -> Any:
    return cls.__new__(cls, ctx=None, block=block)


def _rebuild_semaphore(cls: Any, maxvalue: int, block: _engine.Block) -> Any:
    return _engine.Semaphore.__new__(cls, maxvalue, maxvalue, block)


class Semaphore(_engine.Semaphore):
    """A counter that is never below zero: ``acquire`` takes one and waits while there is none."""

    def __new__(
        cls, value: int = 1, *, ctx: BaseContext | None, block: _engine.Block | None = None
    ) -> Semaphore:
        """A semaphore of ``value``, or the one in ``block``."""
        return super().__new__(cls, value, SEM_VALUE_MAX, block)

    def __reduce__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        return _rebuild_semaphore, (type(self), self.maxvalue, self.block)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()})>"


class BoundedSemaphore(Semaphore):
    """A semaphore whose value cannot rise above the initial one."""

    def __new__(
        cls, value: int = 1, *, ctx: BaseContext | None, block: _engine.Block | None = None
    ) -> BoundedSemaphore:
        """A semaphore of ``value`` at most, or the one in ``block``."""
        return _engine.Semaphore.__new__(cls, value, value, block)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()}, maxvalue={self.maxvalue})>"


class Lock(_engine.Lock):
    """A lock that any thread of any process may release.

    ``acquire`` raises :class:`manycore.OwnerDied` if the process that holds it is dead.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        return _rebuild, (type(self), self.block)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={_owner(self)})>"


class RLock(_engine.RLock):
    """A lock that its owner, a thread of a process, may acquire again.

    ``acquire`` raises :class:`manycore.OwnerDied` if the process that holds it is dead.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        return _rebuild, (type(self), self.block)

    def __repr__(self) -> str:
        owner = _owner(self)
        count: int | str = 0 if owner == "None" else self._count() or "nonzero"
        if not self._is_mine() and owner != "None":
            count = "nonzero"
        return f"<{type(self).__name__}({owner}, {count})>"


def _owner(lock: _engine.Lock | _engine.RLock) -> str:
    if lock._is_mine():
        name = current_process().name
        thread = threading.current_thread().name
        return name if thread == "MainThread" else f"{name}|{thread}"
    pid = lock.owner()
    if pid is None:
        return "None"
    return "SomeOtherThread" if pid == os.getpid() else "SomeOtherProcess"


class _Count:
    """A number that looks like a semaphore of this value."""

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


class Condition:
    """A condition variable over a lock."""

    def __init__(self, lock: Any = None, *, ctx: BaseContext) -> None:
        self._lock: Any = lock or ctx.RLock()
        self._waiters = _engine.Condition()
        self._make_methods()

    def _make_methods(self) -> None:
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __getstate__(self) -> tuple[Any, _engine.Block]:
        assert_shareable(self)
        return self._lock, self._waiters.block

    def __setstate__(self, state: tuple[Any, _engine.Block]) -> None:
        self._lock, block = state
        self._waiters = _engine.Condition(block)
        self._make_methods()

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> Any:
        return self._lock.__exit__(*args)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {self._waiters.waiters()})>"

    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits to be notified, and takes the lock again.

        Returns False if ``timeout`` seconds have passed without a notification.
        """
        assert self._lock._semlock._is_mine(), "must acquire() condition before using wait()"
        self._waiters.enter()
        depth = self._lock._semlock._count()
        for _ in range(depth):
            self._lock.release()
        notified = False
        try:
            notified = self._waiters.sleep(timeout)
        except BaseException:
            self._retake(depth)
            if self._waiters.leave(False):
                # We were told but will not act on it: let another one.
                self._waiters.notify(1)
            raise
        self._retake(depth)
        return self._waiters.leave(notified)

    def _retake(self, depth: int) -> None:
        for _ in range(depth):
            self._lock.acquire()

    def notify(self, n: int = 1) -> None:
        """Wakes at most ``n`` of those who wait."""
        assert self._lock._semlock._is_mine(), "lock is not owned"
        self._waiters.notify(min(n, SEM_VALUE_MAX))

    def notify_all(self) -> None:
        """Wakes all who wait."""
        self.notify(n=sys.maxsize)

    # The standard library counts in three semaphores, and its tests look into them.
    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiters.waiters)

    @property
    def _woken_count(self) -> _Count:
        return _Count(int)

    _wait_semaphore = _woken_count

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Waits until ``predicate()`` is true or ``timeout`` seconds have passed.

        Returns the predicate's last value.
        """
        result = predicate()
        end = None if timeout is None else time.monotonic() + timeout
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result


class Event(_engine.Event):
    """A flag that processes can wait for."""

    def __reduce__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        return _rebuild, (type(self), self.block)

    def __repr__(self) -> str:
        status = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {status}>"


class Barrier(threading.Barrier):
    """A place where ``parties`` processes wait for each other."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: BaseContext,
    ) -> None:
        shared = BufferWrapper(struct.calcsize("2i"))
        self.__setstate__((parties, action, timeout, Condition(ctx=ctx), shared))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._parties, self._action, self._timeout, self._cond, self._shared = state
        self._array: memoryview[int] = self._shared.create_memoryview().cast("i")

    def __getstate__(self) -> tuple[Any, ...]:
        return self._parties, self._action, self._timeout, self._cond, self._shared

    # `threading.Barrier` keeps what it knows in these two.
    @property
    def _state(self) -> int:
        return self._array[0]

    @_state.setter
    def _state(self, value: int) -> None:
        self._array[0] = value

    @property
    def _count(self) -> int:
        return self._array[1]

    @_count.setter
    def _count(self, value: int) -> None:
        self._array[1] = value


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("synchronize")
