"""Interceptors of both sides, as grpc.aio defines them."""

from __future__ import annotations

import contextvars
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.experimental
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import ends, fails_with, ids_of, orders, receipt, wait_until

CODE = grpc.StatusCode


async def place(request: Any, context: Any) -> Any:
    found = [str(value) for key, value in context.invocation_metadata() if key == "trail"]
    return receipt(id=request.id, note="".join(found).encode())


async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(request.quantity):
        yield receipt(id=str(number))


async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
    return receipt(id="+".join(await ids_of(requests)))


async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield receipt(id=request.id)


HANDLERS: dict[str, Any] = {"Place": place, "Watch": watch, "Upload": upload, "Haggle": haggle}


def with_metadata(details: Any, *entries: tuple[str, str]) -> Any:
    return details._replace(metadata=[*(details.metadata or ()), *entries])


class Everywhere(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """All four kinds in one class, of which grpcio registers the first only."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.details: list[Any] = []
        self.calls: list[Any] = []

    async def _pass_on(self, continuation: Any, details: Any, request: Any) -> Any:
        self.log.append(f"{self.name} in")
        self.details.append(details)
        call = await continuation(with_metadata(details, ("trail", self.name)), request)
        self.log.append(f"{self.name} out")
        self.calls.append(call)
        return call

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._pass_on(continuation, client_call_details, request)

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._pass_on(continuation, client_call_details, request)

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._pass_on(continuation, client_call_details, request_iterator)

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._pass_on(continuation, client_call_details, request_iterator)


# --- the client's ----------------------------------------------------------------------------------------------------


async def test_the_first_interceptor_is_the_outermost() -> None:
    log: list[str] = []
    interceptors = [Everywhere("a", log), Everywhere("b", log)]
    async with ends(channel={"interceptors": interceptors}, **HANDLERS) as both:
        reply = await both.stub.Place(both.order(id="x"))
        assert (reply.id, reply.note) == ("x", b"ab")
        assert log == ["a in", "b in", "b out", "a out"]


async def test_a_class_of_several_kinds_is_used_for_all_of_them() -> None:
    log: list[str] = []
    async with ends(channel={"interceptors": [Everywhere("a", log)]}, **HANDLERS) as both:
        await both.stub.Place(both.order())
        assert await ids_of(both.stub.Watch(both.order(quantity=3))) == ["0", "1", "2"]
        assert (await both.stub.Upload(iter(orders(both.stubs, "ab")))).id == "a+b"
        assert await ids_of(both.stub.Haggle(iter(orders(both.stubs, "ab")))) == ["a", "b"]
        assert log.count("a in") == 4


async def test_the_method_is_bytes_as_in_grpcio() -> None:
    interceptor = Everywhere("a", [])
    async with ends(channel={"interceptors": [interceptor]}, **HANDLERS) as both:
        await both.stub.Place(both.order(), timeout=10, metadata=(("key", "value"),), wait_for_ready=True)
        (details,) = interceptor.details
        assert isinstance(details, grpc.aio.ClientCallDetails)
        method: Any = details.method  # whose annotation says str
        assert method == b"/shop.v1.Orders/Place"
        assert details.timeout == pytest.approx(10, abs=1)
        assert [tuple(entry) for entry in details.metadata or ()] == [("key", "value")]
        assert details.wait_for_ready is True


async def test_what_an_interceptor_gets_back_is_a_live_call() -> None:
    interceptor = Everywhere("a", [])
    async with ends(channel={"interceptors": [interceptor]}, **HANDLERS) as both:
        await both.stub.Place(both.order())
        (call,) = interceptor.calls
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        assert await call.code() is CODE.OK


async def test_an_interceptor_may_change_where_a_call_goes() -> None:
    class Redirect(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details._replace(method="/shop.v1.Orders/Nowhere"), request)

    async with ends(channel={"interceptors": [Redirect()]}, **HANDLERS) as both:
        with fails_with(CODE.UNIMPLEMENTED):
            await both.stub.Place(both.order())


async def test_the_service_config_of_the_method_that_an_interceptor_has_chosen_holds() -> None:
    class Elsewhere(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details._replace(method="/shop.v1.Orders/Nowhere"), request)

    limits = {"name": [{"service": "shop.v1.Orders", "method": "Nowhere"}], "maxRequestMessageBytes": 1}
    options = [("grpc.service_config", json.dumps({"methodConfig": [limits]}))]
    async with ends(channel={"interceptors": [Elsewhere()], "options": options}, **HANDLERS) as both:
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="Sent message larger than max"):
            await both.stub.Place(both.order(id="a"))


async def test_an_interceptor_may_set_a_deadline() -> None:
    class Hurry(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details._replace(timeout=0.05), request)

    async def never(request: Any, context: Any) -> Any:
        await trio.sleep_forever()

    async with ends(channel={"interceptors": [Hurry()]}, Place=never) as both:
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await both.stub.Place(both.order())


async def test_an_interceptor_may_answer_by_itself() -> None:
    class Cache(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return receipt(id="from the cache")

    async with ends(channel={"interceptors": [Cache()]}) as both:
        call = both.stub.Place(both.order())
        assert (await call).id == "from the cache"
        assert (await call).id == "from the cache"
        assert await call.code() is CODE.OK
        assert call.done()
        assert not call.cancelled()


async def test_an_interceptor_may_replace_a_stream_by_any_iterator() -> None:
    class Double(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            call = await continuation(details, request)

            async def twice() -> AsyncIterator[Any]:
                async for message in call:
                    yield message
                    yield message

            return twice()

    async with ends(channel={"interceptors": [Double()]}, **HANDLERS) as both:
        call = both.stub.Watch(both.order(quantity=2))
        assert await ids_of(call) == ["0", "0", "1", "1"]
        assert await call.code() is CODE.OK


async def test_an_interceptor_may_change_the_requests_of_a_stream() -> None:
    class Shout(grpc.aio.StreamUnaryClientInterceptor, grpc.aio.StreamStreamClientInterceptor):
        async def _shout(self, continuation: Any, details: Any, requests: Any) -> Any:
            async def louder() -> AsyncIterator[Any]:
                async for request in requests:
                    request.id = request.id.upper()
                    yield request

            return await continuation(details, louder())

        async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
            return await self._shout(continuation, details, requests)

        async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            return await self._shout(continuation, details, requests)

    async with ends(channel={"interceptors": [Shout()]}, **HANDLERS) as both:

        async def given() -> AsyncIterator[Any]:
            for request in orders(both.stubs, "ab"):
                yield request

        assert (await both.stub.Upload(given())).id == "A+B"
        assert await ids_of(both.stub.Haggle(given())) == ["A", "B"]
        by_hand = both.stub.Haggle()
        await by_hand.write(both.order(id="c"))
        assert (await by_hand.read()).id == "C"
        await by_hand.done_writing()
        assert await by_hand.read() is grpc.aio.EOF


async def test_an_interceptor_may_call_again() -> None:
    class Retry(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            for _ in range(3):
                call = await continuation(details, request)
                if await call.code() is CODE.OK:
                    break
            return call

    attempts = 0

    async def fails_twice(request: Any, context: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            await context.abort(CODE.ABORTED, "again, please")
        return receipt(id="third time")

    async with ends(channel={"interceptors": [Retry()]}, Place=fails_twice) as both:
        assert (await both.stub.Place(both.order())).id == "third time"
        assert attempts == 3


async def test_an_error_of_an_interceptor_comes_out_where_the_call_is_awaited() -> None:
    class Broken(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            raise LookupError("no token")

    async with ends(channel={"interceptors": [Broken()]}, **HANDLERS) as both:
        with pytest.raises(LookupError, match="no token"):
            await both.stub.Place(both.order())
        assert await ids_of(both.stub.Watch(both.order(quantity=1))) == ["0"]


async def test_an_rpc_error_passes_through_interceptors() -> None:
    async def refuse(request: Any, context: Any) -> Any:
        await context.abort(CODE.NOT_FOUND, "no such order", (("why", "sold"),))

    log: list[str] = []
    interceptors = [Everywhere("a", log), Everywhere("b", log)]
    async with ends(channel={"interceptors": interceptors}, Place=refuse) as both:
        call = both.stub.Place(both.order())
        with fails_with(CODE.NOT_FOUND, details="no such order"):
            await call
        assert await call.code() is CODE.NOT_FOUND
        assert await call.details() == "no such order"
        assert list(await call.trailing_metadata()) == [("why", "sold")]


@pytest.mark.parametrize("method", ["Place", "Watch", "Upload", "Haggle"])
async def test_every_question_can_be_asked_of_an_intercepted_call(method: str) -> None:
    async with ends(channel={"interceptors": [Everywhere("a", [])]}, **HANDLERS) as both:
        argument = both.order() if method in ("Place", "Watch") else iter(orders(both.stubs, "a"))
        call = getattr(both.stub, method)(argument, timeout=20)
        seen: list[Any] = []
        call.add_done_callback(seen.append)
        remaining = call.time_remaining()
        assert remaining is not None
        assert 15 < remaining <= 20
        if method in ("Watch", "Haggle"):
            await ids_of(call)
        else:
            await call
        assert (await call.code(), await call.details()) == (CODE.OK, "")
        assert list(await call.initial_metadata()) == list(await call.trailing_metadata()) == []
        assert isinstance(await call.debug_error_string(), str)
        await call.wait_for_connection()
        assert call.done()
        assert not call.cancelled()
        assert call.cancel() is False
        await wait_until(lambda: seen)
        assert seen == [call]


class Endless:
    def __init__(self) -> None:
        self.began = 0
        self.cancelled = 0

    async def place(self, request: Any, context: Any) -> Any:
        self.began += 1
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled += 1


@pytest.mark.parametrize("how", ["cancel", "awaiting task"])
async def test_cancelling_the_outer_call_cancels_every_call_inside(how: str) -> None:
    class Twice(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            await continuation(details, request)  # started, and forgotten
            return await continuation(details, request)

    endless = Endless()
    async with ends(channel={"interceptors": [Twice(), Everywhere("b", [])]}, Place=endless.place) as both:
        call = both.stub.Place(both.order())
        if how == "cancel":
            await wait_until(lambda: endless.began == 2)
            assert call.cancel()
        else:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_await, call)
                    await wait_until(lambda: endless.began == 2)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
        assert await call.code() is CODE.CANCELLED
        assert call.cancelled()
        await wait_until(lambda: endless.cancelled == 2)


async def _await(call: Any) -> None:
    await call


async def test_an_interceptor_that_waits_is_cancelled_with_its_call() -> None:
    cleaned = trio.Event()

    class Waits(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            try:
                await trio.sleep_forever()
            finally:
                cleaned.set()

    async with ends(channel={"interceptors": [Waits()]}, **HANDLERS) as both:
        call = both.stub.Place(both.order())
        await trio.testing.wait_all_tasks_blocked()
        call.cancel()
        await cleaned.wait()
        with fails_with(CODE.CANCELLED):
            await call


async def test_an_interceptor_sees_the_context_variables_of_its_caller() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []

    class Reads(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(user.get())
            return await continuation(details, request)

    async with ends(channel={"interceptors": [Reads()]}, **HANDLERS) as both:
        user.set("ada")
        await both.stub.Place(both.order())
        assert seen == ["ada"]


# --- the server's ----------------------------------------------------------------------------------------------------


class Log(grpc.aio.ServerInterceptor):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.log.append(f"{self.name} {handler_call_details.method}")
        return await continuation(handler_call_details)


async def test_server_interceptors_run_in_order() -> None:
    log: list[str] = []
    async with ends(server={"interceptors": [Log("a", log), Log("b", log)]}, **HANDLERS) as both:
        await both.stub.Place(both.order())
        assert log == ["a /shop.v1.Orders/Place", "b /shop.v1.Orders/Place"]


@pytest.mark.parametrize("method", ["Place", "Watch", "Upload", "Haggle"])
async def test_a_server_interceptor_sees_every_kind_and_its_metadata(method: str) -> None:
    seen: list[Any] = []

    class Sees(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            seen.extend(handler_call_details.invocation_metadata)
            handler = await continuation(handler_call_details)
            assert (handler.request_streaming, handler.response_streaming) == {
                "Place": (False, False),
                "Watch": (False, True),
                "Upload": (True, False),
                "Haggle": (True, True),
            }[method]
            return handler

    async with ends(server={"interceptors": [Sees()]}, **HANDLERS) as both:
        argument = both.order() if method in ("Place", "Watch") else iter(())
        call = getattr(both.stub, method)(argument, metadata=(("key", "value"),))
        assert await call.code() is CODE.OK
        assert [entry.value for entry in seen if entry.key == "key"] == ["value"]


async def test_a_server_interceptor_may_refuse() -> None:
    async def refuse(request: Any, context: Any) -> Any:
        await context.abort(CODE.UNAUTHENTICATED, "who are you?")

    class Guard(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            if ("token", "good") in [tuple(entry) for entry in handler_call_details.invocation_metadata]:
                return await continuation(handler_call_details)
            return grpc.unary_unary_rpc_method_handler(refuse)

    async with ends(server={"interceptors": [Guard()]}, **HANDLERS) as both:
        with fails_with(CODE.UNAUTHENTICATED, details="who are you?"):
            await both.stub.Place(both.order())
        assert (await both.stub.Place(both.order(id="a"), metadata=(("token", "good"),))).id == "a"


async def test_a_server_interceptor_that_finds_no_handler_says_unimplemented() -> None:
    class Hides(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            return None

    async with ends(server={"interceptors": [Hides()]}, **HANDLERS) as both:
        with fails_with(CODE.UNIMPLEMENTED):
            await both.stub.Place(both.order())


async def test_a_server_interceptor_that_fails_is_unknown_and_harms_nothing() -> None:
    class Broken(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            if handler_call_details.method.endswith("Place"):
                raise LookupError("no database")
            return await continuation(handler_call_details)

    async with ends(server={"interceptors": [Broken()]}, **HANDLERS) as both:
        with fails_with(CODE.UNKNOWN):
            await both.stub.Place(both.order())
        assert await ids_of(both.stub.Watch(both.order(quantity=1))) == ["0"]


async def test_a_server_interceptor_may_wrap_the_behaviour() -> None:
    """As everybody does it who wants to see messages: with grpc.experimental's helper."""

    class Wraps(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            def wrapper(behavior: Any) -> Any:
                async def wrapped(request: Any, context: Any) -> Any:
                    reply = await behavior(request, context)
                    reply.id += " and seen"
                    return reply

                return wrapped

            handler = await continuation(handler_call_details)
            wrap: Any = grpc.experimental.wrap_server_method_handler  # it carries no types
            return wrap(wrapper, handler)

    async with ends(server={"interceptors": [Wraps()]}, **HANDLERS) as both:
        assert (await both.stub.Place(both.order(id="a"))).id == "a and seen"


async def test_a_server_interceptor_may_replace_a_member_of_the_handler() -> None:
    class Replaces(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            handler = await continuation(handler_call_details)
            inner = handler.unary_stream

            async def doubled(request: Any, context: Any) -> AsyncIterator[Any]:
                async for message in inner(request, context):
                    yield message
                    yield message

            return handler._replace(unary_stream=doubled)

    async with ends(server={"interceptors": [Replaces()]}, **HANDLERS) as both:
        assert await ids_of(both.stub.Watch(both.order(quantity=2))) == ["0", "0", "1", "1"]


async def test_a_server_interceptor_and_its_handler_share_context_variables_of_one_call() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    class Authenticates(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            for entry in handler_call_details.invocation_metadata:
                if entry.key == "user":
                    user.set(entry.value)
            return await continuation(handler_call_details)

    async def who(request: Any, context: Any) -> Any:
        return receipt(id=user.get())

    async with ends(server={"interceptors": [Authenticates()]}, Place=who) as both:
        assert (await both.stub.Place(both.order(), metadata=(("user", "ada"),))).id == "ada"
        assert (await both.stub.Place(both.order())).id == "nobody"


async def test_interceptors_of_both_sides_meet() -> None:
    log: list[str] = []
    channel = {"interceptors": [Everywhere("client", log)]}
    async with ends(server={"interceptors": [Log("server", log)]}, channel=channel, **HANDLERS) as both:
        await both.stub.Place(both.order())
        assert log[0] == "client in"
        assert set(log[1:]) == {"client out", "server /shop.v1.Orders/Place"}


# --- those that see messages -----------------------------------------------------------------------------------------


class Messages(trio_mq_grpc.MessageInterceptor):
    """Notes what it sees, and changes ids on their way."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def on_request(self, message: Any, context: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.log.append(f"{self.name} request {message.id}")
        if message.id == "refuse":
            await context.abort(CODE.PERMISSION_DENIED, "not that one")
        return message

    async def on_response(self, message: Any, context: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.log.append(f"{self.name} response {message.id}")
        message.id += self.name
        return message


async def test_a_message_interceptor_sees_the_messages_of_every_kind() -> None:
    log: list[str] = []
    interceptors = [Messages("a", log), Messages("b", log)]
    async with ends(server={"interceptors": interceptors}, **HANDLERS) as both:
        assert (await both.stub.Place(both.order(id="x"))).id == "xba"
        assert log == ["a request x", "b request x", "b response x", "a response xb"]
        assert await ids_of(both.stub.Watch(both.order(quantity=2))) == ["0ba", "1ba"]
        assert (await both.stub.Upload(iter(orders(both.stubs, "xy")))).id == "x+yba"
        assert await ids_of(both.stub.Haggle(iter(orders(both.stubs, "xy")))) == ["xba", "yba"]


async def test_a_message_interceptor_may_refuse() -> None:
    async with ends(server={"interceptors": [Messages("a", [])]}, **HANDLERS) as both:
        with fails_with(CODE.PERMISSION_DENIED, details="not that one"):
            await both.stub.Place(both.order(id="refuse"))
        with fails_with(CODE.PERMISSION_DENIED):
            await ids_of(both.stub.Haggle(iter(orders(both.stubs, ["x", "refuse"]))))


async def test_a_message_interceptor_sees_the_messages_of_plain_handlers() -> None:
    def plain(request: Any, context: Any) -> Any:
        return receipt(id=request.id)

    def plain_stream(request: Any, context: Any) -> Any:
        yield receipt(id="0")
        yield receipt(id="1")

    log: list[str] = []
    async with ends(server={"interceptors": [Messages("a", log)]}, Place=plain, Watch=plain_stream) as both:
        assert (await both.stub.Place(both.order(id="x"))).id == "xa"
        assert await ids_of(both.stub.Watch(both.order())) == ["0a", "1a"]
        assert log[:2] == ["a request x", "a response x"]
