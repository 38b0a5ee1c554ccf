"""The four kinds of calls, each in every style in which a handler may be written."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import trio

from trio_mq_grpc._server import server
from trio_mq_grpc._wire import DATA, END, MSG, STATUS

from ._raw import Code, dial, echo, kind_of, new_endpoint, service, serving


class Servicer:
    async def unary(self, request: bytes, context: Any) -> bytes:
        return request[::-1]

    async def numbers(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def written_numbers(self, request: bytes, context: Any) -> None:
        for number in range(int(request)):
            await context.write(b"%d" % number)

    async def mixed(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await context.write(b"first")
        yield await context.read()
        async for request in requests:
            yield request

    async def total(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"%d" % sum([int(request) async for request in requests])

    async def read_total(self, _: Any, context: Any) -> bytes:
        total = 0
        while (request := await context.read()) is not grpc.aio.EOF:
            total += int(request)
        assert await context.read() is grpc.aio.EOF
        return b"%d" % total

    def plain_unary(self, request: bytes, context: Any) -> bytes:
        return request[::-1]

    def plain_numbers(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def plain_total(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"%d" % sum(map(int, requests))

    def plain_echo(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests


servicer = Servicer()


@pytest.mark.parametrize("behaviour", [servicer.unary, servicer.plain_unary])
async def test_unary_unary(behaviour: Any, transport: str, endpoint: str) -> None:
    async with serving(unary_unary={"M": behaviour}, endpoint=endpoint) as (_, caller):
        call_id = await caller.call("M", b"abc")
        assert await caller.receive() == (DATA, MSG | STATUS | END, 0, call_id, [b"cba", b""])


@pytest.mark.parametrize("behaviour", [servicer.numbers, servicer.written_numbers, servicer.plain_numbers])
async def test_unary_stream(behaviour: Any) -> None:
    async with serving(unary_stream={"M": behaviour}) as (_, caller):
        await caller.call("M", b"3")
        messages, end = await caller.receive_end()
        assert messages == [b"0", b"1", b"2"]
        assert (end.code, end.value, end.frames) == (Code.OK, 3, [b""])


@pytest.mark.parametrize("behaviour", [servicer.total, servicer.read_total, servicer.plain_total])
async def test_stream_unary(behaviour: Any) -> None:
    async with serving(stream_unary={"M": behaviour}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        await caller.data(call_id, b"1")
        await caller.data(call_id, b"2")
        await caller.data(call_id, b"3", flags=MSG | END)
        messages, end = await caller.receive_end()
        assert (messages, end.code) == ([b"6"], Code.OK)


@pytest.mark.parametrize("behaviour", [servicer.mixed, servicer.plain_echo])
async def test_stream_stream(behaviour: Any) -> None:
    async with serving(stream_stream={"M": behaviour}) as (_, caller):
        call_id = await caller.call("M", b"a", flags=MSG)
        await caller.data(call_id, b"b")
        await caller.data(call_id, flags=END)
        messages, end = await caller.receive_end()
        assert [message for message in messages if message != b"first"] == [b"a", b"b"]
        assert end.code is Code.OK


async def test_an_empty_message_is_a_message() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        assert await caller.answer("M", b"") == b""


async def test_a_unary_call_may_come_in_two_parts() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        await caller.data(call_id, b"x", flags=MSG | END)
        assert (await caller.receive_end())[0] == [b"x"]


async def test_a_coroutine_function_behind_a_plain_wrapper_is_found_out_and_remembered() -> None:
    threads = 0

    async def read(context: Any) -> bytes:
        return b"%d" % trio.lowlevel.in_trio_task()

    def hidden(request: bytes, context: Any) -> Any:
        nonlocal threads
        threads += not trio.lowlevel.in_trio_task()
        return read(context)

    async with serving(unary_unary={"M": hidden}) as (_, caller):
        assert await caller.answer("M", b"") == b"1"
        assert await caller.answer("M", b"") == b"1"
    assert threads == 1


async def test_decorated_partial_and_callable_handlers_are_recognised_as_async() -> None:
    class Callable:
        async def __call__(self, request: bytes, context: Any) -> bytes:
            return b"%d" % trio.lowlevel.in_trio_task()

    handler = Callable()

    @functools.wraps(handler.__call__)
    def decorated(request: bytes, context: Any) -> Any:
        return handler(request, context)

    partial = functools.partial(handler.__call__)
    async with serving(unary_unary={"A": handler, "B": decorated, "C": partial}) as (_, caller):
        assert [await caller.answer(name, b"") for name in "ABC"] == [b"1"] * 3


async def test_a_registered_handler_is_found_before_a_generic_one() -> None:
    async def other(request: bytes, context: Any) -> bytes:
        return b"registered"

    async with serving(unary_unary={"M": echo}) as (served, caller):
        handlers: Any = {"M": grpc.unary_unary_rpc_method_handler(other)}
        served.add_registered_method_handlers("test.Service", handlers)
        assert await caller.answer("M", b"x") == b"registered"


async def test_a_generic_handler_may_take_any_path_and_look_at_the_metadata() -> None:
    class Any_(grpc.GenericRpcHandler):  # noqa: N801  # Any is taken
        def service(self, details: Any) -> Any:
            async def tell(request: bytes, context: Any) -> bytes:
                return str(details.method).encode()

            handler: Any = kind_of("unary_unary")(tell)
            return handler

    async with serving(unary_unary={"M": echo}, more=[Any_()]) as (_, caller):
        assert await caller.answer("Whatever", b"x") == b"/test.Service/Whatever"
        assert await caller.answer("M", b"x") == b"x"


async def test_calls_of_several_ports_are_served_alike() -> None:
    served = server(handlers=[service(unary_unary={"M": echo})])
    first, second = new_endpoint(), new_endpoint()
    assert [served.add_insecure_port(first), served.add_insecure_port(second)] == [1, 1]
    number = served.add_insecure_port("127.0.0.1:0")
    assert number > 1
    async with served:
        for endpoint in (first, second, f"tcp://127.0.0.1:{number}"):
            async with dial(endpoint) as caller:
                assert await caller.answer("M", b"x") == b"x"


async def test_a_handler_may_open_nurseries_and_scopes_around_its_yields() -> None:
    async def with_nursery(request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield b"inside"
            nursery.cancel_scope.cancel()
        yield b"after"

    async with serving(unary_stream={"M": with_nursery}) as (_, caller):
        await caller.call("M", b"")
        messages, end = await caller.receive_end()
        assert (messages, end.code) == ([b"inside", b"after"], Code.OK)
