"""IP addresses: numeric ones, host names, network interfaces, and the networks an accept filter names.

The one place that asks the system about names. Which of these may stand where in an endpoint is `_tcp`'s business.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import trio

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_SIOCGIFADDR = 0x8915
_LINK_LOCAL = 0x20


class SocketAddress(NamedTuple):
    """What `socket.socket` and its ``bind`` or ``connect`` take."""

    family: int
    sockaddr: tuple[Any, ...]


def is_ipv4(host: str) -> bool:
    """Whether *host* is an IPv4 address of four numbers (not inet_aton's ``127.1``, which few mean)."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def is_ipv6(host: str) -> bool:
    """Whether *host* is an IPv6 address, with or without a zone (``fe80::1%eth0``)."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def format_address(sockaddr: Sequence[Any]) -> str:
    """*sockaddr* as ``tcp://`` endpoint. An IPv4 peer of a dual-stack listener is written as IPv4."""
    host, port = sockaddr[0], sockaddr[1]
    if ":" not in host:
        return f"tcp://{host}:{port}"
    mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
    if mapped is not None:
        return f"tcp://{mapped}:{port}"
    if len(sockaddr) > 3 and sockaddr[3] and "%" not in host:
        host = f"{host}%{_interface_name(sockaddr[3])}"
    return f"tcp://[{host}]:{port}"


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # it has just been unplugged
        return str(index)


# ---- our own addresses: for bind, and for the source of a connection


def binding_address(host: str, port: int, *, ipv6: bool) -> SocketAddress | None:
    """Where a listener for *host* binds, or None if *host* is a name to be resolved.

    ``*`` is every address: of both families with *ipv6*, where the kernel has both.

    Raises:
        OSError: *host* is an interface without an address.
    """
    if host == "*":
        dual = ipv6 and socket.has_dualstack_ipv6()
        return _wildcard(socket.AF_INET6 if dual else socket.AF_INET, port)
    if is_ipv4(host) or is_ipv6(host):
        return _numeric(host, port)
    if not _is_interface(host):
        return None
    if ipv6:
        try:
            return own_address(host, port, socket.AF_INET6)
        except OSError:
            pass  # it has an IPv4 address alone
    return own_address(host, port, socket.AF_INET)


def own_address(host: str, port: int, family: int) -> SocketAddress:
    """The address of ours that *host* (``*``, numeric or an interface) means in *family*. Never resolves a name.

    Raises:
        OSError: there is no such interface, or it has no address of that family.
    """
    if host == "*":
        return _wildcard(family, port)
    numeric = host if is_ipv4(host) or is_ipv6(host) else interface_address(host, family)
    address = _numeric(numeric, port)
    if address.family != family:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} and the address to connect to are of different families")
    return address


def _wildcard(family: int, port: int) -> SocketAddress:
    return SocketAddress(family, ("::", port, 0, 0) if family == socket.AF_INET6 else ("0.0.0.0", port))


def _numeric(host: str, port: int) -> SocketAddress:
    # getaddrinfo rather than a tuple by hand: it turns a zone (%eth0) into the scope id that bind wants.
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    family, _, _, _, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    return SocketAddress(family, sockaddr)


def _is_interface(name: str) -> bool:
    return any(name == known for _, known in socket.if_nameindex())


def interface_address(name: str, family: int) -> str:
    """An address of the network interface *name*; of IPv6 ones, a link-local one only if it has no other.

    Raises:
        OSError: there is no such interface, it has no address, or this platform does not tell.
    """
    if not _is_interface(name):
        raise OSError(errno.ENODEV, f"{name!r} is neither an address nor a network interface")
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, f"interfaces can be named on Linux only; write the address of {name!r} instead")
    found = _ipv6_of(name) if family == socket.AF_INET6 else _ipv4_of(name)
    if found is None:
        raise OSError(errno.EADDRNOTAVAIL, f"the interface {name!r} has no address of the wanted family")
    return found


def _ipv4_of(name: str) -> str | None:
    import fcntl  # not on Windows

    request = struct.pack("256s", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])  # struct ifreq: 16 bytes of name, then a sockaddr_in


def _ipv6_of(name: str) -> str | None:
    found: list[tuple[int, str]] = []
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            for line in table:
                digits, _, _, scope, _, interface = line.split()
                if interface == name:
                    found.append((int(scope, 16), str(ipaddress.IPv6Address(int(digits, 16)))))
    except OSError:  # a kernel without IPv6
        return None
    if not found:
        return None
    scope_of_best, address = min(found)
    return f"{address}%{name}" if scope_of_best == _LINK_LOCAL else address


# ---- names


def resolve_now(host: str, port: int, *, ipv6: bool) -> list[SocketAddress]:
    """The addresses of *host*, best first, blocking the thread. IPv4 alone unless *ipv6*.

    Raises:
        OSError: the name does not resolve (`socket.gaierror`).
    """
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise _unresolvable(host) from exc
    return _some(host, [SocketAddress(entry[0], entry[4]) for entry in found])


async def resolve(host: str, port: int, *, ipv6: bool) -> list[SocketAddress]:
    """`resolve_now` without blocking.

    When cancelled, the thread that resolves may live on for as long as the system's resolver takes; its answer is
    thrown away.
    """
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    try:
        found = await trio.socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise _unresolvable(host) from exc
    return _some(host, [SocketAddress(entry[0], entry[4]) for entry in found])


def _some(host: str, found: list[SocketAddress]) -> list[SocketAddress]:
    # The system's resolver never says "none" without an error, but one of trio's set_custom_hostname_resolver may.
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} has no address")
    return found


def _unresolvable(host: str) -> OSError:
    return socket.gaierror(socket.EAI_NONAME, f"{host!r} cannot be a host name")


# ---- accept filters


@functools.lru_cache(maxsize=64)
def networks(accept_filter: tuple[str, ...]) -> tuple[Network, ...]:
    """*accept_filter* understood: ``10.0.0.0/8``, ``::1``, or an address with host bits, whose bits do not count.

    Raises:
        ValueError: an entry is no network; the text names it.
    """
    found = []
    for text in accept_filter:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError as exc:
            raise ValueError(f"Options: accept_filter has networks such as '10.0.0.0/8', not {text!r}") from exc
    return tuple(found)


def lets_in(allowed: tuple[Network, ...], host: str) -> bool:
    """Whether *host*, numeric, is in one of *allowed*; if there is none, anybody may come."""
    if not allowed:
        return True
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # an IPv4 peer of a dual-stack listener; filters name it as IPv4
    return any(address in network for network in allowed)
