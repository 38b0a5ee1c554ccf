"""The transmit window: what a source has sent and still keeps, oldest first, for those who ask for it again."""

from __future__ import annotations

import math
from collections import deque


class TransmitWindow:
    """Payloads by sequence number, in one piece: from `trail` up to `lead`.

    Attributes:
        trail: the oldest number kept.
        size: bytes kept.

    Args:
        first: the first number.
        packets: numbers kept at most; None: no limit.
        limit: bytes kept at most; None: no limit.
    """

    def __init__(self, first: int, packets: int | None, limit: int | None) -> None:
        self.trail = first
        self.size = 0
        self._packets = math.inf if packets is None else packets
        self._limit = math.inf if limit is None else limit
        self._payloads: deque[bytes] = deque()
        self._repaired_at: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._payloads)

    def __contains__(self, sequence: int) -> bool:
        return 0 <= sequence - self.trail < len(self._payloads)

    def __getitem__(self, sequence: int) -> bytes:
        return self._payloads[sequence - self.trail]

    @property
    def lead(self) -> int:
        """The newest number; one less than `trail` while nothing is kept."""
        return self.trail + len(self._payloads) - 1

    def append(self, payload: bytes) -> int:
        """Keep *payload*, at the cost of the oldest if need be; its number."""
        while self._payloads and (len(self._payloads) >= self._packets or self.size + len(payload) > self._limit):
            self.size -= len(self._payloads.popleft())
            self._repaired_at.pop(self.trail, None)
            self.trail += 1
        self._payloads.append(payload)
        self.size += len(payload)
        return self.lead

    def repaired_at(self, sequence: int) -> float:
        """When *sequence* was sent again last."""
        return self._repaired_at.get(sequence, -math.inf)

    def repair(self, sequence: int, now: float) -> None:
        """*sequence* is sent again now."""
        self._repaired_at[sequence] = now
