"""Bad input, from the program and from peers: who is told, in which words, and who is not disturbed.

One section for each row of the table in the project's issue 2. Peers that misbehave are written by hand, byte by byte.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock

import trio_mq
from trio_mq import (
    Dealer,
    EndpointError,
    MultipartError,
    Options,
    Pair,
    Pub,
    Pull,
    Push,
    Rep,
    Req,
    Router,
    SocketTypeMismatchError,
    StateError,
    Sub,
    VersionMismatchError,
    XPub,
    XSub,
)
from trio_mq.events import Disconnected, Event, HandshakeFailed, HandshakeSucceeded, RetryIn

EVERY_TYPE: list[Any] = [Pair, Req, Rep, Dealer, Router, Pub, Sub, XPub, XSub, Push, Pull]
BRIEF = Options(linger=0)
LOOPBACK = "tcp://127.0.0.1:*"


def named(cls: Any) -> str:
    return getattr(cls, "__name__", "")


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.002)


@contextmanager
def every_fd_closed() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


# ---- malformed endpoint, unknown scheme, port out of range, ipc path too long

MALFORMED = [
    "",
    "tcp",
    "127.0.0.1:5555",
    "tcp:/127.0.0.1:5555",
    "tcp://",
    "://127.0.0.1:5555",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:",
    "tcp://:5555",
    "tcp://127.0.0.1:port",
    "tcp://127.0.0.1:-1",
    "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:99999999999999999999",
    "tcp://127.0.0.1:5 555",
    "tcp://[::1:5555",
    "tcp://::1:5555",
    "nonsense://127.0.0.1:5555",
    "TCP://127.0.0.1:5555",
    "ipc://",
    "ipc://@",
    "ipc:///tmp/" + "x" * 108,
    "ipc:///tmp/nul\0byte",
    "inproc://",
    "http://example.org/",
]

CONNECT_ONLY = ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://*:5555", "ipc://*", "tcp://nic;127.0.0.1:5555"]


@pytest.mark.parametrize("endpoint", MALFORMED)
async def test_a_malformed_endpoint_is_refused_at_the_call_and_named_with_the_rule_it_breaks(endpoint: str) -> None:
    calls: list[Callable[[], Any]] = [lambda: Pull(bind=endpoint), lambda: Pull(connect=endpoint)]
    async with Pull() as pull:
        calls.append(lambda: pull.connect(endpoint))
        for call in calls:
            with pytest.raises(EndpointError) as caught:
                call()
            assert caught.value.endpoint == endpoint
            assert caught.value.rule
            assert repr(endpoint) in str(caught.value)
            assert caught.value.rule in str(caught.value)
        with pytest.raises(EndpointError, match=r".+: .+"):
            await pull.bind(endpoint)
        assert pull.endpoints == ()
        await pull.bind("inproc://usable")


@pytest.mark.parametrize("endpoint", CONNECT_ONLY)
def test_what_can_be_bound_may_still_be_nothing_to_connect_to(endpoint: str) -> None:
    with pytest.raises(EndpointError):
        Pull(connect=endpoint)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:port", "nonsense://x", "ipc:///tmp/" + "x" * 108])
def test_listen_refuses_a_malformed_endpoint_too(endpoint: str) -> None:
    with pytest.raises(EndpointError):
        trio_mq.listen(endpoint)


def test_an_endpoint_error_is_a_value_error_and_says_what_would_be_right() -> None:
    with pytest.raises(ValueError, match=r"known: .*inproc.*ipc.*tcp"):
        Pull(connect="tpc://127.0.0.1:5555")
    with pytest.raises(ValueError, match="65535"):
        Pull(connect="tcp://127.0.0.1:65536")
    with pytest.raises(ValueError, match="107"):
        Pull(bind="ipc:///tmp/" + "x" * 108)


@pytest.mark.parametrize("endpoint", [b"tcp://127.0.0.1:5555", 5555, None])
async def test_an_endpoint_is_text(endpoint: Any) -> None:
    async with Pull() as pull:
        with pytest.raises(TypeError):
            pull.connect(endpoint)
        with pytest.raises(TypeError):
            await pull.bind(endpoint)


# ---- bind to a taken address


@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*", "inproc://taken"])
async def test_binding_a_taken_address_is_the_os_error(endpoint: str) -> None:
    async with Pull(bind=endpoint) as owner, Pull() as pull, pull.monitor() as story:
        taken = owner.last_endpoint or ""
        with pytest.raises(OSError) as caught:
            await pull.bind(taken)
        assert caught.value.errno == errno.EADDRINUSE
        failed = await anext(story)
        assert type(failed).__name__ == "BindFailed"
        assert failed.endpoint == taken
        with pytest.raises(OSError) as caught:
            async with Pull(bind=taken):
                raise AssertionError("it is taken")
        assert caught.value.errno == errno.EADDRINUSE
        async with Push(connect=taken) as push:
            await push.send(b"the owner was not disturbed")
            assert await owner.receive() == b"the owner was not disturbed"


@pytest.mark.parametrize(
    "endpoint", ["tcp://192.0.2.1:5555", "tcp://nosuchinterface0:5555", "ipc:///nonexistent/directory/x"]
)
async def test_binding_what_this_machine_does_not_have_is_the_os_error(endpoint: str) -> None:
    async with Pull() as pull:
        with pytest.raises(OSError, match=re.escape(endpoint)):
            await pull.bind(endpoint)
        assert pull.endpoints == ()


@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*"])
def test_listening_on_a_taken_address_is_the_os_error(endpoint: str) -> None:
    listener = trio_mq.listen(endpoint)
    try:
        with pytest.raises(OSError, match=f"{re.escape(listener.endpoint)}: .* in use"):
            trio_mq.listen(listener.endpoint)
    finally:
        listener.close()


@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*", "inproc://taken"])
async def test_the_error_of_a_taken_address_names_it_once(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Pull() as other:
        (taken,) = pull.endpoints
        with pytest.raises(OSError, match="in use") as raised:
            await other.bind(taken)
    assert str(raised.value).count(taken) == 1


# ---- wrong call for the pattern's state, wrong type of message

WRONG_FRAMES: list[tuple[Any, str]] = [
    ("text", "encode it"),
    (5, "int"),
    (None, "NoneType"),
    ([b"a", b"b"], "send_multipart"),
    (memoryview(b"abcdef")[::2], "contiguous"),
]


@pytest.mark.parametrize(("frame", "words"), WRONG_FRAMES, ids=["str", "int", "None", "list", "strided memoryview"])
async def test_a_wrong_type_of_frame_is_refused_with_advice_and_the_socket_goes_on(
    frame: Any, words: str, autojump_clock: MockClock
) -> None:
    async with Pull(bind="inproc://here") as pull, Push(connect="inproc://here") as push:
        with pytest.raises(TypeError, match=words):
            await push.send(frame)
        with pytest.raises(TypeError, match=words):
            push.send_nowait(frame)
        if not isinstance(frame, list):
            with pytest.raises(TypeError, match=words):
                await push.send_multipart([b"good", frame])
            with pytest.raises(TypeError, match=words):
                await push.send_many([b"taken", frame, b"never"])
            assert await pull.receive() == b"taken"
        await push.send(b"fine")
        assert await pull.receive() == b"fine"


@pytest.mark.parametrize(
    "frames", [b"one frame", "text", bytearray(b"x"), memoryview(b"x")], ids=lambda v: type(v).__name__
)
async def test_send_multipart_wants_a_sequence_of_frames(frames: Any) -> None:
    async with Push(bind="inproc://here") as push:
        with pytest.raises(TypeError, match=r"send\(\)"):
            await push.send_multipart(frames)


async def test_a_message_has_at_least_one_frame() -> None:
    async with Push(bind="inproc://here") as push:
        with pytest.raises(ValueError, match="at least one frame"):
            await push.send_multipart([])


@pytest.mark.parametrize("buffer", [bytearray(b"abc"), memoryview(b"abc"), memoryview(bytearray(b"abc"))])
async def test_other_buffers_are_copied_so_that_later_changes_do_not_reach_the_peer(buffer: Any) -> None:
    async with Pull(bind="inproc://here") as pull, Push(connect="inproc://here") as push:
        await push.send(buffer)
        await push.send_multipart([buffer, b"x"])
        if isinstance(buffer, bytearray):
            buffer[:] = b"xyz"
        got = await pull.receive()
        assert type(got) is bytes
        assert got == b"abc"
        assert await pull.receive_multipart() == [b"abc", b"x"]


@pytest.mark.parametrize("topics", ["text", ["text"], [5]])
def test_topics_are_bytes(topics: Any) -> None:
    with pytest.raises(TypeError):
        Sub(topics=topics)


async def test_calls_out_of_turn_say_what_to_call_instead(autojump_clock: MockClock) -> None:
    async with Rep(bind="inproc://here") as rep, Req(connect="inproc://here") as req:
        with pytest.raises(StateError, match="send"):
            await req.receive()
        with pytest.raises(StateError, match="send"):
            req.receive_nowait()
        with pytest.raises(StateError, match="receive"):
            await rep.send(b"no request yet")
        await req.send(b"question")
        with pytest.raises(StateError, match="receive"):
            await req.send(b"another")
        with pytest.raises(StateError, match="receive"):
            await req.request(b"another")
        assert await rep.receive() == b"question"
        await rep.send(b"answer")
        with pytest.raises(StateError, match="receive"):
            await rep.send(b"again")
        assert await req.receive() == b"answer"


@pytest.mark.parametrize("cls", EVERY_TYPE, ids=named)
async def test_before_entry_everything_but_intentions_is_a_state_error(cls: Any) -> None:
    socket_ = cls(options=BRIEF)
    calls: list[Callable[[], Any]] = [socket_.wait_connected, lambda: socket_.bind("inproc://here")]
    if hasattr(socket_, "send_multipart"):
        calls.append(lambda: socket_.send_multipart([b"a", b"b"]))
    if hasattr(socket_, "receive_multipart"):
        calls.append(socket_.receive_multipart)
    for call in calls:
        with pytest.raises(StateError, match="async with"):
            await call()
    socket_.connect("inproc://intended")
    async with socket_:
        assert socket_.endpoints == ("inproc://intended",)


@pytest.mark.parametrize("cls", EVERY_TYPE, ids=named)
async def test_a_socket_is_entered_once(cls: Any) -> None:
    socket_ = cls(bind="inproc://here")
    async with socket_:
        with pytest.raises(StateError):
            await socket_.__aenter__()
        assert socket_.last_endpoint == "inproc://here"
    with pytest.raises(StateError):
        await socket_.__aenter__()


async def test_a_router_has_no_call_of_one_frame() -> None:
    assert not hasattr(Router, "send")
    assert not hasattr(Router, "receive")
    async with Router(bind="inproc://here") as router:
        with pytest.raises(ValueError, match="routing id"):
            await router.send_multipart([b"alone"])


@pytest.mark.parametrize(
    ("cls", "absent"),
    [(Push, "receive"), (Pull, "send"), (Pub, "receive"), (Sub, "send"), (Push, "receive_many"), (Pull, "send_many")],
    ids=named,
)
def test_the_wrong_direction_does_not_exist(cls: Any, absent: str) -> None:
    assert not hasattr(cls, absent)


# ---- options

MISFITS: list[tuple[Any, dict[str, Any]]] = [
    (Push, {"xpub_manual": True}),
    (Push, {"router_mandatory": True}),
    (Pull, {"routing_id": b"me"}),
    (Dealer, {"req_relaxed": True}),
    (Pub, {"xpub_verbose": True}),
    (Router, {"conflate": True}),
    (Req, {"router_handover": True}),
    (Pair, {"invert_matching": True}),
    (Push, {"overflow": "block"}),
    (Sub, {"peer_events": True}),
    (Pub, {"probe_router": True}),
]


@pytest.mark.parametrize(("cls", "fields"), MISFITS, ids=lambda item: named(item) or next(iter(item)))
async def test_an_option_that_means_nothing_on_a_type_is_refused_naming_both(cls: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))}.*{cls.__name__.upper()}"):
        cls(options=Options(**fields))
    async with cls() as socket_:
        with pytest.raises(ValueError, match=next(iter(fields))):
            socket_.connect("inproc://here", options=Options(**fields))
        with pytest.raises(ValueError, match=next(iter(fields))):
            await socket_.bind("inproc://here", options=Options(**fields))


WRONG_VALUES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"linger": None}, ValueError, "math.inf"),
    ({"linger": -1}, ValueError, "linger"),
    ({"linger": float("nan")}, ValueError, "linger"),
    ({"send_hwm": 0}, ValueError, "None"),
    ({"receive_hwm": -1}, ValueError, "receive_hwm"),
    ({"send_hwm": 1.5}, TypeError, "send_hwm"),
    ({"send_hwm": True}, TypeError, "send_hwm"),
    ({"send_hwm_bytes": "1"}, TypeError, "send_hwm_bytes"),
    ({"routing_id": b"\0x"}, ValueError, "zero byte"),
    ({"routing_id": bytes(256)}, ValueError, "255"),
    ({"routing_id": "me"}, TypeError, "bytes"),
    ({"heartbeat_interval": 0}, ValueError, "heartbeat_interval"),
    ({"heartbeat_ttl": 66}, ValueError, "65.5"),
    ({"overflow": "drop_oldest"}, ValueError, "overflow"),
    ({"security": trio_mq.Plain(server=True)}, ValueError, "authenticator"),
    ({"properties": {"Name": "x"}}, ValueError, "X-"),
    ({"properties": {"X-Name": "é"}}, ValueError, "ASCII"),
    ({"max_message_size": -1}, ValueError, "max_message_size"),
]


@pytest.mark.parametrize(
    ("fields", "error", "words"), WRONG_VALUES, ids=lambda item: str(item) if isinstance(item, dict) else ""
)
def test_a_wrong_value_of_an_option_is_refused_by_name(
    fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Options(**fields)


def test_a_mechanism_that_is_not_there_yet_says_how_to_get_it() -> None:
    with pytest.raises(NotImplementedError, match="curve"):
        trio_mq.Curve(public_key=bytes(32))
    assert not trio_mq.has("curve")
    assert trio_mq.has("tcp")


# ---- use after close; two tasks at once


@pytest.mark.parametrize("cls", EVERY_TYPE, ids=named)
async def test_a_closed_socket_says_so_at_every_call(cls: Any) -> None:
    async with cls(bind="inproc://here") as socket_:
        pass
    sync: list[Callable[[], Any]] = [lambda: socket_.connect("inproc://here")]
    waits: list[Callable[[], Awaitable[Any]]] = [
        socket_.wait_connected,
        lambda: socket_.bind("inproc://here"),
    ]
    if hasattr(socket_, "send_multipart"):
        sync.append(lambda: socket_.send_multipart_nowait([b"a", b"b"]))
        waits.append(lambda: socket_.send_multipart([b"a", b"b"]))
        waits.append(socket_.flush)
    if hasattr(socket_, "receive_multipart"):
        sync.append(socket_.receive_multipart_nowait)
        waits.append(socket_.receive_multipart)
    if hasattr(socket_, "send_many"):
        waits.append(lambda: socket_.send_many([[b"a", b"b"]]))
    if hasattr(socket_, "receive_many"):
        waits.append(socket_.receive_many)
    if hasattr(socket_, "wait_subscribed"):
        waits.append(socket_.wait_subscribed)
    for call in sync:
        with pytest.raises(trio.ClosedResourceError):
            call()
    for wait in waits:
        with pytest.raises(trio.ClosedResourceError):
            await wait()
    assert "closed" in repr(socket_)


async def test_iterating_over_a_closed_socket_says_so_too() -> None:
    async with Pull(bind="inproc://here") as pull:
        pass
    with pytest.raises(trio.ClosedResourceError):
        async for _ in pull:
            raise AssertionError("it is closed")


async def test_two_tasks_cannot_receive_the_reply_to_one_request(autojump_clock: MockClock) -> None:
    async with Rep(bind="inproc://here") as rep, Req(connect="inproc://here") as req, trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await req.receive() == b"answer"

        await req.send(b"question")
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await req.receive()
        assert await rep.receive() == b"question"
        await rep.send(b"answer")


async def test_two_tasks_cannot_send_one_request(autojump_clock: MockClock) -> None:
    async with Req(bind="inproc://here") as req, trio.open_nursery() as nursery:
        nursery.start_soon(req.send, b"waits for a peer")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await req.send(b"me too")
        async with Rep(connect="inproc://here") as rep:
            assert await rep.receive() == b"waits for a peer"


async def test_another_thread_with_a_loop_of_its_own_is_refused() -> None:
    async with Pull(bind="inproc://here") as pull:

        def elsewhere() -> None:
            async def receive() -> None:
                await pull.receive()

            trio.run(receive)

        with pytest.raises(RuntimeError, match=r"loop|thread"):
            await trio.to_thread.run_sync(elsewhere)


# ---- peers that misbehave: their own session ends, visibly, and nobody else notices

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)


def command(name: str, data: bytes = b"") -> bytes:
    body = bytes([len(name)]) + name.encode() + data
    return b"\x04" + bytes([len(body)]) + body


def prop(name: str, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + len(value).to_bytes(4, "big") + value


def ready(socket_type: str) -> bytes:
    return command("READY", prop("Socket-Type", socket_type.encode()))


async def dial(endpoint: str) -> trio.SocketStream:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def read_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    try:
        while more := await stream.receive_some():
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def event_of(story: trio.abc.ReceiveChannel[Event], *kinds: type[Event]) -> Any:
    async for event in story:
        if isinstance(event, kinds):
            return event
    raise AssertionError(f"the socket closed without {kinds}")


@asynccontextmanager
async def bystander(pull: Pull) -> AsyncIterator[None]:
    """A well-behaved peer exchanges messages before, during and after what happens in the block, on one connection."""
    once = Options(retry=False)
    async with Push(connect=pull.last_endpoint, options=once) as push, push.monitor() as story:
        await push.send(b"before")
        assert await pull.receive() == b"before"
        yield
        await push.send(b"after")
        assert await pull.receive() == b"after"
        await push.aclose()
        assert not [event async for event in story if isinstance(event, Disconnected) and event.error is not None]


BEFORE_READY: list[tuple[str, bytes]] = [
    ("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a TLS hello", bytes.fromhex("160301020001fc0303") + bytes(64)),
    ("zeros", bytes(64)),
    ("noise", bytes((7 * n * n + 3) % 256 for n in range(256))),
    ("ZMTP 1.0", b"\x01\x00" + bytes(30)),
    ("a signature with an even last byte", b"\xff" + bytes(8) + b"\x7e\x03\x01"),
    ("another mechanism", SIGNATURE + b"\x03\x01CURVE" + bytes(15) + bytes(32)),
    ("a mechanism nobody knows", SIGNATURE + b"\x03\x01SECRET" + bytes(14) + bytes(32)),
    ("a message instead of READY", GREETING + b"\x00\x05hello"),
    ("an unknown command instead of READY", GREETING + command("HELLO")),
    (
        "a READY that ends in the middle of a property",
        GREETING + command("READY", b"\x0bSocket-Type\x00\x00\x00\xffPUSH"),
    ),
    ("a READY with bytes left over", GREETING + command("READY", prop("Socket-Type", b"PUSH") + b"\x01")),
    ("the wrong socket type", GREETING + ready("PUB")),
    ("a socket type nobody knows", GREETING + ready("NONSENSE")),
    ("an ERROR", GREETING + command("ERROR", b"\x03no!")),
    ("an endless READY", GREETING + b"\x06" + (1 << 40).to_bytes(8, "big")),
    ("a command with an empty body", GREETING + b"\x04\x00"),
]


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in BEFORE_READY])
async def test_a_bad_beginning_ends_its_own_session_with_an_event_a_counter_and_a_log_line(
    words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="trio_mq")
    with trio.fail_after(5), every_fd_closed():
        async with Pull(bind=LOOPBACK, options=BRIEF) as pull, pull.monitor() as story, bystander(pull):
            async with await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(words)
                failed = await event_of(story, HandshakeFailed)
                assert str(failed.error)
                assert failed.address.startswith("tcp://127.0.0.1:")
                await read_to_the_end(stream)
            assert pull.statistics().endpoints[0].failures == 1
    assert any(failed.address in record.getMessage() for record in caplog.records if record.name.startswith("trio_mq"))


async def test_the_wrong_socket_type_is_named_at_both_ends() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as pull, pull.monitor() as at_pull:
            async with Sub(options=Options(retry=False), topics=b"") as sub, sub.monitor() as at_sub:
                sub.connect(pull.last_endpoint or "")
                for story in (at_pull, at_sub):
                    failed = await event_of(story, HandshakeFailed)
                    assert "SUB" in str(failed.error)
                    assert "PULL" in str(failed.error)
                assert isinstance(failed.error, SocketTypeMismatchError)


async def test_another_protocol_is_recognised_and_called_by_its_name() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as pull, pull.monitor() as story:
            async with await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                failed = await event_of(story, HandshakeFailed)
                assert isinstance(failed.error, VersionMismatchError)
                assert "HTTP" in str(failed.error)


IN_TRAFFIC: list[tuple[str, Any, str, bytes]] = [
    ("a size beyond 2^63", Pull, "PUSH", b"\x02\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("MORE on a command", Pull, "PUSH", b"\x05\x05\x04PING"),
    ("a PING too short", Pull, "PUSH", b"\x04\x05\x04PING"),
    ("a reply without a delimiter", Req, "REP", b"\x00\x05hello"),
    ("a reply with two delimiters before it", Req, "REP", b"\x01\x03abc\x01\x00\x00\x01x"),
]


@pytest.mark.parametrize(("cls", "peer_type", "words"), [pytest.param(*case[1:], id=case[0]) for case in IN_TRAFFIC])
async def test_a_breach_of_protocol_in_traffic_ends_that_session_and_says_why(
    cls: Any, peer_type: str, words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="trio_mq")
    with trio.fail_after(5), every_fd_closed():
        async with cls(bind=LOOPBACK, options=BRIEF) as socket_, socket_.monitor() as story:
            async with await dial(socket_.last_endpoint) as stream:
                await stream.send_all(GREETING + ready(peer_type))
                await event_of(story, HandshakeSucceeded)
                await stream.send_all(words)
                lost = await event_of(story, Disconnected)
                assert isinstance(lost.error, trio_mq.RemoteProtocolError)
                await read_to_the_end(stream)
    assert any(
        lost.peer.address in record.getMessage() for record in caplog.records if record.name.startswith("trio_mq")
    )


async def test_a_frame_over_the_limit_ends_its_session_before_it_is_read() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK, options=Options(max_message_size=1000)) as pull, pull.monitor() as story:
            async with bystander(pull), await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(GREETING + ready("PUSH") + b"\x02" + (1000).to_bytes(8, "big") + bytes(1000))
                assert len(await pull.receive()) == 1000
                await stream.send_all(b"\x02" + (1001).to_bytes(8, "big"))
                lost = await event_of(story, Disconnected)
                assert "1000" in str(lost.error)
                await read_to_the_end(stream)


async def test_too_many_frames_end_their_session() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK, options=Options(max_frames=3)) as pull, pull.monitor() as story:
            async with bystander(pull), await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(GREETING + ready("PUSH") + b"\x01\x00" * 2 + b"\x00\x00")
                assert await pull.receive_multipart() == [b"", b"", b""]
                await stream.send_all(b"\x01\x00" * 3 + b"\x00\x00")
                lost = await event_of(story, Disconnected)
                assert "3" in str(lost.error)


async def test_a_header_that_announces_a_terabyte_allocates_nothing() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as pull, pull.monitor() as story, await dial(pull.last_endpoint or "") as stream:
            await stream.send_all(GREETING + ready("PUSH"))
            await event_of(story, HandshakeSucceeded)
            tracemalloc.start()
            try:
                await stream.send_all(b"\x02" + (1 << 40).to_bytes(8, "big") + bytes(1000))
                async with Push(connect=pull.last_endpoint) as push:  # a round of others, so that the header was read
                    for _ in range(10):
                        await push.send(b"x")
                        assert await pull.receive() == b"x"
                assert tracemalloc.get_traced_memory()[1] < 4_000_000
            finally:
                tracemalloc.stop()


async def test_a_peer_that_says_nothing_is_let_go_when_the_handshake_takes_too_long() -> None:
    with trio.fail_after(5), every_fd_closed():
        async with Pull(bind=LOOPBACK, options=Options(handshake_interval=0.05)) as pull, pull.monitor() as story:
            async with bystander(pull), await dial(pull.last_endpoint or "") as stream:
                failed = await event_of(story, HandshakeFailed)
                assert "0.05" in str(failed.error)
                await read_to_the_end(stream)


@pytest.mark.parametrize(
    "words",
    [b"", b"\xff", SIGNATURE, GREETING[:40], GREETING, GREETING + ready("PUSH")[:9]],
    ids=["nothing", "a byte", "a signature", "half a greeting", "a greeting", "half a READY"],
)
async def test_a_handshake_broken_off_is_an_event_and_not_the_end(words: bytes) -> None:
    with trio.fail_after(5), every_fd_closed():
        async with Pull(bind=LOOPBACK) as pull, pull.monitor() as story, bystander(pull):
            async with await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(words)
            await event_of(story, HandshakeFailed)


async def test_half_a_message_is_rolled_back_when_its_sender_goes() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as pull, pull.monitor() as story, bystander(pull):
            async with await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(GREETING + ready("PUSH") + b"\x00\x05whole" + b"\x01\x04half" + b"\x00\x0athe o")
                assert await pull.receive() == b"whole"
            await event_of(story, Disconnected)


async def test_many_bad_peers_at_once_do_not_keep_a_good_one_waiting() -> None:
    with trio.fail_after(10), every_fd_closed():
        async with Pull(bind=LOOPBACK, options=Options(max_handshakes=8)) as pull:
            async with trio.open_nursery() as nursery:

                async def misbehave() -> None:
                    async with await dial(pull.last_endpoint or "") as stream:
                        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                        await read_to_the_end(stream)

                for _ in range(50):
                    nursery.start_soon(misbehave)
                async with Push(connect=pull.last_endpoint) as push:
                    await push.send(b"good")
                    assert await pull.receive() == b"good"


async def test_a_peer_that_floods_is_read_only_as_far_as_the_mark() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK, options=Options(receive_hwm=10)) as pull:
            async with await dial(pull.last_endpoint or "") as stream:
                await stream.send_all(GREETING + ready("PUSH"))
                async with trio.open_nursery() as nursery:

                    async def flood() -> None:
                        while True:
                            await stream.send_all(b"\x00\x40" + bytes(64))

                    nursery.start_soon(flood)
                    await until(lambda: [peer.unread_messages for peer in pull.statistics().peers] == [10])
                    for _ in range(1000):
                        await pull.receive()
                    assert max(peer.unread_messages for peer in pull.statistics().peers) <= 10
                    nursery.cancel_scope.cancel()


async def test_a_peer_cannot_end_a_loop_over_messages_by_sending_several_frames() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as pull, Push(connect=pull.last_endpoint) as push:
            for frames in ([b"1"], [b"two", b"frames"], [b"three", b"more", b"frames"], [b"2"]):
                await push.send_multipart(frames)
            got = []
            async for message in pull:
                got.append(message)
                if message == b"2":
                    break
            assert got == [b"1", b"2"]
            assert pull.statistics().dropped["multipart"] == 2
            await push.send_multipart([b"a", b"b"])
            with pytest.raises(MultipartError) as caught:
                await pull.receive()
            assert caught.value.frames == [b"a", b"b"]


@pytest.mark.parametrize(
    "words",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", GREETING + ready("PUB"), GREETING + b"\x00\x05hello", b""],
    ids=["an HTTP server", "the wrong type", "a message too early", "a hang-up"],
)
async def test_a_bad_listener_is_an_event_and_is_dialled_again_until_it_mends_its_ways(words: bytes) -> None:
    async def misbehave(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(words)
            if words:
                await read_to_the_end(stream)

    with trio.fail_after(5), every_fd_closed():
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        host, port = listeners[0].socket.getsockname()
        async with Push(options=Options(reconnect_interval=0.01)) as push, push.monitor() as story:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, misbehave, listeners)
                push.connect(f"tcp://{host}:{port}")
                await push.send(b"patience")
                for _ in range(3):
                    await event_of(story, HandshakeFailed)
                    await event_of(story, RetryIn)
                nursery.cancel_scope.cancel()
            async with Pull(bind=f"tcp://{host}:{port}") as pull:
                assert await pull.receive() == b"patience"


# ---- a peer vanishes


def reset(stream: trio.SocketStream) -> None:
    """Close with a RST instead of a FIN."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@pytest.mark.parametrize("way", ["FIN", "RST", "silence"])
async def test_a_vanished_peer_is_dialled_again_and_what_was_queued_arrives(way: str) -> None:
    with trio.fail_after(5), every_fd_closed():
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        host, port = listeners[0].socket.getsockname()
        options = Options(reconnect_interval=0.01, heartbeat_interval=0.05, heartbeat_timeout=0.05)
        async with Push(connect=f"tcp://{host}:{port}", options=options) as push, push.monitor() as story:
            stream = await listeners[0].accept()
            await listeners[0].aclose()
            await stream.send_all(GREETING + ready("PULL"))
            await event_of(story, HandshakeSucceeded)
            greeted = 0
            while greeted < len(GREETING + ready("PUSH")):  # bytes left unread would turn the FIN into a RST
                greeted += len(await stream.receive_some())
            if way == "FIN":
                await stream.aclose()
            elif way == "RST":
                reset(stream)
            lost = await event_of(story, Disconnected)
            assert (lost.error is None) == (way == "FIN")
            for word in (b"1", b"2", b"3"):
                await push.send(word)
            assert 0 <= (await event_of(story, RetryIn)).seconds <= 5
            async with Pull(bind=f"tcp://{host}:{port}") as pull:
                assert [await pull.receive() for _ in range(3)] == [b"1", b"2", b"3"]
            await stream.aclose()


async def test_sending_to_a_peer_that_was_reset_raises_nothing() -> None:
    with trio.fail_after(5):
        async with Push(bind=LOOPBACK, options=BRIEF) as push, push.monitor() as story:
            stream = await dial(push.last_endpoint or "")
            await stream.send_all(GREETING + ready("PULL"))
            await event_of(story, HandshakeSucceeded)
            reset(stream)
            while push.can_send():  # until the loss is noticed; then there is no peer, and a send would wait
                push.send_nowait(b"into the void")
                await trio.lowlevel.checkpoint()
            await event_of(story, Disconnected)
            with pytest.raises(trio.WouldBlock):
                push.send_nowait(b"nobody")


# ---- Ctrl-C, the user's exception, a cancelled block: test_cancellation.py and test_leaving.py
