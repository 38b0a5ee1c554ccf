"""The engine: drives one connection, from the pipe's mailboxes to the kernel (`Writer`) and back.

The **reading half** reads at most `Decoder.wanted` bytes and decodes as many messages as the mailbox has room for.
While there is more than that it is *stuffed*: it does not read, and whoever takes messages out decodes the next ones on
the spot. Nothing is ever dropped on the receiving side. A receiver about to sleep may `look` itself, without the
reading task: that saves a task switch, and where the peer answers at once the sleep (`Eagerness`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import ProtocolError, RemoteProtocolError
from .._mailbox import nothing
from .._message import Payload
from .._patterns import Pattern
from .._pipe import Pipe
from .._transports import Link
from ..zmtp import (
    READ_SIZE,
    Connection,
    Expired,
    Heartbeat,
    Join,
    Leave,
    Ping,
    Pong,
    SendPing,
    Subscribe,
    encode_command,
    encode_membership,
    encode_subscription,
    parse_command,
)
from ..zmtp import Cancel as CancelSubscription
from ._eagerness import Eagerness
from ._memory import keep_freed_memory
from ._timers import Timers
from ._waiting import Slot
from ._writer import YIELD_AFTER, Pace, Writer, Writing

ENOUGH = 1024
"""Messages waiting to be received from which a reader lets receivers catch up."""
TURNS_TO_CATCH_UP = 8
"""But no longer than so many turns: receivers may have better to do, and the mark says what may wait."""

_HALF_A_MESSAGE = "the peer closed the connection in the middle of a message"


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
        self._groups = connection.groups
        self.pipe = pipe
        self.heartbeat = heartbeat
        self.restarting = False
        self.on_close = nothing
        self._received = False
        self._passed_before = pipe.outbound.passed
        self._over = False
        self._eagerness = Eagerness(on=eager)
        self._writer = Writer(link, pipe.outbound, heartbeat, host.pace or Pace(), host.clock, host.went_idle)
        self._reader = Slot()
        self._more = False
        self._stuffed = False
        self._since_yield = 0
        self._writer.on_stop = pipe.inbound.on_room = self._deliver_more

    def __repr__(self) -> str:
        return f"<Engine on {self._link}: {self._writer.state.value}>"

    @property
    def error(self) -> Exception | None:
        """Why the connection ended; None for the end of the stream."""
        return self._writer.error

    @property
    def had_traffic(self) -> bool:
        """Whether a message came or went."""
        return self._received or self.pipe.outbound.passed > self._passed_before

    # The connection, as the pipe's pattern sees it.

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        if self._groups:
            self._writer.send_control(encode_membership(subscribe, topic))
        else:
            self._writer.send_control(encode_subscription(subscribe, topic, self._legacy))

    def restart(self) -> None:
        self.restarting = True
        self.end(None)

    def close(self, error: Exception | None) -> None:
        self.end(error)
        self.on_close()

    def end(self, error: Exception | None) -> None:
        """The connection is over. Both halves find it; nobody's call is disturbed now."""
        if not self._over:
            self._over = True
            self._writer.stop(error)
            self._link.close()
            self._reader.wake()

    def give_back(self) -> None:
        """Return what the kernel did not wholly take to the front of the mailbox, and let go of the pipe."""
        self._writer.give_back()
        self.pipe.inbound.on_room = nothing

    async def writing(self) -> None:
        """The writing task: until the connection ends."""
        await self._writer.run()

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
                    if len(self.pipe.inbound) >= ENOUGH:
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
        if self._stuffed:
            # A receiver has looked meanwhile and brought more than there is room for. Reading on now could find the end
            # of the stream, and with it lose what still waits to be decoded.
            return
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
                room = inbound.room_for(self._decoder.partial_bytes)
                if self._writer.state is Writing.DEAD:
                    # The peer is gone: what it said last is taken over, mark or not (it is no more than the kernel
                    # had), so that its end is found now and not when somebody receives.
                    room = READ_SIZE
                elif room <= 0:
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
                self._writer.send_control(encode_command(Pong(context)))
            case Subscribe(topic) if not self._groups:
                self._host.pattern.subscription(self.pipe, topic, True)
            case CancelSubscription(topic) if not self._groups:
                self._host.pattern.subscription(self.pipe, topic, False)
            case Join(group) if self._groups:
                self._host.pattern.subscription(self.pipe, group, True)
            case Leave(group) if self._groups:
                self._host.pattern.subscription(self.pipe, group, False)
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
                    self._writer.send_control(frame)
                case Expired(reason):
                    self.end(RemoteProtocolError(f"heartbeat: {reason}"))
