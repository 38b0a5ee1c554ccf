"""Credit: how much of a call's messages may be on the way, counted alike at both ends. Pure.

Each direction of each call begins with the window that its receiver announced. Every message costs its payload (on the
wire) and `CHARGE`; it may be sent while the balance is positive, and may take it below zero, so any size passes. The
receiver grants more when the application has taken half a window. A grant is the total so far, so that only the last
one counts and none can be lost one by one.
"""

from __future__ import annotations

from ._wire import CHARGE, SEQ_MASK, Breach

_ANY_NUMBER = 1 << 62
_SMALL = 4096


class SendWindow:
    """What the peer lets us send."""

    __slots__ = ("_granted", "balance")

    def __init__(self, window: int | None) -> None:
        self.balance = _ANY_NUMBER if window is None else window
        self._granted = 0

    def charge(self, size: int) -> None:
        """A message of *size* bytes goes out."""
        self.balance -= size + CHARGE

    def grant(self, total: int) -> bool:
        """The peer has granted *total* bytes so far, modulo 2**32; True if sending may go on because of it."""
        more = (total - self._granted) & SEQ_MASK
        if more >> 31:
            return False  # an older one, overtaken
        self._granted = total
        self.balance += more
        return self.balance > 0 >= self.balance - more


class ReceiveWindow:
    """What we let the peer send."""

    __slots__ = ("_left", "_taken", "_total", "_window")

    def __init__(self, window: int | None) -> None:
        self._window = self._left = _ANY_NUMBER if window is None else window
        self._taken = 0
        self._total = 0

    def arrived(self, size: int) -> None:
        """A message of *size* bytes has come, or the first piece of it.

        Raises:
            Breach: it was not to be sent before more is granted.
        """
        if self._left <= 0:
            raise Breach("a message was sent without credit")
        self._left -= size + CHARGE

    def taken(self, size: int) -> int | None:
        """The application has taken a message of *size* bytes; the value of the CREDIT that is due, if one is."""
        self._taken += size + CHARGE
        if self._taken * 2 < self._window:
            return None
        self._left += self._taken
        self._total = (self._total + self._taken) & SEQ_MASK
        self._taken = 0
        return self._total


class Assembly:
    """A message that comes in pieces.

    Memory grows with what has arrived, never with what was announced.
    """

    __slots__ = ("_missing", "_pieces", "compressed", "size")

    def __init__(self, size: int, *, compressed: bool) -> None:
        self.size: int = size
        self._missing = self.size
        self.compressed: bool = compressed
        self._pieces: list[bytes] = []

    def add(self, piece: bytes, *, last: bool) -> bytes | None:
        """The whole message with the last *piece*, None before.

        Raises:
            Breach: there is more or less of it than was announced.
        """
        if not piece and not (last and not self.size):
            raise Breach("a piece of a message is empty")
        pieces = self._pieces
        if pieces and len(pieces[-1]) < _SMALL:
            # Pieces of a byte each would otherwise cost fifty times what they carry.
            pieces[-1] += piece
        else:
            pieces.append(piece)
        self._missing -= len(piece)
        if self._missing < 0 or (last and self._missing):
            raise Breach(f"a message announced with {self.size} bytes has another size")
        return b"".join(self._pieces) if last else None
