"""REQ (RFC 28; libzmq's test_spec_req, test_req_correlate, test_req_relaxed): turns, format, whom it listens to."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from trio_mq import Options, PeerLostError, Rep, Req, Router, StateError

from .kit import EVERYWHERE, dropped, over, unread, until, waiting

BRIEF = Options(linger=0)


@over(*EVERYWHERE)
async def test_req_asks_its_peers_in_turns(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        req = await stack.enter_async_context(Req(bind=endpoint))
        reps = []
        for count in range(1, 6):
            reps.append(await stack.enter_async_context(Rep(connect=req.last_endpoint)))
            await req.wait_connected(count)
        for _ in range(2):
            for rep in reps:
                await req.send(b"ABC")
                assert await rep.receive() == b"ABC"
                await rep.send(b"DEF")
                assert await req.receive() == b"DEF"


@over(*EVERYWHERE)
async def test_a_router_sees_a_delimiter_and_the_frames_and_nothing_else(endpoint: str) -> None:
    async with Req(bind=endpoint) as req, Router(connect=req.last_endpoint) as router:
        await req.send_multipart([b"ABC", b"DEF"])
        routing_id, *rest = await router.receive_multipart()
        assert routing_id
        assert rest == [b"", b"ABC", b"DEF"]
        await router.send_multipart([routing_id, b"", b"GHI"])
        assert await req.receive() == b"GHI"


@over(*EVERYWHERE)
async def test_req_listens_only_to_the_peer_it_asked(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        req = await stack.enter_async_context(Req(bind=endpoint, options=Options(routing_id=b"A", linger=0)))
        routers = []
        for count in range(1, 4):
            options = Options(router_mandatory=True, linger=0)
            routers.append(await stack.enter_async_context(Router(connect=req.last_endpoint, options=options)))
            await req.wait_connected(count)
        for router in routers:
            await router.wait_connected()
        for count, asked in enumerate(routers, 1):
            await req.send(b"ABC")
            assert await asked.receive_multipart() == [b"A", b"", b"ABC"]
            for router in routers:
                await router.send_multipart([b"A", b"", b"good" if router is asked else b"wrong"])
            assert await req.receive() == b"good"
            # A stray reply must not meet the next request to its sender, of which it cannot be told apart.
            await until(lambda strays=2 * count: dropped(req, "late-reply") == strays)  # type: ignore[misc] # meant so


async def test_req_without_peers_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with Req() as req:
        with pytest.raises(trio.WouldBlock):
            req.send_nowait(b"nobody")
        with trio.move_on_after(60) as scope:
            await req.send(b"nobody")
        assert scope.cancelled_caught


@over(*EVERYWHERE)
async def test_req_asks_and_listens_by_turns_and_stays_usable_when_called_out_of_turn(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep, Req(connect=rep.last_endpoint) as req:
        with pytest.raises(StateError, match="send"):
            await req.receive()
        await req.send(b"one")
        with pytest.raises(StateError, match="receive"):
            await req.send(b"two")
        assert await rep.receive() == b"one"
        await rep.send(b"reply")
        assert await req.receive() == b"reply"


@over(*EVERYWHERE)
async def test_with_correlate_a_reply_to_another_request_is_passed_over(endpoint: str) -> None:
    async with (
        Router(bind=endpoint) as router,
        Req(connect=router.last_endpoint, options=Options(req_correlate=True)) as req,
    ):
        await req.send_multipart([b"ABC", b"DEF"])
        routing_id, request_id, *rest = await router.receive_multipart()
        assert len(request_id) == 4
        assert rest == [b"", b"ABC", b"DEF"]
        other_id = bytes([request_id[0] ^ 1]) + request_id[1:]
        await router.send_multipart([routing_id, other_id, b"", b"bad"])
        await router.send_multipart([routing_id, request_id, b"", b"good"])
        assert await req.receive() == b"good"


@over(*EVERYWHERE)
async def test_each_correlated_request_has_an_id_of_its_own(endpoint: str) -> None:
    async with (
        Router(bind=endpoint) as router,
        Req(connect=router.last_endpoint, options=Options(req_correlate=True)) as req,
    ):
        ids = set()
        for _ in range(5):
            await req.send(b"?")
            routing_id, request_id, *_rest = await router.receive_multipart()
            ids.add(request_id)
            await router.send_multipart([routing_id, request_id, b"", b"!"])
            assert await req.receive() == b"!"
        assert len(ids) == 5


RELAXED = Options(req_relaxed=True, req_correlate=True, linger=0)


@over(*EVERYWHERE)
async def test_a_relaxed_req_may_ask_again_and_hears_only_the_last_answer(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        req = await stack.enter_async_context(Req(bind=endpoint, options=RELAXED))
        reps = []
        for count in range(1, 6):
            reps.append(await stack.enter_async_context(Rep(connect=req.last_endpoint, options=BRIEF)))
            await req.wait_connected(count)

        # The answer to the first request comes after the second was asked.
        await req.send_multipart([b"A", b"B"])
        assert await reps[0].receive_multipart() == [b"A", b"B"]
        await req.send_multipart([b"C", b"D"])
        assert await reps[1].receive_multipart() == [b"C", b"D"]
        await reps[0].send(b"WRONG")
        await reps[1].send(b"OK")
        assert await req.receive() == b"OK"
        await req.send(b"E")
        assert await reps[2].receive() == b"E"
        await reps[2].send_multipart([b"F", b"G"])
        assert await req.receive_multipart() == [b"F", b"G"]

        # The answer lies there already, unread, when the next is asked.
        await req.send(b"H")
        assert await reps[3].receive() == b"H"
        await reps[3].send(b"BAD")
        await until(req.can_receive)
        await req.send(b"I")
        assert await reps[4].receive() == b"I"
        await reps[4].send(b"GOOD")
        assert await req.receive() == b"GOOD"

        # Abandoning a correlated request closes no connection: the turn comes round to the first again.
        await req.send(b"J")
        assert await reps[0].receive() == b"J"


@over(*EVERYWHERE)
async def test_requests_that_pile_up_before_there_is_a_responder_do_not_mix_up_their_answers(endpoint: str) -> None:
    async with Router(bind=endpoint) as reserved:
        endpoint = reserved.last_endpoint or ""
    async with Req(connect=endpoint, options=RELAXED) as req:
        await req.send(b"to be discarded")
        await req.send(b"to be answered")
        async with Router(bind=endpoint, options=BRIEF) as router, trio.open_nursery() as nursery:

            async def bounce() -> None:
                async for frames in router:
                    await router.send_multipart(frames)

            nursery.start_soon(bounce)
            assert await req.receive() == b"to be answered"
            nursery.cancel_scope.cancel()


@over(*EVERYWHERE)
async def test_a_relaxed_req_towards_a_router_hears_no_late_reply_even_without_ids(endpoint: str) -> None:
    async with Router(bind=endpoint, options=BRIEF) as router:
        async with Req(connect=router.last_endpoint, options=Options(req_relaxed=True, linger=0)) as req:
            await req.send(b"first")
            first_id, *_ = await router.receive_multipart()
            await req.send(b"second")
            second_id, delimiter, body = await router.receive_multipart()
            assert (delimiter, body) == (b"", b"second")
            await router.send_multipart([first_id, b"", b"late"])
            await router.send_multipart([second_id, b"", b"right"])
            assert await req.receive() == b"right"


@over(*EVERYWHERE)
async def test_an_answer_nobody_asked_for_is_never_received(endpoint: str) -> None:
    async with Router(bind=endpoint) as router:
        async with Req(connect=router.last_endpoint, options=Options(routing_id=b"A")) as req:
            await router.wait_connected()
            await router.send_multipart([b"A", b"", b"unasked"])
            await until(lambda: dropped(req, "late-reply") == 1)
            await req.send(b"question")
            assert await router.receive_multipart() == [b"A", b"", b"question"]
            await router.send_multipart([b"A", b"", b"asked"])
            assert await req.receive() == b"asked"
        assert unread(router) in ([], [0])


@over(*EVERYWHERE)
async def test_both_ends_count_what_they_sent_and_received(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep, Req(connect=rep.last_endpoint) as req:
        for _ in range(3):
            await req.send(b"?")
            await rep.send(await rep.receive())
            await req.receive()
        for end in (rep, req):
            await until(lambda end=end: [(peer.sent, peer.received) for peer in end.statistics().peers] == [(3, 3)])  # type: ignore[misc] # meant so


@over(*EVERYWHERE)
async def test_when_the_peer_that_has_the_request_goes_the_waiter_is_told_and_may_ask_the_next(endpoint: str) -> None:
    async with Rep(bind=endpoint, options=BRIEF) as first:
        where = first.last_endpoint or ""
        async with Req(connect=where, options=Options(reconnect_interval=0.01)) as req:
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(PeerLostError) as caught:
                        await req.request(b"lost")
                    assert caught.value.peer is not None
                    assert caught.value.peer.socket_type == "REP"

                nursery.start_soon(ask)
                assert await first.receive() == b"lost"
                await first.aclose()
            async with Rep(bind=where) as second:
                await req.send(b"next")
                assert await second.receive() == b"next"
                await second.send(b"answer")
                assert await req.receive() == b"answer"


@over(*EVERYWHERE)
async def test_a_send_whose_peer_went_is_told_by_receive_and_the_turn_is_over(endpoint: str) -> None:
    async with Req(bind=endpoint, options=BRIEF) as req:
        async with Rep(connect=req.last_endpoint, options=BRIEF) as leaving:
            await req.send(b"lost")
            assert await leaving.receive() == b"lost"
        with pytest.raises(PeerLostError):
            await req.receive()
        async with Rep(connect=req.last_endpoint) as rep:
            await req.send(b"next")
            assert await rep.receive() == b"next"


@over(*EVERYWHERE)
async def test_a_request_that_had_not_left_survives_the_loss_of_a_connection(endpoint: str) -> None:
    async with Rep(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    async with Req(connect=where, options=Options(reconnect_interval=0.01)) as req, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await req.request(b"patient") == b"answer"

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        async with Rep(bind=where) as rep:
            assert await rep.receive() == b"patient"
            await rep.send(b"answer")


@over(*EVERYWHERE)
async def test_many_tasks_ask_one_responder_at_once_and_each_gets_its_own_answer(endpoint: str) -> None:
    async with Rep(bind=endpoint) as rep, Req(connect=rep.last_endpoint) as req, trio.open_nursery() as nursery:
        await req.wait_connected()  # from then on it is known to be a REP, which can tell requests apart

        async def ask(number: int) -> None:
            assert await req.request(b"%d" % number) == b"re: %d" % number

        for number in range(20):
            nursery.start_soon(ask, number)
        held = []
        async for request in rep.requests():
            held.append(request)
            if len(held) == 20:
                break
        for request in reversed(held):
            await request.reply(b"re: " + request.frames[0])


@over(*EVERYWHERE)
async def test_towards_a_router_requests_go_one_by_one(endpoint: str) -> None:
    async with Router(bind=endpoint) as router, Req(connect=router.last_endpoint) as req:
        async with trio.open_nursery() as nursery:

            async def ask(number: int) -> None:
                assert await req.request(b"%d" % number) == b"re: %d" % number

            for number in range(5):
                nursery.start_soon(ask, number)
            for _ in range(5):
                routing_id, delimiter, body = await router.receive_multipart()
                assert delimiter == b""
                assert waiting(router) == []
                await router.send_multipart([routing_id, b"", b"re: " + body])
