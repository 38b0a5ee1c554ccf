"""What receivers say to publishers: one socket for all publishers of an event loop that share an address and a port.

Two sockets bound to one address and port would each get some of what comes, whichever publisher it is meant for. So the
publishers share one, which belongs to the loop and not to any of them. There is no task for it beside theirs: the one
that holds the baton reads for all, and when it leaves, the next takes over.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Protocol, TypeAlias

import trio

from .._pgm import Packet, PacketError, parse_packet
from ._multicast_interfaces import Interface
from ._multicast_sockets import open_upstream
from ._socket_link import close_socket

BATCH = 64
LARGEST = 2048
"""Bytes that are read of a request; one with the longest list has 348."""

Session: TypeAlias = "tuple[bytes, int]"


class Hearer(Protocol):
    """A publisher, as far as requests go."""

    def hear(self, packet: Packet) -> None:
        """*packet* is for this publisher, as far as its session says."""


class Upstream:
    """A socket for requests, and who publishes behind it.

    Attributes:
        datagrams: those received, in all.
        ignored: those thrown away, by reason.
    """

    def __init__(self, sock: socket.socket, *, headers: bool) -> None:
        self.socket = sock
        self._headers = headers
        self._baton = trio.Lock()
        self.hearers: dict[Session, Hearer] = {}
        self.datagrams = 0
        self.ignored: Counter[str] = Counter()

    async def serve(self) -> None:
        """Read for all, as soon as nobody else does, until the socket is closed."""
        async with self._baton:
            while self.hearers:
                try:
                    await trio.lowlevel.wait_readable(self.socket)
                except trio.ClosedResourceError:
                    return
                self._read()

    def _read(self) -> None:
        for _ in range(BATCH):
            try:
                data = self.socket.recv(LARGEST)
            except OSError:
                return  # nothing there, or word of an ICMP error, which is no business of a multicast source
            self.datagrams += 1
            try:
                packet = parse_packet(without_header(data) if self._headers else data)
            except PacketError as exc:
                self.ignored[str(exc)] += 1
                continue
            hearer = None if packet is None else self.hearers.get((packet.gsi, packet.sport))
            if hearer is None or packet is None:
                self.ignored["unknown"] += 1
            else:
                hearer.hear(packet)

    def close(self) -> None:
        """Nobody publishes here any more."""
        close_socket(self.socket)


def without_header(data: bytes) -> bytes:
    """The packet in an IPv4 datagram as a raw socket gives it."""
    return data[4 * (data[0] & 15) :] if data else data


_upstreams: trio.lowlevel.RunVar[dict[tuple[object, ...], Upstream]] = trio.lowlevel.RunVar("trio_mq pgm upstreams")


def _upstreams_here() -> dict[tuple[object, ...], Upstream]:
    try:
        return _upstreams.get()
    except LookupError:
        upstreams: dict[tuple[object, ...], Upstream] = {}
        _upstreams.set(upstreams)
        return upstreams


def join_upstream(interface: Interface, port: int, session: Session, hearer: Hearer, *, raw: bool) -> Upstream:
    """The socket for requests to *interface* and *port*, with *hearer* behind it.

    Raises:
        OSError: it cannot be opened.
    """
    upstreams = _upstreams_here()
    key = (interface, port, raw)
    upstream = upstreams.get(key)
    if upstream is None:
        headers = raw and interface.family == socket.AF_INET
        upstream = upstreams[key] = Upstream(open_upstream(interface, port, raw=raw), headers=headers)
    upstream.hearers[session] = hearer
    return upstream


def leave_upstream(upstream: Upstream, session: Session) -> None:
    """Whoever publishes as *session* is gone; the last one closes the socket."""
    upstream.hearers.pop(session, None)
    if not upstream.hearers:
        upstreams = _upstreams_here()
        for key in [key for key, each in upstreams.items() if each is upstream]:
            del upstreams[key]
        upstream.close()
