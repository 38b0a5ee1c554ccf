"""The pipe: one socket's two mailboxes with one peer, and what is known of that peer.

A pattern sees pipes and nothing below; an engine (or the other socket of an inproc pair) sees the mailboxes from the
other side. The pipe of a dialled endpoint lives across reconnects, that of an accepted connection as long as it.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Protocol

from ._mailbox import Mailbox
from ._message import Peer


class Connection(Protocol):
    """What a pipe can ask of whatever carries it at the moment."""

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        """Tell the peer of a subscription (or its end), ahead of queued messages; never dropped."""

    def restart(self) -> None:
        """Break the connection now and dial again at once, without back-off."""

    def looks(self) -> int:
        """How often a receiver should `look`, yielding in between, before it sleeps."""
        ...

    def look(self) -> bool:
        """Take over what has arrived, without waiting. True if there was something."""
        ...

    def looked(self, found: bool) -> None:
        """Whether looking has helped."""

    def close(self, error: Exception | None) -> None:
        """End the connection at once because of *error* (None: nothing is wrong); the pattern hears of it at once."""


class Pipe:
    """Two mailboxes and the peer behind them.

    Attributes:
        inbound, outbound: messages from and to the peer.
        peer: who it is, as far as is known.
        connection: what carries it now; None while there is no connection past its handshake.
        readable: it stands in its socket's fair queue.
        writable: it stands in its socket's load balancer.
        preset_id: the routing id given to `connect`, if any.
        subscriptions: the topics its peer subscribed to, or was subscribed to by the program.
        requested: the topics its peer asked for, where the program decides (XPUB manual).
        drops: messages dropped, by reason.
        past: who was the peer of messages that came on earlier connections and still wait: up to which count of
            messages taken, and a stand-in without a connection.
        sent_before, received_before: messages that passed through mailboxes this pipe had before these, or that the
            pattern took for itself.
    """

    __slots__ = (
        "connection",
        "drops",
        "inbound",
        "outbound",
        "past",
        "peer",
        "preset_id",
        "readable",
        "received_before",
        "requested",
        "sent_before",
        "subscriptions",
        "writable",
    )

    def __init__(self, inbound: Mailbox, outbound: Mailbox, peer: Peer) -> None:
        self.inbound: Mailbox = inbound
        self.outbound: Mailbox = outbound
        self.peer: Peer = peer
        self.connection: Connection | None = None
        self.readable: bool = False
        self.writable: bool = False
        self.preset_id: bytes = b""
        self.subscriptions: set[bytes] = set()
        self.requested: set[bytes] = set()
        self.drops: Counter[str] = Counter()
        self.past: deque[tuple[int, Pipe]] = deque()
        self.sent_before: int = 0
        self.received_before: int = 0

    def end_connection(self) -> Pipe:
        """The connection is over: what came on it stays with the peer as it was, for whom a stand-in is returned."""
        self.connection = None
        stand_in = Pipe(self.inbound, Mailbox(None), self.peer)
        stand_in.drops = self.drops
        if len(self.inbound):
            self.past.append((self.inbound.passed + len(self.inbound), stand_in))
        return stand_in

    def take_inbound(self, mailbox: Mailbox) -> None:
        """Receive from another mailbox (inproc, where it is shared with the peer of the moment)."""
        self.received_before += self.inbound.passed
        shift = self.inbound.passed - mailbox.passed
        self.past = deque((until - shift, stand_in) for until, stand_in in self.past)
        self.inbound = mailbox

    def take_outbound(self, mailbox: Mailbox) -> None:
        """Send into another mailbox."""
        self.sent_before += self.outbound.passed
        self.outbound = mailbox

    def __repr__(self) -> str:
        whom = self.peer.address or self.peer.endpoint
        state = "connected" if self.connection is not None else "no connection"
        return f"<Pipe to {whom}: {state}, {len(self.inbound)} in, {len(self.outbound)} out>"
