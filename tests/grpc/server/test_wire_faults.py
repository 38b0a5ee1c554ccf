"""Peers that break the rules: each break ends one call with the status of the table, and nothing else notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio

from trio_mq_grpc._blocks import Head
from trio_mq_grpc._wire import (
    CALL,
    COMPRESSED,
    CREDIT,
    DATA,
    END,
    FRAG,
    HEAD,
    HEADER,
    MSG,
    NOT_PROCESSED,
    PING,
    PONG,
    RESET,
    STATUS,
    Announcement,
    pack,
)

from ._raw import Code, echo, port_of, serving, wait_until

PATH = b"/test.Service/M"


async def forever(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("flags", "frames"),
    [
        (MSG | END, []),
        (MSG | END, [b"x", b"extra"]),
        (STATUS, [b""]),
        (STATUS | END, [b""]),
        (COMPRESSED | END, [b""]),
        (FRAG, [b""]),
        (0x40 | MSG | END, [b"x"]),
        (0x100 | MSG | END, [b"x"]),
        (HEAD | MSG | END, [b"\xff", b"x"]),
        (HEAD | MSG | END, [b"\x0a\x06\x0a\x01K\x12\x01x", b"x"]),
        (HEAD | MSG | END, [b"\x0a\x06\x0a\x01k\x12\x01\x07", b"x"]),
        (MSG | FRAG, [b"123", b"x"]),
    ],
    ids=[
        "a frame is missing",
        "a frame too many",
        "a status",
        "a status with an end",
        "compressed without a message",
        "a piece without a message",
        "an unknown flag",
        "an unknown critical flag",
        "a Head that is none",
        "a key with a capital letter",
        "a value that is not printable",
        "a size that is none",
    ],
)
async def test_a_call_that_is_no_legal_unit_is_reset_with_internal(flags: int, frames: list[bytes]) -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        await caller.send(pack(CALL, flags, 0, 7), PATH, *frames)
        unit = await caller.receive()
        assert (unit.kind, unit.call_id, unit.code) == (RESET, 7, Code.INTERNAL)
        assert await caller.answer("M", b"next") == b"next"


async def test_flags_that_may_be_ignored_are() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        assert await caller.answer("M", b"x", flags=MSG | END | 0x1000) == b"x"


async def test_a_call_of_another_version_is_unimplemented_and_hears_of_version_1() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        await caller.send(HEADER.pack(0xA2, CALL, MSG | END, 0, 7), PATH, b"x")
        unit = await caller.receive()
        assert (unit.call_id, unit.code) == (7, Code.UNIMPLEMENTED)
        assert "version 1" in unit.details


@pytest.mark.parametrize("skip", [-1, 1, 5])
async def test_a_gap_or_a_repeat_in_the_numbers_ends_the_call(skip: int) -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            async for _ in requests:
                started.set()
        finally:
            cancelled.set()
        raise AssertionError("the stream has ended")

    async with serving(stream_unary={"M": handler}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        await caller.data(call_id, b"x")
        await started.wait()
        await caller.data(call_id, b"y", skip=skip)
        unit = await caller.receive()
        assert (unit.code, unit.details) == (Code.UNAVAILABLE, "message lost in transport")
        await cancelled.wait()


async def test_a_call_whose_id_is_in_use_ends_that_call() -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        await caller.send(pack(CALL, 0, 0, 7), PATH)
        await caller.send(pack(CALL, 0, 0, 7), PATH)
        assert (await caller.receive()).code is Code.UNAVAILABLE
        await caller.nothing_comes()


async def test_a_call_does_not_begin_with_another_number_than_0() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        await caller.send(pack(CALL, MSG | END, 3, 7), PATH, b"x")
        assert (await caller.receive()).code is Code.INTERNAL


async def test_a_call_of_another_epoch_is_not_processed() -> None:
    async with serving(Announcement(epoch=5), unary_unary={"M": echo}) as (_, caller):
        await caller.send(pack(CALL, MSG | END, 0, (4 << 32) + 1), PATH, b"x")
        unit = await caller.receive()
        assert (unit.code, unit.flags & NOT_PROCESSED) == (Code.UNAVAILABLE, NOT_PROCESSED)
        assert await caller.answer("M", b"x") == b"x"


async def test_a_call_that_came_through_a_proxy_is_of_no_epoch_of_that() -> None:
    async with serving(Announcement(epoch=5), unary_unary={"M": echo}) as (_, caller):
        await caller.dealer.send_multipart([b"who", b"", pack(CALL, MSG | END, 0, (4 << 32) + 1), PATH, b"x"])
        with trio.fail_after(5):
            assert (await caller.dealer.receive_multipart())[-2:] == [b"x", b""]


@pytest.mark.parametrize(
    ("flags", "frames"),
    [(HEAD | MSG, [b"", b"x"]), (STATUS | END, [b""]), (COMPRESSED, []), (MSG, []), (MSG, [b"x", b"y"])],
)
async def test_data_that_is_no_legal_unit_ends_its_call_with_internal(flags: int, frames: list[bytes]) -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        await caller.data(call_id, *frames, flags=flags)
        assert (await caller.receive()).code is Code.INTERNAL


async def test_requests_after_their_end_end_the_call() -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        call_id = await caller.call("M", b"x", flags=MSG | END)
        assert (await caller.receive()).frames == [b"x"]
        await caller.data(call_id, b"more")
        assert (await caller.receive()).code is Code.INTERNAL


async def test_a_type_that_nobody_knows_ends_the_call_it_names_and_is_dropped_otherwise() -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        await caller.send(pack(5, 0, 0, 12345))
        await caller.send(pack(5, 0, 0, call_id))
        unit = await caller.receive()
        assert (unit.call_id, unit.code) == (call_id, Code.UNIMPLEMENTED)


@pytest.mark.parametrize("kind", [DATA, RESET, CREDIT])
async def test_units_of_no_call_are_dropped(kind: int) -> None:
    async with serving() as (_, caller):
        await caller.send(pack(kind, 0, 0, 99))
        await caller.nothing_comes()


@pytest.mark.parametrize("frames", [[], [b"short"], [b"x" * 16], [b"", b"", b""]])
async def test_what_is_no_unit_is_dropped(frames: list[bytes]) -> None:
    async with serving() as (_, caller):
        await caller.dealer.send_multipart([b"", *frames])
        await caller.dealer.send_multipart([*frames, b"end"])
        await caller.nothing_comes()


@pytest.mark.parametrize(("flags", "frames"), [(END, []), (0, [])], ids=["in the CALL", "later"])
async def test_a_unary_method_called_without_a_request_is_unimplemented(flags: int, frames: list[bytes]) -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        call_id = await caller.call("M", flags=flags)
        if not flags:
            await caller.data(call_id, flags=END)
        assert (await caller.receive()).code is Code.UNIMPLEMENTED


async def test_a_unary_method_called_with_two_requests_is_unimplemented_and_not_run() -> None:
    async def never(request: bytes, context: Any) -> bytes:
        raise AssertionError("it is not run")

    async with serving(unary_unary={"M": never}) as (_, caller):
        call_id = await caller.call("M", b"x", flags=MSG)
        await caller.data(call_id, b"y", flags=MSG | END)
        assert (await caller.receive()).code is Code.UNIMPLEMENTED


@pytest.mark.parametrize("path", [b"", b"M", b"/test.Service/", b"/test.Service/N", b"/\xff"])
async def test_a_method_that_is_not_there_is_unimplemented(path: bytes) -> None:
    async with serving(unary_unary={"M": echo}) as (server, caller):
        await caller.send(pack(CALL, MSG | END, 0, 7), path, b"x")
        unit = await caller.receive()
        assert (unit.code, unit.details) == (Code.UNIMPLEMENTED, "Method not found!")
        assert not server._home.services.methods  # what strangers call is not remembered


async def test_a_path_that_is_too_long_is_refused() -> None:
    async with serving() as (_, caller):
        await caller.send(pack(CALL, MSG | END, 0, 7), b"/" * 1025, b"x")
        assert (await caller.receive()).code is Code.INTERNAL


async def test_a_head_that_is_too_large_is_resource_exhausted_with_both_numbers() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        unit = await caller.failure("M", b"x", head=Head(metadata=(("key", "x" * 20_000),)))
        assert unit.code is Code.RESOURCE_EXHAUSTED
        assert "16384" in unit.details


async def test_many_empty_entries_are_too_large_too() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        unit = await caller.failure("M", b"x", head=Head(metadata=(("k", ""),) * 600))
        assert unit.code is Code.RESOURCE_EXHAUSTED


async def test_pings_are_answered_with_their_value_ten_a_second(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as (_, caller):
        for cookie in range(20):
            await caller.send(pack(PING, 0, cookie, 0))
        assert [(await caller.receive())[:3] for _ in range(10)] == [(PONG, 0, cookie) for cookie in range(10)]
        await caller.nothing_comes()
        await trio.sleep(1)
        await caller.send(pack(PING, 0, 77, 0))
        assert (await caller.receive()).value == 77


async def test_a_request_that_cannot_be_decoded_is_internal() -> None:
    def refuse(data: bytes) -> Any:
        raise ValueError("no such message")

    handler: Any = grpc.unary_unary_rpc_method_handler(echo, request_deserializer=refuse)
    generic = grpc.method_handlers_generic_handler("test.Other", {"M": handler})
    async with serving(more=[generic]) as (_, caller):
        await caller.send(pack(CALL, MSG | END, 0, 7), b"/test.Other/M", b"x")
        unit = await caller.receive()
        assert unit.code is Code.INTERNAL
        assert "no such message" in unit.details


async def test_a_caller_may_reset_and_its_handler_is_cancelled() -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            assert context.cancelled()
            cancelled.set()
        raise AssertionError("it never wakes up")

    async with serving(unary_unary={"M": handler}) as (server, caller):
        call_id = await caller.call("M", b"x")
        await started.wait()
        await caller.reset(call_id)
        await cancelled.wait()
        await caller.nothing_comes()
        assert server._home.pool.busy == 0


async def test_a_peer_that_resets_too_many_calls_is_disconnected() -> None:
    async with serving(stream_stream={"M": forever}, options=[("trio_mq_grpc.max_resets_per_second", 20)]) as (
        server,
        caller,
    ):
        port = port_of(server)
        for _ in range(22):  # as many as are open at once may be given up besides, which is one
            await caller.reset(await caller.call("M", flags=0))
        await wait_until(lambda: port.dropped["disconnected"])
