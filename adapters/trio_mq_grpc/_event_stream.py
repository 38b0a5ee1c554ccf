"""A stream of events: takes what comes over one socket, gives out events, and says what it could not give."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeAlias, TypeVar

import trio

import trio_mq

from ._errors import log
from ._feeds import Intake
from ._gaps import Gap, OnGap, report_gap
from ._numbers import Missed
from ._published import Published

if TYPE_CHECKING:
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")
_AT_ONCE: Final = 64
"""Events that are taken from the socket at once, and given out before others get a turn."""


class Event(NamedTuple, Generic[M]):
    """An event as it arrives.

    Attributes:
        message: what was published.
        key: what it was filed under; b"" for nothing.
        sequence: its number among those of its type of this publisher.
        epoch: which publisher, and which life of it: another one after a restart.
        missed: how many were published just before this one and did not come: of its type, or where one key was asked
            for, of that key.
    """

    message: M
    key: bytes
    sequence: int
    epoch: int
    missed: int


class BadEvent(NamedTuple):
    """Something came that is no event of a type that was asked for.

    Attributes:
        reason: what is wrong with it.
        content: all of it, in its frames.
    """

    reason: str
    content: tuple[bytes, ...]


OnBadEvent: TypeAlias = Callable[[BadEvent], "Awaitable[None] | None"]


@dataclass
class EventStatistics:
    """What has come to one subscriber.

    Attributes:
        received: events that were given out.
        missed: events that never came, as their numbers show.
        unknown: of types that nobody asked for.
        malformed: no events, or their messages cannot be read.
    """

    received: int = 0
    missed: int = 0
    unknown: int = 0
    malformed: int = 0


@dataclass
class Reports:
    """Where streams report to: the hooks of their subscriber, and its figures."""

    on_gap: OnGap | None
    on_bad_event: OnBadEvent | None
    figures: EventStatistics = field(default_factory=EventStatistics)

    async def gap(self, gap: Gap) -> None:
        """Something was missed."""
        self.figures.missed += gap.missed
        await report_gap(self.on_gap, gap)

    async def bad(self, reason: str, content: Any) -> None:
        """Something came that is no event."""
        if self.on_bad_event is None:
            log.warning("an event was dropped: %s", reason)
            return
        try:
            outcome = self.on_bad_event(BadEvent(reason, (content,) if isinstance(content, bytes) else tuple(content)))
            if inspect.isawaitable(outcome):
                await outcome
        except Exception:  # noqa: BLE001  # the user's, and nobody else must notice
            log.exception("the on_bad_event hook failed")


class Feed:
    """The socket of a stream. The task that holds it open knows this, not the stream, which may be dropped."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.opened: trio.Event = trio.Event()
        self.dropped: trio.Event = trio.Event()
        self.closed: trio.Event = trio.Event()
        self.error: Exception | None = None

    async def wait_opened(self) -> None:
        """Wait until the socket can be used.

        Raises:
            OSError, EndpointError: its endpoint cannot be used.
            trio.ClosedResourceError: the stream was closed.
        """
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        if self.dropped.is_set():
            raise trio.ClosedResourceError("this stream was closed")


class EventStream(Generic[M]):
    """Events of one or several types, from `EventSubscriber.events`. One task iterates over it."""

    def __init__(self, reports: Reports, feed: Feed, kinds: dict[bytes, type[M]], key: bytes) -> None:
        self._reports = reports
        self._feed = feed
        self._kinds = kinds
        self._key = key
        self._missed = Missed()
        self._not_told = 0
        self._batch: Iterator[Any] = iter(())
        self._pending: Event[M] | None = None
        self._busy = False

    def __repr__(self) -> str:
        return f"<EventStream of {', '.join(path.decode() for path in self._kinds)}>"

    def __del__(self) -> None:
        feed: Feed | None = getattr(self, "_feed", None)
        if feed is not None and not feed.dropped.is_set() and trio.lowlevel.in_trio_run():
            feed.dropped.set()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What it is bound or connected to, with real ports; empty until its first checkpoint."""
        return self._feed.intake.socket.endpoints

    @property
    def socket(self) -> trio_mq.Socket:
        """The socket below, for its ``statistics()`` and ``monitor()``."""
        return self._feed.intake.socket

    async def wait_opened(self) -> None:
        """Wait until its socket is bound or dials; over multicast and datagrams it hears everything from then on.

        Raises:
            OSError, EndpointError: its endpoint cannot be used.
        """
        await self._feed.wait_opened()

    async def wait_connected(self, count: int = 1) -> None:
        """Wait until *count* publishers are there. Over multicast they are when they have been heard.

        Raises:
            OSError, EndpointError: its endpoint cannot be used.
        """
        await self._feed.wait_opened()
        await self._feed.intake.socket.wait_connected(count)

    async def aclose(self) -> None:
        """Receive no more. Twice is as good as once."""
        self._feed.dropped.set()
        self._batch, self._pending = iter(()), None
        await self._feed.closed.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event[M]:
        """The next event. If cancelled, none was taken.

        Raises:
            OSError, EndpointError: its endpoint cannot be used; the address is taken, say.
            trio.BusyResourceError: another task waits for one.
        """
        if self._busy:
            raise trio.BusyResourceError("another task is iterating over this stream")
        self._busy = True
        try:
            return await self._next()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None
        finally:
            self._busy = False

    async def _next(self) -> Event[M]:
        while True:
            event = self._pending
            if event is not None:
                self._pending = None
                self._reports.figures.received += 1
                return event
            for message in self._batch:
                await self._look_at(message)
                break
            else:
                await self._receive()

    async def _receive(self) -> None:
        await self._feed.wait_opened()
        self._batch = iter(await self._feed.intake.receive_many(_AT_ONCE))

    async def _look_at(self, message: Any) -> None:
        """Make *message* the pending event, if it is one for us. Cancelled in a hook, it is pending already."""
        try:
            published = self._feed.intake.read(message)
            kind = self._kinds.get(published.path)
            if kind is None:
                self._reports.figures.unknown += 1
                await self._reports.bad("nobody has asked for its type", message)
            elif not self._key or published.key == self._key:
                # Else its key only begins like ours: subscriptions of ZeroMQ are prefixes.
                await self._take(kind, published, message)
        except ValueError as exc:
            self._reports.figures.malformed += 1
            await self._reports.bad(str(exc), message)

    async def _take(self, kind: type[M], published: Published, content: Any) -> None:
        missed = self._missed_before(published)
        self._not_told += missed
        try:
            message = kind.FromString(published.payload)
        except Exception as exc:  # noqa: BLE001  # protobuf's runtimes raise DecodeError, which is no ValueError in all
            self._reports.figures.malformed += 1
            await self._reports.bad(f"{kind.__name__} cannot be read: {exc}", content)
        else:
            sequence = published.numbers.of_type
            self._pending = Event(message, published.key, sequence, published.epoch, self._not_told)
            self._not_told = 0
        if missed:
            await self._gap(published, missed)

    def _missed_before(self, published: Published) -> int:
        path, key, epoch, numbers = published.path, published.key, published.epoch, published.numbers
        if self._key:
            return self._missed.before((epoch, path, key), numbers.of_topic, restarts=True)
        return self._missed.before((epoch, path), numbers.of_type, restarts=False)

    async def _gap(self, published: Published, missed: int) -> None:
        number = published.numbers.of_topic if self._key else published.numbers.of_type
        gap = Gap(published.path.decode(errors="replace"), published.key, missed, published.epoch, number)
        await self._reports.gap(gap)
