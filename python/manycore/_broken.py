"""The exceptions that are a ``BrokenProcessPool``, too: loaded when the first one is needed."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ProcessError

__all__ = ["PoolBroken", "WorkerDied"]


class PoolBroken(ProcessError, BrokenProcessPool):  # noqa: N818 - it says what happened
    """The pool has failed or was terminated before the task had its outcome."""


class WorkerDied(ProcessError, BrokenProcessPool):  # noqa: N818
    """The worker that ran the task has died before the task's end."""

    def __init__(
        self,
        message: str,
        pid: int | None = None,
        exitcode: int | None = None,
        task: int | None = None,
    ) -> None:
        super().__init__(message)
        #: The dead worker.
        self.pid = pid
        #: Its exit code: the negative signal number if a signal has killed it.
        self.exitcode = exitcode
        #: The number of the task in its job.
        self.task = task

    def __reduce__(
        self,
    ) -> tuple[type[WorkerDied], tuple[str, int | None, int | None, int | None]]:
        return type(self), (self.args[0], self.pid, self.exitcode, self.task)
