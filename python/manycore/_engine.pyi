"""The engine, as Python sees it. For the other modules of this package only."""

from collections.abc import Callable, Iterable, Mapping
from types import GenericAlias
from typing import Any, Generic, Never, Self, TypeVar, final

from typing_extensions import Buffer, disjoint_base

__all__ = [
    "MUTEX",
    "RECURSIVE_MUTEX",
    "SEMAPHORE",
    "SEM_VALUE_MAX",
    "Block",
    "Child",
    "Condition",
    "Event",
    "ForkServer",
    "Guarded",
    "Job",
    "Pool",
    "Queue",
    "SemLock",
    "Shared",
    "SharedArray",
    "SharedValue",
    "Sink",
    "Stream",
    "__version__",
    "dumps",
    "fork",
    "hand_over",
    "is_pickling_message",
    "lifeline",
    "loads",
    "names_unknown",
    "own_methods",
    "poll",
    "received_block",
    "received_fd",
    "received_queue",
    "received_shared",
    "send_block",
    "send_fd",
    "send_queue",
    "send_shared",
    "serve",
    "serve_pool",
    "share",
    "spawn",
    "watch_lifeline",
]

_T = TypeVar("_T")

__version__: str
MUTEX: int
RECURSIVE_MUTEX: int
SEMAPHORE: int
SEM_VALUE_MAX: int

@final
class Block:
    """Zeroed shared memory; its bytes are its buffer."""

    def __new__(cls, size: int) -> Self: ...
    @staticmethod
    def attach(fd: int, offset: int, size: int) -> Block:
        """The block that another process shares; the descriptor stays the caller's."""
    def share(self) -> tuple[int, int, int]:
        """What another process needs to attach it: descriptor, offset and size."""
    def __reduce__(self) -> tuple[Any, ...]:
        """Only while a process is being started."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Child:
    """A process that this one started."""

    @property
    def pid(self) -> int: ...
    @property
    def sentinel(self) -> int:
        """A descriptor that is readable once the process has ended."""
    def wait(self, timeout: float | None = None) -> int | None:
        """Waits at most `timeout` seconds for the end; the exit code, or None: it runs."""
    def signal(self, signo: int) -> None:
        """Sends a signal; nothing happens if the process has ended."""

@final
class ForkServer:
    """A process that forks at our request."""

    def __new__(cls, command: list[str], fds: list[int]) -> Self: ...
    @property
    def pid(self) -> int: ...
    def is_alive(self) -> bool:
        """Whether the server still runs."""
    def fork_all(self, requests: list[tuple[bytes, list[int]]]) -> list[Child | BaseException]:
        """A new process for each request, which it is handed with its descriptors.

        What became of the first ones: after an error nothing more follows. It is a BrokenPipeError
        if the server is gone.
        """
    def stop(self) -> None:
        """Has the server end when its last child has, and waits for that."""

def fork() -> Child | None:
    """Forks: the child, or None in the child."""

def spawn(command: list[str], fds: list[int]) -> Child:
    """Starts a program, which finds `fds` open under their numbers and SIGINT blocked."""

def lifeline() -> int:
    """The descriptor that hangs up when this process is gone; a child watches it."""

def watch_lifeline(fd: int, grace_ms: int) -> None:
    """Ends this process `grace_ms` milliseconds after the one that made the lifeline is gone."""

def serve(control: int) -> tuple[bytes, list[int]] | None:
    """Serves as a fork server; the request in a new process, None when it is not needed."""

@final
class SemLock:
    """A lock or a semaphore: what the objects that programs have are made of."""

    def __new__(cls, kind: int, value: int, maxvalue: int, block: Block | None = None) -> Self: ...
    @property
    def kind(self) -> int:
        """The standard library's number for what it is."""
    @property
    def _kind(self) -> int: ...
    @property
    def maxvalue(self) -> int: ...
    @property
    def block(self) -> Block: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes it; waits for it, at most `timeout` seconds, if `block`. Whether it did."""
    def release(self) -> None:
        """Gives it back; an error if it is not taken."""
    def __enter__(self) -> bool: ...
    def __exit__(self, *args: object) -> None: ...
    def owner(self) -> int | None:
        """The pid of the process that holds it; a semaphore does not know."""
    def _is_mine(self) -> bool: ...
    def _count(self) -> int: ...
    def _get_value(self) -> int: ...
    def _is_zero(self) -> bool: ...

@disjoint_base
class Guarded:
    """What can be acquired, released, and be the subject of a `with` statement."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def _guard_with(self, lock: Any, semlock: SemLock | None = None) -> None:
        """Names the lock, and what it is made of if it is one of ours."""
    @property
    def _lock(self) -> Any: ...
    @property
    def _semlock(self) -> Any: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes the lock; waits for it, at most `timeout` seconds, if `block`. Whether it did."""
    def release(self) -> None:
        """Gives the lock back; an error if it is not taken."""
    def __enter__(self) -> Any: ...
    def __exit__(self, *args: object) -> Any: ...

@disjoint_base
class SharedValue(Guarded):
    """A ctypes object in shared memory with a lock."""

    def _share(self, obj: Any) -> None:
        """Names the object."""
    def _share_numbers(self, block: Block, format: str, size: int, len: int) -> None:
        """Says that the object is `len` numbers of `size` bytes at the beginning of `block`."""
    @property
    def _obj(self) -> Any: ...
    def get_obj(self) -> Any:
        """The ctypes object, to be used without the lock."""
    def get_lock(self) -> Any:
        """The lock."""

class SharedArray(SharedValue):
    """A ctypes array in shared memory with a lock."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def __delitem__(self, index: Any, /) -> None: ...

def own_methods(class_: type[_T]) -> type[_T]:
    """Gives a class of guarded objects methods of its own, which are faster than inherited ones."""

@disjoint_base
class Condition(Guarded):
    """A lock, and those who wait for a condition."""

    def _wait_in(self, block: Block | None = None) -> None:
        """Nobody waits, or those in `block` do."""
    def _enter(self) -> None:
        """Says that the caller, who holds the lock, is going to sleep."""
    def _sleep(self, timeout: float | None = None) -> bool:
        """Sleeps, without the lock, at most `timeout` seconds; whether it was notified."""
    def _leave(self, notified: bool) -> bool:
        """Says, with the lock again, that the caller is awake; whether it had been notified."""
    def _wake(self, n: int) -> int:
        """Wakes at most `n` sleepers; how many."""
    def _waiters(self) -> int:
        """How many have entered and not left."""
    @property
    def _block(self) -> Block: ...

@disjoint_base
class Event:
    """A flag that can be waited for."""

    def __new__(cls, *, ctx: object, block: Block | None = None) -> Self: ...
    def is_set(self) -> bool:
        """Whether the flag is set."""
    def set(self) -> None:
        """Sets the flag and wakes all who wait."""
    def clear(self) -> None:
        """Clears the flag."""
    def wait(self, timeout: float | None = None) -> bool:
        """Waits at most `timeout` seconds until the flag is set; whether it is."""
    @property
    def block(self) -> Block: ...

@final
class Queue:
    """A first-in first-out queue of objects."""

    def __new__(cls, maxsize: int) -> Self: ...
    @staticmethod
    def attach(segment: int, log: int, lamp: int) -> Queue:
        """The queue that another process shares; the descriptors stay the caller's."""
    def share(self) -> tuple[int, int, int]:
        """The descriptors that another process needs to attach it."""
    def readable(self) -> int:
        """A descriptor that is readable while there are items; nothing is to be read from it."""
    def put(self, obj: object, timeout: float | None = None) -> bool | Exception | None:
        """Puts an object, waiting at most `timeout` seconds while the queue is full.

        None if it did; False if the queue stayed full; or why there is no pickle.
        """
    def get(self, nothing: object, timeout: float | None = None) -> Any:
        """Takes the first object, waiting at most `timeout` seconds. Else the object `nothing`."""
    def __reduce__(self) -> tuple[Any, ...]:
        """Only while a process is being started."""
    def __len__(self) -> int: ...

@final
class Shared(Generic[_T]):
    """An object in memory that all processes share: it crosses to each once, and only by reference.

    There is one of these in a process for the same memory.
    """

    def get(self) -> _T:
        """The object. Each process makes it once, and may write to its copy."""
    @property
    def nbytes(self) -> int:
        """How much memory it takes, once for all processes."""
    def fileno(self) -> int:
        """The descriptor, for a process that is being started."""
    @staticmethod
    def attach(fd: int) -> Shared[Any]:
        """The one whose memory is behind a descriptor, which stays the caller's."""
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: Any) -> Self: ...
    def __reduce__(self) -> Never: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

def share(obj: _T, peer: Any) -> Shared[_T]:
    """Pickles an object into memory that all processes share; `peer` is what they have by name."""

def hand_over(
    function: Any, args: tuple[Any, ...], kwds: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A call's function and arguments, with objects in place of what stands for them."""

def names_unknown(pickled: Buffer, peer: Any) -> bool:
    """Whether a pickle may name something of the main module that the ``peer`` has not."""

def is_pickling_message() -> bool:
    """Whether this thread pickles a pool's message."""

def send_block(sink: Sink, block: Block) -> tuple[int, int, int]:
    """Has a block go with the message of `sink`; what to give to `received_block`."""

def send_queue(sink: Sink, queue: Queue) -> tuple[int, int, int]:
    """Has a queue go with the message of `sink`; what to give to `received_queue`."""

def send_fd(sink: Sink, fd: int) -> int:
    """Has a copy of a descriptor go with the message of `sink`; what to give to `received_fd`."""

def received_block(id: int, offset: int, size: int) -> Block:
    """A block that came with the message that is being unpickled."""

def received_queue(segment: int, log: int, lamp: int) -> Queue:
    """A queue that came with the message that is being unpickled."""

def send_shared(sink: Sink, shared: Shared[Any]) -> int:
    """Has a shared object go with the message of `sink`; what to give to `received_shared`."""

def received_shared(id: int) -> Shared[Any]:
    """A shared object that came with the message that is being unpickled."""

def received_fd(id: int) -> int:
    """A copy of a descriptor that came with the message that is being unpickled."""

@final
class Stream:
    """What a connection remembers between its calls. The descriptor is named in each of them."""

    def __new__(cls, block: Block | None = None, is_first: bool = True) -> Self: ...
    @staticmethod
    def shared() -> Block:
        """A block for both ends of a new connection."""
    def send(self, fd: int, obj: object, connection: object) -> None:
        """Sends an object, pickled as by `ForkingPickler.dumps`, over the connection of `fd`."""
    def send_bytes(self, fd: int, data: Buffer) -> None:
        """Sends one message."""
    def recv(self, fd: int) -> Any:
        """Receives a message and unpickles it."""
    def recv_bytes(self, fd: int, maxlength: int | None = None) -> bytes | None:
        """Receives one message; None if it is longer than `maxlength`."""
    def poll(self, fd: int, timeout: float | None) -> bool:
        """Waits at most `timeout` seconds until there is something to read."""

def dumps(obj: object) -> bytes:
    """Pickles an object as `ForkingPickler.dumps` does."""

def loads(bytes: bytes) -> Any:
    """Unpickles a `bytes` object."""

def poll(fd: int, timeout: float | None = 0.0) -> bool:
    """Waits at most `timeout` seconds until there is something to read."""

@final
class Sink:
    """What a pickler of a message writes to, and offers its buffers to."""

    def write(self, data: Buffer) -> int: ...
    def __call__(self, buffer: Buffer) -> bool:
        """True if the buffer is to go with the pickle."""

@final
class Job:
    """One call of a pool's API: its tasks and their outcomes."""

    def ready(self) -> bool:
        """Whether the outcome is there."""
    def wait(self, timeout: float | None) -> bool:
        """Waits at most ``timeout`` seconds; whether the outcome is there."""
    def cancel(self) -> bool:
        """Cancels a call that waits for a worker; whether it did."""
    def is_cancelled(self) -> bool:
        """Whether a call was cancelled, and its value not asked for yet."""
    def is_sent(self) -> bool:
        """Whether a worker has the call, or had it."""
    def on_complete(self, callback: Callable[[], None]) -> bool:
        """Has the first ``callback`` called at the end; False if the outcome is there already."""
    def start(self) -> None:
        """Has the job go on when nobody waits for it."""
    def value(self) -> Any:
        """The value of a job that is ready; raises its exception, or a signal's."""
    def has_raised(self, error: BaseException) -> bool:
        """Whether this exception is what the job came to."""
    def next(self, timeout: float | None, ordered: bool) -> Any:
        """The next outcome's value; StopIteration after the last, TimeoutError if it is late."""
    def push(self, item: object, limit: int) -> None:
        """Sends one more item; waits while ``limit`` are without outcome."""
    def push_error(self, error: BaseException) -> None:
        """The input could not be had: that is the next item's outcome."""
    def end(self) -> None:
        """No more items come."""

@final
class Pool:
    """The work of a pool.

    ``staff`` has ``prepare(count) -> _staffing.Batch``, ``ended(pid)``, and ``over()``, which is
    called last. With ``on_demand`` the pool begins without workers.
    """

    def __new__(
        cls,
        staff: Any,
        processes: int,
        max_tasks_per_worker: int | None,
        peer: Any,
        on_demand: bool = False,
    ) -> Self: ...
    def apply(
        self, function: Callable[..., Any], args: Iterable[Any], kwds: Mapping[str, Any]
    ) -> Any:
        """Calls the function in a worker and waits for the result."""
    def call(
        self,
        function: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[], None] | None,
    ) -> Job:
        """Starts one call. ``callback`` is called when it has its outcome."""
    def call_soon(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any]
    ) -> Job:
        """Starts one call, and a worker for it if all others are busy and one may be added."""
    def cancel_waiting(self) -> None:
        """Cancels all calls that wait for a worker to have time."""
    def abandon(self) -> None:
        """Settles everything and tells the workers to leave; others end those that do not."""
    def has_failed(self) -> bool:
        """Whether the workers cannot work."""
    def submit(
        self,
        function: Callable[..., Any],
        items: Any,
        mode: str,
        chunk: int | None,
        callback: Callable[[], None] | None,
    ) -> Job:
        """Makes a job over a sequence, with ``mode`` "item", "map" or "starmap"."""
    def open(self, function: Callable[..., Any], mode: str) -> Job:
        """Opens a job to which items are pushed one by one."""
    def close(self) -> None:
        """No more jobs."""
    def terminate(self) -> None:
        """Ends the workers and waits until the pool's own thread has done with Python."""
    def join(self, timeout: float | None = None) -> bool:
        """Waits at most ``timeout`` seconds until the workers have gone; whether they have."""
    def pids(self) -> list[int]:
        """The workers' process ids."""
    def bytes_sent(self) -> int:
        """How many bytes the present workers were sent, as tasks and functions."""

def serve_pool(
    fds: tuple[int, ...],
    prepare: Callable[[], object],
    report: Callable[[BaseException], bytes],
    unsendable: Callable[[BaseException, Any], BaseException],
) -> None:
    """Works until the pool sends this process home."""
