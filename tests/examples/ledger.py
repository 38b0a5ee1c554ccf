"""The books of the gateway: every request that was sent, who answered it, and in which phase it was asked.

Pure: it knows neither sockets nor clocks. It is what makes "nothing was lost" a statement about every single request.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Phase:
    """A stretch of the game.

    Attributes:
        name: what happens in it.
        servers: how many game servers are there from its beginning to its end; None while some come or go.
        began, ended: when, in seconds; `ended` is None in the current one.
        asked: requests sent in it.
        shares: how many of those each server answered (then or later).
    """

    name: str
    servers: int | None
    began: float
    ended: float | None = None
    asked: int = 0
    shares: Counter[str] = field(default_factory=Counter)

    @property
    def spread(self) -> tuple[int, float, int]:
        """The smallest, the median and the largest share; a server that answered nothing has a share of 0."""
        shares = list(self.shares.values())
        shares += [0] * max(0, (self.servers or 1) - len(shares))
        return min(shares), statistics.median(shares), max(shares)


class Ledger:
    """Numbers the requests and keeps account of them.

    Attributes:
        phases: all phases so far, the current one last.
        answered: how many requests each server has answered.
        open: requests not answered (yet), each with the phase in which it was asked.
        repeated: answers to requests that had been answered before; there must be none.
    """

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.answered: Counter[str] = Counter()
        self.open: dict[int, Phase] = {}
        self.repeated = 0
        self.asked = 0

    def __repr__(self) -> str:
        return f"<Ledger: {self.asked} asked, {self.answered.total()} answered, {len(self.open)} open>"

    def begin(self, name: str, now: float, *, servers: int | None = None) -> Phase:
        """A new phase begins and the one before ends."""
        self.finish(now)
        self.phases.append(Phase(name, servers, began=now))
        return self.phases[-1]

    def finish(self, now: float) -> None:
        """The last phase ends, unless it has already."""
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = now

    def ask(self) -> int:
        """The number of a new request."""
        phase = self.phases[-1]
        phase.asked += 1
        self.asked += 1
        self.open[self.asked] = phase
        return self.asked

    def answer(self, number: int, server: str) -> None:
        """*server* has answered request *number*."""
        phase = self.open.pop(number, None)
        if phase is None:
            self.repeated += 1
            return
        phase.shares[server] += 1
        self.answered[server] += 1
