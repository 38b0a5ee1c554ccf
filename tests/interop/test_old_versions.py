"""Peers of older protocol versions, made of plain sockets: 3.0 and 2.0 are served, 1.0 and strangers are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
import trio.testing

import trio_mq
from trio_mq import Options, Plain, VersionMismatchError
from trio_mq.events import HandshakeFailed, HandshakeSucceeded

from ._cases import EndpointOf
from ._dialogues import DIALOGUES
from ._ends import OurEnd, open_ours
from ._messages import Pattern
from ._process import DEADLINE, Peer
from ._raw import MORE, SIGNATURE, RawPeer, command, frame, greeting, message, raw_connect, raw_listen, ready
from ._watch import until, watching

Meet = Callable[[OurEnd], AbstractAsyncContextManager[RawPeer]]

LOOPBACK = "tcp://127.0.0.1:*"
BIG = bytes(range(256)) * 300


@asynccontextmanager
async def we_bind(ours: OurEnd) -> AsyncIterator[RawPeer]:
    async with raw_connect(await ours.bind(LOOPBACK)) as peer:
        yield peer


@asynccontextmanager
async def we_connect(ours: OurEnd) -> AsyncIterator[RawPeer]:
    async with raw_listen() as listener:
        await ours.connect(listener.endpoint)
        async with listener.accept() as peer:
            yield peer


BOTH_PLACES = pytest.mark.parametrize("meet", [we_bind, we_connect])


# ---- ZMTP 3.0: as 3.1, but subscriptions are messages


@BOTH_PLACES
async def test_a_3_0_dealer_talks_to_our_router(meet: Meet) -> None:
    async with open_ours("ROUTER") as ours, meet(ours) as peer:
        await peer.handshake(b"DEALER", b"me", minor=0)
        await peer.send(message(b"", b"x", BIG))
        assert isinstance(ours.socket, trio_mq.Router)
        with trio.fail_after(DEADLINE):
            assert await ours.socket.receive_multipart() == [b"me", b"", b"x", BIG]
            await ours.socket.send_multipart([b"me", b"", BIG])
        assert await peer.read_message() == [b"", BIG]


@BOTH_PLACES
async def test_a_3_0_requester_is_answered_by_our_rep(meet: Meet) -> None:
    async with open_ours("REP") as ours, meet(ours) as peer:
        await peer.handshake(b"REQ", b"", minor=0)
        await peer.send(message(b"", b"question"))
        assert await ours.receive() == [b"question"]
        await ours.send([b"answer"])
        assert await peer.read_message() == [b"", b"answer"]


@BOTH_PLACES
async def test_a_3_0_pusher_and_a_3_0_puller(meet: Meet) -> None:
    async with open_ours("PULL") as ours, meet(ours) as peer:
        await peer.handshake(b"PUSH", minor=0)
        await peer.send(message(b"a", b""), frame(b"b"))
        assert [await ours.receive(), await ours.receive()] == [[b"a", b""], [b"b"]]
    async with open_ours("PUSH") as ours, meet(ours) as peer:
        await peer.handshake(b"PULL", minor=0)
        await ours.send([b"a", b"", BIG])
        assert await peer.read_message() == [b"a", b"", BIG]


@BOTH_PLACES
@pytest.mark.parametrize("our_kind", ["PUB", "XPUB"])
async def test_a_3_0_subscriber_subscribes_by_messages(our_kind: str, meet: Meet) -> None:
    async with open_ours(our_kind) as ours, meet(ours) as peer:
        assert isinstance(ours.socket, (trio_mq.Pub, trio_mq.XPub))
        await peer.handshake(b"SUB", minor=0)
        await peer.send(frame(b"\x01A"), frame(b"\x01B"))
        with trio.fail_after(DEADLINE):
            await ours.socket.wait_subscribed(b"B")
        for topic in (b"Aa", b"Bb", b"Cc"):
            await ours.send([topic, b"news"])
        assert [await peer.read_message(), await peer.read_message()] == [[b"Aa", b"news"], [b"Bb", b"news"]]
        await peer.send(frame(b"\x00A"))
        await until(lambda: ours.socket.subscriber_count(b"A") == 0)  # type: ignore[union-attr] # asserted above
        await ours.send([b"Aa", b"late"])
        await ours.send([b"Bb", b"last"])
        assert await peer.read_message() == [b"Bb", b"last"]
        if our_kind == "XPUB":
            assert [await ours.receive() for _ in range(3)] == [[b"\x01A"], [b"\x01B"], [b"\x00A"]]


@BOTH_PLACES
@pytest.mark.parametrize("our_kind", ["SUB", "XSUB"])
async def test_we_subscribe_to_a_3_0_publisher_by_messages(our_kind: str, meet: Meet) -> None:
    async with open_ours(our_kind) as ours:
        await ours.subscribe(b"A")
        async with meet(ours) as peer:
            await peer.handshake(b"PUB", minor=0)
            assert await peer.read_frame() == (0, b"\x01A")
            await peer.send(message(b"Aa", b"news"))
            assert await ours.receive() == [b"Aa", b"news"]
            await ours.subscribe(b"B")
            assert await peer.read_frame() == (0, b"\x01B")
            await ours.unsubscribe(b"A")
            assert await peer.read_frame() == (0, b"\x00A")


@BOTH_PLACES
async def test_a_3_1_publisher_is_subscribed_to_by_commands(meet: Meet) -> None:
    async with open_ours("SUB") as ours:
        await ours.subscribe(b"A")
        async with meet(ours) as peer:
            await peer.handshake(b"PUB")
            assert await peer.read_frame() == (4, b"\x09SUBSCRIBEA")
            await ours.unsubscribe(b"A")
            assert await peer.read_frame() == (4, b"\x06CANCELA")


@pytest.mark.parametrize("version", [(2, 0), (3, 2), (3, 255), (4, 0), (255, 7)], ids=str)
async def test_a_newer_version_is_spoken_to_in_ours(version: tuple[int, int]) -> None:
    """37/ZMTP: a peer "SHALL accept higher protocol versions as valid"; and libzmq takes 2 for one of them."""
    async with open_ours("PULL") as ours, we_bind(ours) as peer:
        major, minor = version
        await peer.send(greeting(minor, major=major), ready(b"PUSH"))
        assert (await peer.read(64))[10:12] == b"\x03\x01"
        await peer.read_command(b"READY")
        await peer.send(frame(b"from the future"))
        assert await ours.receive() == [b"from the future"]


# ---- ZMTP 2.0: no commands, no mechanism, an identity frame instead of READY


async def test_the_greeting_of_a_2_0_dealer_and_our_router_byte_by_byte() -> None:
    async with open_ours("ROUTER", Options(routing_id=b"srv")) as ours, we_bind(ours) as peer:
        opening = await peer.read(11)
        # The ten bytes of the signature and our version, and not a byte more: a 2.0 peer would misread it.
        assert (opening[0], opening[9] & 1, opening[10]) == (0xFF, 1, 3)
        assert await peer.read_early() == b""
        await peer.send(bytes.fromhex("ff0000000000000000 7f 01 05 00026d65"))
        assert await peer.read(6) == bytes.fromhex("06 0003737276")
        await peer.send(bytes.fromhex("010178 000179"))
        assert await ours.receive() == [b"me", b"x", b"y"]
        await ours.send([b"me", b"z", BIG])
        assert await peer.read_message() == [b"z", BIG]


SOCKET_TYPES = {"PAIR": 0, "PUB": 1, "SUB": 2, "REQ": 3, "REP": 4, "DEALER": 5, "ROUTER": 6, "PULL": 7, "PUSH": 8}


@BOTH_PLACES
@pytest.mark.parametrize("kind", SOCKET_TYPES)
async def test_our_number_of_socket_type_is_the_one_of_2_0(kind: str, meet: Meet) -> None:
    async with open_ours(kind) as ours, meet(ours) as peer:
        assert await peer.handshake_2_0(SOCKET_TYPES["DEALER"]) == bytes([SOCKET_TYPES[kind], 0, 0])


@BOTH_PLACES
async def test_a_2_0_pusher_and_a_2_0_puller(meet: Meet) -> None:
    async with open_ours("PULL") as ours, meet(ours) as peer:
        await peer.handshake_2_0(SOCKET_TYPES["PUSH"])
        await peer.send(message(b"a", b""), frame(BIG))
        assert [await ours.receive(), len(await ours.receive())] == [[b"a", b""], 1]
    async with open_ours("PUSH") as ours, meet(ours) as peer:
        await peer.handshake_2_0(SOCKET_TYPES["PULL"])
        await ours.send([b"a", b"", BIG])
        assert await peer.read_message() == [b"a", b"", BIG]


@BOTH_PLACES
async def test_a_2_0_replier_answers_our_request(meet: Meet) -> None:
    async with open_ours("REQ") as ours, meet(ours) as peer:
        await peer.handshake_2_0(SOCKET_TYPES["REP"])
        await ours.send([b"question"])
        envelope_and_body = await peer.read_message()
        assert envelope_and_body[-2:] == [b"", b"question"]
        await peer.send(message(*envelope_and_body[:-1], b"answer"))
        assert await ours.receive() == [b"answer"]


@BOTH_PLACES
async def test_a_2_0_subscriber_and_a_2_0_publisher(meet: Meet) -> None:
    async with open_ours("PUB") as ours, meet(ours) as peer:
        assert isinstance(ours.socket, trio_mq.Pub)
        await peer.handshake_2_0(SOCKET_TYPES["SUB"])
        await peer.send(frame(b"\x01A"))
        with trio.fail_after(DEADLINE):
            await ours.socket.wait_subscribed(b"A")
        await ours.send([b"B", b"not this"])
        await ours.send([b"A", b"but this"])
        assert await peer.read_message() == [b"A", b"but this"]
    async with open_ours("SUB") as ours:
        await ours.subscribe(b"A")
        async with meet(ours) as peer:
            await peer.handshake_2_0(SOCKET_TYPES["PUB"])
            assert await peer.read_frame() == (0, b"\x01A")
            await peer.send(message(b"B", b"not this"), message(b"A", b"but this"))
            assert await ours.receive() == [b"A", b"but this"]


async def test_no_heartbeat_is_sent_to_a_2_0_peer() -> None:
    """It has no commands: a PING would reach its program as a message."""
    options = Options(heartbeat_interval=0.01, heartbeat_timeout=0.05)
    async with open_ours("PUSH", options) as ours, watching(ours) as watch, we_bind(ours) as peer:
        await peer.handshake_2_0(SOCKET_TYPES["PULL"])
        await watch.next(HandshakeSucceeded)
        assert await peer.read_early(0.2) == b""
        await ours.send([b"still there"])
        assert await peer.read_message() == [b"still there"]


async def everybody(request: trio_mq.AuthenticationRequest) -> str:
    return "anybody"


@pytest.mark.parametrize(
    "options",
    [
        Options(security=Plain(server=True), authenticator=everybody),
        Options(security=Plain("admin", "secret")),
        Options(authenticator=everybody),
    ],
    ids=["PLAIN-server", "PLAIN-client", "NULL-authenticator"],
)
async def test_where_somebody_checks_who_comes_a_2_0_peer_is_refused(options: Options) -> None:
    """Else a peer could get round the check by claiming to be old; libzmq refuses it, too."""
    async with open_ours("PULL", options) as ours, watching(ours) as watch, we_bind(ours) as peer:
        await peer.send(SIGNATURE, bytes([1, 8]), frame(b""), frame(b"smuggled"))
        assert isinstance((await watch.next(HandshakeFailed)).error, VersionMismatchError)
        await peer.read_to_end()
        assert ours.receive_nowait() is None


# ---- refused, visibly

STRANGERS = {
    "1.0-anonymous": bytes.fromhex("0100"),
    "1.0-with-identity": bytes.fromhex("03006d65 020178 020079"),
    "1.0-long-identity": bytes.fromhex("ff0000000000000003 00 6d65"),
    "1.0-with-revision": bytes.fromhex("ff0000000000000001 7f 00 05"),
    "HTTP": b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_1_0_peer_and_other_protocols_are_refused_visibly(
    name: str, pyzmq: Peer, endpoint_of: EndpointOf, caplog: pytest.LogCaptureFixture
) -> None:
    bystander = await pyzmq.open("PUSH")
    async with open_ours("PULL") as ours, watching(ours) as watch:
        endpoint = await ours.bind(endpoint_of("tcp"))
        await bystander.connect(endpoint)
        await DIALOGUES["PUSH", "PULL"](bystander, ours, [Pattern(300)])
        async with raw_connect(endpoint) as peer:
            await peer.send(STRANGERS[name])
            failed = await watch.next(HandshakeFailed)
            assert isinstance(failed.error, VersionMismatchError)
            assert failed.address == peer.address
            assert failed.endpoint == endpoint
            if name in ("HTTP", "TLS"):
                assert name in str(failed.error)
            await peer.read_to_end()
        assert str(failed.error) in caplog.text
        assert ours.socket.statistics().endpoints[0].failures == 1
        await DIALOGUES["PUSH", "PULL"](bystander, ours, [Pattern(300)])
        assert "DISCONNECTED" not in await bystander.events()


async def test_a_web_server_that_we_dial_is_named_and_dialled_again() -> None:
    options = Options(reconnect_interval=0.02)
    async with raw_listen() as listener, open_ours("PUSH", options) as ours, watching(ours) as watch:
        await ours.connect(listener.endpoint)
        for _ in range(2):
            async with listener.accept() as peer:
                await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                error = (await watch.next(HandshakeFailed)).error
                assert isinstance(error, VersionMismatchError)
                assert "HTTP" in str(error)
                await peer.read_to_end()


# ---- what a tolerant peer takes (and libzmq does)


async def test_every_byte_of_a_handshake_may_come_alone() -> None:
    async with open_ours("PULL") as ours, we_bind(ours) as peer:
        for byte in greeting() + ready(b"PUSH") + message(b"a", b"bc"):
            await peer.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert await ours.receive() == [b"a", b"bc"]


async def test_no_message_leaves_before_the_peer_is_ready() -> None:
    """37/ZMTP wants READY sent and received first; libzmq closes on whoever is faster."""
    async with open_ours("PUSH") as ours, raw_listen() as listener:
        await ours.connect(listener.endpoint)
        await ours.send([b"queued"])
        async with listener.accept() as peer:
            await peer.send(greeting())
            await peer.read(64)
            assert (await peer.read_frame())[1][1:6] == b"READY"
            assert await peer.read_early() == b""
            await peer.send(ready(b"PULL"))
            assert await peer.read_message() == [b"queued"]


@pytest.mark.parametrize(
    "noise",
    [
        command(b"FUTURE", b"data"),
        command(b"PONG", b"never asked for"),
        frame(b"", 4),
        frame(b"\xffX", 4),
    ],
    ids=["unknown-command", "unasked-pong", "empty-command", "name-beyond-the-command"],
)
async def test_what_libzmq_ignores_we_ignore_too(noise: bytes) -> None:
    async with open_ours("PULL") as ours, we_bind(ours) as peer:
        await peer.handshake(b"PUSH")
        await peer.send(noise, frame(b"a", MORE), noise, frame(b"b"))
        assert await ours.receive() == [b"a", b"b"]


async def test_the_long_form_of_a_short_frame_is_a_frame() -> None:
    async with open_ours("PULL") as ours, we_bind(ours) as peer:
        await peer.handshake(b"PUSH")
        await peer.send(bytes.fromhex("03 0000000000000001 61"), bytes.fromhex("02 0000000000000000"))
        assert await ours.receive() == [b"a", b""]


async def test_a_ready_may_have_its_properties_in_any_order_and_case() -> None:
    async with open_ours("ROUTER") as ours, we_bind(ours) as peer:
        await peer.send(greeting())
        await peer.read(64)
        properties = b"\x08identity\0\0\0\x02me" + b"\x06X-Team\0\0\0\x03red" + b"\x0bSOCKET-TYPE\0\0\0\x06DEALER"
        await peer.send(command(b"READY", properties), frame(b"x"))
        assert isinstance(ours.socket, trio_mq.Router)
        with trio.fail_after(DEADLINE):
            received = await ours.socket.receive_message()
        assert list(received.frames) == [b"me", b"x"]
        assert received.properties == {"X-Team": "red"}
        assert received.peer.socket_type == "DEALER"
