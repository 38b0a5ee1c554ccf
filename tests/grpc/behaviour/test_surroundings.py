"""What is cancelled around a channel or a call, and what fails while it is: it reaches nobody whom it is not about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import Ends, ends, fails_with, receipt

CODE = grpc.StatusCode
LOCALLY = "Locally cancelled by application!"
MANY = 20
"""Trio wakes tasks that are cancelled together in any order, so once proves nothing."""


async def place(request: Any, context: Any) -> Any:
    if request.id == "slow":
        await trio.sleep_forever()
    return receipt(id=request.id)


async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
    yield receipt(id=request.id)
    await trio.sleep_forever()


async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
    async for _ in requests:
        pass
    return receipt(id="all")


HANDLERS: dict[str, Any] = {"Place": place, "Watch": watch, "Upload": upload}


async def begin_some(both: Ends, channel: Any) -> list[Any]:
    """Calls that do not end by themselves, on *channel*, under way."""
    stub = both.stubs.orders_grpc.OrdersStub(channel)
    watched = stub.Watch(both.order(id="slow"))
    await watched.read()
    return [stub.Place(both.order(id="slow")), watched, stub.Place(both.order(id="slow"))]


async def codes_of(calls: list[Any]) -> set[grpc.StatusCode]:
    with trio.fail_after(1):  # noqa: ASYNC100  # the comprehension awaits
        return {await call.code() for call in calls}


# --- the channel -----------------------------------------------------------------------------------------------------


async def test_a_channel_that_is_cancelled_from_around_it_ends_its_calls_and_raises_nothing_else() -> None:
    async with ends(**HANDLERS) as both:
        for _ in range(MANY):
            calls = []
            with trio.CancelScope() as scope:
                async with trio_mq_grpc.insecure_channel(both.target) as channel:
                    calls = await begin_some(both, channel)
                    scope.cancel()
                    await trio.sleep_forever()
            assert await codes_of(calls) == {CODE.CANCELLED}


async def test_a_nursery_that_owns_a_channel_and_is_cancelled_ends_its_calls() -> None:
    async with ends(**HANDLERS) as both:
        for _ in range(MANY):
            calls = []
            async with trio.open_nursery() as nursery:
                channel = await nursery.start(trio_mq_grpc.insecure_channel(both.target).serve)
                calls = await begin_some(both, channel)
                nursery.cancel_scope.cancel()
            assert await codes_of(calls) == {CODE.CANCELLED}


async def test_a_call_in_a_shield_does_not_wait_for_a_channel_that_was_cancelled_around_it() -> None:
    async with ends(**HANDLERS) as both:
        for _ in range(MANY):
            with trio.CancelScope() as scope:
                async with trio_mq_grpc.insecure_channel(both.target) as channel:
                    stub = both.stubs.orders_grpc.OrdersStub(channel)
                    await stub.Place(both.order())
                    scope.cancel()
                    with trio.fail_after(1, shield=True):
                        await trio.testing.wait_all_tasks_blocked()
                        with pytest.raises(grpc.aio.UsageError, match="closed"):
                            await stub.Place(both.order(), wait_for_ready=True)


@pytest.mark.parametrize(
    "target", ["tcp://localhost", "tcp://localhost:99999", "tcp://*:5555", "nothing://x", "udp://x:5"]
)
def test_an_endpoint_that_no_channel_can_have_is_refused_when_it_is_given(target: str) -> None:
    with pytest.raises(ValueError, match=r"^'"):
        trio_mq_grpc.insecure_channel(target)


# --- a call ----------------------------------------------------------------------------------------------------------


async def test_a_call_that_was_made_in_a_cancelled_scope_does_not_keep_those_who_await_it_outside() -> None:
    async with ends(**HANDLERS) as both:
        with trio.CancelScope() as scope:  # noqa: ASYNC100  # that nothing is awaited in it is the point
            scope.cancel()
            calls = [both.stub.Place(both.order()), both.stub.Watch(both.order()), both.stub.Upload()]
        assert await codes_of(calls) == {CODE.CANCELLED}
        with fails_with(CODE.CANCELLED, details=LOCALLY):
            await calls[0]


# --- the user's own code ---------------------------------------------------------------------------------------------


async def fails_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise LookupError("on the way out")


async def nursery_that_fails_when_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_when_cancelled)
        await trio.sleep_forever()


OUTCOMES = pytest.mark.parametrize("wait", [fails_when_cancelled, nursery_that_fails_when_cancelled])


@OUTCOMES
async def test_requests_that_fail_while_they_are_cancelled_harm_no_other_call(wait: Any) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield both.order()
        await wait()

    async with ends(**HANDLERS) as both:
        call = both.stub.Upload(requests())
        await trio.testing.wait_all_tasks_blocked()
        call.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with fails_with(CODE.CANCELLED):
            await call
        assert (await both.stub.Place(both.order(id="a"))).id == "a"


@OUTCOMES
async def test_an_interceptor_that_fails_while_it_is_cancelled_harms_no_other_call(wait: Any) -> None:
    class Waits(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            if request.id == "slow":
                await wait()
            return await continuation(details, request)

    async with ends(channel={"interceptors": [Waits()]}, **HANDLERS) as both:
        call = both.stub.Place(both.order(id="slow"))
        await trio.testing.wait_all_tasks_blocked()
        call.cancel()
        with pytest.RaisesGroup(LookupError, allow_unwrapped=True):
            await call
        assert (await both.stub.Place(both.order(id="a"))).id == "a"


@OUTCOMES
async def test_an_interceptor_s_iterator_that_fails_while_it_is_cancelled_harms_no_other_call(wait: Any) -> None:
    class Replaces(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            async def responses() -> AsyncIterator[Any]:
                yield receipt(id="mine")
                await wait()

            return responses()

    async with ends(channel={"interceptors": [Replaces()]}, **HANDLERS) as both:
        call = both.stub.Watch(both.order())
        assert (await call.read()).id == "mine"
        await trio.testing.wait_all_tasks_blocked()
        call.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await both.stub.Place(both.order(id="a"))).id == "a"


@OUTCOMES
async def test_a_handler_that_fails_while_it_is_cancelled_harms_no_other_call(wait: Any) -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="first")
        await wait()

    async with ends(Place=place, Watch=watch) as both:
        call = both.stub.Watch(both.order())
        await call.read()
        call.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await both.stub.Place(both.order(id="a"))).id == "a"
