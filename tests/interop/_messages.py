"""Messages by description: what one side builds, what the other side saw, and how the two compare."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ._peer import SHORT, Json, pattern


@dataclass(frozen=True)
class Pattern:
    """A frame of *length* bytes that both sides make from *seed*."""

    length: int
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.length}B"


@dataclass(frozen=True)
class Digest:
    """A long frame as it was seen: by length and SHA-256."""

    length: int
    sha256: str


Frame: TypeAlias = "bytes | Pattern"
Seen: TypeAlias = "bytes | Digest"


def built(frame: Frame) -> bytes:
    """The bytes of *frame*."""
    return frame if isinstance(frame, bytes) else pattern(frame.length, frame.seed)


def as_seen(frames: Sequence[Frame]) -> list[Seen]:
    """What a receiver reports when exactly *frames* arrived."""
    return [_seen(built(frame)) for frame in frames]


def _seen(frame: bytes) -> Seen:
    return frame if len(frame) <= SHORT else Digest(len(frame), hashlib.sha256(frame).hexdigest())


def to_json(frame: Frame) -> Json:
    """*frame* as a command to a peer process describes it."""
    if isinstance(frame, bytes):
        return {"hex": frame.hex()}
    return {"length": frame.length, "seed": frame.seed}


def from_json(frame: Json) -> Seen:
    """A frame as a peer process tells it."""
    return bytes.fromhex(frame["hex"]) if "hex" in frame else Digest(frame["length"], frame["sha256"])


def whole(frame: Seen) -> bytes:
    """*frame* as bytes, to be sent back; it must be a short one (a routing id, say)."""
    assert isinstance(frame, bytes), f"{frame} was only seen as a digest"
    return frame
