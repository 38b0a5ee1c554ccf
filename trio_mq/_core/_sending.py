"""Sending: the hot path, the line of those who wait for room, and batches.

Every state change is made by sync code. An async call yields first, if it is its turn to, then acts: so a call that was
cancelled has done nothing, and one that has done something returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from typing import Any

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from .._errors import MQError
from .._message import Payload, any_message, single_frame, size_of, whole_message
from .._options import Options
from .._patterns import NO_TURNS, Turns
from .._pipe import Pipe
from ._credit import BYTES_PER_CREDIT, Credit
from ._socket import Socket
from ._waiting import Line


class _Room:
    """What `send_many` waits for: room for a message that it has not taken from its iterator yet."""


_ROOM: Any = _Room()
_BATCH = 512
"""Messages that `send_many` appends before it looks at the clock."""


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
        self._lines: dict[object, Line[Payload]] = {}
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
        iterator = iter(messages)
        while True:
            self.revoke_turns()
            if not self._room_for_many():
                await self._wait_for_room()
                self._check_open()
            message = next(iterator, _ROOM)
            if message is _ROOM:
                return
            payload = any_message(message)
            blocked = self._try_send(payload)
            if blocked is not None:
                # A PUB or ROUTER that blocks knows whom to wait for only when it sees the message.
                await self._stand_in_line(blocked, payload)
            else:
                self._send_along(iterator)
            if self._send_credit.used_up():
                await checkpoint()
                self._send_credit.yielded()
                self._check_open()

    @enable_ki_protection
    def send_many_nowait(self, messages: Iterable[bytes | Sequence[bytes]]) -> int:
        """As many of *messages* as can be queued now; returns how many. No message beyond them is taken."""
        self._check_open()
        self.revoke_turns()
        iterator = iter(messages)
        count = 0
        while self._room_for_many():
            message = next(iterator, _ROOM)
            if message is _ROOM or self._try_send(any_message(message)) is not None:
                break
            count += 1 + self._send_along(iterator)
        return count

    def _send_along(self, messages: Iterator[bytes | Sequence[bytes]]) -> int:
        """Send more of *messages* while they can just be appended; returns how many."""
        turns = self.pattern.turns(_BATCH)
        dealt = length_hint(turns)
        try:
            for message, turn in zip(islice(messages, dealt), turns, strict=False):
                turn(message if type(message) is bytes else any_message(message))
        finally:
            unused = length_hint(turns)
            self.pattern.revoke(unused)
        return dealt - unused

    def can_send(self) -> bool:
        """Whether a `send` now would not wait (ZMQ_POLLOUT)."""
        self._check_open()
        return not self._lines and self.pattern.can_send()

    async def wait_sendable(self) -> None:
        """Wait until a message can be sent, and send none."""
        self._check_open()
        if not self.can_send():
            await self._wait_for_room()

    async def pass_on(self, message: Payload) -> None:
        """Send *message* as it came from another socket; waits only where the receiver it is for has no room."""
        self.revoke_turns()
        blocked = self._try_send(message)
        if blocked is not None:
            await self._stand_in_line(blocked, message)

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
            await self._stand_in_line(blocked, message)
            self._send_credit.yielded()
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
        blocked = self._try_send(message)
        if blocked is not None:
            raise trio.WouldBlock

    def _try_send(self, message: Payload) -> object | None:
        """Queue *message* unless somebody waits already, or must; returns what for."""
        if self._options.conflate and not isinstance(message, bytes):
            raise ValueError("Options(conflate=True) is for messages of one frame (as with libzmq)")
        if self._lines:
            gate = self.pattern.gate(message)
            if gate in self._lines:
                return gate
        return self.pattern.send(message)

    async def _stand_in_line(self, gate: object, message: Payload) -> None:
        line = self._lines.get(gate)
        if line is None:
            line = self._lines[gate] = Line()
        try:
            await line.wait(message)
        finally:
            if not line and self._lines.get(gate) is line:
                del self._lines[gate]

    # Batches.

    def _room_for_many(self) -> bool:
        return not self._lines and self.pattern.can_send()

    async def _wait_for_room(self) -> None:
        try:
            await self._stand_in_line(self.pattern, _ROOM)
        except BaseException:
            # Room that was kept for us is somebody else's now.
            self._serve_senders(self.pattern)
            raise
        self._send_credit.yielded()

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
            if line.first() is _ROOM:
                if self.pattern.can_send():
                    line.serve(None)
                break
            try:
                if self.pattern.send(line.first()) is not None:
                    break
            except MQError as exc:
                line.refuse(exc)
            else:
                line.serve(None)
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
        if self._lines:
            self._serve_senders(self.pattern)


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
