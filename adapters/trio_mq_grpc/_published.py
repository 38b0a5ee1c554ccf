"""What goes over PUB-SUB and RADIO-DISH: events and broadcast calls, to frames and back (proto/README.md). Pure.

::

    PUB      topic, header, [head if HEAD], payload       topic = path, 0x00, key
    RADIO    group = path; one body = header, length of the key (2 bytes), key, [length of the head (2 bytes), head],
             payload

The 0x00 keeps the subscription of one method from matching a longer name. A group must have none, and is matched as a
whole, so there the key goes into the body.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ._numbers import Numbers
from ._wire import COMPRESSED, EVENT, HEAD, HEADER, HEADER_SIZE, LONGEST_METHOD, MAGIC, MSG, Breach, check_flags

SEPARATOR: Final = b"\0"
LONGEST_KEY: Final = 0xFFFF
_LENGTH = struct.Struct(">H")


class Published(NamedTuple):
    """One event or broadcast call, as it came.

    Attributes:
        path: ``/package.Service/Method`` or ``/package.MessageName``.
        key: what the publisher filed it under.
        epoch: which publisher, and which life of it.
        numbers: what it counted.
        head: the Head block; None without one.
        payload: the encoded message.
    """

    path: bytes
    key: bytes
    epoch: int
    numbers: Numbers
    head: bytes | None
    payload: bytes


def path_of(kind: type[Any]) -> bytes:
    """What events of the message class *kind* are filed under: ``/package.MessageName``.

    Raises:
        TypeError: it is no generated class.
    """
    descriptor = getattr(kind, "DESCRIPTOR", None)
    if descriptor is None or not isinstance(kind, type):
        raise TypeError(f"events are protobuf messages, and {kind!r} is no generated class")
    return b"/" + str(descriptor.full_name).encode()


def topic_of(path: bytes, key: bytes) -> bytes:
    """The first frame on PUB; with an empty key also the subscription to all of *path*."""
    return path + SEPARATOR + key


def checked_key(key: bytes) -> bytes:
    """*key*, if it can be one.

    Raises:
        TypeError: it is not `bytes`.
        ValueError: it is too long.
    """
    if not isinstance(key, bytes):
        raise TypeError(f"a key is bytes, not {type(key).__name__}")
    if len(key) > LONGEST_KEY:
        raise ValueError(f"a key has at most {LONGEST_KEY} bytes, not {len(key)}")
    return key


def header_of(epoch: int, numbers: Numbers, head: bytes | None) -> bytes:
    """The header frame."""
    flags = MSG if head is None else MSG | HEAD
    return HEADER.pack(MAGIC, EVENT, flags, numbers.of_type, epoch << 32 | numbers.of_topic)


def frames_of(topic: bytes, header: bytes, head: bytes | None, payload: bytes) -> list[bytes]:
    """The message on PUB."""
    return [topic, header, payload] if head is None else [topic, header, head, payload]


def body_of(key: bytes, header: bytes, head: bytes | None, payload: bytes) -> bytes:
    """The message on RADIO, behind its group."""
    blocks = [key] if head is None else [key, head]
    return b"".join([header, *(part for block in blocks for part in (_LENGTH.pack(len(block)), block)), payload])


def from_frames(frames: Sequence[bytes]) -> Published:
    """What came over SUB.

    Raises:
        Breach: it is nothing that was published by these rules.
    """
    if len(frames) not in (3, 4):
        raise Breach(f"{len(frames)} frames are no published message")
    path, separator, key = frames[0].partition(SEPARATOR)
    if not separator:
        raise Breach("the topic does not end its path")
    _check_path(path)
    epoch, numbers, flags = _read_header(frames[1])
    if len(frames) != (4 if flags & HEAD else 3):
        raise Breach("there are not as many frames as the flags say")
    return Published(path, key, epoch, numbers, frames[2] if flags & HEAD else None, frames[-1])


def from_body(group: bytes, body: bytes) -> Published:
    """What came over DISH.

    Raises:
        Breach: as `from_frames`.
    """
    _check_path(group)
    epoch, numbers, flags = _read_header(body[:HEADER_SIZE])
    key, at = _read_block(body, HEADER_SIZE)
    head = None
    if flags & HEAD:
        head, at = _read_block(body, at)
    return Published(group, key, epoch, numbers, head, body[at:])


def _check_path(path: bytes) -> None:
    if not path.startswith(b"/") or len(path) > LONGEST_METHOD:
        raise Breach("the topic is no method and no message type")


def _read_header(header: bytes) -> tuple[int, Numbers, int]:
    if len(header) != HEADER_SIZE:
        raise Breach("the header has another size")
    magic, kind, flags, of_type, call_id = HEADER.unpack(header)
    if magic != MAGIC or kind != EVENT:
        raise Breach(f"magic {magic:#04x} and type {kind} are no event of version 1")
    check_flags(kind, flags)
    if flags & COMPRESSED:
        raise Breach("events are not compressed here")
    return call_id >> 32, Numbers(of_type, call_id & 0xFFFFFFFF), flags


def _read_block(body: bytes, at: int) -> tuple[bytes, int]:
    try:
        (size,) = _LENGTH.unpack_from(body, at)
    except struct.error:
        raise Breach("the message ends too early") from None
    end = at + _LENGTH.size + size
    if end > len(body):
        raise Breach("the message ends too early")
    return body[at + _LENGTH.size : end], end
