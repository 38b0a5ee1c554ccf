"""Typed events: protobuf messages that are published, and come out as what they were.

An event is filed under its type and, if there is one, a key. Subscribers ask for types, all of each or one key of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc.aio

import trio_mq

from ._event_stream import EventStatistics, EventStream, Feed, M, OnBadEvent, Reports
from ._feeds import open_intake, open_outlet
from ._gaps import OnGap
from ._published import checked_key, path_of
from ._snapshot import Position

if TYPE_CHECKING:
    from google.protobuf.message import Message


class EventPublisher:
    """Publishes events: ``async with EventPublisher("tcp://*:5557", bind=True) as publisher``.

    Args:
        target: one or several to bind, or to connect to: what `trio_mq.Pub` takes, or ``udp://`` (RADIO).
        bind: whether this side is the stable one.
        options: how the socket behaves; ``Options(overflow="block")`` waits for slow subscribers instead of dropping.

    Raises:
        ValueError: the target cannot be meant.
    """

    def __init__(
        self, target: str | Iterable[str], *, bind: bool = False, options: trio_mq.Options | None = None
    ) -> None:
        self._outlet = open_outlet(target, bind=bind, options=options)
        self._paths: dict[type[Message], bytes] = {}

    def __repr__(self) -> str:
        return f"<EventPublisher at {', '.join(self.endpoints)}>"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What it is bound or connected to, with real ports."""
        return self._outlet.socket.endpoints

    @property
    def socket(self) -> trio_mq.Socket:
        """The socket below, for its ``statistics()`` and ``monitor()``: who listens, what was dropped for whom."""
        return self._outlet.socket

    @property
    def epoch(self) -> int:
        """The number by which subscribers tell this publisher, and this life of it, from others."""
        return self._outlet.epoch

    async def __aenter__(self) -> Self:
        await self._outlet.socket.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._outlet.socket.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # it lingers as it was told

    async def publish(self, message: Message, key: bytes = b"") -> None:
        """Publish *message* to all who have asked for its type, or for this *key* of it. If cancelled, it was not.

        Nobody there means nobody gets it.

        Raises:
            TypeError: *message* is no protobuf message, *key* is not `bytes`.
            ValueError: a required field is not set, or *key* is too long.
            trio.ClosedResourceError: the publisher was left.
        """
        path = self._path(type(message))
        await self._outlet.publish(path, checked_key(key), None, message.SerializeToString())

    async def wait_subscribed(self, kind: type[Message], key: bytes = b"", count: int = 1) -> None:
        """Wait until *count* subscribers would be sent an event of *kind* with *key*.

        This ends the guess how long a subscriber takes to join.
        """
        await self._outlet.wait_subscribed(self._path(kind), checked_key(key), count)

    def subscriber_count(self, kind: type[Message], key: bytes = b"") -> int:
        """How many subscribers would be sent an event of *kind* with *key*."""
        return self._outlet.subscriber_count(self._path(kind), checked_key(key))

    def position(self, kind: type[Message]) -> Position:
        """Which event of *kind* is the next: with a snapshot, which events that does not contain; see `follow`."""
        path = self._path(kind)
        return Position(path.decode(), self.epoch, self._outlet.upcoming(path))

    def _path(self, kind: type[Message]) -> bytes:
        path = self._paths.get(kind)
        if path is None:
            path = self._paths[kind] = path_of(kind)
        return path


class EventSubscriber:
    """Receives events: ``async with EventSubscriber("tcp://host:5557") as subscriber``.

    Args:
        target: one or several to connect to, or to bind: what `trio_mq.Sub` takes, or ``udp://`` (DISH).
        bind: whether this side is the stable one. Then it has one stream at a time.
        options: how the socket of each stream behaves.
        on_gap: told of each `Gap`, which `Event.missed` says, too; otherwise gaps are logged.
        on_bad_event: told of each `BadEvent`; otherwise they are logged.

    Raises:
        ValueError: the target cannot be meant.
    """

    def __init__(
        self,
        target: str | Iterable[str],
        *,
        bind: bool = False,
        options: trio_mq.Options | None = None,
        on_gap: OnGap | None = None,
        on_bad_event: OnBadEvent | None = None,
    ) -> None:
        self._reports = Reports(on_gap, on_bad_event)
        self._target = target if isinstance(target, str) else tuple(target)
        self._bind = bind
        self._options = options
        self._reactor = trio_mq.Reactor(f"EventSubscriber of {target!r}")
        self._stack = AsyncExitStack()
        self._open = 0
        open_intake(self._target, bind=bind, options=options)  # refuses here what cannot be meant

    def __repr__(self) -> str:
        return f"<EventSubscriber of {self._target!r}: {self._open} streams>"

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._reactor.run(_leave))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # it waits for nobody

    def statistics(self) -> EventStatistics:
        """What has come until now, over all its streams."""
        return replace(self._reports.figures)

    def events(self, *kinds: type[M], key: bytes = b"") -> EventStream[M]:
        """The events of these message classes: ``async for event in subscriber.events(OrderPlaced)``.

        The stream begins here, not at the first step of the loop, and ends when it is left or dropped, or with the
        subscriber. Each has a socket of its own, so one that is not read does not hold up the others: its publishers
        drop for it alone, and the next event says how many.

        Args:
            kinds: classes that protoc has generated.
            key: only events with exactly this key; b"" for all.

        Raises:
            TypeError: one of *kinds* is none, *key* is not `bytes`.
            grpc.aio.UsageError: the subscriber is not entered; or it is bound and has a stream already.
        """
        if not kinds:
            raise TypeError("events() wants at least one message class")
        if self._bind and self._open:
            raise grpc.aio.UsageError("a bound subscriber has one stream: give events() all its types at once")
        paths = {path_of(kind): kind for kind in kinds}
        feed = Feed(open_intake(self._target, bind=self._bind, options=self._options))
        for path in paths:
            feed.intake.subscribe(path, checked_key(key))
        self._open += 1
        if self._reactor.start(self._hold, feed).cancel_called:
            self._open -= 1
            feed.closed.set()
            raise grpc.aio.UsageError("enter the subscriber first: async with EventSubscriber(...) as subscriber")
        return EventStream(self._reports, feed, paths, key)

    async def _hold(self, feed: Feed) -> None:
        """Keep the socket of one stream open."""
        try:
            async with feed.intake.socket:
                feed.opened.set()
                await feed.dropped.wait()
        except (OSError, trio_mq.EndpointError) as exc:
            feed.error = exc  # the address is taken, or the interface is not there; whoever reads is told
        finally:
            self._open -= 1
            feed.opened.set()
            feed.dropped.set()
            feed.closed.set()


async def _leave(_: bool) -> None:
    """Nothing is to be done before the streams are ended."""
