"""Figures of a socket at one moment, as plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .._message import Peer, PeerJoined, PeerLeft, size_of_all
from .._pgm import EndpointFigures, PublisherFigures, SubscriberFigures
from .._pipe import Pipe

State: TypeAlias = Literal["dialling", "handshaking", "ready", "waiting", "failed", "listening", "closed"]


@dataclass(frozen=True)
class PeerStatistics:
    """One relationship: a peer with a queue of its own, or an endpoint that is dialled.

    Attributes:
        endpoint: the endpoint of ours it belongs to.
        peer: who it is, as far as is known.
        state: ``'dialling'``, ``'handshaking'``, ``'ready'``, ``'waiting'`` (for the next attempt) or ``'failed'`` (for
        good).
        last_error: why the last attempt or connection ended; None if it did not, or by a plain end of stream.
        queued_messages, queued_bytes: what waits to be sent, with what is being written.
        unread_messages, unread_bytes: what has arrived and was not received yet.
        sent, received: messages handed to the kernel (inproc: to the peer), and taken over from the peer, in all.
        dropped: messages dropped, by reason: ``'hwm' 'no-peer' 'unroutable' 'multipart' 'disconnected' 'late-reply'
            'malformed' 'closed'``, and over multicast ``'rate'`` (the queue was full because of the rate limit) and
            ``'lost'`` (half a message, whose other half was lost); over ``udp`` ``'too-large'`` (for a datagram),
            ``'unreachable'`` (the system would not send it there) and, on Linux, ``'overrun'`` (the kernel dropped them
            because nobody read).
        multicast: over ``pgm`` and ``epgm`` what a publisher has sent to its group (`PublisherFigures`), or what was
            heard of this publisher (`SubscriberFigures`); None elsewhere.
    """

    endpoint: str
    peer: Peer
    state: State
    last_error: Exception | None
    queued_messages: int
    queued_bytes: int
    unread_messages: int
    unread_bytes: int
    sent: int
    received: int
    dropped: Mapping[str, int]
    multicast: PublisherFigures | SubscriberFigures | None = None


@dataclass(frozen=True)
class EndpointStatistics:
    """One endpoint that is bound or being dialled.

    Attributes:
        endpoint: in its resolved form.
        state: ``'listening'`` or, for a dialled one, the state of its peer.
        peers: connections past their handshake now.
        connections: connections made so far.
        failures: attempts, accepts and handshakes that failed, and connections that ended by an error, so far.
        last_error: the newest of those errors.
        multicast: over ``pgm`` and ``epgm`` what its sockets were granted, and what was received and thrown away.
    """

    endpoint: str
    state: State
    peers: int
    connections: int
    failures: int
    last_error: Exception | None
    multicast: EndpointFigures | None = None


@dataclass(frozen=True)
class SocketStatistics:
    """A socket at one moment.

    Attributes:
        peers: each session, in the order in which they came; dialled ones without a queue last.
        endpoints: each bound or dialled endpoint.
        dropped: messages dropped in the life of the socket, by reason, with those of peers that are gone and those that
            had no peer.
    """

    peers: tuple[PeerStatistics, ...] = ()
    endpoints: tuple[EndpointStatistics, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


def absent_peer(endpoint: str, state: State, last_error: Exception | None) -> PeerStatistics:
    """The figures of a dialled peer for which there is no queue (now, or any more)."""
    return PeerStatistics(endpoint, Peer(endpoint), state, last_error, 0, 0, 0, 0, 0, 0, {})


def peer_statistics(
    pipe: Pipe, state: State, last_error: Exception | None, in_hand: list[object], multicast: Any = None
) -> PeerStatistics:
    """The figures of *pipe*; *in_hand* are messages of it that were taken but not received yet."""
    inbound, outbound = pipe.inbound, pipe.outbound
    unread = [*inbound.waiting(), *in_hand]
    return PeerStatistics(
        endpoint=pipe.peer.endpoint,
        peer=pipe.peer,
        state=state,
        last_error=last_error,
        queued_messages=len(outbound),
        queued_bytes=outbound.size(),
        unread_messages=sum(1 for item in unread if not isinstance(item, (PeerJoined, PeerLeft))),
        unread_bytes=size_of_all(unread),
        sent=pipe.sent_before + outbound.passed,
        received=pipe.received_before + inbound.passed + len(inbound),
        dropped=dict(pipe.drops),
        multicast=multicast,
    )
