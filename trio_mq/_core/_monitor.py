"""What happened, told: events for monitors, lines for the log, and the last event of everything for who comes later."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from .._events import (
    AcceptFailed,
    BindFailed,
    Closed,
    DataLost,
    DialFailed,
    Disconnected,
    Dropped,
    Event,
    HandshakeFailed,
    RequestUnanswered,
)
from .._message import Peer
from ._waiting import Line

_log = logging.getLogger("trio_mq")

CAPACITY = 1000
REPORT_DROPS_EVERY = 1.0


class EventChannel(trio.abc.ReceiveChannel[Event]):
    """Events in the order in which they happened. A reader that is too slow loses the oldest, and is told how many.

    Ends (`trio.EndOfChannel`) when the socket has closed.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._missed = 0
        self._readers: Line[None] = Line()
        self._ended = False
        self._closed = False

    def push(self, event: Event) -> None:
        """Append *event*, at the cost of the oldest if there are too many."""
        if self._closed:
            return
        if self._readers:
            self._readers.serve(event)
            return
        if len(self._events) >= CAPACITY:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)

    def end(self) -> None:
        """Nothing more will happen."""
        self._ended = True
        while self._readers:
            self._readers.refuse(trio.EndOfChannel())

    async def receive(self) -> Event:
        """The next event. If cancelled, none was taken.

        Raises:
            trio.EndOfChannel: the socket has closed and everything was read.
            trio.ClosedResourceError: the ``async with socket.monitor()`` block was left.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise trio.ClosedResourceError("this monitor was closed")
        if not self._events:
            if self._ended:
                raise trio.EndOfChannel
            event: Event = await self._readers.wait(None)
            return event
        event = self._events.popleft()
        if self._missed:
            event, self._missed = replace(event, missed=self._missed), 0
        await trio.lowlevel.cancel_shielded_checkpoint()
        return event

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._events.clear()
        self._readers.refuse_all(trio.ClosedResourceError, "this monitor was closed")

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


class Reporter:
    """Takes note of what happens to one socket.

    Args:
        name: the socket, in log lines.
        start: runs a task in the background.
    """

    def __init__(self, name: str, start: Callable[[Callable[[], Awaitable[None]]], object]) -> None:
        self._name = name
        self._start = start
        self._channels: list[EventChannel] = []
        self._last: dict[object, Event] = {}
        self._drops: dict[tuple[Peer | None, str], int] = {}
        self._losers: set[Peer] = set()
        self._telling = False
        self._ended = False

    def report(self, event: Event) -> None:
        """*event* has happened."""
        if self._ended:
            return
        peer = getattr(event, "peer", None)
        if isinstance(event, Disconnected) and peer is not None:
            # A peer that left for good is no longer somebody to replay; its endpoint's last event says it.
            self._last.pop((event.endpoint, peer.connection), None)
            self._losers.discard(peer)
            self._last[event.endpoint, "left"] = event
            self._flush_drops([key for key in self._drops if key[0] == peer])
        elif not isinstance(event, (DataLost, RequestUnanswered)):
            self._last[event.endpoint, 0 if peer is None else peer.connection] = event
        self._write_line(event)
        self._push(event)

    def _write_line(self, event: Event) -> None:
        match event:
            case HandshakeFailed(error=error, address=address):
                cause = error.__cause__  # an authenticator's own failure, of which its author wants to see all
                _log.log(
                    *(_level(error), "%s: handshake with %s failed: %s", self._name, address or event.endpoint, error),
                    exc_info=cause,
                )
            case Disconnected(error=error, peer=peer) if error is not None:
                where = peer.address or event.endpoint
                _log.log(_level(error), "%s: connection to %s ended: %s", self._name, where, error)
            case DialFailed(error=error):
                _log.info("%s: cannot connect to %s: %s", self._name, event.endpoint, error)
            case AcceptFailed(error=error) | BindFailed(error=error):
                _log.warning("%s: %s: %s", self._name, event.endpoint, error)
            case DataLost(peer=peer, count=count) if peer not in self._losers:
                # Once: where too much is sent, a line for each loss would take what time there is.
                self._losers.add(peer)
                text = "%s: %d datagrams from %s are lost for good; what else it loses shows in statistics and events"
                _log.warning(text, self._name, count, peer.address)
            case Closed(unsent=unsent, unsent_by_endpoint=places) if unsent:
                where = ", ".join(f"{count} for {endpoint}" for endpoint, count in places.items())
                _log.warning(
                    "%s: closed with %d messages unsent (%s); a longer linger would wait", self._name, unsent, where
                )
            case _:
                _log.debug("%s: %s", self._name, event)

    def dropped(self, peer: Peer | None, reason: str, count: int) -> None:
        """*count* messages were dropped; told at once, and then once a second for each peer and reason."""
        if not self._channels:
            return
        key = (peer, reason)
        if key in self._drops:
            self._drops[key] += count
            return
        self._drops[key] = 0
        self._tell_drops(key, count)
        if not self._telling:
            self._telling = True
            self._start(self._tell_drops_later)

    def _tell_drops(self, key: tuple[Peer | None, str], count: int) -> None:
        peer, reason = key
        endpoint = "" if peer is None else peer.endpoint
        self._push(Dropped(endpoint=endpoint, count=count, reason=reason, peer=peer))

    async def _tell_drops_later(self) -> None:
        while self._drops:
            await trio.sleep(REPORT_DROPS_EVERY)
            self._flush_drops(list(self._drops))
        self._telling = False

    def _flush_drops(self, keys: list[tuple[Peer | None, str]]) -> None:
        """Tell what has come together; a key with nothing new is forgotten, so its next drop is told at once."""
        for key in keys:
            count = self._drops.pop(key)
            if count:
                self._tell_drops(key, count)
                self._drops[key] = 0

    def _push(self, event: Event) -> None:
        for channel in self._channels:
            channel.push(event)

    @asynccontextmanager
    async def monitor(self) -> AsyncIterator[EventChannel]:
        """A channel of events: first the last one of each endpoint and peer, then what happens from now on."""
        channel = EventChannel()
        for event in self._last.values():
            channel.push(event)
        if self._ended:
            channel.end()
        self._channels.append(channel)
        try:
            yield channel
        finally:
            self._channels.remove(channel)
            channel.close()

    def end(self, event: Event) -> None:
        """The socket has closed; *event* is the last."""
        self._flush_drops(list(self._drops))
        self._drops.clear()
        self.report(event)
        self._ended = True
        for channel in self._channels:
            channel.end()


def _level(error: Exception) -> int:
    """A peer that goes is everyday life; one that breaks rules, or agrees to nothing, is worth a look."""
    return logging.INFO if isinstance(error, OSError) else logging.WARNING
