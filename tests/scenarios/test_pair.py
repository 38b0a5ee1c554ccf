"""PAIR (RFC 31; libzmq's test_pair_inproc, _ipc, _tcp): one peer at a time, and a second one is told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_mq import Options, Pair
from trio_mq.events import Disconnected, HandshakeFailed

from .kit import EVERYWHERE, event_of, over, take, waiting


@over(*EVERYWHERE)
async def test_a_pair_talks_both_ways(endpoint: str) -> None:
    async with Pair(bind=endpoint) as one, Pair(connect=one.last_endpoint) as two:
        for number in range(10):
            await one.send(b"to two %d" % number)
            await two.send_multipart([b"to", b"one", b"%d" % number])
        assert await take(two, 10) == [[b"to two %d" % number] for number in range(10)]
        assert await take(one, 10) == [[b"to", b"one", b"%d" % number] for number in range(10)]


@over(*EVERYWHERE)
async def test_a_second_peer_is_refused_and_both_ends_are_told(endpoint: str) -> None:
    async with Pair(bind=endpoint) as pair, Pair(connect=pair.last_endpoint) as first:
        await first.send(b"first")
        assert await pair.receive() == b"first"
        once = Options(retry=False, linger=0)
        async with pair.monitor() as at_pair, Pair(options=once) as second, second.monitor() as at_second:
            second.connect(pair.last_endpoint or "")
            await event_of(at_pair, HandshakeFailed)
            async for event in at_second:
                if isinstance(event, HandshakeFailed | Disconnected):
                    break
            await pair.send(b"for the first")
            assert await first.receive() == b"for the first"
            assert waiting(second) == []


@over(*EVERYWHERE)
async def test_the_place_of_a_peer_that_left_can_be_taken(endpoint: str) -> None:
    async with Pair(bind=endpoint) as pair:
        for word in (b"first", b"second"):
            async with Pair(connect=pair.last_endpoint) as peer:
                await peer.send(word)
                assert await pair.receive() == word
                await pair.send(word)
                assert await peer.receive() == word


@over("tcp", "ipc")
async def test_a_refused_peer_that_keeps_dialling_gets_the_place_when_it_is_free(endpoint: str) -> None:
    async with Pair(bind=endpoint) as pair:
        eager = Options(reconnect_interval=0.01, linger=0)
        async with Pair(connect=pair.last_endpoint) as first, Pair(options=eager) as second:
            await pair.wait_connected()
            async with second.monitor() as at_second:
                second.connect(pair.last_endpoint or "")
                async for event in at_second:
                    if isinstance(event, HandshakeFailed | Disconnected):
                        break
            await first.aclose()
            await second.send(b"at last")
            assert await pair.receive() == b"at last"


@over(*EVERYWHERE)
async def test_a_bound_pair_without_a_peer_waits(endpoint: str) -> None:
    async with Pair(bind=endpoint) as pair:
        with pytest.raises(trio.WouldBlock):
            pair.send_nowait(b"nobody")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.send, b"patient")
            await trio.testing.wait_all_tasks_blocked()
            async with Pair(connect=pair.last_endpoint) as peer:
                assert await peer.receive() == b"patient"
