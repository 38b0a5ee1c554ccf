"""The wheel: the deadlines of all calls of a channel or server, in buckets of a millisecond, watched by one task.

A cancel scope with a deadline for each call would cost a third of all unary calls (`tests.benchmarks`, row
"unary with timeout"); here it costs a place in a set, and the scope is cancelled by whoever expires.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import Protocol

import trio

from ._parking import Parking

_ROUNDING = 0.01
"""Milliseconds."""
_MOST_STALE = 1024
"""Times of calls that ended, beyond as many as there are of calls that run."""


class Expiring(Protocol):
    """What can be put into a wheel."""

    def expire(self) -> None:
        """The deadline has passed."""


class Wheel(Parking):
    """Deadlines, in seconds of trio's clock."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[int, set[Expiring]] = {}
        self._times: list[int] = []
        self._wakes_at = math.inf

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, deadline: float, item: Expiring) -> int:
        """Expire *item* at *deadline*, at most a millisecond late. Returns the key to `discard` it with."""
        key = math.ceil(min(deadline, 1e12) * 1000)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = set()
            if len(self._times) > 2 * len(self._buckets) + _MOST_STALE:
                # Calls end long before their deadlines; what is left of them here must not grow until those pass.
                self._times = list(self._buckets)
                heapify(self._times)
            else:
                heappush(self._times, key)
            if key < self._wakes_at:
                self.wake()
        bucket.add(item)
        return key

    def discard(self, key: int, item: Expiring) -> None:
        """*item* has ended before its deadline."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.discard(item)
            if not bucket:
                del self._buckets[key]
                self._compact()

    def _compact(self) -> None:
        # The times of empty buckets would otherwise stay until they come: with a call every millisecond, each with a
        # deadline in an hour, millions.
        if len(self._times) > 2 * len(self._buckets) + 64:
            self._times = list(self._buckets)
            heapify(self._times)

    async def run(self) -> None:
        """The task: until cancelled."""
        while True:
            self._expire(trio.current_time() * 1000)
            self._wakes_at = self._times[0] if self._times else math.inf
            with trio.move_on_at(self._wakes_at / 1000):
                await self.park("a wheel is run once")

    def _expire(self, now: float) -> None:
        # A clock that was jumped to the very moment may lie a rounding error before it, and would never get further.
        now += _ROUNDING
        while self._times and (self._times[0] <= now or self._times[0] not in self._buckets):
            for item in self._buckets.pop(heappop(self._times), ()):
                item.expire()
