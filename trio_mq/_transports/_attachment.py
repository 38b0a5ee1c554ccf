"""Transports that carry whole messages themselves: what they are given, and what they give back.

There is no stream and no engine. A socket's end of such a relationship is a `Party`; the transport fills its pipe and
empties it, and is told to stop through the `Attachment` it returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .._mailbox import Mailbox
from .._message import Peer
from .._options import Options
from .._pipe import Connection
from ._abc import Transport


class Party(Protocol):
    """One socket's end of one relationship, as a transport sees it."""

    @property
    def socket_type(self) -> str:
        """The socket's ZMTP name."""
        ...

    @property
    def options(self) -> Options:
        """The options of this endpoint."""
        ...

    @property
    def routing_id(self) -> bytes:
        """The routing id this end announces; empty if none."""
        ...

    @property
    def properties(self) -> Mapping[str, str]:
        """The READY properties this end announces."""
        ...

    @property
    def closing(self) -> bool:
        """Whether the socket closes, so that nobody will receive what it has not received yet."""
        ...

    def waiting(self) -> tuple[list[Any], list[Any]]:
        """What lies in the pipe already, if there is one: (received and not yet taken, to be sent)."""
        ...

    def join(self, inbound: Mailbox, outbound: Mailbox, connection: Connection, peer: Peer, options: Options) -> None:
        """The peer is there, with these options of its own; messages come and go by these mailboxes from now on.

        The party sets the hooks on its own side of each: `on_item` and `refine` of *inbound*, `on_room` and `on_sleep`
        of *outbound*.
        """

    def begin(self) -> None:
        """Both ends have joined. Raises `HandshakeError` to refuse the peer."""

    def opened(self) -> None:
        """Both ends have begun: the exchange starts."""

    def subscription(self, topic: bytes, subscribe: bool) -> None:
        """The peer subscribed to *topic*, or cancelled."""

    def part(self, error: Exception | None, unread: list[Any]) -> None:
        """The peer is gone, and *unread* are the messages from here that nobody will receive there."""

    def failed(self, error: Exception) -> None:
        """There will be no exchange with the peer that came, because of *error*."""


class Attachment(ABC):
    """An endpoint that is bound, or connected, until it is closed.

    Attributes:
        endpoint: in its resolved form.
    """

    endpoint: str

    @abstractmethod
    def close(self) -> None:
        """End it and every relationship that came of it. Twice is as good as once."""

    async def drain(self, deadline: float) -> None:  # noqa: B027  # inproc has nothing that outlives a socket
        """Wait, at most until *deadline* on trio's clock, for what must outlive an empty queue (repairs, in PGM)."""


class MessageTransport(Transport):
    """A transport that carries whole messages between sockets: no byte stream, no engine, no handshake on a wire."""

    @abstractmethod
    def attach(self, address: Any, make_party: Callable[[], Party], *, binding: bool) -> Attachment:
        """Bind or connect *address*, now. Each peer that comes is met by a party of *make_party*.

        A connecting socket has one party that meets one peer after the other.

        Raises:
            OSError: the address is taken, or the system says no.
        """
