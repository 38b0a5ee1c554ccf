"""Distribution: a copy of each message to every pipe that shall have it, whole or not at all (RFC 29).

A pipe whose queue is full misses the message, which is counted for it alone. A message is encoded at most once, and
only if some pipe wants wire bytes; they all share the same object (`tests.benchmarks`, row "PUB→SUB, 8 subscribers").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._message import Payload
from ._face import Dropped, PipeFace


class Distributor:
    """Copies messages into pipes; never waits."""

    def __init__(self, dropped: Dropped, encode: Callable[[Payload], bytes]) -> None:
        self._dropped = dropped
        self._encode = encode

    def distribute(self, message: Payload, pipes: Iterable[PipeFace]) -> None:
        """Queue *message* for each of *pipes*, or count it as dropped there."""
        wire: bytes | None = None
        for pipe in pipes:
            box = pipe.outbound
            if not box.encoded:
                taken = box.put(message)
            else:
                if wire is None:
                    wire = self._encode(message)
                taken = box.put(wire)
            if not taken:
                box.full = False
                self._dropped(pipe, box.full_reason, 1)

    def distribute_frame(self, message: bytes, pipes: Iterable[PipeFace]) -> None:
        """`distribute` for one frame, the hot path: where there is room and the reader is awake, append in place."""
        wire: bytes | None = None
        for pipe in pipes:
            box = pipe.outbound
            if box.encoded:
                item = wire = self._encode(message) if wire is None else wire
            else:
                item = message
            if box.asleep or not box.deals or len(box.items) + box.held >= box.hwm:
                if not box.put(item):
                    box.full = False
                    self._dropped(pipe, box.full_reason, 1)
            else:
                box.items.append(item)
