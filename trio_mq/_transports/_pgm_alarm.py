"""A wait for a time or for a call, whichever comes first. What the timer tasks of multicast sleep in."""

from __future__ import annotations

import trio


class Alarm:
    """Wakes one task.

    Attributes:
        set_for: the time until which its task sleeps; `-inf` while it is awake.
    """

    def __init__(self) -> None:
        self.set_for = -float("inf")
        self._rung = False
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake the task, or keep it from falling asleep."""
        self._rung = True
        self._event.set()

    async def sleep_until(self, deadline: float) -> None:
        """Sleep until *deadline* on trio's clock, or until `ring`."""
        if self._rung or deadline <= trio.current_time():
            await trio.lowlevel.checkpoint()
        else:
            self._event = trio.Event()
            self.set_for = deadline
            with trio.CancelScope(deadline=deadline):
                await self._event.wait()
        self._rung = False
        self.set_for = -float("inf")
