"""PAIR (RFC 31): one peer at a time, both ways."""

from __future__ import annotations

from .._errors import HandshakeError
from .._message import Payload
from ._face import NO_TURNS, PipeFace, Turns
from ._pipeline import Receiving


class Pair(Receiving):
    """One pipe; a second peer is refused, visibly (libzmq leaves it connected and deaf)."""

    def __init__(self) -> None:
        super().__init__()
        self._pipe: PipeFace | None = None

    def attached(self, pipe: PipeFace) -> None:
        if self._pipe is None:
            self._pipe = pipe

    def ready(self, pipe: PipeFace) -> None:
        self.attached(pipe)
        if self._pipe is not pipe:
            raise HandshakeError("this PAIR has a peer already, and a PAIR has one at a time (RFC 31)")

    def detached(self, pipe: PipeFace) -> None:
        if self._pipe is pipe:
            self._pipe = None

    def send(self, message: Payload) -> object | None:
        return None if self._pipe is not None and self._pipe.outbound.put(message) else self

    def turns(self, quantum: int) -> Turns:
        if self._pipe is None or self._pipe.outbound.asleep or not self._pipe.outbound.deals:
            return NO_TURNS
        box = self._pipe.outbound
        return iter([box.items.append] * max(0, min(box.room(), quantum)))

    def can_send(self) -> bool:
        return self._pipe is not None and self._pipe.outbound.has_room()
