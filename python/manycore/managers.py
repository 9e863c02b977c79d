"""Objects that live in a server process and are used through proxies.

Servers and proxies are the standard library's; the server is started by our contexts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _stdlib
from .context import _default_context

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

if TYPE_CHECKING:
    from multiprocessing import managers as _original
else:
    _original = _stdlib.managers

BaseProxy = _original.BaseProxy
Namespace = _original.Namespace
RemoteError = _original.RemoteError
Server = _original.Server
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


class BaseManager(_original.BaseManager):
    """A manager without types; ``register`` adds some."""

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


class SyncManager(BaseManager, _original.SyncManager):
    """A manager of queues, locks, lists, dictionaries and the like."""


class SharedMemoryManager(BaseManager, _original.SharedMemoryManager):
    """A manager of named shared memory, which it removes when it is shut down."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def _pool(*args: Any, **kwargs: Any) -> Any:
    from .pool import Pool

    return Pool(*args, **kwargs)


SyncManager.register("Pool", _pool, PoolProxy)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("managers")
