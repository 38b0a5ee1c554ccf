"""Missing numbers that nothing was done about yet, as ranges: a window of them costs no more than one."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final

_BEHIND_ALL: Final = math.inf


class Ranges:
    """Ranges of numbers, ascending, each with the time from which they may be asked for.

    Attributes:
        count: how many numbers that are.
    """

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, float]] = []
        self.count = 0

    def __contains__(self, number: int) -> bool:
        place = self._place(number)
        return place >= 0 and number <= self._ranges[place][1]

    def _place(self, number: int) -> int:
        """Where the last range is that begins at *number* or before it; -1: nowhere."""
        return bisect_right(self._ranges, (number, _BEHIND_ALL)) - 1

    @property
    def first(self) -> int:
        """The smallest number; there must be one."""
        return self._ranges[0][0]

    @property
    def at(self) -> float:
        """From when the smallest number may be asked for; there must be one."""
        return self._ranges[0][2]

    def append(self, first: int, last: int, at: float) -> None:
        """The numbers from *first* to *last*, beyond all others, may be asked for from the time *at* on."""
        self._ranges.append((first, last, at))
        self.count += last - first + 1

    def take(self, most: int) -> range:
        """The smallest numbers, up to *most* of them that follow each other; they are here no longer."""
        first, last, at = self._ranges[0]
        end = min(first + most, last + 1)
        self._ranges[:1] = [(end, last, at)] if end <= last else []
        self.count -= end - first
        return range(first, end)

    def remove(self, number: int) -> bool:
        """*number* is here no longer; True if it was."""
        place = self._place(number)
        if place < 0 or number > self._ranges[place][1]:
            return False
        first, last, at = self._ranges[place]
        parts = (first, number - 1, at), (number + 1, last, at)
        self._ranges[place : place + 1] = [part for part in parts if part[0] <= part[1]]
        self.count -= 1
        return True

    def remove_before(self, end: int) -> None:
        """All numbers before *end* are here no longer."""
        gone = self._place(end - 1) + 1
        if not gone:
            return
        _, last, at = self._ranges[gone - 1]
        self.count -= sum(last - first + 1 for first, last, _ in self._ranges[:gone]) - max(0, last + 1 - end)
        self._ranges[:gone] = [(end, last, at)] if last >= end else []

    def clear(self) -> None:
        """No numbers any more."""
        self._ranges.clear()
        self.count = 0
