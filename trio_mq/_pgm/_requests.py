"""What a receiver misses, and when it asks for it: the state machine of a missing number (RFC 3208, section 6.3).

::

    BACK_OFF ──time: NAK──▶ WAIT_NCF ──NCF──▶ WAIT_DATA        data: done, from anywhere
        ▲ ◀────time─────────────┘                 │            an NCF, somebody else's too: to WAIT_DATA, from anywhere
        └──────────────────time───────────────────┘            after 50 times in vain: given up

Numbers that were found missing together are a *cohort* and move together, so that one request names them all and a gap
of thousands costs no more than one set. A cohort is split when a part of it is asked for, confirmed or found.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import count
from typing import Final, NamedTuple

from ._packets import LONGEST_LIST

BACK_OFF: Final = (0.005, 0.05)
"""Seconds, from and to, between finding a gap and asking: a random time, so that one of many receivers asks first and
the others hear the answer. Packets that were overtaken arrive meanwhile, which is why it does not begin at nothing."""

PATIENCE: Final = 0.2
"""Seconds to wait for a confirmation, and then for the data."""

LITTLE_PATIENCE: Final = 0.05
SOON_TIMES: Final = 2
"""How long, and how often, it waits less. On a local network nothing that is on its way takes longer; and a libzmq
source sends what it owes when something reaches it, one for each packet, so asking again is what makes it go on."""

TRIES: Final = 50

LISTS_AT_ONCE: Final = 16
"""Requests that are sent together. A larger gap is asked for piece by piece, or the answers would overrun somebody."""
PAUSE: Final = 0.01
TOGETHER: Final = 0.002
"""Seconds by which a request may come early, to go out with others."""


class _State(Enum):
    BACK_OFF = "to be asked for"
    WAIT_NCF = "asked for"
    WAIT_DATA = "confirmed"


class _Tries(NamedTuple):
    """How often something was asked for without a confirmation, without its data, and without data of anything."""

    unconfirmed: int = 0
    unanswered: int = 0
    in_vain: int = 0


class _Cohort:
    """Missing numbers that share a state, and how often they were asked for."""

    __slots__ = ("answers", "deadline", "numbers", "state", "tries")

    def __init__(self, numbers: set[int], state: _State, deadline: float, tries: _Tries, answers: int = 0) -> None:
        self.numbers = numbers
        self.state = state
        self.deadline = deadline
        self.tries = tries
        self.answers = answers


def _patience(times: int) -> float:
    """Seconds to wait for an answer that did not come *times* times."""
    return LITTLE_PATIENCE if times < SOON_TIMES else PATIENCE


class Requests:
    """The missing numbers of one source.

    Attributes:
        slow: its repairs took longer than we are patient, at least once.

    Args:
        uniform: a function like `random.uniform`.
    """

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._cohort_of: dict[int, _Cohort] = {}
        self._queue: list[tuple[float, int, _Cohort]] = []
        self._tickets = count()
        self._answers = 0
        self.slow = False

    def __len__(self) -> int:
        return len(self._cohort_of)

    def __contains__(self, number: int) -> bool:
        return number in self._cohort_of

    def first(self) -> int | None:
        """The smallest missing number."""
        return min(self._cohort_of, default=None)

    def add(self, first: int, last: int, now: float) -> None:
        """The numbers from *first* to *last* are missing."""
        if first <= last:
            numbers = range(first, last + 1)
            self._enter(_Cohort(set(numbers), _State.BACK_OFF, now + self._uniform(*BACK_OFF), _Tries()))

    def found(self, number: int) -> bool:
        """*number* is missing no longer; True if it was."""
        cohort = self._cohort_of.pop(number, None)
        if cohort is None:
            return False
        cohort.numbers.discard(number)
        return True

    def answered(self, number: int) -> bool:
        """`found`, by data that came."""
        found = self.found(number)
        self._answers += found
        return found

    def nudge(self) -> int | None:
        """A number to be asked for once more because a slow source sends one repair for each packet that reaches it."""
        number = next(iter(self._cohort_of), None)
        if number is None or self._cohort_of[number].state is not _State.WAIT_DATA:
            return None
        return number

    def forget(self, first: int, end: int) -> None:
        """The numbers from *first* up to *end*, without it, cannot be had any more."""
        if end - first <= len(self._cohort_of):
            for number in range(first, end):
                self.found(number)
        else:
            for number in [number for number in self._cohort_of if number < end]:
                self.found(number)

    def confirmed(self, numbers: Iterable[int], now: float) -> None:
        """The source has been asked for *numbers*, by whomever, and has said so."""
        moved: dict[_Cohort, _Cohort] = {}
        for number in numbers:
            old = self._cohort_of.get(number)
            if old is None:
                continue
            new = moved.get(old)
            if new is None:
                new = moved[old] = _Cohort(set(), _State.WAIT_DATA, 0.0, old.tries, self._answers)
            old.numbers.discard(number)
            new.numbers.add(number)
        for cohort in moved.values():
            cohort.deadline = now + _patience(cohort.tries.unanswered)
            self._enter(cohort)

    def _enter(self, cohort: _Cohort) -> None:
        self._cohort_of.update(dict.fromkeys(cohort.numbers, cohort))
        self._schedule(cohort)

    def _schedule(self, cohort: _Cohort) -> None:
        heapq.heappush(self._queue, (cohort.deadline, next(self._tickets), cohort))

    def deadline(self) -> float | None:
        """When `due` has something to do next."""
        queue = self._queue
        while queue:
            deadline, _, cohort = queue[0]
            if cohort.numbers and cohort.deadline == deadline:
                return deadline
            heapq.heappop(queue)
        return None

    def due(self, now: float) -> list[list[int]]:
        """What is to be asked for now, ascending, as many lists as there are requests to be sent."""
        asked: dict[_Tries, list[int]] = {}
        while (deadline := self.deadline()) is not None and deadline <= now + TOGETHER:
            cohort = heapq.heappop(self._queue)[2]
            if cohort.state is _State.BACK_OFF:
                asked.setdefault(cohort.tries, []).extend(cohort.numbers)
                cohort.numbers = set()
            else:
                self._was_in_vain(cohort, now)
        lists: list[list[int]] = []
        for tries, numbers in asked.items():
            numbers.sort()
            for start in range(0, len(numbers), LONGEST_LIST):
                if len(lists) == LISTS_AT_ONCE:
                    rest = set(numbers[start:])
                    self._enter(_Cohort(rest, _State.BACK_OFF, now + PAUSE, tries))
                    break
                some = numbers[start : start + LONGEST_LIST]
                lists.append(some)
                self._enter(_Cohort(set(some), _State.WAIT_NCF, now + _patience(tries.unconfirmed), tries))
        return lists

    def _was_in_vain(self, cohort: _Cohort, now: float) -> None:
        """Neither a confirmation nor the data came in time: again, after a while, or never."""
        unconfirmed, unanswered, in_vain = cohort.tries
        if cohort.state is _State.WAIT_NCF:
            cohort.tries = _Tries(unconfirmed + 1, unanswered, in_vain)
        else:
            # As long as it repairs something it will come to this, too; a libzmq source may take its time.
            silent = cohort.answers == self._answers
            cohort.tries = _Tries(unconfirmed, unanswered + 1, in_vain + silent)
            self.slow = True
        if max(cohort.tries.unconfirmed, cohort.tries.in_vain) >= TRIES:
            for number in list(cohort.numbers):
                self.found(number)
            return
        cohort.state = _State.BACK_OFF
        cohort.deadline = now + self._uniform(*BACK_OFF)
        self._schedule(cohort)
