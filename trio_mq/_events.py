"""What `monitor()` reports: one frozen dataclass for each thing that can happen to an endpoint or a peer.

`missed` is the number of events that were thrown away just before this one because the monitor was not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ._message import Peer


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        endpoint: the endpoint of ours it is about, in its resolved form; empty when it is about the whole socket.
        missed: how many events before this one a slow reader of the monitor lost.
    """

    endpoint: str = ""
    missed: int = 0


@dataclass(frozen=True, kw_only=True)
class Listening(Event):
    """A bind succeeded; `endpoint` has the real port."""


@dataclass(frozen=True, kw_only=True)
class BindFailed(Event):
    """A bind failed with `error`, which `bind()` also raised."""

    error: Exception


@dataclass(frozen=True, kw_only=True)
class Unbound(Event):
    """A listener was closed."""


@dataclass(frozen=True, kw_only=True)
class Accepted(Event):
    """A connection from `address` was accepted; its handshake begins."""

    address: str


@dataclass(frozen=True, kw_only=True)
class AcceptFailed(Event):
    """Accepting failed (no file descriptor is left, or the accept filter said no to `address`)."""

    error: Exception
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Dialling(Event):
    """A connection attempt begins."""


@dataclass(frozen=True, kw_only=True)
class DialFailed(Event):
    """A connection attempt failed: refused, unreachable, timed out, or the name did not resolve.

    Over multicast: the system refuses what a publisher sends, because its interface is down or gone, or a firewall says
    no. Told of the first refusal, and again when the reason changes; publishing goes on, and `Connected` tells when it
    works.
    """

    error: Exception


@dataclass(frozen=True, kw_only=True)
class Connected(Event):
    """The transport is connected to `address`; the handshake begins.

    Over multicast: what a publisher sends is no longer refused (see `DialFailed`).
    """

    address: str


@dataclass(frozen=True, kw_only=True)
class HandshakeSucceeded(Event):
    """`peer` is ready for traffic."""

    peer: Peer


@dataclass(frozen=True, kw_only=True)
class HandshakeFailed(Event):
    """The handshake with `address` failed with `error`."""

    error: Exception
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Disconnected(Event):
    """The connection to `peer` ended: by the peer (`error` is None), or by `error`."""

    peer: Peer
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class RetryIn(Event):
    """The next attempt to connect begins in `seconds`; `attempt` counts from 1 since the last traffic."""

    seconds: float
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Dropped(Event):
    """`count` messages for (or from) `peer` were dropped for `reason` since the last such event.

    Drops are reported at most once per peer, reason and second; `statistics()` has the exact totals.
    `reason` is one of ``'hwm' 'no-peer' 'unroutable' 'multipart' 'disconnected' 'late-reply' 'malformed' 'closed'``, or
    of those that multicast and datagrams add; see `PeerStatistics`.
    """

    count: int
    reason: str
    peer: Peer | None = None


@dataclass(frozen=True, kw_only=True)
class RequestUnanswered(Event):
    """A `Request` of a REP was thrown away by the program without a reply; `peer` may wait for ever."""

    peer: Peer


@dataclass(frozen=True, kw_only=True)
class DataLost(Event):
    """Multicast: datagrams of `peer` will never come, `count` of them, numbered from `first` to `last` (modulo 2**32).

    Its publisher keeps them no longer, or was asked in vain. Whole messages that lay in them are missing from what is
    received; what follows is whole again.
    """

    peer: Peer
    first: int
    last: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Closed(Event):
    """The socket closed. `unsent` messages had not reached the kernel."""

    unsent: int = 0
    unsent_by_endpoint: dict[str, int] = field(default_factory=dict)
