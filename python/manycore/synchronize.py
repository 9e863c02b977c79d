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
RECURSIVE_MUTEX = _engine.RECURSIVE_MUTEX
SEMAPHORE = _engine.SEMAPHORE


def _rebuild(cls: Any, block: _engine.Block) -> Any:
    return cls.__new__(cls, ctx=None, block=block)


class SemLock(_engine.Guarded):
    """What locks and semaphores have in common."""

    def __init__(self, kind: int, value: int, maxvalue: int, *, ctx: BaseContext) -> None:
        self._make(_engine.SemLock(kind, value, maxvalue))

    def _make(self, semlock: _engine.SemLock) -> None:
        self._guard_with(semlock, semlock)

    def __getstate__(self) -> tuple[Any, ...]:
        assert_shareable(self)
        semlock = self._semlock
        return semlock._kind, semlock.maxvalue, semlock.block

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        kind, maxvalue, block = state
        self._make(_engine.SemLock(kind, 0, maxvalue, block))

    def locked(self) -> bool:
        """Whether somebody holds it; of a semaphore, whether none is left."""
        semlock: _engine.SemLock = self._semlock
        return semlock._is_zero()


@_engine.own_methods
class Semaphore(SemLock):
    """A counter that is never below zero: ``acquire`` takes one and waits while there is none."""

    def __init__(self, value: int = 1, *, ctx: BaseContext) -> None:
        SemLock.__init__(self, SEMAPHORE, value, SEM_VALUE_MAX, ctx=ctx)

    def get_value(self) -> int:
        """The present value."""
        semlock: _engine.SemLock = self._semlock
        return semlock._get_value()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()})>"


@_engine.own_methods
class BoundedSemaphore(Semaphore):
    """A semaphore whose value cannot rise above the initial one."""

    def __init__(self, value: int = 1, *, ctx: BaseContext) -> None:
        SemLock.__init__(self, SEMAPHORE, value, value, ctx=ctx)

    def __repr__(self) -> str:
        maxvalue = self._semlock.maxvalue
        return f"<{type(self).__name__}(value={self.get_value()}, maxvalue={maxvalue})>"


@_engine.own_methods
class Lock(SemLock):
    """A lock that any thread of any process may release.

    ``acquire`` raises :class:`manycore.OwnerDied` if the process that holds it is dead.
    """

    def __init__(self, *, ctx: BaseContext) -> None:
        SemLock.__init__(self, _engine.MUTEX, 1, 1, ctx=ctx)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={_owner(self._semlock)})>"


@_engine.own_methods
class RLock(SemLock):
    """A lock that its owner, a thread of a process, may acquire again.

    ``acquire`` raises :class:`manycore.OwnerDied` if the process that holds it is dead.
    """

    def __init__(self, *, ctx: BaseContext) -> None:
        SemLock.__init__(self, RECURSIVE_MUTEX, 1, 1, ctx=ctx)

    def __repr__(self) -> str:
        semlock = self._semlock
        owner = _owner(semlock)
        count: int | str = 0 if owner == "None" else semlock._count() or "nonzero"
        if not semlock._is_mine() and owner != "None":
            count = "nonzero"
        return f"<{type(self).__name__}({owner}, {count})>"


#: The classes whose objects do what their semaphore does, and nothing else.
_PLAIN = frozenset((Lock, RLock, Semaphore, BoundedSemaphore))


def guard(guarded: _engine.Guarded, lock: Any) -> None:
    """Has ``guarded`` be acquired and released with ``lock``, whoever made that."""
    plain = type(lock) in _PLAIN
    guarded._guard_with(lock, lock._semlock if plain else None)
    if not plain:
        # It may want other arguments.
        vars(guarded).update(acquire=lock.acquire, release=lock.release)


def _owner(lock: _engine.SemLock) -> str:
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


@_engine.own_methods
class Condition(_engine.Condition):
    """A condition variable over a lock."""

    def __init__(self, lock: Any = None, *, ctx: BaseContext) -> None:
        self._make(lock or ctx.RLock())

    def _make(self, lock: Any, block: _engine.Block | None = None) -> None:
        guard(self, lock)
        self._wait_in(block)

    def __getstate__(self) -> tuple[Any, _engine.Block]:
        assert_shareable(self)
        return self._lock, self._block

    def __setstate__(self, state: tuple[Any, _engine.Block]) -> None:
        self._make(*state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {self._waiters()})>"

    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits to be notified, and takes the lock again.

        Returns False if ``timeout`` seconds have passed without a notification.
        """
        assert self._lock._semlock._is_mine(), "must acquire() condition before using wait()"
        self._enter()
        depth = self._lock._semlock._count()
        for _ in range(depth):
            self._lock.release()
        notified = False
        try:
            notified = self._sleep(timeout)
        except BaseException:
            self._retake(depth)
            if self._leave(False):
                # We were told but will not act on it: let another one.
                self._wake(1)
            raise
        self._retake(depth)
        return self._leave(notified)

    def _retake(self, depth: int) -> None:
        for _ in range(depth):
            self._lock.acquire()

    def notify(self, n: int = 1) -> None:
        """Wakes at most ``n`` of those who wait."""
        assert self._lock._semlock._is_mine(), "lock is not owned"
        self._wake(max(0, min(n, SEM_VALUE_MAX)))

    def notify_all(self) -> None:
        """Wakes all who wait."""
        self.notify(n=sys.maxsize)

    # The standard library counts in three semaphores, and its tests look into them.
    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiters)

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
