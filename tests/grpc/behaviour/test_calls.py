"""Client call objects: everything a stub's call can be asked, for all four kinds."""

from __future__ import annotations

import gc
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import Ends, ends, fails_with, ids_of, newest_stubs, orders, receipt, wait_until

CODE = grpc.StatusCode


async def place(request: Any, context: Any) -> Any:
    return receipt(id=request.id, total=request.quantity)


async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(request.quantity):
        yield receipt(id=f"{request.id}{number}")


async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
    return receipt(id="+".join(await ids_of(requests)))


async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield receipt(id=request.id)


HANDLERS: dict[str, Any] = {"Place": place, "Watch": watch, "Upload": upload, "Haggle": haggle}


# --- the four kinds --------------------------------------------------------------------------------------------------


async def test_a_unary_call_gives_its_message(transport: str) -> None:
    async with ends(transport=transport, **HANDLERS) as both:
        reply = await both.stub.Place(both.order(id="a", quantity=3))
        assert (reply.id, reply.total) == ("a", 3)


async def test_a_server_stream_gives_its_messages_in_order(transport: str) -> None:
    async with ends(transport=transport, **HANDLERS) as both:
        call = both.stub.Watch(both.order(id="w", quantity=1000))
        assert await ids_of(call) == [f"w{number}" for number in range(1000)]
        assert await call.code() is CODE.OK


async def test_a_client_stream_gives_one_message(transport: str) -> None:
    async with ends(transport=transport, **HANDLERS) as both:
        assert (await both.stub.Upload(iter(orders(both.stubs, "abc")))).id == "a+b+c"


async def test_a_bidirectional_stream_answers_while_it_is_written(transport: str) -> None:
    async with ends(transport=transport, **HANDLERS) as both:
        call = both.stub.Haggle()
        for each in "abc":
            await call.write(both.order(id=each))
            assert (await call.read()).id == each
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is CODE.OK


async def test_an_empty_message_is_a_message(transport: str) -> None:
    async with ends(transport=transport, **HANDLERS) as both:
        assert await both.stub.Place(both.order()) == receipt()
        call = both.stub.Haggle(iter(orders(both.stubs, ["", "", ""])))
        assert await ids_of(call) == ["", "", ""]


async def test_streams_without_messages_end_well() -> None:
    async with ends(**HANDLERS) as both:
        assert await ids_of(both.stub.Watch(both.order())) == []
        assert (await both.stub.Upload(iter(()))).id == ""
        assert await ids_of(both.stub.Haggle(iter(()))) == []


async def test_a_call_is_of_grpc_s_own_class_for_its_kind() -> None:
    async with ends(**HANDLERS) as both:
        one, many = both.order(id="a"), orders(both.stubs, "a")
        calls = {
            grpc.aio.UnaryUnaryCall: both.stub.Place(one),
            grpc.aio.UnaryStreamCall: both.stub.Watch(one),
            grpc.aio.StreamUnaryCall: both.stub.Upload(iter(many)),
            grpc.aio.StreamStreamCall: both.stub.Haggle(iter(many)),
        }
        for kind, call in calls.items():
            assert isinstance(call, kind)
            assert isinstance(call, grpc.aio.Call)
            assert await call.code() is CODE.OK


async def test_without_serializers_bytes_go_and_come_as_they_are() -> None:
    async with ends(**HANDLERS) as both:
        call = both.channel.unary_unary("/shop.v1.Orders/Place")
        data = both.order(id="raw", quantity=2).SerializeToString()
        assert receipt().FromString(await call(data)).id == "raw"


async def test_a_registered_method_is_no_matter() -> None:
    """Code generated since 1.63 passes it by keyword; Google's own wrappers do by position."""
    async with ends(**HANDLERS) as both:
        by_keyword = both.channel.unary_unary("/shop.v1.Orders/Place", _registered_method=True)
        by_position = both.channel.unary_unary("/shop.v1.Orders/Place", None, None, True)
        assert await by_keyword(b"") == await by_position(b"") == b""


# --- when a call starts, and what may be asked of it -----------------------------------------------------------------


async def test_a_call_starts_when_it_is_made_not_when_it_is_awaited() -> None:
    started = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        started.set()
        return receipt()

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await started.wait()
        assert await call == receipt()


async def test_the_response_is_kept_and_the_same_each_time() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Place(both.order(id="a"))
        assert await call is await call


async def test_a_failed_call_raises_a_new_error_each_time() -> None:
    async def place(request: Any, context: Any) -> Any:
        await context.abort(CODE.NOT_FOUND, "no such order", trailing_metadata=(("why", "sold"),))

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        errors = []
        for _ in range(2):
            with fails_with(CODE.NOT_FOUND, details="no such order") as raised:
                await call
            errors.append(raised.value)
        assert errors[0] is not errors[1]
        assert [list(error.trailing_metadata()) for error in errors] == [[("why", "sold")]] * 2
        assert isinstance(errors[0], grpc.RpcError)


async def test_several_tasks_may_await_one_unary_call() -> None:
    released = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        await released.wait()
        return receipt(id="a")

    got: list[Any] = []

    async def wait_for(call: Any) -> None:
        got.append(await call)

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait_for, call)
            await trio.testing.wait_all_tasks_blocked()
            released.set()
        assert [each.id for each in got] == ["a"] * 3


async def test_code_and_details_wait_for_the_end() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Place(both.order())
        assert not call.done()
        assert (await call.code(), await call.details()) == (CODE.OK, "")
        assert call.done()
        assert not call.cancelled()


async def test_initial_metadata_comes_before_the_end() -> None:
    released = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("key", "value"),))
        await released.wait()
        return receipt()

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        assert list(await call.initial_metadata()) == [("key", "value")]
        assert not call.done()
        released.set()
        await call
        assert list(await call.trailing_metadata()) == []


async def test_metadata_of_a_call_that_got_none_is_empty_but_there() -> None:
    async with ends() as both:
        call = both.stub.Place(both.order())
        assert await call.code() is CODE.UNIMPLEMENTED
        for metadata in (await call.initial_metadata(), await call.trailing_metadata()):
            assert isinstance(metadata, grpc.aio.Metadata)
            assert list(metadata) == []


async def test_time_remaining_is_none_without_a_deadline() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Place(both.order())
        assert call.time_remaining() is None
        await call
        timed = both.stub.Place(both.order(), timeout=50)
        assert 40 < timed.time_remaining() <= 50
        await timed


@pytest.mark.parametrize("method", ["Place", "Watch"])
async def test_done_callbacks_get_the_call(method: str) -> None:
    async with ends(**HANDLERS) as both:
        seen: list[Any] = []
        call = getattr(both.stub, method)(both.order(quantity=2))
        call.add_done_callback(seen.append)
        if method == "Watch":
            await ids_of(call)
        await call.code()
        await wait_until(lambda: seen)
        call.add_done_callback(seen.append)  # of a call that has ended: at once
        assert seen == [call, call]


async def test_a_done_callback_that_fails_is_logged_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: Any) -> None:
        raise RuntimeError("broken callback")

    async with ends(**HANDLERS) as both:
        seen: list[Any] = []
        with caplog.at_level(logging.ERROR):
            call = both.stub.Place(both.order())
            call.add_done_callback(fail)
            call.add_done_callback(seen.append)
            await call
            await wait_until(lambda: seen)
        assert any(
            "broken callback" in str(record.exc_info) or "broken callback" in record.getMessage()
            for record in caplog.records
        )


async def test_wait_for_connection_returns_once_a_call_goes_well() -> None:
    async with ends(**HANDLERS) as both:
        unary = both.stub.Place(both.order())
        await unary.wait_for_connection()
        assert (await unary).id == ""
        for call in (both.stub.Watch(both.order(quantity=1)), both.stub.Haggle(iter(orders(both.stubs, "a")))):
            await call.wait_for_connection()
            assert len(await ids_of(call)) == 1


async def test_wait_for_connection_raises_what_became_of_a_call_that_found_nobody() -> None:
    async with trio_mq_grpc.insecure_channel("tcp://127.0.0.1:1") as channel:
        call = channel.unary_stream("/shop.v1.Orders/Watch")(b"")
        with fails_with(CODE.UNAVAILABLE):
            await call.wait_for_connection()


async def test_debug_error_string_is_text() -> None:
    async with ends() as both:
        call = both.stub.Place(both.order())
        await call.code()
        assert isinstance(await call.debug_error_string(), str)


async def test_repr_shows_how_it_ended() -> None:
    async def place(request: Any, context: Any) -> Any:
        await context.abort(CODE.NOT_FOUND, "no such order")

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        assert "Place" in repr(call)
        await call.code()
        assert "NOT_FOUND" in repr(call)
        assert "no such order" in repr(call)


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_read_gives_eof_at_the_end_and_ever_after() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Watch(both.order(quantity=1))
        assert (await call.read()).id == "0"
        assert [await call.read() for _ in range(3)] == [grpc.aio.EOF] * 3


async def test_read_and_async_for_cannot_be_mixed() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Watch(both.order(quantity=5))
        await call.read()
        with pytest.raises(grpc.aio.UsageError):
            await anext(aiter(call))
        call.cancel()
        other = both.stub.Watch(both.order(quantity=5))
        await anext(aiter(other))
        with pytest.raises(grpc.aio.UsageError):
            await other.read()
        other.cancel()


async def test_messages_before_an_error_still_arrive() -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(20):
            yield receipt(id=str(number))
        await context.abort(CODE.DATA_LOSS, "and no further")

    async with ends(Watch=watch) as both:
        call = both.stub.Watch(both.order())
        seen = [(await call.read()).id for _ in range(20)]
        with fails_with(CODE.DATA_LOSS, details="and no further"):
            await call.read()
        assert seen == [str(number) for number in range(20)]


async def test_every_read_after_an_error_raises_it() -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt()
        raise ValueError("boom")

    async with ends(Watch=watch) as both:
        call = both.stub.Watch(both.order())
        await call.read()
        for _ in range(2):
            with fails_with(CODE.UNKNOWN, details="boom"):
                await call.read()


async def test_the_server_may_answer_before_it_is_asked() -> None:
    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        yield receipt(id="first")
        async for request in requests:
            yield receipt(id=request.id)

    async with ends(Haggle=haggle) as both:
        call = both.stub.Haggle()
        assert (await call.read()).id == "first"
        await call.write(both.order(id="second"))
        assert (await call.read()).id == "second"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_the_server_may_end_while_the_client_still_writes() -> None:
    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        return receipt(id=(await anext(requests)).id)

    async with ends(Upload=upload) as both:
        call = both.stub.Upload()
        await call.write(both.order(id="enough"))
        assert (await call).id == "enough"
        assert await call.code() is CODE.OK


async def test_a_second_reader_at_once_is_refused() -> None:
    async with ends(Haggle=haggle) as both:
        async with both.stub.Haggle() as call, trio.open_nursery() as nursery:
            nursery.start_soon(call.read)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await call.read()
            nursery.cancel_scope.cancel()


# --- writing ---------------------------------------------------------------------------------------------------------


async def test_done_writing_may_be_said_twice() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Upload()
        await call.write(both.order(id="a"))
        await call.done_writing()
        await call.done_writing()
        assert (await call).id == "a"


async def test_writing_after_done_writing_is_a_usage_error_and_a_closed_resource() -> None:
    async with ends(**HANDLERS) as both:
        call = both.stub.Upload()
        await call.done_writing()
        with pytest.raises(grpc.aio.UsageError) as raised:
            await call.write(both.order(id="a"))
        assert isinstance(raised.value, trio.ClosedResourceError)
        assert (await call).id == ""


async def test_writing_after_the_end_of_the_call_is_refused() -> None:
    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        yield receipt()

    async with ends(Haggle=haggle) as both:
        call = both.stub.Haggle()
        assert await call.code() is CODE.OK
        with pytest.raises(grpc.aio.UsageError):
            await call.write(both.order())


@pytest.mark.parametrize("method", ["Upload", "Haggle"])
async def test_writing_to_a_call_that_got_an_iterator_is_refused(method: str) -> None:
    async with ends(**HANDLERS) as both:
        call = getattr(both.stub, method)(iter(orders(both.stubs, "a")))
        with pytest.raises(grpc.aio.UsageError):
            await call.write(both.order())
        with pytest.raises(grpc.aio.UsageError):
            await call.done_writing()
        assert await call.code() is CODE.OK


@pytest.mark.parametrize("shape", ["list", "generator", "async generator"])
async def test_requests_may_come_from_any_iterable(shape: str) -> None:
    async with ends(**HANDLERS) as both:
        messages = orders(both.stubs, "abc")

        def sync_generator() -> Iterator[Any]:
            yield from messages

        async def async_generator() -> AsyncIterator[Any]:
            for message in messages:
                await trio.lowlevel.checkpoint()
                yield message

        given = {"list": messages, "generator": sync_generator(), "async generator": async_generator()}
        assert (await both.stub.Upload(given[shape])).id == "a+b+c"


@pytest.mark.parametrize("method", ["Upload", "Haggle"])
async def test_an_error_of_the_request_iterator_cancels_the_call_and_is_its_cause(method: str) -> None:
    def failing(first: Any) -> Iterator[Any]:
        yield first
        raise LookupError("no second order")

    async with ends(**HANDLERS) as both:
        call = getattr(both.stub, method)(failing(both.order(id="a")))
        with fails_with(CODE.CANCELLED) as raised:
            if method == "Upload":
                await call
            else:
                await ids_of(call)
        assert isinstance(raised.value.__cause__, LookupError)
        assert call.cancelled()


async def test_an_async_request_iterator_is_closed_when_the_call_is_cancelled() -> None:
    closed = trio.Event()

    async def endless() -> AsyncIterator[Any]:
        try:
            while True:
                await trio.sleep_forever()
                yield b""
        finally:
            closed.set()

    async with ends(**HANDLERS) as both:
        call = both.stub.Upload(endless())
        await trio.testing.wait_all_tasks_blocked()
        call.cancel()
        await closed.wait()


# --- leaving a call --------------------------------------------------------------------------------------------------


class Watched:
    """A handler that never answers, and tells when it begins and ends."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.ended = trio.Event()

    async def __call__(self, request: Any, context: Any) -> Any:
        self.began.set()
        try:
            await trio.sleep_forever()
        finally:
            self.ended.set()


async def unary_watched() -> tuple[Watched, Any]:
    watched = Watched()

    async def place(request: Any, context: Any) -> Any:
        await watched(request, context)

    return watched, place


async def test_leaving_the_block_of_a_call_cancels_it() -> None:
    watched, place = await unary_watched()
    async with ends(Place=place) as both:
        async with both.stub.Place(both.order()) as call:
            await watched.began.wait()
        assert call.cancelled()
        await watched.ended.wait()


async def test_the_block_of_a_call_that_has_ended_changes_nothing() -> None:
    async with ends(**HANDLERS) as both:
        async with both.stub.Watch(both.order(quantity=3)) as call:
            assert len(await ids_of(call)) == 3
        assert await call.code() is CODE.OK


async def test_a_stream_left_in_the_middle_ends_with_its_block() -> None:
    async with ends(**HANDLERS) as both:
        async with both.stub.Watch(both.order(quantity=10**9)) as call:
            async for _ in call:
                break
        assert await call.code() is CODE.CANCELLED


async def test_a_call_that_nobody_holds_is_cancelled_with_a_warning() -> None:
    ended = trio.Event()

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield receipt(note=bytes(1000))
        finally:
            ended.set()

    async def abandon(both: Ends) -> None:
        async for _ in both.stub.Watch(both.order()):
            break

    async with ends(Watch=watch) as both:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await abandon(both)
            gc.collect()
            await ended.wait()
        assert ResourceWarning in {warning.category for warning in caught}


@pytest.mark.parametrize("intercepted", [False, True])
async def test_writing_to_a_call_that_has_failed_raises_its_error(intercepted: bool) -> None:
    class Nothing(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            return await continuation(details, requests)

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
        interceptors = [Nothing()] if intercepted else None
        async with trio_mq_grpc.insecure_channel(target, interceptors=interceptors) as channel:
            await channel.wait_for_state_change(channel.get_state(try_to_connect=True))
            call = newest_stubs().orders_grpc.OrdersStub(channel).Haggle()
            for _ in range(2):
                with fails_with(CODE.UNAVAILABLE):
                    await call.write(newest_stubs().orders.Order())
