"""Messages between two processes, over a pipe or a socket."""

from __future__ import annotations

import io
import os
import socket
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import TYPE_CHECKING, Any, NoReturn

from . import _block, _engine, _stdlib

__all__ = ["Client", "Listener", "Pipe", "wait"]

_original = _stdlib.connection

BUFSIZE: int = _original.BUFSIZE
CONNECTION_TIMEOUT: float = _original.CONNECTION_TIMEOUT
ConnectionWrapper = _original.ConnectionWrapper
SocketListener = _original.SocketListener
XmlClient = _original.XmlClient
XmlListener = _original.XmlListener
address_type = _original.address_type
arbitrary_address = _original.arbitrary_address
default_family: str = _original.default_family
families: list[str] = _original.families

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as _TheirConnection
    from multiprocessing.connection import Listener as _Listener
    from multiprocessing.connection import answer_challenge as answer_challenge
    from multiprocessing.connection import deliver_challenge as deliver_challenge
    from multiprocessing.connection import wait as wait

    class _Connection(_TheirConnection[Any, Any]):
        _handle: Any
        _readable: bool
        _writable: bool

        def _check_closed(self) -> None: ...
        def _check_readable(self) -> None: ...
        def _check_writable(self) -> None: ...
        def _bad_message_length(self) -> NoReturn: ...
else:
    _Connection = _original.Connection
    _Listener = _original.Listener
    answer_challenge = _original.answer_challenge
    deliver_challenge = _original.deliver_challenge
    wait = _original.wait


_Shared = tuple[_engine.Block, bool]


class Connection(_Connection):
    """One end of a pipe or socket; the bytes on it are those of the standard library."""

    #: Of a connection that Pipe made: what it shares with the other end, and which end it is.
    _shared: _Shared | None = None

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        super().__init__(handle, readable, writable)
        self._stream = _engine.Stream()

    def _share(self, shared: _Shared | None) -> Connection:
        if shared is not None:
            self._shared = shared
            self._stream = _engine.Stream(*shared)
        return self

    def send(self, obj: Any) -> None:
        """Sends a picklable object."""
        if self._handle is None or not self._writable:
            self._check_closed()
            self._check_writable()
        self._stream.send(self._handle, obj, self)

    def recv(self) -> Any:
        """Waits for an object and returns it; EOFError if the other end is closed."""
        if self._handle is None or not self._readable:
            self._check_closed()
            self._check_readable()
        return self._stream.recv(self._handle)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Waits for a message and returns its bytes.

        EOFError if the other end is closed; OSError if the message is longer than ``maxlength``,
        and then nothing more can be received.
        """
        self._check_closed()
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._stream.recv_bytes(self._handle, maxlength)
        if message is None:
            self._bad_message_length()
        return message

    # The inherited methods stand on these two.
    def _send_bytes(self, buf: Any) -> None:
        self._stream.send_bytes(self._handle, buf)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        message = self._stream.recv_bytes(self._handle, maxsize)
        if message is None:
            return None
        stream = io.BytesIO(message)
        stream.seek(0, os.SEEK_END)
        return stream

    def _poll(self, timeout: float | None) -> bool:
        return self._stream.poll(self._handle, timeout)


class Listener(_Listener):
    """A bound socket that waits for connections."""

    def accept(self) -> Connection:
        """Waits for a connection and returns it."""
        ours: Connection = adopt(super().accept())
        return ours


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Connection:
    """Connects to the :class:`Listener` at ``address``."""
    ours: Connection = adopt(_original.Client(address, family, authkey))
    return ours


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connections that are each other's end.

    Unless ``duplex`` the first can only receive and the second only send.
    """
    if duplex:
        one, other = socket.socketpair()
        # `socket.setdefaulttimeout` would have made them non-blocking.
        for end in (one, other):
            end.setblocking(True)
        ends = Connection(one.detach()), Connection(other.detach())
    else:
        reader, writer = os.pipe()
        ends = Connection(reader, writable=False), Connection(writer, readable=False)
    block = _engine.Stream.shared()
    return ends[0]._share((block, True)), ends[1]._share((block, False))


def adopt(connection: Any) -> Any:
    """The same connection as one of ours, in place of the standard library's; others stay."""
    if type(connection) is not _original.Connection:
        return connection
    ours = Connection(connection.fileno(), connection.readable, connection.writable)
    connection._handle = None
    return ours


def _reduce_connection(connection: Connection) -> tuple[Any, ...]:
    fd = DupFd(connection.fileno())
    # Memory can be shared with a process that is being started, and with no other.
    shared = connection._shared if get_spawning_popen() is not None else None
    return _rebuild_connection, (fd, connection.readable, connection.writable, shared)


def _rebuild_connection(
    fd: Any, readable: bool, writable: bool, shared: _Shared | None
) -> Connection:
    return Connection(fd.detach(), readable, writable)._share(shared)


ForkingPickler.register(Connection, _reduce_connection)


# In a message of a pool a descriptor goes with the message itself.
def _connection_in_message(sink: _engine.Sink, connection: Any) -> tuple[Any, ...]:
    fd = _engine.send_fd(sink, connection.fileno())
    shared = getattr(connection, "_shared", None)
    return _received_connection, (fd, connection.readable, connection.writable, shared)


def _received_connection(
    fd: int, readable: bool, writable: bool, shared: _Shared | None
) -> Connection:
    return Connection(_engine.received_fd(fd), readable, writable)._share(shared)


_block.in_messages(_reduce_connection, _connection_in_message)
_block.in_messages(_original.reduce_connection, _connection_in_message)


if not TYPE_CHECKING:
    __getattr__ = _stdlib.rest_of("connection")
