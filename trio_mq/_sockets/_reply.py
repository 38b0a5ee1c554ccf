"""REP (RFC 28)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import trio
from trio.lowlevel import enable_ki_protection

from .._core._receiving import InboundSocket, one_frame
from .._errors import StateError
from .._events import RequestUnanswered
from .._message import Payload, Peer, frames_of, single_frame, whole_message
from .._options import Options
from .._patterns import Incoming, Pattern
from .._patterns import Rep as RepPattern


class Request:
    """One request at a REP, to be answered once, whenever, by any task.

    Attributes:
        frames: the request's frames, without its envelope.
        peer: who asked.
    """

    def __init__(self, socket: Rep, incoming: Incoming) -> None:
        self._socket = socket
        self._incoming = incoming
        self._answered = False
        self.frames: list[bytes] = frames_of(incoming.body)
        self.peer: Peer = incoming.pipe.peer

    def __repr__(self) -> str:
        state = "answered" if self._answered else "waits for its reply"
        return f"<Request of {self.peer.address or self.peer.endpoint}: {len(self.frames)} frames, {state}>"

    @property
    def message(self) -> bytes | list[bytes]:
        """The request: bare if it has one frame, else a list."""
        return self._incoming.body

    async def reply(self, message: bytes | bytearray | memoryview) -> None:
        """Answer with one frame. If cancelled, nothing was sent and it may be tried again.

        A peer that is gone, or whose queue is full, does not get it; that is counted and no error (RFC 28).

        Raises:
            StateError: it was answered already.
            TypeError: *message* is no buffer of bytes.
            trio.ClosedResourceError: the socket was closed.
        """
        await self._reply(single_frame(message))

    async def reply_multipart(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """`reply` with several frames."""
        await self._reply(whole_message(frames))

    @enable_ki_protection
    async def _reply(self, body: Payload) -> None:
        self._check()
        await trio.lowlevel.checkpoint_if_cancelled()
        self.answer(body)

    def _check(self) -> None:
        if self._answered:
            raise StateError("this request was answered already; a request has one reply")
        self._socket.check_open()

    def answer(self, body: Payload) -> None:
        """What `reply` and `Rep.send` come down to: *body*, checked, becomes the reply, at once. Not for programs."""
        self._check()
        self._answered = True
        self._socket.pattern.reply(self._incoming, body)

    def __del__(self) -> None:
        if not self._answered and not self._socket.closed:
            self._socket.reporter.report(RequestUnanswered(endpoint=self.peer.endpoint, peer=self.peer))


class Requests:
    """The requests that come to a REP: ``async for request in rep.requests()``. Several tasks may iterate."""

    def __init__(self, socket: Rep) -> None:
        self._socket = socket

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        try:
            return await self._socket.next_request()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None


class Rep(InboundSocket):
    """Answers requests, hearing its peers in turn.

    `requests` gives any number of requests at once, each answered on its own. `receive` and `send`, strictly in turn,
    are there for who thinks in libzmq's terms, and may be mixed with it.
    """

    socket_type = "REP"
    pattern: RepPattern

    def _prepare(self) -> None:
        super()._prepare()
        self._current: Request | None = None
        self._receiving = False

    def _new_pattern(self, options: Options) -> Pattern:
        return RepPattern(self.drop)

    def check_open(self) -> None:
        """Raise unless the socket is open."""
        self._check_open()

    def requests(self) -> Requests:
        """Iterate over requests, in fair order, until the socket is closed. Answer each with `Request.reply`."""
        self._check_open()
        return Requests(self)

    @enable_ki_protection
    async def next_request(self) -> Request:
        """The next request. If cancelled, none was taken.

        Raises:
            StateError: the socket is not entered yet.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        request: Request = await self._wait_for(self._take_request)
        self._receive_credit.left -= 1
        return request

    def _take_request(self) -> Request | None:
        incoming = self.pattern.next_request()
        return None if incoming is None else Request(self, incoming)

    @enable_ki_protection
    async def receive(self) -> bytes:
        """The next request, which `send` will answer. If cancelled, none was taken.

        Raises:
            StateError: the request before was not answered yet.
            MultipartError: it has several frames (they are in the error); it is the current request all the same.
            trio.BusyResourceError: another task is in `receive`; `requests` is for several.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        return one_frame((await self._receive()).message)

    @enable_ki_protection
    async def receive_multipart(self) -> list[bytes]:
        """`receive` for a request of any number of frames."""
        return (await self._receive()).frames

    async def _receive(self) -> Request:
        self._check_turn()
        self._receiving = True
        try:
            self._current = await self.next_request()
        finally:
            self._receiving = False
        return self._current

    def _check_turn(self) -> None:
        self._check_open()
        if self._current is not None:
            raise StateError("the last request was not answered; call send() first (or use requests())")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this Rep; requests() may be iterated by many")

    @enable_ki_protection
    def receive_nowait(self) -> bytes:
        """`receive`, or `trio.WouldBlock` if there is no request."""
        return one_frame(self._receive_nowait().message)

    @enable_ki_protection
    def receive_multipart_nowait(self) -> list[bytes]:
        """`receive_multipart`, or `trio.WouldBlock` if there is no request."""
        return self._receive_nowait().frames

    def _receive_nowait(self) -> Request:
        self._check_turn()
        self._current = None if self._receivers else self._take_request()
        if self._current is None:
            raise trio.WouldBlock
        return self._current

    @enable_ki_protection
    async def send(self, value: bytes | bytearray | memoryview) -> None:
        """Answer the request that was received. If cancelled, nothing was sent and it may be tried again.

        Raises:
            StateError: no request was received, or it was answered.
            TypeError, trio.ClosedResourceError: as `Request.reply`.
        """
        await self._send(single_frame(value))

    @enable_ki_protection
    async def send_multipart(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """`send` for a reply of several frames."""
        await self._send(whole_message(frames))

    async def _send(self, body: Payload) -> None:
        self._due()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._answer_current(body)

    @enable_ki_protection
    def send_nowait(self, value: bytes | bytearray | memoryview) -> None:
        """`send`; it never has to wait."""
        self._answer_current(single_frame(value))

    @enable_ki_protection
    def send_multipart_nowait(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """`send_multipart`; it never has to wait."""
        self._answer_current(whole_message(frames))

    def _answer_current(self, body: Payload) -> None:
        request = self._due()
        self._current = None
        request.answer(body)

    def _due(self) -> Request:
        self._check_open()
        if self._current is None:
            raise StateError("there is no request to answer; call receive() first (or use requests())")
        return self._current

    def can_send(self) -> bool:
        """Whether there is a request to answer (ZMQ_POLLOUT)."""
        self._check_open()
        return self._current is not None

    def can_receive(self) -> bool:
        """Whether a `receive` now would not wait, nor be out of turn (ZMQ_POLLIN)."""
        self._check_open()
        return self._current is None and self.pattern.can_receive()
