"""Shared memory for one object, and how shared objects get to another process.

There are two ways: to a process that is being started, and with a message of a pool. Objects ask
:func:`assert_shareable` before they let themselves be pickled. What they consist of in the end are
blocks, queues and descriptors; those are pickled by :class:`MessageReducers` for a message, and by
the functions here for a process. So a pickle that somebody makes in the middle of either, for
something else, is refused as anywhere else.
"""

from __future__ import annotations

import copyreg
import importlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.context import assert_spawning, get_spawning_popen
from multiprocessing.reduction import (  # type: ignore[attr-defined]
    DupFd,
    ForkingPickler,
    _reduce_socket,
)
from types import FunctionType

from . import _engine
from .popen_fork import Popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BufferWrapper", "MessageReducers", "Reducers", "assert_shareable", "close_inherited"]

# Several blocks lie in one segment, so one descriptor serves them all until the process has
# its objects.
_inherited: set[int] = set()


class BufferWrapper:
    """Zeroed shared memory of ``size`` bytes, as the standard library's ``heap`` hands it out."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"Size {size} out of range")
        self._size = size
        self._block = _engine.Block(max(size, 1))

    def create_memoryview(self) -> memoryview:
        """The memory, writable; it lives as long as a view of it."""
        return memoryview(self._block)[: self._size]

    def __getstate__(self) -> tuple[int, _engine.Block]:
        assert_shareable(self)
        return self._size, self._block

    def __setstate__(self, state: tuple[int, _engine.Block]) -> None:
        self._size, self._block = state


def assert_shareable(obj: object) -> None:
    """RuntimeError unless this thread starts a process or pickles a message of a pool."""
    if not _engine.is_pickling_message():
        assert_spawning(obj)


def close_inherited() -> None:
    """Closes the descriptors that brought the blocks here; the blocks stay."""
    while _inherited:
        os.close(_inherited.pop())


def share(fd: int) -> Any:
    """Something picklable that stands for a descriptor which several objects may name."""
    popen: Any = get_spawning_popen()
    if isinstance(popen, Popen):
        return popen.DupFd(popen.share_with_child(fd))
    # The standard library's own, which takes each descriptor once.
    shared: dict[int, Any] = vars(popen).setdefault("_manycore_shared", {})
    if fd not in shared:
        shared[fd] = DupFd(fd)
    return shared[fd]


def receive(shared: Any) -> int:
    """The descriptor behind what :func:`share` made; it is closed by :func:`close_inherited`."""
    fd: int = shared.detach()
    _inherited.add(fd)
    return fd


def reduce_block(block: _engine.Block) -> tuple[Any, ...]:
    """Pickles a block for a process that is being started."""
    assert_spawning(block)
    fd, offset, size = block.share()
    return _rebuild_block, (share(fd), offset, size)


def _rebuild_block(shared: Any, offset: int, size: int) -> _engine.Block:
    return _engine.Block.attach(receive(shared), offset, size)


def reduce_queue(queue: _engine.Queue) -> tuple[Any, ...]:
    """Pickles a queue for a process that is being started."""
    assert_spawning(queue)
    return _rebuild_queue, tuple(map(share, queue.share()))


def _rebuild_queue(*parts: Any) -> _engine.Queue:
    segment, log, lamp = map(receive, parts)
    return _engine.Queue.attach(segment, log, lamp)


#: Takes the place of a reducer in messages: called with the message's sink and the object.
if TYPE_CHECKING:
    _MessageReducer = Callable[[_engine.Sink, Any], Any]

_instead: dict[Callable[[Any], Any], _MessageReducer] = {}
_of_subclasses: list[tuple[type, _MessageReducer]] = []


def in_messages(reducer: Callable[[Any], Any], message_reducer: _MessageReducer) -> None:
    """Has ``message_reducer`` called in messages where ``reducer`` would be elsewhere."""
    _instead[reducer] = message_reducer


def subclasses_in_messages(cls: type, message_reducer: _MessageReducer) -> None:
    """Has ``message_reducer`` called in messages for ``cls`` and all that inherit its pickling."""
    _of_subclasses.append((cls, message_reducer))


# Modules of the standard library whose objects ours make fit for messages.
_COUNTERPARTS = ("connection", "sharedctypes")
_modules_seen = 0


def _load_counterparts() -> None:
    """Loads ours where only the original is there.

    A value that came here with the process is an object of the original.
    """
    global _modules_seen
    if len(sys.modules) == _modules_seen:
        return
    for name in _COUNTERPARTS:
        if f"multiprocessing.{name}" in sys.modules:
            importlib.import_module(f"{__package__}.{name}")
    _modules_seen = len(sys.modules)


class Reducers(dict[type, "Callable[[Any], Any]"]):
    """The ``dispatch_table`` of ``ForkingPickler``, whatever will be registered later."""

    def __missing__(self, cls: type) -> Callable[[Any], Any]:
        extra: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        reducer: Callable[[Any], Any] = extra.get(cls) or copyreg.dispatch_table[cls]
        return reducer


def _reduce_of(cls: Any) -> Any:
    return cls.__reduce__


class MessageReducers(dict[type, "Callable[[Any], Any]"]):
    """How the engine pickles for one of its sinks: a pickler's ``dispatch_table``.

    It is that of ``ForkingPickler``, so what is registered there counts, but for what shares.
    What neither knows comes from ``rest``.
    """

    def __init__(
        self, sink: _engine.Sink, rest: Mapping[type, Any] = copyreg.dispatch_table
    ) -> None:
        self._sink = sink
        self._rest = rest
        self[_engine.Block] = partial(_block_in_message, sink)
        self[_engine.Queue] = partial(_queue_in_message, sink)
        self[_engine.Shared] = partial(_shared_in_message, sink)

    def __missing__(self, cls: type) -> Callable[[Any], Any]:
        _load_counterparts()
        for base, message_reducer in _of_subclasses:
            if issubclass(cls, base) and _reduce_of(cls) is _reduce_of(base):
                return partial(message_reducer, self._sink)
        extra: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        reducer: Callable[[Any], Any] = extra.get(cls) or self._rest[cls]
        if type(reducer) is FunctionType and reducer in _instead:
            return partial(_instead[reducer], self._sink)
        return reducer


def _block_in_message(sink: _engine.Sink, block: _engine.Block) -> tuple[Any, ...]:
    return _engine.received_block, _engine.send_block(sink, block)


def _queue_in_message(sink: _engine.Sink, queue: _engine.Queue) -> tuple[Any, ...]:
    return _engine.received_queue, _engine.send_queue(sink, queue)


def _shared_in_message(sink: _engine.Sink, shared: _engine.Shared[Any]) -> tuple[Any, ...]:
    return _engine.received_shared, (_engine.send_shared(sink, shared),)


def _socket_in_message(sink: _engine.Sink, sock: socket.socket) -> tuple[Any, ...]:
    fd = _engine.send_fd(sink, sock.fileno())
    return _received_socket, (fd, sock.family, sock.type, sock.proto)


def _received_socket(fd: int, family: int, kind: int, proto: int) -> socket.socket:
    return socket.socket(family, kind, proto, fileno=_engine.received_fd(fd))


in_messages(_reduce_socket, _socket_in_message)
