"""A socket's life: entering its block, lingering, closing, and what leaves the block."""

from __future__ import annotations

import sys
from collections import Counter
from threading import get_ident
from types import TracebackType
from typing import Self

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import StateError
from .._events import Closed
from ._endpoints import EndpointSocket
from ._home import Life


class LivingSocket(EndpointSocket):
    """A socket that is entered and left."""

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        """Open the socket: bind in order, then connect. A bind that fails undoes those before and raises `OSError`."""
        if self._life is not Life.NEW:
            raise StateError(f"this {type(self).__name__} is {self._life.value}; a socket is entered once")
        self._block = self.reactor.run(self._leave)
        await self._block.__aenter__()
        self._thread = get_ident()
        self._life = Life.OPEN
        try:
            for intended in self._intended_binds:
                await self._bind_intended(intended)
            for target, routing_id in self._intended_connects:
                self._book.connect(target, routing_id)
            self._entered()
        except BaseException:
            await self.__aexit__(*sys.exc_info())  # noqa: ASYNC102  # left by an error, the block waits for nobody
            raise
        return self

    def _entered(self) -> None:
        """Something for subclasses to do on entry."""

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._block is not None
        try:
            await self._block.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # waits for linger only, until cancelled
        finally:
            self._close_now()

    async def _leave(self, normally: bool) -> None:
        if normally and self._life is Life.OPEN:
            self._begin_closing()
            await self._linger()
        elif normally and self._life is Life.CLOSING:
            await self.reactor.wait_stopped()  # another task closes it, and lingers
        self._close_now()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close the socket: as leaving its block does, but from any task, and the block goes on.

        Returns when every background task and file descriptor is gone. When cancelled it closes at once. Tasks waiting
        in a call get `trio.ClosedResourceError`, iterations end. Calling it twice is fine.
        """
        if self._life is Life.NEW:
            self._life = Life.CLOSED
        if self._life is Life.OPEN:
            self._begin_closing()
            try:
                await self._linger()
            finally:
                self._close_now()
        elif self._life is Life.CLOSING:
            # Somebody else lingers; being cancelled here means: enough of that.
            try:
                await self.reactor.wait_stopped()
            finally:
                self._close_now()
        if self.reactor.running:
            with trio.CancelScope(shield=True):
                await self.reactor.wait_stopped()
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def serve(
        self,
        *,
        task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED,  # pyright: ignore[reportArgumentType]  # object is a supertype of every Self
    ) -> None:
        """Enter the socket and keep it open until closed or cancelled: ``push = await nursery.start(push.serve)``."""
        async with self:
            task_status.started(self)
            await self.reactor.wait_stopped()

    def _begin_closing(self) -> None:
        self._life = Life.CLOSING
        self._book.stop_listening()
        self._disturb(trio.ClosedResourceError, f"this {type(self).__name__} was closed")

    async def _linger(self) -> None:
        await self._drain(list(self._pipes), self._book.hosts, self._lingering(self._options))

    def _close_now(self) -> None:
        """The end: nothing waits any more. Sync, so that it cannot be interrupted; twice is as good as once."""
        if self._life is Life.CLOSED:
            return
        self._life = Life.CLOSED
        unsent: Counter[str] = Counter()
        for session in self._pipes.values():
            unsent[session.endpoint] += session.undelivered()
        self._disturb(trio.ClosedResourceError, f"this {type(self).__name__} was closed")
        self._book.close()
        self.reactor.stop()
        unsent_by_endpoint = {endpoint: count for endpoint, count in unsent.items() if count}
        self.reporter.end(Closed(unsent=sum(unsent_by_endpoint.values()), unsent_by_endpoint=unsent_by_endpoint))
