"""The call objects of intercepted calls, for the four kinds: faces of an `Interception`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
import trio
from grpc.aio import EOF, ClientCallDetails

from ._deadline import seconds
from ._errors import CallEndedError, log
from ._interception import Interception, Requests, Responses, Tasks
from ._metadata import as_metadata, checked_metadata

Begin = Callable[[ClientCallDetails, Any], grpc.aio.Call]
"""Begins the innermost, real call."""


class AnsweredCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """What an interceptor is given where another one, further in, has answered with a bare response."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105  # that is how a generator awaits
        return self._response

    def cancelled(self) -> bool:
        """False."""
        return False

    def done(self) -> bool:
        """True."""
        return True

    def cancel(self) -> bool:
        """False: there is nothing to cancel."""
        return False

    def time_remaining(self) -> float | None:
        """None: no call was made."""
        return None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call it at once."""
        callback(self)

    async def initial_metadata(self) -> Any:
        """None: nothing came from a server."""
        await trio.lowlevel.checkpoint()

    async def trailing_metadata(self) -> Any:
        """None: nothing came from a server."""
        await trio.lowlevel.checkpoint()

    async def code(self) -> grpc.StatusCode:
        """OK."""
        await trio.lowlevel.checkpoint()
        return grpc.StatusCode.OK

    async def details(self) -> str:
        """The empty text."""
        await trio.lowlevel.checkpoint()
        return ""

    async def debug_error_string(self) -> str | None:
        """None."""
        await trio.lowlevel.checkpoint()
        return None

    async def wait_for_connection(self) -> None:
        """Return."""
        await trio.lowlevel.checkpoint()


class InterceptedCall:
    """What the four kinds have in common."""

    def __init__(
        self,
        tasks: Tasks,
        kind: str,
        interceptors: tuple[Any, ...],
        details: ClientCallDetails,
        request: Any,
        begin: Begin,
    ) -> None:
        chain = _Chain(kind, interceptors, begin)
        self._deadline = math.inf if details.timeout is None else trio.current_time() + seconds(details.timeout)
        self._scoped = False
        self._method = details.method
        self._callbacks: list[Callable[[Any], None]] = []
        self._interception = Interception(tasks, lambda interception: chain.run(interception, 0, details, request))
        self._interception.when_finished(self._on_finished)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._method!r}: {'done' if self.done() else 'running'}>"

    async def __aenter__(self) -> Self:
        self._scoped = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()

    @property
    def _call(self) -> Any:
        """The call, once there is one."""
        result = self._interception.result
        return result.call if isinstance(result, Responses) else result

    def cancelled(self) -> bool:
        """Whether it ended with CANCELLED."""
        if self._interception.error is not None:
            return _code_of(self._interception.error) is grpc.StatusCode.CANCELLED
        return self._call is not None and bool(self._call.cancelled())

    def done(self) -> bool:
        """Whether it has ended."""
        interception = self._interception
        return interception.finished and (interception.error is not None or self._call is None or self._call.done())

    def cancel(self) -> bool:
        """End the interceptors and every call that they began."""
        return self._interception.cancel()

    def time_remaining(self) -> float | None:
        """Seconds until its deadline, at least 0; None without one."""
        return None if self._deadline == math.inf else max(0.0, self._deadline - trio.current_time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback(call)`` when it ends, at once if it has."""
        if self.done():
            try:
                callback(self)
            except Exception:  # noqa: BLE001  # the user's, and the call has ended all the same
                log.exception("a done callback of %s failed", self._method)
        elif self._call is not None:
            self._call.add_done_callback(lambda _: callback(self))
        else:
            self._callbacks.append(callback)

    def _on_finished(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self.add_done_callback(callback)

    async def initial_metadata(self) -> Any:
        """The server's initial metadata; None where an interceptor answered."""
        return await self._ask(lambda call: call.initial_metadata(), lambda error: error.initial_metadata())

    async def trailing_metadata(self) -> Any:
        """The trailing metadata; None where an interceptor answered."""
        return await self._ask(lambda call: call.trailing_metadata(), lambda error: error.trailing_metadata())

    async def code(self) -> grpc.StatusCode:
        """The status code, when the call has ended."""
        code: grpc.StatusCode = await self._ask(lambda call: call.code(), lambda error: error.code())
        return code

    async def details(self) -> str:
        """The text of the status, when the call has ended."""
        details: str = await self._ask(lambda call: call.details(), lambda error: error.details())
        return details

    async def debug_error_string(self) -> str | None:
        """The status with the peer, for logs, when the call has ended."""
        text: str | None = await self._ask(
            lambda call: call.debug_error_string(), lambda error: error.debug_error_string()
        )
        return text

    async def wait_for_connection(self) -> None:
        """Wait until the call is under way or has ended; raises its error."""
        await self._interception.wait(cancels=False)
        if self._call is not None:
            await self._call.wait_for_connection()

    async def _ask(self, ask: Callable[[Any], Awaitable[Any]], of_error: Callable[[Any], Any]) -> Any:
        try:
            await self._interception.wait(cancels=False)
        except grpc.aio.AioRpcError as error:
            return of_error(error)
        call = self._call
        return await ask(AnsweredCall(None) if call is None else call)


class _UnaryReply(InterceptedCall):
    """Awaited for its one response."""

    def __await__(self) -> Generator[Any, Any, Any]:
        """The response. Cancelled here, everything is cancelled."""
        call = yield from self._interception.wait(cancels=True).__await__()
        try:
            return (yield from call.__await__())
        except trio.Cancelled:
            self.cancel()  # also what the interceptors began beside the one that was awaited
            raise


class _StreamReply(InterceptedCall):
    """Its responses are read."""

    _style = ""

    def __aiter__(self) -> AsyncIterator[Any]:
        self._use("iteration")
        return self

    async def __anext__(self) -> Any:
        response = await self._next()
        if response is EOF:
            raise StopAsyncIteration
        return response

    async def read(self) -> Any:
        """The next response, or `grpc.aio.EOF`."""
        self._use("read()")
        return await self._next()

    def _use(self, style: str) -> None:
        if self._style not in ("", style):
            raise grpc.aio.UsageError(f"one call is read by {self._style} or by {style}, not both")
        self._style = style

    async def _next(self) -> Any:
        result = await self._interception.wait(cancels=not self._scoped)
        if self._scoped and not isinstance(result, Responses):
            await result.__aenter__()  # so that a cancelled read of it leaves it as it was, too
        try:
            return await (result.next() if isinstance(result, Responses) else result.read())
        except trio.Cancelled:
            if not self._scoped:
                self.cancel()
            raise

    def cancel(self) -> bool:
        """End the interceptors and every call that they began."""
        result = self._interception.result
        if isinstance(result, Responses):
            result.close()
        return super().cancel()


class _StreamRequest(InterceptedCall):
    """Its requests are written, or come from an iterator."""

    _requests: Requests | None = None
    _half_closed = False
    _writing: set[trio.CancelScope] | None = None

    async def write(self, request: Any) -> None:
        """Send a request.

        Raises:
            grpc.aio.AioRpcError: the call has failed.
            CallEndedError: it has ended, or `done_writing` was called.
        """
        requests = self._writable()
        if self.done() or self._half_closed:
            await self._raise_ended()
        if self._writing is None:
            self._writing = set()
            self.add_done_callback(self._stop_writing)  # one for the call: each is kept until that has ended
        with trio.CancelScope() as waiting:
            self._writing.add(waiting)
            try:
                await requests.write(request)
            except trio.Cancelled:
                if not self._scoped and not waiting.cancel_called:
                    self.cancel()
                raise
            finally:
                self._writing.discard(waiting)
            return
        await self._raise_ended()

    async def _raise_ended(self) -> NoReturn:
        """Raise what says why nothing can be written."""
        if self._interception.error is not None:
            raise self._interception.error
        if self._call is not None and self._call.done():
            await self._call.wait_for_connection()  # raises its error if it has failed
        raise CallEndedError("done_writing() was called" if self._half_closed else "the call has ended")

    def _stop_writing(self, _: object) -> None:
        for waiting in self._writing or ():
            waiting.cancel()

    async def done_writing(self) -> None:
        """No more requests follow."""
        self._writable().close()
        self._half_closed = True

    def _writable(self) -> Requests:
        if self._requests is None:
            raise grpc.aio.UsageError("the requests of this call come from an iterator")
        return self._requests


class InterceptedUnaryUnaryCall(_UnaryReply, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one response."""


class InterceptedUnaryStreamCall(_StreamReply, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, many responses."""


class InterceptedStreamUnaryCall(_StreamRequest, _UnaryReply, grpc.aio.StreamUnaryCall[Any, Any]):
    """Many requests, one response."""


class InterceptedStreamStreamCall(_StreamRequest, _StreamReply, grpc.aio.StreamStreamCall[Any, Any]):
    """Many requests, many responses."""


_CALLS: dict[str, Any] = {
    "unary_unary": InterceptedUnaryUnaryCall,
    "unary_stream": InterceptedUnaryStreamCall,
    "stream_unary": InterceptedStreamUnaryCall,
    "stream_stream": InterceptedStreamStreamCall,
}


def intercept(
    tasks: Tasks, kind: str, interceptors: tuple[Any, ...], details: ClientCallDetails, request: Any, begin: Begin
) -> Any:
    """Begin an intercepted call; *request* is a message, an iterator, or None for one that is written."""
    requests = Requests() if kind.startswith("stream") and request is None else None
    call = _CALLS[kind](tasks, kind, interceptors, details, request if requests is None else requests, begin)
    if requests is not None:
        call._requests = requests  # noqa: SLF001  # set here, so that the four kinds share one constructor
    return call


def details_of(
    method: Any, timeout: float | None, metadata: Any, credentials: Any, wait_for_ready: bool | None
) -> ClientCallDetails:
    """The details as interceptors expect them: the method in bytes, whatever its annotation says."""
    return ClientCallDetails(method, timeout, as_metadata(checked_metadata(metadata)), credentials, wait_for_ready)


class _Chain:
    """The interceptors of one call, the first outermost."""

    def __init__(self, kind: str, interceptors: tuple[Any, ...], begin: Begin) -> None:
        self._intercept = f"intercept_{kind}"
        self._unary = kind.endswith("unary")
        self._interceptors = interceptors
        self._begin = begin

    async def run(self, interception: Interception, index: int, details: ClientCallDetails, request: Any) -> Any:
        """What interceptor *index* makes of it, or the call itself behind the last one."""
        if index == len(self._interceptors):
            call = self._begin(details, request)
            interception.begun(call)
            return call

        async def continuation(details: ClientCallDetails, request: Any) -> Any:
            return await self.run(interception, index + 1, details, request)

        result = await getattr(self._interceptors[index], self._intercept)(continuation, details, request)
        if self._unary and not isinstance(result, grpc.aio.Call):
            return AnsweredCall(result)
        return result


def _code_of(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None
