"""The proxy (libzmq's test_proxy, test_proxy_hwm, test_proxy_terminate): between any two sockets, losing nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_mq import Dealer, Options, Pair, Pub, Pull, Push, Rep, Req, Router, StateError, Sub, XPub, XSub, proxy

from .kit import EVERYWHERE, over, take, until, waiting

BRIEF = Options(linger=0)


@asynccontextmanager
async def proxied(front: Any, back: Any, capture: Any = None) -> AsyncIterator[None]:
    """A proxy between the three runs in the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy, front, back, capture)
        yield
        nursery.cancel_scope.cancel()


@over(*EVERYWHERE)
async def test_questions_and_answers_find_their_way_through(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(Router(bind=endpoint, options=BRIEF))
        back = await stack.enter_async_context(Dealer(bind=new_endpoint(), options=BRIEF))
        await stack.enter_async_context(proxied(front, back))
        nursery = await stack.enter_async_context(trio.open_nursery())
        served: Counter[int] = Counter()

        async def work(number: int) -> None:
            async with Rep(connect=back.last_endpoint) as rep:
                async for request in rep.requests():
                    served[number] += 1
                    await request.reply_multipart([*request.frames, b"%d" % number])

        async def ask(number: int) -> None:
            async with Req(connect=front.last_endpoint) as req:
                for count in range(10):
                    answer = await req.request_multipart([b"%d" % number, b"%d" % count])
                    assert answer[:2] == [b"%d" % number, b"%d" % count]

        for number in range(5):
            nursery.start_soon(work, number)
        await back.wait_connected(5)
        async with trio.open_nursery() as askers:
            for number in range(3):
                askers.start_soon(ask, number)
        assert served.total() == 30
        assert len(served) == 5, "the dealer deals to every worker"
        nursery.cancel_scope.cancel()


@over(*EVERYWHERE)
async def test_work_flows_one_way_and_the_capture_sees_it_all(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(Pull(bind=endpoint))
        back = await stack.enter_async_context(Push(bind=new_endpoint(), options=BRIEF))
        capture = await stack.enter_async_context(Push(bind=new_endpoint(), options=BRIEF))
        push = await stack.enter_async_context(Push(connect=front.last_endpoint))
        pull = await stack.enter_async_context(Pull(connect=back.last_endpoint))
        tap = await stack.enter_async_context(Pull(connect=capture.last_endpoint))
        await stack.enter_async_context(proxied(front, back, capture))
        messages = [[b"%d" % number, b"body"] for number in range(100)]
        await push.send_many(messages)
        assert await take(pull, 100) == messages
        assert await take(tap, 100) == messages


@over(*EVERYWHERE)
async def test_subscriptions_go_up_and_publications_come_down(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with XSub(bind=endpoint) as front, XPub(bind=new_endpoint()) as back, proxied(front, back):
        async with Pub(connect=front.last_endpoint) as pub:
            async with (
                Sub(connect=back.last_endpoint, topics=b"a") as one,
                Sub(connect=back.last_endpoint, topics=b"ab") as two,
            ):
                await pub.wait_subscribed(b"ab")
                await until(lambda: back.subscriber_count(b"ab") == 2 and pub.topics_count == 2)
                for body in (b"a", b"ab", b"b"):
                    await pub.send(body)
                assert await take(one, 2) == [[b"a"], [b"ab"]]
                assert await take(two, 1) == [[b"ab"]]
            await until(lambda: pub.subscriber_count() == 0)


@over("inproc")
async def test_a_cancelled_proxy_has_lost_no_message(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    """However often it is stopped, wherever it was: what went in comes out, once and in order."""
    small = Options(send_hwm=2, receive_hwm=2, linger=0)
    async with Pull(bind=endpoint, options=small) as front, Push(bind=new_endpoint(), options=small) as back:
        async with (
            Push(connect=endpoint, options=small) as push,
            Pull(connect=back.last_endpoint, options=small) as pull,
        ):
            async with trio.open_nursery() as nursery:

                async def send_all() -> None:
                    for number in range(300):
                        await push.send(b"%d" % number)

                async def stop_and_go() -> None:
                    while True:
                        with trio.move_on_after(0.01):
                            await proxy(front, back)

                nursery.start_soon(send_all)
                nursery.start_soon(stop_and_go)
                for number in range(300):
                    assert await pull.receive() == b"%d" % number
                    await trio.sleep(0.003)
                nursery.cancel_scope.cancel()


@over("inproc")
async def test_a_proxy_cancelled_while_one_peer_has_no_room_has_lost_no_message(
    endpoint: str, new_endpoint: Callable[[], str]
) -> None:
    """Whether a ROUTER has room is known only for the peer that a message is for."""
    async with AsyncExitStack() as stack:
        blocking = Options(overflow="block", send_hwm=1, linger=0)
        front = await stack.enter_async_context(Router(bind=endpoint, options=blocking))
        back = await stack.enter_async_context(Dealer(bind=new_endpoint(), options=BRIEF))
        slow = Options(routing_id=b"X", receive_hwm=1, linger=0)
        asker = await stack.enter_async_context(Dealer(connect=front.last_endpoint, options=slow))
        worker = await stack.enter_async_context(Dealer(connect=back.last_endpoint))
        await front.wait_connected()
        for number in range(5):
            await worker.send_multipart([b"X", b"%d" % number])
        capture = await stack.enter_async_context(Push(bind=new_endpoint(), options=BRIEF))
        tap = await stack.enter_async_context(Pull(connect=capture.last_endpoint))
        await capture.wait_connected()
        async with proxied(front, back, capture):
            await trio.testing.wait_all_tasks_blocked()
        async with proxied(front, back, capture):
            assert [await asker.receive() for _ in range(5)] == [b"%d" % number for number in range(5)]
        assert waiting(tap) == [[b"X", b"%d" % number] for number in range(5)], "and the capture saw each once"


@over("inproc")
async def test_a_side_without_room_is_waited_for_and_nothing_is_taken_for_it(
    endpoint: str, new_endpoint: Callable[[], str]
) -> None:
    async with Pull(bind=endpoint) as front, Push(bind=new_endpoint(), options=BRIEF) as back:
        async with Push(connect=endpoint) as push, proxied(front, back):
            await push.send_many([b"1", b"2", b"3"])
            await trio.testing.wait_all_tasks_blocked()
            assert sum(peer.unread_messages for peer in front.statistics().peers) == 3
            async with Pull(connect=back.last_endpoint) as pull:
                assert await take(pull, 3) == [[b"1"], [b"2"], [b"3"]]


@over(*EVERYWHERE)
async def test_both_directions_run_at_once(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with Pair(bind=endpoint) as front, Pair(bind=new_endpoint()) as back, proxied(front, back):
        async with Pair(connect=front.last_endpoint) as left, Pair(connect=back.last_endpoint) as right:
            async with trio.open_nursery() as nursery:
                for end, word in ((left, b"left"), (right, b"right")):
                    nursery.start_soon(end.send_many, [word] * 500)
                assert await take(left, 500) == [[b"right"]] * 500
                assert await take(right, 500) == [[b"left"]] * 500
            assert waiting(left) == waiting(right) == []


@over("inproc")
async def test_a_side_that_is_closed_ends_the_proxy_plainly(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with Router(bind=endpoint) as front, Dealer(bind=new_endpoint()) as back, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await proxy(front, back)

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        await back.aclose()


@over("inproc")
async def test_sockets_that_have_nothing_to_pass_on_are_refused(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with Pull(bind=endpoint) as front, Pull(bind=new_endpoint()) as back:
        with pytest.raises(StateError, match="Pull"):
            await proxy(front, back)
