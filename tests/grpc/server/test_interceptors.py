"""Interceptors of calls, and of messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import grpc
import pytest

from trio_mq_grpc import MessageInterceptor

from ._raw import Code, echo, kind_of, serving

who: ContextVar[str] = ContextVar("who", default="nobody")


class Naming(grpc.aio.ServerInterceptor):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.log.append(f"{self.name} {details.method}")
        who.set(self.name)
        return await continuation(details)


async def test_interceptors_run_in_order_and_share_the_handler_s_context() -> None:
    log: list[str] = []

    async def handler(request: bytes, context: Any) -> bytes:
        return who.get().encode()

    interceptors = [Naming("first", log), Naming("second", log)]
    async with serving(unary_unary={"M": handler}, interceptors=interceptors) as (_, caller):
        assert await caller.answer("M", b"x") == b"second"
        assert log == ["first /test.Service/M", "second /test.Service/M"]
        assert (await caller.failure("N", b"")).code is Code.UNIMPLEMENTED


async def test_an_interceptor_may_answer_itself_for_any_kind_of_call() -> None:
    class Closed(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            async def refuse(request: Any, context: Any) -> None:
                await context.abort(Code.UNAUTHENTICATED, "closed")

            handler: Any = kind_of("unary_unary")(refuse)
            return handler

    async with serving(stream_stream={"S": echo}, unary_unary={"M": echo}, interceptors=[Closed()]) as (_, caller):
        assert (await caller.failure("M", b"x")).details == "closed"
        assert (await caller.failure("Nowhere", b"x")).details == "closed"
        assert (await caller.failure("S", b"x")).details == "closed"


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_every_kind_of_call_passes_an_interceptor(kind: str) -> None:
    async def unary(request: bytes, context: Any) -> bytes:
        return request

    async def unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request

    async def stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    handlers: dict[str, Any] = {
        "unary_unary": unary, "unary_stream": unary_stream, "stream_unary": stream_unary, "stream_stream": stream
    }  # fmt: skip
    kinds: dict[str, Any] = {kind: {"M": handlers[kind]}}
    async with serving(interceptors=[Naming("x", [])], **kinds) as (_, caller):
        await caller.call("M", b"abc")
        messages, end = await caller.receive_end()
        assert (messages, end.code) == ([b"abc"], Code.OK)


async def test_an_interceptor_that_fails_fails_the_call() -> None:
    class Broken(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            raise ValueError("broken")

    async with serving(unary_unary={"M": echo}, interceptors=[Broken()]) as (_, caller):
        unit = await caller.failure("M", b"x")
        assert (unit.code, "broken" in unit.details) == (Code.UNKNOWN, True)


class Marking(MessageInterceptor):
    def __init__(self, mark: bytes) -> None:
        self.mark = mark

    async def on_request(self, message: bytes, context: Any) -> bytes:
        return message + b">" + self.mark

    async def on_response(self, message: bytes, context: Any) -> bytes:
        return message + b"<" + self.mark


async def plain_coroutine(request: bytes, context: Any) -> bytes:
    return request


def plain_function(request: bytes, context: Any) -> bytes:
    return request


@pytest.mark.parametrize("behaviour", [plain_coroutine, plain_function])
async def test_message_interceptors_see_unary_messages_in_order_and_back(behaviour: Any) -> None:
    interceptors = [Marking(b"1"), Marking(b"2")]
    async with serving(unary_unary={"M": behaviour}, interceptors=interceptors) as (_, caller):
        assert await caller.answer("M", b"x") == b"x>1>2<2<1"


async def iterating(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def reading(requests: Any, context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(request)


def in_a_thread(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


@pytest.mark.parametrize("behaviour", [iterating, reading, in_a_thread])
async def test_message_interceptors_see_every_message_of_a_stream(behaviour: Any) -> None:
    async with serving(stream_stream={"M": behaviour}, interceptors=[Marking(b"1")]) as (_, caller):
        await caller.call("M", b"x")
        assert (await caller.receive_end())[0] == [b"x>1<1"]


async def test_a_message_interceptor_that_fails_fails_the_call() -> None:
    class Strict(MessageInterceptor):
        async def on_request(self, message: bytes, context: Any) -> bytes:
            await context.abort(Code.INVALID_ARGUMENT, "not like this")
            return message

    async with serving(unary_unary={"M": echo}, interceptors=[Strict()]) as (_, caller):
        assert (await caller.failure("M", b"x")).details == "not like this"
