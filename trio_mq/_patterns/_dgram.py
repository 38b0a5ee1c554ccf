"""DGRAM: datagrams as they are, each with where it came from or goes to.

A message is a list of two: the address (``b"127.0.0.1:5555"``) and the datagram. There is one pipe, that of the one
endpoint a DGRAM has; the address says which of all peers in the world is meant.
"""

from __future__ import annotations

from .._errors import StateError
from .._message import Payload
from ._face import PipeFace
from ._pipeline import Receiving


class Dgram(Receiving):
    """One queue out, one in."""

    def __init__(self) -> None:
        super().__init__()
        self._pipe: PipeFace | None = None

    def attached(self, pipe: PipeFace) -> None:
        self._pipe = pipe

    def detached(self, pipe: PipeFace) -> None:
        if self._pipe is pipe:
            self._pipe = None

    def send(self, message: Payload) -> object | None:
        if self._pipe is None:
            raise StateError("this Dgram is bound to no endpoint, so there is nothing to send from; bind it first")
        return None if self._pipe.outbound.put(message) else self

    def can_send(self) -> bool:
        return self._pipe is not None and self._pipe.outbound.has_room()
