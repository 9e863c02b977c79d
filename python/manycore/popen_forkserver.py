"""Starts a process as a fork of the fork server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess

from . import _engine, _stdlib, forkserver, popen_fork, popen_spawn_posix

TYPE_CHECKING = False

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

    def _begin(self) -> None:
        super()._begin()
        self._fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        """What the child will know descriptor ``fd`` by."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def forget_shared(self) -> None:
        """What the child was to get is named anew."""
        super().forget_shared()
        self._fds.clear()

    def _launch(self, process_obj: BaseProcess) -> None:
        with self._request(process_obj) as (request, fds):
            self._started(forkserver.fork(request, fds))

    @contextmanager
    def _request(self, process_obj: BaseProcess) -> Iterator[forkserver._Order]:
        """What the server has to be asked for this process, with descriptors open meanwhile."""
        data = popen_spawn_posix.pickle_for_child(self, process_obj)
        try:
            tracker = popen_spawn_posix.tracker_fd()
            request = forkserver.Request(popen_fork.grace_ms(process_obj), tracker is not None)
            fds = [data, _engine.lifeline(), *([] if tracker is None else [tracker]), *self._fds]
            yield request, fds
        finally:
            os.close(data)

    @classmethod
    def launch_all(cls, processes: list[BaseProcess]) -> list[Popen | BaseException]:
        """Starts some processes with one wait for all.

        Returns what became of the first ones: after an exception nothing more follows.
        """
        _stdlib.util._flush_std_streams()
        popens: list[Popen] = []
        with ExitStack() as open_until_sent:
            orders = []
            for process_obj in processes:
                popen = cls.__new__(cls)
                popen._begin()
                orders.append(open_until_sent.enter_context(popen._request(process_obj)))
                popens.append(popen)
            children = forkserver.fork_all(orders)
        return [
            child if isinstance(child, BaseException) else popen._started(child)
            for popen, child in zip(popens, children, strict=False)
        ]


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("popen_forkserver")
