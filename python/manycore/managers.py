"""Objects that live in a server process and are used through proxies.

Servers and proxies are the standard library's, and so is what they say to each other. The server is
started by our contexts, and both sides use our connections. A proxy finds its connection under the
address of its manager, so what makes the difference is which addresses are known here
(:func:`remember`): those of our managers, which children and the receivers of proxies learn too.
"""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing.util import ForkAwareLocal
from typing import TYPE_CHECKING, Any

from . import _block, _engine, _stdlib
from .connection import adopt
from .context import _default_context

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

if TYPE_CHECKING:
    from multiprocessing import managers as _original
else:
    _original = _stdlib.managers

_BaseProxy: Any = _original.BaseProxy

BaseProxy = _original.BaseProxy
Namespace = _original.Namespace
RemoteError = _original.RemoteError
Token = _original.Token
DictProxy = _original.DictProxy
ListProxy = _original.ListProxy
ValueProxy = _original.ValueProxy

# The type stubs do not know these.
_untyped: Any = _original
AutoProxy = _untyped.AutoProxy
MakeProxyType = _untyped.MakeProxyType
NamespaceProxy = _untyped.NamespaceProxy
RebuildProxy = _untyped.RebuildProxy
State = _untyped.State
AcquirerProxy = _untyped.AcquirerProxy
ArrayProxy = _untyped.ArrayProxy
BarrierProxy = _untyped.BarrierProxy
BasePoolProxy = _untyped.BasePoolProxy
ConditionProxy = _untyped.ConditionProxy
EventProxy = _untyped.EventProxy
IteratorProxy = _untyped.IteratorProxy
PoolProxy = _untyped.PoolProxy
Array = _untyped.Array
Value = _untyped.Value
ProcessLocalSet = _untyped.ProcessLocalSet
HAS_SHMEM = _untyped.HAS_SHMEM
convert_to_error = _untyped.convert_to_error
dispatch = _untyped.dispatch
listener_client = _untyped.listener_client


class _Connections(ForkAwareLocal):
    """What threads keep their connections to one manager in; makes them ours."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, adopt(value) if name == "connection" else value)


#: The addresses whose proxies use our connections.
_known: set[Any] = set()


def remember(addresses: Iterable[Any]) -> None:
    """Has the proxies of these managers use our connections from now on."""
    for address in addresses:
        _known.add(address)
        with _BaseProxy._mutex:
            _BaseProxy._address_to_local.setdefault(address, (_Connections(), ProcessLocalSet()))


def known_addresses() -> list[Any]:
    """The addresses that were remembered here."""
    return list(_known)


class Server(_original.Server):
    """Serves the objects of a manager, over our connections."""

    def handle_request(self, conn: Any) -> None:
        """Handles a new connection."""
        super().handle_request(adopt(conn))


class BaseManager(_original.BaseManager):
    """A manager without types; ``register`` adds some."""

    _Server = Server

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        ctx = ctx or _default_context.get_context()
        super().__init__(address, authkey, serializer, ctx, shutdown_timeout=shutdown_timeout)

    def start(self, initializer: Any = None, initargs: Iterable[Any] = ()) -> None:
        """Starts a process that serves; there it first calls ``initializer(*initargs)``."""
        super().start(initializer, initargs)
        remember([self.address])

    def connect(self) -> None:
        """Connects to the server at the manager's address."""
        super().connect()
        remember([self.address])


class SyncManager(BaseManager, _original.SyncManager):
    """A manager of queues, locks, lists, dictionaries and the like."""


_SharedMemoryServer: Any = _untyped.SharedMemoryServer


class SharedMemoryServer(Server, _SharedMemoryServer):  # type: ignore[misc]
    """Serves, and removes the shared memory that is registered with it when it is shut down."""


class SharedMemoryManager(BaseManager, _original.SharedMemoryManager):
    """A manager of named shared memory, which it removes when it is shut down."""

    _Server = SharedMemoryServer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def _pool(*args: Any, **kwargs: Any) -> Any:
    from .pool import Pool

    return Pool(*args, **kwargs)


SyncManager.register("Pool", _pool, PoolProxy)


def _proxy_in_message(_sink: _engine.Sink, proxy: Any) -> tuple[Any, ...]:
    address = proxy._token.address
    rebuild, arguments = proxy.__reduce__()
    if address not in _known:
        return rebuild, arguments
    return _received_proxy, (address, rebuild, arguments)


def _received_proxy(address: Any, rebuild: Any, arguments: tuple[Any, ...]) -> Any:
    remember([address])
    return rebuild(*arguments)


_block.subclasses_in_messages(_original.BaseProxy, _proxy_in_message)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("managers")
