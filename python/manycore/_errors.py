"""The exceptions that the standard library does not have."""

from __future__ import annotations

from multiprocessing.context import ProcessError

__all__ = ["OwnerDied", "RemoteError", "WorkerDied"]


class OwnerDied(ProcessError):  # noqa: N818 - it says what happened
    """The process that held the lock has died without releasing it."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        #: The dead process.
        self.pid = pid

    def __reduce__(self) -> tuple[type[OwnerDied], tuple[str, int | None]]:
        return type(self), (self.args[0], self.pid)


class WorkerDied(ProcessError):  # noqa: N818
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


class RemoteError(ProcessError):
    """A task raised an exception that could not be brought to the parent.

    The message has its type and text, ``__cause__`` the traceback in the worker.
    """
