"""The receive window: what came out of order, what is missing, and what may be delivered next.

Numbers from `next` to `lead` are here, or asked for, or lost. What is neither here nor asked for is lost: its source
keeps it no longer, it was asked for in vain, or it is further behind than the window reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ._allowance import Allowance
from ._requests import Requests

COST: Final = 256
"""Bytes that a waiting datagram counts for beside its own: it costs that much, however little is in it."""


class Gap(NamedTuple):
    """Numbers, from *first* to *last*, that will never come."""

    first: int
    last: int


class ReceiveWindow:
    """One source's datagrams, put in order.

    Attributes:
        next: the number to be delivered next.
        lead: the newest number known.
        requests: what is missing.
        size: bytes that wait, and what it costs to keep them.

    Args:
        first: the number to begin with.
        limit: numbers from `next` to the newest that may be waited for. A larger gap is given up at its old end:
            OpenPGM waits there and is deaf until the next SPM.
        uniform: a function like `random.uniform`.
        allowance: what all sources share.
    """

    def __init__(self, first: int, limit: int, uniform: Callable[[float, float], float], allowance: Allowance) -> None:
        self.next = first
        self.lead = first - 1
        self.requests = Requests(uniform, allowance)
        self.size = 0
        self._floor = first
        self._limit = limit
        self._payloads: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._payloads)

    def advance(self, trail: int) -> None:
        """The source keeps nothing before *trail* any more."""
        if trail > self._floor:
            if self.requests:
                self.requests.forget(self._floor, trail)
            self._floor = trail
            if self.lead < trail - 1:
                self.lead = trail - 1

    def extend(self, lead: int, now: float) -> None:
        """The source has sent everything up to *lead*."""
        if lead <= self.lead:
            return
        if lead - self.next >= self._limit:
            self.advance(lead - self._limit + 1)
        self.requests.add(max(self.lead + 1, self._floor), lead, now)
        self.lead = lead

    def add(self, number: int, payload: bytes, now: float) -> bool | None:
        """*payload* came: True if it had been missing, False if it is new, None if it is of no use."""
        if number == self.next == self.lead + 1:
            # In order, as nearly all do (`tests.benchmarks`, rows "multicast").
            self._payloads[number] = payload
            self.size += len(payload) + COST
            self.lead = number
            return False
        if number < self.next or number in self._payloads:
            return None
        missed = number <= self.lead
        if missed:
            missed = self.requests.answered(number)
        else:
            self.extend(number - 1, now)
            if number - self.next >= self._limit:
                self.advance(number - self._limit + 1)
            self.lead = number
        self._payloads[number] = payload
        self.size += len(payload) + COST
        return missed

    @property
    def ready(self) -> bool:
        """Whether `take` gives something."""
        return self.next <= self.lead and self.next not in self.requests

    def take(self) -> bytes | Gap:
        """The next payload, or what is lost before the next one; only while `ready`."""
        payload = self._payloads.pop(self.next, None)
        if payload is not None:
            self.next += 1
            self.size -= len(payload) + COST
            return payload
        first, self.next = self.next, self._next_hope()
        return Gap(first, self.next - 1)

    def _next_hope(self) -> int:
        """The first number from `next` on that came or may still come."""
        for number in range(self.next, min(self.next + 64, self.lead + 1)):
            if number in self._payloads or number in self.requests:
                return number
        asked = self.requests.first()
        return min(self.lead + 1, min(self._payloads, default=self.lead + 1), self.lead + 1 if asked is None else asked)
