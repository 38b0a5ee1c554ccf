"""Starting and stopping: tasks that say when they have started, and a time to end that may come nearer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio


class Started(trio.TaskStatus[None]):
    """What a background task tells that it has started."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def started(self, value: None = None) -> None:
        """It has."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until it has."""
        await self._event.wait()


class Grace:
    """The time that calls have to end by themselves; of several that ask for it the one that ends soonest decides.

    Attributes:
        until: in seconds of trio's clock.
    """

    def __init__(self) -> None:
        self.until = math.inf
        self._sooner = trio.Event()

    def __repr__(self) -> str:
        return f"<Grace until {self.until}>"

    def end_at(self, when: float) -> None:
        """End it at *when*, if it does not end before."""
        if when < self.until:
            self.until = when
            self._sooner.set()
            self._sooner = trio.Event()

    async def wait(self, done: Callable[[], Awaitable[None]]) -> None:
        """Wait until *done* returns, or the time is over."""
        async with trio.open_nursery() as nursery:

            async def until_done() -> None:
                await done()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_done)
            while trio.current_time() < self.until:
                sooner = self._sooner
                with trio.move_on_at(self.until):
                    await sooner.wait()
            nursery.cancel_scope.cancel()
