"""What a generated stub's attributes are: callables that begin a call, as `grpc.aio` has them.

Everything is checked at the call: metadata that cannot be sent, a request that cannot be written, a channel that is not
entered raise here, where the mistake is, and not in a background task.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, ClassVar, Protocol, Self

import grpc
import grpc.aio
import trio

from ._awaited import LOCALLY_CANCELLED
from ._bases import StreamStreamMultiCallableBase, StreamUnaryMultiCallableBase
from ._calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall, too_large_to_send
from ._compression import name_of
from ._deadline import seconds
from ._generators import drive_any, reported
from ._intercepted import details_of, intercept
from ._metadata import checked_metadata
from ._method import Method
from ._rpc import Home, Rpc
from ._wire import as_bytes

RequestIterator = AsyncIterable[Any] | Iterable[Any] | None


class Beginner(Home, Protocol):
    """The home of RPCs, as what begins them there sees it."""

    encoding: str
    brokered: bool
    interceptors: dict[str, tuple[Any, ...]]

    def check_open(self) -> None:
        """Raise `grpc.aio.UsageError` unless calls can begin."""

    def begin(self, rpc: Rpc, credentials: grpc.CallCredentials | None) -> None:
        """Begin it, after its credentials have said what they add."""

    def start_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run it in the background, with the caller's context."""


class Multicallable:
    """What the four kinds have in common."""

    kind: ClassVar[str]
    face: ClassVar[Any]
    """The class of its call objects."""

    def __init__(self, channel: Beginner, method: Method) -> None:
        self._channel = channel
        self._method = method
        self._interceptors = channel.interceptors[self.kind]
        self._start: Callable[..., Any] = self._intercept if self._interceptors else self.call

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._method.path}>"

    def _begin(
        self,
        request: bytes | None,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Rpc:
        channel, method = self._channel, self._method
        channel.check_open()
        rpc = Rpc(channel, method, request)
        if metadata is not None:
            rpc.entries = checked_metadata(metadata)
        config = method.config
        if config is not None:
            timeout = config.timeout if timeout is None else min(seconds(timeout), config.timeout or math.inf)
            wait_for_ready = config.wait_for_ready if wait_for_ready is None else wait_for_ready
        if timeout is not None:
            rpc.deadline = trio.current_time() + seconds(timeout)
        if wait_for_ready:
            rpc.wait_for_ready = True
        encoding = channel.encoding if compression is None else name_of(compression)
        if encoding:
            rpc.encoding = encoding
        if channel.brokered:
            self._check_brokered(rpc)
        if request is not None and len(request) > method.max_request:
            rpc.finish_unsent(too_large_to_send(len(request), method.max_request))
        else:
            channel.begin(rpc, credentials)
        return rpc

    def _intercept(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        self._channel.check_open()
        details = details_of(self._method.path_bytes, timeout, metadata, credentials, wait_for_ready)

        def begin(details: grpc.aio.ClientCallDetails, request: Any) -> grpc.aio.Call:
            metadata, ready = details.metadata, details.wait_for_ready
            call: grpc.aio.Call = self._for_method(details.method).call(
                request, details.timeout, metadata, details.credentials, ready, compression
            )
            return call

        return intercept(self._channel, self.kind, self._interceptors, details, request, begin)

    def _for_method(self, path: str | bytes) -> Self:
        """This one; or one like it, where an interceptor has changed the method."""
        method = self._method
        if path in (method.path, method.path_bytes):
            return self
        return type(self)(self._channel, method.with_path(path))

    def call(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        """Begin a call that nobody intercepts; *request* is a message, or the iterator of a stream, or None."""
        method = self._method
        if method.unary_request:
            payload = as_bytes(request if method.serialize is None else method.serialize(request))
            return self.face(self._begin(payload, timeout, metadata, credentials, wait_for_ready, compression))
        rpc = self._begin(None, timeout, metadata, credentials, wait_for_ready, compression)
        call = self.face(rpc)
        if request is not None:
            call.fed_by_iterator()
            if rpc.status is None:
                rpc.feeder = self._channel.start_task(_feed, rpc, request)
        return call

    def _check_brokered(self, rpc: Rpc) -> None:
        if not self._method.unary:
            raise grpc.aio.UsageError("through a proxy only unary calls are made: the messages of a stream would part")
        if rpc.deadline == math.inf and trio.current_effective_deadline() == math.inf:
            raise grpc.aio.UsageError("through a proxy a call needs a timeout: nobody would tell that it was lost")


async def _feed(rpc: Rpc, requests: AsyncIterable[Any] | Iterable[Any]) -> None:
    """Send what *requests* gives."""
    serialize, outgoing = rpc.method.serialize, rpc.requests
    assert outgoing is not None  # a stream has them from the beginning

    def send(request: Any) -> Awaitable[bool] | bool:
        payload = as_bytes(request if serialize is None else serialize(request))
        if len(payload) > rpc.method.max_request:
            rpc.abandon(too_large_to_send(len(payload), rpc.method.max_request))
            return False
        return outgoing.send_nowait(payload) or outgoing.send(payload)

    def failed(error: Exception) -> None:
        """Whatever the user's iterator raises ends the call, as in grpcio."""
        rpc.cause = error
        rpc.abandon(LOCALLY_CANCELLED)

    with reported(failed):
        await drive_any(requests, send)
        outgoing.end()


class UnaryUnaryMultiCallable(Multicallable, grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """Begins calls with one request and one response."""

    kind: ClassVar[str] = "unary_unary"
    face: ClassVar[Any] = UnaryUnaryCall

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnaryCall[Any, Any]:
        """Begin the call; await what is returned for the response."""
        call: UnaryUnaryCall[Any, Any]
        call = self._start(request, timeout, metadata, credentials, wait_for_ready, compression)
        return call


class UnaryStreamMultiCallable(Multicallable, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    """Begins calls with one request and many responses."""

    kind: ClassVar[str] = "unary_stream"
    face: ClassVar[Any] = UnaryStreamCall

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryStreamCall[Any, Any]:
        """Begin the call; iterate over what is returned, or `read` from it."""
        call: UnaryStreamCall[Any, Any]
        call = self._start(request, timeout, metadata, credentials, wait_for_ready, compression)
        return call


class StreamUnaryMultiCallable(Multicallable, StreamUnaryMultiCallableBase):
    """Begins calls with many requests and one response."""

    kind: ClassVar[str] = "stream_unary"
    face: ClassVar[Any] = StreamUnaryCall

    def __call__(
        self,
        request_iterator: RequestIterator = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamUnaryCall[Any, Any]:
        """Begin the call; without an iterator `write` its requests. Await it for the response."""
        call: StreamUnaryCall[Any, Any]
        call = self._start(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        return call


class StreamStreamMultiCallable(Multicallable, StreamStreamMultiCallableBase):
    """Begins calls with many requests and many responses."""

    kind: ClassVar[str] = "stream_stream"
    face: ClassVar[Any] = StreamStreamCall

    def __call__(
        self,
        request_iterator: RequestIterator = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamStreamCall[Any, Any]:
        """Begin the call; without an iterator `write` its requests."""
        call: StreamStreamCall[Any, Any]
        call = self._start(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        return call
