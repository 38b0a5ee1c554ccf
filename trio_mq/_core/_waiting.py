"""Tasks that wait for something that is handed to them: in order of arrival, each with what it wants.

There is no third state: a task whose wait was cancelled has left the line and got nothing, a task that was served will
not see the cancellation. Whoever makes room or brings messages serves the line itself, so nobody can overtake it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, TypeVar

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

Want = TypeVar("Want")


class Line(Generic[Want]):
    """A line of waiting tasks."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: OrderedDict[Task, Want] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, want: Want) -> Any:
        """Stand in line for *want*; returns (or raises) what the task is served with. If cancelled, it got nothing."""
        task = current_task()
        self._waiting[task] = want

        def abort(_: RaiseCancelT) -> Abort:
            # The first act of an abort function is to forget the task: a second wake-up of it would end the program.
            self._waiting.pop(task, None)
            return Abort.SUCCEEDED

        return await wait_task_rescheduled(abort)

    def first(self) -> Want:
        """What the first task in line wants."""
        return next(iter(self._waiting.values()))

    def serve(self, value: Any) -> None:
        """Hand *value* to the first task in line."""
        reschedule(self._waiting.popitem(last=False)[0], outcome.Value(value))

    def refuse(self, error: BaseException) -> None:
        """Raise *error* in the first task in line."""
        reschedule(self._waiting.popitem(last=False)[0], outcome.Error(error))

    def refuse_all(self, make_error: type[trio.ClosedResourceError], text: str) -> None:
        """Raise an error of its own in every task in line."""
        while self._waiting:
            self.refuse(make_error(text))


class Slot:
    """Room for one parked task, an engine's reader or writer."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: Task | None = None

    @property
    def occupied(self) -> bool:
        """Whether a task is parked here."""
        return self._task is not None

    async def park(self) -> None:
        """Sleep until `wake`."""
        self._task = current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._task = None
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def wake(self) -> None:
        """Let the parked task run, if there is one."""
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)
