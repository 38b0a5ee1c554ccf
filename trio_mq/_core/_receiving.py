"""Receiving: the hot path, the line of those who wait for messages, batches, iteration.

Messages change hands in batches: what one pipe (or several, strictly in turn) has is taken at once and then given out
one by one, so that fairness, marks and checkpoints are settled once for each batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from operator import length_hint
from typing import Any, Generic, Self, TypeVar

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from .._errors import MultipartError
from .._message import Message, Payload, PeerJoined, PeerLeft, Received
from .._patterns import Carrier, PipeFace
from .._pipe import Pipe
from ._credit import MOST, Credit
from ._socket import Socket
from ._waiting import Line

_EMPTY: Iterator[Any] = iter(())
MANY = 1000
"""Messages that `receive_many` gives at most, unless told otherwise."""
Item = TypeVar("Item")


async def look_for(take: Callable[[], Any], connection: Carrier, line: Line[Any]) -> Any:
    """What *take* gives within as many looks at *connection* as are worth while, or None.

    Others run after each look. It is nobody's turn while somebody stands in *line*.
    """
    looks = connection.looks()
    for _ in range(looks):
        await checkpoint()
        if line:
            break
        got = take()
        if got is None and connection.look():
            got = take()
        if got is not None:
            connection.looked(True)
            return got
    if looks:
        connection.looked(False)
    return None


class Iteration(Generic[Item]):
    """``async for`` over what a call gives, until the socket is closed."""

    def __init__(self, receive: Callable[[], Awaitable[Item]]) -> None:
        self._receive = receive

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        try:
            return await self._receive()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None


class InboundSocket(Socket):
    """A socket at which tasks wait for something to come in, in line."""

    def _prepare(self) -> None:
        super()._prepare()
        self._receivers: Line[Callable[[], Any]] = Line()
        self._receive_credit = Credit(self.clock)

    async def _wait_for(self, take: Callable[[], Any]) -> Any:
        """What *take* gives, as soon as it gives something."""
        self._check_open()
        credit = self._receive_credit
        if credit.left <= 0 and credit.used_up():
            await checkpoint()
            credit.yielded()
            self._check_open()
        got = None if self._receivers else take()
        if got is None:
            got = await self._look_for(take)
            if got is None:
                self._check_open()  # others ran between the looks
                got = await self._receivers.wait(take)
            credit.yielded()
        return got

    async def _look_for(self, take: Callable[[], Any]) -> Any:
        """What *take* gives within a few looks at the only peer there is, or None."""
        connection = self._only_connection
        if connection is None or self._receivers:
            return None
        return await look_for(take, connection, self._receivers)

    def _readable(self, pipe: Pipe) -> None:
        self.pattern.readable(pipe)
        if self._receivers:
            self._serve_receivers()

    def _serve_receivers(self) -> None:
        """Hand messages to those who wait, in order, as long as there are some."""
        while self._receivers:
            got = self._receivers.first()()
            if got is None:
                return
            self._receivers.serve(got)

    def _disturb(self, error: type[trio.ClosedResourceError], text: str) -> None:
        self._receivers.refuse_all(error, text)
        super()._disturb(error, text)


class ReceivingSocket(InboundSocket):
    """A socket that receives messages of any shape.

    Calls that can be done at once do not wait; they are checkpoints often enough for nobody to starve (every 0.2 ms,
    see DESIGN.md). Calls that wait are checkpoints always. Several tasks may receive: each message goes to one of them,
    in the order in which they came. When a peer's queue is full we stop reading from that peer; nothing is dropped.
    """

    def _prepare(self) -> None:
        super()._prepare()
        self._ready: Iterator[Any] = _EMPTY
        self._batch: list[Any] = []
        self._batch_pipes: Sequence[PipeFace] = ()

    @enable_ki_protection
    async def receive_multipart(self) -> list[bytes]:
        """The next message, of any number of frames. If cancelled, none was taken.

        With ``Options(peer_events=True)`` it may also be a `PeerJoined` or `PeerLeft`.

        Raises:
            StateError, trio.ClosedResourceError: as `receive`.
        """
        for message in self._ready:
            return _frames(message)
        return _frames(await self._receive())

    @enable_ki_protection
    def receive_multipart_nowait(self) -> list[bytes]:
        """`receive_multipart`, or `trio.WouldBlock` if there is no message."""
        return _frames(self._receive_nowait())

    @enable_ki_protection
    async def receive_message(self) -> Message:
        """The next message with its origin: frames, peer, user id, properties. If cancelled, none was taken.

        Raises:
            StateError, trio.ClosedResourceError: as `receive`.
        """
        for message in self._ready:
            if not isinstance(message, (PeerJoined, PeerLeft)):
                return Message(tuple(_frames(message)), self._last_pipe().peer)
        while True:
            message, pipe = await self._wait_for(self._take_with_pipe)
            if not isinstance(message, (PeerJoined, PeerLeft)):
                return Message(tuple(_frames(message)), pipe.peer)

    @enable_ki_protection
    async def receive_many(self, limit: int | None = None) -> list[Received]:
        """Up to *limit* (1,000) messages that are there, at least one; waits for that. If cancelled, none was taken.

        One-frame messages are bare `bytes`, others lists; on a ROUTER all are lists that begin with the routing id.
        Peer events come in their place (``Options(peer_events=True)``).

        Raises:
            ValueError: *limit* is less than 1.
            StateError, trio.ClosedResourceError: as `receive`.
        """
        most = _limit(limit)
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._receive_credit.left = 0
        batch: list[Received] = await self._wait_for(lambda: self._take_many(most))
        return batch

    @enable_ki_protection
    def receive_many_nowait(self, limit: int | None = None) -> list[Received]:
        """`receive_many`, or `trio.WouldBlock` if there is no message."""
        most = _limit(limit)
        self._check_open()
        batch = None if self._receivers else self._take_many(most)
        if batch is None:
            raise trio.WouldBlock
        return batch

    def multiparts(self) -> Iteration[list[bytes]]:
        """Iterate over all messages, as lists of frames, until the socket is closed."""
        self._check_open()
        return Iteration(self.receive_multipart)

    def messages(self) -> Iteration[Message]:
        """Iterate over all messages with their origin until the socket is closed."""
        self._check_open()
        return Iteration(self.receive_message)

    async def wait_receivable(self) -> None:
        """Wait until something can be received, and take nothing."""
        await self._wait_for(lambda: length_hint(self._ready) > 0 or self.pattern.can_receive() or None)

    def can_receive(self) -> bool:
        """Whether a `receive` now would not wait (ZMQ_POLLIN)."""
        self._check_open()
        return length_hint(self._ready) > 0 or self.pattern.can_receive()

    # The slow way.

    async def _receive(self) -> Any:
        return await self._wait_for(self._take_one)

    def take_nowait(self) -> Any:
        """The next message in the form that queues hold, or `trio.WouldBlock`."""
        return self._receive_nowait()

    def take_back(self, message: Any) -> None:
        """Put the message that was taken last first in line again."""
        first = len(self._batch) - length_hint(self._ready) - 1
        pipes = [self._batch_pipes[at % len(self._batch_pipes)] for at in range(first, len(self._batch))]
        self._batch, self._batch_pipes = [message, *self._ready], pipes
        self._ready = iter(self._batch)

    def _receive_nowait(self) -> Any:
        self._check_open()
        message = None if self._receivers else self._take_one()
        if message is None:
            raise trio.WouldBlock
        return message

    def _take_one(self) -> Any:
        """The next message, or None."""
        for message in self._ready:
            return message
        if not self._refill():
            return None
        return next(self._ready)

    def _refill(self) -> bool:
        """Take the next batch from the pattern."""
        credit = self._receive_credit
        # Messages in hand do not count against the receive mark any more, so keep them few where the mark is low.
        mark = self._options.receive_hwm
        limit = max(1, min(credit.left, MOST if mark is None else mark >> 2))
        batch = self.pattern.take(limit)
        self._batch, self._batch_pipes = batch
        self._ready = iter(self._batch)
        credit.left -= len(self._batch)
        return bool(self._batch)

    def _take_with_pipe(self) -> tuple[Any, PipeFace] | None:
        message = self._take_one()
        return None if message is None else (message, self._last_pipe())

    def _last_pipe(self) -> PipeFace:
        """Where the message came from that was taken last; some must have been."""
        index = len(self._batch) - length_hint(self._ready) - 1
        return self._batch_pipes[index % len(self._batch_pipes)]

    def _take_many(self, limit: int) -> list[Received] | None:
        unread = length_hint(self._ready)
        if unread > limit:
            return [next(self._ready) for _ in range(limit)]
        taken = list(self._ready)
        while len(taken) < limit:
            batch = self.pattern.take(limit - len(taken))
            if not batch.messages:
                break
            taken = taken + batch.messages if taken else batch.messages
            self._batch, self._batch_pipes = batch
        self._ready = _EMPTY
        return taken or None

    def _disturb(self, error: type[trio.ClosedResourceError], text: str) -> None:
        # Nobody receives them any more; where the peer gets back what was not received, they are part of that.
        for pipe in self._pipes:
            pipe.inbound.put_back([self.pattern.unrefine(message) for message in self._in_hand(pipe)])
        self._ready, self._batch = _EMPTY, []
        super()._disturb(error, text)

    def retire(self, pipe: Pipe, stand_in: Pipe) -> None:
        if pipe in self._batch_pipes:
            self._batch_pipes = [stand_in if each is pipe else each for each in self._batch_pipes]

    def _in_hand(self, pipe: Pipe) -> list[object]:
        unread = length_hint(self._ready)
        first = len(self._batch) - unread
        pipes = self._batch_pipes
        return [self._batch[at] for at in range(first, len(self._batch)) if pipes[at % len(pipes)] is pipe]


class FrameReceivingSocket(ReceivingSocket):
    """A socket whose ``async for`` gives one-frame messages.

    No peer can end the loop: a message of several frames is skipped, counted (``'multipart'``) and reported; iterate
    over `multiparts` or `messages` to have them all. The loop ends when the socket is closed.
    """

    @enable_ki_protection
    async def receive(self) -> bytes:
        """The next message, of one frame. If cancelled, none was taken.

        Peers are heard in turn, one message each; messages of one peer come in the order in which it sent them. With
        ``Options(peer_events=True)`` it may also be a `PeerJoined` or `PeerLeft`.

        Raises:
            MultipartError: the message has several frames. It was taken, and is in the error's ``frames``.
            StateError: the socket is not entered yet.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        # The cheapest way in CPython to take one from an iterator or to fall through when it is used up.
        for message in self._ready:
            return message if type(message) is bytes else one_frame(message)
        return one_frame(await self._receive())

    @enable_ki_protection
    def receive_nowait(self) -> bytes:
        """`receive`, or `trio.WouldBlock` if there is no message."""
        return one_frame(self._receive_nowait())

    def __aiter__(self) -> Self:
        self._check_open()
        return self

    @enable_ki_protection
    async def __anext__(self) -> bytes:
        while True:
            for message in self._ready:
                if type(message) is bytes:
                    return message
                break
            else:
                try:
                    message = await self._receive()
                except trio.ClosedResourceError:
                    raise StopAsyncIteration from None
            if not isinstance(message, list):
                single: bytes = message
                return single
            pipe = self._last_pipe()
            self.drop(pipe if isinstance(pipe, Pipe) else None, "multipart", 1)


def _frames(message: Payload) -> list[bytes]:
    """The frames of a message; an event (which the type does not show) as it is."""
    return [message] if isinstance(message, bytes) else message


def _limit(limit: int | None) -> int:
    if limit is None:
        return MANY
    if not isinstance(limit, int):
        raise TypeError(f"limit is a whole number, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    return limit


def one_frame(message: Any) -> bytes:
    """The frame of a message of one; an event (which the type does not show) as it is."""
    if isinstance(message, list):
        raise MultipartError(message)
    single: bytes = message
    return single
