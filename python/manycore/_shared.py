"""Objects in memory that all processes share."""

from __future__ import annotations

import os
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any, TypeVar

from . import _engine, _peers
from ._block import receive, share
from ._engine import Shared

__all__ = ["Shared", "shared"]

_T = TypeVar("_T")


def shared(obj: _T) -> Shared[_T]:
    """Puts ``obj`` where all processes have it, without a copy for each.

    ``obj`` is pickled once, here. Its large buffers, those of NumPy arrays for example, lie in
    anonymous shared memory from then on, which is freed with its last user. What comes back stands
    for the object::

        table = manycore.shared(numpy.arange(1_000_000))
        pool.map(partial(look_up, table), keys)  # look_up gets the array
        table.get()  # the array, here

    As an argument of a task, of an initializer or of a process, also of a ``functools.partial``, it
    arrives as the object itself. Anywhere else, in a list or a global variable, it stays what it
    is, and :meth:`Shared.get` gives the object. A process makes the object once, however many tasks
    come with it.

    The object can be written to, as any argument. What a process writes is its own: the memory that
    all share never changes. The tasks of one worker see the same object.

    Raises:
        TypeError: ``obj`` has locks, queues or the like in it.
        MemoryError: There is not enough memory.
    """
    # What a script's children have by name under every start method goes by name.
    return _engine.share(obj, _peers.for_children("spawn"))


def _reduce_shared(shared: Shared[Any]) -> tuple[Any, ...]:
    """Pickles it for a process that is being started, a queue or a connection."""
    if get_spawning_popen() is None:
        # As with a connection: the receiver fetches the descriptor from this process.
        return _fetch_shared, (DupFd(shared.fileno()),)
    return _rebuild_shared, (share(shared.fileno()),)


def _rebuild_shared(descriptor: Any) -> Shared[Any]:
    return Shared.attach(receive(descriptor))


def _fetch_shared(descriptor: Any) -> Shared[Any]:
    fd: int = descriptor.detach()
    try:
        return Shared.attach(fd)
    finally:
        os.close(fd)


ForkingPickler.register(Shared, _reduce_shared)
