"""IMMEDIATE (libzmq's test_immediate): whether work is queued for an endpoint that is not there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import trio

from trio_mq import Dealer, Options, PeerJoined, PeerLeft, Pull, Push, Router

from .kit import EVERYWHERE, dead_tcp_endpoint, over, ready_peers, take, unread, until, waiting


@pytest.fixture
def dead_endpoint(transport: str, new_endpoint: Callable[[], str]) -> str:
    """An endpoint to connect to on which nobody is."""
    return dead_tcp_endpoint() if transport == "tcp" else new_endpoint()


@over(*EVERYWHERE)
async def test_by_default_half_of_the_work_waits_for_a_dead_endpoint(endpoint: str, dead_endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull:
        async with Push(connect=[dead_endpoint, *pull.endpoints], options=Options(linger=0)) as push:
            for _ in range(10):
                await push.send(b"Hello")
            assert await take(pull, 5) == [[b"Hello"]] * 5
            queued = {peer.endpoint: peer.queued_messages for peer in push.statistics().peers}
            assert queued[dead_endpoint] == 5
            assert waiting(pull) == []


@over(*EVERYWHERE)
async def test_with_immediate_all_work_goes_where_somebody_is(endpoint: str, dead_endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull:
        async with Push(connect=[dead_endpoint, *pull.endpoints], options=Options(immediate=True, linger=0)) as push:
            for _ in range(10):
                await push.send(b"Hello")
            assert await take(pull, 10) == [[b"Hello"]] * 10


@over(*EVERYWHERE)
async def test_with_immediate_a_sender_waits_until_the_handshake_is_done(endpoint: str, dead_endpoint: str) -> None:
    async with Push(connect=dead_endpoint, options=Options(immediate=True)) as push:
        with pytest.raises(trio.WouldBlock):
            push.send_nowait(b"nobody")
        async with Pull(bind=dead_endpoint) as pull:
            await push.send(b"somebody")
            assert await pull.receive() == b"somebody"


@over("tcp", "ipc")
async def test_with_immediate_a_broken_connection_takes_its_queue_away_and_a_new_one_opens_the_way(
    endpoint: str,
) -> None:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Dealer(bind=endpoint, options=Options(linger=0)))
        where = backend.last_endpoint or ""
        frontend = await stack.enter_async_context(Dealer(connect=where, options=Options(immediate=True, linger=0)))
        await backend.send(b"you are connected")
        assert await frontend.receive() == b"you are connected"
        frontend.send_nowait(b"Hello")
        await backend.aclose()
        await until(lambda: not frontend.can_send())
        with pytest.raises(trio.WouldBlock):
            frontend.send_nowait(b"nobody")
        again = await stack.enter_async_context(Dealer(bind=where, options=Options(linger=0)))
        await again.send(b"you are back")
        assert await frontend.receive() == b"you are back"
        frontend.send_nowait(b"Hello again")
        assert await again.receive() == b"Hello again"


@over("tcp", "ipc")
async def test_by_default_the_queue_of_a_connecting_socket_survives_the_connection(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=Options(linger=0)) as first:
        where = first.last_endpoint or ""
        async with Push(connect=where) as push:
            await push.send(b"one")
            assert await first.receive() == b"one"
            await first.aclose()
            await until(lambda: ready_peers(push) == 0)
            for word in (b"two", b"three", b"four"):
                push.send_nowait(word)
            async with Pull(bind=where) as second:
                assert await take(second, 3) == [[b"two"], [b"three"], [b"four"]]


@over("tcp", "ipc")
@pytest.mark.parametrize("immediate", [False, True])
async def test_what_a_lost_peer_has_sent_is_received_before_what_its_successor_sends(
    endpoint: str, immediate: bool
) -> None:
    options = Options(immediate=immediate, peer_events=True, reconnect_interval=0.01, linger=0)
    async with Router(bind=endpoint) as first:
        where = first.last_endpoint or ""
        async with Dealer(connect=where, options=options) as dealer:
            await dealer.wait_connected()
            dealer.send_nowait(b"hello")
            (name, _) = await first.receive_multipart()
            for word in (b"one", b"two", b"three"):
                await first.send_multipart([name, word])
            await until(lambda: sum(unread(dealer)) == 3)
            await first.aclose()
            await until(lambda: ready_peers(dealer) == 0)
            async with Router(bind=where, options=Options(linger=0)) as second:
                await dealer.wait_connected()
                dealer.send_nowait(b"hello again")
                (name, _) = await second.receive_multipart()
                await second.send_multipart([name, b"four"])
                heard: list[object] = []
                while heard[-1:] != [b"four"]:
                    heard += await dealer.receive_many(2)
    joined, left, again = (each for each in heard if isinstance(each, (PeerJoined, PeerLeft)))
    assert heard == [joined, b"one", b"two", b"three", left, again, b"four"]
    assert (type(joined), type(left), type(again)) == (PeerJoined, PeerLeft, PeerJoined)
    assert joined.peer == left.peer != again.peer


@over("tcp", "ipc")
async def test_with_immediate_a_message_still_has_the_origin_that_it_came_from(endpoint: str) -> None:
    async with Router(bind=endpoint) as first:
        where = first.last_endpoint or ""
        options = Options(immediate=True, reconnect_interval=0.01, linger=0)
        async with Dealer(connect=where, options=options) as dealer:
            await dealer.send(b"hello")
            (name, _) = await first.receive_multipart()
            for word in (b"one", b"two", b"three"):
                await first.send_multipart([name, word])
            messages = [await dealer.receive_message()]
            await until(lambda: sum(unread(dealer)) == 2)
            await first.aclose()
            async with Router(bind=where, options=Options(linger=0)) as second:
                await dealer.send(b"hello again")
                (name, _) = await second.receive_multipart()
                await second.send_multipart([name, b"four"])
                messages += [await dealer.receive_message() for _ in range(3)]
    assert [message.frames for message in messages] == [(b"one",), (b"two",), (b"three",), (b"four",)]
    connections = [message.peer.connection for message in messages]
    assert connections[0] == connections[1] == connections[2] != connections[3]
