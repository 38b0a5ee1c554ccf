"""The header of TMQ-RPC 1, and the little that is needed of protobuf."""

from __future__ import annotations

import struct
import time

HEADER = struct.Struct(">BBHIQ")  # magic and version, type, flags, sequence number, call id
VERSION_1 = 0xA1
CALL, DATA, RESET, CREDIT = 1, 2, 3, 4
HEAD, MSG, END, STATUS = 0x01, 0x02, 0x04, 0x08
MUST_UNDERSTAND = 0x0FFF
OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 1, 2, 4, 5, 12, 13, 14


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at *at*, and where it ends."""
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1


def encode_status(code: int, text: str) -> bytes:
    """Status{code = 1, text = 2}; a default is left out, so OK is no byte at all."""
    encoded = text.encode()
    return (b"\x08" + varint(code) if code else b"") + (b"\x12" + varint(len(encoded)) + encoded if text else b"")


def decode_status(data: bytes) -> tuple[int, str]:
    """Code and text; trailers, and fields of later versions, are skipped."""
    code, text, at = OK, "", 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            number, at = read_varint(data, at)
            code = number if tag == 0x08 else code
        elif tag & 7 == 2:
            length, at = read_varint(data, at)
            text = data[at : at + length].decode() if tag == 0x12 else text
            at += length
        else:
            at += {1: 8, 5: 4}[tag & 7]
    return code, text


def encode_head(seconds: float) -> bytes:
    """Head{timeout_us = 2}."""
    return b"\x10" + varint(max(1, int(seconds * 1_000_000)))


def milliseconds_to(deadline: float) -> int:
    """How long a poll may wait."""
    return max(0, int((deadline - time.monotonic()) * 1000))
