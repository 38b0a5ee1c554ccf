"""A place where one task waits until somebody lets it look again."""

from __future__ import annotations

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


class Parking:
    """What has such a place; a base, since an object of its own in each of ten thousand open calls would be felt."""

    __slots__ = ("_parked",)

    def __init__(self) -> None:
        self._parked: Task | None = None

    def wake(self) -> None:
        """Let the task that waits here look again, if one does."""
        if self._parked is not None:
            task, self._parked = self._parked, None
            reschedule(task)

    @enable_ki_protection
    async def park(self, busy: str) -> None:
        """Wait for `wake`.

        Raises:
            trio.BusyResourceError: another task waits here; *busy* says at what.
        """
        if self._parked is not None:
            raise trio.BusyResourceError(busy)
        self._parked = current_task()
        await wait_task_rescheduled(self._leave)

    def _leave(self, _: RaiseCancelT) -> Abort:
        # The first act of an abort function is to forget the task: a second wake-up of it would end the program.
        self._parked = None
        return Abort.SUCCEEDED
