"""Running a handler: the requests decoded, the servicer's function called in its style, what it gives sent.

The ordinary unary call is written out, so that it runs through few frames and makes one object, its context.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any

import grpc

from ._context import Context, Requests, undecodable, watched_request, watched_response
from ._generators import drive
from ._served import ServedCall
from ._service import COROUTINE, GENERATOR, THREAD, Method, Run
from ._sync import SyncContext, SyncRequests
from ._wire import as_bytes


def compile_method(method: Method) -> Run:
    """How *method* is run."""
    if method.style == THREAD:
        return _run_in_thread if method.streams_requests or method.streams_responses else _run_unary_in_thread
    if method.streams_responses:
        return _run_streaming
    return _run_stream_unary if method.streams_requests else _run_unary_unary


async def _run_unary_unary(call: ServedCall) -> None:
    method = call.method
    assert method is not None
    if call.incoming is not None or call.home.watchers:
        await _run_odd_unary_unary(call, method)
        return
    try:
        request = method.deserialize(call.payload)  # type: ignore[arg-type]  # a complete call has its payload
    except Exception as exc:  # noqa: BLE001  # whatever a deserializer raises, the caller is told
        call.finish(undecodable(exc))
        return
    response = method.behaviour(request, Context(call))
    if method.style == COROUTINE:
        response = await response
    if call.odd_end or not call.wants_reply:
        await _reply(call, response, None)
    elif call.status is None:
        call.reply(as_bytes(method.serialize(response)))


async def _run_odd_unary_unary(call: ServedCall, method: Method) -> None:
    """One whose request comes in parts, or whose messages somebody wants to see."""
    context = Context(call)
    found = await _only_request(call, context)
    if found:
        response = method.behaviour(found[0], context)
        await _reply(call, await response if inspect.isawaitable(response) else response, context)


async def _run_stream_unary(call: ServedCall) -> None:
    context = Context(call)
    assert call.method is not None
    response = call.method.behaviour(Requests(context), context)
    await _reply(call, await response if inspect.isawaitable(response) else response, context)


async def _run_streaming(call: ServedCall) -> None:
    method = call.method
    assert method is not None
    context = Context(call)
    argument: Any
    if method.streams_requests:
        argument = Requests(context)
    else:
        found = await _only_request(call, context)
        if not found:
            return
        argument = found[0]
    await _drive(call, method.behaviour(argument, context), context)


async def _drive(call: ServedCall, responses: Any, context: Any) -> None:
    """Send what a streaming function has returned: an async iterator, or a coroutine that writes by itself."""
    if hasattr(responses, "__aiter__"):
        writer = _Writer(call, context)
        await drive(responses, writer.watch_and_send if call.home.watchers else writer.take)
    elif inspect.isawaitable(responses):
        returned = await responses
        if returned is not None:
            # Whoever forgot the `yield` would otherwise serve empty streams, all OK.
            raise TypeError(
                f"a method that streams yields its responses, or writes them and returns None: {returned!r}"
            )
    call.finish_stream()


class _Writer:
    """Takes the items of a response stream."""

    __slots__ = ("_answer", "_call", "_context", "_serialize")

    def __init__(self, call: ServedCall, context: Any) -> None:
        assert call.method is not None
        self._call = call
        self._context = context
        self._answer = call.answer
        self._serialize = call.method.serialize

    def take(self, item: Any) -> Awaitable[bool] | bool:
        data = as_bytes(self._serialize(item))
        return self._answer.send_nowait(data) or self._send(data)

    async def _send(self, data: bytes) -> bool:
        await self._answer.send(data)
        return True

    async def watch_and_send(self, item: Any) -> bool:
        return await self._send(await watched_response(self._call, item, self._context))


async def _only_request(call: ServedCall, context: Any) -> tuple[Any] | None:
    """The one request of a call, decoded; None if the call has ended for want of it."""
    data = await call.receive_only()
    return None if data is None else (await watched_request(call, data, context),)


async def _reply(call: ServedCall, response: Any, context: Any) -> None:
    if not call.wants_reply:
        call.finish_stream()
    elif call.status is None:
        failing = call.code is not None and call.code is not grpc.StatusCode.OK
        call.reply(b"" if failing else await watched_response(call, response, context))


# --- plain functions --------------------------------------------------------------------------------------------------


async def _run_unary_in_thread(call: ServedCall) -> None:
    method = call.method
    assert method is not None
    if call.incoming is not None or call.home.watchers:
        await _run_in_thread(call)
        return
    try:
        request = method.deserialize(call.payload)  # type: ignore[arg-type]  # a complete call has its payload
    except Exception as exc:  # noqa: BLE001  # whatever a deserializer raises, the caller is told
        call.finish(undecodable(exc))
        return
    context = SyncContext(call)
    result = await call.home.threads.run(method.behaviour, request, context)
    if call.odd_end or not call.wants_reply or hasattr(result, "__await__"):
        await _take_result(call, method, result, context)
    elif call.status is None:
        call.reply(as_bytes(method.serialize(result)))


async def _run_in_thread(call: ServedCall) -> None:
    method = call.method
    assert method is not None
    context = SyncContext(call)
    argument: Any
    if method.streams_requests:
        argument = SyncRequests(context)
    else:
        found = await _only_request(call, context)
        if not found:
            return
        argument = found[0]
    if method.streams_responses:
        result = await call.home.threads.run(_write_all, method.behaviour, argument, context)
    else:
        result = await call.home.threads.run(method.behaviour, argument, context)
    await _take_result(call, method, result, context)


def _write_all(behaviour: Any, argument: Any, context: SyncContext) -> Any:
    """In the thread: send everything that *behaviour* gives; what is no ordinary iterable is returned instead."""
    responses = behaviour(argument, context)
    if responses is None or inspect.isawaitable(responses) or hasattr(responses, "__aiter__"):
        return responses
    try:
        for response in responses:
            context.write(response)
    finally:
        # Here, in its thread: the garbage collector may be late, and run it anywhere.
        close = getattr(responses, "close", None)
        if close is not None:
            close()
    return None


async def _take_result(call: ServedCall, method: Method, result: Any, context: SyncContext) -> None:
    if inspect.isawaitable(result):
        # A decorator hid that it is a coroutine function. The next call does not need a thread.
        method.change_style(COROUTINE)
        if method.streams_responses:
            await _drive(call, result, context)
        else:
            await _reply(call, await result, context)
    elif method.streams_responses:
        if result is not None:
            method.change_style(GENERATOR)
        await _drive(call, result, context)
    else:
        await _reply(call, result, context)
