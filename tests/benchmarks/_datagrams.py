"""What the kernel knows of datagrams, whichever library sends them. Elsewhere than on Linux it does not tell."""

from __future__ import annotations

import os
import socket
import stat


def count_datagrams() -> tuple[int, int] | None:
    """UDP datagrams (sent, received) in this network namespace until now, by all its processes."""
    try:
        with open("/proc/self/net/snmp", encoding="ascii") as lines:
            names, values = (line.split() for line in lines if line.startswith("Udp:"))
    except FileNotFoundError:
        return None
    figures = dict(zip(names, values, strict=True))
    return int(figures["OutDatagrams"]), int(figures["InDatagrams"])


def granted_buffer() -> int | None:
    """Bytes of the largest receive buffer that a datagram socket of this process has; None without such a socket."""
    if not os.path.isdir("/proc/self/fd"):
        return None
    return max((size for name in os.listdir("/proc/self/fd") if (size := _buffer(int(name)))), default=None)


def _buffer(descriptor: int) -> int:
    """0 of what is no datagram socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return 0
    except OSError:  # the one that the list was read from
        return 0
    found = socket.socket(fileno=descriptor)
    try:
        if found.type != socket.SOCK_DGRAM:
            return 0
        return found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux tells the double, for its own needs
    finally:
        found.detach()  # it is the library's
