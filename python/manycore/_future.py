"""The future of a call in a worker process."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import _base
from concurrent.futures._base import CANCELLED, PENDING, RUNNING
from concurrent.futures.process import _RemoteTraceback
from typing import Any

from . import _engine, _stdlib

__all__ = ["Future"]

# It overrides attributes by properties, which the stubs do not foresee.
_Base: Any = _base.Future
_remote: Any = _RemoteTraceback


class Future(_Base):  # type: ignore[misc]
    """A ``concurrent.futures.Future`` that has its outcome from the engine when somebody looks.

    The thread that waits in :meth:`result` takes in results itself, and settles the future. For
    those who wait otherwise, by a callback or in ``wait`` and ``as_completed``, the pool's own
    thread settles it: the future is *armed*. A future at which nobody looks costs nothing.

    Whoever holds the condition, as ``wait`` does with those of many futures, has to see one state.
    So a look comes before the condition is taken, and the state stays while it is held.
    """

    def __init__(self, job: _engine.Job) -> None:
        #: What the outcome is to come from; None once somebody is about to settle the future.
        self._job: _engine.Job | None = None
        self._armed = False
        super().__init__()
        self._job = job

    @property
    def _condition(self) -> threading.Condition:
        self._look()
        return self._lock

    @_condition.setter
    def _condition(self, condition: threading.Condition) -> None:
        self._lock = condition

    @property
    def _state(self) -> str:
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._look()
        job = self._job
        if job is None:
            return self._mark
        return RUNNING if job.is_sent() else PENDING

    @_state.setter
    def _state(self, state: str) -> None:
        self._mark = state
        if state not in (PENDING, RUNNING):
            self._job = None

    @property
    def _waiters(self) -> list[Any] | _Waiters:
        return self._known if self._job is None else _Waiters(self, self._known)

    @_waiters.setter
    def _waiters(self, waiters: list[Any]) -> None:
        self._known = waiters

    def cancel(self) -> bool:
        """Cancels the call if no worker has it; whether it is cancelled."""
        job = self._job
        if job is not None and (job.cancel() or job.is_cancelled()):
            self._settle()
        return self.cancelled()  # type: ignore[no-any-return]

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Has ``fn(self)`` called when the future is done: now, or by the pool's own thread."""
        self._arm()
        super().add_done_callback(fn)

    def result(self, timeout: float | None = None) -> Any:
        """Returns the result of the call, or raises its exception.

        Raises:
            CancelledError: The future was cancelled.
            TimeoutError: The call had not ended within ``timeout`` seconds.
            BrokenProcessPool: The worker died, or the pool was ended.
        """
        try:
            return super().result(self._attend(timeout))
        finally:
            # Or the exception's traceback would lead back to it.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Returns the exception of the call, or None if it returned.

        Raises:
            CancelledError: The future was cancelled.
            TimeoutError: The call had not ended within ``timeout`` seconds.
        """
        return super().exception(self._attend(timeout))  # type: ignore[no-any-return]

    def _look(self) -> None:
        """Settles the future if its outcome is there."""
        job = self._job
        if job is not None and job.ready():
            self._settle()

    def _attend(self, timeout: float | None) -> float | None:
        """Waits for the job; how long it may take from here to see the future done."""
        job = self._job
        if job is None:
            return timeout
        if not job.wait(timeout):
            return 0
        # Another thread may be about to do this.
        self._settle()
        return None

    def _arm(self) -> None:
        """Has the pool's thread settle the future, or does it now if the outcome is there."""
        job = self._job
        if job is None or self._armed:
            return
        if job.on_complete(self._settle):
            self._armed = True
        else:
            self._settle()

    def _settle(self) -> None:
        """Takes the outcome over from the job, which has one."""
        job = self._job
        if job is None:
            return
        cancelled = job.is_cancelled()
        result, error = (None, None) if cancelled else _outcome(job)
        # A callback that raises has its traceback logged, and that has this frame.
        del job
        claimed = False
        try:
            with self._lock:
                if self._job is None:
                    return
                # Between these lines no signal is looked at.
                self._job = None
                claimed = True
                # Nobody may cancel it from here on.
                self._mark = CANCELLED if cancelled else RUNNING
            self._publish(cancelled, result, error)
        except BaseException:
            # A signal, or a callback. Nobody else would settle it.
            if claimed and self._mark in (CANCELLED, RUNNING):
                self._publish(cancelled, result, error)
            raise
        finally:
            del result, error

    def _publish(self, cancelled: bool, result: Any, error: BaseException | None) -> None:
        if cancelled:
            self._notify_cancel()
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(result)

    def _notify_cancel(self) -> None:
        with self._lock:
            self.set_running_or_notify_cancel()
            self._lock.notify_all()
        self._invoke_callbacks()


class _Waiters:
    """The waiters of a future that may be unsettled. Who puts one here has it armed."""

    def __init__(self, future: Future, waiters: list[Any]) -> None:
        self._future = future
        self._list = waiters

    def append(self, waiter: Any) -> None:
        self._list.append(waiter)
        # It may have got its outcome since it was looked at: then the waiter is told now.
        self._future._arm()

    def remove(self, waiter: Any) -> None:
        self._list.remove(waiter)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._list)


def _outcome(job: _engine.Job) -> tuple[Any, BaseException | None]:
    try:
        return job.value(), None
    except BaseException as error:
        if not job.has_raised(error):
            # A signal's: the outcome is still there.
            raise
        _explain(error)
        # The frames of this thread are nobody's business, and would keep the future alive.
        return None, error.with_traceback(None)


def _explain(error: BaseException) -> None:
    """Makes the cause of an exception what ``concurrent.futures`` would make it."""
    cause = error.__cause__
    here = error.__traceback__
    if isinstance(cause, _stdlib.pool.RemoteTraceback):
        error.__cause__ = _remote(cause.tb)
    elif cause is None and here is not None and here.tb_next is not None:
        # It was raised in this process, by something that was pickled or unpickled.
        lines = traceback.format_exception(type(error), error, here.tb_next)
        error.__cause__ = _remote('\n"""\n{}"""'.format("".join(lines)))
