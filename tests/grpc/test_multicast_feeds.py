"""Events and broadcast calls over multicast and datagrams: the same code, other endpoints."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

import trio_mq_grpc
from trio_mq import Options
from trio_mq_grpc import EventPublisher, EventStream, EventSubscriber, Gap, Snapshot, follow

from ._kit import wait_until
from ._work import Heard, add_service, inproc, numbered, path, serve

IN_TIME = 10.0
"""Seconds. Leaving a publisher takes one of them: what was lost may be asked for until then."""


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def why_no_multicast(group: str, interface: str) -> str:
    """Why this system does not send to *group* out of *interface* (0.0.0.0: its choice) and hear it, or empty.

    Plain sockets say, none of ours: what those cannot is what the tests are for.
    """
    hearing, sending = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with hearing, sending:
        hearing.settimeout(2.0)
        try:
            hearing.bind((group, 0))
            hearing.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(interface)
            )
            sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            sending.sendto(b"probe", hearing.getsockname())
            hearing.recv(16)
        except OSError as exc:
            return f"this machine has no multicast to {group}: {exc}"
    return ""


def why_no_raw_ip() -> str:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 113).close()
    except PermissionError:
        return "pgm:// needs CAP_NET_RAW"
    return ""


def skip_because_of(reason: str) -> None:
    """Skip if there is a *reason*; where the environment has promised that there is none, fail."""
    if reason and os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1":
        pytest.fail(f"TRIO_MQ_REQUIRE_PEERS=1 promises every peer, but {reason}")
    if reason:
        pytest.skip(reason)


PLACES = {
    "udp://127.0.0.1:{}": None,
    "udp://239.192.14.1:{}": ("239.192.14.1", "0.0.0.0"),
    "epgm://127.0.0.1;239.192.14.2:{}": ("239.192.14.2", "127.0.0.1"),
    "pgm://127.0.0.1;239.192.14.3:{}": ("239.192.14.3", "127.0.0.1"),
}
"""Endpoints, and which group they need on which interface."""


@pytest.fixture(params=PLACES)
def group(request: pytest.FixtureRequest) -> str:
    needed = PLACES[request.param]
    if needed is not None:
        skip_because_of(why_no_multicast(*needed))
    if request.param.startswith("pgm"):
        skip_because_of(why_no_raw_ip())
    return str(request.param).format(free_port())


@pytest.fixture
def epgm() -> str:
    skip_because_of(why_no_multicast("239.192.14.4", "127.0.0.1"))
    return f"epgm://127.0.0.1;239.192.14.4:{free_port()}"


def test_what_a_machine_cannot_do_is_a_failure_where_everything_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*where: Any) -> None:
        raise OSError(errno.ENODEV, "No such device")

    skip_because_of("")
    monkeypatch.setenv("TRIO_MQ_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="promises"):
        skip_because_of("there is none")
    monkeypatch.delenv("TRIO_MQ_REQUIRE_PEERS")
    with pytest.raises(pytest.skip.Exception, match="there is none"):
        skip_because_of("there is none")
    assert why_no_multicast("239.192.14.1", "203.0.113.9")  # an address that nobody has


async def test_events_of_several_types_reach_their_streams(group: str) -> None:
    with trio.fail_after(IN_TIME):
        async with (
            EventPublisher(group) as publisher,
            EventSubscriber(group) as subscriber,
        ):
            events: EventStream[Any] = subscriber.events(Int64Value, StringValue)
            await events.wait_opened()
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
        ):
            events = subscriber.events(Int64Value, key=b"odd")
            await events.wait_opened()
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
        async with trio_mq_grpc.broadcast_channel(group) as channel, server:
            await channel.wait_subscribed(path("Do"))
            for request in numbered(20):
                await channel.unary_unary(path("Do"))(request, metadata=[("a", "b")])
            await wait_until(lambda: len(heard.requests) == 20, IN_TIME)
    assert heard.requests == list(numbered(20))
    assert subscription.statistics().missed == 0


# ---- what is lost on the way


HELD_BACK = Options(linger=0, multicast_rate=2e6, send_hwm=10)
"""A publisher that drops most of what is published at once."""


async def test_every_event_that_a_rate_dropped_is_told_as_a_gap(epgm: str) -> None:
    gaps: list[Gap] = []
    with trio.fail_after(IN_TIME):
        async with (
            EventPublisher(epgm, options=HELD_BACK) as publisher,
            EventSubscriber(epgm, on_gap=gaps.append) as subscriber,
        ):
            events = subscriber.events(Int64Value)
            await events.wait_opened()
            await publisher.publish(Int64Value(value=0))
            received = [await anext(events)]
            for number in range(1, 300):
                await publisher.publish(Int64Value(value=number), bytes(500))
            # Nothing shows that the last ones are missing, until there is another.
            while publisher.socket.statistics().peers[0].queued_messages:
                await trio.sleep(0.01)
            await publisher.publish(Int64Value(value=300))
            while received[-1].message.value != 300:
                received.append(await anext(events))
            dropped = publisher.socket.statistics().dropped
    missed = 301 - len(received)
    assert missed == dropped["rate"] > 100
    assert sum(event.missed for event in received) == sum(gap.missed for gap in gaps) == missed
    assert subscriber.statistics() == trio_mq_grpc.EventStatistics(received=len(received), missed=missed)


@pytest.mark.parametrize("options", [Options(linger=0), HELD_BACK], ids=["in time", "held back"])
async def test_who_follows_a_state_has_it_right_in_the_end_whatever_was_dropped(epgm: str, options: Options) -> None:
    total = 0
    replica = snapshots = 0

    async def get(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata(publisher.position(Int64Value).metadata)
        return b"%d" % total

    async def publish() -> None:
        nonlocal total
        for number in range(1, 301):
            total += number
            await publisher.publish(Int64Value(value=number), bytes(500))
            await trio.sleep(0.001 if number % 3 == 0 else 0)

    server, rpc = trio_mq_grpc.server(), inproc()
    add_service(server, Get=get)
    server.add_insecure_port(rpc)
    with trio.fail_after(IN_TIME):
        async with (
            EventPublisher(epgm, options=options) as publisher,
            server,
            trio_mq_grpc.insecure_channel(rpc) as channel,
            EventSubscriber(epgm, on_gap=lambda gap: None) as subscriber,
            trio.open_nursery() as nursery,
        ):
            items = follow(
                subscriber,
                Int64Value,
                lambda: channel.unary_unary(path("Get"))(b""),
                look_again_after=0.2 if options is HELD_BACK else IN_TIME,
            )
            async for item in items:
                if isinstance(item, Snapshot):
                    replica, snapshots = int(item.state), snapshots + 1
                    if snapshots == 1:
                        nursery.start_soon(publish)
                else:
                    replica += item.message.value
                if replica == sum(range(301)):
                    break
            dropped = publisher.socket.statistics().dropped
    if options is HELD_BACK:
        assert dropped["rate"] > 100
        assert snapshots > 1
    else:
        assert (dropped, snapshots) == ({}, 1)
