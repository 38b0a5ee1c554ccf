"""What is counted, as plain frozen values: what a source sent, what a receiver heard of each source, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PublisherFigures:
    """What a publisher has sent to its group, and was asked for.

    Attributes:
        session: its identity, which receivers tell it by: six bytes of GSI and the source port.
        sent: datagrams of data, without repairs.
        sent_bytes: bytes of the stream in them.
        repaired: datagrams sent again.
        naks: NAK packets received that were meant for this source.
        naks_outside: sequence numbers asked for that are not in the window (any more).
        window: datagrams kept for repair now.
        window_bytes: their size.
        window_limit: datagrams it may keep; None: as many as fit into `window_bytes_limit`.
        window_bytes_limit: their size at most; None: no limit but `window_limit`.
        first, last: the sequence numbers of the oldest one kept and the newest one sent.
    """

    session: str
    sent: int
    sent_bytes: int
    repaired: int
    naks: int
    naks_outside: int
    window: int
    window_bytes: int
    window_limit: int | None
    window_bytes_limit: int | None
    first: int
    last: int


@dataclass(frozen=True)
class SubscriberFigures:
    """What a subscriber has heard of one publisher.

    Attributes:
        session: the publisher's identity beside its address: six bytes of GSI, and the source port.
        received: datagrams of data, repairs among them.
        received_bytes: bytes of the stream in them.
        repaired: datagrams that were missing and came later.
        lost: datagrams that were given up.
        duplicates: datagrams that had come already.
        naks: NAK packets sent.
        missing: datagrams that are asked for now.
        waiting: datagrams that came and wait for earlier ones, or for room in the queue.
        window_limit: how far the newest datagram may be ahead of the oldest missing one.
        malformed: datagrams whose offset or frames cannot be, each thrown away with the message that was begun.
        next, last: the sequence numbers of the datagram to be delivered next and of the newest one known.
    """

    session: str
    received: int
    received_bytes: int
    repaired: int
    lost: int
    duplicates: int
    naks: int
    missing: int
    waiting: int
    window_limit: int
    malformed: int
    next: int
    last: int


@dataclass(frozen=True)
class EndpointFigures:
    """What the sockets of a multicast endpoint were granted, and what they received that was of no use.

    Attributes:
        send_buffer, receive_buffer: bytes that the kernel granted, which may be less than was asked for.
        datagrams: datagrams received, in all.
        ignored: how many of them were thrown away, by reason: ``'truncated' 'checksum' 'type' 'options' 'length'
            'fragment' 'address'`` (they are no PGM, or none that may be sent), ``'port'`` (for another port than ours),
            ``'unknown'`` (of a session that is not ours, or over), ``'range'`` (sequence numbers that cannot be),
            ``'memory'`` (more out of order than may be kept; they are asked for again), ``'sessions'`` (of one more
            publisher than may be known, for which another was forgotten).
        refused: datagrams that the system refused to send, in all: a publisher's data, a subscriber's requests.
            `EndpointStatistics.last_error` says why, as long as it does.
    """

    send_buffer: int
    receive_buffer: int
    datagrams: int
    ignored: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
