"""REP (RFC 28; libzmq's test_spec_rep): in in turns, the envelope kept, the malformed refused."""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack

import pytest
import trio

from trio_mq import Dealer, Options, Rep, Req, StateError
from trio_mq.events import RequestUnanswered

from .kit import EVERYWHERE, dropped, event_of, over, ready_peers, take, unread, until


@over(*EVERYWHERE)
async def test_rep_receives_from_its_peers_in_turns(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        rep = await stack.enter_async_context(Rep(bind=endpoint))
        dealers = [await stack.enter_async_context(Dealer(connect=rep.last_endpoint)) for _ in range(5)]
        for number, dealer in enumerate(dealers):
            await dealer.send_multipart([b"", b"%d" % number])
            await dealer.send_multipart([b"", b"%d" % number])
        await until(lambda: sorted(unread(rep)) == [2] * 5)
        for _ in range(2):
            seen = set()
            for _ in dealers:
                question = await rep.receive()
                seen.add(question)
                await rep.send(question)
            assert seen == {b"0", b"1", b"2", b"3", b"4"}
        for number, dealer in enumerate(dealers):
            assert await take(dealer, 2) == [[b"", b"%d" % number]] * 2


@over(*EVERYWHERE)
async def test_reqs_get_their_own_answers(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        rep = await stack.enter_async_context(Rep(bind=endpoint))
        reqs = [await stack.enter_async_context(Req(connect=rep.last_endpoint)) for _ in range(5)]
        for number, req in enumerate(reqs):
            await req.send(b"%d" % number)
        for _ in reqs:
            await rep.send(b"to " + await rep.receive())
        assert [await req.receive() for req in reqs] == [b"to %d" % number for number in range(5)]


@over(*EVERYWHERE)
@pytest.mark.parametrize(
    "envelope", [[b""], [b"X", b"Y", b""], [b"\0" * 5, b"hop" * 50, b""]], ids=["none", "two hops", "long hops"]
)
async def test_the_envelope_comes_back_untouched_and_the_application_never_sees_it(
    endpoint: str, envelope: list[bytes]
) -> None:
    async with Rep(bind=endpoint) as rep, Dealer(connect=rep.last_endpoint) as dealer:
        await dealer.send_multipart([*envelope, b"A", b"", b"B"])
        assert await rep.receive_multipart() == [b"A", b"", b"B"]
        await rep.send_multipart([b"C", b"D"])
        assert await dealer.receive_multipart() == [*envelope, b"C", b"D"]


@over(*EVERYWHERE)
async def test_a_message_without_a_delimiter_is_no_request_and_is_counted(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep, Dealer(connect=rep.last_endpoint) as dealer:
        await dealer.send_multipart([b"no", b"delimiter"])
        await dealer.send_multipart([b"", b"a request"])
        assert await rep.receive() == b"a request"
        assert dropped(rep, "malformed") == 1


@over(*EVERYWHERE)
async def test_rep_answers_before_it_asks_again(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep, Req(connect=rep.last_endpoint) as req:
        with pytest.raises(StateError, match="receive"):
            await rep.send(b"to whom?")
        await req.send(b"one")
        assert await rep.receive() == b"one"
        await rep.send(b"two")
        with pytest.raises(StateError, match="receive"):
            await rep.send(b"twice")
        assert await req.receive() == b"two"


@over(*EVERYWHERE)
async def test_a_reply_for_a_requester_that_left_is_dropped_and_the_next_is_served(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep:
        async with Req(connect=rep.last_endpoint, options=Options(linger=0)) as leaving:
            await leaving.send(b"bye")
            assert await rep.receive() == b"bye"
        await until(lambda: ready_peers(rep) == 0)
        await rep.send(b"too late")
        async with Req(connect=rep.last_endpoint) as req:
            await req.send(b"hello")
            assert await rep.receive() == b"hello"
            await rep.send(b"welcome")
            assert await req.receive() == b"welcome"
        assert sum(rep.statistics().dropped.values()) == 1


@over(*EVERYWHERE)
async def test_requests_are_answered_in_any_order(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        rep = await stack.enter_async_context(Rep(bind=endpoint))
        reqs = [await stack.enter_async_context(Req(connect=rep.last_endpoint)) for _ in range(3)]
        for number, req in enumerate(reqs):
            await req.send(b"%d" % number)
        held = []
        async for request in rep.requests():
            held.append(request)
            if len(held) == 3:
                break
        for request in reversed(held):
            await request.reply(request.frames[0] + b"!")
        with pytest.raises(StateError):
            await held[0].reply(b"again")
        assert [await req.receive() for req in reqs] == [b"0!", b"1!", b"2!"]


@over(*EVERYWHERE)
async def test_a_request_that_is_thrown_away_unanswered_is_an_event(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep, rep.monitor() as story:
        async with Req(connect=rep.last_endpoint, options=Options(linger=0)) as req:
            await req.send(b"hello?")
            async for request in rep.requests():
                assert request.message == b"hello?"
                break
            del request
            gc.collect()
            await event_of(story, RequestUnanswered)


@over(*EVERYWHERE)
async def test_several_tasks_may_take_requests_from_one_rep(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        rep = await stack.enter_async_context(Rep(bind=endpoint))
        reqs = [await stack.enter_async_context(Req(connect=rep.last_endpoint)) for _ in range(6)]
        nursery = await stack.enter_async_context(trio.open_nursery())

        async def serve() -> None:
            async for request in rep.requests():
                await request.reply(b"re: " + request.frames[0])

        for _ in range(3):
            nursery.start_soon(serve)
        for number, req in enumerate(reqs):
            assert await req.request(b"%d" % number) == b"re: %d" % number
        nursery.cancel_scope.cancel()
