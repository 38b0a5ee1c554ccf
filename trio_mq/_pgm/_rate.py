"""A token bucket: how many bytes may be sent by now, and when there are enough for the next datagram."""

from __future__ import annotations

import math


class Bucket:
    """Bytes that flow in at *rate* a second, up to *depth*.

    Args:
        rate: bytes a second; `math.inf` for no limit.
        depth: bytes that may be saved up. It has to hold the largest datagram, and to bridge the coarseness of a timer:
            one that is full before its owner wakes costs throughput.
        now: the time.
    """

    def __init__(self, rate: float, depth: float, now: float) -> None:
        self._rate = rate
        self._depth = depth
        self._level = depth
        self._since = now

    def level(self, now: float) -> float:
        """The bytes there are now."""
        if self._rate == math.inf:
            return math.inf
        if now > self._since:
            self._level = min(self._depth, self._level + (now - self._since) * self._rate)
            self._since = now
        return self._level

    def take(self, size: int) -> None:
        """Spend *size* bytes."""
        if self._rate != math.inf:
            self._level -= size

    def ready_at(self, size: int, now: float) -> float:
        """When there are *size* bytes, if nothing is spent before."""
        short = size - self.level(now)
        # A hair more than that, or rounding would have its owner come a moment too early, for nothing.
        return now if short <= 0 else now + short / self._rate + 1e-6
