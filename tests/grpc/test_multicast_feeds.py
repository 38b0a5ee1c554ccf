"""Events and broadcast calls over multicast and datagrams: the same code, other endpoints."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

import trio_mq_grpc
from trio_mq_grpc import EventPublisher, EventStream, EventSubscriber

from ._kit import wait_until
from ._work import Heard, numbered, path, serve

IN_TIME = 10.0
"""Seconds. Leaving a publisher takes one of them: what was lost may be asked for until then."""


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["udp://127.0.0.1:{}", "udp://239.192.14.1:{}", "epgm://127.0.0.1;239.192.14.2:{}"])
def group(request: pytest.FixtureRequest) -> str:
    return str(request.param).format(free_port())


@contextlib.asynccontextmanager
async def opened(subscriber: EventSubscriber, *kinds: Any, key: bytes = b"") -> AsyncIterator[EventStream[Any]]:
    """A stream that listens; skipped, visibly, where this machine has no multicast."""
    events = subscriber.events(*kinds, key=key)
    try:
        await events.wait_opened()
    except OSError as exc:
        pytest.skip(f"no multicast here: {exc}")
    yield events


async def test_events_of_several_types_reach_their_streams(group: str) -> None:
    with trio.fail_after(IN_TIME):
        async with (
            EventPublisher(group) as publisher,
            EventSubscriber(group) as subscriber,
            opened(subscriber, Int64Value, StringValue) as events,
        ):
            await publisher.wait_subscribed(Int64Value)
            for number in range(20):
                await publisher.publish(Int64Value(value=number), b"k")
                await publisher.publish(StringValue(value=str(number)))
            got = [await anext(events) for _ in range(40)]
    numbers = [event for event in got if isinstance(event.message, Int64Value)]
    assert [event.message.value for event in numbers] == list(range(20))
    assert {event.key for event in numbers} == {b"k"}
    assert sum(event.missed for event in got) == 0


async def test_one_key_is_filtered_and_counted_by_itself(group: str) -> None:
    with trio.fail_after(IN_TIME):
        async with (
            EventPublisher(group) as publisher,
            EventSubscriber(group) as subscriber,
            opened(subscriber, Int64Value, key=b"odd") as events,
        ):
            for number in range(20):
                await publisher.publish(Int64Value(value=number), b"odd" if number % 2 else b"odder")
            got = [await anext(events) for _ in range(10)]
    assert [event.message.value for event in got] == list(range(1, 20, 2))
    assert subscriber.statistics() == trio_mq_grpc.EventStatistics(received=10)


async def test_broadcast_calls_reach_servicers(group: str) -> None:
    heard = Heard()
    server = serve(Do=heard)
    subscription = server.subscribe(group)
    with trio.fail_after(IN_TIME):
        async with trio_mq_grpc.broadcast_channel(group) as channel:
            try:
                await server.__aenter__()
            except RuntimeError as exc:
                pytest.skip(f"no multicast here: {exc}")
            try:
                await channel.wait_subscribed(path("Do"))
                for request in numbered(20):
                    await channel.unary_unary(path("Do"))(request, metadata=[("a", "b")])
                await wait_until(lambda: len(heard.requests) == 20, IN_TIME)
            finally:
                await server.__aexit__(None, None, None)  # noqa: ASYNC102  # bounded by the test
    assert heard.requests == list(numbered(20))
    assert subscription.statistics().missed == 0
