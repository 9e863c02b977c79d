"""Objects that live in a server process and are used through proxies.

Servers and proxies are the standard library's; the server is started by our contexts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _stdlib
from .context import _default_context

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

_original = _stdlib.managers

AutoProxy = _original.AutoProxy
BaseProxy = _original.BaseProxy
MakeProxyType = _original.MakeProxyType
Namespace = _original.Namespace
NamespaceProxy = _original.NamespaceProxy
RebuildProxy = _original.RebuildProxy
RemoteError = _original.RemoteError
Server = _original.Server
State = _original.State
Token = _original.Token
AcquirerProxy = _original.AcquirerProxy
ArrayProxy = _original.ArrayProxy
BarrierProxy = _original.BarrierProxy
BasePoolProxy = _original.BasePoolProxy
ConditionProxy = _original.ConditionProxy
DictProxy = _original.DictProxy
EventProxy = _original.EventProxy
IteratorProxy = _original.IteratorProxy
ListProxy = _original.ListProxy
PoolProxy = _original.PoolProxy
ValueProxy = _original.ValueProxy
Array = _original.Array
Value = _original.Value
ProcessLocalSet = _original.ProcessLocalSet
HAS_SHMEM = _original.HAS_SHMEM
convert_to_error = _original.convert_to_error
dispatch = _original.dispatch
listener_client = _original.listener_client


class BaseManager(_original.BaseManager):  # type: ignore[misc, name-defined]
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


class SyncManager(BaseManager, _original.SyncManager):  # type: ignore[misc, name-defined]
    """A manager of queues, locks, lists, dictionaries and the like."""


class SharedMemoryManager(BaseManager, _original.SharedMemoryManager):  # type: ignore[misc, name-defined]
    """A manager of named shared memory, which it removes when it is shut down."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


def _pool(*args: Any, **kwargs: Any) -> Any:
    from .pool import Pool

    return Pool(*args, **kwargs)


SyncManager.register("Pool", _pool, PoolProxy)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("managers")
