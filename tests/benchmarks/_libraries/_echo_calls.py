"""What a client of the generated async stubs does, whichever event loop it is on: trio_mq_grpc and grpc.aio.

Several tasks, and a channel for each, are for those to make.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio

from .._echo.echo_pb2 import Message
from .._run import Run
from ._call_options import call_options

Gather: TypeAlias = Callable[[Callable[[], Awaitable[None]], int], Awaitable[None]]
"""Runs a function in so many tasks, until all are done."""


async def unary(stub: Any, run: Run, gather: Gather) -> None:
    call, request, options = stub.Unary, Message(payload=run.message), call_options(run)
    if run.scenario.in_flight == 1:
        for _ in run.trips():
            await call(request, **options)
        return

    async def one_task() -> None:
        for _ in run.calls():
            await call(request, **options)

    for _ in run.warm_up():
        await call(request, **options)
    await gather(one_task, run.scenario.in_flight)
    run.calls_ended()


async def stream(stub: Any, run: Run) -> None:
    await _count(stub.Stream(Message(payload=run.message)), run)


async def bidi(stub: Any, run: Run) -> None:
    async def requests() -> AsyncIterator[Message]:
        for chunk in run.chunks():
            for _ in chunk:
                yield request

    request = Message(payload=run.message)
    await _count(stub.Bidi(requests()), run)


async def _count(call: Any, run: Run) -> None:
    replies = aiter(call)
    await anext(replies)
    run.begin()
    count = 0
    async for _ in replies:
        count += 1
    run.subscriber_ended(count)


async def open_calls(stub: Any, run: Run) -> None:
    request = Message(payload=run.message)
    warm = stub.Bidi()
    await _exchange(warm, request)
    run.call_opened()
    run.begin()
    calls = []
    for _ in range(run.scenario.in_flight):
        call = stub.Bidi()
        calls.append(call)
        await _exchange(call, request)
        run.call_opened()
    run.end(len(calls))
    # A call that is open can be used, the first as well as the last.
    for call in calls:
        await _exchange(call, request)


async def _exchange(call: Any, request: Message) -> None:
    await call.write(request)
    if await call.read() != request:
        raise RuntimeError(f"a call that should be open is {call!r}")


class ClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


class ServerInterceptor(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)


def interceptors(run: Run, end: str) -> list[Any]:
    """Those of the *end* "client" or "server": one, or none."""
    if run.scenario.interceptor != end:
        return []
    return [ClientInterceptor() if end == "client" else ServerInterceptor()]
