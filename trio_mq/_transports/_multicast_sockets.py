"""The sockets of PGM: who binds where, so that ours and libzmq's share a port on one machine and each hears its own.

==================  ===================  ====================================================================
a subscriber hears  (group, port)        this group alone, and never a request meant for a publisher here
a subscriber asks   (own address, any)
a publisher sends   (own address, any)   out of one interface; it goes as far as ``multicast_hops`` says
a publisher hears   (own address, port)  an exact address wins over the wildcard that libzmq binds
==================  ===================  ====================================================================

Over ``epgm`` they are UDP sockets, over ``pgm`` raw ones of IP protocol 113, which have no ports: there each socket
gets a copy of everything that comes to its address.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Final

from .._options import Options
from ._multicast_interfaces import Interface

PROTOCOL: Final = 113
"""PGM's number among the protocols of IP (RFC 3208)."""

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
SEND_BUFFER: Final = 1024 * 1024
"""Bytes asked of the kernel unless options say otherwise: what comes while Python does something else has to lie
somewhere. It grants no more than ``net.core.rmem_max`` and ``wmem_max``."""

# Linux numbers that not every version of the socket module has names for.
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29

_REMEDY: Final = (
    "pgm:// sends raw IP, which needs the capability CAP_NET_RAW: run as root, or give it to the interpreter "
    "(setcap cap_net_raw+ep), or use epgm://, the same over UDP, which needs no privilege"
)

_TAKEN: Final = (
    "port {port} of {places} belongs to a program that does not share it, or to one of another user (Linux shares a "
    "port only among the programs of one user); take another port"
)
_ROUTE: Final = (
    "; IPv6 has no multicast over the loopback interface unless it is given a route, as root: "
    "ip -6 route add local {group} dev lo"
)


def open_socket(family: int, *, raw: bool) -> socket.socket:
    """A non-blocking datagram socket.

    Raises:
        PermissionError: a raw one, without the privilege; the text says what to do.
        OSError: the system has none.
    """
    try:
        sock = socket.socket(family, socket.SOCK_RAW if raw else socket.SOCK_DGRAM, PROTOCOL if raw else 0)
    except PermissionError as exc:
        raise PermissionError(exc.errno, _REMEDY) from None
    sock.setblocking(False)
    return sock


def open_hearing(interface: Interface, group: str, port: int, options: Options, *, raw: bool) -> socket.socket:
    """A subscriber's: what comes to *group* at *interface*.

    Raises:
        OSError: EADDRINUSE, if a program has the port that does not share it; what else the system says.
    """
    sock = open_socket(interface.family, raw=raw)
    try:
        _set_buffer(sock, socket.SO_RCVBUF, options.receive_buffer or RECEIVE_BUFFER)
        _share_port(sock)
        # Windows binds no group.
        where = ("", port) if sys.platform == "win32" else interface.sockaddr(group, 0 if raw else port)
        endpoint = f"{'pgm' if raw else 'epgm'}://{_bracketed(interface.address)};{_bracketed(group)}:{port}"
        _bind(sock, where, f"{endpoint}: {port_is_taken(port, group)}")
        _join(sock, interface, group)
    except BaseException:
        sock.close()
        raise
    return sock


def open_upstream(interface: Interface, port: int, *, raw: bool) -> socket.socket:
    """A publisher's: what receivers ask for.

    Raises:
        OSError: EADDRINUSE, if another user's program has the port, or one that does not share it.
    """
    sock = open_socket(interface.family, raw=raw)
    try:
        _set_buffer(sock, socket.SO_RCVBUF, SEND_BUFFER)
        _share_port(sock)
        _bind(sock, interface.sockaddr(interface.address, 0 if raw else port), port_is_taken(port, interface.address))
    except BaseException:
        sock.close()
        raise
    return sock


def open_sending(interface: Interface, options: Options, *, hops: int, loop: bool, raw: bool) -> socket.socket:
    """One to send from, to a group or to a host."""
    sock = open_socket(interface.family, raw=raw)
    try:
        _set_buffer(sock, socket.SO_SNDBUF, options.send_buffer or SEND_BUFFER)
        sock.bind(interface.sockaddr(interface.address, 0))
        if interface.family == socket.AF_INET6:
            level = socket.IPPROTO_IPV6
            sock.setsockopt(level, socket.IPV6_MULTICAST_IF, interface.index)
            sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, hops)
            sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, loop)
        else:
            level = socket.IPPROTO_IP
            sock.setsockopt(level, socket.IP_MULTICAST_IF, _own_end(interface))
            sock.setsockopt(level, socket.IP_MULTICAST_TTL, hops)
            sock.setsockopt(level, socket.IP_MULTICAST_LOOP, loop)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_to_group(sock: socket.socket, interface: Interface, group: str, port: int) -> None:
    """Let *sock* send to *group* alone, for which the kernel then looks for a route once and not each time.

    Raises:
        OSError: there is no way to the group out of this interface.
    """
    try:
        sock.connect(interface.sockaddr(group, port))
    except OSError as exc:
        text = f"no way to {group} out of the interface with {interface.address}: {exc.strerror or exc}"
        raise OSError(exc.errno, text + _route_for(interface, group)) from exc


def port_is_taken(port: int, *places: str) -> str:
    """What EADDRINUSE means for *port* of *places*, and what to do."""
    return _TAKEN.format(port=port, places=" or ".join(places))


def granted(sock: socket.socket, option: int) -> int:
    """The bytes that the kernel gave to a buffer of *sock*."""
    size = sock.getsockopt(socket.SOL_SOCKET, option)
    # Linux counts its own bookkeeping in, and so doubles what it was asked for.
    return size // 2 if sys.platform == "linux" else size


def is_full(error: OSError) -> bool:
    """Whether *error* says that the kernel has no room at the moment."""
    return isinstance(error, (BlockingIOError, InterruptedError)) or error.errno == errno.ENOBUFS


def _bind(sock: socket.socket, where: tuple[str, int] | tuple[str, int, int, int], taken: str) -> None:
    """Bind *sock*; EADDRINUSE is raised with the text *taken*, since the system's own names neither port nor reason."""
    try:
        sock.bind(where)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        raise OSError(exc.errno, taken) from exc


def _route_for(interface: Interface, group: str) -> str:
    """Linux sends no multicast of IPv6 over loopback without a route of the type *local*; others it refuses there."""
    return _ROUTE.format(group=group) if interface.address == "::1" and sys.platform == "linux" else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _set_buffer(sock: socket.socket, option: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    except OSError:
        pass  # BSDs refuse what is beyond their limit instead of cutting it; what there is shows in the statistics


def _share_port(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _join(sock: socket.socket, interface: Interface, group: str) -> None:
    linux = sys.platform == "linux"
    if interface.family == socket.AF_INET6:
        if linux:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", interface.index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        if linux:
            # Or it would hear the group on every interface on which anybody has joined it (ip(7)).
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        request = socket.inet_aton(group) + _own_end(interface)[4:]
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


def _own_end(interface: Interface) -> bytes:
    """The end of a struct ip_mreqn without its group, or where an index is not known, ip_mreq's."""
    address = socket.inet_aton(interface.address)
    if sys.platform != "linux":
        return bytes(4) + address
    return bytes(4) + address + struct.pack("@i", interface.index)
