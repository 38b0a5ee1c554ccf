"""What a transport is: the contract between the ZMTP engine and whatever carries its bytes.

There are two kinds. A `StreamTransport` (tcp, ipc, anything made of `trio.abc.Stream`) gives `Link` objects, byte
streams, to the one ZMTP engine. A `MessageTransport` (`_attachment`: inproc) carries whole messages
itself and has no engine.

A transport knows addresses and sockets. It must not know sessions, reconnecting, time limits, ZMTP, or which socket
type it works for: `StreamTransport.connect` is one attempt, and whoever calls it decides what a failure means.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import trio

from .._endpoint import Endpoint
from .._errors import EndpointError
from .._options import Options

AddressT = TypeVar("AddressT")


class ConnectionRefusedByFilter(OSError):
    """`Listener.accept` closed a connection that ``Options(accept_filter=...)`` does not let in; accept again.

    Attributes:
        address: where it came from, as in `Link.peer_address`.
    """

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"Options(accept_filter=...) does not let in {address}")
        self.address = address

    def __reduce__(self) -> tuple[type[ConnectionRefusedByFilter], tuple[str]]:
        return type(self), (self.address,)


class Link(ABC):
    """The byte stream under one connection.

    At most one task (the writer) calls `wait_writable` and `flush`, and at most one (the reader) calls
    `wait_readable`; ``try_…`` never block and may be called from anywhere in the loop while the writer (the reader)
    does not wait. A link that has failed keeps raising `OSError`, and so does a closed one.

    Attributes:
        peer_address: the other end, ``"tcp://127.0.0.1:40132"``; each transport says what it gives.
        local_address: this end; empty if it has no name.
        unflushed: whether bytes that `try_send` took still lie in this process, so that the writer must call
            `flush` for them to leave. Always False where the kernel has them at once.
    """

    __slots__ = ()

    peer_address: str
    local_address: str

    @property
    def unflushed(self) -> bool:
        return False

    @abstractmethod
    def try_send(self, buffers: Sequence[bytes | memoryview]) -> int:
        """How many bytes of *buffers*, from the front, were taken; 0 when none can be taken now.

        *buffers* hold at least one byte together. A short count may end anywhere, in the middle of a buffer too, and
        does not say that the next call would take nothing.

        Raises:
            OSError: the connection is broken or closed.
        """

    @abstractmethod
    def try_receive(self, limit: int) -> bytes | None:
        """Up to *limit* (at least 1) bytes that have arrived; ``b""`` at the end of the stream; None if none are there.

        Raises:
            OSError: the connection is broken or closed.
        """

    @abstractmethod
    async def wait_writable(self) -> None:
        """Wait until `try_send` may take something. It may still take nothing.

        A cancelled wait has lost no byte; where a transport cannot promise that, the link fails instead.

        Raises:
            trio.ClosedResourceError: the link was closed, before or meanwhile.
            OSError: the connection broke.
        """

    @abstractmethod
    async def wait_readable(self) -> None:
        """Wait until `try_receive` may give something. It may still give nothing. A cancelled wait has lost no byte.

        Raises:
            trio.ClosedResourceError: the link was closed, before or meanwhile.
            OSError: the connection broke.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until everything `try_send` took has left this process's own buffers. Cancelled: as `wait_writable`.

        Raises:
            trio.ClosedResourceError: the link was closed, before or meanwhile.
            OSError: the connection broke.
        """

    @abstractmethod
    def close(self) -> None:
        """Close at once, without waiting; tasks in a wait get `trio.ClosedResourceError`. Twice is as good as once."""

    async def aclose(self) -> None:
        """`close`, and wait for what closing takes. Always closes, also when cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local_address or '?'} – {self.peer_address or '?'}>"


class Listener(ABC):
    """A bound endpoint that connections come to. It may be made and closed outside a trio loop.

    Attributes:
        endpoint: what peers connect to, resolved: the real port, the real path.
    """

    __slots__ = ()

    endpoint: str

    @abstractmethod
    async def accept(self) -> Link:
        """The next connection. Cancelled: none was taken.

        Raises:
            ConnectionRefusedByFilter: one came that may not; it is closed already. Accept again.
            OSError: the system has no room for a connection now (EMFILE, ENFILE, ENOBUFS, ENOMEM); the listener is
                intact. Pause and accept again.
            trio.ClosedResourceError: the listener was closed, before or meanwhile.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop listening; accepted links live on. Twice is as good as once."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint}>"


class Transport(ABC):
    """What a scheme stands for. Register one with `trio_mq.register_transport`.

    Attributes:
        schemes: the schemes it answers to: ``("tcp",)``.
        socket_types: the ZMTP names of the socket types it can serve; None: all.
        binding_types, connecting_types: those of them that may bind, that may connect; None: all.
    """

    schemes: tuple[str, ...]
    socket_types: frozenset[str] | None = None
    binding_types: frozenset[str] | None = None
    connecting_types: frozenset[str] | None = None

    def available(self) -> bool:
        """Whether it works on this machine; what `trio_mq.has` answers for its schemes."""
        return True

    @abstractmethod
    def parse(self, endpoint: Endpoint, *, binding: bool) -> Any:
        """*endpoint* as a frozen value of the transport's own, whose ``str()`` is the endpoint. Pure: asks nobody.

        Raises:
            EndpointError: it cannot be meant, or not for binding (connecting).
        """

    def admits(self, socket_type: str, *, binding: bool) -> str:
        """Why a socket of *socket_type* may not bind (connect) here; empty if it may."""
        scheme = self.schemes[0]
        if self.socket_types is not None and socket_type not in self.socket_types:
            return f"{scheme}:// carries {', '.join(sorted(self.socket_types))}, not {socket_type}"
        fits = self.binding_types if binding else self.connecting_types
        if fits is not None and socket_type not in fits:
            verb, other = ("bound", "connects") if binding else ("connected", "binds")
            return f"{scheme}:// is {verb} by {', '.join(sorted(fits))}; a {socket_type} {other} there"
        return ""

    def check(self, address: Any, options: Options) -> None:  # noqa: B027  # most transports have nothing to refuse
        """Called after `parse`, so that what can be refused is refused at the user's call. Pure as well.

        Raises:
            EndpointError: *address* does not go with *options*.
            ValueError: *options* has something that this transport cannot understand.
        """


class StreamTransport(Transport, Generic[AddressT]):
    """A transport that gives byte streams to the ZMTP engine."""

    @abstractmethod
    def parse(self, endpoint: Endpoint, *, binding: bool) -> AddressT:
        """*endpoint* as an address for `listen` and `listen_now` (*binding*) or `connect`."""

    @abstractmethod
    async def listen(self, address: AddressT, options: Options) -> Listener:
        """A listener at *address*. Cancelled: nothing was bound.

        Raises:
            OSError: the system says no, or a name does not resolve.
        """

    @abstractmethod
    async def connect(self, address: AddressT, options: Options) -> Link:
        """One attempt to connect to *address*, for as long as it takes. Cancelled: nothing is left open.

        Raises:
            OSError: the system or the other end says no, or a name does not resolve.
        """

    def listen_now(self, address: AddressT, options: Options) -> Listener:
        """`listen` without waiting, also outside a trio loop, for `trio_mq.listen`.

        Raises:
            EndpointError: this transport cannot.
            OSError: as `listen`.
        """
        raise EndpointError(str(address), f"{type(self).__name__} cannot listen without waiting; use bind()")
