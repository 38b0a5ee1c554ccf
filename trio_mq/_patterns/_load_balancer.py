"""Load balancing: who gets the next message, one message a turn, skipping full queues, as libzmq's.

A full pipe leaves the rotation and returns when it has room. While every pipe in the rotation is being emptied anyway
(its reader is awake), turns for many messages are dealt at once, still in strict rotation: `tests.benchmarks`, row
"16 B one by one".
"""

from __future__ import annotations

from collections import deque
from itertools import repeat

from .._message import Payload
from ._face import NO_TURNS, PipeFace, Turns

_MOST_IN_A_DEAL = 64


class LoadBalancer:
    """Round robin over the pipes that have room."""

    def __init__(self) -> None:
        self._active: deque[PipeFace] = deque()
        self._dealt = 0

    def add(self, pipe: PipeFace) -> None:
        """*pipe* takes its place in the rotation (again)."""
        if not pipe.writable:
            pipe.writable = True
            self._active.append(pipe)

    def remove(self, pipe: PipeFace) -> None:
        """*pipe* gets nothing any more."""
        if pipe.writable:
            pipe.writable = False
            self._active.remove(pipe)

    def next(self) -> PipeFace | None:
        """The pipe whose turn it is, which has room now; `advance` when it was used."""
        active = self._active
        while active:
            pipe = active[0]
            if pipe.outbound.has_room():
                return pipe
            # Asking for room may have moved the rotation (an inproc reader sends while it reads); look again then.
            if active and active[0] is pipe:
                self._rest(pipe)
        return None

    def advance(self) -> None:
        """The pipe whose turn it was has had it."""
        self._active.rotate(-1)

    def send(self, message: Payload) -> bool:
        """Queue *message* for the next pipe with room; False if none has."""
        active = self._active
        while active:
            pipe = active[0]
            # The turn passes on first: putting may wake a reader that sends through this very balancer.
            active.rotate(-1)
            if pipe.outbound.put(message):
                return True
            self._rest(pipe)
        return False

    def _rest(self, pipe: PipeFace) -> None:
        if pipe.writable:
            pipe.writable = False
            self._active.remove(pipe)

    def turns(self, quantum: int) -> Turns:
        """Turns for *quantum* messages, in whole rounds, if all pipes in the rotation are being emptied as it is."""
        active = self._active
        self._dealt = 0
        if len(active) == 1:
            box = active[0].outbound
            if box.asleep or not box.deals:
                return NO_TURNS
            return repeat(box.items.append, max(0, min(box.room(), quantum)))
        if not active or len(active) > _MOST_IN_A_DEAL:
            return NO_TURNS
        if any(pipe.outbound.asleep or not pipe.outbound.deals for pipe in active):
            return NO_TURNS
        rounds = min(quantum // len(active) + 1, min(pipe.outbound.room() for pipe in active))
        if rounds <= 0:
            return NO_TURNS
        # A list, not cycle(): a list iterator knows how much of it is left when the turns are revoked.
        self._dealt = rounds * len(active)
        return iter([pipe.outbound.items.append for pipe in active] * rounds)

    def revoke(self, unused: int) -> None:
        """Turns end early: the rotation goes on behind the last one that was used."""
        if self._dealt and self._active:
            self._active.rotate(-((self._dealt - unused) % len(self._active)))
        self._dealt = 0

    def can_send(self) -> bool:
        """Whether some pipe has room."""
        return self.next() is not None
