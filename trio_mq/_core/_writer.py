"""The writing half of an engine: from the outbound mailbox to the kernel.

* IDLE: nothing to write, the writing task is parked. The first message after a pause is written by the sender itself,
  inline; if the last write is young a stream is running, and the writing task is woken instead, which joins what has
  come by then (always inline costs throughput, never inline doubles latency: `tests.benchmarks.hot_paths`). Young means
  `WRITE_GAP`, and `BURST` times that after a write of several messages: where they come in bursts, the first of the
  next one would travel alone, and cost as many system calls as all the others (`tests.benchmarks`, "rpc-unary-64").
* WOKEN: rescheduled, has not run. A full mailbox may still be written inline, so it counts as full only if the kernel
  refused.
* WRITING: the kernel refused bytes; the writing task alone waits for it.
* DEAD: nothing is written any more.

A batch stays held (charged to the mailbox's mark, the linger and the statistics) until the kernel has taken all of it;
on a loss the messages not wholly taken go back to the front. Nothing here raises into a user's call: a failure is
stored, and the reading half finds the end of the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .._mailbox import Mailbox, nothing
from .._message import size_of, size_of_all
from .._transports import Link
from ..zmtp import Heartbeat, encode, encode_message, interleave
from ._waiting import Slot

WRITE_GAP = 50e-6
"""Seconds; a write younger than this means that a stream is running."""
BURST = 5
"""So many times that long behind a write of several messages."""
JOIN = 1 << 16
"""Bytes of small frames that go out in one write."""
GATHER = 1 << 18
"""Bytes of large frames that go out in one write."""
LARGE = 4096
"""Bytes from which frames are not joined but handed to the kernel where they lie."""
YIELD_AFTER = 1 << 18
"""Bytes after which a half that is never refused lets others run."""


class Writing(Enum):
    """The state of the writing half."""

    IDLE = "idle"
    WOKEN = "woken"
    WRITING = "writing"
    DEAD = "dead"


class Pace:
    """When something was last written; engines that write copies of the same messages share one.

    Otherwise each of eight subscribers would seem to have been idle while the seven others were written to, every
    message would be written to each inline, and a publisher that is slow for a moment would stay so.
    """

    __slots__ = ("gap", "last_write")

    def __init__(self) -> None:
        self.last_write: float = 0.0
        self.gap: float = WRITE_GAP


class Writer:
    """Writes what is queued for one peer, and control frames ahead of it.

    Args:
        went_idle: called when everything queued has reached the kernel.
    """

    def __init__(
        self,
        link: Link,
        outbound: Mailbox,
        heartbeat: Heartbeat,
        pace: Pace,
        clock: Callable[[], float],
        went_idle: Callable[[], None],
    ) -> None:
        self._link = link
        self._outbound = outbound
        self._heartbeat = heartbeat
        self._pace = pace
        self._clock = clock
        self._went_idle = went_idle
        self.state = Writing.WOKEN
        self.error: Exception | None = None
        self.on_stop: Callable[[], None] = nothing
        self._parked = Slot()
        self._control: list[bytes] = []
        self._unsent: list[bytes | memoryview] = []
        self._since_yield = 0
        outbound.on_item = self.first_item
        outbound.on_full = self.write_for_room

    def send_control(self, frame: bytes) -> None:
        """Send *frame* ahead of queued messages, but not amidst one."""
        self._control.append(frame)
        self.first_item()

    def stop(self, error: Exception | None) -> None:
        """Write no more, because of *error*; what the peer sent before it went may still be read."""
        if self.state is not Writing.DEAD:
            self.state = Writing.DEAD
            self.error = error
            self._parked.wake()
            self.on_stop()

    def give_back(self) -> None:
        """Return what the kernel did not wholly take to the front of the mailbox, and let go of that."""
        outbound = self._outbound
        outbound.restore(self._not_wholly_taken(outbound.batch))
        self._unsent = []
        outbound.on_item = outbound.on_full = nothing

    def _not_wholly_taken(self, batch: list[Any]) -> list[Any]:
        missing = sum(map(len, self._unsent))
        count = 0
        while missing > 0 and count < len(batch):
            count += 1
            message = batch[-count]
            missing -= len(message if self._outbound.encoded else encode_message(message))
        return batch[len(batch) - count :]

    def first_item(self) -> None:
        """The mailbox was empty and is not any more."""
        if self.state is not Writing.IDLE:
            return
        pace = self._pace
        if self._clock() - pace.last_write > pace.gap:
            written = self._write()
            pace.last_write = self._clock()
            if written and not self._outbound.items and not self._control and not self._link.unflushed:
                self._outbound.sleep()
                return
        if self.state is Writing.IDLE:
            self.state = Writing.WOKEN
            self._parked.wake()

    def write_for_room(self) -> None:
        """The mailbox is full: one inline write, so that a queue is not full while the kernel has room."""
        if self.state is Writing.IDLE or self.state is Writing.WOKEN:
            self._write()

    def _write(self) -> bool:
        """One write; False if the kernel left some, and the writing task must go on alone."""
        buffers = self._unsent = self._unsent or self._next()
        if not buffers:
            return True
        try:
            sent = self._link.try_send(buffers)
        except OSError as exc:
            self.stop(exc)
            return False
        self._since_yield += sent
        self._unsent = [] if len(buffers) == 1 and sent == len(buffers[0]) else _rest(buffers, sent)
        if self._unsent:
            if self.state is Writing.IDLE:
                self._parked.wake()
            self.state = Writing.WRITING
            return False
        if self._outbound.batch:
            self._pace.gap = WRITE_GAP if len(self._outbound.batch) == 1 else BURST * WRITE_GAP
            self._outbound.release()
        return True

    def _next(self) -> list[bytes | memoryview]:
        """The buffers of the next write: control frames, else a batch of messages, held."""
        if self._control:
            frames, self._control = self._control, []
            return [b"".join(frames)]
        outbound = self._outbound
        if not outbound.items:
            return []
        # One look decides how many fit, since the messages of a stream are alike; then it is checked.
        first = size_of(outbound.first())
        most = JOIN if first < LARGE else GATHER
        batch = outbound.hold(most // (first + 9) + 1)
        if len(batch) > 1 and size_of_all(batch) > 2 * most:
            batch = outbound.keep(_count_that_fits(batch, most))
        if outbound.encoded:
            return [*batch] if first >= LARGE else [b"".join(batch)]
        return [*interleave(batch)] if first >= LARGE else [encode(batch)]

    @enable_ki_protection
    async def run(self) -> None:
        """The writing task: until the connection ends."""
        link, heartbeat = self._link, self._heartbeat
        try:
            while self.state is not Writing.DEAD:
                if self._unsent:
                    heartbeat.writing(True)
                    await link.wait_writable()
                    heartbeat.wrote()
                    self._write()
                elif self._control or self._outbound.items:
                    self.state = Writing.WOKEN
                    self._write()
                    if self._since_yield > YIELD_AFTER:
                        self._since_yield = 0
                        await trio.lowlevel.checkpoint()
                else:
                    heartbeat.writing(False)
                    self._since_yield = 0
                    await self._rest_until_woken()
        except trio.ClosedResourceError:
            pass
        except OSError as exc:
            self.stop(exc)

    async def _rest_until_woken(self) -> None:
        if self._link.unflushed:
            await self._link.flush()
        self._pace.last_write = self._clock()
        self._outbound.sleep()
        self._went_idle()
        # Whoever heard that we went idle may have sent something; before IDLE nobody would wake us for it.
        if not (self._control or self._outbound.items or self.state is Writing.DEAD):
            self.state = Writing.IDLE
            await self._parked.park()


def _count_that_fits(batch: list[Any], most: int) -> int:
    """How many of *batch* should go out in one write."""
    weight = 0
    for count, message in enumerate(batch, 1):
        weight += size_of(message)
        if weight > most:
            return count
    return len(batch)


def _rest(buffers: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of *buffers* behind the first *sent* bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            head = memoryview(buffer)[sent:] if sent else buffer
            return [head, *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
