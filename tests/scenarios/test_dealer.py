"""DEALER (RFC 28; libzmq's test_spec_dealer): out in turns, in in turns, waiting without peers."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from trio_mq import Dealer, Options, Rep

from .kit import EVERYWHERE, over, take, unread, until, waiting


@over(*EVERYWHERE)
async def test_dealer_sends_to_its_peers_in_turns(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        dealer = await stack.enter_async_context(Dealer(bind=endpoint))
        reps = [await stack.enter_async_context(Rep(connect=dealer.last_endpoint)) for _ in range(5)]
        await dealer.wait_connected(5)
        for _ in reps:
            await dealer.send_multipart([b"", b"question"])
        for rep in reps:
            assert await rep.receive() == b"question"
            await rep.send(b"answer")
        assert await take(dealer, 5) == [[b"", b"answer"]] * 5


@over(*EVERYWHERE)
async def test_dealer_receives_from_its_peers_in_turns(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Dealer(bind=endpoint))
        senders = [await stack.enter_async_context(Dealer(connect=receiver.last_endpoint)) for _ in range(5)]
        for _ in range(2):
            await senders[0].send(b"alone")
            assert await receiver.receive() == b"alone"
        for number, sender in enumerate(senders):
            await sender.send_many([b"%d" % number] * 2)
        await until(lambda: sorted(unread(receiver)) == [2] * 5)
        rounds = [{await receiver.receive() for _ in senders} for _ in range(2)]
        assert rounds == [{b"0", b"1", b"2", b"3", b"4"}] * 2


@over(*EVERYWHERE)
async def test_dealer_without_peers_waits(endpoint: str) -> None:
    async with Dealer(bind=endpoint) as dealer:
        with pytest.raises(trio.WouldBlock):
            dealer.send_nowait(b"nobody")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dealer.send, b"patient")
            await trio.testing.wait_all_tasks_blocked()
            async with Dealer(connect=dealer.last_endpoint) as peer:
                assert await peer.receive() == b"patient"


@over(*EVERYWHERE)
async def test_a_peer_that_leaves_takes_the_queue_towards_it_away(endpoint: str) -> None:
    async with Dealer(bind=endpoint, options=Options(linger=0)) as dealer:
        async with Dealer(connect=dealer.last_endpoint) as leaving:
            await leaving.send(b"said before leaving")
            await dealer.wait_connected()
            await dealer.send(b"never read")
            await until(lambda: unread(leaving) == [1])
        await until(lambda: not dealer.can_send())
        with pytest.raises(trio.WouldBlock):
            dealer.send_nowait(b"nobody")
        async with Dealer(connect=dealer.last_endpoint) as peer:
            await dealer.send(b"new")
            assert await peer.receive() == b"new"


@over(*EVERYWHERE)
async def test_what_a_peer_said_over_the_network_before_it_left_stays_readable(endpoint: str) -> None:
    async with Dealer(bind=endpoint) as dealer:
        async with Dealer(connect=dealer.last_endpoint) as leaving:
            await leaving.send(b"said before leaving")
            await until(lambda: unread(dealer) == [1])
        await until(lambda: not dealer.can_send())
        assert waiting(dealer) == [[b"said before leaving"]]
