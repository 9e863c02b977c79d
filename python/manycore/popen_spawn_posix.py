"""Starts a process in a fresh interpreter."""

from __future__ import annotations

import io
import os
import sys
from multiprocessing.context import set_spawning_popen
from multiprocessing.process import BaseProcess

from . import _engine, _peers, _stdlib, popen_fork, spawn

TYPE_CHECKING = False

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that the child has open under the same number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        """The descriptor, in the child."""
        return self.fd


class Popen(popen_fork.Popen):
    """A process started by ``spawn``."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """What the child will know descriptor ``fd`` by."""
        self._fds.append(fd)
        return fd

    def forget_shared(self) -> None:
        """What the child was to get is named anew."""
        super().forget_shared()
        self._fds.clear()

    def _launch(self, process_obj: BaseProcess) -> None:
        data = pickle_for_child(self, process_obj)
        try:
            arguments = {
                "data_fd": data,
                "lifeline_fd": _engine.lifeline(),
                "grace_ms": popen_fork.grace_ms(process_obj),
                "tracker_fd": tracker_fd(),
            }
            self._fds += [fd for name, fd in arguments.items() if name.endswith("_fd") and fd]
            command = spawn.get_command_line(**arguments)
            self._started(_engine.spawn([os.fsdecode(word) for word in command], self._fds))
        finally:
            os.close(data)


def pickle_for_child(popen: popen_fork.Popen, process_obj: BaseProcess) -> int:
    """What the child has to know, in an anonymous file; returns its descriptor.

    A file takes any amount at once: there is no pipe to fill up before the child reads.
    """
    preparation = spawn.get_preparation_data(process_obj._name)  # type: ignore[attr-defined]
    # A pool's workers are all alike, also those that its own thread starts.
    peer = vars(process_obj).pop("_peer", None) or _peers.for_children(popen.method)
    if peer.by_value:
        spawn.leave_main_behind(preparation)
    if popen.method == "forkserver":
        # The server has the environment of its own start.
        preparation["environ"] = dict(os.environb)
    set_spawning_popen(popen)  # type: ignore[arg-type]
    try:
        _stdlib.reduction.dump(preparation, prepared := io.BytesIO())
        pickled = _peers.dumps(process_obj, peer, popen.forget_shared)
    finally:
        set_spawning_popen(None)
    return anonymous_file(prepared.getvalue(), pickled)


def anonymous_file(*parts: bytes) -> int:
    """A descriptor from which the parts can be read, one after the other."""
    fd = os.memfd_create("manycore-process")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.writelines(parts)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def tracker_fd() -> int | None:
    """The standard library's resource tracker, if anything here may have to do with it.

    It then has to be the same one in all processes: a child's own tracker would remove at the
    child's end what the parent still uses.
    """
    if "multiprocessing.shared_memory" in sys.modules:
        fd: int = _stdlib.resource_tracker.getfd()
        return fd
    if "multiprocessing.resource_tracker" in sys.modules:
        return _stdlib.resource_tracker._resource_tracker._fd  # type: ignore[no-any-return]
    return None


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("popen_spawn_posix")
