"""Sending: the hot path, the line of those who wait for room, and batches.

Every state change is made by sync code. An async call yields first, if it is its turn to, then acts: so a call that was
cancelled has done nothing, and one that has done something returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import length_hint
from typing import Any, TypeAlias

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from .._message import Payload, any_message, single_frame, size_of, whole_message
from .._options import Options
from .._patterns import NO_TURNS, Turns
from .._pipe import Pipe
from ._credit import BYTES_PER_CREDIT, Credit
from ._socket import Socket
from ._waiting import Line

Attempt: TypeAlias = Callable[[], "object | None"]
"""Does what a waiting call wants, if it can be done: returns None then, else what it must wait for (a gate)."""

_END: Any = object()
_BATCH = 512
"""Messages that `send_many` appends before it looks at the clock."""


class _Supply:
    """The messages of one `send_many`: taken from the iterator only when there is room for them."""

    def __init__(self, socket: MultipartSendingSocket, messages: Iterable[bytes | Sequence[bytes]]) -> None:
        self._socket = socket
        self.iterator = iter(messages)
        self.in_hand: Payload | None = None
        self.finished = False
        self.count = 0

    def attempt(self) -> object | None:
        """Send the next one, if there is room for it; an `Attempt`, also in the hands of who makes room."""
        if self.in_hand is None:
            if not self._socket.pattern.can_send():
                return self._socket.pattern
            message = next(self.iterator, _END)
            if message is _END:
                self.finished = True
                return None
            self.in_hand = self._socket.checked(any_message(message))
        # A PUB or ROUTER that blocks knows whom to wait for only now that it sees the message.
        blocked = self._socket.pattern.send(self.in_hand)
        if blocked is None:
            self.in_hand = None
            self.count += 1
        return blocked


class MultipartSendingSocket(Socket):
    """A socket that sends messages of any shape.

    Calls that can be done at once do not wait; they are checkpoints often enough for nobody to starve (every 0.2 ms,
    see DESIGN.md). Calls that wait are checkpoints always. In a scope that is already cancelled up to 64 calls may
    still succeed, whole.
    """

    def _prepare(self) -> None:
        super()._prepare()
        self._turns: Turns = NO_TURNS
        self._dealt = 0
        self._lines: dict[object, Line[Attempt]] = {}
        self._serving = False
        self._to_serve: deque[object] = deque()
        self._send_credit = Credit(self.clock)

    @enable_ki_protection
    async def send_multipart(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """Queue a message of several frames, all or none of it. If cancelled, it was not queued.

        Raises:
            TypeError: *frames* is not a sequence of buffers.
            ValueError: there is no frame.
            StateError, trio.ClosedResourceError: as `send`.
        """
        await self._send(whole_message(frames))

    @enable_ki_protection
    def send_multipart_nowait(self, frames: Sequence[bytes | bytearray | memoryview]) -> None:
        """`send_multipart`, or `trio.WouldBlock` if it would have to wait."""
        self._send_nowait(whole_message(frames))

    @enable_ki_protection
    async def send_many(self, messages: Iterable[bytes | Sequence[bytes]]) -> None:
        """Queue many messages, dealt to peers one by one as `send` would; much faster for small ones.

        It waits for room before it takes a message from *messages*: after a cancellation exactly the messages taken
        were queued, so pass an iterator to go on with the rest.

        A PUB, XPUB or ROUTER with ``overflow="block"`` waits with one message in hand; cancelled then, that one was not
        queued.

        Args:
            messages: each a buffer (one frame) or a sequence of them (several).

        Raises:
            TypeError, StateError, trio.ClosedResourceError: as `send`; those before it were queued.
        """
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        supply = _Supply(self, messages)
        while True:
            self.revoke_turns()
            blocked = self.pattern if self.pattern in self._lines else supply.attempt()
            if blocked is not None:
                await self._stand_in_line(blocked, supply.attempt)
            elif not supply.finished:
                self._send_along(supply)
            if supply.finished:
                return
            if self._send_credit.used_up():
                await checkpoint()
                self._send_credit.yielded()
                self._check_open()

    @enable_ki_protection
    def send_many_nowait(self, messages: Iterable[bytes | Sequence[bytes]]) -> int:
        """As many of *messages* as can be queued now; returns how many. No message beyond them is taken.

        Except where a PUB, XPUB or ROUTER blocks (``overflow="block"``): the one that would have to wait was taken.
        """
        self._check_open()
        self.revoke_turns()
        supply = _Supply(self, messages)
        while self.pattern not in self._lines and supply.attempt() is None and not supply.finished:
            self._send_along(supply)
        return supply.count

    def _send_along(self, supply: _Supply) -> None:
        """Send more of *supply* while they can just be appended."""
        turns = self._turns = self.pattern.turns(_BATCH)
        self._dealt = length_hint(turns)
        try:
            for message in islice(supply.iterator, self._dealt):
                payload = message if type(message) is bytes else self.checked(any_message(message))
                if self._turns is not turns:
                    # Whoever made the message has used this socket, or its peer, meanwhile.
                    supply.in_hand = payload
                    break
                next(turns)(payload)
                supply.count += 1
        finally:
            self.revoke_turns()

    def can_send(self) -> bool:
        """Whether a `send` now would not wait (ZMQ_POLLOUT)."""
        self._check_open()
        return self.pattern not in self._lines and self.pattern.can_send()

    async def wait_sendable(self) -> None:
        """Wait until a message can be sent, and send none. Somebody else may be faster then."""
        self._check_open()
        if not self.can_send():
            await self._stand_in_line(self.pattern, lambda: None if self.pattern.can_send() else self.pattern)

    async def pass_on(self, message: Payload) -> None:
        """Send *message* as it came from another socket; waits only where the receiver it is for has no room."""
        self.revoke_turns()
        blocked = self._try_send(message)
        if blocked is not None:
            await self._stand_in_line(blocked, lambda: self.pattern.send(message))

    def send_payload_nowait(self, message: Payload) -> None:
        """Send *message* as it came from another socket, or raise `trio.WouldBlock`."""
        self._send_nowait(message)

    # The slow way.

    async def _send(self, message: Payload) -> None:
        self._check_open()
        self.revoke_turns()
        await self._yield_if_due()
        blocked = self._try_send(message)
        if blocked is not None:
            await self._stand_in_line(blocked, lambda: self.pattern.send(message))
            return
        self._deal(1 + size_of(message) // BYTES_PER_CREDIT)

    def _deal(self, spent: int) -> None:
        """Account for what was spent; deal turns if credit is left and nobody waits."""
        credit = self._send_credit
        credit.left -= spent
        if credit.left > 0 and not self._lines:
            self._turns = self.pattern.turns(credit.left)
            self._dealt = length_hint(self._turns)

    def revoke_turns(self) -> None:
        if self._turns is not NO_TURNS:
            unused = length_hint(self._turns)
            self._turns = NO_TURNS
            self._send_credit.left -= self._dealt - unused
            self.pattern.revoke(unused)

    async def _yield_if_due(self) -> None:
        credit = self._send_credit
        if credit.left <= 0 and credit.used_up():
            await checkpoint()
            credit.yielded()
            self._check_open()
            self.revoke_turns()

    def _send_nowait(self, message: Payload) -> None:
        self._check_open()
        self.revoke_turns()
        if self._try_send(message) is not None:
            raise trio.WouldBlock

    def _try_send(self, message: Payload) -> object | None:
        """Queue *message* unless somebody waits already, or must; returns what for."""
        self.checked(message)
        if self._lines:
            gate = self.pattern.gate(message)
            if gate in self._lines:
                return gate
        return self.pattern.send(message)

    def checked(self, message: Payload) -> Payload:
        """*message*, if the options allow such a one."""
        if self._options.conflate and not isinstance(message, bytes):
            raise ValueError("Options(conflate=True) is for messages of one frame (as with libzmq)")
        return message

    async def _stand_in_line(self, gate: object | None, attempt: Attempt) -> None:
        """Wait at *gate* until whoever makes room there has made *attempt* succeed. Cancelled: it has not."""
        while gate is not None:
            line = self._lines.get(gate)
            if line is None:
                line = self._lines[gate] = Line()
            try:
                moved = await line.wait(attempt)
            finally:
                if not line and self._lines.get(gate) is line:
                    del self._lines[gate]
            self._send_credit.yielded()
            # The peer it waited for may have become another one (a handover): then it must wait there.
            gate = attempt() if moved else None

    # Serving.

    def _writable(self, pipe: Pipe) -> None:
        self.revoke_turns()
        self.pattern.writable(pipe)
        if self._lines:
            self._serve_senders(pipe, self.pattern)

    def _gone(self, pipe: Pipe) -> None:
        if self._lines:
            self._serve_senders(pipe, self.pattern)

    def _serve_senders(self, *gates: object) -> None:
        """Send for those who wait at *gates*, in order, as far as there is room.

        Sending can make room (an inline write), which brings us here again from within; then the gate is only noted, or
        the first in line would be sent twice.
        """
        self._to_serve.extend(gates)
        if self._serving:
            return
        self._serving = True
        try:
            while self._to_serve:
                self._serve_gate(self._to_serve.popleft())
        finally:
            self._serving = False

    def _serve_gate(self, gate: object) -> None:
        line = self._lines.get(gate)
        while line:
            try:
                blocked = line.first()()
            except Exception as exc:  # noqa: BLE001  # it belongs to the call that waits, an iterator's own errors too
                line.refuse(exc)
                continue
            if blocked is gate:
                break
            line.serve(blocked is not None)
        if line is not None and not line:
            self._lines.pop(gate, None)

    def _disturb(self, error: type[trio.ClosedResourceError], text: str) -> None:
        self.revoke_turns()
        for line in list(self._lines.values()):
            line.refuse_all(error, text)
        self._lines.clear()
        super()._disturb(error, text)

    def _apply(self, options: Options) -> None:
        super()._apply(options)
        self._serve_senders(*self._lines)


class SendingSocket(MultipartSendingSocket):
    """A socket that sends messages of one frame, too."""

    @enable_ki_protection
    async def send(self, value: bytes | bytearray | memoryview) -> None:
        """Queue a message of one frame for a peer. If cancelled, it was not queued.

        Messages to one peer arrive in the order in which they were sent. What the socket does when there is no peer or
        no room is said on its class.

        Raises:
            TypeError: *value* is not a buffer of bytes; encode a `str`, give several frames to `send_multipart`.
            StateError: the socket is not entered yet.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        if type(value) is bytes:
            # The cheapest way in CPython to take one from an iterator or to fall through when it is used up.
            for turn in self._turns:
                turn(value)
                return
        await self._send(single_frame(value))

    @enable_ki_protection
    def send_nowait(self, value: bytes | bytearray | memoryview) -> None:
        """`send`, or `trio.WouldBlock` if it would have to wait."""
        self._send_nowait(single_frame(value))
