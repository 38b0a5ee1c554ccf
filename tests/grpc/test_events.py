"""Typed events: what is published under a type and a key, and what comes of it."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import grpc.aio
import pytest
import trio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value, StringValue

import trio_mq
import trio_mq_grpc
from trio_mq_grpc import Event, EventPublisher, EventSubscriber
from trio_mq_grpc._feeds import DishIntake, RadioOutlet
from trio_mq_grpc._published import frames_of, header_of, topic_of

from ._kit import SOON, wait_until
from ._work import inproc


async def take(stream: Any, count: int) -> list[Any]:
    return [await anext(stream) for _ in range(count)]


def values(events: list[Any]) -> list[Any]:
    return [event.message.value for event in events]


async def test_a_message_comes_out_as_what_it_was(transport: str, endpoint_for: Callable[[str], str]) -> None:
    endpoint = endpoint_for(transport)
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(StringValue)
            await publisher.wait_subscribed(StringValue)
            await publisher.publish(StringValue(value="a"))
            await publisher.publish(StringValue(value="b"), key=b"k")
            first = await anext(events)
            second = await anext(events)
    assert first == Event(StringValue(value="a"), b"", 0, publisher.epoch, 0)
    assert second == Event(StringValue(value="b"), b"k", 1, publisher.epoch, 0)
    assert type(first.message) is StringValue


async def test_types_are_kept_apart_and_one_stream_may_have_several() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            texts = subscriber.events(StringValue)
            both = subscriber.events(Int64Value, StringValue)
            await publisher.wait_subscribed(StringValue, count=2)
            await publisher.wait_subscribed(Int64Value)
            await publisher.publish(Int64Value(value=1))
            await publisher.publish(StringValue(value="one"))
            await publisher.publish(Int64Value(value=2))
            await publisher.publish(Timestamp(seconds=5))  # nobody asked
            assert values(await take(both, 3)) == [1, "one", 2]
            assert values(await take(texts, 1)) == ["one"]
    assert subscriber.statistics() == trio_mq_grpc.EventStatistics(received=4)


async def test_a_key_matches_exactly_and_no_key_matches_all() -> None:
    endpoint = inproc()
    keys = [b"", b"a", b"ab", b"b", b"a\0", b"a"]
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            one, everything = subscriber.events(Int64Value, key=b"a"), subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value, b"a", count=2)
            assert publisher.subscriber_count(Int64Value, b"b") == 1
            for number, key in enumerate(keys):
                await publisher.publish(Int64Value(value=number), key)
            assert values(await take(one, 2)) == [1, 5]
            assert [event.key for event in await take(everything, 6)] == keys
    # What only begins like the key is filtered again, and is neither unknown nor missed.
    assert subscriber.statistics() == trio_mq_grpc.EventStatistics(received=8)


async def test_a_longer_type_name_does_not_match() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with trio_mq.Pub(bind=endpoint) as pub, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(StringValue)
            await pub.wait_subscribed(b"/google.protobuf.StringValue\0")
            assert pub.subscriber_count(b"/google.protobuf.StringValue2\0") == 0
            await events.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(events)


# --- gaps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"", b"k"])
async def test_a_slow_subscriber_is_told_what_it_missed(key: bytes) -> None:
    endpoint = inproc()
    gaps: list[trio_mq_grpc.Gap] = []
    little = trio_mq.Options(send_hwm=3, receive_hwm=3)
    with trio.fail_after(SOON):
        async with (
            EventPublisher(endpoint, bind=True, options=little) as publisher,
            EventSubscriber(endpoint, options=little, on_gap=gaps.append) as subscriber,
        ):
            events = subscriber.events(Int64Value, key=key)
            await publisher.wait_subscribed(Int64Value, key)
            for number in range(200):
                await publisher.publish(Int64Value(value=number), b"k")
                await publisher.publish(Int64Value(value=-1), b"another")
            got: list[Any] = []
            with trio.move_on_after(0.05):
                while True:
                    got.append(await anext(events))
            await publisher.publish(Int64Value(value=200), b"k")
            got.append(await anext(events))
            number = 201 if key else 401
    missed = sum(event.missed for event in got)
    assert missed == number - len(got) == subscriber.statistics().missed > 0
    assert [(gap.missed, gap.epoch) for gap in gaps] == [
        (event.missed, publisher.epoch) for event in got if event.missed
    ]


async def test_a_publisher_that_was_killed_and_started_again_is_a_beginning() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(Int64Value)
            lives = []
            for number in range(2):
                with pytest.raises(KeyError):
                    async with EventPublisher(endpoint, bind=True) as publisher:
                        await publisher.wait_subscribed(Int64Value)
                        await publisher.publish(Int64Value(value=number))
                        lives.append(await anext(events))
                        raise KeyError  # a kill: nothing lingers
    assert [(event.message.value, event.sequence, event.missed) for event in lives] == [(0, 0, 0), (1, 0, 0)]
    assert lives[0].epoch != lives[1].epoch


async def test_a_process_that_publishes_may_be_killed_and_started_again(endpoint_for: Callable[[str], str]) -> None:
    endpoint = endpoint_for("tcp")
    command = [sys.executable, "-m", "tests.grpc._ticking", endpoint]
    got: list[Event[Int64Value]] = []
    with trio.fail_after(30):
        async with EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(Int64Value)
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    process = await nursery.start(partial(trio.run_process, command, check=False))
                    lives = {event.epoch for event in got}
                    fresh = 0
                    while fresh < 100:
                        got.append(await anext(events))
                        fresh += got[-1].epoch not in lives
                    process.kill()
    assert len({event.epoch for event in got}) == 2
    assert subscriber.statistics().missed == 0
    for before, after in pairwise(got):
        assert after.sequence == (before.sequence + 1 if after.epoch == before.epoch else 0) == after.message.value


async def test_several_publishers_are_counted_each_by_itself() -> None:
    endpoints = [inproc(), inproc()]
    with trio.fail_after(SOON):
        async with (
            EventPublisher(endpoints[0], bind=True) as first,
            EventPublisher(endpoints[1], bind=True) as second,
            EventSubscriber(endpoints) as subscriber,
        ):
            events = subscriber.events(Int64Value)
            for publisher in (first, second):
                await publisher.wait_subscribed(Int64Value)
            for number in range(5):
                await first.publish(Int64Value(value=number))
                if number % 2:
                    await second.publish(Int64Value(value=-number))
            got = await take(events, 7)
    assert sorted(values(got)) == [-3, -1, 0, 1, 2, 3, 4]
    assert sum(event.missed for event in got) == 0


async def test_a_publisher_that_does_not_drop_loses_nothing() -> None:
    endpoint = inproc()
    options = trio_mq.Options(send_hwm=2, overflow="block")
    with trio.fail_after(SOON):
        async with (
            EventPublisher(endpoint, bind=True, options=options) as publisher,
            EventSubscriber(endpoint, options=trio_mq.Options(receive_hwm=2)) as subscriber,
            trio.open_nursery() as nursery,
        ):
            events = subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value)

            async def publish_all() -> None:
                for number in range(100):
                    await publisher.publish(Int64Value(value=number))

            nursery.start_soon(publish_all)
            assert values(await take(events, 100)) == list(range(100))


async def test_a_cancelled_publish_takes_no_number() -> None:
    endpoint = inproc()
    options = trio_mq.Options(send_hwm=1, overflow="block")
    with trio.fail_after(SOON):
        async with (
            EventPublisher(endpoint, bind=True, options=options) as publisher,
            EventSubscriber(endpoint, options=trio_mq.Options(receive_hwm=1)) as subscriber,
        ):
            events = subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value)
            published = 0
            with trio.move_on_after(0.05):
                for number in range(1000):
                    await publisher.publish(Int64Value(value=number))
                    published += 1
            assert published < 1000
            assert values(await take(events, published)) == list(range(published))
            await publisher.publish(Int64Value(value=-1))
            last = await anext(events)
            assert (last.message.value, last.sequence, last.missed) == (-1, published, 0)


async def test_a_cancelled_step_takes_no_event() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value)
            for number in range(20):
                with trio.move_on_after(0):
                    await anext(events)
                await publisher.publish(Int64Value(value=number))
            assert values(await take(events, 20)) == list(range(20))


async def test_a_step_cancelled_in_a_hook_has_not_lost_the_event() -> None:
    endpoint = inproc()

    async def slow(gap: trio_mq_grpc.Gap) -> None:
        await trio.sleep(60)

    with trio.fail_after(SOON):
        async with trio_mq.Pub(bind=endpoint) as pub, EventSubscriber(endpoint, on_gap=slow) as subscriber:
            events = subscriber.events(Int64Value)
            topic = topic_of(b"/google.protobuf.Int64Value", b"")
            await pub.wait_subscribed(topic)
            for number in (0, 5):
                header = header_of(7, trio_mq_grpc._numbers.Numbers(number, number), None)
                await pub.send_multipart(frames_of(topic, header, None, Int64Value(value=number).SerializeToString()))
            assert (await anext(events)).message.value == 0
            with trio.move_on_after(0.02) as scope:
                await anext(events)
            assert scope.cancelled_caught
            event = await anext(events)
    assert (event.message.value, event.missed) == (5, 4)


# --- what is no event ------------------------------------------------------------------------------------------------


async def test_unknown_and_malformed_events_are_counted_and_reported_and_the_rest_comes() -> None:
    endpoint, reports = inproc(), []

    async def report(bad: trio_mq_grpc.BadEvent) -> None:
        reports.append(bad)
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a broken hook is nobody's problem but its own")

    topic = topic_of(b"/google.protobuf.StringValue", b"")
    numbers = trio_mq_grpc._numbers.Numbers
    with trio.fail_after(SOON):
        async with trio_mq.XPub(bind=endpoint) as pub, EventSubscriber(endpoint, on_bad_event=report) as subscriber:
            events = subscriber.events(StringValue)
            # Everything reaches a subscriber to everything, as behind a publisher that does not filter.
            events._feed.intake.socket.subscribe(b"")  # type: ignore[union-attr]  # the socket is a Sub here
            await pub.wait_subscribed(b"")
            payload = StringValue(value="good").SerializeToString()
            await pub.send(b"hello")
            await pub.send_multipart([topic, b"no header", payload])
            await pub.send_multipart(frames_of(b"/other.Type\0", header_of(1, numbers(0, 0), None), None, payload))
            await pub.send_multipart(frames_of(topic, header_of(1, numbers(0, 0), None), None, b"\x0a\xff"))
            await pub.send_multipart(frames_of(topic, header_of(1, numbers(1, 1), None), None, payload))
            event = await anext(events)
    assert event == Event(StringValue(value="good"), b"", 1, 1, 0)
    assert subscriber.statistics() == trio_mq_grpc.EventStatistics(received=1, unknown=1, malformed=3)
    assert [bad.content[0] for bad in reports] == [b"hello", topic, b"/other.Type\0", topic]
    assert "cannot be read" in reports[3].reason


async def test_without_hooks_gaps_and_bad_events_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = inproc()
    topic, numbers = topic_of(b"/google.protobuf.StringValue", b""), trio_mq_grpc._numbers.Numbers
    with trio.fail_after(SOON), caplog.at_level(logging.WARNING):
        async with trio_mq.Pub(bind=endpoint) as pub, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(StringValue)
            await pub.wait_subscribed(topic)
            await pub.send_multipart([topic, b"no header", b""])
            for number in (0, 3, 4):
                await pub.send_multipart(frames_of(topic, header_of(1, numbers(number, number), None), None, b""))
            assert [event.missed for event in await take(events, 3)] == [0, 2, 0]
    assert "an event was dropped" in caplog.text
    assert "2 messages of /google.protobuf.StringValue were missed" in caplog.text


def shape(*fields: str) -> Any:
    """A generated class ``test.Grown`` with these string fields, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="grown.proto", package="test", syntax="proto3")
    message = file.message_type.add(name="Grown")
    for number, name in enumerate(fields, 1):
        kind = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
        message.field.add(name=name, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Grown"))


async def test_a_schema_that_grew_still_reads_in_both_directions() -> None:
    old, new = shape("name"), shape("name", "colour")
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            of_old, of_new = subscriber.events(old), subscriber.events(new)
            await publisher.wait_subscribed(old, count=2)
            await publisher.publish(old(name="a"))
            await publisher.publish(new(name="b", colour="red"))
            assert [event.message.name for event in await take(of_old, 2)] == ["a", "b"]
            assert [(event.message.name, event.message.colour) for event in await take(of_new, 2)] == [
                ("a", ""),
                ("b", "red"),
            ]
    assert subscriber.statistics().malformed == 0


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_a_stream_begins_where_it_is_made_not_where_it_is_read() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value)
            await publisher.publish(Int64Value(value=1))
            await trio.sleep(0.01)
            assert values(await take(events, 1)) == [1]


async def test_a_stream_that_is_dropped_is_unsubscribed() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with EventPublisher(endpoint, bind=True) as publisher, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value)
            del events
            gc.collect()
            await wait_until(lambda: publisher.subscriber_count(Int64Value) == 0)


async def test_a_stream_that_is_not_read_holds_up_no_other() -> None:
    endpoint = inproc()
    little = trio_mq.Options(send_hwm=2, receive_hwm=2)
    with trio.fail_after(SOON):
        async with (
            EventPublisher(endpoint, bind=True, options=little) as publisher,
            EventSubscriber(endpoint, options=little) as subscriber,
        ):
            ignored, read = subscriber.events(Int64Value), subscriber.events(Int64Value)
            await publisher.wait_subscribed(Int64Value, count=2)
            for number in range(50):
                await publisher.publish(Int64Value(value=number))
                assert values(await take(read, 1)) == [number]
            assert (await anext(ignored)).message.value == 0


async def test_a_loop_ends_with_its_subscriber() -> None:
    endpoint = inproc()
    ended = False

    async def loop(events: Any) -> None:
        nonlocal ended
        async for _ in events:
            pass
        ended = True

    with trio.fail_after(SOON):
        async with trio.open_nursery() as nursery, EventSubscriber(endpoint) as subscriber:
            events = subscriber.events(Int64Value)
            nursery.start_soon(loop, events)
            await trio.testing.wait_all_tasks_blocked()
            await events.aclose()
            await wait_until(lambda: ended)


async def test_leaving_a_subscriber_ends_its_loops() -> None:
    endpoint, ended = inproc(), trio.Event()

    async def loop(events: Any) -> None:
        async for _ in events:
            pass
        ended.set()

    with trio.fail_after(SOON):
        async with trio.open_nursery() as nursery:
            async with EventSubscriber(endpoint) as subscriber:
                nursery.start_soon(loop, subscriber.events(Int64Value))  # noqa: ASYNC111  # the streams end with it
                await trio.testing.wait_all_tasks_blocked()
            await ended.wait()


async def test_one_task_iterates_over_a_stream() -> None:
    with trio.fail_after(SOON):
        async with EventSubscriber(inproc()) as subscriber, trio.open_nursery() as nursery:
            events = subscriber.events(Int64Value)
            nursery.start_soon(anext, events)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await anext(events)
            nursery.cancel_scope.cancel()


async def test_a_bound_subscriber_has_one_stream_at_a_time() -> None:
    with trio.fail_after(SOON):
        async with EventSubscriber("tcp://127.0.0.1:*", bind=True) as subscriber:
            events = subscriber.events(Int64Value, StringValue)
            with pytest.raises(grpc.aio.UsageError, match="all its types at once"):
                subscriber.events(Duration)
            await wait_until(lambda: events.endpoints)
            async with EventPublisher(events.endpoints) as publisher:
                await publisher.wait_subscribed(Int64Value)
                await events.wait_connected()
                await publisher.publish(Int64Value(value=3))
                assert values(await take(events, 1)) == [3]
            await events.aclose()
            subscriber.events(Duration)


async def test_a_stream_that_was_refused_is_none_of_a_bound_subscriber_s() -> None:
    subscriber = EventSubscriber("tcp://127.0.0.1:*", bind=True)
    with pytest.raises(grpc.aio.UsageError, match="enter the subscriber first"):
        subscriber.events(Duration)
    async with subscriber:
        subscriber.events(Duration)


async def test_mistakes_are_told_at_the_call() -> None:
    subscriber = EventSubscriber(inproc())
    with pytest.raises(grpc.aio.UsageError, match="enter the subscriber first"):
        subscriber.events(Int64Value)
    with pytest.raises(ValueError, match="no target"):
        EventSubscriber("nowhere")
    async with subscriber, EventPublisher(inproc(), bind=True) as publisher:
        with pytest.raises(TypeError, match="at least one"):
            subscriber.events()
        with pytest.raises(TypeError, match="generated class"):
            subscriber.events(int)  # type: ignore[type-var]  # this is the mistake
        with pytest.raises(TypeError, match="a key is bytes"):
            subscriber.events(Int64Value, key="k")  # type: ignore[arg-type]  # this is the mistake
        with pytest.raises(TypeError, match="generated class"):
            await publisher.publish(b"raw")  # type: ignore[arg-type]  # this is the mistake
        with pytest.raises(TypeError, match="a key is bytes"):
            await publisher.publish(BytesValue(), "k")  # type: ignore[arg-type]  # this is the mistake


async def test_events_go_over_radio_and_dish_too() -> None:
    """The two over inproc, as they are used for ``udp://``."""
    endpoint = inproc()
    publisher, subscriber = EventPublisher(inproc()), EventSubscriber(inproc())
    publisher._outlet = RadioOutlet(trio_mq.Radio(bind=endpoint))
    with trio.fail_after(SOON):
        async with publisher, subscriber:
            events = subscriber.events(Int64Value, key=b"k")
            intake = events._feed.intake = DishIntake(trio_mq.Dish(connect=endpoint))  # before it is opened
            intake.subscribe(b"/google.protobuf.Int64Value", b"k")
            await publisher.wait_subscribed(Int64Value, b"k")
            for number in range(6):
                await publisher.publish(Int64Value(value=number), b"k" if number % 2 else b"other")
            assert values(await take(events, 3)) == [1, 3, 5]
    assert subscriber.statistics().missed == 0


async def test_an_address_that_is_taken_is_told_to_who_reads() -> None:
    with trio.fail_after(SOON):
        async with trio_mq.Pull(bind="tcp://127.0.0.1:*") as other:
            assert other.last_endpoint is not None
            async with EventSubscriber(other.last_endpoint, bind=True) as subscriber:
                events = subscriber.events(Int64Value)
                with pytest.raises(OSError, match="in use"):
                    await anext(events)
                with pytest.raises(OSError, match="in use"):
                    await events.wait_connected()


async def test_an_interface_that_is_not_there_is_told_to_who_reads() -> None:
    with trio.fail_after(SOON):
        async with EventSubscriber("epgm://nowhere0;239.192.14.3:5999") as subscriber:
            events = subscriber.events(Int64Value)
            with pytest.raises((OSError, trio_mq.EndpointError)):
                await anext(events)


async def test_a_stream_of_a_subscriber_that_was_left_has_ended() -> None:
    with trio.fail_after(SOON):
        async with EventSubscriber(inproc()) as subscriber:
            events = subscriber.events(Int64Value)
        with pytest.raises(StopAsyncIteration):
            await anext(events)
