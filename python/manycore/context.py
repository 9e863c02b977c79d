"""Contexts: the whole API, bound to one start method."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BaseContext as BaseContext
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.context import assert_spawning as assert_spawning
from multiprocessing.context import get_spawning_popen as get_spawning_popen
from multiprocessing.context import set_spawning_popen as set_spawning_popen
from multiprocessing.process import BaseProcess

from . import _engine, _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from _ctypes import _CData, _SimpleCData
    from logging import Logger
    from typing import Any, Literal, TypeAlias, TypeVar, overload

    from . import managers, pool, queues, synchronize
    from .connection import Connection
    from .sharedctypes import Synchronized, SynchronizedArray, SynchronizedString

    _CT = TypeVar("_CT", bound=_CData)
    # A lock of ours, or any object with its methods.
    _LockLike: TypeAlias = synchronize.Lock | synchronize.RLock
    _T = TypeVar("_T")
    #: What an import that fails in the fork server does.
    OnError: TypeAlias = Literal["ignore", "warn", "fail"]
else:

    def overload(function):
        """Nothing: the real one would need the module typing."""
        return function


__all__ = ()

#: The values of ``OnError``.
ON_ERROR = ("ignore", "warn", "fail")

process = _stdlib.process
reduction = _stdlib.reduction


class _Process(BaseProcess):
    """What our processes add to the standard library's: the child's start method is ours, too."""

    _start_method: str | None = None
    _target: Any
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        if self._start_method is not None:
            _force_start_method(self._start_method)
        called = self._target, self._args, self._kwargs
        self._target, self._args, self._kwargs = _engine.hand_over(*called)
        exitcode: int = super()._bootstrap(parent_sentinel)  # type: ignore[misc]
        return exitcode


class Process(_Process):
    """A process that is started by the default start method."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        return _default_process()._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _default_process()._after_fork()


def _default_process() -> Any:
    return _default_context.get_context().Process


class ForkProcess(_Process):
    """A process that begins as a copy of this one."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(_Process):
    """A process that begins as a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        pass


class ForkServerProcess(_Process):
    """A process that begins as a copy of the fork server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        from .popen_forkserver import Popen

        return Popen(process_obj)


# The factories' return types are ours, which the base class does not foresee.
_Base: Any = BaseContext


class _Context(_Base):  # type: ignore[misc]
    """The factories, over our own classes."""

    Process: type[_Process]
    _name: str

    if TYPE_CHECKING:  # what the base class has
        reducer: Any

        def cpu_count(self) -> int: ...
        def get_start_method(self, allow_none: bool = False) -> Any: ...
        def set_start_method(self, method: str | None, force: bool = False) -> None: ...
        @staticmethod
        def current_process() -> BaseProcess: ...
        @staticmethod
        def parent_process() -> BaseProcess | None: ...
        @staticmethod
        def active_children() -> list[BaseProcess]: ...

    @overload
    def get_context(self, method: None = None) -> _Context: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str | None) -> _Context: ...
    def get_context(self, method: str | None = None) -> _Context:
        """The context with this start method; without a method, this one.

        For the default context that is the one with the default start method, which this settles.

        Raises:
            ValueError: There is no such start method.
        """
        if method is None:
            return self._concrete()
        try:
            return _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None

    def _concrete(self) -> _Context:
        return self

    def Manager(self) -> managers.SyncManager:
        """A started manager: a server process whose objects other processes share by proxies."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> tuple[Connection, Connection]:
        """Two connections that are each other's end."""
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self) -> synchronize.Lock:
        """A lock that is not recursive."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:
        """A lock that its owner may acquire again."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """A condition variable over ``lock``, or over an RLock of its own."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """A semaphore that begins at ``value``."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """A semaphore that begins at ``value`` and cannot rise above it."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:
        """A flag that is not set."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> synchronize.Barrier:
        """A barrier for ``parties`` processes; one of them calls ``action`` when all are there."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]:
        """A queue of at most ``maxsize`` objects, or of any number."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]:
        """A queue that knows which objects have been dealt with."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:
        """A queue that is a locked pipe."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """A pool of worker processes."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    @overload
    def RawValue(self, typecode_or_type: type[_CT], *args: Any) -> _CT: ...
    @overload
    def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...
    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A ctypes object in shared memory."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    @overload
    def RawArray(
        self, typecode_or_type: type[_CT], size_or_initializer: int | Sequence[Any]
    ) -> ctypes.Array[_CT]: ...
    @overload
    def RawArray(self, typecode_or_type: str, size_or_initializer: int | Sequence[Any]) -> Any: ...
    def RawArray(self, typecode_or_type: Any, size_or_initializer: int | Sequence[Any]) -> Any:
        """A ctypes array in shared memory."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    @overload
    def Value(self, typecode_or_type: type[_CT], *args: Any, lock: Literal[False]) -> _CT: ...
    @overload
    def Value(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        *args: Any,
        lock: Literal[True] | _LockLike = True,
    ) -> Synchronized[_T]: ...
    @overload
    def Value(
        self, typecode_or_type: str, *args: Any, lock: Literal[True] | _LockLike = True
    ) -> Synchronized[Any]: ...
    @overload
    def Value(
        self, typecode_or_type: str | type[_CData], *args: Any, lock: bool | _LockLike = True
    ) -> Any: ...
    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A ctypes object in shared memory with a lock."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    @overload
    def Array(
        self,
        typecode_or_type: type[_CT],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[False],
    ) -> ctypes.Array[_CT]: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[_SimpleCData[_T]],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str,
        size_or_initializer: int | Sequence[Any],
        *,
        lock: Literal[True] | _LockLike = True,
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Sequence[Any],
        *,
        lock: bool | _LockLike = True,
    ) -> Any: ...
    @overload
    def Array(
        self,
        typecode_or_type: Any,
        size_or_initializer: Any = ...,
        *,
        lock: Literal[True] | _LockLike = True,
        shape: int | Sequence[int],
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        self,
        typecode_or_type: Any,
        size_or_initializer: Any = ...,
        *,
        lock: bool | _LockLike = True,
        shape: int | Sequence[int] | None = None,
    ) -> Any: ...
    def Array(
        self,
        typecode_or_type: Any,
        size_or_initializer: Any = ...,
        *,
        lock: Any = True,
        shape: int | Sequence[int] | None = None,
    ) -> Any:
        """A ctypes array in shared memory with a lock.

        With ``shape`` one for NumPy, with the items of ``size_or_initializer`` if there are any.
        """
        from .sharedctypes import Array

        if size_or_initializer is ... and shape is None:
            missing = "missing 1 required positional argument: 'size_or_initializer'"
            raise TypeError(f"BaseContext.Array() {missing}")
        context = self.get_context()
        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=context, shape=shape)

    def freeze_support(self) -> None:
        """Runs the child if this is one of a frozen program."""
        if getattr(sys, "frozen", False):
            from .spawn import freeze_support

            freeze_support()

    def get_logger(self) -> Logger:
        """The package's logger."""
        logger: Logger = _stdlib.util.get_logger()
        return logger

    def log_to_stderr(self, level: int | str | None = None) -> Logger:
        """Has the package's logger print to stderr, and returns it."""
        logger: Logger = _stdlib.util.log_to_stderr(level)
        return logger

    def allow_connection_pickling(self) -> None:
        """Makes connections and sockets picklable."""
        from . import connection as connection

    def set_executable(self, executable: str) -> None:
        """Sets the Python executable that ``spawn`` and ``forkserver`` start."""
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(
        self, module_names: list[str], *, on_error: OnError = "ignore"
    ) -> None:
        """Names the modules that the fork server imports before it forks.

        ``on_error`` says what an import that fails does: nothing, an ``ImportWarning``, or the end
        of the server, which then says why on stderr.
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)


class ForkContext(_Context):
    """The API with the start method fork."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(_Context):
    """The API with the start method spawn."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(_Context):
    """The API with the start method forkserver."""

    _name = "forkserver"
    Process = ForkServerProcess


class DefaultContext(_Context):
    """The API with the default start method, which can be set once."""

    Process = Process

    def __init__(self, context: _Context | None = None) -> None:
        if context is not None:
            self._default_context = context
        self._actual_context: _Context | None = None

    # Chosen when it is first needed: from Python 3.14 on the choice tries the file system.
    @functools.cached_property
    def _default_context(self) -> _Context:
        return _choose()

    def _concrete(self) -> _Context:
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Chooses the start method; RuntimeError if there is one already, unless ``force``."""
        if self._actual_context is not None and not force:
            raise RuntimeError("context has already been set")
        self._actual_context = None if method is None and force else self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """The start method. Asking settles it, but for ``allow_none``, which may give None."""
        if self._actual_context is None and allow_none:
            return None
        return self.get_context()._name

    def get_all_start_methods(self) -> list[str]:
        """The start methods that there are, the default first."""
        first = self._default_context._name
        return [first, *(name for name in _concrete_contexts if name != first)]


_concrete_contexts: dict[str, _Context] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def _choose() -> _Context:
    """The context that the environment names, else the one of the running Python."""
    method = _stdlib.start_method_of_environment(_concrete_contexts)
    return _concrete_contexts[method or _default_of_python()._name]


def _default_of_python() -> Any:
    # A function from Python 3.14 on.
    if (find := getattr(_stdlib.context, "_get_platform_default_context", None)) is not None:
        return find()
    return _PYTHONS_DEFAULT


# Taken now: `install` makes the standard library's context ours.
_PYTHONS_DEFAULT = vars(_stdlib.context._default_context).get("_default_context")
_stdlib.start_method_of_environment(_concrete_contexts)  # A wrong one is said at once.
_default_context = DefaultContext()


def ours(given: Any) -> Any:
    """Our context for one that a program gives us: by default the default one.

    The standard library's own is taken for its start method.
    """
    if given is None:
        return _default_context.get_context()
    if isinstance(given, _Context):
        return given.get_context()
    if isinstance(given, BaseContext):
        return _default_context.get_context(given.get_start_method())
    return given


def _force_start_method(method: str) -> None:
    _default_context._actual_context = _concrete_contexts[method]
