"""A crew: at most so many tasks that take turns at receiving, each handling what it has received before it comes back.

So nothing is received that nobody has time for, which is what makes a sender wait; and handlers start in the order in
which messages came, because the next task can receive only after this one has begun. A reading task that starts a task
for each message would give neither: trio runs tasks that become ready together in any order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import current_task

from ._workers import Worker

Item = TypeVar("Item")


class _Idle:
    """The job of a worker that has none."""

    worker: Worker | None = None

    async def run(self) -> None:
        raise AssertionError("it is never run")


_IDLE = _Idle()


class Crew(Generic[Item]):
    """Up to *size* tasks; they are made when they are needed.

    Args:
        size: tasks, at most.
        receive: the next item; raises `trio.ClosedResourceError` when there are no more.
        handle: what is done with it, in the worker that received it. It may give the worker a job, and who cancels the
            worker's scope ends that job.
        interrupted: what is done with a job that was ended so, outside that scope.

    Attributes:
        busy: tasks that handle something now.
    """

    def __init__(
        self,
        size: int,
        receive: Callable[[], Awaitable[Item]],
        handle: Callable[[Item, Worker], Awaitable[Any]],
        interrupted: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self.busy: int = 0
        self._size = size
        self._receive = receive
        self._handle = handle
        self._interrupted = interrupted
        self._members = 0
        self._closed = False
        self._turn = trio.Lock()
        self._base = copy_context()
        self._nursery: trio.Nursery

    def __repr__(self) -> str:
        return f"<Crew: {self.busy} of at most {self._size} busy>"

    async def run(self) -> None:
        """Work until there is nothing more to receive, and all that was received is handled."""
        self._base = copy_context()
        async with trio.open_nursery() as self._nursery:
            self._enlist()

    def _enlist(self) -> None:
        if self.busy == self._members < self._size and not self._closed:
            self._members += 1
            self._nursery.start_soon(self._work)

    async def _work(self) -> None:
        worker = Worker(current_task(), _IDLE)
        with worker.scope:
            while not (worker.scope.cancel_called or self._closed):
                if worker.task.context != self._base:
                    # Nothing passes from one caller to the next. A new context holds from the task's next step on.
                    worker.task.context = self._base.copy()
                    await trio.lowlevel.checkpoint()
                item = await self._next()
                if item is not None:
                    await self._handle_item(item, worker)
        # Here if its scope was cancelled, or nothing comes any more; not if the whole crew was cancelled.
        if worker.job is not _IDLE:
            await self._interrupted(worker.job)
        self._members -= 1
        self._enlist()

    async def _next(self) -> Item | None:
        if self._size == 1:
            return await self._take()  # there is nobody to take turns with
        try:
            self._turn.acquire_nowait()  # acquiring it with `await` yields each time
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            return await self._take()
        finally:
            self._turn.release()

    async def _take(self) -> Item | None:
        try:
            item = await self._receive()
        except trio.ClosedResourceError:
            self._closed = True
            return None
        self.busy += 1
        self._enlist()
        return item

    async def _handle_item(self, item: Item, worker: Worker) -> None:
        try:
            await self._handle(item, worker)
            worker.job = _IDLE
        finally:
            self.busy -= 1
