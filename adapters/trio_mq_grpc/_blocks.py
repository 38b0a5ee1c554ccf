"""The control blocks of TMQ-RPC 1 as bytes: Entry, Head, Status and Goaway of ``trio_mq_grpc/v1``.

Written by hand because every call with a timeout or metadata pays for one block at each end: this takes half to nine
tenths of the time that message objects take by the time their fields are read out and checked, and it binds the adapter
to no release of protobuf. What is written is byte for byte what protobuf writes (fields in the order of their numbers,
defaults left out, varints as short as they get), so a peer that compiles the .proto file reads it, and its blocks are
read here: fields in any order, unknown ones skipped.

Everything that arrives is a stranger's. It gives a value or `ValueError`, in time and memory bounded by its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Entry: TypeAlias = tuple[str, str | bytes]
"""One metadata entry. The value of a key that ends in ``-bin`` is bytes, of any other printable ASCII."""

MAX_BLOCK = 16 * 1024
"""Bytes a Head may have on the wire, and its metadata by gRPC's own count; grpcio's hard limit, too."""

MAX_TEXT = 8 * 1024
"""Bytes of status text that are sent, and that are kept of what arrives."""

ENTRY_OVERHEAD = 32
"""What gRPC charges for an entry besides its name and value, so that empty ones are not free."""

_KEY = re.compile(r"[0-9a-z_.-]+")
# Longer keys are legal but not remembered: a stranger may choose them, and 1,024 of them could be 16 MiB.
_REMEMBERED_KEY = 127


class MetadataTooLarge(ValueError):
    """Metadata, or the block that carries it, is over the limit. The text has both numbers.

    Attributes:
        size: what there was, in bytes.
        limit: what is allowed.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"metadata is larger than max ({size} vs. {limit})")
        self.size = size
        self.limit = limit


class Head(NamedTuple):
    """What goes before the first message of one direction of a call.

    Attributes:
        metadata: the entries, in the order of the sender.
        timeout_us: microseconds left when the message was sent; None: no deadline.
        encoding: the compression of flagged messages, ``""``, ``"gzip"`` or ``"deflate"``.
        accept: compressions that may be used in answers.
        attempts: earlier attempts of the same call.
        authority: the virtual host the caller asked for.
        expires_unix_us: wall-clock time after which one-way work is worthless; 0: never.
        user_agent: the caller's library and program.
    """

    metadata: tuple[Entry, ...] = ()
    timeout_us: int | None = None
    encoding: str = ""
    accept: tuple[str, ...] = ()
    attempts: int = 0
    authority: str = ""
    expires_unix_us: int = 0
    user_agent: str = ""


EMPTY_HEAD = Head()


def is_key(key: str) -> bool:
    """Whether *key* may name metadata: lower-case letters, digits, ``_``, ``.`` and ``-``, as HTTP/2 gateways need."""
    return _KEY.fullmatch(key) is not None


def encode_head(head: Head) -> bytes:
    """*head* as a frame; b"" if it says nothing.

    The values are trusted: `checked_metadata` has looked at them where the user gave them. A timeout below one
    microsecond is written as one, because none at all would mean "no deadline".
    """
    metadata, timeout_us, encoding, accept, attempts, authority, expires_unix_us, user_agent = head
    parts: list[bytes] = []
    if metadata:
        _write_entries(parts, b"\x0a", metadata)
    if timeout_us is not None:
        parts.append(b"\x10" + _varint(timeout_us if timeout_us > 0 else 1))
    if expires_unix_us:  # never the same twice, so not worth remembering
        parts.append(_encode_rest(encoding, accept, attempts, authority, expires_unix_us, user_agent))
    elif user_agent or accept or encoding or authority or attempts:
        parts.append(_encode_remembered_rest(encoding, accept, attempts, authority, 0, user_agent))
    return b"".join(parts)


def decode_head(data: bytes, limit: int = MAX_BLOCK) -> Head:
    """The `Head` in *data*; at most *limit* bytes of it, and of metadata counted as gRPC does.

    Raises:
        MetadataTooLarge: it is over the limit; the length is looked at before anything is parsed.
        ValueError: it is no Head, or an entry is not what a gateway to HTTP/2 could carry.
    """
    size = len(data)
    if not size:
        return EMPTY_HEAD
    if size > limit:
        raise MetadataTooLarge(size, limit)
    metadata: list[Entry] = []
    timeout_us: int | None = None
    at = 0
    rest = EMPTY_HEAD
    try:
        while at < size:
            tag = data[at]
            if tag == 0x0A:
                at = _read_entry(data, at + 1, metadata)
            elif tag == 0x10:
                timeout_us, at = _read_varint(data, at + 1)
            else:
                # Both come first in what protobuf writes. What follows them is the same for all calls of a channel,
                # so it is looked up. Other writers' order is legal: then the look-up misses and gives more.
                rest = _remembered_rest(data[at:]) if size - at <= _REMEMBERED_REST else _parse_head(data[at:])
                break
    except IndexError:
        raise ValueError("a Head ends in the middle of a field") from None
    metadata += rest.metadata
    # Names and values are part of the block, so most blocks need no count.
    if size + ENTRY_OVERHEAD * len(metadata) > limit:
        _check_size(metadata, limit)
    if rest is EMPTY_HEAD:
        return _new_tuple(Head, (tuple(metadata), timeout_us, "", (), 0, "", 0, ""))
    if rest.timeout_us is not None:
        timeout_us = rest.timeout_us
    return _new_tuple(Head, (tuple(metadata), timeout_us, *rest[2:]))


def encode_status(code: int, text: str = "", trailers: Iterable[Entry] = ()) -> bytes:
    """The outcome of a call as a frame; b"" for OK with nothing to say. Text over `MAX_TEXT` bytes is cut."""
    parts: list[bytes] = []
    if code:
        parts.append(b"\x08" + _varint(code))
    if text:
        # A lone surrogate has no UTF-8. A status must not fail on its text, so it becomes a question mark.
        parts.append(_write_bytes(b"\x12", _cut(text.encode(errors="replace"))))
    if trailers:
        _write_entries(parts, b"\x1a", trailers)
    return b"".join(parts)


def decode_status(data: bytes, limit: int = MAX_BLOCK) -> tuple[int, str, tuple[Entry, ...]]:
    """Code, text and trailers in *data*. The code may be one that gRPC does not know; see `to_code`.

    Text over `MAX_TEXT` bytes is cut and text that is no UTF-8 is mended: gRPC wants no status lost for its wording.

    Raises:
        MetadataTooLarge: the trailers are over *limit*, or the frame is over what they and a text can need.
        ValueError: it is no Status.
    """
    if not data:
        return 0, "", ()
    if len(data) > limit + 2 * MAX_TEXT:
        raise MetadataTooLarge(len(data), limit)
    code, text = 0, b""
    trailers: list[Entry] = []
    for tag, value in _fields(data):
        if tag == 0x08:
            code = _integer(value) & 0xFFFFFFFF
        elif tag == 0x12:
            text = _octets(value)
        elif tag == 0x1A:
            trailers.append(_parse_entry(_octets(value)))
    _check_size(trailers, limit)
    return code, _cut(text).decode(errors="replace"), tuple(trailers)


def encode_goaway(last_call_id: int, text: str = "") -> bytes:
    """The farewell of a server as a frame: it runs no call after *last_call_id*."""
    number = b"\x09" + last_call_id.to_bytes(8, "little") if last_call_id else b""
    return number + (_write_bytes(b"\x12", _cut(text.encode(errors="replace"))) if text else b"")


def decode_goaway(data: bytes) -> tuple[int, str]:
    """The last call id and the text in *data*. Raises `ValueError` if it is no Goaway."""
    if len(data) > 2 * MAX_TEXT:
        raise ValueError(f"a Goaway has at most {2 * MAX_TEXT} bytes, not {len(data)}")
    last_call_id, text = 0, b""
    for tag, value in _fields(data):
        if tag == 0x09:
            last_call_id = int.from_bytes(_octets(value), "little")
        elif tag == 0x12:
            text = _octets(value)
    return last_call_id, _cut(text).decode(errors="replace")


# --- writing ----------------------------------------------------------------------------------------------------------


def _encode_rest(
    encoding: str, accept: tuple[str, ...], attempts: int, authority: str, expires_unix_us: int, user_agent: str
) -> bytes:
    parts = [_write_bytes(b"\x1a", encoding.encode())] if encoding else []
    parts += [_write_bytes(b"\x22", name.encode()) for name in accept]
    if attempts:
        parts.append(b"\x30" + _varint(attempts))
    if authority:
        parts.append(_write_bytes(b"\x3a", authority.encode()))
    if expires_unix_us:
        parts.append(b"\x48" + _varint(expires_unix_us))
    if user_agent:
        parts.append(_write_bytes(b"\x52", user_agent.encode()))
    return b"".join(parts)


_encode_remembered_rest = lru_cache(256)(_encode_rest)


def _write_entries(parts: list[bytes], tag: bytes, entries: Iterable[Entry]) -> None:
    for key, value in entries:
        name = _encode_remembered_key(key) if len(key) <= _REMEMBERED_KEY else _encode_key(key)
        octets = value if isinstance(value, bytes) else value.encode("ascii")
        size = len(octets)
        if not size:  # proto3 leaves out what is empty
            parts += (tag, _varint(len(name)), name)
        elif (length := len(name) + size + 2) < 128:
            parts += (tag, _ONE_BYTE[length], name, b"\x12", _ONE_BYTE[size], octets)
        else:
            value_size = _varint(size)
            parts += (tag, _varint(len(name) + 1 + len(value_size) + size), name, b"\x12", value_size, octets)


def _encode_key(key: str) -> bytes:
    return _write_bytes(b"\x0a", key.encode("ascii"))


_encode_remembered_key = lru_cache(1024)(_encode_key)


def _write_bytes(tag: bytes, octets: bytes) -> bytes:
    return tag + _varint(len(octets)) + octets


_ONE_BYTE = [bytes((value,)) for value in range(128)]


def _varint(value: int) -> bytes:
    if value < 128:
        return _ONE_BYTE[value]
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _cut(text: bytes) -> bytes:
    # Not in the middle of a character: those bytes that continue one begin with the bits 10.
    if len(text) <= MAX_TEXT:
        return text
    end = MAX_TEXT
    while end > MAX_TEXT - 4 and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]


# --- reading ----------------------------------------------------------------------------------------------------------

_new_tuple = tuple.__new__  # half the time of Head(...)

_REMEMBERED_REST = 256


def _parse_head(data: bytes) -> Head:
    metadata: list[Entry] = []
    accept: list[str] = []
    text = {0x1A: "", 0x3A: "", 0x52: ""}
    number = {0x30: 0, 0x48: 0}
    timeout_us: int | None = None
    for tag, value in _fields(data):
        if tag == 0x0A:
            metadata.append(_parse_entry(_octets(value)))
        elif tag == 0x10:
            timeout_us = _integer(value)
        elif tag == 0x22:
            accept.append(_printable(tag, _octets(value)))
        elif tag in text:
            text[tag] = _printable(tag, _octets(value))
        elif tag in number:
            number[tag] = _integer(value)
    attempts = number[0x30] & 0xFFFFFFFF
    return Head(tuple(metadata), timeout_us, text[0x1A], tuple(accept), attempts, text[0x3A], number[0x48], text[0x52])


_remembered_rest = lru_cache(256)(_parse_head)


def _read_entry(data: bytes, at: int, entries: list[Entry]) -> int:
    """Append the entry at *at* to *entries*. Returns where it ends."""
    length = data[at]
    end = at + 1 + length
    # What nearly all are: the key and then the value, lengths of one byte. Their sum leaves no other reading.
    if 4 < length < 128 and end <= len(data) and data[at + 1] == 0x0A:
        key_end = at + 3 + data[at + 2]
        if key_end + 1 < end and data[key_end] == 0x12 and key_end + 2 + data[key_end + 1] == end:
            name, binary = _remembered_key(data[at + 3 : key_end])
            value = data[key_end + 2 : end]
            if binary:
                entries.append((name, value))
                return end
            text = value.decode("latin-1")
            if text.isascii() and text.isprintable():
                entries.append((name, text))
                return end
    length, at = _read_varint(data, at)
    content, end = _read_bytes(data, at, length)
    entries.append(_parse_entry(content))
    return end


def _parse_entry(data: bytes) -> Entry:
    name, binary, value = "", False, b""
    for tag, content in _fields(data):
        if tag == 0x0A:
            name, binary = _decode_key(_octets(content))
        elif tag == 0x12:
            value = _octets(content)
    if not name:
        raise ValueError("'' is no metadata key")
    if binary:
        return name, value
    text = value.decode("latin-1")
    if not text.isascii() or not text.isprintable():
        # It reaches logs, `str` operations and gateways, at this end as at the other.
        raise ValueError(f"the value of metadata key {name!r} is not printable ASCII")
    return name, text


def _decode_key(key: bytes) -> tuple[str, bool]:
    name = key.decode("latin-1")
    if not is_key(name):
        raise ValueError(f"{name[:64]!r} is no metadata key: lower-case letters, digits and _ . - only")
    return name, name.endswith("-bin")


_remembered_key = lru_cache(1024)(_decode_key)


def _check_size(entries: list[Entry], limit: int) -> None:
    charged = ENTRY_OVERHEAD * len(entries)
    for key, value in entries:
        charged += len(key) + len(value)
    if charged > limit:
        raise MetadataTooLarge(charged, limit)


_TEXTS = {0x1A: "encoding", 0x22: "accept", 0x3A: "authority", 0x52: "user_agent"}


def _printable(tag: int, octets: bytes) -> str:
    text = octets.decode("latin-1")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{_TEXTS[tag]} of a Head is not printable ASCII")
    return text


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Tag and content of each field: an int for a varint, bytes for all others. Groups are skipped.

    A known number with another wire type has another tag, and so is skipped like an unknown field, as in protobuf.
    """
    at, size = 0, len(data)
    groups: list[int] = []
    try:
        while at < size:
            start = at
            tag, at = _read_varint(data, at)
            if tag < 8 or tag > 0xFFFFFFFF or at - start > 5:
                raise ValueError(f"{tag} is no tag of a protobuf field")
            content: int | bytes = b""
            match tag & 7:
                case 0:
                    content, at = _read_varint(data, at)
                case 1:
                    content, at = _read_bytes(data, at, 8)
                case 2:
                    length, at = _read_varint(data, at)
                    content, at = _read_bytes(data, at, length)
                case 3:
                    groups.append(tag >> 3)
                    continue
                case 4:
                    if not groups or groups.pop() != tag >> 3:
                        raise ValueError("a protobuf group ends that did not begin")
                    continue
                case 5:
                    content, at = _read_bytes(data, at, 4)
                case _:
                    raise ValueError(f"{tag & 7} is no wire type of protobuf")
            if not groups:
                yield tag, content
    except IndexError:
        raise ValueError("a control block ends in the middle of a field") from None
    if groups:
        raise ValueError("a control block ends in the middle of a group")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    for shift in range(7, 70, 7):
        octet = data[at]
        at += 1
        if octet < 128:
            return (value | octet << shift) & 0xFFFFFFFFFFFFFFFF, at
        value |= (octet & 127) << shift
    raise ValueError("a varint has more than ten bytes")


def _read_bytes(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(data):
        raise IndexError
    return data[at:end], end


def _integer(content: int | bytes) -> int:
    assert isinstance(content, int)  # the wire type is in the tag
    return content


def _octets(content: int | bytes) -> bytes:
    assert isinstance(content, bytes)
    return content
