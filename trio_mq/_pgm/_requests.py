"""What a receiver misses, and when it asks for it: the state machine of a missing number (RFC 3208, section 6.3).

::

    BACK_OFF ──time: NAK──▶ WAIT_NCF ──NCF──▶ WAIT_DATA        data: done, from anywhere
        ▲ ◀────time─────────────┘                 │            an NCF, somebody else's too: to WAIT_DATA, from anywhere
        └──────────────────time───────────────────┘            after 50 times in vain: given up

Numbers that were found missing together are a *cohort* and move together, so that one request names them all. A cohort
is split when a part of it is asked for, confirmed or found, and fits into one request. A larger gap is a range until it
is asked for, piece by piece.

A source may be asked as long as it answers: each confirmation and each repair is good for some more requests. One that
has not answered, be it forged, gone or behind a firewall, is asked for a single list now and then, and if it has not
answered fifty of them nothing of it is waited for any more.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import count
from typing import Final, NamedTuple

from ._allowance import Allowance, next_tick
from ._packets import LONGEST_LIST
from ._ranges import Ranges

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

WORTH: Final = 4
"""Requests that one answer is good for. At 30 % loss either way half of the requests are answered, most with many
repairs; a forger has to send an answer for each four that it wants to be sent to somebody."""
MOST_CREDIT: Final = 64
"""Requests that an answering source is sent at most after its last answer, before it is asked like a silent one."""

LATER: Final = (0.1, 0.5)
"""Seconds, from and to, after which to try again when too many sources wait to be asked."""

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
        allowance: what all sources share.
    """

    def __init__(self, uniform: Callable[[float, float], float], allowance: Allowance) -> None:
        self._uniform = uniform
        self._allowance = allowance
        self._cohort_of: dict[int, _Cohort] = {}
        self._queue: list[tuple[float, int, _Cohort]] = []
        self._later = Ranges()
        self._tickets = count()
        self._answers = 0
        self._credit = 0
        self._probes = 0
        self._probe_at = -math.inf
        self._turn: float | None = None
        self._blocked_until = -math.inf
        self._deadline: float | None = None  # known, until something happens that may make it earlier
        self.slow = False

    def __len__(self) -> int:
        return len(self._cohort_of) + self._later.count

    def __contains__(self, number: int) -> bool:
        return number in self._cohort_of or (self._later.count > 0 and number in self._later)

    def first(self) -> int | None:
        """The smallest missing number."""
        first = min(self._cohort_of, default=None)
        if self._later.count:
            return self._later.first if first is None else min(first, self._later.first)
        return first

    # What becomes of a number.

    def add(self, first: int, last: int, now: float) -> None:
        """The numbers from *first* to *last*, beyond all others, are missing."""
        size = last - first + 1
        if size <= 0:
            return
        at = now + self._uniform(*BACK_OFF)
        if size <= LONGEST_LIST and self._has_room():
            self._enter(_Cohort(set(range(first, last + 1)), _State.BACK_OFF, at, _Tries()))
        else:
            self._later.append(first, last, at)
            self._deadline = None

    def _has_room(self) -> bool:
        return len(self._cohort_of) < self._allowance.numbers

    def found(self, number: int) -> bool:
        """*number* is missing no longer; True if it was."""
        cohort = self._cohort_of.pop(number, None)
        if cohort is None:
            return self._later.count > 0 and self._later.remove(number)
        cohort.numbers.discard(number)
        return True

    def answered(self, number: int) -> bool:
        """`found`, by data that came."""
        found = self.found(number)
        if found:
            self._answers += 1
            if self._credit < MOST_CREDIT:
                self._heard()
        return found

    def _heard(self) -> None:
        """The source answers."""
        if not self._credit:
            # What was put off, or is to wait its turn, was so because it had not answered.
            self._probes, self._turn, self._blocked_until = 0, None, -math.inf
            self._deadline = None
        self._credit = min(self._credit + WORTH, MOST_CREDIT)

    def nudge(self) -> int | None:
        """A number to be asked for once more because a slow source sends one repair for each packet that reaches it."""
        number = next(iter(self._cohort_of), None)
        if number is None or self._cohort_of[number].state is not _State.WAIT_DATA:
            return None
        return number

    def forget(self, first: int, end: int) -> None:
        """The numbers from *first* up to *end*, without it, cannot be had any more; nor can smaller ones."""
        if self._later.count:
            self._later.remove_before(end)
        if end - first <= len(self._cohort_of):
            for number in range(first, end):
                self.found(number)
        else:
            for number in [number for number in self._cohort_of if number < end]:
                self.found(number)

    def _forget_all(self) -> None:
        """It has been asked in vain for long enough."""
        self._cohort_of.clear()
        self._queue.clear()
        self._later.clear()
        self._probes = 0

    def confirmed(self, numbers: Iterable[int], now: float) -> None:
        """The source has been asked for *numbers*, by whomever, and has said so."""
        moved: dict[_Cohort | None, _Cohort] = {}
        for number in numbers:
            old = self._cohort_of.get(number)
            if old is None and not (self._later.count and self._has_room() and self._later.remove(number)):
                continue
            new = moved.get(old)
            if new is None:
                tries = _Tries() if old is None else old.tries
                new = moved[old] = _Cohort(set(), _State.WAIT_DATA, 0.0, tries, self._answers)
            if old is not None:
                old.numbers.discard(number)
            new.numbers.add(number)
        for cohort in moved.values():
            cohort.deadline = now + _patience(cohort.tries.unanswered)
            self._enter(cohort)
        if moved:
            self._heard()

    def _enter(self, cohort: _Cohort) -> None:
        self._cohort_of.update(dict.fromkeys(cohort.numbers, cohort))
        self._schedule(cohort)

    def _schedule(self, cohort: _Cohort) -> None:
        heapq.heappush(self._queue, (cohort.deadline, next(self._tickets), cohort))
        self._deadline = None

    # What is asked for, and when.

    def deadline(self) -> float:
        """When `due` has something to do next, or a little earlier."""
        if self._deadline is None:
            at = self._cohort_deadline()
            if self._later.count and self._has_room():
                at = min(at, self._later.at)
            at = max(at, self._blocked_until)
            # There may be hundreds that do not answer, and nobody waits for them: they need not come one by one.
            self._deadline = next_tick(at) if self._probes > SOON_TIMES else at
        return self._deadline

    def _cohort_deadline(self) -> float:
        queue = self._queue
        while queue:
            deadline, _, cohort = queue[0]
            if cohort.numbers and cohort.deadline == deadline:
                return deadline
            heapq.heappop(queue)
        return math.inf

    def due(self, now: float) -> list[list[int]]:
        """What is to be asked for now, each list ascending, as many as there are requests to be sent."""
        lists: list[list[int]] = []
        self._deadline = None
        if now < self._blocked_until:
            return lists
        if self._probes >= TRIES and now >= self._probe_at:
            self._forget_all()
        while self._is_due(now):
            at = now + PAUSE if len(lists) == LISTS_AT_ONCE else self._may_ask_at(now)
            if at > now:
                self._blocked_until = at
                break
            lists.append(self._ask(now))
        return lists

    def _is_due(self, now: float) -> bool:
        """Whether something is to be asked for. What was asked for in vain is, after a while, or is given up."""
        while (deadline := self._cohort_deadline()) <= now + TOGETHER:
            if self._queue[0][2].state is _State.BACK_OFF:
                return True
            self._was_in_vain(heapq.heappop(self._queue)[2], now)
        return self._is_later_due(deadline, now)

    def _is_later_due(self, deadline: float, now: float) -> bool:
        """Whether a piece of a range is to be asked for, and before what is to be at the time *deadline*."""
        return self._later.count > 0 and self._later.at <= min(deadline, now + TOGETHER) and self._has_room()

    def _may_ask_at(self, now: float) -> float:
        """When a list may be sent, *now* or later."""
        if not self._credit and now < self._probe_at:
            return self._probe_at
        if self._turn is None:
            turns = self._allowance.answering if self._credit else self._allowance.silent
            self._turn = turns.take(now)
        return now + self._uniform(*LATER) if self._turn is None else self._turn

    def _ask(self, now: float) -> list[int]:
        """The next list: what is due and has waited longest, as far as it goes."""
        self._turn = None
        if self._credit:
            self._credit -= 1
        else:
            self._probe_at = now + _patience(self._probes)
            self._probes += 1
        asked: dict[_Tries, set[int]] = {}
        room = LONGEST_LIST
        while room and self._is_due(now) and (cohort := self._pop(room, now)) is not None:
            room -= len(cohort.numbers)
            asked.setdefault(cohort.tries, set()).update(cohort.numbers)
            cohort.numbers = set()
        for tries, numbers in asked.items():
            self._enter(_Cohort(numbers, _State.WAIT_NCF, now + _patience(tries.unconfirmed), tries))
        return sorted(number for numbers in asked.values() for number in numbers)

    def _pop(self, room: int, now: float) -> _Cohort | None:
        """What is due, if it is not more than *room* numbers; of a range as many as that."""
        if self._later.count and self._is_later_due(self._cohort_deadline(), now):
            return _Cohort(set(self._later.take(room)), _State.BACK_OFF, now, _Tries())
        if len(self._queue[0][2].numbers) > room:
            return None
        return heapq.heappop(self._queue)[2]

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
