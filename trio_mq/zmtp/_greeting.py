"""The greeting: 64 bytes in which two peers find out which ZMTP, and which mechanism, they both speak.

::

    ff padding(8) 7f | major | minor mechanism(20) as-server(1) zeros(31)

A 3.x peer would take all 64 bytes at once, a 2.0 peer would not: it reads what follows the major version as its own
protocol. So the first 11 bytes go out at once, and the rest when the peer's major version is known. That costs no
round trip, since both sides send their first 11 bytes unasked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from .._errors import RemoteProtocolError, VersionMismatchError
from ._frames import COMMAND, MORE, encode_message, parse_header
from ._socket_types import number_of

OPENING: Final = b"\xff" + bytes(8) + b"\x7f\x03"
"""What we send first: the signature and our major version. A 2.0 peer accepts any number above its own."""

GREETING_SIZE: Final = 64

_MINOR: Final = 1
_MECHANISM_SIZE: Final = 20
_TYPE_AT: Final = 11  # 2.0: the socket type follows the version

# What people point at a ZeroMQ port by mistake. Each of these is a ZMTP 1.0 frame to libzmq.
_STRANGERS: Final = (
    (b"\x16\x03", "TLS"),
    (b"GET ", "HTTP"), (b"POST", "HTTP"), (b"PUT ", "HTTP"), (b"HEAD", "HTTP"), (b"OPTI", "HTTP"), (b"HTTP", "HTTP"),
    (b"PRI ", "HTTP/2"),
    (b"SSH-", "SSH"),
)  # fmt: skip


class Dialect(Enum):
    """What remains to be spoken after the first 11 bytes."""

    ZMTP_2_0 = auto()
    ZMTP_3 = auto()


@dataclass(frozen=True)
class Greeting:
    """What a 3.x peer said.

    Attributes:
        version: what both speak: 3.0, or 3.1 whatever the peer has beyond it.
        mechanism: its security mechanism.
        as_server: whether it called itself the server. libzmq never does, so nothing may follow from it.
    """

    version: tuple[int, int]
    mechanism: str
    as_server: bool


def encode_rest(mechanism: str, as_server: bool) -> bytes:
    """Our greeting for a 3.x peer from the minor version on."""
    return bytes((_MINOR,)) + mechanism.encode("ascii").ljust(_MECHANISM_SIZE, b"\0") + bytes((as_server,)) + bytes(31)


def encode_answer_2_0(socket_type: str, identity: bytes) -> bytes:
    """Our half of a 2.0 handshake from the socket type on.

    Raises:
        VersionMismatchError: 2.0 has no number for *socket_type*.
    """
    number = number_of(socket_type)
    if number is None:
        raise VersionMismatchError(f"the peer speaks ZMTP 2.0, which knows no {socket_type}")
    return bytes((number,)) + encode_message(identity)


def parse_dialect(data: bytes | bytearray) -> Dialect | None:
    """How to go on with the peer that sent *data*; None while it is too short to say.

    Raises:
        VersionMismatchError: the peer is too old, or no ZeroMQ peer at all; the text says which.
    """
    if data and data[0] != 0xFF:
        raise VersionMismatchError(f"the peer speaks {_name_stranger(bytes(data[:16]))}")
    if len(data) > 9 and not data[9] & 1:
        raise VersionMismatchError("the peer speaks ZMTP 1.0 (it began with a long identity frame)")
    if len(data) < len(OPENING):
        return None
    if data[10] == 0:
        raise VersionMismatchError("the peer speaks ZMTP 1.0 (it announced revision 0)")
    # RFC 37 calls 2 a 2.0 peer as well, but every implementation in the field sends 1; libzmq takes 2 for 3.x.
    return Dialect.ZMTP_2_0 if data[10] == 1 else Dialect.ZMTP_3


def parse_greeting(data: bytes | bytearray) -> Greeting | None:
    """The greeting of a 3.x peer at the beginning of *data*; None while it is incomplete."""
    if len(data) < GREETING_SIZE:
        return None
    # 37/ZMTP: "A peer SHALL accept higher-numbered versions": they are as ours.
    older = data[10] == 3 and data[11] == 0
    mechanism = bytes(data[12 : 12 + _MECHANISM_SIZE]).rstrip(b"\0").decode("ascii", "backslashreplace")
    return Greeting((3, 0) if older else (3, 1), mechanism, data[32] == 1)


def parse_answer_2_0(data: bytes | bytearray) -> tuple[int, bytes, int] | None:
    """(socket type, identity, bytes used) of a 2.0 peer's handshake; None while it is incomplete.

    Raises:
        RemoteProtocolError: what should be its identity is none.
    """
    header = parse_header(data, _TYPE_AT + 1)
    if header is None:
        return None
    flags, start, size = header
    if flags & (MORE | COMMAND) or size > 255:
        raise RemoteProtocolError("the ZMTP 2.0 peer did not begin with an identity of at most 255 bytes")
    stop = start + size
    return None if stop > len(data) else (data[_TYPE_AT], bytes(data[start:stop]), stop)


_HTTP_2_SETTINGS = b"\x04" + bytes(5)  # behind its length: the frame's type, no flags, stream 0


def _name_stranger(first: bytes) -> str:
    for prefix, name in _STRANGERS:
        if first.startswith(prefix):
            return f"{name}, not ZMTP (it began with {first!r})"
    if first[3:9] == _HTTP_2_SETTINGS:
        return f"HTTP/2 (as ordinary gRPC servers do), not ZMTP (it began with {first!r})"
    return f"ZMTP 1.0, or no ZMTP at all (it began with {first!r})"
