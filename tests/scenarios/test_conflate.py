"""CONFLATE (libzmq's test_conflate): a queue that holds only the newest message."""

from __future__ import annotations

import pytest

from trio_mq import Options, Pub, Pull, Push, Sub

from .kit import EVERYWHERE, over, unread, waiting

NEWEST = Options(conflate=True, linger=0)


@over(*EVERYWHERE)
async def test_a_conflating_receiver_has_the_newest_message_alone(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=NEWEST) as pull, Push(connect=pull.last_endpoint) as push:
        for number in range(20):
            await push.send(b"%d" % number)
        await push.flush()
        newest = b""
        while newest != b"19":
            assert sum(unread(pull)) <= 1
            newest = await pull.receive()
        assert waiting(pull) == []


@over(*EVERYWHERE)
async def test_a_conflating_sender_keeps_the_newest_for_an_endpoint_that_is_not_there_yet(
    endpoint: str, new_endpoint: object
) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    async with Push(connect=where, options=NEWEST) as push:
        for number in range(20):
            push.send_nowait(b"%d" % number)
        async with Pull(bind=where) as pull:
            assert await pull.receive() == b"19"
            await push.send(b"end")
            assert await pull.receive() == b"end"


@over(*EVERYWHERE)
async def test_conflating_is_per_peer(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=NEWEST) as pull:
        async with Push(connect=pull.last_endpoint) as one, Push(connect=pull.last_endpoint) as two:
            for word in (b"old", b"new"):
                await one.send(b"one " + word)
                await two.send(b"two " + word)
            seen: set[bytes] = set()
            while not {b"one new", b"two new"} <= seen:
                assert max(unread(pull), default=0) <= 1
                seen.add(await pull.receive())
            assert waiting(pull) == []


@over("inproc")
async def test_a_conflating_queue_holds_one_message_of_each_peer(endpoint: str) -> None:
    async with (
        Pull(bind=endpoint, options=NEWEST) as pull,
        Push(connect=endpoint) as one,
        Push(connect=endpoint) as two,
    ):
        for word in (b"old", b"new"):
            await one.send(b"one " + word)
            await two.send(b"two " + word)
        assert sorted(waiting(pull)) == [[b"one new"], [b"two new"]]


@over("inproc")
async def test_a_conflating_subscriber_falls_behind_and_sees_the_newest(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=endpoint, topics=b"", options=NEWEST) as sub:
        await pub.wait_subscribed()
        for number in range(20):
            await pub.send(b"%d" % number)
        assert waiting(sub) == [[b"19"]]


@over("inproc")
async def test_a_message_of_several_frames_cannot_be_conflated(endpoint: str) -> None:
    async with Push(connect=endpoint, options=NEWEST) as push:
        with pytest.raises(ValueError, match="conflate"):
            await push.send_multipart([b"two", b"frames"])
        with pytest.raises(ValueError, match="conflate"):
            push.send_multipart_nowait([b"two", b"frames"])
        await push.send(b"one frame")
