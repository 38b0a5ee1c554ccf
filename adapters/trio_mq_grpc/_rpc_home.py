"""What every home of RPCs has, whatever becomes of them there: a block in which they live, deadlines, and an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc.aio
import trio

import trio_mq

from ._awaited import LOCALLY_CANCELLED
from ._rpc import Rpc
from ._wheel import Wheel


class RpcHome:
    """The RPCs of a channel, from the beginning of its block to its end. The channel enters it with itself.

    Attributes:
        wheel: the deadlines.
        interceptors: by kind of call.
        active: all that have begun and have no status.
        closed: set when all calls have been ended.
    """

    def __init__(self, name: str, made_by: str, interceptors: dict[str, tuple[Any, ...]]) -> None:
        self.wheel: Wheel = Wheel()
        self.interceptors = interceptors
        self.active: set[Rpc] = set()
        self.closed: trio.Event = trio.Event()
        self._made_by = made_by
        self._reactor = trio_mq.Reactor(name)
        self._block: AbstractAsyncContextManager[None] | None = None
        self._opened = False
        self._closing = False

    # --- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise grpc.aio.UsageError("a channel is entered once")
        self._block = self._run()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._block is not None
        await self._block.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # it waits for no call

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        try:
            async with self._reactor.run(self._leave):
                self._opened = True
                self._reactor.start(self.wheel.run)
                yield
        finally:
            self.close()

    async def _leave(self, normally: bool) -> None:
        self.close()

    def check_open(self) -> None:
        """Raise `grpc.aio.UsageError` unless calls can begin."""
        if not self._opened:
            raise grpc.aio.UsageError(f"enter the channel first: async with {self._made_by} as channel")
        if self._closing:
            raise grpc.aio.UsageError("Channel is closed.")

    async def close_after(self, grace: float | None) -> None:
        """Begin no more calls, wait up to *grace* seconds for those under way, and `close`; also if cancelled.

        Raises:
            ValueError: *grace* is negative.
        """
        if grace is not None and grace < 0:
            raise ValueError(f"grace is at least 0 seconds, not {grace}")
        self._closing = True
        try:
            with trio.move_on_after(grace or 0):
                while self.active:
                    await next(iter(self.active)).wait_ended()
        finally:
            self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Cancel the calls. Twice is fine."""
        self._closing = True
        for rpc in list(self.active):
            rpc.abandon(LOCALLY_CANCELLED)
        self.closed.set()

    # --- RPCs -------------------------------------------------------------------------------------------------------

    def start_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run ``task(*args)`` in the background, with the caller's context, until the channel is closed."""
        return self._reactor.start(task, *args)
