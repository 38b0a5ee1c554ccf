"""Datagram sockets: how they are bound, join a multicast group, and send to one. And addresses of datagrams as text.

The options are those that libzmq's udp sets, so that both can listen to one group on one machine.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import socket
import struct
import sys
from typing import Any

from .._options import Options
from ._addresses import SocketAddress, binding_address, is_ipv4, is_ipv6
from ._socket_link import set_buffers

# Linux numbers that the socket module has no names for.
SO_RXQ_OVFL = 40
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29

LARGEST_PAYLOAD = 65507
"""Bytes that one UDP datagram over IPv4 can have."""


def is_multicast(host: str) -> bool:
    """Whether *host* is the numeric address of a multicast group."""
    return (is_ipv4(host) or is_ipv6(host)) and ipaddress.ip_address(host).is_multicast


def open_receiver(host: str, port: int, interface: str, options: Options) -> socket.socket:
    """A socket that hears what comes to *host* (``*``, an address, an interface or a group) at *port*.

    Several may listen to one group and port, each of them hears everything (RFC 1112). Everything else can be bound
    once: libzmq sets SO_REUSEADDR there as well, with which Linux would give all datagrams to whoever came last.

    Raises:
        OSError: it cannot be bound, or there is no such interface.
    """
    if is_multicast(host):
        return _prepared(_group_family(host), options, lambda sock: _join(sock, host, port, interface))
    address = binding_address(host, port, ipv6=options.ipv6)
    if address is None:
        raise OSError(errno.EADDRNOTAVAIL, f"{host!r} is neither an address nor a network interface of this machine")
    return _prepared(address.family, options, lambda sock: _bind(sock, address))


def open_sender(target: SocketAddress, interface: str, options: Options) -> socket.socket:
    """A socket to send to *target* with, out of *interface* if that is a group.

    Raises:
        OSError: there is no such interface.
    """

    def prepare(sock: socket.socket) -> None:
        if is_multicast(str(target.sockaddr[0])):
            send_multicast(sock, interface, options)

    return _prepared(target.family, options, prepare)


def _prepared(family: int, options: Options, prepare: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        set_buffers(sock, options)
        prepare(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, address: SocketAddress) -> None:
    if address.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # as over tcp: [::] is both families
    sock.bind(address.sockaddr)


def _group_family(group: str) -> int:
    return socket.AF_INET6 if is_ipv6(group) else socket.AF_INET


def _join(sock: socket.socket, group: str, port: int, interface: str) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Bound to no address, as libzmq's: to the group would do, but not on Windows, nor for a DGRAM that sends from here.
    sock.bind(("", port))
    if sock.family == socket.AF_INET6:
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        request = socket.inet_pton(socket.AF_INET6, group.partition("%")[0]) + struct.pack("@I", _index(interface))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        if sys.platform == "linux":
            # Or it would hear every group that anybody on this machine has joined (ip(7)).
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + _where(interface))


def send_multicast(sock: socket.socket, interface: str, options: Options) -> None:
    """Let *sock* send to groups as *options* say, out of *interface*.

    Raises:
        OSError: there is no such interface.
    """
    hops, loop = options.multicast_hops, int(options.multicast_loop)
    if sock.family == socket.AF_INET6:
        level = socket.IPPROTO_IPV6
        sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, hops)
        sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, loop)
        if _index(interface):
            sock.setsockopt(level, socket.IPV6_MULTICAST_IF, _index(interface))
    else:
        level = socket.IPPROTO_IP
        sock.setsockopt(level, socket.IP_MULTICAST_TTL, hops)
        sock.setsockopt(level, socket.IP_MULTICAST_LOOP, loop)
        if interface not in ("", "*"):
            group = b"" if sys.platform == "win32" else bytes(4)
            sock.setsockopt(level, socket.IP_MULTICAST_IF, group + _where(interface))


def _where(interface: str) -> bytes:
    """The end of a struct ip_mreqn: an address of ours, and the index of an interface; zeros leave it to the system."""
    address = socket.inet_aton(interface) if is_ipv4(interface) else bytes(4)
    if sys.platform == "win32":  # its struct ends here
        return address
    return address + struct.pack("@i", 0 if is_ipv4(interface) else _index(interface))


def _index(interface: str) -> int:
    if interface in ("", "*"):
        return 0
    try:
        return socket.if_nametoindex(interface)
    except OSError as exc:
        raise OSError(errno.ENODEV, f"there is no network interface {interface!r}") from exc


# ---- addresses as text: "127.0.0.1:5555", "[::1]:5555"


@functools.lru_cache(maxsize=1024)
def split_address(text: str) -> tuple[str, int]:
    """Host and port of an address that a datagram comes from or goes to. Numeric: nothing is looked up.

    Raises:
        ValueError: it is none.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (is_ipv4(host) or is_ipv6(host)) or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"a datagram goes to an address such as '127.0.0.1:5555' or '[::1]:5555', not {text!r}")
    return host, int(port)


@functools.lru_cache(maxsize=1024)
def sockaddr_of(text: bytes, family: int) -> tuple[Any, ...]:
    """The address *text* for a socket of *family*.

    Raises:
        ValueError: it is none.
        OSError: it is of another family.
    """
    # libzmq's DGRAM gives addresses with a NUL behind them, and takes them with one and without.
    host, port = split_address(text.rstrip(b"\0").decode("ascii", "replace"))
    if family == socket.AF_INET6:
        host = f"::ffff:{host}" if is_ipv4(host) else host
        address, _, zone = host.partition("%")
        return (address, port, 0, _index(zone))
    if not is_ipv4(host):
        raise OSError(errno.EAFNOSUPPORT, f"{host} is an IPv6 address, and this socket is bound to an IPv4 one")
    return (host, port)


@functools.lru_cache(maxsize=1024)
def format_sockaddr(sockaddr: tuple[Any, ...]) -> bytes:
    """*sockaddr* as text. An IPv4 peer of a socket for both families is written as IPv4."""
    host, port = sockaddr[0], sockaddr[1]
    if ":" not in host:
        return b"%s:%d" % (host.encode(), port)
    mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
    if mapped is not None:
        return b"%s:%d" % (str(mapped).encode(), port)
    if len(sockaddr) > 3 and sockaddr[3] and "%" not in host:
        host = f"{host}%{_name(sockaddr[3])}"
    return b"[%s]:%d" % (host.encode(), port)


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # it has just been unplugged
        return str(index)
