"""The interop cases about compression, with an eye on the wire: the flag of each message, and who may set it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import trio

import trio_mq_grpc
from tests.interop._relay import Relay, relay_to

from .._kit import ends, fails_with, newest_stubs
from ..interop_service import interop_servicer
from ._cases import LARGE_REPLY, output_request, payload, service_stub, simple_request

CODE = grpc.StatusCode
GZIP = grpc.Compression.Gzip
PLAIN = grpc.Compression.NoCompression

HAS_MESSAGE, IS_COMPRESSED = 0x02, 0x10


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Any, Relay]]:
    """A channel to the interop service, through a relay that keeps every byte."""
    stubs = newest_stubs()
    servicer = interop_servicer(stubs, trio.sleep, lambda context: bool(context.message_compressed))
    async with ends((stubs.interop_grpc.add_TestServiceServicer_to_server, servicer), stubs=stubs) as both:
        async with relay_to(both.target) as relay, trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
            yield channel, relay


def messages(stream: bytes) -> Iterator[list[bytes]]:
    """The multipart messages of one direction of a ZMTP connection, without its greeting and its commands."""
    position, parts = 64, []
    while position + 2 <= len(stream):
        flags = stream[position]
        head = 9 if flags & 2 else 2
        size = int.from_bytes(stream[position + 1 : position + head], "big")
        body = stream[position + head : position + head + size]
        position += head + size
        if flags & 4:  # a command
            continue
        parts.append(body)
        if not flags & 1:
            yield parts
            parts = []


def compressed_flags(stream: bytes) -> list[bool]:
    """Of each message of an RPC in *stream*, whether it is compressed."""
    flags = [int.from_bytes(parts[1][2:4], "big") for parts in messages(stream)]
    return [bool(each & IS_COMPRESSED) for each in flags if each & HAS_MESSAGE]


# --- what the server sends -------------------------------------------------------------------------------------------


async def test_server_compressed_unary() -> None:
    stubs = newest_stubs()
    async with watched() as (channel, relay):
        for wanted in (True, False):
            request = simple_request(stubs, response_compressed=stubs.interop.BoolValue(value=wanted))
            assert len((await service_stub(stubs, channel).UnaryCall(request)).payload.body) == LARGE_REPLY
        assert compressed_flags(bytes(relay.connections[0].from_binder)) == [True, False]
        assert compressed_flags(bytes(relay.connections[0].from_connecter)) == [False, False]


async def test_server_compressed_streaming() -> None:
    pb = newest_stubs().interop
    wanted = [(31415, True), (92653, False)]
    parameters = [pb.ResponseParameters(size=size, compressed=pb.BoolValue(value=value)) for size, value in wanted]
    async with watched() as (channel, relay):
        request = pb.StreamingOutputCallRequest(response_parameters=parameters)
        call = service_stub(newest_stubs(), channel).StreamingOutputCall(request)
        assert [len(reply.payload.body) async for reply in call] == [31415, 92653]
        assert compressed_flags(bytes(relay.connections[0].from_binder)) == [True, False]


# --- what the client sends -------------------------------------------------------------------------------------------


async def test_client_compressed_unary() -> None:
    stubs = newest_stubs()
    yes, no = (stubs.interop.BoolValue(value=value) for value in (True, False))
    async with watched() as (channel, relay):
        stub = service_stub(stubs, channel)
        with fails_with(CODE.INVALID_ARGUMENT):  # the probe: the server does look
            await stub.UnaryCall(simple_request(stubs, expect_compressed=yes))
        reply = await stub.UnaryCall(simple_request(stubs, expect_compressed=yes), compression=GZIP)
        assert len(reply.payload.body) == LARGE_REPLY
        reply = await stub.UnaryCall(simple_request(stubs, expect_compressed=no), compression=PLAIN)
        assert len(reply.payload.body) == LARGE_REPLY
        assert compressed_flags(bytes(relay.connections[0].from_connecter)) == [False, True, False]


async def test_client_compressed_streaming() -> None:
    stubs = newest_stubs()
    pb = stubs.interop

    def request(size: int, *, expect: bool) -> Any:
        wanted = pb.BoolValue(value=expect)
        return pb.StreamingInputCallRequest(payload=payload(stubs, size), expect_compressed=wanted)

    async with watched() as (channel, _):
        stub = service_stub(stubs, channel)
        with fails_with(CODE.INVALID_ARGUMENT):
            await stub.StreamingInputCall(iter([request(27182, expect=True)]))
        call = stub.StreamingInputCall(
            iter([request(27182, expect=True), request(45904, expect=False)]), compression=GZIP
        )
        assert (await call).aggregated_payload_size == 73086


async def test_requests_are_compressed_for_a_server_that_says_it_can() -> None:
    stubs = newest_stubs()
    async with watched() as (channel, relay):
        call = service_stub(stubs, channel).FullDuplexCall(compression=grpc.Compression.Deflate)
        for _ in range(2):
            await call.write(output_request(stubs, 10, size=20_000))
            await call.read()
        await call.done_writing()
        assert await call.code() is CODE.OK
        assert compressed_flags(bytes(relay.connections[0].from_connecter)) == [True, True]
        assert len(relay.connections[0].from_connecter) < 20_000


async def test_nothing_is_compressed_that_nobody_asked_for() -> None:
    stubs = newest_stubs()
    async with watched() as (channel, relay):
        await service_stub(stubs, channel).UnaryCall(simple_request(stubs))
        connection = relay.connections[0]
        assert compressed_flags(bytes(connection.from_connecter)) == [False]
        assert compressed_flags(bytes(connection.from_binder)) == [False]
