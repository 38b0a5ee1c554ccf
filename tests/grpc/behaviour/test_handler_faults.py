"""Handlers and peers that do it wrong: each fault has its status, and nothing else on the connection notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

from .._kit import Ends, ends, fails_with, ids_of, receipt, wait_until

CODE = grpc.StatusCode
METHODS = ["Place", "Watch", "Upload", "Haggle"]


class CustomError(Exception):
    pass


def start(both: Ends, method: str, **fields: Any) -> Any:
    request = both.order(**fields)
    return getattr(both.stub, method)(request if method in ("Place", "Watch") else iter([request]))


async def still_works(both: Ends) -> None:
    """The connection and the server are as good as before."""
    assert (await both.stub.Forget(both.order())).ByteSize() == 0


async def forget(request: Any, context: Any) -> Any:
    from google.protobuf import empty_pb2

    return empty_pb2.Empty()


def methods(unary: Any, stream: Any) -> dict[str, Any]:
    return {"Place": unary, "Upload": unary, "Watch": stream, "Haggle": stream, "Forget": forget}


# --- exceptions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_an_exception_is_unknown_with_its_type_and_text(method: str, caplog: pytest.LogCaptureFixture) -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise CustomError("the text")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        raise CustomError("the text")
        yield

    async with ends(**methods(unary, stream)) as both:
        with caplog.at_level(logging.ERROR):
            call = start(both, method)
            assert await call.code() is CODE.UNKNOWN
            details = await call.details()
        assert details.startswith("Unexpected <class '")
        assert details.endswith("CustomError'>: the text")
        assert any(record.exc_info for record in caplog.records), "the traceback is logged"
        await still_works(both)


async def test_a_code_set_before_the_exception_is_kept() -> None:
    async def unary(request: Any, context: Any) -> Any:
        context.set_code(CODE.DATA_LOSS)
        raise CustomError("the text")

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(CODE.DATA_LOSS, details="the text"):
            await both.stub.Place(both.order())


async def test_messages_before_the_exception_arrive() -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="a")
        yield receipt(id="b")
        raise CustomError

    async with ends(**methods(None, stream)) as both:
        call = both.stub.Watch(both.order())
        assert [(await call.read()).id for _ in range(2)] == ["a", "b"]
        with fails_with(CODE.UNKNOWN):
            await call.read()
        await still_works(both)


@pytest.mark.parametrize("method", METHODS)
async def test_a_method_that_is_not_overridden_is_unimplemented(method: str) -> None:
    async with ends(Forget=forget) as both:
        assert await start(both, method).code() is CODE.UNIMPLEMENTED
        await still_works(both)


async def test_not_implemented_error_of_a_handler_is_unknown() -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise NotImplementedError("some day")

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(CODE.UNKNOWN, details="some day"):
            await both.stub.Place(both.order())


async def test_a_group_of_one_is_told_like_its_member() -> None:
    async def fail() -> None:
        raise CustomError("in a child")

    async def unary(request: Any, context: Any) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(CODE.UNKNOWN, details="CustomError'>: in a child"):
            await both.stub.Place(both.order())
        await still_works(both)


async def test_a_group_of_several_is_unknown() -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise ExceptionGroup("several", [CustomError("one"), ValueError("two")])

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(CODE.UNKNOWN):
            await both.stub.Place(both.order())
        await still_works(both)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, trio.EndOfChannel])
async def test_exceptions_that_mean_something_to_python_are_only_unknown(error: type[BaseException]) -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise error

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(CODE.UNKNOWN):
            await both.stub.Place(both.order(), timeout=5)
        await still_works(both)


class Stop(BaseException):
    """Nothing that `except Exception` sees."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (asyncio.CancelledError(), CODE.CANCELLED),
        (SystemExit(1), CODE.UNKNOWN),
        (GeneratorExit(), CODE.UNKNOWN),
        (Stop("now"), CODE.UNKNOWN),
        (BaseExceptionGroup("two", [Stop("a"), ValueError("b")]), CODE.UNKNOWN),
    ],
)
async def test_no_exception_of_a_handler_ends_the_server(error: BaseException, code: grpc.StatusCode) -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise error

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(code):
            await both.stub.Place(both.order(), timeout=5)
        await still_works(both)


async def test_an_rpc_error_of_a_nested_call_is_unknown() -> None:
    """It is the handler's to translate: passed on by itself, NOT_FOUND of another service would be a lie."""

    async def unary(request: Any, context: Any) -> Any:
        raise grpc.aio.AioRpcError(CODE.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "elsewhere")

    async with ends(Place=unary, Forget=forget) as both:
        with fails_with(CODE.UNKNOWN, details="elsewhere"):
            await both.stub.Place(both.order())


async def test_the_text_can_be_kept_from_clients() -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise CustomError("the password is 1234")

    options = [("trio_mq_grpc.hide_error_details", True)]
    async with ends(server={"options": options}, Place=unary) as both:
        with fails_with(CODE.UNKNOWN) as raised:
            await both.stub.Place(both.order())
        assert "1234" not in str(raised.value)
        assert "CustomError" not in str(raised.value)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, 7, "text", b"bytes", object()], ids=repr)
@pytest.mark.parametrize("method", METHODS)
async def test_a_result_that_is_no_message_is_unknown(method: str, result: Any) -> None:
    async def unary(request: Any, context: Any) -> Any:
        return result

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="good")
        yield result

    async with ends(**methods(unary, stream)) as both:
        call = start(both, method)
        with trio.fail_after(5):
            assert await call.code() is CODE.UNKNOWN
        await still_works(both)


async def test_a_reply_that_is_too_large_is_resource_exhausted_with_both_numbers() -> None:
    async def unary(request: Any, context: Any) -> Any:
        return receipt(note=bytes(5 << 20))

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="small")
        yield receipt(note=bytes(5 << 20))

    async with ends(**methods(unary, stream)) as both:
        for method in METHODS:
            call = start(both, method)
            assert await call.code() is CODE.RESOURCE_EXHAUSTED
            details = await call.details()
            assert "4194304" in details
            assert str(len(receipt(note=bytes(5 << 20)).SerializeToString())) in details
        await still_works(both)


async def test_a_request_that_is_too_large_is_resource_exhausted() -> None:
    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        return receipt(total=len(await ids_of(requests)))

    async with ends(Place=forget, Upload=upload, Forget=forget) as both:
        for method in ("Place", "Upload"):
            with fails_with(CODE.RESOURCE_EXHAUSTED, details="4194304"):
                await start(both, method, note=bytes(5 << 20))
        await still_works(both)


# --- serializers -----------------------------------------------------------------------------------------------------


async def test_a_request_that_cannot_be_decoded_is_internal() -> None:
    async def unary(request: Any, context: Any) -> Any:
        raise AssertionError("never called")

    async with ends(Place=unary, Upload=unary, Forget=forget) as both:
        with fails_with(CODE.INTERNAL):
            await both.channel.unary_unary("/shop.v1.Orders/Place")(b"\xff\xff\xff")
        await still_works(both)


async def test_a_request_in_a_stream_that_cannot_be_decoded_is_internal() -> None:
    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        return receipt(id="+".join(await ids_of(requests)))

    async with ends(Upload=upload, Forget=forget) as both:
        good = both.order(id="a").SerializeToString()
        with fails_with(CODE.INTERNAL):
            await both.channel.stream_unary("/shop.v1.Orders/Upload")(iter([good, b"\xff\xff\xff", good]))
        await still_works(both)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_reply_that_cannot_be_decoded_is_internal(kind: str) -> None:
    def refuse(data: bytes) -> Any:
        raise ValueError("no such format")

    async def unary(request: Any, context: Any) -> Any:
        return receipt()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt()

    async with ends(**methods(unary, stream)) as both:
        path = "/shop.v1.Orders/Place" if kind == "unary_unary" else "/shop.v1.Orders/Watch"
        call = getattr(both.channel, kind)(path, response_deserializer=refuse)(b"")
        with fails_with(CODE.INTERNAL):
            await (call if kind == "unary_unary" else call.read())
        await still_works(both)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_request_serializer_that_fails_raises_its_error_at_the_call(kind: str) -> None:
    """Grpcio logs it, sends an empty message and reports success."""
    called = False

    async def unary(request: Any, context: Any) -> Any:
        nonlocal called
        called = True

    def refuse(message: Any) -> bytes:
        raise CustomError("cannot be written")

    async with ends(Place=unary, Forget=forget) as both:
        with pytest.raises(CustomError, match="cannot be written"):
            getattr(both.channel, kind)("/shop.v1.Orders/Place", request_serializer=refuse)("x")
        await still_works(both)
        assert not called


async def test_a_request_serializer_that_fails_in_write_raises_its_error_there() -> None:
    def refuse(message: Any) -> bytes:
        raise CustomError("cannot be written")

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        return receipt(total=len(await ids_of(requests)))

    async with ends(Upload=upload, Forget=forget) as both:
        call = both.channel.stream_unary("/shop.v1.Orders/Upload", request_serializer=refuse)()
        with pytest.raises(CustomError, match="cannot be written"):
            await call.write("x")
        call.cancel()
        await still_works(both)


async def test_a_message_of_the_wrong_type_is_refused_at_the_call() -> None:
    async with ends(Place=forget) as both:
        with pytest.raises(TypeError):
            both.stub.Place("an order")


# --- the wrong number of messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("requests", [0, 2, 3])
async def test_a_unary_method_takes_exactly_one_request(requests: int) -> None:
    async def unary(request: Any, context: Any) -> Any:
        return receipt()

    async with ends(Place=unary, Forget=forget) as both:
        call = both.channel.stream_unary("/shop.v1.Orders/Place")(iter([b""] * requests))
        with trio.fail_after(5):
            assert await call.code() is CODE.UNIMPLEMENTED
        await still_works(both)


@pytest.mark.parametrize("requests", [0, 2])
async def test_a_server_streaming_method_takes_exactly_one_request(requests: int) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt()

    async with ends(Watch=stream, Forget=forget) as both:
        call = both.channel.stream_stream("/shop.v1.Orders/Watch")(iter([b""] * requests))
        with trio.fail_after(5):
            assert await call.code() is CODE.UNIMPLEMENTED
        await still_works(both)


@pytest.mark.parametrize("replies", [0, 2, 1000])
async def test_a_unary_client_of_a_streaming_method_gets_a_status_at_once(replies: int) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(replies):
            yield receipt()

    async with ends(Watch=stream, Forget=forget) as both:
        call = both.channel.unary_unary("/shop.v1.Orders/Watch")(b"")
        with trio.fail_after(5):
            assert await call.code() is CODE.INTERNAL
        await still_works(both)


async def test_an_endless_stream_to_a_unary_client_is_stopped() -> None:
    ended = trio.Event()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield receipt(note=bytes(1000))
        finally:
            ended.set()

    async with ends(Watch=stream, Forget=forget) as both:
        call = both.channel.unary_unary("/shop.v1.Orders/Watch")(b"")
        with trio.fail_after(5):
            assert await call.code() is CODE.INTERNAL
            await ended.wait()
        await still_works(both)


# --- cancellation of the handler's own -------------------------------------------------------------------------------


async def test_a_handler_that_leaks_its_own_cancellation_is_cancelled() -> None:
    """A generator abandoned inside its scope, or a scope left open: the Cancelled that escapes is nobody else's."""

    async def unary(request: Any, context: Any) -> Any:
        scope = trio.CancelScope()
        scope.cancel()
        caught: list[BaseException] = []
        with scope:
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                caught.append(error)
                raise
        raise caught[0]

    async with ends(Place=unary, Forget=forget) as both:
        with trio.fail_after(5):
            assert await both.stub.Place(both.order()).code() is CODE.CANCELLED
        await still_works(both)


async def test_a_handler_that_swallows_its_cancellation_and_then_fails_harms_nothing() -> None:
    ended = trio.Event()

    async def unary(request: Any, context: Any) -> Any:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            ended.set()
            raise CustomError("instead") from None  # noqa: ASYNC104  # that is the fault

    async with ends(Place=unary, Forget=forget) as both:
        call = both.stub.Place(both.order())
        await trio.testing.wait_all_tasks_blocked(0.01)
        call.cancel()
        await ended.wait()
        assert await call.code() is CODE.CANCELLED
        await still_works(both)


async def test_many_faults_at_once_harm_no_good_call() -> None:
    async def unary(request: Any, context: Any) -> Any:
        if request.id == "bad":
            raise CustomError
        return receipt(id=request.id)

    async with ends(Place=unary) as both:
        calls = [both.stub.Place(both.order(id="bad" if number % 2 else "good")) for number in range(200)]
        codes = [await call.code() for call in calls]
        assert codes == [CODE.OK, CODE.UNKNOWN] * 100


# --- generators that are suspended inside something ------------------------------------------------------------------


async def test_a_child_that_fails_while_its_generator_waits_for_room_fails_the_call_only() -> None:
    failing = trio.Event()

    async def fail() -> None:
        await failing.wait()
        raise CustomError("in a child")

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            while True:
                yield receipt(note=bytes(50_000))

    async with ends(Watch=stream, Forget=forget) as both:
        call = both.stub.Watch(both.order())
        await call.read()
        await trio.testing.wait_all_tasks_blocked(0.02)
        failing.set()
        await trio.testing.wait_all_tasks_blocked(0.02)
        with fails_with(CODE.UNKNOWN, details="in a child"):
            async for _ in _reads(call):
                pass
        await still_works(both)


async def test_a_scope_that_expires_while_its_generator_waits_for_room_ends_that_scope_only() -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        with trio.move_on_after(0.05):
            while True:
                yield receipt(note=bytes(50_000))
        yield receipt(id="after the scope")

    async with ends(Watch=stream, Forget=forget) as both:
        call = both.stub.Watch(both.order())
        await call.read()
        await trio.sleep(0.1)
        last = None
        async for message in _reads(call):
            last = message
        assert last is not None
        assert last.id == "after the scope"
        assert await call.code() is CODE.OK
        await still_works(both)


async def _reads(call: Any) -> AsyncIterator[Any]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


async def test_a_generator_is_closed_when_its_call_is_cancelled() -> None:
    closed = trio.Event()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while True:
                yield receipt(note=bytes(50_000))
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            closed.set()

    async with ends(Watch=stream, Forget=forget) as both:
        async with both.stub.Watch(both.order()) as call:
            await call.read()
            await trio.testing.wait_all_tasks_blocked(0.01)
        await closed.wait()
        await still_works(both)


async def test_a_generator_that_refuses_to_end_is_cut_off() -> None:
    stubborn = 0

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        nonlocal stubborn
        while stubborn < 3:
            try:
                yield receipt(note=bytes(50_000))
            except (trio.Cancelled, GeneratorExit):  # noqa: ASYNC103  # that is the fault
                stubborn += 1

    async with ends(Watch=stream, Forget=forget) as both:
        async with both.stub.Watch(both.order()) as call:
            await call.read()
        await wait_until(lambda: stubborn)
        await still_works(both)
