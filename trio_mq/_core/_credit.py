"""Credit: when a call that could be done at once must let others run all the same.

A checkpoint costs ten times what a queued message costs, so not every call is one; but no loop may starve the rest of
the program either. Each call spends credit; when it is used up the clock is read, and if the task has not yielded for
0.2 ms the call is a checkpoint. The new credit is what fits into 0.2 ms at the rate just seen, at most 64: a task that
computes between messages yields nearly every time, a tight loop every 0.2 ms (decision A3; `tests.benchmarks`, row
"16 B one by one").
"""

from __future__ import annotations

from collections.abc import Callable

SLICE = 0.2e-3
MOST = 64
BYTES_PER_CREDIT = 4096


class Credit:
    """The credit of one direction of one socket.

    Attributes:
        left: operations that may be done before `used_up` must be asked.
    """

    __slots__ = ("_clock", "_counted_since", "_granted", "_yielded_at", "left")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._granted = self.left = 1
        self._yielded_at = self._counted_since = clock()

    def used_up(self) -> bool:
        """Grant new credit; True if the caller must be a checkpoint now (and then call `yielded`)."""
        now = self._clock()
        took = now - self._counted_since
        done = self._granted - self.left
        fits = MOST if took <= 0.0 else int(SLICE * done / took)
        self._granted = self.left = max(1, min(MOST, fits))
        self._counted_since = now
        return now - self._yielded_at >= SLICE

    def yielded(self) -> None:
        """The task has let others run."""
        self._yielded_at = self._counted_since = self._clock()
        self._granted = self.left = max(1, self.left)
