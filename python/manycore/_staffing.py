"""Workers that are started together, for pools and executors.

Whatever a process touches after it has forked is copied. So the forks of a pool come one right
after the other, in the engine, and all that Python does comes before the first or after the last.
A fork server gets all its requests at once and works on them while the parent goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.process import current_process

from . import _engine, popen_fork
from ._worker import Seat
from .context import ForkProcess, ForkServerProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Batch"]


class Batch:
    """Some workers, made and not yet started.

    Args:
        count: How many.
        make: Makes a process for a worker with this seat.
        enter: Takes note of one that has been started.
    """

    def __init__(
        self, count: int, make: Callable[[Seat], Any], enter: Callable[[Any], None]
    ) -> None:
        self._seats = [Seat() for _ in range(count)]
        self._processes = [make(seat) for seat in self._seats]
        self._enter = enter
        self._forks: popen_fork.Forks | None = None

    def prepare_forks(self) -> bool:
        """Makes everything ready for the forks; False if these are no workers to be forked."""
        # What may not start children is told so where each is started by itself.
        is_daemon = getattr(current_process(), "_config", {}).get("daemon")
        if is_daemon or not self._are_started_by(ForkProcess):
            return False
        self._forks = popen_fork.Forks(len(self._processes))
        return True

    def become(self, number: int, fds: tuple[int, ...]) -> NoReturn:
        """In a forked child: is this worker, to its end."""
        assert self._forks is not None
        self._seats[number].fds = fds
        self._forks.become(self._processes[number])

    def forked(self, children: list[_engine.Child]) -> list[_engine.Child | BaseException]:
        """Takes note of the children that were forked: of the first workers, if not of all."""
        assert self._forks is not None
        self._forks.end()
        pairs = zip(self._processes, children, strict=False)
        return [self._try_to_start(one, popen_fork.Popen.of(child)) for one, child in pairs]

    def start(self, seats: list[tuple[int, ...]]) -> list[_engine.Child | BaseException]:
        """Starts the workers, which have their seats by these descriptors.

        Returns what became of the first ones, up to an exception.
        """
        for seat, fds in zip(self._seats, seats, strict=True):
            seat.fds = fds
        popens: list[Any] = [None] * len(seats)
        if len(seats) > 1 and self._are_started_by(ForkServerProcess):
            from .popen_forkserver import Popen

            popens = Popen.launch_all(self._processes)
        started: list[_engine.Child | BaseException] = []
        for process, popen in zip(self._processes, popens, strict=False):
            started.append(self._try_to_start(process, popen))
            if isinstance(started[-1], BaseException):
                break
        return started

    def _are_started_by(self, kind: Any) -> bool:
        return all(getattr(type(one), "_Popen", None) is kind._Popen for one in self._processes)

    def _try_to_start(self, process: Any, popen: Any) -> _engine.Child | BaseException:
        if isinstance(popen, BaseException):
            return popen
        try:
            return self._start(process, popen)
        except BaseException as error:  # noqa: BLE001 - raised when the others have been noted
            started = popen or getattr(process, "_popen", None)
            if started is not None:
                started.kill()
                started.wait()
            return error

    def _start(self, process: Any, popen: Any) -> _engine.Child:
        """Starts a process, or has it believe that it starts what runs already."""
        names = vars(process)
        if popen is not None:
            names["_Popen"] = lambda _: popen
        try:
            process.start()
        finally:
            names.pop("_Popen", None)
            names.pop("_peer", None)
        self._enter(process)
        child: _engine.Child | None = getattr(process._popen, "_child", None)
        if child is None:
            raise TypeError(f"context: its processes are {type(process)}, not manycore's")
        return child
