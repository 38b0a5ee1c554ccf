"""The units of TMQ-RPC 1 (proto/README.md): header, types, flags, and which go together. Pure.

::

    message = routing ids …, empty frame, unit              on DEALER, ROUTER, REQ and REP
    unit    = header, [method if CALL], [head if HEAD], [size if the first of several pieces], [payload if MSG],
              [status if STATUS]
    header  = magic and version(1) type(1) flags(2) seq or value(4) call id(8), big-endian
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from struct import Struct
from typing import Any, Final, NamedTuple

HEADER: Final = Struct(">BBHIQ")
HEADER_SIZE: Final = HEADER.size
MAGIC: Final = 0xA1
"""High nibble: ours; low nibble: the version."""
PROPERTY: Final = "X-TMQ-RPC"
"""The READY property in which each end announces itself."""

CALL: Final = 1
DATA: Final = 2
RESET: Final = 3
CREDIT: Final = 4
GOAWAY: Final = 6
PING: Final = 7
PONG: Final = 8
EVENT: Final = 9

HEAD: Final = 0x01
MSG: Final = 0x02
END: Final = 0x04
STATUS: Final = 0x08
COMPRESSED: Final = 0x10
FRAG: Final = 0x20
NOT_PROCESSED: Final = 0x80
CRITICAL: Final = 0x0FFF
"""Flags that must be understood; those above may be ignored."""

UNARY_CALL: Final = MSG | END
UNARY_REPLY: Final = MSG | STATUS | END
SEQ_MASK: Final = 0xFFFFFFFF
MOST_ENVELOPE_FRAMES: Final = 8
MOST_ENVELOPE_BYTES: Final = 1024
LONGEST_METHOD: Final = 1024

CHARGE: Final = 64
"""Bytes that every message costs of its window beside its payload, so that empty ones are not free."""


def _legal() -> frozenset[tuple[int, int]]:
    """All pairs of type and flags that may be on the wire."""
    legal = {(kind, 0) for kind in (RESET, CREDIT, GOAWAY, PING, PONG)}
    legal |= {(RESET, STATUS), (RESET, STATUS | NOT_PROCESSED), (DATA, STATUS | END | NOT_PROCESSED)}
    legal |= {(EVENT, MSG), (EVENT, MSG | HEAD), (EVENT, MSG | COMPRESSED | HEAD)}
    for head, (body, finish) in product((0, HEAD), product((0, MSG, MSG | COMPRESSED), (0, END, END | STATUS))):
        flags = head | body | finish
        if not finish & STATUS:
            legal.add((CALL, flags))
        if flags:
            legal.add((DATA, flags))
        if body and not finish:
            legal |= {(CALL, flags | FRAG), (DATA, flags | FRAG)}
    return frozenset(legal)


LEGAL: Final = _legal()


class Unit(NamedTuple):
    """One unit, cut into its frames."""

    method: bytes
    head: bytes | None
    size: int | None
    payload: bytes
    status: bytes


class Breach(ValueError):
    """The peer broke a rule of the protocol; the text names it."""


def as_bytes(data: Any) -> bytes:
    """*data*, if it is a buffer.

    Raises:
        TypeError: it is none.
    """
    if type(data) is bytes:
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a message is bytes once serialized, not {type(data).__name__}")


def pack(kind: int, flags: int, value: int, call_id: int) -> bytes:
    """A header frame."""
    return HEADER.pack(MAGIC, kind, flags, value & SEQ_MASK, call_id)


def pieces_of(
    payload: bytes,
    size: int,
    kind: int,
    flags: int,
    seq: int,
    call_id: int,
    *,
    finish: int = 0,
    ahead: Sequence[bytes] = (),
    behind: Sequence[bytes] = (),
) -> Iterator[list[bytes]]:
    """The units of a message that goes in pieces of *size* bytes; the slices are made when they are taken.

    Args:
        kind: of the first unit; the others are DATA.
        seq: of the first unit; there are ``-(-len(payload) // size)``.
        finish: flags of the last one.
        ahead, behind: frames before the size in the first, and after the payload in the last one.
    """
    view = memoryview(payload)
    first = [*ahead, len(view).to_bytes(4, "big")]
    for start in range(0, len(view), size):
        last = start + size >= len(view)
        header = pack(kind, flags | (finish if last else FRAG), seq, call_id)
        yield [header, *first, bytes(view[start : start + size]), *(behind if last else ())]
        kind, flags, seq, first = DATA, flags & ~(HEAD | COMPRESSED), seq + 1, []


def check_flags(kind: int, flags: int) -> None:
    """Raise `Breach` for flags that do not go with this type, or must be understood and are not."""
    if (kind, flags & CRITICAL) not in LEGAL:
        raise Breach(f"flags {flags:#06x} are not legal with type {kind}")


def cut(frames: list[bytes], kind: int, flags: int, *, first_piece: bool) -> Unit:
    """The frames behind the header, which is *frames[0]*, each under its name.

    Args:
        first_piece: no message is half received, so a payload with FRAG begins one and its size stands before it.

    Raises:
        Breach: a frame is missing or too many, or the size is none.
    """
    rest = iter(frames)
    next(rest)
    try:
        method = next(rest) if kind == CALL else b""
        head = next(rest) if flags & HEAD else None
        size = _size(next(rest)) if flags & FRAG and first_piece else None
        payload = next(rest) if flags & MSG else b""
        status = next(rest) if flags & STATUS else b""
    except StopIteration:
        raise Breach("a frame is missing") from None
    if next(rest, None) is not None:
        raise Breach("there are more frames than the flags say")
    return Unit(method, head, size, payload, status)


def _size(frame: bytes) -> int:
    if len(frame) != 4:
        raise Breach("the size of a fragmented message has four bytes")
    return int.from_bytes(frame, "big")


def envelope_end(frames: list[bytes], start: int = 0) -> int:
    """The index of the header: behind the first empty frame from *start* on; 0 when there is no envelope of ours."""
    size = 0
    for index in range(start, min(len(frames), start + MOST_ENVELOPE_FRAMES + 1)):
        frame = frames[index]
        if not frame:
            return index + 1 if index + 1 < len(frames) else 0
        size += len(frame)
        if size > MOST_ENVELOPE_BYTES:
            return 0
    return 0


class Announcement(NamedTuple):
    """What a peer says of itself in its READY property.

    Attributes:
        epoch: the upper half of its call ids; 0 for a server.
        window: bytes it takes of each call before it grants more; None for any number.
        max_message: bytes a message to it may have; None for any number.
        encodings: the compressions it reads.
        fragments: whether it takes messages in pieces.
    """

    epoch: int = 0
    window: int | None = 262_144
    max_message: int | None = None
    encodings: tuple[str, ...] = ()
    fragments: bool = False


LEVEL_0: Final = Announcement()
"""A peer that announces nothing: libzmq, or somebody behind a proxy."""
_UNLIMITED: Final = 0xFFFFFFFF


def announce(announcement: Announcement) -> str:
    """The value of the READY property."""
    window = _UNLIMITED if announcement.window is None else announcement.window
    fields = ["1", f"e={announcement.epoch:08x}", f"w={window}"]
    if announcement.max_message is not None:
        fields.append(f"m={announcement.max_message}")
    if announcement.encodings:
        fields.append(f"c={','.join(announcement.encodings)}")
    if announcement.fragments:
        fields.append("frag")
    return ";".join(fields)


def read_announcement(value: str | None) -> Announcement:
    """What the property says; `LEVEL_0` without one, of another version, or when it cannot be read."""
    version, *fields = (value or "").split(";")
    if version != "1":
        return LEVEL_0
    said = dict(field.partition("=")[::2] for field in fields)
    try:
        window = int(said.get("w", LEVEL_0.window or 0))
        return Announcement(
            epoch=int(said.get("e", "0"), 16) & 0xFFFFFFFF,
            window=None if window >= _UNLIMITED else max(0, window),
            max_message=int(said["m"]) if "m" in said else None,
            encodings=tuple(filter(None, said.get("c", "").split(","))),
            fragments="frag" in said,
        )
    except ValueError:
        return LEVEL_0
