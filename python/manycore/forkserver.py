"""The fork server: a clean process that has Python loaded and forks on request."""

from __future__ import annotations

import importlib
import os
import struct
import sys
import threading
import warnings
from multiprocessing.process import current_process

from . import _engine, _main, _stdlib, popen_fork, popen_spawn_posix, spawn
from .context import ON_ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from .context import OnError

    #: A request with its descriptors.
    _Order: TypeAlias = tuple["Request", list[int]]

__all__ = [
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
]

# What one message on a socket may carry, less those that we add.
_MAX_FDS = 250

#: What the children would otherwise import one by one: that of a process, and of a pool's worker.
_NEEDED = (".popen_forkserver", "._worker")

_REQUEST = struct.Struct("=q?")


class Request:
    """What the server has to know beyond the descriptors: data, lifeline, [tracker], others."""

    def __init__(self, grace_ms: int, has_tracker: bool) -> None:
        self.grace_ms = grace_ms
        self.has_tracker = has_tracker

    def pack(self) -> bytes:
        """The request as bytes."""
        return _REQUEST.pack(self.grace_ms, self.has_tracker)

    @classmethod
    def unpack(cls, data: bytes) -> Request:
        """The request from its bytes."""
        return cls(*_REQUEST.unpack(data))


class ForkServer:
    """The process's handle of its fork server, which is started when it is first needed."""

    def __init__(self) -> None:
        self._preload_modules = ["__main__"]
        self._preload_on_error: OnError = "ignore"
        self._inherited_fds: list[int] | None = None
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._server: _engine.ForkServer | None = None

    @property
    def _forkserver_pid(self) -> int | None:
        return None if self._server is None else self._server.pid

    def set_forkserver_preload(
        self, modules_names: list[str], *, on_error: OnError = "ignore"
    ) -> None:
        """Names the modules that the server imports before it forks.

        ``on_error`` says what an import that fails does: nothing, an ``ImportWarning``, or the end
        of the server, which then says why on stderr.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors that came with the fork, or None if no fork server has forked us."""
        return self._inherited_fds

    def connect_to_new_process(self, fds: list[int]) -> tuple[int, int]:
        """Not available: the engine's fork server does not speak over a pair of pipes."""
        raise NotImplementedError(
            "forkserver.connect_to_new_process is not part of manycore; use a context's Process"
        )

    def ensure_running(self) -> None:
        """Starts the server unless it runs."""
        with self._lock:
            self._running()

    def fork(self, request: Request, fds: list[int]) -> _engine.Child:
        """A new process that runs what ``fds`` describe."""
        (child,) = self.fork_all([(request, fds)])
        if isinstance(child, BaseException):
            raise child
        return child

    def fork_all(self, orders: list[_Order]) -> list[_engine.Child | BaseException]:
        """A new process for each order. What became of the first ones, up to an exception."""
        if any(len(fds) >= _MAX_FDS for _, fds in orders):
            return [ValueError("too many fds")]
        asked = [(request.pack(), fds) for request, fds in orders]
        with self._lock:
            server = self._running()
            forked = server.fork_all(asked)
            if not isinstance(forked[-1], BrokenPipeError):
                return forked
            # It died under our hands. Take its exit code, so that it does not stay a zombie; the
            # next one may have a longer life.
            server.stop()
            done = forked[:-1]
            return [*done, *self._fork_in_a_new_one(asked[len(done) :])]

    def _fork_in_a_new_one(
        self, asked: list[tuple[bytes, list[int]]]
    ) -> list[_engine.Child | BaseException]:
        forked = self._running().fork_all(asked)
        error = forked[-1]
        may_be_told = self._preload_modules and self._preload_on_error == "fail"
        if isinstance(error, BrokenPipeError) and may_be_told:
            error.add_note(
                "Forkserver process may have crashed during module preloading. Check stderr."
            )
        return forked

    def _running(self) -> _engine.ForkServer:
        if self._server is None or not self._server.is_alive():
            self._server = self._start()
        return self._server

    def _start(self) -> _engine.ForkServer:
        data = popen_spawn_posix.anonymous_file(self._preparation())
        try:
            call = f"main; main({data}, {_engine.lifeline()})"
            command = [*spawn.interpreter(), "-c", spawn.program("manycore.forkserver", call)]
            # The engine adds the number of the control socket.
            return _engine.ForkServer([os.fsdecode(word) for word in command], [data])
        finally:
            os.close(data)

    def _preparation(self) -> bytes:
        preparation = spawn.get_preparation_data("forkserver")
        modules = self._preload_modules
        if _main.stays_behind("forkserver"):
            # The server would run it for all its children.
            spawn.leave_main_behind(preparation)
            modules = [*modules, "manycore._by_value"]
        for private in ("main_stays_behind", "authkey", "name", "log_to_stderr", "log_level"):
            preparation.pop(private, None)
        dumps = _stdlib.reduction.pickle.dumps
        what = (modules, preparation, self._preload_on_error)
        pickled: bytes = dumps(what)
        return pickled

    def _stop(self) -> None:
        with self._lock:
            if self._server is not None:
                self._server.stop()
                self._server = None


def main(data_fd: int, lifeline_fd: int) -> None:
    """Runs the server until its parent closes the control socket or dies."""
    control_fd = int(sys.argv[1])
    _engine.watch_lifeline(lifeline_fd, 0)
    os.close(lifeline_fd)
    with open(data_fd, "rb", closefd=True) as file:
        what = _stdlib.reduction.pickle.load(file)
    _preload(*what)
    for name in _NEEDED:
        importlib.import_module(name, __package__)
    _stdlib.util._close_stdin()
    _stdlib.util._flush_std_streams()
    served = _engine.serve(control_fd)
    if served is not None:
        popen_fork.run_child(lambda: _serve_one(*served))


def _preload(modules: list[str], preparation: dict[str, Any], on_error: OnError) -> None:
    if not modules:
        return
    if "__main__" not in modules:
        preparation = {k: v for k, v in preparation.items() if not k.startswith("init_main")}
    current = current_process()
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(preparation)
    except Exception as error:  # noqa: BLE001 - whatever the main module raises
        path = preparation.get("init_main_from_path")
        _import_failed(on_error, f"__main__ from {path!r}" if path else "__main__", error)
        # The child imports the main module again and fails where its output can be seen.
        sys.modules["__main__"] = (spawn.old_main_modules or [sys.modules["__main__"]])[-1]
    finally:
        del current._inheriting  # type: ignore[attr-defined]
    for name in modules:
        try:
            __import__(name)
        except ImportError as error:
            _import_failed(on_error, f"module {name!r}", error)


def _import_failed(on_error: OnError, what: str, error: Exception) -> None:
    if on_error == "fail":
        raise error
    if on_error == "warn":
        warnings.warn(f"Failed to preload {what}: {error}", ImportWarning, stacklevel=3)


def _serve_one(message: bytes, fds: list[int]) -> int:
    request = Request.unpack(message)
    data_fd, lifeline_fd, *others = fds
    tracker_fd = others.pop(0) if request.has_tracker else None
    _forkserver._inherited_fds = others
    return spawn.run(data_fd, lifeline_fd, request.grace_ms, tracker_fd)


_forkserver = ForkServer()
os.register_at_fork(after_in_child=_forkserver._reset)

ensure_running = _forkserver.ensure_running
fork = _forkserver.fork
fork_all = _forkserver.fork_all
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload

if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("forkserver")
