"""Running client interceptors: one task of the channel's for each intercepted call, with the caller's context.

grpc.aio's contract for them, which OpenTelemetry and others are written against: the first is outermost; a continuation
is awaited and gives a live call; what an interceptor returns is a call, a bare response, or an async iterator of
responses; the details have the method as bytes and `grpc.aio.Metadata`. Cancelling the outer call, or the task that
awaits it, ends the interceptors and every call that they began: a handler or span left open would wait for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio
import trio

from ._awaited import LOCALLY_CANCELLED
from ._generators import drive, reported
from ._status import make_error

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_BASES = {
    "unary_unary": grpc.aio.UnaryUnaryClientInterceptor,
    "unary_stream": grpc.aio.UnaryStreamClientInterceptor,
    "stream_unary": grpc.aio.StreamUnaryClientInterceptor,
    "stream_stream": grpc.aio.StreamStreamClientInterceptor,
}


class Tasks(Protocol):
    """Who runs them: the channel."""

    def start_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run it in the background, with the caller's context."""


def by_kind(interceptors: Sequence[Any] | None) -> dict[str, tuple[Any, ...]]:
    """The interceptors of each kind of call; one that implements several kinds is in several.

    (grpcio takes it for the first of its kinds only, silently.)

    Raises:
        ValueError: one of them is none.
    """
    for each in interceptors or ():
        if not isinstance(each, tuple(_BASES.values())):
            raise ValueError(  # noqa: TRY004  # what grpcio raises
                f"{each!r} is no client interceptor of grpc.aio (UnaryUnaryClientInterceptor and its kin)"
            )
    return {kind: tuple(each for each in interceptors or () if isinstance(each, _BASES[kind])) for kind in KINDS}


class Interception:
    """One intercepted call: its task, what it came to, and the calls that were begun in it.

    Attributes:
        result: what the outermost interceptor returned; None while it runs, or when it raised.
        error: what it raised.
    """

    def __init__(self, tasks: Tasks, run: Callable[[Interception], Awaitable[Any]]) -> None:
        self._tasks = tasks
        self._begun: list[grpc.aio.Call] = []
        self._finished = trio.Event()
        self._callbacks: list[Callable[[], object]] = []
        self.result: Any = None
        self.error: Exception | None = None
        self.cancelled = False
        self._responses: trio.MemoryReceiveChannel[Any] | None = None
        self._scope = tasks.start_task(self._run, run)

    @property
    def finished(self) -> bool:
        """Whether the interceptors have returned, or raised."""
        return self._finished.is_set()

    def begun(self, call: grpc.aio.Call) -> None:
        """A call was begun by an interceptor; it ends when this one is cancelled."""
        self._begun.append(call)
        if self.cancelled:
            call.cancel()

    async def _run(self, run: Callable[[Interception], Awaitable[Any]]) -> None:
        try:
            with reported(self._failed):
                result = await run(self)
                if isinstance(result, AsyncIterable) and not isinstance(result, grpc.aio.Call):
                    result = self._pumped(result)
                self.result = result
        except BaseException:
            if self.error is None:
                self.error = make_error(LOCALLY_CANCELLED)
            raise
        finally:
            self._finished.set()
            for callback in self._callbacks:
                callback()

    def _failed(self, error: Exception) -> None:
        """It is the outcome of the call, raised to whoever awaits it."""
        self.error = error

    def when_finished(self, callback: Callable[[], object]) -> None:
        """Call it when the interceptors have returned or raised; at once if they have."""
        if self.finished:
            callback()
        else:
            self._callbacks.append(callback)

    async def wait(self, *, cancels: bool) -> Any:
        """What the interceptors returned.

        Raises:
            Exception: what they raised.
        """
        if not self.finished:
            try:
                await self._finished.wait()
            except trio.Cancelled:
                if cancels:
                    self.cancel()
                raise
        if self.error is not None:
            raise self._fresh_error()
        return self.result

    def _fresh_error(self) -> BaseException:
        error = self.error
        if isinstance(error, grpc.aio.AioRpcError):
            # A new one each time: several tasks may await it, and its traceback would grow with each.
            again = grpc.aio.AioRpcError(
                error.code(),
                error.initial_metadata(),
                error.trailing_metadata(),
                error.details(),
                error.debug_error_string(),
            )
            again.__cause__ = error
            return again
        assert error is not None
        return error

    def cancel(self) -> bool:
        """End the interceptors and all calls begun in them; False if there is nothing left to cancel."""
        running = not self.finished
        self.cancelled = self.cancelled or running
        self._scope.cancel()
        return any([call.cancel() for call in self._begun]) or running

    # An async iterator that an interceptor returned runs in a task of its own: its scopes and nurseries must not be
    # entered and left in whichever task happens to read.

    def _pumped(self, source: AsyncIterable[Any]) -> Responses:
        send, receive = trio.open_memory_channel[Any](0)
        responses = Responses(receive, self._begun[-1] if self._begun else None)
        self._scope = self._tasks.start_task(self._pump, source, send, responses)
        return responses

    async def _pump(self, source: AsyncIterable[Any], send: trio.MemorySendChannel[Any], responses: Responses) -> None:
        async def pass_on(item: Any) -> bool:
            try:
                await send.send(item)
            except trio.BrokenResourceError:
                return False
            return True

        try:
            with reported(responses.failed):
                await drive(source, pass_on)
        finally:
            send.close()


class Responses:
    """What an interceptor's async iterator gives, read from another task."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Any], call: grpc.aio.Call | None) -> None:
        self._receive = receive
        self.call = call
        self.error: Exception | None = None
        self.ended = False

    def failed(self, error: Exception) -> None:
        """The iterator raised this; it is raised to the reader, behind what came before it."""
        self.error = error

    async def next(self) -> Any:
        """The next response, or `grpc.aio.EOF`."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            self.ended = True
            if self.error is not None:
                raise self.error from None
            return grpc.aio.EOF

    def close(self) -> None:
        """Nobody reads any more."""
        self._receive.close()


class Requests:
    """The requests that are written to an intercepted call, as the iterator that interceptors get."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](0)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._receive.__aiter__()

    async def write(self, request: Any) -> None:
        """Hand it over to whoever iterates."""
        await self._send.send(request)

    def close(self) -> None:
        """No more follow."""
        self._send.close()
