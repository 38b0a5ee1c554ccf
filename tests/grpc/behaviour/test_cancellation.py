"""Cancelling: from either side, at every await, and what it leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import ends, fails_with, ids_of, orders, receipt, wait_until

CODE = grpc.StatusCode
LOCALLY = "Locally cancelled by application!"


class Handlers:
    """Handlers of all four kinds that wait for ever, and count who began, was cancelled and ended."""

    def __init__(self) -> None:
        self.began = 0
        self.ended = 0
        self.cancelled = 0
        self.contexts: list[Any] = []

    async def _wait(self, context: Any) -> None:
        self.contexts.append(context)
        self.began += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.ended += 1

    def methods(self) -> dict[str, Any]:
        async def place(request: Any, context: Any) -> Any:
            await self._wait(context)

        async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
            yield receipt(id="first")
            await self._wait(context)

        async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
            await self._wait(context)

        async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            yield receipt(id="first")
            await self._wait(context)

        return {"Place": place, "Watch": watch, "Upload": upload, "Haggle": haggle}


METHODS = ["Place", "Watch", "Upload", "Haggle"]


def start(both: Any, method: str, **options: Any) -> Any:
    if method in ("Place", "Watch"):
        return getattr(both.stub, method)(both.order(), **options)
    return getattr(both.stub, method)(**options)


async def everything_arrived(both: Any) -> None:
    """Wait until the server has read what was sent so far: a call that nobody handles comes after it."""
    assert await both.stub.Forget(both.order()).code() is CODE.UNIMPLEMENTED


# --- cancel() --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_cancel_ends_the_call_here_and_the_handler_there(method: str, transport: str) -> None:
    handlers = Handlers()
    async with ends(transport=transport, **handlers.methods()) as both:
        call = start(both, method)
        await wait_until(lambda: handlers.began)
        assert call.cancel() is True
        assert call.cancel() is False
        assert (await call.code(), await call.details()) == (CODE.CANCELLED, LOCALLY)
        assert call.cancelled()
        assert call.done()
        await wait_until(lambda: handlers.cancelled and handlers.ended)


async def test_awaiting_a_cancelled_call_raises_an_rpc_error() -> None:
    """grpc.aio raises the loop's cancellation; under trio that belongs to scopes, and no scope was cancelled."""
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, "Place")
        call.cancel()
        with fails_with(CODE.CANCELLED, details=LOCALLY):
            await call


async def test_cancel_of_a_call_that_has_ended_says_no() -> None:
    async def place(request: Any, context: Any) -> Any:
        return receipt()

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await call
        assert call.cancel() is False
        assert not call.cancelled()
        assert await call.code() is CODE.OK


@pytest.mark.parametrize("method", METHODS)
async def test_cancelling_at_once_leaves_no_handler_behind(method: str) -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        calls = [start(both, method) for _ in range(20)]
        for call in calls:
            call.cancel()
        for call in calls:
            assert await call.code() is CODE.CANCELLED
        await everything_arrived(both)
        await wait_until(lambda: handlers.ended == handlers.began)


async def test_cancel_wakes_a_pending_read() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, "Haggle")
        await call.read()

        async def read() -> None:
            with fails_with(CODE.CANCELLED, details=LOCALLY):
                await call.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            call.cancel()


async def test_cancel_wakes_a_pending_async_for() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, "Watch")
        seen = []
        with fails_with(CODE.CANCELLED):
            async for message in call:
                seen.append(message.id)
                call.cancel()
        assert seen == ["first"]


async def test_cancel_wakes_a_write_that_waits_for_room() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, "Upload")

        async def write() -> None:
            with pytest.raises((grpc.aio.AioRpcError, grpc.aio.UsageError)):
                while True:
                    await call.write(both.order(note=bytes(100_000)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await wait_until(lambda: handlers.began)
            await trio.testing.wait_all_tasks_blocked(0.01)
            call.cancel()
        assert await call.code() is CODE.CANCELLED


async def test_a_call_cancelled_before_its_first_read_gives_no_message() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, "Watch")
        call.cancel()
        with fails_with(CODE.CANCELLED):
            await call.read()


async def test_cancel_after_the_last_message_ends_one_way_or_the_other() -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt()

    async with ends(Watch=watch) as both:
        call = both.stub.Watch(both.order())
        await call.read()
        call.cancel()
        assert await call.code() in (CODE.OK, CODE.CANCELLED)


async def test_cancelling_one_call_leaves_the_others_alone() -> None:
    released = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        await released.wait()
        return receipt(id=request.id)

    async with ends(Place=place) as both:
        calls = [both.stub.Place(both.order(id=str(number))) for number in range(20)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        for call in calls[::2]:
            call.cancel()
        released.set()
        assert [(await call).id for call in calls[1::2]] == [str(number) for number in range(1, 20, 2)]


# --- cancelled awaits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_cancelling_the_task_that_awaits_a_call_cancels_the_call(method: str) -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, method)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_consume, call, method)
                await wait_until(lambda: handlers.began)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert call.cancelled()
        assert await call.code() is CODE.CANCELLED
        await wait_until(lambda: handlers.cancelled)


async def _consume(call: Any, method: str) -> None:
    if method in ("Place", "Upload"):
        await call
    else:
        await ids_of(call)


async def test_a_cancelled_read_cancels_the_call_outside_its_block() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        call = start(both, "Haggle")
        await call.read()
        with trio.move_on_after(0.01):
            await call.read()
        assert await call.code() is CODE.CANCELLED


async def test_a_cancelled_read_inside_the_block_leaves_the_call_and_its_messages() -> None:
    go_on = trio.Event()

    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        yield receipt(id="1")
        await go_on.wait()
        yield receipt(id="2")
        yield receipt(id="3")

    async with ends(Haggle=haggle) as both:
        async with both.stub.Haggle() as call:
            assert (await call.read()).id == "1"
            for _ in range(3):
                with trio.move_on_after(0.01) as scope:
                    await call.read()
                assert scope.cancelled_caught
            go_on.set()
            assert [(await call.read()).id for _ in range(2)] == ["2", "3"]
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF


async def test_a_cancelled_write_inside_the_block_was_not_sent() -> None:
    go_on = trio.Event()

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        await go_on.wait()
        return receipt(id="+".join(await ids_of(requests)))

    async with ends(Upload=upload) as both:
        async with both.stub.Upload() as call:
            sent: list[str] = []
            while True:
                with trio.move_on_after(0.05) as scope:
                    await call.write(both.order(id=str(len(sent)), note=bytes(100_000)))
                    sent.append(str(len(sent)))
                if scope.cancelled_caught:
                    break
            go_on.set()
            await call.write(both.order(id="last"))
            await call.done_writing()
            assert (await call).id == "+".join([*sent, "last"])


@pytest.mark.parametrize(
    "question", ["code", "details", "initial_metadata", "trailing_metadata", "wait_for_connection"]
)
async def test_a_cancelled_question_does_not_cancel_the_call(question: str) -> None:
    released = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        await released.wait()
        return receipt(id="a")

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        with trio.move_on_after(0.01) as scope:
            await getattr(call, question)()
        assert scope.cancelled_caught
        assert not call.done()
        released.set()
        assert (await call).id == "a"


async def test_a_task_that_is_cancelled_already_sends_no_call() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        with trio.CancelScope() as scope:
            scope.cancel()
            await start(both, "Place")
        assert scope.cancelled_caught
        await everything_arrived(both)
        assert handlers.began == 0


# --- seen from the handler -------------------------------------------------------------------------------------------


async def test_the_context_shows_that_the_client_cancelled() -> None:
    seen: list[Any] = []

    async def place(request: Any, context: Any) -> Any:
        context.add_done_callback(seen.append)
        try:
            await trio.sleep_forever()
        finally:
            seen.append(context.cancelled())

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await trio.testing.wait_all_tasks_blocked(0.02)
        call.cancel()
        await wait_until(lambda: len(seen) == 2)
        assert True in seen


async def test_a_handler_that_swallows_cancellation_disturbs_nothing() -> None:
    swallowed = 0

    async def place(request: Any, context: Any) -> Any:
        nonlocal swallowed
        if request.id == "swallow":
            try:
                await trio.sleep_forever()
            except trio.Cancelled:  # noqa: ASYNC103  # what a careless handler does
                swallowed += 1
        return receipt(id=request.id)

    async with ends(Place=place) as both:
        for _ in range(5):
            call = both.stub.Place(both.order(id="swallow"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            call.cancel()
        await wait_until(lambda: swallowed == 5)
        assert [(await both.stub.Place(both.order(id=each))).id for each in "abc"] == list("abc")


async def test_a_handler_may_clean_up_in_a_shield() -> None:
    cleaned = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
                cleaned.set()

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await trio.testing.wait_all_tasks_blocked(0.01)
        call.cancel()
        assert await call.code() is CODE.CANCELLED
        await cleaned.wait()


async def test_cancelling_reaches_the_calls_that_the_handler_makes() -> None:
    handlers = Handlers()
    async with ends(Upload=handlers.methods()["Upload"]) as inner:

        async def place(request: Any, context: Any) -> Any:
            return await inner.stub.Upload(iter(orders(inner.stubs, "a")))

        async with ends(Place=place) as outer:
            call = outer.stub.Place(outer.order())
            await wait_until(lambda: handlers.began)
            call.cancel()
            await wait_until(lambda: handlers.cancelled)


async def test_a_handler_s_children_end_before_it_does() -> None:
    order: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append("child")

    async def place(request: Any, context: Any) -> Any:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                await trio.sleep_forever()
        finally:
            order.append("handler")

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await trio.testing.wait_all_tasks_blocked(0.01)
        call.cancel()
        await wait_until(lambda: len(order) == 2)
        assert order == ["child", "handler"]


async def test_a_channel_that_closes_cancels_its_handlers() -> None:
    handlers = Handlers()
    async with ends(**handlers.methods()) as both:
        async with trio_mq_grpc.insecure_channel(both.target) as channel:
            call = channel.unary_unary("/shop.v1.Orders/Place")(b"")
            await wait_until(lambda: handlers.began)
        assert await call.code() is CODE.CANCELLED
        await wait_until(lambda: handlers.cancelled)
