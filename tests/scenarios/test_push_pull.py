"""PUSH and PULL (RFC 30; libzmq's test_spec_pushpull): dealing in turns, taking in turns, waiting, whole messages."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from trio_mq import MultipartError, Options, Pull, Push

from .kit import EVERYWHERE, dropped, over, ready_peers, spread, take, unread, until, waiting

BRIEF = Options(linger=0)


@over(*EVERYWHERE)
async def test_push_deals_to_its_pullers_in_turns(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        push = await stack.enter_async_context(Push(bind=endpoint))
        pulls = [await stack.enter_async_context(Pull(connect=push.last_endpoint)) for _ in range(5)]
        await push.wait_connected(5)
        for word in [b"first"] * 5 + [b"second"] * 5:
            await push.send(word)
        for pull in pulls:
            assert await pull.receive() == b"first"
            assert await pull.receive() == b"second"
        assert [waiting(pull) for pull in pulls] == [[]] * 5


@over(*EVERYWHERE)
async def test_a_connecting_push_deals_over_its_endpoints_in_turns(endpoint: str, new_endpoint: object) -> None:
    assert callable(new_endpoint)
    async with Pull(bind=new_endpoint()) as one, Pull(bind=new_endpoint()) as two:
        async with Push(connect=[*one.endpoints, *two.endpoints]) as push:
            for number in range(10):
                await push.send(b"%d" % number)
            got = await take(one, 5), await take(two, 5)
        numbers = [[int(frames[0]) for frames in messages] for messages in got]
        assert sorted(numbers[0] + numbers[1]) == list(range(10))
        assert {number % 2 for number in numbers[0]} != {0, 1}, "the two endpoints must alternate"


@over(*EVERYWHERE)
async def test_pull_takes_from_its_pushers_in_turns(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        pull = await stack.enter_async_context(Pull(bind=endpoint))
        for name in b"abcde":
            push = await stack.enter_async_context(Push(connect=pull.last_endpoint))
            await push.send(bytes([name]) + b"1")
            await push.send(bytes([name]) + b"2")
        await until(lambda: unread(pull) == [2] * 5)
        rounds = [{await pull.receive() for _ in range(5)} for _ in range(2)]
        assert rounds == [{b"a1", b"b1", b"c1", b"d1", b"e1"}, {b"a2", b"b2", b"c2", b"d2", b"e2"}]


@over("inproc")
async def test_a_batch_is_taken_from_every_pusher_and_keeps_the_order_of_each(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=endpoint) as one, Push(connect=endpoint) as two:
        await one.send_many([b"a%d" % number for number in range(50)])
        await two.send_many([b"b%d" % number for number in range(50)])
        batch = await pull.receive_many(limit=60)
        assert len(batch) <= 60
        while len(batch) < 100:
            batch += await pull.receive_many(limit=60)
        for name in b"ab":
            assert [message for message in batch if isinstance(message, bytes) and message[0] == name] == [
                bytes([name]) + b"%d" % number for number in range(50)
            ]


@over("inproc")
async def test_a_batch_has_no_more_than_was_asked_for_whatever_is_in_hand(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=endpoint) as push:
        pull._receive_credit.left = 100  # so it may take all seven at once
        await push.send_many([b"%d" % number for number in range(7)])
        assert await pull.receive() == b"0"  # and the six others are in hand
        assert await pull.receive_many(limit=5) == [b"1", b"2", b"3", b"4", b"5"]
        assert await pull.receive_many(limit=5) == [b"6"]


@over(*EVERYWHERE)
async def test_a_bound_push_without_pullers_waits_and_the_first_puller_gets_the_message(endpoint: str) -> None:
    async with Push(bind=endpoint) as push:
        with pytest.raises(trio.WouldBlock):
            push.send_nowait(b"too early")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(push.send, b"patient")
            await trio.testing.wait_all_tasks_blocked()
            async with Pull(connect=push.last_endpoint) as pull:
                assert await pull.receive() == b"patient"


async def test_a_push_with_no_endpoint_at_all_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with Push() as push:
        with pytest.raises(trio.WouldBlock):
            push.send_nowait(b"nobody")
        with trio.move_on_after(60) as scope:
            await push.send(b"nobody")
        assert scope.cancelled_caught


@over(*EVERYWHERE)
async def test_what_a_leaving_puller_had_not_taken_is_not_given_to_the_next(endpoint: str) -> None:
    async with Push(bind=endpoint, options=BRIEF) as push:
        async with Pull(connect=push.last_endpoint) as leaving:
            await push.wait_connected()
            await push.send(b"for the one who left")
            await until(lambda: unread(leaving) == [1])
        await until(lambda: not push.can_send())
        async with Pull(connect=push.last_endpoint) as pull:
            await push.send(b"for the newcomer")
            assert await pull.receive() == b"for the newcomer"


@over("inproc")
async def test_a_puller_that_leaves_takes_its_queue_with_it_and_the_loss_is_counted(endpoint: str) -> None:
    async with Push(bind=endpoint, options=Options(send_hwm=10, linger=0)) as push:
        async with Pull(connect=endpoint, options=Options(receive_hwm=10)):
            await push.wait_connected()
            for _ in range(20):
                push.send_nowait(b"unread")
            with pytest.raises(trio.WouldBlock):
                push.send_nowait(b"full")
        async with Pull(connect=endpoint) as pull:
            await push.send(b"new")
            assert await pull.receive() == b"new"


@over(*EVERYWHERE)
async def test_a_message_of_several_frames_arrives_whole_or_not_at_all(endpoint: str) -> None:
    big = bytes(200_000)
    async with Push(bind=endpoint, options=Options(send_hwm=2, linger=0)) as push, trio.open_nursery() as nursery:

        async def keep_sending() -> None:
            number = 0
            while True:
                tag = b"%d" % number
                await push.send_multipart([tag, tag + big, tag])
                number += 1

        nursery.start_soon(keep_sending)
        for _ in range(5):
            async with Pull(connect=push.last_endpoint, options=Options(receive_hwm=2)) as pull:
                for frames in await take(pull, 5):
                    assert len(frames) == 3
                    assert frames[0] == frames[2] == frames[1][: -len(big)]
        nursery.cancel_scope.cancel()


@over(*EVERYWHERE)
async def test_frames_keep_their_number_their_order_and_their_emptiness(endpoint: str) -> None:
    messages = [
        [b""],
        [b"", b""],
        [b"a", b"", b"b"],
        [b"x" * 255, b"y" * 256],
        [b"%d" % number for number in range(300)],
    ]
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint) as push:
        for frames in messages:
            await push.send_multipart(frames)
        assert await take(pull, len(messages)) == messages


@over(*EVERYWHERE)
async def test_work_is_shared_evenly_while_pullers_come_and_go(endpoint: str) -> None:
    async with Push(bind=endpoint, options=BRIEF) as push, AsyncExitStack() as stack:
        pulls = [await stack.enter_async_context(Pull(connect=push.last_endpoint)) for _ in range(3)]
        await push.wait_connected(3)

        async def share(pulls: list[Pull]) -> list[int]:
            await push.send_many([b"%d" % number for number in range(60)])
            await until(lambda: sum(sum(unread(pull)) for pull in pulls) == 60)
            return [len(waiting(pull)) for pull in pulls]

        assert spread(await share(pulls)) == 0
        pulls += [await stack.enter_async_context(Pull(connect=push.last_endpoint)) for _ in range(2)]
        await push.wait_connected(5)
        assert spread(await share(pulls)) == 0
        await pulls.pop(1).aclose()
        await until(lambda: ready_peers(push) == 4)
        assert spread(await share(pulls)) == 0


@over(*EVERYWHERE)
async def test_a_puller_whose_queue_is_full_is_left_out_until_it_has_room(endpoint: str) -> None:
    small = Options(send_hwm=1, linger=0)
    body = bytes(1 << 20)
    async with Push(bind=endpoint, options=small) as push:
        stuck = Pull(connect=push.last_endpoint, options=Options(receive_hwm=1))
        busy = Pull(connect=push.last_endpoint, options=Options(receive_hwm=1))
        async with stuck, busy:
            await push.wait_connected(2)
            got = 0
            async with trio.open_nursery() as nursery:

                async def send_all() -> None:
                    for _ in range(100):
                        await push.send(body)

                nursery.start_soon(send_all)
                while got < 60:  # of 100: the stuck one holds what its kernel buffers and marks take
                    assert len(await busy.receive()) == len(body)
                    got += 1
                nursery.cancel_scope.cancel()


@over(*EVERYWHERE)
async def test_several_tasks_share_the_messages_of_one_pull(endpoint: str) -> None:
    shares: Counter[int] = Counter()
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint) as push:

        async def work(number: int) -> None:
            while True:
                await pull.receive()
                shares[number] += 1
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(work, number)
            await push.send_many([b"job"] * 40)
            await until(lambda: shares.total() == 40)
            nursery.cancel_scope.cancel()
    assert min(shares.values()) >= 5, "every waiting worker must be woken, not only the first"


@over(*EVERYWHERE)
async def test_a_message_of_several_frames_raises_in_receive_and_ends_no_loop(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint) as push:
        await push.send_multipart([b"two", b"frames"])
        with pytest.raises(MultipartError) as caught:
            await pull.receive()
        assert caught.value.frames == [b"two", b"frames"]
        await push.send_multipart([b"skip", b"me"])
        await push.send(b"plain")
        async for message in pull:
            assert message == b"plain"
            break
        assert dropped(pull, "multipart") == 1
