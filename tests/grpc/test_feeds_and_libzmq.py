"""One-way calls, broadcast and events with plain libzmq at the other end: the frames of the wire page, by hand."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from google.protobuf.wrappers_pb2 import Int64Value

import trio_mq_grpc

from ._kit import SOON, wait_until
from ._work import Heard, path, serve

zmq: Any = pytest.importorskip("zmq")
pytestmark = pytest.mark.peer("zmq")

METHOD = path("Do").encode()
ONEWAY = struct.pack(">BBHIQ", 0xA1, 1, 0x0006, 0, 1)
"""CALL MSG END."""


def event_header(number: int, epoch: int = 7) -> bytes:
    return struct.pack(">BBHIQ", 0xA1, 9, 0x0002, number, epoch << 32 | number)


@pytest.fixture
def plain(endpoint_for: Callable[[str], str]) -> Any:
    """Makes sockets of libzmq, bound or connected, that are closed in the end."""
    context = zmq.Context()
    sockets: list[Any] = []

    def make(kind: str, endpoint: str, *, bind: bool = False) -> Any:
        socket = context.socket(getattr(zmq, kind))
        sockets.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        socket.setsockopt(zmq.SNDTIMEO, int(SOON * 1000))
        (socket.bind if bind else socket.connect)(endpoint)
        return socket

    yield make
    for socket in sockets:
        socket.close()
    context.term()


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await trio.to_thread.run_sync(function, *args)


async def test_work_of_a_plain_push_is_done(plain: Any, endpoint_for: Callable[[str], str]) -> None:
    heard = Heard()
    server, endpoint = serve(Do=heard), endpoint_for("tcp")
    server.add_oneway_port(endpoint)
    with trio.fail_after(2 * SOON):
        async with server:
            push = plain("PUSH", endpoint)
            for number in range(10):
                await in_thread(push.send_multipart, [ONEWAY, METHOD, b"%d" % number])
            await wait_until(lambda: len(heard.requests) == 10)
    assert heard.requests == [b"%d" % number for number in range(10)]


async def test_a_plain_pull_gets_header_method_head_and_payload(plain: Any, endpoint_for: Callable[[str], str]) -> None:
    endpoint = endpoint_for("tcp")
    pull = plain("PULL", endpoint, bind=True)
    with trio.fail_after(2 * SOON):
        async with trio_mq_grpc.oneway_channel(endpoint, expires_after=60) as channel:
            await channel.unary_unary(path("Do"))(b"x", metadata=[("who", "ada")])
            header, method, head, payload = await in_thread(pull.recv_multipart)
    assert struct.unpack(">BBHIQ", header) == (0xA1, 1, 0x0007, 0, 1)
    assert (method, payload) == (METHOD, b"x")
    assert head.startswith(b"\x0a\x0a\x0a\x03who\x12\x03ada\x48")  # metadata, then field 9: expires_unix_us
    expires = sum((byte & 127) << 7 * at for at, byte in enumerate(head[13:]))
    assert 50 < expires / 1e6 - time.time() < 70


async def test_a_plain_sub_hears_events_and_their_numbers(plain: Any, endpoint_for: Callable[[str], str]) -> None:
    endpoint = endpoint_for("tcp")
    topic = b"/google.protobuf.Int64Value\0"
    with trio.fail_after(2 * SOON):
        async with trio_mq_grpc.EventPublisher(endpoint, bind=True) as publisher:
            sub = plain("SUB", endpoint)
            sub.setsockopt(zmq.SUBSCRIBE, topic)
            await publisher.wait_subscribed(Int64Value)
            for number, key in enumerate((b"", b"a", b"b", b"a")):
                await publisher.publish(Int64Value(value=number), key)
            heard = [await in_thread(sub.recv_multipart) for _ in range(4)]
    assert [frames[0] for frames in heard] == [topic, topic + b"a", topic + b"b", topic + b"a"]
    headers = [struct.unpack(">BBHIII", frames[1]) for frames in heard]
    assert headers == [(0xA1, 9, 2, number, publisher.epoch, of_key) for number, of_key in enumerate((0, 0, 0, 1))]
    assert [Int64Value.FromString(frames[2]).value for frames in heard] == [0, 1, 2, 3]


async def test_events_of_a_plain_pub_are_heard_with_their_gaps(plain: Any, endpoint_for: Callable[[str], str]) -> None:
    endpoint = endpoint_for("tcp")
    topic = b"/google.protobuf.Int64Value\0"
    with trio.fail_after(2 * SOON):
        async with trio_mq_grpc.EventSubscriber(endpoint, on_gap=lambda gap: None) as subscriber:
            events = subscriber.events(Int64Value)
            pub = plain("XPUB", endpoint, bind=True)
            assert await in_thread(pub.recv) == b"\1" + topic
            for number in (0, 1, 4):
                payload = Int64Value(value=number).SerializeToString()
                await in_thread(pub.send_multipart, [topic, event_header(number), payload])
            got = [await anext(events) for _ in range(3)]
    assert [(event.message.value, event.sequence, event.missed, event.epoch) for event in got] == [
        (0, 0, 0, 7),
        (1, 1, 0, 7),
        (4, 4, 2, 7),
    ]


async def test_broadcast_of_a_plain_pub_reaches_a_servicer(plain: Any, endpoint_for: Callable[[str], str]) -> None:
    heard = Heard()
    server, endpoint = serve(Do=heard), endpoint_for("tcp")
    server.subscribe(endpoint)
    with trio.fail_after(2 * SOON):
        async with server:
            pub = plain("XPUB", endpoint, bind=True)
            assert await in_thread(pub.recv) == b"\1/test.Work/"
            await in_thread(pub.send_multipart, [METHOD + b"\0", event_header(0), b"x"])
            await wait_until(lambda: heard.requests == [b"x"])
