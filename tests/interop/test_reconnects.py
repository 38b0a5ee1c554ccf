"""Either side goes and comes back: the connection is made again, and what waited for it arrives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

import trio_mq
from trio_mq import Options
from trio_mq.events import Disconnected, HandshakeSucceeded, RetryIn

from ._cases import EndpointOf
from ._dialogues import DIALOGUES, subscription_arrived
from ._ends import join, open_ours
from ._messages import Pattern
from ._process import DEADLINE, Peer
from ._relay import Relayed, relay_to
from ._watch import watching

StartPeer = Callable[[str], Peer]

QUICK = Options(reconnect_interval=0.02, reconnect_interval_max=0.1)
THEIR_QUICK = {"RECONNECT_IVL": 20, "RECONNECT_IVL_MAX": 100}

TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "ipc"])


# ---- their process dies and another one takes its place


@TRANSPORTS
@pytest.mark.parametrize(("our_kind", "their_kind"), [("PUSH", "PULL"), ("DEALER", "DEALER"), ("PAIR", "PAIR")])
async def test_what_we_queue_while_their_process_is_gone_arrives_at_the_next_one(
    our_kind: str, their_kind: str, transport: str, start_peer: StartPeer, endpoint_of: EndpointOf
) -> None:
    first = start_peer("pyzmq")
    theirs = await first.open(their_kind)
    async with open_ours(our_kind, QUICK) as ours, watching(ours) as watch:
        endpoint = await join(theirs, ours, endpoint_of(transport))
        await ours.send([b"before"])
        assert await theirs.receive() == [b"before"]
        first.kill()
        await watch.next(Disconnected)
        for number in range(100):
            await ours.send([b"%d" % number, Pattern(1000, seed=number)])
        theirs = await start_peer("pyzmq").open(their_kind)
        await theirs.bind(endpoint)
        for number in range(100):
            assert (await theirs.receive())[0] == b"%d" % number


@TRANSPORTS
async def test_a_lost_request_is_told_and_the_next_one_reaches_their_new_process(
    transport: str, start_peer: StartPeer, endpoint_of: EndpointOf
) -> None:
    first = start_peer("pyzmq")
    theirs = await first.open("REP")
    async with open_ours("REQ", QUICK) as ours:
        assert isinstance(ours.socket, trio_mq.Req)
        endpoint = await join(theirs, ours, endpoint_of(transport))
        await ours.send([b"the last thing you hear"])
        await theirs.receive()
        first.kill()
        with trio.fail_after(DEADLINE), pytest.raises(trio_mq.PeerLostError):
            await ours.socket.receive()
        theirs = await start_peer("pyzmq").open("REP")
        await theirs.bind(endpoint)
        await DIALOGUES["REQ", "REP"](ours, theirs, [b"again"])


@TRANSPORTS
@pytest.mark.parametrize("our_kind", ["SUB", "XSUB"])
@pytest.mark.parametrize("their_kind", ["PUB", "XPUB"])
async def test_our_subscriptions_are_sent_again_to_their_new_process(
    our_kind: str, their_kind: str, transport: str, start_peer: StartPeer, endpoint_of: EndpointOf
) -> None:
    first = start_peer("pyzmq")
    theirs = await first.open(their_kind)
    async with open_ours(our_kind, QUICK) as ours, watching(ours) as watch:
        endpoint = await join(theirs, ours, endpoint_of(transport))
        await ours.subscribe(b"topic")
        await subscription_arrived(theirs, ours, b"topic")
        first.kill()
        await watch.next(Disconnected)
        theirs = await start_peer("pyzmq").open(their_kind)
        await theirs.bind(endpoint)
        await subscription_arrived(theirs, ours, b"topic")
        await theirs.send([b"topic", b"news"])
        assert await ours.receive() == [b"topic", b"news"]


@TRANSPORTS
@pytest.mark.parametrize(("our_kind", "their_kind"), [("ROUTER", "DEALER"), ("PULL", "PUSH"), ("REP", "REQ")])
async def test_our_listener_serves_their_new_process_like_the_one_that_died(
    our_kind: str, their_kind: str, transport: str, start_peer: StartPeer, endpoint_of: EndpointOf
) -> None:
    async with open_ours(our_kind) as ours, watching(ours) as watch:
        endpoint = await ours.bind(endpoint_of(transport))
        for _ in range(3):
            peer = start_peer("pyzmq")
            theirs = await peer.open(their_kind)
            await theirs.connect(endpoint)
            await watch.next(HandshakeSucceeded)
            await DIALOGUES[their_kind, our_kind](theirs, ours, [Pattern(300)])
            peer.kill()
            await watch.next(Disconnected)
        assert not ours.socket.statistics().peers


# ---- ours closes and binds again


@TRANSPORTS
@pytest.mark.parametrize(("their_kind", "our_kind"), [("PUSH", "PULL"), ("DEALER", "ROUTER")])
async def test_what_they_queue_while_we_are_gone_arrives_when_we_bind_again(
    their_kind: str, our_kind: str, transport: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open(their_kind, **THEIR_QUICK)
    async with open_ours(our_kind) as ours:
        endpoint = await join(ours, theirs, endpoint_of(transport))
        await theirs.send([b"before"])
        assert (await ours.receive())[-1] == b"before"
    await theirs.wait_event("DISCONNECTED")
    for number in range(100):
        await theirs.send([b"%d" % number])
    async with open_ours(our_kind) as ours:
        await ours.bind(endpoint)
        for number in range(100):
            assert (await ours.receive())[-1] == b"%d" % number


@TRANSPORTS
async def test_their_requests_are_answered_after_we_bind_again(
    transport: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("REQ", **THEIR_QUICK)
    endpoint = endpoint_of(transport)
    for _ in range(3):
        async with open_ours("REP") as ours:
            endpoint = await ours.bind(endpoint)
            await theirs.connect(endpoint)
            await DIALOGUES["REQ", "REP"](theirs, ours, [Pattern(300)])
        await theirs.wait_event("DISCONNECTED")


@TRANSPORTS
@pytest.mark.parametrize("our_kind", ["PUB", "XPUB"])
async def test_their_subscriptions_arrive_again_after_we_bind_again(
    our_kind: str, transport: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("SUB", SUBSCRIBE=b"topic", **THEIR_QUICK)
    endpoint = endpoint_of(transport)
    for round_number in range(3):
        async with open_ours(our_kind) as ours:
            endpoint = await ours.bind(endpoint)
            if round_number == 0:
                await theirs.connect(endpoint)
            await subscription_arrived(ours, theirs, b"topic")
            await ours.send([b"topic", b"%d" % round_number])
            assert await theirs.receive() == [b"topic", b"%d" % round_number]


# ---- the network between them loses the connection


WAYS: dict[str, Callable[[Relayed], None]] = {
    "fin": Relayed.finish,
    "rst": Relayed.reset,
    "silence": Relayed.silence,
}

WATCHFUL = Options(heartbeat_interval=0.05, heartbeat_timeout=0.2, reconnect_interval=0.02, reconnect_interval_max=0.1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_of_ours_that_vanishes_is_dialled_again_and_loses_nothing_queued(
    way: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("PULL")
    async with relay_to(await theirs.bind(endpoint_of("tcp"))) as relay, open_ours("PUSH", WATCHFUL) as ours:
        async with watching(ours) as watch:
            await ours.connect(relay.endpoint)
            await ours.send([b"before"])
            assert await theirs.receive() == [b"before"]
            WAYS[way](relay.connections[0])
            lost = await watch.next(Disconnected)
            assert (lost.error is None) == (way == "fin")
            assert (await watch.next(RetryIn)).seconds <= 0.1
            for number in range(20):
                await ours.send([b"%d" % number])
            await watch.next(HandshakeSucceeded)
            for number in range(20):
                assert await theirs.receive() == [b"%d" % number]


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_of_theirs_that_vanishes_is_let_go_and_made_again(
    way: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("PUSH", HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=200, **THEIR_QUICK)
    options = Options(heartbeat_interval=0.05, heartbeat_timeout=0.2)
    async with open_ours("PULL", options) as ours, watching(ours) as watch:
        async with relay_to(await ours.bind(endpoint_of("tcp"))) as relay:
            await theirs.connect(relay.endpoint)
            await theirs.send([b"before"])
            assert await ours.receive() == [b"before"]
            WAYS[way](relay.connections[0])
            await watch.next(Disconnected)
            await theirs.wait_event("DISCONNECTED")
            await theirs.send([b"after"])
            assert await ours.receive() == [b"after"]
            assert [peer.state for peer in ours.socket.statistics().peers] == ["ready"]


async def test_an_absent_peer_is_dialled_with_growing_capped_pauses(endpoint_of: EndpointOf, pyzmq: Peer) -> None:
    theirs = await pyzmq.open("PULL")
    endpoint = await theirs.bind(endpoint_of("tcp"))
    await theirs.close()
    async with open_ours("PUSH", QUICK) as ours, watching(ours) as watch:
        await ours.connect(endpoint)
        pauses = [await watch.next(RetryIn) for _ in range(8)]
        assert [pause.attempt for pause in pauses] == list(range(1, 9))
        assert all(0 <= pause.seconds <= 0.1 for pause in pauses)
        assert len({pause.seconds for pause in pauses}) > 1, "no jitter"
        theirs = await pyzmq.open("PULL")
        await theirs.bind(endpoint)
        await DIALOGUES["PUSH", "PULL"](ours, theirs, [b"at last"])
