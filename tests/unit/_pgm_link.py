"""A source and receivers on one lossy, delaying, duplicating link, under a clock that jumps to the next deadline."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable
from itertools import count

from trio_mq._message import Payload
from trio_mq._pgm import Gap, Nak, Receiver, ReceiverSettings, Request, Source, SourceSettings, Spmr, parse_packet

SOURCE = bytes((10, 0, 0, 1))
GROUP = bytes((239, 192, 1, 1))
PORT = 5555


def settings_of(**changes: object) -> SourceSettings:
    """The settings of a source, of which some may be changed."""
    values: dict[str, object] = {
        "gsi": b"source",
        "sport": 40000,
        "dport": PORT,
        "path": SOURCE,
        "group": GROUP,
        "largest": 1428,
        "overhead": 28,
        "rate": math.inf,
        "packets": 10_000,
        "window_bytes": None,
    }
    return SourceSettings(**(values | changes))  # type: ignore[arg-type]  # a test names fields as it likes


class Ear:
    """One receiver, what it was given and what it was told is lost."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.messages: list[Payload] = []
        self.gaps: list[Gap] = []
        self.naks = 0
        self.deadline = math.inf
        self.deaf: Callable[[float], bool] = lambda now: False

    def take(self) -> None:
        for session in list(self.receiver.sessions.values()):
            while session.window.ready:
                taken = session.take()
                if isinstance(taken, Gap):
                    self.gaps.append(taken)
                else:
                    self.messages += taken
        self.deadline = self.receiver.deadline()


class Link:
    """Everything between them, and the time.

    Args:
        loss: how many of the datagrams in each direction are lost, from 0 to 1, for each receiver by itself.
        delay: seconds a datagram takes, from and to.
        duplicates: how many come twice.
    """

    def __init__(
        self,
        *,
        receivers: int = 1,
        loss: float = 0.0,
        delay: tuple[float, float] = (0.0001, 0.0003),
        duplicates: float = 0.0,
        window: int = 10_000,
        seed: int = 0,
        **settings: object,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.source = Source(settings_of(**settings), self.now)
        receiver_settings = ReceiverSettings(dport=PORT, window=window)
        self.ears = [Ear(Receiver(receiver_settings, self.random.uniform)) for _ in range(receivers)]
        self.loss = loss
        self.lost = 0
        self.carried = 0
        self.naks_at_source = 0
        self.swallows: Callable[[bytes], bool] = lambda datagram: False
        self._delay = delay
        self._duplicates = duplicates
        self._flying: list[tuple[float, int, Ear | None, bytes, Ear | None]] = []
        self._tickets = count()

    def _fly(self, to: Ear | None, datagram: bytes, sender: Ear | None = None) -> None:
        self.carried += 1
        gone = to is not None and (to.deaf(self.now) or self.swallows(datagram))
        if self.random.random() < self.loss or gone:
            self.lost += 1
            return
        for _ in range(2 if self.random.random() < self._duplicates else 1):
            arrives = self.now + self.random.uniform(*self._delay)
            heapq.heappush(self._flying, (arrives, next(self._tickets), to, datagram, sender))

    def _ask(self, ear: Ear, requests: Iterable[Request]) -> None:
        for request in requests:
            if request.address is not None:
                ear.naks += isinstance(parse_packet(request.datagram), Nak)
                self._fly(None, request.datagram, ear)
            else:
                for other in self.ears:
                    if other is not ear:
                        self._fly(other, request.datagram)

    def step(self, until: float) -> bool:
        """Let the next thing happen, if it does by *until*."""
        while (datagram := self.source.next(self.now)) is not None:
            for ear in self.ears:
                self._fly(ear, datagram)
        deadlines = [self.source.deadline(self.now), *(ear.deadline for ear in self.ears)]
        if self._flying:
            deadlines.append(self._flying[0][0])
        soonest = min(deadlines)
        if soonest > until:
            self.now = until
            return False
        self.now = max(self.now, soonest)
        while self._flying and self._flying[0][0] <= self.now:
            self._arrive(*heapq.heappop(self._flying)[2:4])
        for ear in self.ears:
            if ear.deadline <= self.now:
                self._ask(ear, ear.receiver.advance(self.now))
                ear.take()
        return True

    def _arrive(self, to: Ear | None, datagram: bytes) -> None:
        if to is None:
            packet = parse_packet(datagram)
            assert isinstance(packet, (Nak, Spmr))
            self.naks_at_source += isinstance(packet, Nak)
            self.source.receive(packet, self.now)
        else:
            to.receiver.receive(datagram, SOURCE, GROUP, self.now)
            to.take()

    def run(self, seconds: float) -> None:
        """Let *seconds* pass."""
        until = self.now + seconds
        while self.step(until):
            pass
