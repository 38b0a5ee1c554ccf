"""`Outcome`: what one run measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Datagrams:
    """What the kernel tells of a run over datagrams; requests, repairs and announcements count like data.

    Attributes:
        sent: by the sending process.
        received, rate: by all the receiving ones together; so many, and so many a second.
        source_cpu, receiver_cpu: seconds of CPU time for each of those.
        receive_buffer: bytes that the kernel granted, at the receiver that got least; None when it does not tell.
    """

    sent: int
    received: int
    rate: float
    source_cpu: float
    receiver_cpu: float
    receive_buffer: int | None = None


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
        datagrams: None over other transports, and where the kernel does not count them.
    """

    messages: int
    seconds: float
    cpu_seconds: float
    p50: float | None = None
    p99: float | None = None
    memory: float | None = None
    missing: int = 0
    datagrams: Datagrams | None = None

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / self.messages * 1e6
