"""inproc: who comes first, names, types that do not go together (libzmq's test_inproc_connect, _disconnect_inproc)."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from trio_mq import Dealer, Options, Pair, Pub, Pull, Push, Router, Sub
from trio_mq.events import HandshakeFailed

from .kit import event_of, over, waiting

BRIEF = Options(linger=0)


@over("inproc")
async def test_bind_before_connect(endpoint: str) -> None:
    async with Pair(bind=endpoint) as bound, Pair(connect=endpoint) as connected:
        await connected.send(b"foobar")
        assert await bound.receive() == b"foobar"


@over("inproc")
async def test_connect_before_bind(endpoint: str) -> None:
    async with Pair(connect=endpoint) as connected:
        await connected.send_multipart([b"foo", b"bar"])
        async with Pair(bind=endpoint) as bound:
            assert await bound.receive_multipart() == [b"foo", b"bar"]
            await bound.send(b"back")
            assert await connected.receive() == b"back"


@over("inproc")
async def test_a_publisher_that_connects_first_drops_what_nobody_can_have_asked_for(endpoint: str) -> None:
    async with Pub(connect=endpoint) as pub:
        await pub.send(b"before")
        async with Sub(bind=endpoint, topics=b"") as sub:
            await pub.wait_subscribed()
            await pub.send(b"after")
            assert await sub.receive() == b"after"


@over("inproc")
async def test_many_connect_before_one_binds(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        for number in range(10):
            push = await stack.enter_async_context(Push(connect=endpoint))
            await push.send(b"%d" % number)
        pull = await stack.enter_async_context(Pull(bind=endpoint))
        assert sorted([await pull.receive() for _ in range(10)]) == [b"%d" % number for number in range(10)]


@over("inproc")
async def test_tasks_that_send_and_leave_before_the_binder_comes_are_heard(endpoint: str) -> None:
    async def send_and_leave(number: int) -> None:
        async with Push(connect=endpoint) as push:
            await push.send(b"%d" % number)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(send_and_leave, number)
        await trio.testing.wait_all_tasks_blocked()
        async with Pull(bind=endpoint) as pull:
            assert {await pull.receive() for _ in range(30)} == {b"%d" % number for number in range(30)}


@over("inproc")
async def test_binders_and_connecters_may_come_in_any_order(endpoint: str) -> None:
    async def bind(name: str) -> None:
        async with Pair(bind=name) as pair:
            await pair.send(b"foobar")

    async def connect(name: str) -> None:
        async with Pair(connect=name) as pair:
            assert await pair.receive() == b"foobar"

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(connect, f"{endpoint}/{number}")
            nursery.start_soon(bind, f"{endpoint}/{number}")


@over("inproc")
async def test_a_router_knows_who_connected_before_it_was_bound(endpoint: str) -> None:
    async with Dealer(connect=endpoint, options=Options(routing_id=b"me")) as dealer:
        await dealer.send_multipart([b"A", b"B"])
        async with Router(bind=endpoint) as router:
            assert await router.receive_multipart() == [b"me", b"A", b"B"]
            await router.send_multipart([b"me", b"C"])
            assert await dealer.receive() == b"C"


@over("inproc")
async def test_connecting_to_a_name_that_nobody_ever_binds_harms_nobody(endpoint: str) -> None:
    for number in range(20):
        async with Router(connect=f"{endpoint}/{number}"), Push(connect=f"{endpoint}/{number}"):
            pass


@over("inproc")
async def test_a_name_is_free_again_after_unbind_and_after_leaving(endpoint: str) -> None:
    async with Pair(bind=endpoint) as first:
        await first.unbind(endpoint)
        async with Pair(bind=endpoint) as second, Pair(connect=endpoint) as third:
            await third.send(b"foobar")
            assert await second.receive() == b"foobar"
        assert waiting(first) == []
    async with Pair(bind=endpoint):
        pass


@over("inproc")
async def test_a_connected_end_waits_for_its_name_to_be_bound_again(endpoint: str) -> None:
    async with Push(connect=endpoint, options=BRIEF) as push:
        for word in (b"first", b"second", b"third"):
            async with Pull(bind=endpoint) as pull:
                await push.send(word)
                assert await pull.receive() == word
            push.send_nowait(b"between")
            async with Pull(bind=endpoint) as pull:
                assert await pull.receive() == b"between"


@over("inproc")
async def test_a_name_belongs_to_one_socket_at_a_time(endpoint: str) -> None:
    async with Pair(bind=endpoint), Pair() as second:
        with pytest.raises(OSError, match=endpoint) as caught:
            await second.bind(endpoint)
        assert caught.value.errno == errno.EADDRINUSE


@over("inproc")
async def test_socket_types_that_do_not_go_together_are_told_apart_at_both_ends(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, pull.monitor() as at_pull:
        async with Pub(options=BRIEF) as pub, pub.monitor() as at_pub:
            pub.connect(endpoint)
            for happenings in (at_pull, at_pub):
                failed = await event_of(happenings, HandshakeFailed)
                assert "PUB" in str(failed.error)
                assert "PULL" in str(failed.error)
        async with Push(connect=endpoint) as push:
            await push.send(b"no harm done")
            assert await pull.receive() == b"no harm done"


@over("inproc")
async def test_a_message_is_the_same_object_at_the_other_end(endpoint: str) -> None:
    body = bytes(100)
    async with Pull(bind=endpoint) as pull, Push(connect=endpoint) as push:
        await push.send(body)
        assert await pull.receive() is body


@over("inproc")
async def test_what_was_queued_before_the_connecter_left_can_still_be_read(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull:
        async with Push(connect=endpoint, options=BRIEF) as push:
            await push.send_many([b"1", b"2"])
            await trio.testing.wait_all_tasks_blocked()
        assert await pull.receive() == b"1"
        assert await pull.receive() == b"2"


def test_names_do_not_outlive_the_loop() -> None:
    async def leave_early() -> None:
        with trio.CancelScope() as scope:
            async with Pull(bind="inproc://left-behind"):
                scope.cancel()
                await trio.sleep_forever()

    trio.run(leave_early)
    trio.run(leave_early)
