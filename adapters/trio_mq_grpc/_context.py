"""What a handler knows of its call, and can do to it: grpcio's `ServicerContext`, on trio.

A context belongs to one call for ever. One that is kept too long does nothing to the call that its task runs next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc
import grpc.aio
import trio

from ._compression import name_of
from ._metadata import as_metadata, checked_metadata
from ._served import CANCELLED, ServedCall
from ._status import Status, to_code
from ._wire import as_bytes


class Facts:
    """What does not wait: the same on the event loop and in a thread."""

    def __init__(self, call: ServedCall) -> None:
        self._call = call

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._call!r}>"

    @property
    def call(self) -> ServedCall:
        """The call it is about, for what runs the handler."""
        return self._call

    # --- the status -------------------------------------------------------------------------------------------------

    def set_code(self, code: Any) -> None:
        """End the call with *code* when the handler returns; a message that it returns is dropped unless that is OK."""
        self._call.code = to_code(code)
        self._call.odd_end = True

    def set_details(self, details: str) -> None:
        """What the status will say."""
        self._call.details = details
        self._call.odd_end = True

    def code(self) -> grpc.StatusCode | None:
        """How the call ended; while it runs what `set_code` was given, else None."""
        status = self._call.status
        return self._call.code if status is None else status.code

    def details(self) -> str:
        """What `set_details` was given, or the status of a call that has ended says."""
        status = self._call.status
        return self._call.details if status is None else status.details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Send *trailing_metadata* with the status.

        Raises:
            TypeError, ValueError: it cannot be metadata.
        """
        self._call.trailers = checked_metadata(trailing_metadata)
        self._call.odd_end = True

    def trailing_metadata(self) -> grpc.aio.Metadata:
        """What `set_trailing_metadata` was given."""
        return as_metadata(self._call.trailers)

    # --- compression ------------------------------------------------------------------------------------------------

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress the messages of this call, if the caller can read that.

        Raises:
            RuntimeError: initial metadata or a message was sent already.
        """
        if self._call.answer.head_sent:
            raise RuntimeError("compression is said in the initial metadata, which was sent already")
        self._call.answer.compress_with(name_of(compression))

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self._call.answer.skip_compression()

    @property
    def message_compressed(self) -> bool:
        """Whether the request that was read last came compressed."""
        return self._call.was_compressed

    # --- the caller -------------------------------------------------------------------------------------------------

    def invocation_metadata(self) -> Any:
        """The caller's metadata: a tuple of pairs that have a ``key`` and a ``value``, with its ``user-agent``."""
        return self._call.peer.details_of(self._call).invocation_metadata

    def peer(self) -> str:
        """Where the caller is: ``ipv4:127.0.0.1:40000``, ``ipv6:...``, ``unix:...`` (also for inproc)."""
        return self._call.peer.name

    def peer_identities(self) -> Iterable[bytes] | None:
        """The user that the authenticator named; None on a port without credentials."""
        user = self._call.peer.user_id
        return None if user is None else [user.encode()]

    def peer_identity_key(self) -> str | None:
        """The key in `auth_context` that has the identities."""
        return None if self._call.peer.user_id is None else "zap_user_id"

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """How the connection is secured (not at all, by NULL or PLAIN), and by whom it was made."""
        return self._call.peer.auth_context()

    # --- life -------------------------------------------------------------------------------------------------------

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        deadline = self._call.deadline
        return None if deadline == math.inf else max(0.0, deadline - trio.current_time())

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._call.status is not None

    def cancelled(self) -> bool:
        """Whether the call was cancelled: by the caller, by `cancel`, or because the connection was lost."""
        status = self._call.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return self._call.status is None

    def cancel(self) -> bool:
        """End the call with CANCELLED, and cancel its handler. False if it has ended already."""
        if self._call.status is not None:
            return False
        self._call.end(CANCELLED)
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback(context)`` when the call ends; at once if it has."""
        call_when_done(self._call, lambda: callback(self))

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call ``callback()`` when the call ends. False if it has, and the callback is never called."""
        if self._call.status is not None:
            return False
        call_when_done(self._call, callback)
        return True

    @property
    def state(self) -> dict[Any, Any]:
        """A place for interceptors and the handler to leave something for each other."""
        return self._call.state


class Context(Facts, grpc.aio.ServicerContext):  # type: ignore[misc, type-arg]  # ours returns what grpcio returns
    """The context of a call whose handler runs on the event loop."""

    async def read(self) -> Any:
        """The next request, or `grpc.aio.EOF` behind the last one. Cancelled: none was taken."""
        call = self._call
        data = call.take()
        if data is None:
            data = await call.receive()
            if data is None:
                return grpc.aio.EOF
        return await watched_request(call, data, self) if call.home.watchers else decoded(call, data)

    async def write(self, message: Any) -> None:
        """Send *message* as soon as there is credit for it. Cancelled: it was not sent.

        Raises:
            grpc.aio.UsageError: the call has ended.
            trio.BusyResourceError: another task of the handler is writing.
        """
        call = self._call
        data = await watched_response(call, message, self) if call.home.watchers else encoded(call, message)
        answer = call.answer
        if not answer.send_nowait(data):
            await answer.send(data)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send *initial_metadata* now, once, before the first message.

        Raises:
            grpc.aio.UsageError: it was sent, or a message was.
            TypeError, ValueError: it cannot be metadata.
        """
        self._call.answer.send_initial_metadata(checked_metadata(initial_metadata))
        await trio.lowlevel.checkpoint()

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with *code*, which is not OK. What was set before stands in for what is left out here.

        Raises:
            grpc.aio.AbortError: always; catching it does not undo anything.
            ValueError: *code* is OK.
        """
        abort(self._call, code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """`abort` with the three attributes of *status*, such as `grpc_status.rpc_status.to_status` makes."""
        abort(self._call, status.code, status.details, status.trailing_metadata)


def abort(call: ServedCall, code: Any, details: str, trailing_metadata: Any) -> NoReturn:
    """End *call* as `Context.abort` says."""
    code = to_code(code)
    if code is grpc.StatusCode.OK:
        raise ValueError("abort() means failure, so its code is not OK; return from the handler instead")
    trailers = checked_metadata(trailing_metadata) or call.trailers
    call.aborted = True
    call.finish(Status(code, details or call.details, trailers))
    raise grpc.aio.AbortError(f"the call was aborted with {code.name}: {details}")


def call_when_done(call: ServedCall, callback: Callable[[], None]) -> None:
    """Call *callback* when *call* has ended, or now."""
    if call.status is not None:
        callback()
    elif call.callbacks is None:
        call.callbacks = [callback]
    else:
        call.callbacks.append(callback)


def undecodable(exc: Exception) -> Status:
    """The status of a call whose request cannot be decoded because of *exc*."""
    return Status(grpc.StatusCode.INTERNAL, f"a request cannot be decoded: {exc}")


def decoded(call: ServedCall, data: bytes) -> Any:
    """The request in *data*.

    Raises:
        ValueError: it cannot be decoded; the call has ended because of that.
    """
    assert call.method is not None
    try:
        return call.method.deserialize(data)
    except Exception as exc:
        call.end(undecodable(exc))
        raise ValueError("a request cannot be decoded") from exc


def encoded(call: ServedCall, message: Any) -> bytes:
    """*message* in bytes.

    Raises:
        TypeError: the serializer gives no bytes. Whatever it raises itself.
    """
    assert call.method is not None
    return as_bytes(call.method.serialize(message))


async def watched_request(call: ServedCall, data: bytes, context: Any) -> Any:
    """The request in *data*, with what interceptors make of it."""
    message = decoded(call, data)
    for watcher in call.home.watchers:
        message = await watcher.on_request(message, context)
    return message


async def watched_response(call: ServedCall, message: Any, context: Any) -> bytes:
    """*message* in bytes, with what interceptors make of it."""
    for watcher in reversed(call.home.watchers):
        message = await watcher.on_response(message, context)
    return encoded(call, message)


class Requests:
    """The request stream, as a handler iterates over it; `Context.read` takes from the same one."""

    __slots__ = ("_call", "_context")

    def __init__(self, context: Context) -> None:
        self._call = context.call
        self._context = context

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Any:
        call = self._call
        data = call.take()
        if data is None:
            data = await call.receive()
            if data is None:
                raise StopAsyncIteration
        return await watched_request(call, data, self._context) if call.home.watchers else decoded(call, data)
