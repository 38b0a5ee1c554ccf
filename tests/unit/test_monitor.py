"""Monitors: in order, without end for nobody, and honest about what they missed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mq._core._monitor import CAPACITY, REPORT_DROPS_EVERY, EventChannel, Reporter
from trio_mq._errors import HandshakeError
from trio_mq._events import (
    BindFailed,
    Closed,
    Connected,
    DialFailed,
    Dialling,
    Disconnected,
    Dropped,
    Event,
    HandshakeFailed,
    HandshakeSucceeded,
    Listening,
)
from trio_mq._message import Peer

ANN, BOB = Peer("tcp://here:1", "tcp://ann:1", connection=1), Peer("tcp://here:1", "tcp://bob:1", connection=2)


def numbered(number: int) -> Event:
    return Listening(endpoint=str(number))


async def read(channel: EventChannel) -> list[Event]:
    """What lies in *channel* now."""
    events: list[Event] = []
    with trio.move_on_after(0.001):
        while True:
            events.append(await channel.receive())
    return events


# --- the channel -----------------------------------------------------------------------------------------------------


async def test_events_come_in_order() -> None:
    channel = EventChannel()
    for number in range(3):
        channel.push(numbered(number))
    assert [(await channel.receive()).endpoint for _ in range(3)] == ["0", "1", "2"]


async def test_a_reader_that_waits_is_handed_the_next_event() -> None:
    channel = EventChannel()
    got: list[Event] = []

    async def receive() -> None:
        got.append(await channel.receive())

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        channel.push(numbered(1))
        channel.push(numbered(2))
    assert {event.endpoint for event in got} == {"1", "2"}


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many_once() -> None:
    channel = EventChannel()
    for number in range(CAPACITY + 7):
        channel.push(numbered(number))
    first = await channel.receive()
    assert (first.endpoint, first.missed) == ("7", 7)
    second = await channel.receive()
    assert (second.endpoint, second.missed) == ("8", 0)


async def test_what_is_missed_adds_up_until_it_is_told() -> None:
    channel = EventChannel()
    for number in range(CAPACITY + 1):
        channel.push(numbered(number))
    assert (await channel.receive()).missed == 1
    for number in range(3):
        channel.push(numbered(number))
    assert (await channel.receive()).missed == 2


async def test_it_ends_when_everything_was_read() -> None:
    channel = EventChannel()
    channel.push(numbered(1))
    channel.end()
    assert (await channel.receive()).endpoint == "1"
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


@pytest.mark.parametrize(
    ("act", "error"),
    [(EventChannel.end, trio.EndOfChannel), (EventChannel.close, trio.ClosedResourceError)],
)
async def test_whoever_waits_hears_of_the_end(act: Callable[[EventChannel], None], error: type[Exception]) -> None:
    channel = EventChannel()
    seen: list[type[Exception]] = []

    async def receive() -> None:
        with pytest.raises(error):
            await channel.receive()
        seen.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        act(channel)
    assert seen == [error, error]


async def test_a_closed_channel_takes_and_gives_nothing() -> None:
    channel = EventChannel()
    channel.push(numbered(1))
    await channel.aclose()
    channel.push(numbered(2))
    with pytest.raises(trio.ClosedResourceError):
        await channel.receive()


async def test_a_cancelled_receive_takes_nothing() -> None:
    channel = EventChannel()
    channel.push(numbered(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel.receive()
    assert scope.cancelled_caught
    assert (await channel.receive()).endpoint == "1"


async def test_receive_is_a_checkpoint_also_when_something_is_there() -> None:
    channel = EventChannel()
    channel.push(numbered(1))
    with trio.testing.assert_checkpoints():
        await channel.receive()


# --- the reporter ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_reporter() -> AsyncIterator[Reporter]:
    async with trio.open_nursery() as nursery:

        def start(task: Callable[[], Awaitable[None]]) -> None:
            nursery.start_soon(task)

        yield Reporter("PULL", start)
        nursery.cancel_scope.cancel()


async def test_a_monitor_begins_with_the_last_event_of_each_endpoint_and_peer(autojump_clock: MockClock) -> None:
    async with a_reporter() as reporter:
        last = [
            Listening(endpoint="tcp://here:1"),
            HandshakeSucceeded(endpoint="tcp://here:1", peer=ANN),
            HandshakeSucceeded(endpoint="tcp://here:1", peer=BOB),
            Connected(endpoint="tcp://there:1", address="tcp://there:1"),
        ]
        reporter.report(Dialling(endpoint="tcp://there:1"))
        for event in last:
            reporter.report(event)
        async with reporter.monitor() as monitor:
            assert set(map(repr, await read(monitor))) == set(map(repr, last))
            new = Dialling(endpoint="tcp://there:1")
            reporter.report(new)
            assert await read(monitor) == [new]


async def test_peers_with_the_same_address_are_each_replayed(autojump_clock: MockClock) -> None:
    peers = [Peer("ipc://x", "ipc://x", connection=number) for number in (1, 2)]
    async with a_reporter() as reporter:
        for peer in peers:
            reporter.report(HandshakeSucceeded(endpoint="ipc://x", peer=peer))
        async with reporter.monitor() as monitor:
            assert [event.peer for event in await read(monitor) if isinstance(event, HandshakeSucceeded)] == peers


async def test_a_peer_that_left_is_not_replayed_as_somebody_who_is_there(autojump_clock: MockClock) -> None:
    async with a_reporter() as reporter:
        reporter.report(HandshakeSucceeded(endpoint="tcp://here:1", peer=ANN))
        gone = Disconnected(endpoint="tcp://here:1", peer=ANN)
        reporter.report(gone)
        async with reporter.monitor() as monitor:
            assert await read(monitor) == [gone]


async def test_what_is_kept_for_replay_does_not_grow_with_peers_that_come_and_go() -> None:
    async with a_reporter() as reporter:
        for number in range(100):
            peer = Peer("tcp://here:1", f"tcp://there:{number}", connection=number)
            reporter.report(HandshakeSucceeded(endpoint="tcp://here:1", peer=peer))
            reporter.report(Disconnected(endpoint="tcp://here:1", peer=peer))
        async with reporter.monitor() as monitor:
            assert len(monitor._events) <= 2


async def test_every_monitor_gets_every_event(autojump_clock: MockClock) -> None:
    async with a_reporter() as reporter, reporter.monitor() as one, reporter.monitor() as other:
        reporter.report(numbered(1))
        assert await read(one) == await read(other) == [numbered(1)]


async def test_a_monitor_is_closed_with_its_block() -> None:
    async with a_reporter() as reporter:
        async with reporter.monitor() as monitor:
            pass
        reporter.report(numbered(1))
        with pytest.raises(trio.ClosedResourceError):
            await monitor.receive()


async def test_the_last_event_is_that_the_socket_closed() -> None:
    async with a_reporter() as reporter, reporter.monitor() as monitor:
        reporter.end(Closed(unsent=3))
        reporter.report(numbered(1))
        assert [event async for event in monitor] == [Closed(unsent=3)]
        async with reporter.monitor() as late:
            assert [event async for event in late] == [Closed(unsent=3)]


# --- drops -----------------------------------------------------------------------------------------------------------


async def test_drops_are_told_at_once_and_then_once_a_second(autojump_clock: MockClock) -> None:
    async with a_reporter() as reporter, reporter.monitor() as monitor:
        start = trio.current_time()
        told: list[tuple[float, int]] = []

        async def listen() -> None:
            async for event in monitor:
                assert isinstance(event, Dropped)
                assert (event.peer, event.reason) == (ANN, "hwm")
                told.append((round(trio.current_time() - start, 6), event.count))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for _ in range(25):
                reporter.dropped(ANN, "hwm", 2)
                await trio.sleep(0.1)
            await trio.sleep(10)
            reporter.dropped(ANN, "hwm", 1)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert told[0] == (0.0, 2)
    assert told[-1] == (12.5, 1), "after a quiet second the next drop is told at once again"
    assert sum(count for _, count in told) == 51
    assert all(later - earlier >= REPORT_DROPS_EVERY - 0.01 for (earlier, _), (later, _) in itertools.pairwise(told))


async def test_each_peer_and_reason_has_its_own_count(autojump_clock: MockClock) -> None:
    async with a_reporter() as reporter, reporter.monitor() as monitor:
        for peer, reason in ((ANN, "hwm"), (BOB, "hwm"), (ANN, "multipart"), (None, "unroutable")):
            reporter.dropped(peer, reason, 1)
            reporter.dropped(peer, reason, 4)
        first = await read(monitor)
        assert [event.count for event in first if isinstance(event, Dropped)] == [1, 1, 1, 1]
        await trio.sleep(REPORT_DROPS_EVERY)
        then = [event for event in await read(monitor) if isinstance(event, Dropped)]
        assert [(event.peer, event.reason, event.count) for event in then] == [
            (ANN, "hwm", 4),
            (BOB, "hwm", 4),
            (ANN, "multipart", 4),
            (None, "unroutable", 4),
        ]
        assert [event.endpoint for event in then] == ["tcp://here:1"] * 3 + [""]


async def test_what_was_dropped_is_told_before_the_peer_is_said_to_be_gone(autojump_clock: MockClock) -> None:
    async with a_reporter() as reporter, reporter.monitor() as monitor:
        for _ in range(3):
            reporter.dropped(ANN, "hwm", 1)
        reporter.report(Disconnected(endpoint="tcp://here:1", peer=ANN))
        counts = [event.count if isinstance(event, Dropped) else event for event in await read(monitor)]
        assert counts == [1, 2, Disconnected(endpoint="tcp://here:1", peer=ANN)]


async def test_what_was_dropped_is_told_before_the_end() -> None:
    async with a_reporter() as reporter, reporter.monitor() as monitor:
        for _ in range(3):
            reporter.dropped(ANN, "hwm", 1)
        reporter.end(Closed())
        events = [event async for event in monitor]
    assert [event.count for event in events if isinstance(event, Dropped)] == [1, 2]
    assert events[-1] == Closed()


async def test_without_a_monitor_drops_start_no_task() -> None:
    started: list[object] = []
    reporter = Reporter("PUB", started.append)
    reporter.dropped(ANN, "hwm", 1)
    assert started == []
    async with reporter.monitor():
        reporter.dropped(ANN, "hwm", 1)
        reporter.dropped(BOB, "hwm", 1)
    assert len(started) == 1


# --- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "level", "words"),
    [
        (
            HandshakeFailed(endpoint="tcp://x:1", error=HandshakeError("no"), address="tcp://y:2"),
            logging.WARNING,
            "y:2",
        ),
        (HandshakeFailed(endpoint="tcp://x:1", error=ConnectionResetError("gone")), logging.INFO, "x:1"),
        (Disconnected(endpoint="tcp://x:1", peer=ANN, error=HandshakeError("rude")), logging.WARNING, "ann"),
        (Disconnected(endpoint="tcp://x:1", peer=ANN, error=TimeoutError("late")), logging.INFO, "late"),
        (Disconnected(endpoint="tcp://x:1", peer=ANN), logging.DEBUG, "PULL"),
        (DialFailed(endpoint="tcp://x:1", error=OSError("refused")), logging.INFO, "refused"),
        (BindFailed(endpoint="tcp://x:1", error=OSError("in use")), logging.WARNING, "in use"),
        (Closed(unsent=3, unsent_by_endpoint={"tcp://x:1": 3}), logging.WARNING, "3 for tcp://x:1"),
        (Closed(), logging.DEBUG, "Closed"),
    ],
)
def test_the_log_says_it_as_loud_as_it_matters(
    event: Event, level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "trio_mq"):
        Reporter("PULL", lambda task: None).report(event)
    [record] = caplog.records
    assert record.levelno == level
    assert words in record.getMessage()
    assert record.getMessage().startswith("PULL: ")


def test_an_authenticator_that_fails_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    error = HandshakeError("the authenticator failed")
    error.__cause__ = KeyError("database")
    Reporter("Rep socket", lambda task: None).report(HandshakeFailed(endpoint="tcp://here:1", error=error, address=""))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error.__cause__
