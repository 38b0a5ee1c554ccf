"""NULL: no security. Both sides send READY at once and wait for the other's (37/ZMTP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..._errors import RemoteProtocolError
from .._commands import Ready, parse_command
from .._frames import encode_command_frame
from ._abc import Ask, Finish, Mechanism, Meet, Send, Step


class NullMechanism(Mechanism):
    """Both roles; there is no difference between them.

    37/ZMTP lets the connecting side begin. libzmq does not wait, so neither do we. Only an authenticator holds our
    READY back: 23/ZMTP lets a peer send messages as soon as it has it.
    """

    name: ClassVar[str] = "NULL"

    def __init__(self) -> None:
        self._ready = b""

    @property
    def awaited(self) -> str:
        return "READY"

    def start(self, metadata: bytes, ask: bool) -> Sequence[Step]:
        self._ready = encode_command_frame(b"\x05READY" + metadata)
        return (Ask(),) if ask else self.authenticated()

    def authenticated(self) -> Sequence[Step]:
        return (Send(self._ready),)

    def receive(self, body: bytes) -> Sequence[Step]:
        command = parse_command(body)
        if not isinstance(command, Ready):
            raise RemoteProtocolError(f"NULL: the peer sent {body[:24]!r} where READY was due")
        return Meet(command.metadata), Finish()
