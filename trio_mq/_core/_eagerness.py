"""Eagerness: how often a receiver looks again before it sleeps, learnt from whether looking helped.

Waking an idle core costs more than all our layers, so a receiver that looks again, after a checkpoint each time, saves
more than half of a round trip when its peer answers at once (`tests.benchmarks`, row "REQ-REP"). Two ends that look
find each other awake; to get there from two ends that sleep, one of them must look for as long as the other needs to
wake and answer, about 100 µs: five looks are too few for that, ten enough, fifteen leave room for a slower machine.
Where looks find nothing they cost, most of all when both ends share a core: four misses in a row end them, and one wait
in 64 tries again.
"""

from __future__ import annotations

LOOKS = 15
PATIENCE = 4
TRIAL_EVERY = 64


class Eagerness:
    """Decides how many looks the next wait is worth."""

    __slots__ = ("_idle_waits", "_misses", "_on")

    def __init__(self, *, on: bool) -> None:
        self._on = on
        self._misses = PATIENCE - 1
        self._idle_waits = 0

    def looks(self) -> int:
        """Looks before the next wait; ask once for each wait."""
        if not self._on:
            return 0
        if self._misses < PATIENCE:
            return LOOKS
        self._idle_waits = (self._idle_waits + 1) % TRIAL_EVERY
        return 0 if self._idle_waits else LOOKS

    def looked(self, found: bool) -> None:
        """Whether the looks before the last wait found something."""
        self._misses = 0 if found else self._misses + 1
