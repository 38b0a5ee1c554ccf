"""Streams in the moments when something else happens to them: cancelled reads, own scopes, credit without end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import trio

from trio_mq_grpc._wire import END, MSG, STATUS, Announcement

from .._kit import ends, fails_with, receipt
from ..faults._raw_server import raw_server

CODE = grpc.StatusCode
PATH = "/test.Service/M"
STARVED = 2.0
"""Seconds of writing after which a test gives up waiting for others to get a turn."""


async def count(requests: AsyncIterator[Any], context: Any) -> Any:
    return receipt(id=str(len([request async for request in requests])))


async def never_read(requests: AsyncIterator[Any], context: Any) -> Any:
    await trio.sleep_forever()


class Pass(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(details, requests)


@pytest.mark.parametrize("style", ["async for", "read"])
async def test_a_read_that_is_cancelled_though_messages_are_there_cancels_the_call(style: str) -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        for number in range(200):
            await server.send_to_call(call_id, MSG, number, b"m")
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.CancelScope() as scope:
            scope.cancel()
            while style == "read":
                await call.read()
            async for _ in call:
                pass
        assert scope.cancelled_caught
        assert call.done()


async def test_a_request_iterator_s_own_scope_that_expires_at_its_yield_does_not_cancel_the_call() -> None:
    reading = trio.Event()

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        await reading.wait()
        return await count(requests, context)

    async with ends(Upload=upload) as both:

        async def requests() -> AsyncIterator[Any]:
            with trio.move_on_after(0.05) as scope:
                while True:
                    yield both.order(id="x" * 50_000)  # until there is no credit
            assert scope.cancelled_caught
            reading.set()
            yield both.order(id="last")

        with trio.fail_after(5):
            assert int((await both.stub.Upload(requests())).id) >= 2


@pytest.mark.parametrize("how", ["write", "async iterator", "iterator"])
async def test_writing_with_credit_without_end_lets_others_run(how: str) -> None:
    without_end = Announcement(window=None, max_message=None, encodings=(), fragments=False)
    async with raw_server(without_end) as (server, channel):
        warm = channel.unary_unary(PATH)(b"x")
        await server.send_to_call(await server.receive_call(), MSG | END | STATUS, 0, b"y", b"")
        await warm
        began = time.monotonic()

        def plain() -> Iterator[bytes]:
            while time.monotonic() - began < STARVED:
                yield b"x" * 100

        async def slow() -> AsyncIterator[bytes]:
            for request in plain():
                yield request

        with trio.move_on_after(0.05) as scope:
            if how == "write":
                call = channel.stream_unary(PATH)()
                for request in plain():
                    await call.write(request)
            else:
                await channel.stream_unary(PATH)(plain() if how == "iterator" else slow())
        assert scope.cancelled_caught
        assert time.monotonic() - began < STARVED


@pytest.mark.parametrize("how", ["iterator", "async iterator"])
async def test_a_request_of_an_iterator_above_the_client_s_limit_is_resource_exhausted(how: str) -> None:
    async with ends(channel={"options": [("grpc.max_send_message_length", 100)]}, Upload=count) as both:
        large = both.order(id="x" * 1000)

        async def one() -> AsyncIterator[Any]:
            yield large

        with trio.fail_after(2), fails_with(CODE.RESOURCE_EXHAUSTED, details="100"):
            await both.stub.Upload(iter([large]) if how == "iterator" else one())


async def test_a_cancelled_write_of_an_intercepted_call_cancels_it() -> None:
    async with ends(channel={"interceptors": [Pass()]}, Upload=never_read) as both:
        call = both.stub.Upload()
        with trio.move_on_after(0.05) as scope:
            while True:
                await call.write(both.order(id="x" * 10_000))
        assert scope.cancelled_caught
        with trio.fail_after(2):
            assert await call.code() is CODE.CANCELLED


async def test_the_writes_of_an_intercepted_call_keep_one_callback_for_its_end() -> None:
    async with ends(channel={"interceptors": [Pass()]}, Upload=count) as both:
        call = both.stub.Upload()
        for _ in range(300):
            await call.write(both.order())
        assert len(call._call._rpc.callbacks) < 10
        await call.done_writing()
        assert (await call).id == "300"


async def test_a_header_is_not_spent_on_a_request_that_is_no_message() -> None:
    def bytes_of(order: Any) -> Any:
        return None if order.id == "bad" else order.SerializeToString()

    async with ends(Upload=count) as both:
        read = both.stubs.orders.Receipt.FromString
        call = both.channel.stream_unary("/shop.v1.Orders/Upload", bytes_of, read)()
        await call.write(both.order(id="1"))
        with pytest.raises(TypeError):
            await call.write(both.order(id="bad"))
        await call.write(both.order(id="2"))
        await call.done_writing()
        assert (await call).id == "2"
