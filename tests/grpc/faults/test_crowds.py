"""Thousands of calls that meet the same fate at once: nothing breaks, and nobody else on the channel notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import trio

import trio_mq_grpc

from .._kit import ends, receipt, wait_until
from ._raw_server import raw_server

CODE = grpc.StatusCode
MANY = 3000
NOBODY = "tcp://127.0.0.1:1"


async def test_many_calls_find_nobody() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel:
        method = channel.unary_unary("/test.Service/M")
        calls = [method(b"") for _ in range(MANY)]
        with trio.fail_after(5):
            for call in calls:
                assert await call.code() is CODE.UNAVAILABLE


async def test_many_calls_to_one_that_takes_one_at_a_time_find_nobody() -> None:
    options = [("trio_mq_grpc.strict_reqrep", 1)]
    async with trio_mq_grpc.insecure_channel(NOBODY, options=options) as channel:
        method = channel.unary_unary("/test.Service/M")
        calls = [method(b"", timeout=30) for _ in range(MANY)]
        with trio.fail_after(5):
            for call in calls:
                assert await call.code() is CODE.UNAVAILABLE


async def test_many_calls_that_wait_for_a_peer_are_given_up_without_a_look_at_all_the_others() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel:
        method = channel.unary_unary("/test.Service/M")
        calls = [method(b"", wait_for_ready=True) for _ in range(MANY)]
        looks = 0
        pick = channel._dispatcher._pick

        def counted() -> Any:
            nonlocal looks
            looks += 1
            return pick()

        channel._dispatcher._pick = counted  # type: ignore[method-assign]  # counted, not changed
        for call in calls:
            assert call.cancel()
        assert looks <= MANY


@pytest.mark.parametrize("how", ["deadline", "scope", "cancel"])
async def test_many_calls_that_end_at_once_leave_the_others_of_the_channel_alone(how: str) -> None:
    async def place(request: Any, context: Any) -> Any:
        await trio.sleep_forever()

    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield receipt(id=request.id)

    async with ends(Place=place, Haggle=haggle) as both:
        other = both.stub.Haggle()
        await other.write(both.order(id="1"))
        assert (await other.read()).id == "1"
        calls = [both.stub.Place(both.order(), timeout=1.5 if how == "deadline" else None) for _ in range(MANY)]
        await wait_until(lambda: both.server._home.pool.busy == MANY + 1)
        if how == "cancel":
            for call in calls:
                call.cancel()
        elif how == "scope":
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(_await, call)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert {await call.code() for call in calls} <= {CODE.CANCELLED, CODE.DEADLINE_EXCEEDED}
        await other.write(both.order(id="2"))
        assert (await other.read()).id == "2"


async def _await(call: Any) -> None:
    await call


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
@pytest.mark.parametrize("bad", [None, 5, "text", [b"a"]], ids=lambda bad: type(bad).__name__)
async def test_a_serializer_that_gives_no_bytes_is_a_type_error_at_the_call_and_leaves_nothing(
    connected: bool, kind: str, bad: Any
) -> None:
    async with raw_server() as (_, channel):
        if connected:
            await channel.channel_ready()
        with pytest.raises(TypeError):
            getattr(channel, kind)("/test.Service/M", lambda message: bad)(b"x")
        assert not channel._dispatcher.active
        assert not channel._dispatcher.subchannels[0].calls
