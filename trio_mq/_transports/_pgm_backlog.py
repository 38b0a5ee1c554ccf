"""Datagrams that were taken from the kernel and are still to be worked on, with the time at which they were taken.

The kernel's buffer is small, and what it has no room for must be sent again by somebody who has better to do. Taking a
datagram costs a fifth of working on it, so a burst that Python is too slow for still gets in
(`tests.benchmarks`, rows "multicast"). Whoever works on it then goes by the time at which it came: nothing is missing
as long as it may lie here.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Final, NamedTuple

from ._pgm_upstream import without_header

LARGEST: Final = 65535
"""Bytes that are read of a datagram: all of it, whatever publisher has the larger TPDU."""

MOST: Final = 64 * 1024 * 1024
"""Bytes that may lie here. What is more is better left to the kernel, and sent again while its publisher has it."""

AT_ONCE: Final = 1024
"""Datagrams taken before somebody works on some of them."""


class Arrival(NamedTuple):
    """One datagram: when it came, what it is, whence, to which group."""

    at: float
    datagram: bytes
    host: str
    group: bytes


class Backlog:
    """A queue of arrivals.

    Args:
        headers: datagrams begin with an IPv4 header, as raw sockets give them.
    """

    def __init__(self, *, headers: bool) -> None:
        self._headers = headers
        self._arrivals: deque[Arrival] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def take_from(self, sock: socket.socket, group: bytes, now: float) -> None:
        """Take what has come to *sock*, as far as there is room."""
        for _ in range(AT_ONCE):
            if self._size > MOST:
                return
            try:
                data, sender = sock.recvfrom(LARGEST)
            except OSError:
                return  # nothing there, or the network is down: then nothing comes, and its publishers time out
            if self._headers:
                data = without_header(data)
            self._size += len(data)
            self._arrivals.append(Arrival(now, data, sender[0], group))

    def pop(self) -> Arrival:
        """The oldest; there must be one."""
        arrival = self._arrivals.popleft()
        self._size -= len(arrival.datagram)
        return arrival
