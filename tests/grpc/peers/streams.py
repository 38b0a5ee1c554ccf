"""What both ends of TMQ-RPC 1, level 1, have: the READY property, and one direction of a call that obeys credit."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import zmq

from .blocks import DATA, HEADER, MSG, VERSION_1

CHARGE = 64  # what a message costs beside its payload
DEFAULT_WINDOW = 262_144
NO_LIMIT = 0xFFFFFFFF
MODULUS = 1 << 32

Envelope: TypeAlias = tuple[bytes, ...]


def announce(socket: zmq.Socket[bytes], epoch: int, window: int) -> None:
    """Put the property into the READY of a socket that is neither bound nor connected yet."""
    socket.setsockopt(zmq.METADATA, f"X-TMQ-RPC:1;e={epoch:08x};w={window}".encode())


def announced_window(frame: zmq.Frame) -> int:
    """The window of the peer that *frame* came from."""
    try:
        fields = str(frame.get("X-TMQ-RPC")).split(";")
    except zmq.ZMQError:  # it announces nothing
        return DEFAULT_WINDOW
    return next((int(field[2:]) for field in fields if field.startswith("w=")), DEFAULT_WINDOW)


class Sender:
    """One direction of a call: what waits for credit, and then the end.

    Attributes:
        waiting: messages that have not gone yet.
        last: flags and frames of the unit behind them, once it is known that no more will come.
        balance: what may go; a message goes while it is positive.
    """

    def __init__(self, socket: zmq.Socket[bytes], envelope: Envelope, call_id: int, window: int, sequence: int) -> None:
        self._socket, self._envelope, self._call_id = socket, envelope, call_id
        self._sequence, self._granted = sequence, 0
        self.waiting: deque[bytes] = deque()
        self.last: tuple[int, list[bytes]] | None = None
        self.balance = window

    def send(self, kind: int, flags: int, value: int, *frames: bytes) -> None:
        header = HEADER.pack(VERSION_1, kind, flags, value % MODULUS, self._call_id)
        self._socket.send_multipart([*self._envelope, header, *frames])

    def pump(self) -> bool:
        """Send what credit allows; True when the end went out."""
        while self.waiting and self.balance > 0:
            payload = self.waiting.popleft()
            self.balance -= len(payload) + CHARGE
            if self.last and not self.waiting:  # a single reply and its status have to be one unit
                return self._finish(MSG, payload)
            self._data(MSG, payload)
        return self.last is not None and not self.waiting and self._finish(0)

    def _finish(self, flags: int, *payload: bytes) -> bool:
        assert self.last is not None
        (end, frames), self.last = self.last, None
        self._data(flags | end, *payload, *frames)
        return True

    def credit(self, total: int) -> None:
        """The peer has granted *total* bytes so far."""
        more = (total - self._granted) % MODULUS
        if more < MODULUS // 2:  # else it is an older one
            self._granted = total
            self.balance += more

    def _data(self, flags: int, *frames: bytes) -> None:
        self.send(DATA, flags, self._sequence, *frames)
        self._sequence += 1
