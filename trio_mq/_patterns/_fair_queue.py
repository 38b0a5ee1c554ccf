"""Fair queueing: who is heard next, one message a turn, as libzmq's.

Only pipes that have something stand in the queue, so that one that talks among thousands of silent ones costs as much
as one alone (`tests.benchmarks`, row "one active peer among 2,000").
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import Any

from ._face import NOTHING, Batch, PipeFace


class FairQueue:
    """Round robin over the pipes that have messages; messages of one pipe keep their order."""

    def __init__(self) -> None:
        self._active: deque[PipeFace] = deque()

    def __bool__(self) -> bool:
        return bool(self._active)

    def activate(self, pipe: PipeFace) -> None:
        """*pipe* has messages."""
        if not pipe.readable:
            pipe.readable = True
            self._active.append(pipe)

    def deactivate(self, pipe: PipeFace) -> None:
        """Hear *pipe* no more until it is activated again; what it has stays with it."""
        if pipe.readable:
            pipe.readable = False
            self._active.remove(pipe)

    def take(self, limit: int) -> Batch:
        """Up to *limit* messages as strict round robin would give them; fewer when a pipe runs dry meanwhile."""
        active = self._active
        while active:
            batch = self._take_from(active[0], limit) if len(active) == 1 else self._take_in_turn(limit)
            # Nothing is left of a batch when all of it was refined away; that is no reason to say there is nothing.
            if batch.messages:
                return batch
        return NOTHING

    def _take_in_turn(self, limit: int) -> Batch:
        active = self._active
        pipes = [active.popleft() for _ in range(min(len(active), limit))]
        rounds = min(limit // len(pipes), min(pipe.inbound.reach() for pipe in pipes))
        sources = pipes
        if any(pipe.past for pipe in pipes):
            sources, rounds = [_source_of(pipe, 1)[0] for pipe in pipes], min(rounds, 1)
        shares = [pipe.inbound.take(rounds) for pipe in pipes]
        for pipe in pipes:
            self._settle(pipe)
        if all(len(share) == rounds for share in shares):
            return Batch(list(chain.from_iterable(zip(*shares, strict=True))), sources)
        return _uneven(shares, sources)

    def _take_from(self, pipe: PipeFace, limit: int) -> Batch:
        self._active.popleft()
        source = pipe
        if pipe.past:
            source, limit = _source_of(pipe, limit)
        messages = pipe.inbound.take(limit)
        self._settle(pipe)
        return Batch(messages, (source,))

    def _settle(self, pipe: PipeFace) -> None:
        """Queue *pipe* again behind the others, or let its mailbox sleep."""
        if pipe.inbound.items:
            self._active.append(pipe)
        else:
            pipe.readable = False
            pipe.inbound.sleep()


def _uneven(shares: list[list[Any]], pipes: list[PipeFace]) -> Batch:
    """The shares in turn when some shrank on the way out (a SUB on inproc filters what it takes)."""
    order = sorted((turn, place) for place, share in enumerate(shares) for turn in range(len(share)))
    return Batch([shares[place][turn] for turn, place in order], [pipes[place] for _, place in order])


def _source_of(pipe: PipeFace, limit: int) -> tuple[PipeFace, int]:
    """Who sent the next messages of *pipe*, and how many of them, up to *limit*."""
    while pipe.past:
        until, stand_in = pipe.past[0]
        if pipe.inbound.passed < until:
            return stand_in, min(limit, until - pipe.inbound.passed)
        pipe.past.popleft()
    return pipe, limit
