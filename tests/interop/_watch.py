"""Waiting for what our sockets say happened to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from trio_mq import events

from ._ends import OurEnd
from ._process import DEADLINE

EventT = TypeVar("EventT", bound=events.Event)


class Watch:
    """The events of one socket of ours, in order; those passed over are kept in `passed` for a failure's message."""

    def __init__(self, channel: trio.abc.ReceiveChannel[events.Event]) -> None:
        self._channel = channel
        self.passed: list[events.Event] = []

    async def next(self, kind: type[EventT], *, seconds: float = DEADLINE) -> EventT:
        """The next event of *kind*."""
        with trio.move_on_after(seconds):
            async for event in self._channel:
                if isinstance(event, kind):
                    return event
                self.passed.append(event)
        raise AssertionError(f"no {kind.__name__} within {seconds} s, but {self.passed}")

    async def none_within(self, kind: type[EventT], seconds: float) -> None:
        """Fail if an event of *kind* comes within *seconds*: for the claim that something does not happen."""
        with trio.move_on_after(seconds):
            async for event in self._channel:
                assert not isinstance(event, kind), event


@asynccontextmanager
async def watching(ours: OurEnd) -> AsyncIterator[Watch]:
    """The events of *ours*, from now on and the last ones before."""
    async with ours.socket.monitor() as channel:
        yield Watch(channel)


async def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* holds, or fail at the deadline."""
    with trio.fail_after(DEADLINE):
        while not condition():
            await trio.sleep(0.002)
