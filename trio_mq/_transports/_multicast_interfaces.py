"""Which network interface an endpoint means, and our address on it. Asks the system about itself, never DNS."""

from __future__ import annotations

import array
import errno
import ipaddress
import socket
import struct
import sys
from dataclasses import dataclass

from ._addresses import interface_address, is_ipv4, is_ipv6

_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_MOST_ADDRESSES = 512
_CAN_LIST: bool = sys.platform.startswith("linux")


@dataclass(frozen=True)
class Interface:
    """A network interface, as far as multicast needs it.

    Attributes:
        index: its number; 0 if this platform does not tell (then the address has to do).
        address: our address on it, without a zone.
        family: of that.
    """

    index: int
    address: str
    family: int

    @property
    def packed(self) -> bytes:
        """The address in network byte order."""
        return socket.inet_pton(self.family, self.address)

    def sockaddr(self, host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """*host* as seen from here: link-local and multicast addresses of IPv6 mean nothing without an interface."""
        if self.family == socket.AF_INET:
            return (host, port)
        address = ipaddress.IPv6Address(host)
        return (host, port, 0, self.index if address.is_link_local or address.is_multicast else 0)


@dataclass(frozen=True)
class Link:
    """What the system says of the link behind an interface.

    Attributes:
        name: the interface's.
        up: whether it was set up.
        running: whether it has a carrier: a cable, a network, another end.
        mtu: bytes of the largest IP packet it takes whole.
    """

    name: str
    up: bool
    running: bool
    mtu: int


def find_link(name: str) -> Link | None:
    """The link of the interface *name*; None if there is none, or this platform does not tell."""
    if not _CAN_LIST or not 0 < len(name.encode()) < 16 or "\0" in name:
        return None
    import fcntl  # not on Windows

    # struct ifreq: 16 bytes of name, then a union.
    request = struct.pack("16s24x", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            flags = struct.unpack_from("@H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
            mtu = struct.unpack_from("@i", fcntl.ioctl(probe, _SIOCGIFMTU, request), 16)[0]
        except OSError:
            return None
    return Link(name, bool(flags & _IFF_UP), bool(flags & _IFF_RUNNING), mtu)


def find_interface(text: str, group: str, port: int) -> Interface:
    """The interface that *text* (a name, an address, a network, or nothing) means for *group*.

    Raises:
        OSError: there is none, or it has no address of the group's family.
    """
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    if not text:
        return _routed(group, port, family)
    if "/" in text:
        return _in_network(text, family)
    if is_ipv4(text) or is_ipv6(text):
        return _with_address(text, family)
    address = interface_address(text, family).partition("%")[0]
    return Interface(socket.if_nametoindex(text), address, family)


def _routed(group: str, port: int, family: int) -> Interface:
    # Connecting a datagram socket sends nothing, but makes the kernel choose a route and an address.
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((group, port))
        except OSError as exc:
            text = f"this machine has no route to {group}; name an interface, as in eth0;{group}:{port}"
            raise OSError(exc.errno, text) from exc
        host = probe.getsockname()[0]
    return _with_address(host, family)


def _in_network(text: str, family: int) -> Interface:
    network = ipaddress.ip_network(text, strict=False)
    for index, address in _own_addresses(family):
        if ipaddress.ip_address(address) in network:
            return Interface(index, address, family)
    raise OSError(errno.EADDRNOTAVAIL, f"no interface of this machine has an address in {text}")


def _with_address(text: str, family: int) -> Interface:
    wanted, _, zone = text.partition("%")
    for index, address in _own_addresses(family):
        if ipaddress.ip_address(address) == ipaddress.ip_address(wanted) and zone in (
            "",
            str(index),
            interface_name(index),
        ):
            return Interface(index, address, family)
    if _CAN_LIST:
        raise OSError(errno.EADDRNOTAVAIL, f"no interface of this machine has the address {text}")
    index = socket.if_nametoindex(zone) if zone and not zone.isdigit() else int(zone or 0)
    return Interface(index, wanted, family)


def interface_name(index: int) -> str:
    """The name of the interface with the number *index*; empty if there is none."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _own_addresses(family: int) -> list[tuple[int, str]]:
    """The addresses of this machine and the numbers of their interfaces; nothing where the platform does not tell."""
    if not _CAN_LIST:
        return []
    return _own_ipv6() if family == socket.AF_INET6 else _own_ipv4()


def _own_ipv4() -> list[tuple[int, str]]:
    import fcntl  # not on Windows

    # struct ifconf: a length and a pointer to as many struct ifreq, each a name of 16 bytes and a sockaddr_in.
    size = 40 if struct.calcsize("P") == 8 else 32
    room = array.array("B", bytes(size * _MOST_ADDRESSES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("iP", len(room), room.buffer_info()[0])
        used = struct.unpack("iP", fcntl.ioctl(probe, _SIOCGIFCONF, request))[0]
    data = room.tobytes()[:used]
    found = []
    for start in range(0, len(data), size):
        name = data[start : start + 16].partition(b"\0")[0].partition(b":")[0].decode()
        found.append((socket.if_nametoindex(name), socket.inet_ntoa(data[start + 20 : start + 24])))
    return found


def _own_ipv6() -> list[tuple[int, str]]:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            rows = [line.split() for line in table]
    except OSError:  # a kernel without IPv6
        return []
    return [(int(row[1], 16), str(ipaddress.IPv6Address(int(row[0], 16)))) for row in rows]
