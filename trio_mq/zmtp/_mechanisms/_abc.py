"""What a security mechanism is to the connection: a small state machine that is fed commands and returns steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from ..._message import Payload
from .._frames import Decoder, encode


@dataclass(frozen=True)
class Send:
    """Send this frame."""

    frame: bytes


@dataclass(frozen=True)
class Ask:
    """Wait until an authenticator has been asked about these credentials, then call `Mechanism.authenticated`."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Meet:
    """The peer introduced itself; the steps that follow hold only if it is somebody to talk to."""

    metadata: dict[str, bytes]


@dataclass(frozen=True)
class Finish:
    """The handshake is over."""


Step: TypeAlias = Send | Ask | Meet | Finish


class Mechanism(ABC):
    """One side of one handshake; an instance serves one connection.

    The connection carries out the steps in their order and stops at the first that fails, so a mechanism can say
    "meet the peer, then send READY" and need not know how a peer is judged. Between `Ask` and `authenticated`, and
    after `Finish`, it is told nothing.

    A mechanism that also wraps traffic (CURVE will) sets `wraps_traffic` and overrides `encode` and `decoder`.
    """

    name: ClassVar[str]
    """As in the greeting."""

    as_server: ClassVar[bool] = False
    """37/ZMTP's role bit. Sent as the RFC wants it; never looked at, as libzmq always sends 0."""

    wraps_traffic: ClassVar[bool] = False
    """Whether messages go out otherwise than `trio_mq.zmtp.encode` has them, so that encoded ones cannot be shared."""

    @property
    @abstractmethod
    def awaited(self) -> str:
        """The name of the command that the peer owes us."""

    @abstractmethod
    def start(self, metadata: bytes, ask: bool) -> Sequence[Step]:
        """Begin, right after the greeting: *metadata* is our introduction, *ask* whether somebody judges the peer."""

    @abstractmethod
    def receive(self, body: bytes) -> Sequence[Step]:
        """Go on with the *body* of the peer's next command, which is not an ERROR.

        Raises:
            RemoteProtocolError: it is not the command we wait for, or malformed.
        """

    @abstractmethod
    def authenticated(self) -> Sequence[Step]:
        """Go on after `Ask`: the peer is welcome."""

    def encode(self, batch: list[Payload]) -> bytes:
        """The bytes of all messages in *batch* once the handshake is over."""
        return encode(batch)

    def decoder(self, max_message_size: int | None, max_frames: int | None) -> Decoder:
        """What reads the peer's traffic once the handshake is over."""
        return Decoder(max_message_size, max_frames)
