"""Transports that carry whole messages themselves: what they are given, and what they give back.

There is no stream and no engine. A socket's end of such a relationship is a `Party`; the transport fills its pipe and
empties it, and is told to stop through the `Attachment` it returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import trio

from .._events import Event
from .._mailbox import Mailbox
from .._message import Payload, Peer
from .._options import Options
from .._pipe import Connection
from ._abc import Transport


class RemoteConnection(Connection, Protocol):
    """What carries a relationship with another process."""

    def figures(self) -> Any:
        """What the peer's statistics say of its traffic; None: nothing."""


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

    def open(self, connection: RemoteConnection, peer: Peer) -> tuple[Mailbox, Mailbox]:
        """Instead of `join`, where the peer is in another process: this end's own mailboxes, (inbound, outbound).

        The transport empties *outbound*, of which it sets `on_item` and `on_full`, and fills *inbound* with what
        `accept` leaves, of which it sets `on_room`. What waits in *outbound* has not been sent.
        """
        ...

    def accept(self, messages: list[Payload]) -> list[Any]:
        """Of *messages*, which have just arrived, those that shall be received, in the form for *inbound*."""
        ...

    def drop(self, reason: str, count: int) -> None:
        """*count* messages of this relationship, or to it, were dropped."""

    def unsent(self, reason: str, count: int) -> None:
        """*count* messages that were taken out of *outbound* were dropped and not sent."""

    def idle(self) -> None:
        """Everything in *outbound* has been sent: whoever waits for that goes on."""

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


class Owner(Protocol):
    """The socket behind an endpoint, for transports that have tasks of their own."""

    @property
    def socket_type(self) -> str:
        """The socket's ZMTP name."""
        ...

    @property
    def options(self) -> Options:
        """The options of this endpoint."""
        ...

    def start(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run ``task(*args)`` in the background, at most as long as the socket lives; a crash of it is the socket's."""
        ...

    def report(self, event: Event) -> None:
        """*event* has happened: tell monitors and the log."""

    def drop(self, reason: str, count: int) -> None:
        """*count* messages were dropped that belonged to nobody who is still here."""


class Attachment(ABC):
    """An endpoint that is bound, or connected, until it is closed.

    Attributes:
        endpoint: in its resolved form.
    """

    endpoint: str

    @property
    def last_error(self) -> Exception | None:
        """What is wrong with it now; None: nothing, or the transport does not tell."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End it and every relationship that came of it. Twice is as good as once."""

    def start(self) -> None:  # noqa: B027  # inproc has nothing to begin
        """The socket knows it by its resolved name, and everybody was told: peers may be met from now on."""

    async def drain(self, deadline: float) -> None:  # noqa: B027  # inproc has nothing that outlives a socket
        """Wait, at most until *deadline* on trio's clock, for what must outlive an empty queue (repairs, in PGM)."""

    def figures(self) -> Any:
        """What the endpoint's statistics say of its traffic, where the transport counts it; None: nothing."""
        return None


class MessageTransport(Transport):
    """A transport that carries whole messages between sockets: no byte stream, no engine, no handshake on a wire.

    Attributes:
        symmetric: binding and connecting are one and the same (multicast): nobody dials, nobody accepts. Then `attach`
            is always called to bind.
    """

    symmetric: bool = False

    @abstractmethod
    def attach(self, address: Any, make_party: Callable[[], Party], *, binding: bool, owner: Owner) -> Attachment:
        """Bind or connect *address*, now. Each peer that comes is met by a party of *make_party*.

        A connecting socket has one party that meets one peer after the other.

        Raises:
            OSError: the address is taken, or the system says no.
        """
