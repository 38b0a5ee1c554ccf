"""What of an RPC tasks wait for: its status, its initial metadata, a peer.

One task awaits most calls, and it has a place of its own; whoever else looks stands in a lot, which few calls have.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, Final

import grpc
import trio
from trio.lowlevel import Abort, ParkingLot, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from ._blocks import Entry
from ._status import Status

LOCALLY_CANCELLED: Final = Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")


class Awaited:
    """The half of an `Rpc` at which tasks wait.

    Attributes:
        status: how it ended; None while it runs.
        initial: the server's initial metadata, once something came.
        call_id: of the attempt under way; 0 while it has no peer.
    """

    status: Status | None = None
    initial: tuple[Entry, ...] | None = None
    call_id: int = 0
    _waiter: Task | None = None
    _lot: ParkingLot | None = None

    @property
    def ended_well(self) -> bool:
        """Whether it has ended, with OK."""
        return self.status is not None and self.status.code is grpc.StatusCode.OK

    @abstractmethod
    def abandon(self, status: Status) -> None:
        """End it here with *status*, and tell the peer if it has heard of it."""

    # --- waiting ----------------------------------------------------------------------------------------------------

    def end_or_cancel(self) -> Coroutine[Any, Any, Any]:
        """While it runs: await this at once, under KI protection, for the status; being cancelled cancels the RPC."""
        if self._waiter is None:
            # A frame less to resume than a coroutine of ours would be.
            self._waiter = current_task()
            return wait_task_rescheduled(self._abort)  # noqa: ASYNC105  # the caller awaits it
        return self._wait_with_others()

    def _abort(self, _: RaiseCancelT) -> Abort:
        # The first act of an abort function is to forget the task: a second wake-up of it would end the program.
        self._waiter = None
        self.abandon(LOCALLY_CANCELLED)
        return Abort.SUCCEEDED

    async def _wait_with_others(self) -> None:
        try:
            await self.wait_ended()
        except trio.Cancelled:
            self.abandon(LOCALLY_CANCELLED)
            raise

    async def wait_ended(self) -> None:
        """Wait for the status."""
        while self.status is None:
            await self._look_again()

    async def wait_initial(self) -> None:
        """Wait for the initial metadata, or the status."""
        while self.initial is None and self.status is None:
            await self._look_again()

    async def wait_opened(self) -> None:
        """Wait until it has a peer, or its status."""
        while not self.call_id and self.status is None:
            await self._look_again()

    async def _look_again(self) -> None:
        if self._lot is None:
            self._lot = ParkingLot()
        await self._lot.park()

    # --- telling ----------------------------------------------------------------------------------------------------

    def tell_lookers(self) -> None:
        """Something has changed, though not the status."""
        if self._lot is not None:
            self._lot.unpark_all()

    def tell_all(self) -> None:
        """It has its status."""
        if self._waiter is not None:
            task, self._waiter = self._waiter, None
            reschedule(task)
        if self._lot is not None:
            self._lot.unpark_all()
