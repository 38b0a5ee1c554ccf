"""`Outcome`: what one run measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run's measurements.

    Attributes:
        messages, seconds: at the receiving end, from the first message to the last; for REQ-REP and unary calls,
            round trips; for open calls, how many there are and how long it took to open them.
        cpu_seconds: user and system time of all processes of the run while there was traffic.
        p50, p99: seconds of a round trip.
        memory: bytes that an open call takes, at the end where it takes more.
        missing: messages a publisher sent and a subscriber did not get.
    """

    messages: int
    seconds: float
    cpu_seconds: float
    p50: float | None = None
    p99: float | None = None
    memory: float | None = None
    missing: int = 0

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / self.messages * 1e6
