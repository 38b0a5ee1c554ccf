"""The outbox: what waits to go to one peer, while the socket's own queue to it is full.

The socket's queue is first in, first out and short (a mark in bytes); while it has room everything goes straight into
it. What has none waits here, where order is still ours: control first, then the calls in turn, one unit each, so that
no large message keeps the others waiting.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import TypeAlias

import trio

from ._parking import Parking

Frames: TypeAlias = list[bytes]
UNIT_COST = 512
"""Bytes that a unit takes beside those that go out: many small ones would otherwise hardly count."""


class Pieces:
    """The pieces of a large message, cut only when they go."""

    __slots__ = ("_iterator", "left", "next")

    def __init__(self, size: int, pieces: Iterator[Frames]) -> None:
        self.left: int = size
        self._iterator = pieces
        self.next: Frames = next(pieces)

    def advance(self) -> bool:
        """The next piece has gone; False when it was the last."""
        piece = next(self._iterator, None)
        if piece is None:
            self.left = 0
            return False
        self.left -= min(self.left, sum(map(len, self.next)))
        self.next = piece
        return True


Item: TypeAlias = "Frames | Pieces"


class Outbox:
    """What waits for one peer.

    Args:
        send_nowait: puts a message into the socket's queue to this peer, or raises `trio.WouldBlock`.
        on_blocked: called when something begins to wait; somebody must `drain` then.

    Attributes:
        blocked: something waits, so everything else must, too.
        waiting_bytes: of how many bytes, each unit with its `UNIT_COST`, control aside.
        writers: who is woken when nothing waits any more; the end of their calls wakes them, too.
    """

    __slots__ = (
        "_calls",
        "_control",
        "_on_blocked",
        "_send_nowait",
        "_unopened",
        "blocked",
        "waiting_bytes",
        "writers",
    )

    def __init__(self, send_nowait: Callable[[Frames], None], on_blocked: Callable[[Outbox], None]) -> None:
        self._send_nowait = send_nowait
        self._on_blocked = on_blocked
        self._control: OrderedDict[object, Frames] = OrderedDict()
        self._calls: OrderedDict[Hashable, deque[Item]] = OrderedDict()
        self._unopened: set[Hashable] = set()
        self.blocked: bool = False
        self.waiting_bytes: int = 0
        self.writers: set[Parking] = set()

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._control)} control, {len(self._calls)} calls waiting>"

    def send(self, call_id: Hashable, frames: Frames, *, opens: bool = False) -> None:
        """Send a unit of a call, behind what waits of that call; *opens*: it is the first of them."""
        if not self.blocked:
            try:
                self._send_nowait(frames)
                return
            except trio.WouldBlock:
                self._block()
        self._wait(call_id, frames, opens)

    def send_pieces(self, call_id: Hashable, pieces: Pieces, *, opens: bool = False) -> None:
        """Send a large message of a call, in turn with the other calls."""
        self._wait(call_id, pieces, opens)
        if not self.blocked:
            self._block()

    def send_control(self, key: object, frames: Frames) -> None:
        """Send what may overtake every call's messages; of those with one *key* only the last is worth sending."""
        if not self.blocked:
            try:
                self._send_nowait(frames)
                return
            except trio.WouldBlock:
                self._block()
        self._control[key] = frames

    def forget(self, call_id: Hashable, *, control: object = None) -> bool:
        """Drop what waits of a call, and the control unit with that key; True if the peer has never heard of it."""
        self._control.pop(control, None)
        self.waiting_bytes -= sum(map(_size_of, self._calls.pop(call_id, ())))
        unopened = call_id in self._unopened
        self._unopened.discard(call_id)
        return unopened

    def waits(self, call_id: Hashable) -> bool:
        """Whether something of this call waits."""
        return call_id in self._calls

    @property
    def unopened(self) -> frozenset[Hashable]:
        """Calls of which the peer has never heard."""
        return frozenset(self._unopened)

    def clear(self) -> None:
        """The peer is gone: nothing of all this is ever sent."""
        self._control.clear()
        self._calls.clear()
        self._unopened.clear()
        self.waiting_bytes = 0

    async def drain(self, wait_room: Callable[[], Awaitable[object]]) -> None:
        """Send what waits as room comes; returns when nothing waits any more."""
        try:
            while self._control or self._calls:
                await wait_room()
                self._flush()
            self.blocked = False
        finally:
            writers, self.writers = self.writers, set()
            for writer in writers:
                writer.wake()

    def _block(self) -> None:
        self.blocked = True
        self._on_blocked(self)

    def _wait(self, call_id: Hashable, item: Item, opens: bool) -> None:
        if opens:
            self._unopened.add(call_id)
        waiting = self._calls.get(call_id)
        if waiting is None:
            waiting = self._calls[call_id] = deque()
        waiting.append(item)
        self.waiting_bytes += _size_of(item)

    def _flush(self) -> None:
        try:
            while self._control:
                key, frames = next(iter(self._control.items()))
                self._send_nowait(frames)
                del self._control[key]
            while self._calls:
                self._send_next(*next(iter(self._calls.items())))
        except trio.WouldBlock:
            pass

    def _send_next(self, call_id: Hashable, waiting: deque[Item]) -> None:
        """One unit of the call whose turn it is, which then goes to the end of the line."""
        item = waiting[0]
        size = _size_of(item)
        self._send_nowait(item if isinstance(item, list) else item.next)
        self._unopened.discard(call_id)
        if isinstance(item, list) or not item.advance():
            waiting.popleft()
            self.waiting_bytes -= size
        else:
            self.waiting_bytes -= size - _size_of(item)
        if waiting:
            self._calls.move_to_end(call_id)
        else:
            del self._calls[call_id]


def _size_of(item: Item) -> int:
    return UNIT_COST + (sum(map(len, item)) if isinstance(item, list) else item.left)
