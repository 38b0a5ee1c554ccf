"""Marks in bytes: a queue below its mark takes one more message of any size, and is never full for good."""

from __future__ import annotations

import pytest
import trio

from trio_mq import Options, Pub, Pull, Push, Sub

from .kit import EVERYWHERE, dropped, over, until, waiting

MARK = 1000
SENDER = Options(send_hwm_bytes=MARK, linger=0)
RECEIVER = Options(receive_hwm_bytes=MARK)


def queued(push: Push | Pub) -> int:
    return sum(peer.queued_messages for peer in push.statistics().peers)


@over(*EVERYWHERE)
async def test_a_message_heavier_than_the_mark_goes_whenever_the_queue_is_empty(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint, options=SENDER) as push:
        await push.wait_connected()
        for number in range(5):
            await push.send(bytes([number]) * 2 * MARK)
            assert await pull.receive() == bytes([number]) * 2 * MARK
            await until(lambda: queued(push) == 0)


@over(*EVERYWHERE)
async def test_a_message_heavier_than_the_mark_waits_for_its_turn_and_goes(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint, options=SENDER) as push:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(20):
                    await push.send(bytes([number]) * 2 * MARK)

            nursery.start_soon(send)
            assert [(await pull.receive())[0] for _ in range(20)] == list(range(20))


BOTH_ENDS = [(Options(linger=0), RECEIVER), (SENDER, Options()), (SENDER, RECEIVER)]


@pytest.mark.parametrize(("sender", "receiver"), BOTH_ENDS, ids=["receiver", "sender", "both"])
@over(*EVERYWHERE)
async def test_a_stream_flows_past_a_mark_at_either_end(endpoint: str, sender: Options, receiver: Options) -> None:
    async with Pull(bind=endpoint, options=receiver) as pull, Push(connect=pull.last_endpoint, options=sender) as push:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(200):
                    await push.send(bytes([number]) * 700)

            nursery.start_soon(send)
            got: list[int] = []
            while len(got) < 200:
                got.extend(message[0] for message in await pull.receive_many() if isinstance(message, bytes))
            assert got == list(range(200))


@over("inproc")
async def test_the_mark_holds(endpoint: str) -> None:
    async with Push(connect=endpoint, options=SENDER) as push:
        for _ in range(3):
            push.send_nowait(bytes(400))
        with pytest.raises(trio.WouldBlock):
            push.send_nowait(b"")
        assert not push.can_send()
        async with Pull(bind=endpoint) as pull:
            assert len(waiting(pull)) == 3
            push.send_nowait(b"there is room again")


@over("inproc")
async def test_send_many_stops_at_the_mark_as_send_does(endpoint: str) -> None:
    async with Push(connect=endpoint, options=SENDER) as push:
        assert push.send_many_nowait([bytes(400)] * 10) == 3


@over(*EVERYWHERE)
async def test_a_publisher_does_not_drop_for_a_subscriber_that_has_everything(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=SENDER) as pub, Sub(connect=pub.last_endpoint, topics=b"") as sub:
        await pub.wait_subscribed()
        for number in range(5):
            await pub.send(bytes([number]) * 2 * MARK)
            assert (await sub.receive())[0] == number
            await until(lambda: queued(pub) == 0)
        assert dropped(pub, "hwm") == 0
