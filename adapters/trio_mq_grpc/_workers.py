"""The pool of tasks that run handlers: parked between calls, because starting a task costs more than a small call.

Nothing passes from one call to the next. Before a parked task is woken it gets a fresh copy of the context in which the
server was started, as gRPC promises; and a task that was cancelled ends, together with its one cancel scope.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Protocol

import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

_MOST_PARKED = 256
"""Tasks that are kept for later; a burst of calls must not hold its memory for ever."""


class Job(Protocol):
    """What a worker runs."""

    worker: Worker | None

    async def run(self) -> None:
        """All of it. Raises nothing but `trio.Cancelled`, and what ends the program."""


class Worker:
    """A task of the pool.

    Attributes:
        scope: around whatever it runs; cancelled once, then the task ends.
        job: what it runs, or ran last.
    """

    __slots__ = ("job", "scope", "task")

    def __init__(self, task: Task, job: Job) -> None:
        self.task: Task = task
        self.job: Job = job
        self.scope: trio.CancelScope = trio.CancelScope()


class Pool:
    """Workers in one nursery.

    Attributes:
        busy: jobs that run now, with those that were cancelled and have not ended yet.
    """

    def __init__(self) -> None:
        self.busy: int = 0
        self._nursery: trio.Nursery | None = None
        self._parked: list[Worker] = []
        self._base = Context()
        self._idle = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Pool: {self.busy} busy, {len(self._parked)} parked>"

    @enable_ki_protection
    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled, each in a copy of the context of this moment."""
        self._base = copy_context()
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def run(self, job: Job) -> None:
        """Run *job*, soon."""
        self.busy += 1
        if self._parked:
            worker = self._parked.pop()
            worker.job = job
            job.worker = worker
            worker.task.context = self._base.copy()
            reschedule(worker.task)
        else:
            assert self._nursery is not None
            self._base.copy().run(self._nursery.start_soon, self._work, job)

    def hold(self) -> None:
        """One job more counts as running, until `release`: a thread that goes on after its call has ended."""
        self.busy += 1

    def release(self) -> None:
        """One job less is running."""
        self.busy -= 1
        if not self.busy:
            self._idle.unpark_all()

    async def wait_idle(self) -> None:
        """Wait until nothing runs."""
        while self.busy:
            await self._idle.park()

    @enable_ki_protection
    async def _work(self, job: Job) -> None:
        worker = job.worker = Worker(current_task(), job)
        with worker.scope:
            while True:
                try:
                    await worker.job.run()
                finally:
                    self.release()
                if worker.scope.cancel_called or len(self._parked) >= _MOST_PARKED:
                    break
                await self._park(worker)

    async def _park(self, worker: Worker) -> None:
        def abort(_: RaiseCancelT) -> Abort:
            self._parked.remove(worker)
            return Abort.SUCCEEDED

        self._parked.append(worker)
        await wait_task_rescheduled(abort)
