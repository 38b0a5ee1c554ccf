"""PING and PONG with libzmq: who is alive stays connected, who is silent does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trio_mq import Options
from trio_mq.events import Disconnected, HandshakeSucceeded

from ._cases import EndpointOf
from ._dialogues import DIALOGUES, subscription_arrived
from ._ends import open_ours
from ._messages import Pattern, as_seen
from ._process import Peer
from ._raw import command, raw_connect, raw_listen
from ._relay import relay_to
from ._watch import until, watching

StartPeer = Callable[[str], Peer]

PING = b"\x04PING"
PONG = b"\x04PONG"

WATCHFUL = Options(heartbeat_interval=0.03, heartbeat_timeout=0.3)
THEIR_WATCHFUL = {"HEARTBEAT_IVL": 30, "HEARTBEAT_TIMEOUT": 300}

PAIRS = [("PUSH", "PULL"), ("REQ", "REP"), ("DEALER", "ROUTER"), ("PAIR", "PAIR"), ("XPUB", "XSUB")]


@pytest.mark.parametrize("ours_is_first", [True, False], ids=["ours-first", "ours-second"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_we_answer_their_pings(
    pair: tuple[str, str], ours_is_first: bool, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    our_kind, their_kind = pair if ours_is_first else pair[::-1]
    theirs = await pyzmq.open(their_kind, **THEIR_WATCHFUL)
    async with open_ours(our_kind) as ours, relay_to(await ours.bind(endpoint_of("tcp"))) as relay:
        await theirs.connect(relay.endpoint)
        await relay.wait_seen(PONG, 20, from_connecter=False)
        first, second = (ours, theirs) if ours_is_first else (theirs, ours)
        await DIALOGUES[pair](first, second, [Pattern(300)])
        assert len(relay.connections) == 1


@pytest.mark.parametrize("ours_is_first", [True, False], ids=["ours-first", "ours-second"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_they_answer_our_pings(
    pair: tuple[str, str], ours_is_first: bool, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    our_kind, their_kind = pair if ours_is_first else pair[::-1]
    theirs = await pyzmq.open(their_kind)
    async with open_ours(our_kind, WATCHFUL) as ours:
        async with relay_to(await theirs.bind(endpoint_of("tcp"))) as relay:
            await ours.connect(relay.endpoint)
            await relay.wait_seen(PING, 20, from_connecter=True)
            await relay.wait_seen(PONG, 19, from_connecter=False)
            first, second = (ours, theirs) if ours_is_first else (theirs, ours)
            await DIALOGUES[pair](first, second, [Pattern(300)])
            assert len(relay.connections) == 1


async def test_the_ttl_travels_in_tenths_of_a_second(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open("PULL", HEARTBEAT_IVL=30, HEARTBEAT_TTL=2000)
    options = Options(heartbeat_interval=0.03, heartbeat_ttl=1.5)
    async with open_ours("PUSH", options) as ours, relay_to(await theirs.bind(endpoint_of("tcp"))) as relay:
        await ours.connect(relay.endpoint)
        await relay.wait_seen(PING + bytes([0, 15]), 5, from_connecter=True)
        await relay.wait_seen(PING + bytes([0, 20]), 5, from_connecter=False)


async def test_a_frozen_process_is_noticed_and_found_again(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open("PULL")
    options = Options(heartbeat_interval=0.03, heartbeat_timeout=0.15, reconnect_interval=0.02, handshake_interval=0.2)
    async with open_ours("PUSH", options) as ours, watching(ours) as watch:
        await ours.connect(await theirs.bind(endpoint_of("tcp")))
        await ours.send([b"before"])
        assert await theirs.receive() == [b"before"]
        pyzmq.freeze()
        try:
            lost = await watch.next(Disconnected)
            assert lost.error is not None
            await ours.send([b"after"])
        finally:
            pyzmq.thaw()
        await watch.next(HandshakeSucceeded)
        assert await theirs.receive() == [b"after"]


async def test_a_frozen_process_that_connected_to_us_is_noticed(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open("PUSH", RECONNECT_IVL=20)
    async with open_ours("PULL", Options(heartbeat_interval=0.03, heartbeat_timeout=0.15)) as ours:
        async with watching(ours) as watch:
            await theirs.connect(await ours.bind(endpoint_of("tcp")))
            await theirs.send([b"before"])
            assert await ours.receive() == [b"before"]
            pyzmq.freeze()
            try:
                assert (await watch.next(Disconnected)).error is not None
                await until(lambda: not ours.socket.statistics().peers)
            finally:
                pyzmq.thaw()
            await theirs.send([b"after"])
            assert await ours.receive() == [b"after"]


async def test_a_peer_that_promised_to_be_heard_and_is_not_is_cut(endpoint_of: EndpointOf) -> None:
    """37/ZMTP: the ttl of a PING is the time after which its receiver may take the sender for dead."""
    async with open_ours("PULL") as ours, watching(ours) as watch:
        async with raw_connect(await ours.bind(endpoint_of("tcp"))) as peer:
            await peer.handshake(b"PUSH")
            await peer.send(command(b"PING", b"\x00\x02ctx"))
            assert await peer.read_command(b"PONG") == b"ctx"
            assert (await watch.next(Disconnected)).error is not None
            await peer.read_to_end()


async def test_a_listener_that_never_answers_a_ping_is_cut_and_dialled_again(endpoint_of: EndpointOf) -> None:
    options = Options(heartbeat_interval=0.03, heartbeat_timeout=0.15, reconnect_interval=0.02)
    async with raw_listen() as listener, open_ours("PUSH", options) as ours, watching(ours) as watch:
        await ours.connect(listener.endpoint)
        for _ in range(2):
            async with listener.accept() as peer:
                await peer.handshake(b"PULL")
                await peer.read_command(b"PING")
                assert (await watch.next(Disconnected)).error is not None
                await peer.read_to_end()


# ---- slow is not dead (back-pressure with heartbeats on)

BODY = Pattern(200_000, seed=1)


async def test_a_libzmq_sender_does_not_take_us_for_dead_while_we_do_not_receive(
    pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("PUSH", SNDHWM=1000, HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=400)
    options = Options(heartbeat_interval=0.05, heartbeat_timeout=0.2, receive_hwm=1)
    async with open_ours("PULL", options) as ours, relay_to(await ours.bind(endpoint_of("tcp"))) as relay:
        await theirs.connect(relay.endpoint)
        for number in range(100):
            await theirs.send([b"%d" % number, BODY])
        await until(lambda: [peer.unread_messages for peer in ours.socket.statistics().peers] == [1])
        before = relay.connections[0].from_binder.count(PING)
        # Both ends' timeouts pass several times over while their PINGs lie unread behind 20 MB of messages.
        await relay.wait_seen(PING, before + 30, from_connecter=False)
        for number in range(100):
            assert await ours.receive() == as_seen([b"%d" % number, BODY])
        assert len(relay.connections) == 1
        assert "DISCONNECTED" not in await theirs.events()


async def test_we_do_not_take_a_libzmq_receiver_for_dead_while_it_does_not_receive(
    pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    # Its own patience is long, for libzmq does not read our PONGs while it is slow; but it pings, so it is alive.
    theirs = await pyzmq.open("PULL", RCVHWM=1, HEARTBEAT_IVL=30, HEARTBEAT_TIMEOUT=60_000)
    options = Options(heartbeat_interval=0.05, heartbeat_timeout=0.2, send_hwm=1000)
    async with open_ours("PUSH", options) as ours:
        async with watching(ours) as watch, relay_to(await theirs.bind(endpoint_of("tcp"))) as relay:
            await ours.connect(relay.endpoint)
            await ours.wait_connected()
            for number in range(100):
                await ours.send([b"%d" % number, BODY])
            await relay.wait_seen(PING, 30, from_connecter=False)
            assert ours.socket.statistics().peers[0].queued_messages, "the receiver was never slow"
            for number in range(100):
                assert await theirs.receive() == as_seen([b"%d" % number, BODY])
            assert len(relay.connections) == 1
            await watch.none_within(Disconnected, 0.05)


async def test_subscriptions_still_arrive_while_heartbeats_run(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open("SUB", **THEIR_WATCHFUL)
    async with open_ours("PUB", WATCHFUL) as ours, relay_to(await ours.bind(endpoint_of("tcp"))) as relay:
        await theirs.connect(relay.endpoint)
        await relay.wait_seen(PONG, 5, from_connecter=False)
        for number in range(20):
            topic = b"topic-%02d" % number
            await theirs.subscribe(topic)
            await subscription_arrived(ours, theirs, topic)
            await ours.send([topic, b"news"])
            assert await theirs.receive() == [topic, b"news"]
        assert len(relay.connections) == 1
