"""The heartbeats of all connections of a socket, driven by one task that exists only if somebody has any.

A scope or a timer for each read would cost more than the read (decision D11), so engines only set flags, and this looks
at them when the next deadline has come.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from ..zmtp import Heartbeat


class Ticking(Protocol):
    """Something with a heartbeat."""

    heartbeat: Heartbeat

    def tick(self, now: float) -> None:
        """Do what is due."""


class Timers:
    """Ticks whoever is due.

    Args:
        start: called once, with the task to run, when the first deadline is known.
    """

    def __init__(self, start: Callable[[Callable[[], Awaitable[None]]], object]) -> None:
        self._start = start
        self._running = False
        self._ticking: dict[Ticking, None] = {}
        self._changed = trio.Event()

    def add(self, engine: Ticking) -> None:
        """Watch *engine*."""
        self._ticking[engine] = None
        self.changed()

    def remove(self, engine: Ticking) -> None:
        """Watch it no more."""
        self._ticking.pop(engine, None)

    def changed(self) -> None:
        """Some deadline may be earlier now."""
        if self._running:
            self._changed.set()
        elif self._next() < math.inf:
            self._running = True
            self._start(self._run)

    def _next(self) -> float:
        return min((engine.heartbeat.next_deadline for engine in self._ticking), default=math.inf)

    async def _run(self) -> None:
        while True:
            now = trio.current_time()
            for engine in list(self._ticking):
                engine.tick(now)
            self._changed = trio.Event()
            with trio.move_on_at(max(self._next(), now + 0.001)):
                await self._changed.wait()
