"""Sequence numbers: modulo 2**32 on the wire, without end in here.

Inside, windows count with ordinary numbers that never wrap; only where a packet comes or goes is there a conversion. So
nothing else needs to know that the wire wraps.
"""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000


def ahead(sequence: int, reference: int) -> int:
    """How far *sequence* is ahead of *reference*, negative if behind: their signed 32-bit difference."""
    return ((sequence - reference + _HALF) & MASK) - _HALF


def unwrapped(sequence: int, near: int) -> int:
    """The endless number that *sequence* on the wire means, of all that it may mean the one nearest to *near*."""
    return near + (((sequence - near + _HALF) & MASK) - _HALF)
