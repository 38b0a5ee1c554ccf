"""REP (RFC 28): requests with their envelopes set aside, and replies that find their way back."""

from __future__ import annotations

from typing import NamedTuple

from .._message import Payload
from ._envelope import close_envelope, open_envelope
from ._face import Dropped, PipeFace
from ._pipeline import Receiving


class Incoming(NamedTuple):
    """A request as it was received: who to answer, on which connection, along which way back, and what was asked."""

    pipe: PipeFace
    connection: int
    envelope: list[bytes]
    body: Payload


class Rep(Receiving):
    """A fair queue of requests. A message without a delimiter is no request and is dropped whole."""

    def __init__(self, dropped: Dropped) -> None:
        super().__init__()
        self._dropped = dropped

    def next_request(self) -> Incoming | None:
        """The next request of any peer, in fair order."""
        while True:
            batch = self.take(1)
            if not batch.messages:
                return None
            opened = open_envelope(batch.messages[0])
            if opened is not None:
                pipe = batch.pipes[0]
                return Incoming(pipe, pipe.peer.connection, opened.envelope, opened.body)
            self._dropped(batch.pipes[0], "malformed", 1)

    def reply(self, request: Incoming, body: Payload) -> None:
        """Queue *body* for who sent *request*; dropped if they are gone or their queue is full (RFC 28)."""
        if request.pipe.connection is None or request.pipe.peer.connection != request.connection:
            # Whoever is there now did not ask.
            self._dropped(request.pipe, "no-peer", 1)
        elif not request.pipe.outbound.put(close_envelope(request.envelope, body)):
            request.pipe.outbound.full = False
            self._dropped(request.pipe, "hwm", 1)
