"""The engine: drives one connection, from the pipe's mailboxes to the kernel and back.

The **writing half** has a state:

* IDLE: nothing to write, the writing task is parked. The first message after a pause is written by the sender itself,
  inline; if the last write is younger than `WRITE_GAP` a stream is running, and the writing task is woken instead,
  which joins what has come by then (always inline costs throughput, never inline doubles latency:
  `tests.benchmarks.hot_paths`).
* WOKEN: rescheduled, has not run. A full mailbox may still be written inline, so it counts as full only if the kernel
  refused.
* WRITING: the kernel refused bytes; the writing task alone waits for it.
* DEAD: nobody touches the link any more.

A batch stays held (charged to the mailbox's mark, the linger and the statistics) until the kernel has taken all of it;
on a loss the messages not wholly taken go back to the front. Nothing here raises into a user's call: a failure is
stored, and the reading task, which owns the connection's end, finds it.

The **reading half** reads at most `Decoder.wanted` bytes and decodes as many messages as the mailbox has room for.
While there is more than that it is *stuffed*: it does not read, and whoever takes messages out decodes the next ones on
the spot. Nothing is ever dropped on the receiving side. A receiver about to sleep may `look` itself, without the
reading task: that saves a task switch, and where the peer answers at once the sleep (`Eagerness`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import ProtocolError, RemoteProtocolError
from .._message import Payload, size_of
from .._patterns import Pattern
from .._pipe import Pipe
from .._transports import Link
from ..zmtp import Cancel as CancelSubscription
from ..zmtp import (
    Connection,
    Expired,
    Heartbeat,
    Ping,
    Pong,
    SendPing,
    Subscribe,
    encode,
    encode_command,
    encode_message,
    encode_subscription,
    interleave,
    parse_command,
)
from ._eagerness import Eagerness
from ._memory import keep_freed_memory
from ._timers import Timers
from ._waiting import Slot

WRITE_GAP = 50e-6
"""Seconds; a write younger than this means that a stream is running."""
JOIN = 1 << 16
"""Bytes of small frames that go out in one write."""
LARGE = 4096
"""Bytes from which frames are not joined but handed to the kernel where they lie."""
YIELD_AFTER = 1 << 18
"""Bytes after which a half that is never refused lets others run."""

ENOUGH = 1024
"""Messages waiting to be received from which a reader lets receivers catch up."""
TURNS_TO_CATCH_UP = 8
"""But no longer than so many turns: receivers may have better to do, and the mark says what may wait."""

_HALF_A_MESSAGE = "the peer closed the connection in the middle of a message"


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

    __slots__ = ("last_write",)

    def __init__(self) -> None:
        self.last_write: float = 0.0


class Host(Protocol):
    """What an engine needs of the socket it works for."""

    pattern: Pattern
    timers: Timers

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def pace(self) -> Pace | None:
        """What its engines share, if they write copies of the same messages."""
        ...

    def went_idle(self) -> None:
        """Everything queued on one connection has reached the kernel."""


class Engine:
    """One connection past its handshake."""

    def __init__(
        self, host: Host, link: Link, connection: Connection, pipe: Pipe, heartbeat: Heartbeat, *, eager: bool
    ) -> None:
        self._host = host
        self._link = link
        self._decoder = connection.decoder
        self._legacy = connection.legacy_subscriptions
        self._has_commands = connection.has_commands
        self.pipe = pipe
        self.heartbeat = heartbeat
        self.restarting = False
        self.on_close = _nothing
        self._received = False
        self._passed_before = pipe.outbound.passed
        self._over = False
        self._eagerness = Eagerness(on=eager)
        self._state = Writing.WOKEN
        self._writer, self._reader = Slot(), Slot()
        self._control: list[bytes] = []
        self._unsent: list[bytes | memoryview] = []
        self._pace = host.pace or Pace()
        self._more = False
        self._stuffed = False
        self._since_yield = 0
        self._error: Exception | None = None
        pipe.outbound.on_item = self._first_item
        pipe.outbound.on_full = self._write_for_room
        pipe.inbound.on_room = self._deliver_more

    def __repr__(self) -> str:
        return f"<Engine on {self._link}: {self._state.value}>"

    @property
    def error(self) -> Exception | None:
        """Why the connection ended; None for the end of the stream."""
        return self._error

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has reached the kernel."""
        return self._state is Writing.IDLE and not self._link.unflushed

    @property
    def had_traffic(self) -> bool:
        """Whether a message came or went."""
        return self._received or self.pipe.outbound.passed > self._passed_before

    # The connection, as the pipe's pattern sees it.

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        self.send_control(encode_subscription(subscribe, topic, self._legacy))

    def restart(self) -> None:
        self.restarting = True
        self.end(None)

    def close(self, error: Exception | None) -> None:
        self.end(error)
        self.on_close()

    def send_control(self, frame: bytes) -> None:
        """Send *frame* ahead of queued messages, but not amidst one."""
        self._control.append(frame)
        self._first_item()

    def end(self, error: Exception | None) -> None:
        """The connection is over. Both halves find it; nobody's call is disturbed now."""
        if not self._over:
            self._over = True
            self._stop_writing(error)
            self._link.close()
            self._reader.wake()

    def _stop_writing(self, error: Exception | None) -> None:
        """Nothing can be written any more, but what the peer sent before it went may still be read."""
        if self._state is not Writing.DEAD:
            self._state = Writing.DEAD
            self._error = error
            self._writer.wake()

    def give_back(self) -> None:
        """Return what the kernel did not wholly take to the front of the mailbox, and let go of the pipe."""
        outbound = self.pipe.outbound
        outbound.restore(self._not_wholly_taken(outbound.batch))
        self._unsent = []
        outbound.on_item = outbound.on_full = self.pipe.inbound.on_room = _nothing

    def _not_wholly_taken(self, batch: list[Any]) -> list[Any]:
        missing = sum(map(len, self._unsent))
        count = 0
        while missing > 0 and count < len(batch):
            count += 1
            message = batch[-count]
            missing -= len(message if self.pipe.outbound.encoded else encode_message(message))
        return batch[len(batch) - count :]

    # Writing.

    def _first_item(self) -> None:
        """The mailbox was empty and is not any more."""
        if self._state is not Writing.IDLE:
            return
        pace = self._pace
        if self._host.clock() - pace.last_write > WRITE_GAP:
            written = self._write()
            pace.last_write = self._host.clock()
            if written and not self.pipe.outbound.items and not self._control:
                self.pipe.outbound.sleep()
                return
        if self._state is Writing.IDLE:
            self._state = Writing.WOKEN
            self._writer.wake()

    def _write_for_room(self) -> None:
        """The mailbox is full: one inline write, so that a queue is not full while the kernel has room."""
        if self._state is Writing.IDLE or self._state is Writing.WOKEN:
            self._write()

    def _write(self) -> bool:
        """One write; False if the kernel left some, and the writing task must go on alone."""
        buffers = self._unsent = self._unsent or self._next()
        if not buffers:
            return True
        try:
            sent = self._link.try_send(buffers)
        except OSError as exc:
            self._stop_writing(exc)
            return False
        self._unsent = [] if len(buffers) == 1 and sent == len(buffers[0]) else _rest(buffers, sent)
        if self._unsent:
            if self._state is Writing.IDLE:
                self._writer.wake()
            self._state = Writing.WRITING
            return False
        if self.pipe.outbound.held:
            self.pipe.outbound.release()
        return True

    def _next(self) -> list[bytes | memoryview]:
        """The buffers of the next write: control frames, else a batch of messages, held."""
        if self._control:
            frames, self._control = self._control, []
            return [b"".join(frames)]
        outbound = self.pipe.outbound
        if not outbound.items:
            return []
        # One look decides how many fit, since the messages of a stream are alike; then it is checked.
        first = size_of(outbound.first())
        batch = outbound.hold(JOIN // (first + 9) + 1)
        weight = sum(map(len, batch)) if isinstance(batch[0], bytes) else sum(map(size_of, batch))
        if weight > 2 * JOIN and len(batch) > 1:
            batch = outbound.keep(_count_that_fits(batch))
        if outbound.encoded:
            return [*batch] if first >= LARGE else [b"".join(batch)]
        return [*interleave(batch)] if first >= LARGE else [encode(batch)]

    @enable_ki_protection
    async def writing(self) -> None:
        """The writing task: until the connection ends."""
        link, heartbeat = self._link, self.heartbeat
        written = 0
        try:
            while self._state is not Writing.DEAD:
                if self._unsent:
                    heartbeat.writing(True)
                    await link.wait_writable()
                    heartbeat.wrote()
                    self._write()
                elif self._control or self.pipe.outbound.items:
                    self._state = Writing.WOKEN
                    self._write()
                    written += JOIN
                    if written > YIELD_AFTER:
                        written = 0
                        await trio.lowlevel.checkpoint()
                else:
                    heartbeat.writing(False)
                    written = 0
                    await self._rest_until_woken()
        except trio.ClosedResourceError:
            pass
        except OSError as exc:
            self._stop_writing(exc)

    async def _rest_until_woken(self) -> None:
        if self._link.unflushed:
            await self._link.flush()
        self._pace.last_write = self._host.clock()
        self.pipe.outbound.sleep()
        self._host.went_idle()
        # Whoever heard that we went idle may have sent something; before IDLE nobody would wake us for it.
        if not (self._control or self.pipe.outbound.items or self._state is Writing.DEAD):
            self._state = Writing.IDLE
            await self._writer.park()

    # Reading.

    @enable_ki_protection
    async def reading(self) -> None:
        """The reading task: until the connection ends; then `error` says why."""
        self._deliver()
        try:
            while not self._over:
                if self._stuffed:
                    await self._reader.park()
                else:
                    await self._read_once()
                    await self._let_receivers_catch_up()
        except trio.ClosedResourceError:
            pass
        except OSError as exc:
            self.end(exc)

    async def _read_once(self) -> None:
        limit = self._decoder.wanted
        if not self._more or self._since_yield >= YIELD_AFTER:
            self._since_yield = 0
            await self._link.wait_readable()
        self._take_in(self._link.try_receive(limit), limit)

    async def _let_receivers_catch_up(self) -> None:
        # One read can bring more than receivers take in one turn. Reading on at once, as an unbounded mailbox would
        # allow, makes them work on messages that have left the cache long ago.
        for _ in range(TURNS_TO_CATCH_UP):
            if len(self.pipe.inbound) < ENOUGH:
                return
            await trio.lowlevel.checkpoint()

    def _take_in(self, data: bytes | None, limit: int) -> bool:
        """What `try_receive` gave when asked for *limit* bytes; True if there was something."""
        self._more = data is not None and len(data) == limit
        if data is None:
            return False
        if not data:
            self.end(None if self._decoder.at_message_boundary else RemoteProtocolError(_HALF_A_MESSAGE))
            return False
        if self._more:
            self._since_yield += limit
            keep_freed_memory()
        self.heartbeat.heard()
        self._decoder.feed(data)
        self._deliver()
        return True

    def looks(self) -> int:
        return 0 if self._over else self._eagerness.looks()

    def look(self) -> bool:
        if self._over or self._stuffed:
            return False
        limit = self._decoder.wanted
        try:
            return self._take_in(self._link.try_receive(limit), limit)
        except OSError as exc:
            self.end(exc)
            return False

    def looked(self, found: bool) -> None:
        self._eagerness.looked(found)

    def _deliver(self) -> None:
        """Decode what was read and pass it on, as far as the mailbox has room; the rest follows once there is more."""
        inbound = self.pipe.inbound
        try:
            while not self._over:
                room = inbound.room()
                if room <= 0:
                    inbound.full = True
                    self._pause(True)
                    return
                if not self._decode(room):
                    break
        except ProtocolError as exc:
            self.end(exc)
        if self._stuffed:
            self._pause(False)
            self._reader.wake()

    def _decode(self, room: int) -> bool:
        """Decode up to *room* messages, or to the next command; False when there is nothing more."""
        pipe, pattern = self.pipe, self._host.pattern
        messages: list[Payload] = []
        try:
            command = self._decoder.decode(room, messages)
        finally:
            # What was whole before a breach is delivered, wherever the kernel happened to cut the stream.
            if messages:
                self._received = True
                accepted = pattern.accept(pipe, messages)
                pipe.received_before += len(messages) - len(accepted)
                if accepted:
                    pipe.inbound.put_all(accepted)
        if command is not None:
            self._obey(command)
        return command is not None or len(messages) >= room

    def _deliver_more(self) -> None:
        """There is room again."""
        if self._stuffed:
            self._deliver()

    def _pause(self, paused: bool) -> None:
        self._stuffed = self.heartbeat.paused = paused
        if paused and self.heartbeat.next_deadline < math.inf:
            self._host.timers.changed()

    def _obey(self, body: bytes) -> None:
        match parse_command(body):
            case Ping(ttl, context):
                self.heartbeat.peer_ttl(ttl, trio.current_time())
                self._host.timers.changed()
                self.send_control(encode_command(Pong(context)))
            case Subscribe(topic):
                self._host.pattern.subscription(self.pipe, topic, True)
            case CancelSubscription(topic):
                self._host.pattern.subscription(self.pipe, topic, False)
            case _:
                pass  # libzmq ignores what it does not know, and so must we (37/ZMTP)

    # Time.

    def tick(self, now: float) -> None:
        """Do what the heartbeats ask for at the time *now*."""
        if self._over:
            return
        for action in self.heartbeat.tick(now):
            match action:
                case SendPing(frame):
                    self.send_control(frame)
                case Expired(reason):
                    self.end(RemoteProtocolError(f"heartbeat: {reason}"))


def _count_that_fits(batch: list[Any]) -> int:
    """How many of *batch* should go out in one write."""
    weight = 0
    for count, message in enumerate(batch, 1):
        weight += size_of(message)
        if weight > JOIN:
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


def _nothing() -> None:
    pass
