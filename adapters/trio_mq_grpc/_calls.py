"""The call objects that users hold: the faces of an `Rpc` for the four kinds, as `grpc.aio` has them.

They begin when the stub method is called, not when they are awaited. Where an await is cancelled, the RPC is: in
``await call``, ``async for``, ``read`` and ``write``, as in grpc.aio, but not in ``code()`` and its kin. Inside
``async with call:`` a cancelled ``read`` or ``write`` leaves call and message as they were, so that
``with trio.move_on_after(...): await call.read()`` polls; leaving that block cancels the call.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
import grpc.aio
import trio
from grpc.aio import EOF
from trio.lowlevel import enable_ki_protection

from ._awaited import LOCALLY_CANCELLED
from ._compression import TooLarge
from ._errors import CallEndedError
from ._metadata import as_metadata
from ._requests import Requests
from ._rpc import Rpc
from ._status import OK, Status, make_error
from ._wire import as_bytes

Request = TypeVar("Request")
Response = TypeVar("Response")

_UNSET: Any = object()
_CHECKPOINT_EVERY = 64
"""Responses that one reader takes before others get a chance."""
_CLOCKS_DIFFER = 0.05
"""Seconds by which a server may find a deadline earlier than we do."""


class Call(Generic[Request, Response]):
    """What the four kinds have in common."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def __repr__(self) -> str:
        status = self._rpc.status
        state = "running" if status is None else f"{status.code.name}, {status.details!r}"
        return f"<{type(self).__name__} of {self._rpc.method.path}: {state}>"

    def __del__(self) -> None:
        rpc: Rpc | None = getattr(self, "_rpc", None)
        if rpc is None or rpc.status is not None or not trio.lowlevel.in_trio_run():
            return
        rpc.abandon(LOCALLY_CANCELLED)
        warnings.warn(
            f"a call of {rpc.method.path} was dropped before it ended, and is cancelled; "
            "use it as a context manager: async with stub.Method(...) as call",
            ResourceWarning,
            source=self,
            stacklevel=1,
        )

    async def __aenter__(self) -> Self:
        self._rpc.scoped = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._rpc.abandon(LOCALLY_CANCELLED)

    # --- at once ----------------------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether it ended with CANCELLED."""
        status = self._rpc.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether it has ended."""
        return self._rpc.status is not None

    def cancel(self) -> bool:
        """Cancel the call, here and at the server; False if it has ended already."""
        if self._rpc.status is not None:
            return False
        self._rpc.abandon(LOCALLY_CANCELLED)
        return True

    def time_remaining(self) -> float | None:
        """Seconds until its deadline, at least 0; None without one."""
        limit = min(self._rpc.deadline, self._rpc.inherited)
        return None if limit == math.inf else max(0.0, limit - trio.current_time())

    def add_done_callback(self, callback: Callable[[Self], None]) -> None:
        """Call ``callback(call)`` when it ends, at once if it has. What the callback raises is logged."""
        rpc = self._rpc
        rpc.callbacks = [*(rpc.callbacks or ()), lambda: callback(self)]
        if rpc.status is not None:
            rpc.call_back()

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """The server's initial metadata, when it comes; empty if the call ends before. Never cancels the call."""
        await self._rpc.wait_initial()
        return as_metadata(self._rpc.initial or ())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """The trailing metadata, when the call has ended. Never cancels the call."""
        return as_metadata((await self._status()).trailers)

    async def code(self) -> grpc.StatusCode:
        """The status code, when the call has ended. Never cancels the call."""
        return (await self._status()).code

    async def details(self) -> str:
        """The text of the status, when the call has ended. Never cancels the call."""
        return (await self._status()).details

    async def debug_error_string(self) -> str:
        """The status with the peer, for logs, when the call has ended."""
        return self._debug(await self._status())

    async def wait_for_connection(self) -> None:
        """Wait until the call is under way (a stream) or has ended.

        Raises:
            grpc.aio.AioRpcError: it has failed.
        """
        rpc = self._rpc
        if rpc.method.unary_request:
            await rpc.wait_ended()
        else:
            await rpc.wait_opened()
        if rpc.status is not None and not rpc.ended_well:
            raise self._error()

    async def _status(self) -> Status:
        await self._rpc.wait_ended()
        assert self._rpc.status is not None
        return self._rpc.status

    def _debug(self, status: Status) -> str:
        return f"{self._rpc.method.path}: {status.code.name}: {status.details} (attempts: {self._rpc.attempts})"

    def _error(self) -> grpc.aio.AioRpcError:
        """The error of a call that has failed: a new object each time, or its tracebacks would pile up."""
        rpc = self._rpc
        assert rpc.status is not None
        error = make_error(rpc.status, rpc.initial or (), self._debug(rpc.status))
        error.__cause__ = rpc.cause
        return error

    async def _wait_for_own_scope(self) -> None:
        """The server's DEADLINE_EXCEEDED for a limit that is the caller's own scope: that scope is to catch it."""
        rpc = self._rpc
        assert rpc.status is not None
        exceeded = rpc.status.code is grpc.StatusCode.DEADLINE_EXCEEDED and rpc.inherited < rpc.deadline
        # The two clocks run alike: a server that says so much earlier means another one, of a call of its own, say.
        if exceeded and rpc.inherited - trio.current_time() < _CLOCKS_DIFFER:
            await trio.sleep_until(rpc.inherited)


class UnaryReplyCall(Call[Request, Response]):
    """A call that is awaited for its one response."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._response: Any = _UNSET

    @enable_ki_protection
    def __await__(self) -> Generator[Any, Any, Response]:
        """The response; the same object each time. Cancelled here, the call is cancelled.

        Raises:
            grpc.aio.AioRpcError: the call failed; also for ``cancel()``, with CANCELLED.
        """
        rpc = self._rpc
        if rpc.status is None:
            yield from rpc.end_or_cancel().__await__()
        if self._response is _UNSET:
            # The ordinary end is an object of its own, and an attribute of an Enum costs more than the question.
            if rpc.status is not OK and not rpc.ended_well:
                yield from self._wait_for_own_scope().__await__()
                raise self._error()
            self._response = self._read_response()
        response: Response = self._response
        return response

    def _read_response(self) -> Any:
        rpc = self._rpc
        reply = rpc.reply
        assert reply is not None
        deserialize = rpc.method.deserialize
        try:
            if type(reply) is not bytes:
                reply = rpc.inflated(reply)
            return reply if deserialize is None else deserialize(reply)
        except Exception as exc:  # whatever a deserializer raises is the call's end
            rpc.status = unreadable(exc)
            rpc.cause = exc
            raise self._error() from exc


class StreamReplyCall(Call[Request, Response]):
    """A call whose responses are read, one by one or with ``async for``."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._style = ""
        self._burst = _CHECKPOINT_EVERY

    def __aiter__(self) -> AsyncIterator[Response]:
        """Iterate over the responses.

        Raises:
            grpc.aio.UsageError: `read` was used on it.
        """
        self._use("iteration")
        return self

    async def __anext__(self) -> Response:
        response = self._next_nowait()
        if response is _UNSET:
            response = await self._next()
            if response is EOF:
                raise StopAsyncIteration
        result: Response = response
        return result

    async def read(self) -> Any:
        """The next response, or `grpc.aio.EOF` at the end and ever after.

        Raises:
            grpc.aio.AioRpcError: the call failed; responses that came before were given out first.
            grpc.aio.UsageError: it is being iterated over.
            trio.BusyResourceError: another task reads.
        """
        self._use("read()")
        response = self._next_nowait()
        return await self._next() if response is _UNSET else response

    def _use(self, style: str) -> None:
        if self._style not in ("", style):
            raise grpc.aio.UsageError(f"one call is read by {self._style} or by {style}, not both")
        self._style = style

    def _next_nowait(self) -> Any:
        """The next response, if it is here and nobody else's turn; `_UNSET` if `_next` has to say."""
        self._burst -= 1
        return _UNSET if self._burst < 0 else self._take()

    async def _next(self) -> Any:
        rpc = self._rpc
        incoming = rpc.incoming
        assert incoming is not None
        while True:
            if incoming.first is not None:
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled:
                    rpc.await_cancelled()
                    raise
            elif rpc.status is not None:
                return await self._at_end()
            else:
                await rpc.wait_message()
            self._burst = _CHECKPOINT_EVERY
            response = self._take()
            if response is not _UNSET:
                return response

    def _take(self) -> Any:
        """The next response, if it is here; `_UNSET` if not."""
        rpc = self._rpc
        deserialize = rpc.method.deserialize
        try:
            message = rpc.take()
            if message is not None:
                return message if deserialize is None else deserialize(message)
        except Exception as exc:  # whatever a deserializer raises is the call's end
            rpc.abandon(unreadable(exc))
            rpc.status = unreadable(exc)
            rpc.cause = exc
            raise self._error() from exc
        return _UNSET

    async def _at_end(self) -> Any:
        rpc = self._rpc
        if rpc.ended_well:
            return EOF
        await self._wait_for_own_scope()
        raise self._error()


class StreamRequestCall(Call[Request, Response]):
    """A call whose requests are written, or taken from an iterator."""

    _fed = False

    def fed_by_iterator(self) -> None:
        """Its requests come from an iterator, so the user does not write any."""
        self._fed = True

    async def write(self, request: Request) -> None:
        """Send a request as soon as flow control lets it go. Cancelled, the call is cancelled (see the module).

        Raises:
            grpc.aio.AioRpcError: the call has failed meanwhile.
            CallEndedError: it had ended before, or `done_writing` was called.
            grpc.aio.UsageError: its requests come from an iterator.
        """
        self._check_writable()
        rpc = self._rpc
        serialize = rpc.method.serialize
        payload = as_bytes(request if serialize is None else serialize(request))
        if len(payload) > rpc.method.max_request:
            rpc.abandon(too_large_to_send(len(payload), rpc.method.max_request))
            raise self._error()
        try:
            sent = await self._requests().send(payload)
        except trio.Cancelled:
            rpc.await_cancelled()
            raise
        if not sent:
            if rpc.status is not None and not rpc.ended_well:
                raise self._error()
            raise CallEndedError("the server has ended the call; nothing more is read there")

    async def done_writing(self) -> None:
        """No more requests follow. Calling it twice is fine."""
        if self._fed:
            raise grpc.aio.UsageError("the requests of this call come from an iterator")
        requests = self._requests()
        if not requests.half_closed and self._rpc.status is None:
            requests.end()

    def _requests(self) -> Requests:
        requests = self._rpc.requests
        assert requests is not None  # a stream has them from the beginning
        return requests

    def _check_writable(self) -> None:
        if self._fed:
            raise grpc.aio.UsageError("the requests of this call come from an iterator")
        if self._rpc.status is not None:
            # Perhaps at its very beginning, in which case nothing else has told the caller.
            raise CallEndedError("the call has ended: OK") if self._rpc.ended_well else self._error()
        if self._requests().half_closed:
            raise CallEndedError("done_writing() was called")


class UnaryUnaryCall(UnaryReplyCall[Request, Response], grpc.aio.UnaryUnaryCall[Request, Response]):
    """One request, one response: await it."""


class UnaryStreamCall(StreamReplyCall[Request, Response], grpc.aio.UnaryStreamCall[Request, Response]):
    """One request, many responses: iterate over it, or `read`."""


class StreamUnaryCall(
    StreamRequestCall[Request, Response], UnaryReplyCall[Request, Response], grpc.aio.StreamUnaryCall[Request, Response]
):
    """Many requests, one response: `write`, `done_writing`, await it."""


class StreamStreamCall(
    StreamRequestCall[Request, Response],
    StreamReplyCall[Request, Response],
    grpc.aio.StreamStreamCall[Request, Response],
):
    """Many requests, many responses, each at its own pace."""


def unreadable(exc: Exception) -> Status:
    """The status of a call whose response cannot be read."""
    if isinstance(exc, TooLarge):
        return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Received {exc}")
    return Status(grpc.StatusCode.INTERNAL, f"the response cannot be read: {type(exc).__name__}: {exc}")


def too_large_to_send(size: int, limit: int) -> Status:
    """The status of a call whose request is too large."""
    return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Sent message larger than max ({size} vs. {limit})")
