"""Security as a value: which mechanism a socket speaks, with which credentials, and who decides about a peer.

Nothing here does cryptography or reads a wire; `trio_mq.zmtp` turns these values into a handshake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Null:
    """No security: the NULL mechanism (RFC 37). The default."""


@dataclass(frozen=True)
class Plain:
    """User name and password in the clear: the PLAIN mechanism (RFC 24).

    A client gives *username* and *password* (each 1 to 255 bytes of UTF-8); a server says ``server=True`` and
    needs ``Options(authenticator=...)`` to ask about them. Neither appears in the repr of the password.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    server: bool = False

    def __post_init__(self) -> None:
        if self.server:
            if self.username or self.password:
                raise ValueError(
                    "Plain(server=True) has no credentials of its own; the authenticator checks the peer's"
                )
            return
        for name, value in (("username", self.username), ("password", self.password)):
            if not 1 <= len(value.encode()) <= 255:
                raise ValueError(f"Plain: the {name} must have 1 to 255 bytes (RFC 24), not {len(value.encode())}")


class Curve:
    """The CURVE mechanism (RFC 26). Not available in this version: constructing one says so."""

    def __init__(self, *_: object, **__: object) -> None:
        raise NotImplementedError(
            "CURVE is not available yet; it will come with the extra: pip install 'trio-mq[curve]'"
        )


def curve_keypair() -> tuple[bytes, bytes]:
    """A new public and secret key for `Curve`. Not available in this version: calling it says so."""
    raise NotImplementedError("CURVE is not available yet; it will come with the extra: pip install 'trio-mq[curve]'")


Security: TypeAlias = "Null | Plain"


@dataclass(frozen=True)
class AuthenticationRequest:
    """What an authenticator is asked about: one peer in the middle of its handshake.

    Attributes:
        mechanism: ``"NULL"`` or ``"PLAIN"``.
        peer_address: the peer's address, as in `Peer.address`.
        endpoint: the endpoint of ours that it came to.
        username, password: what it sent (PLAIN), else empty.
        public_key: its long-term key (CURVE), else None.
        domain: the ZAP domain; empty, as libzmq's default.
    """

    mechanism: str
    peer_address: str = ""
    endpoint: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    public_key: bytes | None = field(default=None, repr=False)
    domain: str = ""


@dataclass(frozen=True)
class Identity:
    """An authenticator's yes: who the peer is, and properties to attach to its messages."""

    user_id: str
    properties: Mapping[str, str] = field(default_factory=dict, compare=False)


Decision: TypeAlias = "str | Identity | None"
Authenticator: TypeAlias = Callable[[AuthenticationRequest], Awaitable[Decision]]
