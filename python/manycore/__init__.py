"""multiprocessing with a Rust engine: the names and behaviour of the standard library.

``import manycore as mp`` in place of ``import multiprocessing as mp``, or run an unchanged program
with ``python -m manycore program.py``.
"""

import importlib
import sys

# First of all: it decides what the other modules are.
from . import _choice as _choice  # isort: split

from . import _stdlib as _stdlib
from . import context as context
from . import process as process
from . import reduction as reducer
from . import reduction as reduction
from ._errors import OwnerDied, RemoteError
from ._install import install
from .context import AuthenticationError, BufferTooShort, Process, ProcessError, TimeoutError

# The module typing takes longer to import than most of what is here, so nothing that each process
# needs imports it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._broken import WorkerDied
    from ._shared import Shared, shared
del TYPE_CHECKING  # All public names are in __all__.

__version__ = _choice.version()
_context = context._default_context

# Every name of the API is an attribute of the default context.
Array = _context.Array
Barrier = _context.Barrier
BoundedSemaphore = _context.BoundedSemaphore
Condition = _context.Condition
Event = _context.Event
JoinableQueue = _context.JoinableQueue
Lock = _context.Lock
Manager = _context.Manager
Pipe = _context.Pipe
Pool = _context.Pool
Queue = _context.Queue
RLock = _context.RLock
RawArray = _context.RawArray
RawValue = _context.RawValue
Semaphore = _context.Semaphore
SimpleQueue = _context.SimpleQueue
Value = _context.Value
active_children = _context.active_children
allow_connection_pickling = _context.allow_connection_pickling
cpu_count = _context.cpu_count
current_process = _context.current_process
freeze_support = _context.freeze_support
get_all_start_methods = _context.get_all_start_methods
get_context = _context.get_context
get_logger = _context.get_logger
get_start_method = _context.get_start_method
log_to_stderr = _context.log_to_stderr
parent_process = _context.parent_process
set_executable = _context.set_executable
set_forkserver_preload = _context.set_forkserver_preload
set_start_method = _context.set_start_method

#: Submodules that are there without an import of their own once a program has used something.
_SUBMODULES = frozenset(
    (
        "connection",
        "dummy",
        "forkserver",
        "futures",
        "heap",
        "managers",
        "pool",
        "queues",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "sharedctypes",
        "spawn",
        "synchronize",
        "util",
    )
)

SUBDEBUG = 5
SUBWARNING = 25

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "OwnerDied",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "RemoteError",
    "Semaphore",
    "Shared",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "shared",
]

# Pickles made under spawn name the main module so; it has to resolve in the parent, too.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]


def __getattr__(name: str) -> "Any":
    # Its base is in concurrent.futures, which costs more to import than all of this package.
    if name == "WorkerDied":
        from ._broken import WorkerDied

        return WorkerDied
    if name in ("Shared", "shared"):
        module = "._shared" if _choice.HAS_ENGINE else "._without"
        return getattr(importlib.import_module(module, __name__), name)
    # In the standard library it depends on what was used before whether they are there.
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
