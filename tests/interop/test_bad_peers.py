"""A peer that misbehaves ends its own session, visibly; a libzmq peer on the same socket notices nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio

from trio_mq import (
    HandshakeError,
    MechanismMismatchError,
    Options,
    ProtocolError,
    RemoteProtocolError,
    SocketTypeMismatchError,
    VersionMismatchError,
)
from trio_mq.events import Accepted, Disconnected, HandshakeFailed, RetryIn

from ._cases import EndpointOf
from ._dialogues import DIALOGUES
from ._ends import OurEnd, join, open_ours
from ._messages import Pattern
from ._process import Peer, PeerSocket
from ._raw import MORE, SIGNATURE, RawPeer, command, frame, greeting, message, metadata, raw_connect, raw_listen, ready
from ._watch import Watch, until, watching

SHORT_PATIENCE = 0.3
OPTIONS = Options(handshake_interval=SHORT_PATIENCE, max_message_size=1000, max_frames=10)


@dataclass
class Scene:
    """Our PULL with a well-behaved libzmq PUSH, and room for a bad peer."""

    ours: OurEnd
    bystander: PeerSocket
    watch: Watch
    endpoint: str

    async def bystander_is_served(self) -> None:
        """On the connection it has always had."""
        await DIALOGUES["PUSH", "PULL"](self.bystander, self.ours, [Pattern(300), b"", Pattern(2)])
        assert "DISCONNECTED" not in await self.bystander.events()


@pytest.fixture(autouse=True)
def lines_about_connections_that_broke(caplog: pytest.LogCaptureFixture) -> None:
    """A breach of protocol is a warning; that a connection went is everyday news, at INFO."""
    caplog.set_level(logging.INFO, logger="trio_mq")


@pytest.fixture
async def scene(pyzmq: Peer, endpoint_of: EndpointOf) -> AsyncIterator[Scene]:
    bystander = await pyzmq.open("PUSH")
    async with open_ours("PULL", OPTIONS) as ours, watching(ours) as watch:
        endpoint = await join(ours, bystander, endpoint_of("tcp"))
        scene = Scene(ours, bystander, watch, endpoint)
        await scene.bystander_is_served()
        await watch.next(Accepted)
        yield scene


Act = Callable[[RawPeer], Awaitable[None]]


# ---- in the handshake

BAD_BEGINNINGS: dict[str, tuple[bytes, type[Exception]]] = {
    "zeros": (bytes(64), VersionMismatchError),
    "noise": (bytes(range(64, 192)), VersionMismatchError),
    "other-mechanism": (greeting(mechanism=b"CURVE"), MechanismMismatchError),
    "unknown-mechanism": (greeting(mechanism=b"NULL2"), MechanismMismatchError),
    "message-instead-of-ready": (greeting() + frame(b"hello"), ProtocolError),
    "unknown-handshake-command": (greeting() + command(b"NONSENSE"), ProtocolError),
    "command-of-plain": (greeting() + command(b"WELCOME"), ProtocolError),
    "ready-cut-short": (greeting() + command(b"READY", metadata((b"Socket-Type", b"PUSH"))[:-1]), ProtocolError),
    "ready-with-a-rest": (greeting() + command(b"READY", metadata((b"Socket-Type", b"PUSH")) + b"\x05"), ProtocolError),
    "ready-of-a-terabyte": (greeting() + bytes.fromhex("06 0000010000000000") + b"\x05READY", ProtocolError),
    "wrong-socket-type": (greeting() + ready(b"SUB"), SocketTypeMismatchError),
    "unknown-socket-type": (greeting() + ready(b"PIGEON"), SocketTypeMismatchError),
    "error": (greeting() + command(b"ERROR", b"\x07go away"), HandshakeError),
}


@pytest.mark.parametrize("name", BAD_BEGINNINGS)
async def test_a_bad_beginning_ends_in_an_event_a_count_and_a_log_line(
    name: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    words, error = BAD_BEGINNINGS[name]
    async with raw_connect(scene.endpoint) as peer:
        await peer.send(words)
        failed = await scene.watch.next(HandshakeFailed)
        assert isinstance(failed.error, error)
        assert (failed.endpoint, failed.address) == (scene.endpoint, peer.address)
        await peer.read_to_end()
    assert re.search(f"{re.escape(failed.address)}.*{re.escape(str(failed.error))}", caplog.text)
    assert scene.ours.socket.statistics().endpoints[0].failures == 1
    await scene.bystander_is_served()


@pytest.mark.parametrize("words", [b"", SIGNATURE, greeting()], ids=["nothing", "signature", "greeting"])
async def test_a_peer_that_stops_talking_is_let_go(
    words: bytes, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_connect(scene.endpoint) as peer:
        await peer.send(words)
        failed = await scene.watch.next(HandshakeFailed)
        assert failed.address == peer.address
        assert str(failed.error) in caplog.text
        await peer.read_to_end()
    assert scene.ours.socket.statistics().endpoints[0].failures == 1
    await scene.bystander_is_served()


@pytest.mark.parametrize("words", [b"", SIGNATURE, greeting(), greeting() + ready(b"PUSH")[:9]])
@pytest.mark.parametrize("leave", [RawPeer.finish, RawPeer.reset])
async def test_a_peer_that_leaves_in_the_handshake_is_told_as_such(
    words: bytes, leave: Act, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_connect(scene.endpoint) as peer:
        await peer.send(words)
        address = peer.address
        await scene.watch.next(Accepted)
        await leave(peer)
    failed = await scene.watch.next(HandshakeFailed)
    assert failed.address == address
    assert address in caplog.text
    await scene.bystander_is_served()


# ---- in traffic

BAD_TRAFFIC: dict[str, bytes] = {
    "over-long-frame": frame(bytes(1001)),
    "over-long-frame-in-a-message": message(b"a", bytes(1001)),
    "over-long-command": bytes.fromhex("06 0000000000010000"),
    "a-header-of-a-terabyte": bytes.fromhex("02 0000010000000000"),
    "a-size-of-2-to-the-63": bytes.fromhex("02 8000000000000000"),
    "too-many-frames": message(*[b"x"] * 11),
    "ping-without-ttl": command(b"PING"),
    "command-with-more": frame(b"\x04PING\x00\x00", 5),
}


@pytest.mark.parametrize("name", BAD_TRAFFIC)
async def test_a_breach_in_traffic_ends_that_session_and_says_why(
    name: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_connect(scene.endpoint) as peer:
        await peer.handshake(b"PUSH")
        await peer.send(frame(b"good"), BAD_TRAFFIC[name], frame(b"never seen"))
        assert await scene.ours.receive() == [b"good"]
        lost = await scene.watch.next(Disconnected)
        assert isinstance(lost.error, RemoteProtocolError)
        assert lost.peer.address == peer.address
        await peer.read_to_end()
    assert re.search(f"{re.escape(lost.peer.address)}.*{re.escape(str(lost.error))}", caplog.text)
    await until(lambda: scene.ours.socket.statistics().endpoints[0].failures == 1)
    await scene.bystander_is_served()
    assert scene.ours.receive_nowait() is None


HALVES = {
    "half-a-header": bytes.fromhex("02 00000000"),
    "half-a-frame": frame(bytes(500))[:100],
    "a-frame-of-a-message": frame(b"first", MORE),
    "two-and-a-half": frame(b"first", MORE) + frame(b"second", MORE) + frame(b"third")[:4],
}


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("leave", [RawPeer.finish, RawPeer.reset])
async def test_half_a_message_of_a_peer_that_goes_is_never_delivered_but_told(
    name: str, leave: Act, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_connect(scene.endpoint) as peer:
        await peer.handshake(b"PUSH")
        await peer.send(frame(b"whole"))
        assert await scene.ours.receive() == [b"whole"]
        await peer.send(HALVES[name])
        address = peer.address
        await leave(peer)
    lost = await scene.watch.next(Disconnected)
    assert lost.peer.address == address
    assert lost.error is not None
    assert re.search(f"{re.escape(address)}.*{re.escape(str(lost.error))}", caplog.text)
    await until(lambda: scene.ours.socket.statistics().endpoints[0].failures == 1)
    await scene.bystander_is_served()
    assert scene.ours.receive_nowait() is None


async def test_a_reply_of_the_wrong_shape_ends_the_session_and_not_the_req(endpoint_of: EndpointOf) -> None:
    """Libzmq never dials again after this; we do."""
    options = Options(reconnect_interval=0.02)
    async with raw_listen() as listener, open_ours("REQ", options) as ours, watching(ours) as watch:
        await ours.connect(listener.endpoint)
        async with listener.accept() as peer:
            await peer.handshake(b"ROUTER", b"")
            await ours.send([b"question"])
            assert await peer.read_message() == [b"", b"question"]
            await peer.send(message(b"not a delimiter", b"answer"))
            assert isinstance((await watch.next(Disconnected)).error, RemoteProtocolError)
            await peer.read_to_end()
        async with listener.accept() as peer:
            await peer.handshake(b"ROUTER", b"")


async def test_what_a_peer_sent_before_it_left_is_received_after(scene: Scene, pyzmq: Peer) -> None:
    theirs = await pyzmq.open("PUSH")
    await theirs.connect(scene.endpoint)
    for number in range(100):
        await theirs.send([b"%d" % number])
    await theirs.close(linger=-1)
    await scene.watch.next(Disconnected)
    for number in range(100):
        assert await scene.ours.receive() == [b"%d" % number]
    await scene.bystander_is_served()


# ---- libzmq peers of the wrong kind

WRONG_PAIRS = [("PULL", "SUB"), ("PUB", "PUSH"), ("REP", "ROUTER"), ("PAIR", "DEALER"), ("REQ", "DEALER")]


@pytest.mark.parametrize(("our_kind", "their_kind"), WRONG_PAIRS)
@pytest.mark.parametrize("ours_binds", [True, False], ids=["bind", "connect"])
async def test_a_libzmq_peer_of_the_wrong_type_is_refused_at_both_ends(
    our_kind: str, their_kind: str, ours_binds: bool, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open(their_kind)
    async with open_ours(our_kind) as ours, watching(ours) as watch:
        binder, connecter = (ours, theirs) if ours_binds else (theirs, ours)
        await join(binder, connecter, endpoint_of("tcp"))
        error = (await watch.next(HandshakeFailed)).error
        assert isinstance(error, HandshakeError)
        # libzmq closes without a word, often before its READY has told us what it is; what is known is said.
        assert "socket type" in str(error)
        assert our_kind in str(error)
        await theirs.wait_event("HANDSHAKE_FAILED_PROTOCOL", "HANDSHAKE_FAILED_NO_DETAIL", "DISCONNECTED")


# ---- bad listeners that we dial


@pytest.mark.parametrize("name", ["noise", "other-mechanism", "message-instead-of-ready", "wrong-socket-type"])
async def test_a_bad_listener_is_dialled_again_with_pauses_and_then_served(name: str) -> None:
    words, error = BAD_BEGINNINGS[name]
    options = Options(reconnect_interval=0.02, reconnect_interval_max=0.1)
    async with raw_listen() as listener, open_ours("PUSH", options) as ours, watching(ours) as watch:
        await ours.connect(listener.endpoint)
        await ours.send([b"for whoever behaves"])
        for attempt in (1, 2, 3):
            async with listener.accept() as peer:
                await peer.send(words)
                assert isinstance((await watch.next(HandshakeFailed)).error, error)
                assert (await watch.next(RetryIn)).attempt == attempt
                await peer.read_to_end()
        async with listener.accept() as peer:
            await peer.handshake(b"PULL")
            assert await peer.read_message() == [b"for whoever behaves"]


async def test_a_listener_that_says_nothing_is_dialled_again() -> None:
    options = Options(handshake_interval=0.1, reconnect_interval=0.02)
    async with raw_listen() as listener, open_ours("PUSH", options) as ours, watching(ours) as watch:
        await ours.connect(listener.endpoint)
        async with listener.accept() as peer:
            await watch.next(HandshakeFailed)
            await peer.read_to_end()
        async with listener.accept() as peer:
            await peer.handshake(b"PULL")
            await ours.send([b"there you are"])
            assert await peer.read_message() == [b"there you are"]


async def test_many_bad_peers_at_once_do_not_disturb_a_good_one(scene: Scene) -> None:
    async def misbehave(words: bytes) -> None:
        async with raw_connect(scene.endpoint) as peer:
            await peer.send(words)
            await peer.read_to_end()

    async with trio.open_nursery() as nursery:
        for words, _ in list(BAD_BEGINNINGS.values()) * 5:
            nursery.start_soon(misbehave, words)
        for _ in range(50):
            await scene.bystander_is_served()
    await until(lambda: scene.ours.socket.statistics().endpoints[0].failures == 5 * len(BAD_BEGINNINGS))
    assert len(scene.ours.socket.statistics().peers) == 1
