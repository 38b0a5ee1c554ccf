"""Late joiners: the state from an RPC and then the events after it, with no gap and no repeat."""

from __future__ import annotations

import itertools
from typing import Any

import grpc.aio
import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value

import trio_mq
import trio_mq_grpc
from trio_mq_grpc import Event, EventPublisher, EventSubscriber, Snapshot, follow

from ._kit import SOON
from ._work import add_service, inproc, path


class Counter:
    """A number that grows by what is published; its state is the sum, and a snapshot says where it is."""

    def __init__(self, publisher: EventPublisher) -> None:
        self.publisher = publisher
        self.total = 0
        self.asked = 0
        self.delay = 0.0
        self.lag: list[tuple[Any, int]] = []

    async def add(self, number: int) -> None:
        self.total += number
        await self.publisher.publish(Int64Value(value=number))

    async def get(self, request: bytes, context: Any) -> bytes:
        self.asked += 1
        await trio.sleep(self.delay)
        position, total = self.lag.pop() if self.lag else (self.publisher.position(Int64Value), self.total)
        context.set_trailing_metadata(position.metadata)
        return b"%d" % total


class Replica:
    """What a follower makes of it."""

    def __init__(self) -> None:
        self.total = 0
        self.snapshots = 0
        self.sequences: list[int] = []

    def apply(self, item: Snapshot | Event[Int64Value]) -> None:
        match item:
            case Snapshot(state=state):
                self.total = int(state)
                self.snapshots += 1
                self.sequences.clear()
            case Event(message=message, sequence=sequence):
                self.total += message.value
                self.sequences.append(sequence)

    async def follow(self, items: Any, until: int) -> None:
        async for item in items:
            self.apply(item)
            assert self.sequences == list(itertools.islice(itertools.count(self.first), len(self.sequences)))
            if self.total == until:
                return

    @property
    def first(self) -> int:
        return self.sequences[0] if self.sequences else 0


def served(counter: Counter) -> tuple[trio_mq_grpc.Server, str]:
    server, endpoint = trio_mq_grpc.server(), inproc()
    add_service(server, Get=counter.get)
    server.add_insecure_port(endpoint)
    return server, endpoint


@pytest.mark.parametrize("before", [0, 1, 7])
async def test_a_late_joiner_gets_the_state_and_then_every_event_once(before: int) -> None:
    feed = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(feed, bind=True) as publisher:
            counter, replica = Counter(publisher), Replica()
            for number in range(before):
                await counter.add(number)
            server, rpc = served(counter)
            async with server, trio_mq_grpc.insecure_channel(rpc) as channel, EventSubscriber(feed) as subscriber:
                items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
                first = await anext(items)
                assert first == Snapshot(b"%d" % sum(range(before)), publisher.position(Int64Value))
                replica.apply(first)
                await publisher.wait_subscribed(Int64Value)
                for number in range(1, 11):
                    await counter.add(number)
                await replica.follow(items, counter.total)
    assert (replica.snapshots, replica.sequences) == (1, list(range(before, before + 10)))


async def test_events_between_the_subscription_and_the_state_are_not_repeated() -> None:
    feed = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(feed, bind=True) as publisher, trio.open_nursery() as nursery:
            counter, replica = Counter(publisher), Replica()
            counter.delay = 0.05
            server, rpc = served(counter)

            async def publish() -> None:
                await publisher.wait_subscribed(Int64Value)
                for number in range(100):
                    await counter.add(number)
                    await trio.sleep(0.001)

            async with server, trio_mq_grpc.insecure_channel(rpc) as channel, EventSubscriber(feed) as subscriber:
                nursery.start_soon(publish)
                items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
                await replica.follow(items, sum(range(100)))
    assert replica.snapshots == 1
    assert 0 < len(replica.sequences) < 100
    assert replica.sequences[-1] == 99


async def test_a_gap_brings_a_new_state() -> None:
    feed = inproc()
    little = trio_mq.Options(send_hwm=2, receive_hwm=2)
    with trio.fail_after(SOON):
        async with EventPublisher(feed, bind=True, options=little) as publisher:
            counter, replica = Counter(publisher), Replica()
            server, rpc = served(counter)
            async with (
                server,
                trio_mq_grpc.insecure_channel(rpc) as channel,
                EventSubscriber(feed, options=little, on_gap=lambda gap: None) as subscriber,
            ):
                items = follow(
                    subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""), look_again_after=0.05
                )
                replica.apply(await anext(items))
                await publisher.wait_subscribed(Int64Value)
                for number in range(300):
                    await counter.add(number)
                await replica.follow(items, counter.total)
                assert replica.snapshots >= 2  # its last events were dropped, and it has found that out
                before = replica.snapshots
                await counter.add(1000)
                await replica.follow(items, counter.total)
    assert replica.snapshots == before


async def test_an_event_that_slipped_between_state_and_subscription_is_found_without_another_event() -> None:
    feed = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(feed, bind=True) as publisher:
            counter = Counter(publisher)
            server, rpc = served(counter)
            counter.lag = [(publisher.position(Int64Value), 0)]
            await counter.add(5)  # nobody heard it, and the first state does not contain it
            async with server, trio_mq_grpc.insecure_channel(rpc) as channel, EventSubscriber(feed) as subscriber:
                items = follow(
                    subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""), look_again_after=0.02
                )
                states = [await anext(items), await anext(items)]
                assert [state.state for state in states if isinstance(state, Snapshot)] == [b"0", b"5"]


async def test_a_publisher_that_was_started_again_brings_a_new_state() -> None:
    feed, totals = inproc(), []
    with trio.fail_after(SOON):
        async with EventSubscriber(feed) as subscriber:
            current: list[Counter] = []

            async def get(request: bytes, context: Any) -> bytes:
                return await current[-1].get(request, context)

            server, rpc = trio_mq_grpc.server(), inproc()
            add_service(server, Get=get)
            server.add_insecure_port(rpc)
            async with server, trio_mq_grpc.insecure_channel(rpc) as channel:
                items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
                replica = Replica()
                for start in (10, 100):
                    async with EventPublisher(feed, bind=True) as publisher:
                        current.append(Counter(publisher))
                        current[-1].total = start
                        await publisher.wait_subscribed(Int64Value)
                        for _ in range(3):
                            await current[-1].add(1)
                        await replica.follow(items, start + 3)
                        totals.append(replica.total)
    assert totals == [13, 103]


async def test_a_server_that_is_behind_its_publisher_is_asked_again() -> None:
    feed = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(feed, bind=True) as publisher:
            counter, replica = Counter(publisher), Replica()
            server, rpc = served(counter)
            behind = (publisher.position(Int64Value), 0)
            await counter.add(1)
            counter.lag = [behind] * 3
            async with (
                server,
                trio_mq_grpc.insecure_channel(rpc) as channel,
                EventSubscriber(feed) as subscriber,
            ):
                items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
                replica.apply(await anext(items))
                await publisher.wait_subscribed(Int64Value)
                await counter.add(2)
                await replica.follow(items, 3)
    assert counter.asked == 4


async def test_a_cancelled_step_has_taken_nothing() -> None:
    feed = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(feed, bind=True) as publisher:
            counter, replica = Counter(publisher), Replica()
            counter.delay = 0.01
            server, rpc = served(counter)
            async with server, trio_mq_grpc.insecure_channel(rpc) as channel, EventSubscriber(feed) as subscriber:
                items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
                for _ in range(5):
                    with trio.move_on_after(0.001):
                        replica.apply(await anext(items))
                while not replica.snapshots:
                    replica.apply(await anext(items))
                await publisher.wait_subscribed(Int64Value)
                for number in range(20):
                    with trio.move_on_after(0):
                        replica.apply(await anext(items))
                    await counter.add(number)
                await replica.follow(items, counter.total)
    assert (replica.snapshots, replica.sequences) == (1, list(range(20)))


async def test_a_state_without_a_position_is_a_mistake_of_the_server() -> None:
    async def get(request: bytes, context: Any) -> bytes:
        return b""

    feed, rpc, server = inproc(), inproc(), trio_mq_grpc.server()
    add_service(server, Get=get)
    server.add_insecure_port(rpc)
    with trio.fail_after(SOON):
        async with (
            EventPublisher(feed, bind=True),
            server,
            trio_mq_grpc.insecure_channel(rpc) as channel,
            EventSubscriber(feed) as subscriber,
        ):
            items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
            with pytest.raises(grpc.aio.UsageError, match="set_trailing_metadata"):
                await anext(items)


async def test_what_the_call_raises_comes_out() -> None:
    feed, rpc = inproc(), inproc()
    server = trio_mq_grpc.server()
    server.add_insecure_port(rpc)
    with trio.fail_after(SOON):
        async with (
            EventPublisher(feed, bind=True),
            server,
            trio_mq_grpc.insecure_channel(rpc) as channel,
            EventSubscriber(feed) as subscriber,
        ):
            items = follow(subscriber, Int64Value, lambda: channel.unary_unary(path("Get"))(b""))
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                await anext(items)
