"""Compression, both ways: what may be compressed, what must not, and what cannot be read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from trio_mq_grpc._blocks import Head
from trio_mq_grpc._compression import decompress
from trio_mq_grpc._wire import COMPRESSED, END, HEAD, MSG, STATUS, Announcement

from ._raw import Code, echo, serving

READS_GZIP = Head(accept=("gzip",))
TEXT = b"text " * 200


async def compressed(request: bytes, context: Any) -> bytes:
    context.set_compression(grpc.Compression.Gzip)
    return TEXT


async def test_a_reply_is_compressed_for_who_can_read_that() -> None:
    async with serving(unary_unary={"M": compressed}) as (_, caller):
        await caller.call("M", b"", head=READS_GZIP)
        unit = await caller.receive()
        assert unit.flags == HEAD | MSG | COMPRESSED | STATUS | END
        assert unit.head.encoding == "gzip"
        assert decompress("gzip", unit.frames[1], None) == TEXT


async def test_what_a_peer_reads_may_be_in_its_announcement() -> None:
    ours = Announcement(epoch=1, encodings=("gzip",))
    async with serving(ours, unary_unary={"M": compressed}) as (_, caller):
        await caller.call("M", b"")
        assert (await caller.receive()).flags & COMPRESSED


@pytest.mark.parametrize("head", [None, Head(accept=("deflate",))])
async def test_a_reply_is_plain_for_who_cannot(head: Head | None) -> None:
    async with serving(unary_unary={"M": compressed}) as (_, caller):
        assert await caller.answer("M", b"", head=head) == TEXT


async def test_a_server_s_own_compression_is_the_default_for_every_message() -> None:
    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield TEXT
        context.disable_next_message_compression()
        yield TEXT
        yield TEXT

    async with serving(unary_stream={"M": stream}, compression=grpc.Compression.Deflate) as (_, caller):
        await caller.call("M", b"", head=Head(accept=("deflate",)))
        first, second, third = [await caller.receive() for _ in range(3)]
        assert first.flags == HEAD | MSG | COMPRESSED
        assert second.flags == MSG
        assert third.flags == MSG | COMPRESSED
        assert zlib.decompress(first.frames[1]) == second.frames[0] == zlib.decompress(third.frames[0]) == TEXT


async def test_compression_is_said_before_the_initial_metadata_or_never() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        await context.send_initial_metadata((("k", "v"),))
        with pytest.raises(RuntimeError):
            context.set_compression(grpc.Compression.Deflate)
        return TEXT

    async with serving(unary_unary={"M": handler}) as (_, caller):
        await caller.call("M", b"", head=READS_GZIP)
        unit = await caller.receive()
        assert (unit.flags, unit.head.encoding, unit.head.metadata) == (HEAD, "gzip", (("k", "v"),))
        assert (await caller.receive()).flags == MSG | COMPRESSED | STATUS | END


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_requests_may_be_compressed_and_the_handler_can_tell(encoding: str, compress: Any) -> None:
    seen: list[bool] = []

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        total = b""
        async for request in requests:
            seen.append(context.message_compressed)
            total += request
        return total

    async with serving(stream_unary={"M": handler}) as (_, caller):
        call_id = await caller.call("M", compress(b"one "), flags=MSG | COMPRESSED, head=Head(encoding=encoding))
        await caller.data(call_id, b"two ", flags=MSG)
        await caller.data(call_id, compress(b"three"), flags=MSG | COMPRESSED | END)
        assert (await caller.receive_end())[0] == [b"one two three"]
    assert seen == [True, False, True]


async def test_an_encoding_that_nobody_has_is_unimplemented_and_the_known_ones_are_named() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        unit = await caller.failure("M", b"x", head=Head(encoding="brotli"))
        assert unit.code is Code.UNIMPLEMENTED
        assert "gzip" in unit.details


@pytest.mark.parametrize(
    ("head", "payload", "code"),
    [
        (None, gzip.compress(b"x"), Code.INTERNAL),
        (Head(encoding="gzip"), b"not gzip", Code.INTERNAL),
        (Head(encoding="gzip"), gzip.compress(b"x") + gzip.compress(b"y"), Code.INTERNAL),
        (Head(encoding="gzip"), gzip.compress(bytes(2_000_000)), Code.RESOURCE_EXHAUSTED),
    ],
    ids=["no encoding", "damaged", "two members", "a bomb"],
)
async def test_what_cannot_be_inflated_ends_its_call(head: Head | None, payload: bytes, code: Any) -> None:
    options = [("grpc.max_receive_message_length", 1_000_000)]
    async with serving(unary_unary={"M": echo}, options=options) as (_, caller):
        unit = await caller.failure("M", payload, flags=MSG | COMPRESSED | END, head=head)
        assert unit.code is code
        assert await caller.answer("M", b"next") == b"next"
