"""REQ (RFC 28): requests, and replies that can reach nobody but who asked.

A request travels as ``[id?][empty][body…]``. The id frame makes replies distinguishable, so that a cancelled request
cannot be answered by the reply to the next; a REP echoes it as it echoes any envelope. Programs behind a ROUTER take
apart ``[routing id][empty][body]`` by hand, so towards anything but a REP there is no id, one request at a time, and
abandoning a request breaks the connection: nothing late can come then.

It does not know who waits for an exchange; `finished` is called with it, and the socket sees to that.
"""

from __future__ import annotations

from collections.abc import Callable

from .._errors import PeerLostError, RemoteProtocolError
from .._message import Payload
from ._envelope import close_envelope, open_envelope
from ._face import Dropped, PipeFace
from ._pipeline import Sending


class Exchange:
    """One request and what became of it: nothing yet, a reply, or the loss of the peer that had it."""

    __slots__ = ("error", "number", "pipe", "reply", "wire")

    def __init__(self, pipe: PipeFace, number: bytes | None, wire: list[bytes]) -> None:
        self.pipe: PipeFace = pipe
        self.number: bytes | None = number
        self.wire: list[bytes] = wire
        self.reply: Payload | None = None
        self.error: PeerLostError | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.reply is not None or self.error is not None


class Req(Sending):
    """A load balancer, and the exchanges that are open on each pipe.

    Args:
        finished: called with each exchange when it is done (not when it was abandoned).
        correlate: True: id frames for every peer; False: for none; None: for those that are a REP.
        first_number: where the ids begin; random, so that replies are not mistaken across restarts.
    """

    def __init__(
        self,
        dropped: Dropped,
        finished: Callable[[Exchange], None],
        *,
        correlate: bool | None,
        first_number: int,
        probe: bool = False,
    ) -> None:
        super().__init__()
        self._dropped = dropped
        self._finished = finished
        self._correlate = correlate
        self._number = first_number
        self._probe = probe
        self._numbered: dict[bytes, Exchange] = {}
        self._plain: dict[PipeFace, Exchange] = {}

    def begin(self, body: Payload) -> Exchange | None:
        """Queue a request for the next peer that may have one more; None if there is no such peer now."""
        pipe = self._balancer.next()
        if pipe is None:
            return None
        number = self._next_number() if self._numbers(pipe) else None
        exchange = Exchange(pipe, number, close_envelope([] if number is None else [number], body))
        if number is None:
            self._plain[pipe] = exchange
            self._balancer.remove(pipe)
        else:
            self._numbered[number] = exchange
            self._balancer.advance()
        pipe.outbound.put(exchange.wire)
        return exchange

    def _numbers(self, pipe: PipeFace) -> bool:
        if self._correlate is not None:
            return self._correlate
        return pipe.connection is not None and pipe.peer.socket_type == "REP"

    def _next_number(self) -> bytes:
        self._number = (self._number + 1) % (1 << 32)
        return self._number.to_bytes(4, "big")

    def writable(self, pipe: PipeFace) -> None:
        if pipe not in self._plain:
            self._balancer.add(pipe)

    def ready(self, pipe: PipeFace) -> None:
        if self._probe:
            pipe.outbound.put_all([b""])
        # A request queued before we knew the peer went without a number; a REP can take numbered ones beside it.
        if self._numbers(pipe):
            self._balancer.add(pipe)

    def abandon(self, exchange: Exchange) -> None:
        """Nobody wants the reply any more; whatever comes of it reaches nobody."""
        if exchange.done:
            return
        pipe = exchange.pipe
        unsent = pipe.outbound.remove(exchange.wire)
        self._forget(exchange)
        if exchange.number is not None or unsent or pipe.connection is None:
            self._balancer.add(pipe)
        else:
            # It may be asked again when the connection on which an answer could still come is gone.
            self._balancer.remove(pipe)
            pipe.connection.restart()

    def _forget(self, exchange: Exchange) -> None:
        if exchange.number is not None:
            del self._numbered[exchange.number]
        else:
            del self._plain[exchange.pipe]

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Payload]:
        for message in messages:
            self._take_reply(pipe, message)
        return []

    def _take_reply(self, pipe: PipeFace, message: Payload) -> None:
        opened = open_envelope(message)
        # 28/REQREP: a reply is an empty delimiter and a body; libzmq ends the session over any other shape, too.
        if opened is None or len(opened.envelope) > 1 or (opened.envelope and len(opened.envelope[0]) != 4):
            raise RemoteProtocolError(
                "a reply must begin with an empty delimiter frame, or a 4-byte request id and one (RFC 28)"
            )
        exchange = self._numbered.get(opened.envelope[0]) if opened.envelope else self._plain.get(pipe)
        if exchange is None or exchange.pipe is not pipe:
            self._dropped(pipe, "late-reply", 1)
            return
        self._forget(exchange)
        self._balancer.add(pipe)
        exchange.reply = opened.body
        self._finished(exchange)

    def lost(self, pipe: PipeFace) -> None:
        ours = [exchange.wire for exchange in self._open_on(pipe)]
        for item in pipe.outbound.waiting():
            # A request that was abandoned while it was half written has come back to the queue.
            if not any(item is wire for wire in ours):
                pipe.outbound.remove(item)
        waiting = pipe.outbound.waiting()
        lost = [exchange for exchange in self._open_on(pipe) if not any(item is exchange.wire for item in waiting)]
        self._lose(lost)
        if pipe in self._plain:
            # What is still queued there went without a number, and without a connection so would the next.
            self._balancer.remove(pipe)
        else:
            self._balancer.add(pipe)

    def detached(self, pipe: PipeFace) -> None:
        # First out of the rotation: whoever hears of the loss may ask again at once, and not here.
        super().detached(pipe)
        self._lose(self._open_on(pipe))

    def _open_on(self, pipe: PipeFace) -> list[Exchange]:
        return [each for each in (*self._numbered.values(), *self._plain.values()) if each.pipe is pipe]

    def _lose(self, exchanges: list[Exchange]) -> None:
        for exchange in exchanges:
            self._forget(exchange)
            exchange.error = PeerLostError(exchange.pipe.peer)
        for exchange in exchanges:
            self._finished(exchange)
