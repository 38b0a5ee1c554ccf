"""How much a receiver asks for, whoever it hears: requests a second, and numbers it keeps an account of.

Anybody can forge a source that misses thousands of numbers, and name the address to which requests for them go. So all
sources of a receiver share what there is: those that answer as much as they can use, and those that have not answered
yet a little, in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import Final

TO_ANSWERING: Final = (2000.0, 64)
"""Requests a second, and at once, to sources that answer: 126,000 numbers a second, more than one can repair."""

TO_SILENT: Final = (500.0, 16)
"""The same for sources that have not answered. One request is enough to find out, and this is some 3 % of a core."""

FOR_SPMS: Final = (200.0, 64)
"""The same for requests for SPMs."""

MOST_NUMBERS: Final = 65536
"""Missing numbers of all sources, each in the same share, that are kept an account of one by one. Those that were not
asked for yet are not among them: they are ranges, and cost nothing."""

LONGEST_QUEUE: Final = 0.5
"""Seconds for which a turn may be promised. Forged sources come and go and leave theirs unused."""

# Seconds: who has to wait does so together with others, for waking up costs more than asking. It is a power of two, or
# rounding would have them come a hair too early, for nothing.
_TICK: Final = 1 / 128


def next_tick(at: float) -> float:
    """The first moment from *at* on at which everybody may come who does not mind."""
    return at if at == math.inf else math.ceil(at / _TICK) * _TICK


class Turns:
    """Moments at which something may be sent: so many a second, in the order in which they were wanted.

    Args:
        rate: turns a second.
        at_once: how many may be taken together after a pause.
    """

    def __init__(self, rate: float, at_once: int) -> None:
        self._interval = 1 / rate
        self._slack = at_once / rate
        self._free = -math.inf

    def take(self, now: float) -> float | None:
        """When it is your turn, *now* or later; None if too many others wait."""
        free = max(self._free, now - self._slack)
        if free > now + LONGEST_QUEUE:
            return None
        self._free = free + self._interval
        return now if free <= now else next_tick(free)

    def take_at_once(self, now: float) -> bool:
        """Take a turn if there is one *now*."""
        return self._free <= now and self.take(now) is not None


class Allowance:
    """What the sources of one receiver share.

    Attributes:
        answering, silent: turns for requests to sources that answer, and to those that have not answered yet.
        spms: turns for requests for SPMs.

    Args:
        sources: the sources, to be counted.
    """

    def __init__(self, sources: Sized) -> None:
        self._sources = sources
        self.answering = Turns(*TO_ANSWERING)
        self.silent = Turns(*TO_SILENT)
        self.spms = Turns(*FOR_SPMS)

    @property
    def numbers(self) -> int:
        """Missing numbers that one source may have an account of."""
        return MOST_NUMBERS // (len(self._sources) or 1)
