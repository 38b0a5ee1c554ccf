"""Credit, pieces and slow peers: who does not read stops its own writer and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import trio_mq
from trio_mq_grpc._server import server
from trio_mq_grpc._wire import CHARGE, CREDIT, DATA, END, FRAG, LEVEL_0, MSG, RESET, STATUS, Announcement

from ._raw import Caller, Code, cut, dial, echo, new_endpoint, port_of, service, serving, wait_until

FULL = Announcement(epoch=1, window=1000, fragments=True)
UNLIMITED = Announcement(epoch=1, window=None)


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def test_a_stream_stops_at_the_caller_s_window_and_goes_on_with_credit() -> None:
    async with serving(FULL, unary_stream={"M": count}) as (_, caller):
        call_id = await caller.call("M", b"1000")
        got = [await caller.receive() for _ in range(16)]  # 16 × (64 + 1 or 2) ≥ 1000
        assert all(unit.flags == MSG for unit in got)
        await caller.nothing_comes()
        await caller.credit(call_id, 1000)
        got += [await caller.receive() for _ in range(15)]
        await caller.nothing_comes()
        assert [int(unit.frames[0]) for unit in got] == list(range(31))


async def test_an_old_grant_that_was_overtaken_changes_nothing() -> None:
    async with serving(FULL, unary_stream={"M": count}) as (_, caller):
        call_id = await caller.call("M", b"1000")
        for _ in range(16):
            await caller.receive()
        await caller.credit(call_id, 1000)
        await caller.credit(call_id, 500)
        for _ in range(15):
            await caller.receive()
        await caller.nothing_comes()


async def test_one_message_of_any_size_passes_while_there_is_credit() -> None:
    async def large(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield bytes(5000)
        yield b"next"

    async with serving(FULL, unary_stream={"M": large}) as (_, caller):
        call_id = await caller.call("M", b"")
        assert len((await caller.receive()).frames[0]) == 5000
        await caller.nothing_comes()
        await caller.credit(call_id, 5000)
        assert (await caller.receive()).frames == [b"next"]


async def test_a_caller_is_granted_credit_as_its_messages_are_taken() -> None:
    taken = trio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await taken.wait()
        return b"%d" % len([request async for request in requests])

    async with serving(stream_unary={"M": handler}, options=[("trio_mq_grpc.window", 1000)]) as (_, caller):
        call_id = await caller.call("M", flags=0)
        for _ in range(15):
            await caller.data(call_id, b"x")
        taken.set()
        with trio.fail_after(5):
            unit = cut(await caller.dealer.receive_multipart())
        assert (unit.kind, unit.call_id) == (CREDIT, call_id)
        assert 500 <= unit.value <= 1000
        await caller.data(call_id, flags=END)
        assert (await caller.receive_end())[0] == [b"15"]


async def test_who_sends_without_credit_is_reset_with_internal() -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await trio.sleep_forever()
        return b""

    async with serving(stream_unary={"M": handler}, options=[("trio_mq_grpc.window", 200)]) as (_, caller):
        call_id = await caller.call("M", flags=0)
        for _ in range(5):
            await caller.data(call_id, b"x")
        assert (await caller.receive()).code is Code.INTERNAL


async def test_empty_messages_cost_credit_too() -> None:
    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        while True:
            yield b""

    async with serving(Announcement(epoch=1, window=10 * CHARGE), unary_stream={"M": handler}) as (_, caller):
        await caller.call("M", b"")
        for _ in range(10):
            await caller.receive()
        await caller.nothing_comes()


async def test_a_large_reply_goes_out_in_pieces_to_those_who_take_pieces() -> None:
    options = [("trio_mq_grpc.fragment_size", 1000)]
    async with serving(FULL, unary_unary={"M": echo}, options=options) as (_, caller):
        call_id = await caller.call("M", bytes(range(256)) * 10)
        first, second, third = [await caller.receive() for _ in range(3)]
        assert [unit.flags for unit in (first, second, third)] == [MSG | FRAG, MSG | FRAG, MSG | END | STATUS]
        assert [unit.value for unit in (first, second, third)] == [0, 1, 2]
        assert first.frames[0] == (2560).to_bytes(4, "big")
        assert first.frames[1] + second.frames[0] + third.frames[0] == bytes(range(256)) * 10
        assert {unit.call_id for unit in (first, second, third)} == {call_id}


@pytest.mark.parametrize("ours", [LEVEL_0, None])
async def test_a_peer_that_does_not_take_pieces_gets_the_whole(ours: Announcement | None) -> None:
    options = [("trio_mq_grpc.fragment_size", 1000)]
    async with serving(ours, unary_unary={"M": echo}, options=options) as (_, caller):
        assert await caller.answer("M", bytes(5000)) == bytes(5000)


async def test_a_last_piece_that_would_be_tiny_is_not_cut_off() -> None:
    options = [("trio_mq_grpc.fragment_size", 1000)]
    async with serving(FULL, unary_unary={"M": echo}, options=options) as (_, caller):
        await caller.call("M", bytes(1010))
        assert (await caller.receive()).flags == MSG | END | STATUS


async def test_requests_may_come_in_pieces() -> None:
    async with serving(FULL, unary_unary={"M": echo}) as (_, caller):
        call_id = await caller.call("M", (9).to_bytes(4, "big"), b"abc", flags=MSG | FRAG)
        await caller.data(call_id, b"def", flags=MSG | FRAG)
        await caller.data(call_id, b"ghi", flags=MSG | END)
        assert (await caller.receive_end())[0] == [b"abcdefghi"]


@pytest.mark.parametrize("size", [5, 7])
async def test_pieces_that_do_not_make_the_announced_size_are_internal(size: int) -> None:
    async with serving(FULL, unary_unary={"M": echo}) as (_, caller):
        call_id = await caller.call("M", size.to_bytes(4, "big"), b"abc", flags=MSG | FRAG)
        await caller.data(call_id, b"def", flags=MSG | END)
        assert (await caller.receive()).code is Code.INTERNAL


async def test_a_message_announced_as_too_large_is_refused_at_its_first_piece() -> None:
    async with serving(FULL, unary_unary={"M": echo}) as (_, caller):
        await caller.call("M", (5 << 20).to_bytes(4, "big"), b"abc", flags=MSG | FRAG)
        unit = await caller.receive()
        assert (unit.kind, unit.code) == (RESET, Code.RESOURCE_EXHAUSTED)
        assert str(5 << 20) in unit.details


async def test_a_caller_that_reads_nothing_stops_its_own_stream_and_nobody_else() -> None:
    written = 0

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal written
        while True:
            written += 1
            yield bytes(10_000)

    where = new_endpoint()
    async with (
        serving(UNLIMITED, endpoint=where, unary_stream={"M": handler}, unary_unary={"E": echo}),
        dial(where) as other,
    ):
        # `serving`'s own caller never reads, and has given credit without end.
        async with dial(where, UNLIMITED) as slow:
            await slow.call("M", b"")
            await wait_until(lambda: written > 10)
            for _ in range(50):
                assert await other.answer("E", b"x") == b"x"
            seen = written
            for _ in range(50):
                assert await other.answer("E", b"x") == b"x"
            assert written == seen < 100


async def test_replies_to_a_slow_reader_are_held_and_all_arrive() -> None:
    started = 0

    async def handler(request: bytes, context: Any) -> bytes:
        nonlocal started
        started += 1
        return bytes(100_000)

    served = server(handlers=[service(unary_unary={"M": handler})], options=[("trio_mq_grpc.output_limit", 500_000)])
    port = served.add_insecure_port("tcp://127.0.0.1:0")
    options = trio_mq.Options(linger=0, receive_hwm_bytes=1000, receive_buffer=4096)
    async with served, trio_mq.Dealer(connect=f"tcp://127.0.0.1:{port}", options=options) as dealer:
        caller = Caller(dealer)
        for _ in range(400):
            await caller.call("M", b"x")
        serving_port = port_of(served)
        await wait_until(lambda: any(peer.held for peer in serving_port.peers.values()))
        assert started < 400
        replies = [await caller.receive() for _ in range(400)]
        assert [len(reply.frames[0]) for reply in replies] == [100_000] * 400
        assert started == 400


async def test_a_reset_takes_back_what_is_still_to_be_sent() -> None:
    options = [("trio_mq_grpc.fragment_size", 1000), ("grpc.max_receive_message_length", -1)]
    async with serving(FULL, unary_unary={"M": echo}, options=options) as (server, caller):
        port = port_of(server)
        call_id = await caller.call("M", bytes(3_000_000))
        await wait_until(lambda: [peer for peer in port.peers.values() if peer.outbox.waiting_bytes])
        (peer,) = [peer for peer in port.peers.values() if peer.outbox.waiting_bytes]
        await caller.reset(call_id)
        await wait_until(lambda: not peer.outbox.waiting_bytes)
        received = 0
        while (unit := await caller.receive()).kind == DATA and unit.call_id == call_id:
            received += len(unit.frames[-1])
            if received == 1000:
                await caller.call("Nowhere")
        assert received < 3_000_000
