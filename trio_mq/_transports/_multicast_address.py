"""The endpoint grammar of reliable multicast, ``pgm://`` and ``epgm://``: ``interface;groups;group to send to:port``.

==============================  ==========================================================================
``eth0;239.192.1.1:5555``       hear and send to a group on an interface
``eth0;G1,G2;G3:5555``          hear two groups and send to a third
``239.192.1.1:5555``            on the interface that the system routes the group to
==============================  ==========================================================================

An interface is a name, one of its addresses, or a network that one of its addresses lies in (``10.0.0.0/8``). IPv6
addresses may stand in brackets. Groups are numeric: a name that resolves to a group has no use, and asking for one
would make a subscriber depend on DNS, as libzmq's does.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from .._endpoint import Endpoint
from .._errors import EndpointError
from ._addresses import is_ipv4, is_ipv6
from ._udp_sockets import is_multicast


@dataclass(frozen=True)
class MulticastAddress:
    """An endpoint understood. ``str()`` gives it as it was written.

    Attributes:
        interface: a name, an address, a network; empty for the system's choice.
        groups: those to hear, numeric.
        target: the one to send to.
        port: of both.
    """

    endpoint: Endpoint = field(compare=False)
    interface: str
    groups: tuple[str, ...]
    target: str
    port: int

    def __str__(self) -> str:
        return self.endpoint.text

    @property
    def is_ipv6(self) -> bool:
        """Whether the groups are IPv6 ones."""
        return ":" in self.target


def parse_multicast(endpoint: Endpoint) -> MulticastAddress:
    """*endpoint* understood.

    Raises:
        EndpointError: it cannot be meant.
    """
    network, colon, port = endpoint.rest.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise EndpointError(endpoint.text, f"{endpoint.scheme}://interface;group:port has a port from 1 to 65535")
    parts = network.split(";")
    if len(parts) == 1:
        parts = ["", *parts]
    if len(parts) > 3:
        raise EndpointError(endpoint.text, "an interface, groups to hear, a group to send to: at most three parts")
    groups = tuple(_parse_group(endpoint, text) for text in parts[1].split(","))
    target = _parse_group(endpoint, parts[2]) if len(parts) == 3 else groups[0]
    if len({":" in group for group in (*groups, target)}) > 1:
        raise EndpointError(endpoint.text, "all groups are IPv4 ones, or all are IPv6 ones")
    interface = _parse_interface(endpoint, parts[0], ipv6=":" in target)
    return MulticastAddress(endpoint, interface, groups, target, int(port))


def _parse_group(endpoint: Endpoint, text: str) -> str:
    group = _unbracketed(text)
    if not is_multicast(group) or "%" in group:
        raise EndpointError(endpoint.text, f"{text!r} is no multicast group; one is 239.192.1.1, or [ff15::1]")
    return str(ipaddress.ip_address(group))


def _parse_interface(endpoint: Endpoint, text: str, *, ipv6: bool) -> str:
    interface = _unbracketed(text)
    if interface in ("", "*"):
        return ""
    if "/" in interface:
        try:
            network = ipaddress.ip_network(interface, strict=False)
        except ValueError as exc:
            raise EndpointError(endpoint.text, f"{text!r} is no network; one is 10.0.0.0/8") from exc
        if (network.version == 6) != ipv6:
            raise EndpointError(endpoint.text, f"{text} and the groups are of different families")
    elif (is_ipv4(interface) and ipv6) or (is_ipv6(interface) and not ipv6):
        raise EndpointError(endpoint.text, f"{text} and the groups are of different families")
    elif is_multicast(interface):
        raise EndpointError(
            endpoint.text, f"{text} is a group; an interface comes first, then a semicolon, then groups"
        )
    return interface


def _unbracketed(text: str) -> str:
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
