"""What comes out of a `Connection` while it shakes hands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .._message import NO_PROPERTIES


@dataclass(frozen=True)
class PeerInfo:
    """What a handshake tells about the peer.

    Attributes:
        version: the ZMTP version spoken with it: (2, 0), (3, 0) or (3, 1).
        socket_type: ``"PULL"``, ``"ROUTER"`` …; empty if it did not say.
        identity: its Identity, empty if it has none.
        properties: its other properties as text (``X-…``), and those the authenticator added, which win.
        user_id: what the authenticator called it; None if nobody was asked.
    """

    version: tuple[int, int]
    socket_type: str = ""
    identity: bytes = b""
    properties: Mapping[str, str] = field(default_factory=lambda: NO_PROPERTIES, compare=False)
    user_id: str | None = None


@dataclass(frozen=True)
class AuthenticationNeeded:
    """Somebody must judge the peer: answer with `Connection.authenticated` or `Connection.refuse`."""

    mechanism: str
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class HandshakeDone:
    """Traffic may begin: flush `Connection.data_to_send`, then read on with `Connection.decoder`."""

    peer: PeerInfo


ConnectionEvent: TypeAlias = AuthenticationNeeded | HandshakeDone
