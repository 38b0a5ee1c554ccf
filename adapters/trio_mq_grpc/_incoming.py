"""The messages of a call that came and were not taken yet, and the task that waits for the next."""

from __future__ import annotations

import math
from collections import deque

import grpc

from ._blocks import MetadataTooLarge
from ._compression import DecompressError, TooLarge, UnknownEncoding, decompress
from ._flow import Assembly, ReceiveWindow
from ._parking import Parking
from ._status import Status
from ._wire import COMPRESSED, FRAG, Breach


class Compressed(bytes):
    """A message as it came, to be inflated by the task that takes it."""


def inflated(message: bytes, encoding: str, limit: int | None) -> bytes:
    """What the compressed *message* holds.

    Raises:
        TooLarge, UnknownEncoding, DecompressError: it cannot be had.
    """
    if not encoding:
        raise DecompressError("a message is compressed, and the call does not say how")
    return decompress(encoding, message, limit)


def fault(exc: ValueError) -> Status:
    """The status of a call whose peer has sent what *exc* complains of."""
    if isinstance(exc, (TooLarge, MetadataTooLarge)):
        return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Received {exc}")
    if isinstance(exc, UnknownEncoding):
        return Status(grpc.StatusCode.UNIMPLEMENTED, str(exc))
    return Status(grpc.StatusCode.INTERNAL, str(exc))


class Incoming(Parking):
    """What one end of a call receives: a stream, or a single message that needs care.

    Attributes:
        first: the next message; None if there is none.
        ended: nothing follows what is here.
        assembly: the message of which some pieces are here.
    """

    __slots__ = ("_limit", "_others", "assembly", "ended", "first", "window")

    def __init__(self, window: int | None, limit: int | None) -> None:
        super().__init__()
        self.window: ReceiveWindow = ReceiveWindow(window)
        self.ended: bool = False
        self.assembly: Assembly | None = None
        self._limit: float = math.inf if limit is None else limit
        # Most calls never have a second one waiting, and an empty deque is as large as all the rest of an open call's.
        self.first: bytes | None = None
        self._others: deque[bytes] | None = None

    def arrived(self, payload: bytes) -> None:
        """A plain message has come, whole.

        Raises:
            Breach: without credit.
            TooLarge: above the limit.
        """
        size = len(payload)
        if size > self._limit:
            raise TooLarge(size, int(self._limit))
        self.window.arrived(size)
        if self.first is None:
            self.first = payload
            if self._parked is not None:
                self.wake()
        else:
            self._queue(payload)

    def piece(self, flags: int, size: int | None, payload: bytes) -> None:
        """A message or a piece of one has come; *size* is of the whole, with the first piece.

        Raises:
            Breach: without credit, or the pieces do not make what was announced.
            TooLarge: the whole is above the limit.
        """
        if size is None and self.assembly is None:
            self.arrived(Compressed(payload) if flags & COMPRESSED else payload)
            return
        if size is not None:
            if size > self._limit:
                raise TooLarge(size, int(self._limit))
            self.window.arrived(size)
            self.assembly = Assembly(size, compressed=bool(flags & COMPRESSED))
        elif flags & COMPRESSED:
            raise Breach("only the first piece of a message says that it is compressed")
        assert self.assembly is not None
        whole = self.assembly.add(payload, last=not flags & FRAG)
        if whole is not None:
            message = Compressed(whole) if self.assembly.compressed else whole
            self.assembly = None
            if self.first is None:
                self.first = message
                self.wake()
            else:
                self._queue(message)

    def _queue(self, message: bytes) -> None:
        if self._others is None:
            self._others = deque()
        self._others.append(message)

    def end(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self.wake()

    def close(self) -> None:
        """Nobody shall take anything any more."""
        self.first = self._others = None
        self.assembly = None
        self.end()

    def take(self) -> tuple[bytes, int | None] | None:
        """The next message and the credit that is due for it, if any is; None if there is no message."""
        message = self.first
        if message is None:
            return None
        self.first = self._others.popleft() if self._others else None
        return message, self.window.taken(len(message))

    async def wait(self) -> None:
        """Wait until there may be a message, or the end.

        Raises:
            trio.BusyResourceError: another task waits.
        """
        await self.park("another task is reading from this call")
