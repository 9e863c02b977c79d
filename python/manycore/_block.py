"""Shared memory for one object, and how it gets to another process."""

from __future__ import annotations

import os
from multiprocessing.context import assert_spawning, get_spawning_popen
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any

from . import _engine
from .popen_fork import Popen

__all__ = ["BufferWrapper", "close_inherited"]

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
        assert_spawning(self)
        return self._size, self._block

    def __setstate__(self, state: tuple[int, _engine.Block]) -> None:
        self._size, self._block = state


def close_inherited() -> None:
    """Closes the descriptors that brought the blocks here; the blocks stay."""
    while _inherited:
        os.close(_inherited.pop())


def share(fd: int) -> Any:
    """Something picklable that stands for a descriptor which several objects may name."""
    popen = get_spawning_popen()
    if isinstance(popen, Popen):
        return popen.DupFd(popen.share_with_child(fd))
    return DupFd(fd)


def receive(shared: Any) -> int:
    """The descriptor behind what :func:`share` made; it is closed by :func:`close_inherited`."""
    fd: int = shared.detach()
    _inherited.add(fd)
    return fd


def _reduce_block(block: _engine.Block) -> tuple[Any, ...]:
    assert_spawning(block)
    fd, offset, size = block.share()
    return _rebuild_block, (share(fd), offset, size)


def _rebuild_block(shared: Any, offset: int, size: int) -> _engine.Block:
    return _engine.Block.attach(receive(shared), offset, size)


ForkingPickler.register(_engine.Block, _reduce_block)
