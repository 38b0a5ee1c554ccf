"""grpcio-status, as it comes: errors that carry messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from .._kit import ends, fails_with, receipt

CODE = grpc.StatusCode


def rich_status() -> status_pb2.Status:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.QuotaFailure(violations=[{"subject": "user:ada", "description": "too many"}]))
    return status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="no more today", details=[detail])


async def place(request: Any, context: Any) -> Any:
    match request.id:
        case "rich":
            await context.abort_with_status(rpc_status.to_status(rich_status()))
        case "poor":
            await context.abort(CODE.NOT_FOUND, "no such order")
        case "child":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(context.abort_with_status, rpc_status.to_status(rich_status()))
                await trio.sleep_forever()
    return receipt()


async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
    yield receipt()
    await context.abort_with_status(rpc_status.to_status(rich_status()))


@pytest.mark.parametrize("how", ["rich", "child"])
async def test_a_rich_status_comes_with_the_error(how: str, transport: str) -> None:
    async with ends(transport=transport, Place=place) as both:
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="no more today") as raised:
            await both.stub.Place(both.order(id=how))
        error: Any = raised.value  # its annotation wants a call; the error has what is needed
        assert rpc_status.from_call(error) == rich_status()


async def test_a_rich_status_can_be_had_of_the_call() -> None:
    async with ends(Place=place, Watch=watch) as both:
        unary = both.stub.Place(both.order(id="rich"))
        assert await rpc_status.aio.from_call(unary) == rich_status()
        stream = both.stub.Watch(both.order())
        await stream.read()
        assert await rpc_status.aio.from_call(stream) == rich_status()


async def test_a_poor_status_is_none() -> None:
    async with ends(Place=place) as both:
        for name in ("poor", "well"):
            assert await rpc_status.aio.from_call(both.stub.Place(both.order(id=name))) is None


async def test_a_plain_servicer_can_abort_with_a_rich_status() -> None:
    def plain(request: Any, context: Any) -> Any:
        context.abort_with_status(rpc_status.to_status(rich_status()))

    async with ends(Place=plain) as both:
        assert await rpc_status.aio.from_call(both.stub.Place(both.order())) == rich_status()
