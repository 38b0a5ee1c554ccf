"""Eagerness: how often a reader looks again before it sleeps, learnt from whether looking helped.

Waking an idle core costs more than all our layers, so a reader that looks again after each of five checkpoints halves a
round trip (`tests.benchmarks`, row "REQ-REP p50"). Where looks find nothing they cost, most of all when both ends share a
core: four misses in a row end them, and one wait in 64 tries again.
"""

from __future__ import annotations

LOOKS = 5
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

    def found(self) -> None:
        """A look found something."""
        self._misses = 0

    def missed(self) -> None:
        """None did."""
        self._misses += 1
