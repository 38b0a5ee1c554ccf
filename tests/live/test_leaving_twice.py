"""Leaving while something else goes on: a close in another task, a flush, a receiver that is about to sleep."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_mq import Dealer, Options, Pair, Pull, Push, Router, Socket

from ..scenarios.kit import until

BRIEF = Options(linger=0)
LOOPBACK = "tcp://127.0.0.1:*"
LINGER = 30.0


# --- two who close ---------------------------------------------------------------------------------------------------


async def test_leaving_the_block_waits_for_the_linger_of_an_aclose_elsewhere(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        async with Push(connect="inproc://nobody", options=Options(linger=LINGER)) as push:
            await push.send(b"unsent")
            nursery.start_soon(push.aclose)  # noqa: ASYNC111  # that it goes on meanwhile is the point
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - began == pytest.approx(LINGER)


async def test_leaving_while_an_aclose_lingers_still_delivers(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def receive_later() -> None:
            await trio.sleep(LINGER / 2)
            async with Pull(bind="inproc://later") as pull:
                received.append(await pull.receive())

        nursery.start_soon(receive_later)
        async with Push(connect="inproc://later", options=Options(linger=LINGER)) as push:
            await push.send(b"queued")
            nursery.start_soon(push.aclose)  # noqa: ASYNC111  # that it goes on meanwhile is the point
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() < LINGER
    assert received == [b"queued"]


@pytest.mark.parametrize("who", ["the block", "the call"])
async def test_whoever_is_cancelled_while_both_linger_ends_it_for_both(who: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        impatient = trio.CancelScope()

        async def close() -> None:
            with impatient if who == "the call" else trio.CancelScope():
                await push.aclose()

        with impatient if who == "the block" else trio.CancelScope():
            async with Push(connect="inproc://nobody", options=Options(linger=LINGER)) as push:
                await push.send(b"unsent")
                nursery.start_soon(close)
                await trio.testing.wait_all_tasks_blocked()
                impatient.deadline = trio.current_time() + 1
        assert trio.current_time() - began == pytest.approx(1)


async def test_two_acloses_return_together(autojump_clock: MockClock) -> None:
    async with Push(connect="inproc://nobody", options=Options(linger=LINGER)) as push:
        await push.send(b"unsent")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(push.aclose)  # noqa: ASYNC111  # that it goes on meanwhile is the point
            nursery.start_soon(push.aclose)  # noqa: ASYNC111  # that it goes on meanwhile is the point
        assert trio.current_time() == pytest.approx(LINGER)
        assert push.closed


# --- flush -----------------------------------------------------------------------------------------------------------


def states(socket: Socket) -> list[str]:
    return [peer.state for peer in socket.statistics().peers]


NARROW = Options(receive_hwm=1, linger=0, reconnect_interval=0.01, send_buffer=4096, receive_buffer=4096)


async def full_both_ways(dealer: Dealer, router: Router) -> None:
    """Connect the two, and let each send the other what that one does not receive."""
    dealer.connect(router.last_endpoint or "")
    await dealer.send(b"hello")
    routing_id, _ = await router.receive_multipart()
    for _ in range(50):
        router.send_multipart_nowait([routing_id, bytes(100)])
    for _ in range(200):
        await dealer.send(bytes(5000))
    await until(lambda: dealer.statistics().peers[0].unread_messages > 0)


async def test_flush_returns_when_the_peer_is_gone_though_nobody_reads_what_it_sent() -> None:
    with trio.fail_after(5):
        async with Dealer(options=NARROW) as dealer, trio.open_nursery() as nursery:
            async with Router(bind=LOOPBACK, options=NARROW) as router:
                await full_both_ways(dealer, router)
                nursery.start_soon(dealer.flush)
                await trio.testing.wait_all_tasks_blocked()
                assert nursery.child_tasks, "it has something to wait for"
            await until(lambda: not nursery.child_tasks)
            assert dealer.statistics().peers[0].queued_messages > 0


async def test_a_dialler_whose_mailbox_is_full_finds_the_next_peer_at_the_same_place() -> None:
    with trio.fail_after(5):
        async with Dealer(options=NARROW) as dealer:
            async with Router(bind=LOOPBACK, options=NARROW) as router:
                where = router.last_endpoint or ""
                await full_both_ways(dealer, router)
            await until(lambda: states(dealer) != ["ready"])
            async with Router(bind=where, options=BRIEF) as router:
                await dealer.send(b"for the next")
                while (await router.receive_multipart())[-1] != b"for the next":
                    pass


# --- a receiver that looks a few times before it sleeps --------------------------------------------------------------


async def test_a_receiver_hears_of_the_close_however_far_it_has_come() -> None:
    with trio.fail_after(5):
        assert [await closed_after(steps) for steps in range(8)] == ["told"] * 8


async def closed_after(steps: int) -> str:
    """What a receiver hears that has run so many steps when its socket is closed."""
    outcome = "nothing"

    async def receive() -> None:
        nonlocal outcome
        try:
            await one.receive()
        except trio.ClosedResourceError:
            outcome = "told"

    async with Pair(bind=LOOPBACK, options=BRIEF) as one, Pair(connect=one.last_endpoint, options=BRIEF) as other:
        await answer_at_once(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            await one.aclose()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return outcome


async def answer_at_once(one: Pair, other: Pair) -> None:
    """Some round trips, after which a receiver expects that looking pays."""

    async def echo() -> None:
        async for message in other:
            await other.send(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        for _ in range(20):
            await one.send(b"?")
            await one.receive()
        nursery.cancel_scope.cancel()
