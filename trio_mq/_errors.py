"""Every exception trio_mq raises of its own, in one tree that says who can act.

::

    MQError
    ├── EndpointError (ValueError)     you: an address that cannot be meant
    ├── StateError                     you: the right call at the wrong time
    ├── MultipartError                 you: a one-frame call met a message of several frames
    ├── HostUnreachableError           nobody has the routing id of a mandatory ROUTER
    ├── PeerLostError                  the peer that had the request is gone
    ├── ProtocolError
    │   ├── LocalProtocolError         you: what you asked for cannot be said in ZMTP
    │   └── RemoteProtocolError        the peer: it broke a rule of ZMTP
    ├── HandshakeError                 nobody agreed
    │   ├── MechanismMismatchError
    │   ├── VersionMismatchError
    │   ├── SocketTypeMismatchError
    │   └── AuthenticationError
    └── InternalError                  us: please report it

What trio already has a name for is raised as trio does: `trio.ClosedResourceError`,
`trio.BusyResourceError`, `trio.WouldBlock`, `trio.EndOfChannel`; and the `OSError` of a
failing bind arrives as it is. A peer that misbehaves ends its own session and becomes an
event (`trio_mq.events`), never an exception in ``receive()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._message import Peer


class MQError(Exception):
    """Base of every exception defined by trio_mq."""


class EndpointError(MQError, ValueError):
    """An endpoint that cannot be meant: malformed, of an unknown scheme, out of range, or not ours.

    Attributes:
        endpoint: what was given.
        rule: the rule it breaks.
    """

    def __init__(self, endpoint: str, rule: str) -> None:
        super().__init__(f"{endpoint!r}: {rule}")
        self.endpoint = endpoint
        self.rule = rule

    def __reduce__(self) -> tuple[type[EndpointError], tuple[str, str]]:
        return type(self), (self.endpoint, self.rule)


class StateError(MQError):
    """The right call at the wrong time; the message says what to call instead. The socket stays usable."""


class MultipartError(MQError):
    """A one-frame call met a message of several frames. Nothing is lost: they are in `frames`."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        super().__init__(
            f"the message has {len(frames)} frames, not one; it is in the .frames of this error, "
            f"and receive_multipart() or multiparts() take messages of any shape"
        )
        self.frames: list[bytes] = list(frames)

    def __reduce__(self) -> tuple[type[MultipartError], tuple[list[bytes]]]:
        return type(self), (self.frames,)


class HostUnreachableError(MQError):
    """No peer of this ROUTER has the routing id (only with ``Options(router_mandatory=True)``)."""

    def __init__(self, routing_id: bytes) -> None:
        super().__init__(f"no peer has the routing id {routing_id!r}")
        self.routing_id = routing_id

    def __reduce__(self) -> tuple[type[HostUnreachableError], tuple[bytes]]:
        return type(self), (self.routing_id,)


class PeerLostError(MQError):
    """The peer that had the request went away before it answered; whether it acted on it is unknown."""

    def __init__(self, peer: Peer | None, reason: str = "the connection was lost") -> None:
        where = "the peer" if peer is None else (peer.address or peer.endpoint)
        super().__init__(f"{where} had the request and is gone: {reason}")
        self.peer = peer
        self.reason = reason

    def __reduce__(self) -> tuple[type[PeerLostError], tuple[Peer | None, str]]:
        return type(self), (self.peer, self.reason)


class ProtocolError(MQError):
    """A rule of ZMTP was broken, or would have been."""


class LocalProtocolError(ProtocolError):
    """What was asked for cannot be said in ZMTP; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule of ZMTP. Its connection is closed; other peers do not notice."""


class HandshakeError(MQError):
    """The two ends did not agree, so the connection never carried a message."""


class MechanismMismatchError(HandshakeError):
    """The peer speaks another security mechanism than this socket."""


class VersionMismatchError(HandshakeError):
    """The peer does not speak ZMTP 2.0 or later, or may not be spoken to in the version it has."""


class SocketTypeMismatchError(HandshakeError):
    """The peer's socket type does not go with this one (a PUB connected to a PULL, say)."""


class AuthenticationError(HandshakeError):
    """Credentials were refused, by us or by the peer. `status` is the ZAP status (RFC 27), ``"400"`` mostly."""

    def __init__(self, message: str, status: str = "400") -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[AuthenticationError], tuple[str, str]]:
        return type(self), (str(self), self.status)


class InternalError(MQError):
    """A background task of trio_mq crashed. The cause is attached; please report it."""
