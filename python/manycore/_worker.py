"""What a pool worker does besides the engine's part, and what crosses when a task raises."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import partial

from . import _engine, _peers, _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Seat", "call_chunk", "rebuild_exception", "work", "work_for_executor"]


class Seat:
    """The descriptors by which a worker finds its pool; picklable while its process starts."""

    def __init__(self, *fds: int) -> None:
        #: Known when the process is about to start.
        self.fds: tuple[int, ...] = fds

    def __reduce__(self) -> tuple[Callable[..., Seat], tuple[Any, ...]]:
        return _arrive, tuple(map(_stdlib.reduction.DupFd, self.fds))


def _arrive(*duplicates: Any) -> Seat:
    return Seat(*(duplicate.detach() for duplicate in duplicates))


def work(
    seat: Seat,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """Runs in the worker process until the pool sends it home."""
    _begin()
    if initializer is None:
        prepare: Callable[[], object] = _nothing
    else:
        prepare = _prepare(initializer, initargs)
    _engine.serve_pool(seat.fds, prepare, _report, _maybe_encoding_error)


def work_for_executor(
    seat: Seat,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """As `work`, with what ``concurrent.futures`` does when something raises."""
    _begin()
    if initializer is None:
        prepare: Callable[[], object] = _nothing
    else:
        prepare = partial(_initialize, _prepare(initializer, initargs))
    _engine.serve_pool(seat.fds, prepare, _report, _unsendable)


def _begin() -> None:
    _peers.become_worker()
    if (spawn := sys.modules.get(f"{__package__}.spawn")) is not None:
        # One that has come before the first task is the parent's business.
        spawn.take_interrupts()


def _prepare(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> Callable[[], object]:
    initializer, initargs, _ = _engine.hand_over(initializer, initargs, {})
    return partial(initializer, *initargs)


def _initialize(prepare: Callable[[], object]) -> None:
    try:
        prepare()
    except BaseException as error:
        import logging
        from concurrent.futures.process import BrokenProcessPool

        logger = logging.getLogger("concurrent.futures")
        logger.critical("Exception in initializer:", exc_info=True)
        raise BrokenProcessPool(f"the initializer of a worker raised {error!r}") from error


def _maybe_encoding_error(error: BaseException, result: object) -> BaseException:
    # Its module takes longer to import than all the rest of a worker's start.
    unsendable: BaseException = _stdlib.pool.MaybeEncodingError(error, result)
    return unsendable


def _unsendable(error: BaseException, result: object) -> BaseException:
    return error


def call_chunk(function: Callable[..., Any], chunk: tuple[tuple[Any, ...], ...]) -> list[Any]:
    """Some calls of an executor's ``map``."""
    function, _, _ = _engine.hand_over(function, (), {})
    return [function(*_engine.hand_over(function, args, {})[1]) for args in chunk]


def _nothing() -> None:
    pass


def _report(exception: BaseException) -> bytes:
    """What the parent gets for an exception: text in any case, the exception if it can travel."""
    import traceback

    lines = traceback.format_exception(exception)
    name = f"{type(exception).__module__}.{type(exception).__qualname__}"
    try:
        carried = _stdlib.pool.ExceptionWithTraceback(exception, exception.__traceback__)
        travelling = _peers.dumps(carried, _peers.parent or _peers.Peer())
    except Exception as error:  # noqa: BLE001 - the user's classes raise what they like
        travelling = None
        lines.append(f"(the exception itself could not be pickled: {error!r})\n")
    return pickle.dumps((name, _text(exception), "".join(lines), travelling))


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as error:  # noqa: BLE001 - the user's classes raise what they like
        return f"<no text: {error!r}>"


def rebuild_exception(report: tuple[str, str, str, bytes | None]) -> BaseException:
    """The exception that a worker reported, or a ``RemoteError`` that tells about it."""
    name, text, trace, travelling = report
    reason: BaseException | None = None
    if travelling is not None:
        try:
            exception = pickle.loads(travelling)
            if isinstance(exception, BaseException):
                return exception
        except BaseException as error:  # noqa: BLE001 - it becomes the reason below
            reason = error
    from ._errors import RemoteError

    message = f"{name}: {text}"
    if reason is not None:
        message += f" (the exception itself could not be unpickled: {reason!r})"
    stand_in = RemoteError(message)
    stand_in.__cause__ = _stdlib.pool.RemoteTraceback(trace)
    return stand_in
