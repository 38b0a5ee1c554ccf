"""PLAIN: user name and password in the clear (RFC 24).

::

    client   HELLO             INITIATE
    server            WELCOME            READY
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..._errors import RemoteProtocolError
from .._commands import Hello, Initiate, Ready, Welcome, encode_command, parse_command
from .._frames import encode_command_frame
from ._abc import Ask, Finish, Mechanism, Meet, Send, Step


class PlainClient(Mechanism):
    """The side that has credentials: bytes, since RFC 24 names no character set.

    Raises:
        LocalProtocolError: one of them is longer than 255 bytes.
    """

    name: ClassVar[str] = "PLAIN"

    def __init__(self, username: bytes, password: bytes) -> None:
        self._hello = encode_command(Hello(username, password))
        self._metadata = b""
        self._welcomed = False

    @property
    def awaited(self) -> str:
        return "READY" if self._welcomed else "WELCOME"

    def start(self, metadata: bytes, ask: bool) -> Sequence[Step]:
        self._metadata = metadata
        # Whoever connects as a client chose its server; there is nobody here to ask about it.
        return (Send(self._hello),)

    def authenticated(self) -> Sequence[Step]:
        return ()

    def receive(self, body: bytes) -> Sequence[Step]:
        match parse_command(body), self._welcomed:
            case Welcome(), False:
                self._welcomed = True
                return (Send(encode_command_frame(b"\x08INITIATE" + self._metadata)),)
            case Ready(metadata), True:
                return Meet(metadata), Finish()
        raise RemoteProtocolError(f"PLAIN: the server sent {body[:24]!r} where {self.awaited} was due")


class PlainServer(Mechanism):
    """The side that judges credentials; it always asks."""

    name: ClassVar[str] = "PLAIN"
    as_server: ClassVar[bool] = True

    def __init__(self) -> None:
        self._metadata = b""
        self._greeted = False

    @property
    def awaited(self) -> str:
        return "INITIATE" if self._greeted else "HELLO"

    def start(self, metadata: bytes, ask: bool) -> Sequence[Step]:
        self._metadata = metadata
        return ()

    def authenticated(self) -> Sequence[Step]:
        return (Send(encode_command(Welcome())),)

    def receive(self, body: bytes) -> Sequence[Step]:
        match parse_command(body), self._greeted:
            case Hello(username, password), False:
                self._greeted = True
                # An authenticator gets text. UTF-8 is what everybody sends; what is not must still reach it.
                return (Ask(username.decode(errors="backslashreplace"), password.decode(errors="backslashreplace")),)
            case Initiate(metadata), True:
                return Meet(metadata), Send(encode_command_frame(b"\x05READY" + self._metadata)), Finish()
        # Not the body: it may be a HELLO with a password in it.
        raise RemoteProtocolError(f"PLAIN: the client sent something else where {self.awaited} was due")
