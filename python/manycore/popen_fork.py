"""Starts a process by fork, and what the other start methods have in common with that."""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from . import _engine, _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Self

__all__ = ["Popen"]

#: How long a child may go on, in milliseconds, after its parent has died.
GRACE_MS = 1000

# Until then `_bootstrap` itself ran what multiprocessing has to do at exit.
_EXITS_BY_ATEXIT = sys.version_info >= (3, 13)


class Popen:
    """A started process, as the parent's process object holds it."""

    method = "fork"
    pid: int
    #: A descriptor that is readable when the process has ended.
    sentinel: int
    #: Stands for a descriptor in what the child unpickles.
    DupFd: Any
    _child: _engine.Child | None

    def __init__(self, process_obj: BaseProcess) -> None:
        _stdlib.util._flush_std_streams()
        self._begin()
        self._launch(process_obj)

    @classmethod
    def of(cls, child: _engine.Child) -> Self:
        """What holds a process that has been started."""
        popen = cls.__new__(cls)
        popen._begin()
        popen._started(child)
        return popen

    def _begin(self) -> None:
        self.returncode: int | None = None
        self.finalizer = None
        self._child = None
        self._shared: dict[int, int] = {}

    def _launch(self, process_obj: BaseProcess) -> None:
        forks = Forks(1)
        try:
            child = _engine.fork()
        except BaseException:
            forks.end()
            raise
        if child is None:
            forks.become(process_obj)
        forks.end()
        self._started(child)

    def _started(self, child: _engine.Child) -> Self:
        self._child = child
        self.pid = child.pid
        self.sentinel = child.sentinel
        return self

    def duplicate_for_child(self, fd: int) -> int:
        """What the child will know descriptor ``fd`` by."""
        return fd

    def share_with_child(self, fd: int) -> int:
        """As ``duplicate_for_child``, but once for all who name the same descriptor."""
        if fd not in self._shared:
            self._shared[fd] = self.duplicate_for_child(fd)
        return self._shared[fd]

    def forget_shared(self) -> None:
        """What the child was to get is named anew."""
        self._shared.clear()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while the process runs."""
        if self.returncode is None and self._child is not None:
            self.returncode = self._child.wait(0 if flag == os.WNOHANG else None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for the end, at most ``timeout`` seconds, and returns the exit code or None."""
        if self.returncode is None and self._child is not None:
            self.returncode = self._child.wait(timeout)
        return self.returncode

    def _send_signal(self, signo: int) -> None:
        if self.returncode is None and self._child is not None:
            self._child.signal(signo)

    def interrupt(self) -> None:
        """Sends SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Closes the sentinel."""
        self._child = None


class Forks:
    """What is done before some forks that come one right after the other, and after them.

    ``end()`` ends it in the parent; in a child it is ``become()``.
    """

    def __init__(self, count: int) -> None:
        _stdlib.util._flush_std_streams()
        self._lifeline = _engine.lifeline()
        _finish_import()
        for _ in range(count):
            sys.audit("os.fork")
        # The child keeps the resource tracker; from Python 3.14 on that has to be asked for.
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        self._intent = getattr(tracker, "_fork_intent", None)
        if self._intent is not None:
            self._intent.preserve_fd = True

    def end(self) -> None:
        """There are no more forks."""
        if self._intent is not None:
            self._intent.preserve_fd = False

    def become(self, process_obj: BaseProcess) -> NoReturn:
        """Is this process, to its end."""
        self.end()
        _forget_imports()
        run_child(lambda: self._bootstrap(process_obj))

    def _bootstrap(self, process_obj: Any) -> int:
        parent_sentinel = os.dup(self._lifeline)
        _engine.watch_lifeline(self._lifeline, grace_ms(process_obj))
        exitcode: int = process_obj._bootstrap(parent_sentinel=parent_sentinel)
        return exitcode


def _finish_import() -> None:
    """Waits if another thread is just importing what the child will need whole."""
    name = f"{__package__}._by_value"
    if name in sys.modules:
        importlib.import_module(name)


def _forget_imports() -> None:
    """Ends the imports that other threads had under way, which do not go on in this process.

    Their locks would stay locked for ever. What there is of the modules is there to be used.
    """
    bootstrap: Any = importlib._bootstrap
    for name, reference in list(bootstrap._module_locks.items()):
        lock = reference()
        if lock is not None and lock.owner not in (None, threading.get_ident()):
            bootstrap._module_locks.pop(name, None)
            spec: Any = getattr(sys.modules.get(name), "__spec__", None)
            if spec is not None:
                spec._initializing = False


def grace_ms(process_obj: BaseProcess) -> int:
    """How long this child may outlive its parent, in milliseconds; pool workers may not at all."""
    grace: int = getattr(process_obj, "_grace_ms", GRACE_MS)
    return grace


def run_child(run: Callable[[], int]) -> NoReturn:
    """Runs a forked child to its end; the parent's frames below never go on in it."""
    code = 1
    try:
        if _EXITS_BY_ATEXIT:
            atexit._clear()
            atexit.register(_stdlib.util._exit_function)
        code = run()
    except Exception:  # noqa: BLE001 - this is where the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        if _EXITS_BY_ATEXIT:
            atexit._run_exitfuncs()
        _stdlib.util._flush_std_streams()
        os._exit(code)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("popen_fork")
