"""Commands: what peers say to each other beside messages.

::

    body = name-length(1) name data

Malformed commands that libzmq shrugs off after the handshake (no name, a name longer than the body) become `Unknown`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from .._errors import LocalProtocolError, RemoteProtocolError
from .._message import LONGEST_GROUP, is_group
from ._frames import encode_command_frame, encode_message
from ._metadata import encode_metadata, parse_metadata

LARGEST_TTL: Final = 655
"""Tenths of a second that a PING announces at most: libzmq computes milliseconds in 16 bits and wraps beyond."""

LONGEST_CONTEXT: Final = 16


@dataclass(frozen=True)
class Ready:
    """The sender is ready for traffic, and this is what it is."""

    metadata: dict[str, bytes]


@dataclass(frozen=True)
class Error:
    """The sender gives up; *reason* is a ZAP status such as ``b"400"``, or some text."""

    reason: bytes


@dataclass(frozen=True)
class Hello:
    """PLAIN: the credentials of a client."""

    username: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True)
class Welcome:
    """PLAIN: the credentials were good."""


@dataclass(frozen=True)
class Initiate:
    """PLAIN: the client goes on, and this is what it is."""

    metadata: dict[str, bytes]


@dataclass(frozen=True)
class Subscribe:
    """Send messages whose first frame begins with *topic*."""

    topic: bytes


@dataclass(frozen=True)
class Cancel:
    """Send them no more."""

    topic: bytes


@dataclass(frozen=True)
class Join:
    """RADIO-DISH: send messages of *group*."""

    group: bytes


@dataclass(frozen=True)
class Leave:
    """RADIO-DISH: send them no more."""

    group: bytes


@dataclass(frozen=True)
class Ping:
    """Answer with *context*; if *ttl* is not 0, give up after so many seconds without a sign of life."""

    ttl: float
    context: bytes = b""


@dataclass(frozen=True)
class Pong:
    """The answer."""

    context: bytes = b""


@dataclass(frozen=True)
class Unknown:
    """A command this package has no name for."""

    name: bytes
    data: bytes


Command: TypeAlias = (
    Ready | Error | Hello | Welcome | Initiate | Subscribe | Cancel | Join | Leave | Ping | Pong | Unknown
)


def encode_command(command: Command) -> bytes:
    """The whole frame of *command*.

    Raises:
        LocalProtocolError: something in it is longer than the wire has room for.
    """
    name, data = _say(command)
    return encode_command_frame(bytes((len(name),)) + name + data)


def encode_subscription(subscribe: bool, topic: bytes, legacy: bool = False) -> bytes:
    """The whole frame that begins (or ends) a subscription; *legacy* as peers below 3.1 know it: a message."""
    if legacy:
        return encode_message((b"\1" if subscribe else b"\0") + topic)
    return encode_command(Subscribe(topic) if subscribe else Cancel(topic))


def encode_membership(joins: bool, group: bytes) -> bytes:
    """The whole frame by which a DISH joins (or leaves) *group*. A command also to peers below 3.1, as libzmq's are."""
    return encode_command(Join(group) if joins else Leave(group))


def _say(command: Command) -> tuple[bytes, bytes]:
    match command:
        case Subscribe(topic):
            return b"SUBSCRIBE", topic
        case Cancel(topic):
            return b"CANCEL", topic
        case Join(group):
            return b"JOIN", _short_group(group)
        case Leave(group):
            return b"LEAVE", _short_group(group)
        case Ping(ttl, context):
            return b"PING", _tenths(ttl).to_bytes(2, "big") + _short_context(context)
        case Pong(context):
            return b"PONG", _short_context(context)
        case Ready(metadata):
            return b"READY", encode_metadata(metadata)
        case Initiate(metadata):
            return b"INITIATE", encode_metadata(metadata)
        case Error(reason):
            return b"ERROR", _short_string(reason)
        case Hello(username, password):
            return b"HELLO", _short_string(username) + _short_string(password)
        case Welcome():
            return b"WELCOME", b""
        case Unknown(name, data):
            return name, data


def _tenths(ttl: float) -> int:
    # Not 0 for a short one: that means none.
    return min(max(1, round(ttl * 10)), LARGEST_TTL) if ttl else 0


def _short_string(value: bytes) -> bytes:
    if len(value) > 255:
        raise LocalProtocolError(f"a string in a command has at most 255 bytes, not {len(value)}")
    return bytes((len(value),)) + value


def _short_group(group: bytes) -> bytes:
    if not is_group(group):
        raise LocalProtocolError(f"a group has at most {LONGEST_GROUP} bytes, none of them zero, not {group!r}")
    return group


def _short_context(context: bytes) -> bytes:
    if len(context) > LONGEST_CONTEXT:
        raise LocalProtocolError(f"the context of a PING has at most 16 bytes, not {len(context)}")
    return context


def parse_command(body: bytes) -> Command:
    """The command in the *body* of a command frame.

    Raises:
        RemoteProtocolError: a command we know does not have the form it must have.
    """
    if body.startswith(_MISSPELT_ERROR):
        return _parse_error(body[len(_MISSPELT_ERROR) :])
    if not body or body[0] >= len(body):
        return Unknown(b"", body)
    start = 1 + body[0]
    name = body[1:start]
    parser = _PARSERS.get(name)
    return Unknown(name, body[start:]) if parser is None else parser(body[start:])


def is_error(body: bytes) -> bool:
    """Whether the *body* of a command is that of an ERROR, however it is spelt."""
    return body.startswith((b"\x05ERROR", _MISSPELT_ERROR))


# In libzmq up to 4.3.5 the C literal "\x5ERROR" of PLAIN's ERROR is one escape, 5e, and what is left of the name.
_MISSPELT_ERROR: Final = b"\x5eRROR"


def _parse_error(data: bytes) -> Error:
    reason, rest = _take_string(data, "ERROR")
    if rest:
        raise RemoteProtocolError(f"an ERROR command has {len(rest)} bytes behind its reason")
    return Error(reason)


def _parse_hello(data: bytes) -> Hello:
    username, rest = _take_string(data, "HELLO")
    password, rest = _take_string(rest, "HELLO")
    if rest:
        raise RemoteProtocolError(f"a HELLO command has {len(rest)} bytes behind its password")
    return Hello(username, password)


def _parse_welcome(data: bytes) -> Welcome:
    if data:
        raise RemoteProtocolError(f"a WELCOME command has {len(data)} bytes behind its name (RFC 24: none)")
    return Welcome()


def _parse_ping(data: bytes) -> Ping:
    if len(data) < 2:
        raise RemoteProtocolError("a PING command is too short for its ttl")
    # 37/ZMTP: "context = 0*16OCTET". libzmq cuts a longer one in its PONG, so it is not an error.
    return Ping(int.from_bytes(data[:2], "big") / 10, data[2 : 2 + LONGEST_CONTEXT])


def _parse_group(data: bytes, command: str) -> bytes:
    if not is_group(data):
        raise RemoteProtocolError(f"a {command} command names {data!r}, which is no group (RFC 48)")
    return data


def _take_string(data: bytes, command: str) -> tuple[bytes, bytes]:
    """The string behind a length of one byte, and what follows it."""
    if not data or len(data) <= data[0]:
        raise RemoteProtocolError(f"a {command} command ends within a string")
    stop = 1 + data[0]
    return data[1:stop], data[stop:]


_PARSERS: Final[dict[bytes, Callable[[bytes], Command]]] = {
    b"READY": lambda data: Ready(parse_metadata(data)),
    b"INITIATE": lambda data: Initiate(parse_metadata(data)),
    b"ERROR": _parse_error,
    b"HELLO": _parse_hello,
    b"WELCOME": _parse_welcome,
    b"SUBSCRIBE": Subscribe,
    b"CANCEL": Cancel,
    b"JOIN": lambda data: Join(_parse_group(data, "JOIN")),
    b"LEAVE": lambda data: Leave(_parse_group(data, "LEAVE")),
    b"PING": _parse_ping,
    b"PONG": lambda data: Pong(data[:LONGEST_CONTEXT]),
}
