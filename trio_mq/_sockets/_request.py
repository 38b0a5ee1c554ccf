"""REQ (RFC 28)."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.lowlevel import enable_ki_protection

from .._core._receiving import look_for, one_frame
from .._core._socket import Socket
from .._core._waiting import Line
from .._errors import StateError
from .._message import Payload, frames_of, single_frame, whole_message
from .._options import Options
from .._patterns import Exchange, Pattern
from .._patterns import Req as ReqPattern
from .._pipe import Pipe

_NOBODY: Line[None] = Line()


class Req(Socket):
    """Asks one peer at a time, in rotation, and gets its reply.

    `request` is the whole of it, for any number of tasks at once: where peers can tell requests apart (a REP can) they
    are all on their way together, elsewhere there is one for each peer and the others wait in turn. It is cancel-safe:
    a cancelled request leaves the socket usable, and its late reply reaches nobody. `send` and `receive`, strictly in
    turn, are there for who thinks in libzmq's terms; the two styles do not mix while a reply is due.

    Towards a libzmq ROUTER that dials us one thing cannot be ruled out without ids: that it keeps a late reply and
    sends it on its next connection. ``Options(req_correlate=True)`` rules it out.
    """

    socket_type = "REQ"
    pattern: ReqPattern

    def _prepare(self) -> None:
        super()._prepare()
        self._asking: Line[Payload] = Line()
        self._replies: dict[Exchange, Line[None]] = {}
        self._current: Exchange | None = None
        self._superseded: Line[None] = Line()
        self._sending = self._receiving = False

    def _new_pattern(self, options: Options) -> Pattern:
        return ReqPattern(
            self.drop,
            self._finished,
            correlate=options.req_correlate,
            first_number=self.random_number(),
            probe=options.probe_router,
        )

    @enable_ki_protection
    async def request(self, message: bytes | bytearray | memoryview) -> bytes:
        """Send *message* and return the reply to it.

        Waits for a peer, for room, for the reply. If cancelled, the reply will reach nobody; whether the peer acts on
        the request is then unknown.

        Raises:
            PeerLostError: the peer that had the request went.
            MultipartError: the reply has several frames (they are in the error).
            StateError: a `send` still awaits its reply, or the socket is not entered yet.
            TypeError: *message* is no buffer of bytes.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        return one_frame(await self._request(single_frame(message)))

    @enable_ki_protection
    async def request_multipart(self, frames: Sequence[bytes | bytearray | memoryview]) -> list[bytes]:
        """`request` with a request and a reply of any number of frames."""
        return frames_of(await self._request(whole_message(frames)))

    async def _request(self, body: Payload) -> Payload:
        self._check_open()
        if self._current is not None:
            raise StateError("a request made with send() still awaits its reply; call receive() first")
        exchange = await self._ask(body)
        try:
            return await self._reply_to(exchange)
        except BaseException:
            self._abandon(exchange)
            raise

    @enable_ki_protection
    async def send(self, value: bytes | bytearray | memoryview) -> None:
        """Send a request; its reply is to be received before the next. If cancelled, it was not sent.

        Raises:
            StateError: the reply to the request before is due (unless ``req_relaxed``, which abandons it).
            trio.BusyResourceError: another task is in `send`.
            TypeError, trio.ClosedResourceError: as `request`.
        """
        await self._send(single_frame(value))

    @enable_ki_protection
    async def send_multipart(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """`send` for a request of several frames."""
        await self._send(whole_message(frames))

    async def _send(self, body: Payload) -> None:
        self._check_open()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this Req; request() may be called by many")
        self._check_turn()
        self._sending = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._drop_current()
            self._current = await self._ask(body)
        finally:
            self._sending = False
            while self._superseded:
                self._superseded.serve(None)

    @enable_ki_protection
    def send_nowait(self, value: bytes | bytearray | memoryview) -> None:
        """`send`, or `trio.WouldBlock` if it would have to wait."""
        self.send_multipart_nowait([value])

    @enable_ki_protection
    def send_multipart_nowait(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """`send_multipart`, or `trio.WouldBlock` if it would have to wait."""
        self._check_open()
        body = whole_message(frames)
        self._check_turn()
        exchange = None if self._asking else self.pattern.begin(body)
        if exchange is None:
            raise trio.WouldBlock
        self._drop_current()
        self._current = exchange

    def _check_turn(self) -> None:
        if self._current is not None and not self._options.req_relaxed:
            raise StateError("the reply to the last request is due; call receive() first (or use request())")

    def _drop_current(self) -> None:
        exchange, self._current = self._current, None
        if exchange is not None:
            line = self._replies.pop(exchange, None)
            if line:
                line.serve(None)  # a receiver, which goes on waiting for the reply to the next
            self._abandon(exchange)

    @enable_ki_protection
    async def receive(self) -> bytes:
        """The reply to the request that was sent. If cancelled, it can be received later.

        Raises:
            StateError: no request was sent.
            PeerLostError: the peer that had the request went; the next one may be sent.
            trio.BusyResourceError: another task is in `receive`.
            MultipartError: the reply has several frames (they are in the error); it counts as received.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        return one_frame(await self._receive())

    @enable_ki_protection
    async def receive_multipart(self) -> list[bytes]:
        """`receive` for a reply of any number of frames."""
        return frames_of(await self._receive())

    async def _receive(self) -> Payload:
        exchange = self._due()
        self._receiving = True
        try:
            await self._wait_done(exchange)
            while exchange is not self._current:
                # A relaxed `send` has abandoned it, and has sent the next one, or is about to.
                if self._current is None and self._sending:
                    await self._superseded.wait(None)
                if self._current is None:
                    raise StateError("the request was abandoned, and no other was sent")
                exchange = self._current
                await self._wait_done(exchange)
        finally:
            self._receiving = False
        self._current = None
        return _outcome(exchange)

    def _due(self) -> Exchange:
        self._check_open()
        if self._current is None:
            raise StateError("no request was sent; call send() first (or use request())")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this Req; request() may be called by many")
        return self._current

    @enable_ki_protection
    def receive_nowait(self) -> bytes:
        """`receive`, or `trio.WouldBlock` if the reply is not there yet."""
        return one_frame(self._receive_nowait())

    @enable_ki_protection
    def receive_multipart_nowait(self) -> list[bytes]:
        """`receive_multipart`, or `trio.WouldBlock` if the reply is not there yet."""
        return frames_of(self._receive_nowait())

    def _receive_nowait(self) -> Payload:
        exchange = self._due()
        if not exchange.done:
            raise trio.WouldBlock
        self._current = None
        return _outcome(exchange)

    def can_send(self) -> bool:
        """Whether a `send` now would not wait, nor be out of turn (ZMQ_POLLOUT)."""
        self._check_open()
        in_turn = self._current is None or self._options.req_relaxed
        return in_turn and not self._asking and self.pattern.can_send()

    def can_receive(self) -> bool:
        """Whether the reply is there (ZMQ_POLLIN)."""
        self._check_open()
        return self._current is not None and self._current.done

    # Waiting for a peer, and for its reply.

    async def _ask(self, body: Payload) -> Exchange:
        exchange = None if self._asking else self.pattern.begin(body)
        if exchange is None:
            exchange = await self._asking.wait(body)
        return exchange  # noqa: ASYNC910  # `send` has been a checkpoint before, `request` will be one

    def _serve_asking(self) -> None:
        while self._asking:
            exchange = self.pattern.begin(self._asking.first())
            if exchange is None:
                return
            self._asking.serve(exchange)

    async def _reply_to(self, exchange: Exchange) -> Payload:
        await self._wait_done(exchange)
        return _outcome(exchange)

    async def _wait_done(self, exchange: Exchange) -> None:
        if exchange.done:
            await trio.lowlevel.checkpoint()
        elif not await self._look_for(exchange):
            line = self._replies[exchange] = Line()
            try:
                await line.wait(None)
            finally:
                self._replies.pop(exchange, None)

    async def _look_for(self, exchange: Exchange) -> bool:
        """Whether *exchange* is done within a few looks at the peer that has it."""
        connection = exchange.pipe.connection
        if connection is None:
            return False  # noqa: ASYNC910  # then the caller waits
        return await look_for(lambda: exchange.done or None, connection, _NOBODY) is not None

    def _finished(self, exchange: Exchange) -> None:
        """The pattern has a reply, or knows there will be none."""
        line = self._replies.pop(exchange, None)
        if line:
            line.serve(None)
        self._serve_asking()

    def _abandon(self, exchange: Exchange) -> None:
        self.pattern.abandon(exchange)
        self._serve_asking()

    def _writable(self, pipe: Pipe) -> None:
        super()._writable(pipe)
        self._serve_asking()

    def _disturb(self, error: type[trio.ClosedResourceError], text: str) -> None:
        self._asking.refuse_all(error, text)
        for line in [self._superseded, *self._replies.values()]:
            line.refuse_all(error, text)
        super()._disturb(error, text)


def _outcome(exchange: Exchange) -> Payload:
    if exchange.error is not None:
        raise exchange.error
    assert exchange.reply is not None
    return exchange.reply
