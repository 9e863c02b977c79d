"""Starts a process as a fork of the fork server."""

from __future__ import annotations

import os
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from . import _engine, _stdlib, forkserver, popen_fork, popen_spawn_posix

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that travels to the child over the fork server's socket."""

    def __init__(self, ind: int) -> None:
        self.ind = ind

    def detach(self) -> int:
        """The descriptor, in the child."""
        fds = forkserver.get_inherited_fds()
        assert fds is not None, "not in a child of the fork server"
        return fds[self.ind]


class Popen(popen_fork.Popen):
    """A process started by ``forkserver``."""

    method = "forkserver"
    DupFd = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """What the child will know descriptor ``fd`` by."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def forget_shared(self) -> None:
        """What the child was to get is named anew."""
        super().forget_shared()
        self._fds.clear()

    def _launch(self, process_obj: BaseProcess) -> None:
        data = popen_spawn_posix.pickle_for_child(self, process_obj)
        try:
            tracker = popen_spawn_posix.tracker_fd()
            request = forkserver.Request(popen_fork.grace_ms(process_obj), tracker is not None)
            fds = [data, _engine.lifeline(), *([] if tracker is None else [tracker]), *self._fds]
            self._started(forkserver.fork(request, fds))
        finally:
            os.close(data)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("popen_forkserver")
