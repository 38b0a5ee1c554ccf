"""The values that travel between a socket and its user: peers, messages with their origin, peer events.

They know nothing of wires, queues or time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, cast

NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})

Frames: TypeAlias = list[bytes]
"""A message of several frames."""

Payload: TypeAlias = "bytes | list[bytes]"
"""A message as every queue holds it: bare `bytes` for one frame, a list for several."""
_ONE: Final[set[type]] = {bytes}
_SEVERAL: Final[set[type]] = {list}


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of one connection.

    Attributes:
        endpoint: the endpoint of ours that the connection belongs to, as bound or dialled.
        address: the other end's address (``"tcp://127.0.0.1:40132"``), empty while there is no connection.
        routing_id: what a ROUTER calls this peer; the peer's own ZMTP Identity if it has one.
        socket_type: ``"PULL"``, ``"ROUTER"`` …; empty while unknown and for ZMTP 2.0 peers that do not say.
        user_id: what the authenticator called the peer, or None.
        properties: the READY properties of the peer that are not ZMTP's own (``X-…``), and the authenticator's.
        connection: a number of this process, so that no two connections are ever the same peer; 0 while there is none.
    """

    endpoint: str
    address: str = ""
    routing_id: bytes = b""
    socket_type: str = ""
    user_id: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict, compare=False)
    connection: int = field(default=0, repr=False)


@dataclass(frozen=True)
class Message:
    """A message together with its origin, as ``receive_message()`` gives it."""

    frames: tuple[bytes, ...]
    peer: Peer

    @property
    def user_id(self) -> str | None:
        """What the authenticator called the sender, or None."""
        return self.peer.user_id

    @property
    def properties(self) -> Mapping[str, str]:
        """The sender's READY properties (``X-…``)."""
        return self.peer.properties


@dataclass(frozen=True)
class PeerJoined:
    """In a stream of received messages (``Options(peer_events=True)``): *peer* is ready; its messages follow."""

    peer: Peer


@dataclass(frozen=True)
class PeerLeft:
    """In a stream of received messages (``Options(peer_events=True)``): nothing of *peer* follows.

    Attributes:
        peer: the peer as it was announced by `PeerJoined`.
        reason: why, in words.
        unsent: the messages for it that the kernel had not wholly taken, oldest first. They are handed back here
            and will not be sent on any other connection.
    """

    peer: Peer
    reason: str
    unsent: tuple[Payload, ...] = ()


class GroupMessage(NamedTuple):
    """A message of a RADIO, as a DISH receives it: ``group, body = await dish.receive()``.

    Attributes:
        group: what it was sent to.
        body: the message.
    """

    group: bytes
    body: bytes


class Datagram(NamedTuple):
    """A datagram, as a DGRAM receives it: ``body, address = await dgram.receive()``.

    Attributes:
        body: all of it.
        address: where it came from, ``"127.0.0.1:5555"`` or ``"[::1]:5555"``; an answer is sent there.
    """

    body: bytes
    address: str


PeerEvent: TypeAlias = "PeerJoined | PeerLeft"

Received: TypeAlias = "bytes | list[bytes] | PeerJoined | PeerLeft"
"""What a queue towards the application can hold."""


LONGEST_GROUP: Final = 255
"""Bytes in the name of a group, at most (RFC 48)."""


def is_group(name: bytes) -> bool:
    """Whether *name* can be a group: 1 to 255 bytes (RFC 48), and as libzmq has it an empty one as well.

    None of them may be zero: libzmq keeps groups as C strings and would cut *name* there.
    """
    return len(name) <= LONGEST_GROUP and 0 not in name


def checked_group(group: object) -> bytes:
    """*group*, if it can be one.

    Raises:
        TypeError: it is not `bytes`.
        ValueError: it is too long, or has a zero byte.
    """
    if not isinstance(group, bytes):
        raise TypeError(f"a group is bytes, not {type(group).__name__}")
    if not is_group(group):
        raise ValueError(f"a group has at most {LONGEST_GROUP} bytes, none of them zero, not {group!r}")
    return group


def frames_of(payload: Payload) -> list[bytes]:
    """The frames of *payload* as a list, whichever of the two forms it has."""
    return [payload] if isinstance(payload, bytes) else payload


def size_of(payload: object) -> int:
    """Bytes in all frames of *payload*; events weigh nothing."""
    if type(payload) is not list:
        return len(payload) if isinstance(payload, bytes) else 0
    size = 0
    for frame in payload:  # a `sum` takes half as long again for the few frames that there are
        size += len(frame)
    return size


def size_of_all(payloads: Sequence[object]) -> int:
    """Bytes in all *payloads*, which in a batch are mostly of one kind."""
    kinds = set(map(type, payloads))
    if kinds == _SEVERAL:
        return sum(map(len, chain.from_iterable(cast("Sequence[list[bytes]]", payloads))))
    if kinds == _ONE:
        return sum(map(len, cast("Sequence[bytes]", payloads)))
    return sum(map(size_of, payloads))


def single_frame(value: object) -> bytes:
    """*value* as one frame: `bytes` as they are, other buffers copied.

    Raises:
        TypeError: *value* is no contiguous buffer; the text says what to pass instead.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, memoryview):
        if not value.contiguous:
            raise TypeError("a frame must be contiguous; pass bytes(view) if a copy in logical order is meant")
        return value.tobytes()
    if isinstance(value, str):
        raise TypeError("a frame is bytes, not str; encode it first, as in text.encode()")
    if isinstance(value, (list, tuple)):
        raise TypeError("send() takes one frame; call send_multipart() for a message of several")
    raise TypeError(f"a frame is bytes, bytearray or memoryview, not {type(value).__name__}")


def whole_message(frames: Sequence[bytes | bytearray | memoryview]) -> Payload:
    """The frames of one message in the form queues hold: checked, copied, and bare if there is just one.

    Raises:
        TypeError: *frames* is itself a buffer or a string, or holds something that is not one.
        ValueError: there is no frame at all.
    """
    if type(frames) is list and len(frames) > 1:
        for frame in frames:
            if type(frame) is not bytes:
                break
        else:
            return frames[:]  # nearly always: nothing to check, and nothing to copy but the list
    if isinstance(frames, (bytes, bytearray, memoryview, str)):
        raise TypeError("send_multipart() takes a sequence of frames; call send() for one frame")
    checked = [single_frame(frame) for frame in frames]
    if not checked:
        raise ValueError("a message has at least one frame (which may be empty)")
    return checked[0] if len(checked) == 1 else checked


def any_message(value: object) -> Payload:
    """An element of ``send_many``: one frame, or a sequence of frames."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (list, tuple)):
        return whole_message(value)
    return single_frame(value)
