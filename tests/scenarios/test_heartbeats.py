"""Heartbeats (libzmq's test_heartbeats): silence is noticed, life is not mistaken for silence, PINGs are answered."""

from __future__ import annotations

import pytest
import trio

from trio_mq import Dealer, Options, Pair, Pub, Pull, Push, Rep, Req, Router, Sub
from trio_mq.events import Disconnected, HandshakeSucceeded

from .kit import NETWORK, event_of, over, raw_peer, read_exactly, read_to_the_end, ready_peers, until

QUICK = Options(heartbeat_interval=0.03, heartbeat_timeout=0.09, linger=0)


def ping(context: bytes, ttl: int = 0) -> bytes:
    return b"\x04" + bytes([7 + len(context)]) + b"\x04PING" + ttl.to_bytes(2, "big") + context


def pong(context: bytes) -> bytes:
    return b"\x04" + bytes([5 + len(context)]) + b"\x04PONG" + context


@over("tcp")
async def test_a_peer_that_answers_no_ping_is_given_up(endpoint: str) -> None:
    async with Router(bind=endpoint, options=QUICK) as router, router.monitor() as story:
        async with await raw_peer(router.last_endpoint or "", "DEALER") as silent:
            await event_of(story, HandshakeSucceeded)
            lost = await event_of(story, Disconnected)
            assert lost.error is not None
            assert "PING" in (await read_to_the_end(silent)).decode("latin-1")
        assert ready_peers(router) == 0


@over("tcp")
@pytest.mark.parametrize("context", [b"", b"LOL", b"0123456789abcdef"])
async def test_a_ping_is_answered_with_its_context(endpoint: str, context: bytes) -> None:
    async with Router(bind=endpoint) as router, await raw_peer(router.last_endpoint or "", "DEALER") as peer:
        await peer.send_all(ping(context))
        assert await read_exactly(peer, len(pong(context))) == pong(context)


@over("tcp")
async def test_a_ping_between_the_frames_of_a_message_is_answered_and_the_message_arrives_whole(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, await raw_peer(pull.last_endpoint or "", "PUSH") as peer:
        await peer.send_all(b"\x01\x01a" + ping(b"now") + b"\x00\x01b")
        assert await read_exactly(peer, len(pong(b"now"))) == pong(b"now")
        assert await pull.receive_multipart() == [b"a", b"b"]


@over("tcp")
async def test_a_peer_that_announced_a_ttl_and_fell_silent_is_given_up(endpoint: str) -> None:
    async with Router(bind=endpoint) as router, router.monitor() as story:
        async with await raw_peer(router.last_endpoint or "", "DEALER") as peer:
            await peer.send_all(ping(b"", ttl=1))  # tenths of a second
            await event_of(story, Disconnected)
            assert await read_to_the_end(peer) == pong(b"")


PAIRS: list[tuple[type, type]] = [(Dealer, Router), (Req, Rep), (Pull, Push), (Sub, Pub), (Pair, Pair)]


@over(*NETWORK)
@pytest.mark.parametrize(("dialler", "binder"), PAIRS, ids=lambda cls: cls.__name__)
async def test_two_ends_that_hear_each_other_stay_together(endpoint: str, dialler: type, binder: type) -> None:
    """Only one end pings; the other one's PONGs, and the pings, are life enough for both over many intervals."""
    watching = Options(heartbeat_interval=0.02, heartbeat_timeout=0.1, heartbeat_ttl=0.15, linger=0)
    async with binder(bind=endpoint) as bound:
        async with dialler(connect=bound.last_endpoint, options=watching) as dialled, dialled.monitor() as story:
            await event_of(story, HandshakeSucceeded)
            with trio.move_on_after(0.4):  # several timeouts and ttls long
                lost = await event_of(story, Disconnected)
                raise AssertionError(f"given up: {lost}")
            assert ready_peers(bound) == ready_peers(dialled) == 1


@over("tcp")
async def test_any_traffic_is_life(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=QUICK) as pull, await raw_peer(pull.last_endpoint or "", "PUSH") as peer:
        for number in range(30):  # far longer than the timeout, with no PONG ever
            await peer.send_all(b"\x00\x02%02d" % number)
            assert await pull.receive() == b"%02d" % number
            with trio.move_on_after(0.01):
                while True:
                    await peer.receive_some()


@over(*NETWORK)
async def test_a_receiver_that_is_merely_slow_keeps_its_healthy_connection(endpoint: str) -> None:
    """Its PINGs and ours lie unread behind messages while back-pressure holds; that is no silence."""
    options = Options(heartbeat_interval=0.05, heartbeat_timeout=0.1, send_hwm=1, receive_hwm=1, linger=0)
    body = bytes(300_000)
    async with Pull(bind=endpoint, options=options) as pull, pull.monitor() as at_pull:
        async with Push(connect=pull.last_endpoint, options=options) as push, push.monitor() as at_push:
            async with trio.open_nursery() as nursery:

                async def keep_sending() -> None:
                    while True:
                        await push.send(body)

                async def not_lost(story: trio.abc.ReceiveChannel[object]) -> None:
                    async for event in story:
                        assert not isinstance(event, Disconnected), event

                nursery.start_soon(keep_sending)
                nursery.start_soon(not_lost, at_pull)
                nursery.start_soon(not_lost, at_push)
                await until(lambda: not push.can_send())
                with trio.move_on_after(0.5):  # many timeouts long, with nobody receiving
                    await trio.sleep_forever()
                for _ in range(20):
                    assert len(await pull.receive()) == len(body)
                nursery.cancel_scope.cancel()
