"""The exceptions that the standard library does not have."""

from __future__ import annotations

from multiprocessing.context import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._broken import WorkerDied as WorkerDied

__all__ = ["OwnerDied", "RemoteError", "WorkerDied"]


class OwnerDied(ProcessError):  # noqa: N818 - it says what happened
    """The process that held the lock has died without releasing it."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        #: The dead process.
        self.pid = pid

    def __reduce__(self) -> tuple[type[OwnerDied], tuple[str, int | None]]:
        return type(self), (self.args[0], self.pid)


class RemoteError(ProcessError):
    """A task raised an exception that could not be brought to the parent.

    The message has its type and text, ``__cause__`` the traceback in the worker.
    """


def __getattr__(name: str) -> Any:
    # Its base is in concurrent.futures, which costs more to import than all of this package.
    if name == "WorkerDied":
        from ._broken import WorkerDied

        return WorkerDied
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
