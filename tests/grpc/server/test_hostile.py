"""Whatever a peer sends, the server goes on, and leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from trio_mq_grpc._blocks import Head, encode_head, encode_status
from trio_mq_grpc._wire import HEADER, Announcement

from ._raw import dial, echo, new_endpoint, port_of, serving, wait_until


async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def total(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


def unit(dice: random.Random) -> list[bytes]:
    """Something like a unit: mostly well made, and mostly wrong."""
    header = HEADER.pack(
        dice.choice([0xA1] * 8 + [0xA2, 0x51]),
        dice.choice([1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 200]),
        dice.choice([0, 2, 4, 6, 6, 6, 7, 0x22, 0x16, 0x0C, 0x0E, 0x80, 0x100, dice.randrange(1 << 16)]),
        dice.choice([0, 0, 0, 1, 2, dice.randrange(1 << 32)]),
        dice.choice([0, 1, 2, 3, (7 << 32) + dice.randrange(5), dice.randrange(1 << 64)]),
    )
    path = dice.choice([b"/test.Service/U", b"/test.Service/S", b"/test.Service/T", b"/no/where", b"", b"\xff"])
    pieces = [
        path,
        encode_head(Head(timeout_us=dice.randrange(10_000))),
        b"x",
        b"",
        b"\0\0\0\5",
        encode_status(5, "no"),
    ]
    frames = [header, path, *dice.choices(pieces, k=dice.randrange(4))]
    if dice.random() < 0.1:
        frames[0] = dice.randbytes(dice.randrange(20))
    if dice.random() < 0.2:
        dice.shuffle(frames)
    return frames


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ours", [None, Announcement(epoch=7, window=1000, fragments=True)])
async def test_a_server_survives_units_made_at_random(ours: Announcement | None, seed: int) -> None:
    dice = random.Random(seed)
    where = new_endpoint()
    kinds: dict[str, Any] = {"unary_unary": {"U": echo}, "stream_stream": {"S": stream}, "stream_unary": {"T": total}}
    async with serving(endpoint=where, **kinds) as (served, good):
        async with dial(where, ours) as bad:
            for _ in range(300):
                envelope = [b"", b""] if dice.random() < 0.9 else [dice.randbytes(4), b""]
                await bad.dealer.send_multipart(
                    [*envelope[1:], *unit(dice)] if envelope[0] == b"" else [*envelope, *unit(dice)]
                )
            assert await good.answer("U", b"x") == b"x"
        await wait_until(lambda: len(port_of(served).peers) == 1)
        await wait_until(lambda: served._home.pool.busy == 0)
        assert len(served._home.wheel) == 0
        assert await good.answer("U", b"x") == b"x"


async def test_deadlines_of_calls_that_have_ended_do_not_pile_up() -> None:
    async with serving(unary_unary={"U": echo}) as (served, caller):
        for number in range(5000):
            await caller.answer("U", b"x", head=Head(timeout_us=3_600_000_000 + number * 1000))
        assert len(served._home.wheel._times) < 2000


async def test_peers_that_come_and_go_leave_nothing_behind() -> None:
    where = new_endpoint()
    async with serving(endpoint=where, stream_stream={"S": stream}, unary_unary={"U": echo}) as (served, good):
        for _ in range(30):
            async with dial(where) as passing:
                for _ in range(5):
                    await passing.call("S", b"x", flags=2)
                await passing.receive()
        await wait_until(lambda: len(port_of(served).peers) == 1)
        await wait_until(lambda: served._home.pool.busy == 0)
        assert await good.answer("U", b"x") == b"x"


async def test_a_peer_that_asks_for_much_and_reads_nothing_is_read_no_more() -> None:
    async def large(request: bytes, context: Any) -> bytes:
        return bytes(50_000)

    where = new_endpoint()
    options = [("trio_mq_grpc.output_limit", 100_000)]
    async with serving(endpoint=where, unary_unary={"M": large, "E": echo}, options=options) as (_served, good):
        async with dial(where) as bad:
            asked = 0
            with trio.move_on_after(0.2) as scope:
                while True:
                    await bad.call("M", bytes(10_000))
                    asked += 1
            assert scope.cancelled_caught
            assert asked < 2000
            for _ in range(asked):
                assert (await bad.receive()).frames[0] == bytes(50_000)
        assert await good.answer("E", b"x") == b"x"
