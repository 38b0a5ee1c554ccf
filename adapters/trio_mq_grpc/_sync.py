"""Plain functions as handlers: each runs whole in one worker thread, with a context that may be used there.

A generator, too, stays in its thread from first step to last, or it would lose its context variables and thread-locals
between two items. What waits or changes the call goes back to the event loop; what only looks at it does not.

A thread cannot be cancelled. When its call ends before it, the status goes out all the same; the thread goes on, its
`SyncContext.is_active` is False, its writes raise, and it counts as a running call until it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
import trio

from ._context import Context, Facts, Requests, abort
from ._served import ServedCall


class SyncContext(Facts, grpc.ServicerContext):  # type: ignore[misc]  # ours returns what grpcio returns
    """The context of a call whose handler runs in a thread: as in grpcio, without coroutines.

    On the event loop its methods give awaitables instead: a plain function may turn out to return a coroutine.
    """

    def __init__(self, call: ServedCall) -> None:
        super().__init__(call)
        self.on_the_loop = Context(call)
        self._token = trio.lowlevel.current_trio_token()

    def read(self) -> Any:
        """The next request; `grpc.aio.EOF` behind the last one."""
        return self._wait_for(self.on_the_loop.read)

    def write(self, message: Any) -> Any:
        """Send *message* as soon as there is credit for it."""
        return self._wait_for(self.on_the_loop.write, message)

    def send_initial_metadata(self, initial_metadata: Any) -> Any:
        """Send *initial_metadata* now, once, before the first message."""
        return self._wait_for(self.on_the_loop.send_initial_metadata, initial_metadata)

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with *code*; raises `grpc.aio.AbortError` always."""
        self._run(abort, self._call, code, details, trailing_metadata)
        raise AssertionError("abort() raises")

    def abort_with_status(self, status: Any) -> NoReturn:
        """`abort` with the three attributes of *status*."""
        self.abort(status.code, status.details, status.trailing_metadata)

    def time_remaining(self) -> Any:
        return self._run(super().time_remaining)

    def cancel(self) -> Any:
        return self._run(super().cancel)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._run(super().add_done_callback, callback)

    def add_callback(self, callback: Callable[[], None]) -> Any:
        return self._run(super().add_callback, callback)

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        if trio.lowlevel.in_trio_task():
            return function(*args)
        return trio.from_thread.run_sync(function, *args, trio_token=self._token)

    def _wait_for(self, function: Callable[..., Any], *args: Any) -> Any:
        if trio.lowlevel.in_trio_task():
            return function(*args)
        return trio.from_thread.run(function, *args, trio_token=self._token)


class SyncRequests(Requests):
    """The request stream, as a plain function iterates over it; or an async one that it turns out to return."""

    __slots__ = ("_sync_context",)

    def __init__(self, context: SyncContext) -> None:
        super().__init__(context.on_the_loop)
        self._sync_context = context

    def __iter__(self) -> SyncRequests:
        return self

    def __next__(self) -> Any:
        message = self._sync_context.read()
        if message is grpc.aio.EOF:
            raise StopIteration
        return message
