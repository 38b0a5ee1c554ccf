"""udp: RADIO sends to ``udp://host:port``, DISH and DGRAM listen there. One datagram is one message.

==================  ================================================================================================
RADIO connects to   ``[interface;]host:port``: an address, a multicast group, or a name, looked up once
DISH binds          ``host:port``: ``*``, an address or interface of this machine, or a multicast group;
                    ``interface;group:port`` joins the group there
DGRAM binds         the same
``interface``       an address (IPv4) or name of an interface, for groups only; the system's choice without
``port``            a number; to bind other than a group also ``*``
==================  ================================================================================================

Nothing is acknowledged or repeated, there is no handshake and no security: `wait_connected` says that the socket is
open, no more. JOIN and LEAVE stay at home, and a DISH picks out its groups from what comes. The bytes are those of
libzmq's draft sockets. IPv6 takes ``Options(ipv6=True)``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from .._endpoint import Endpoint
from .._errors import EndpointError
from .._events import DialFailed, RetryIn
from .._message import Peer
from .._options import Options
from .._patterns import EVERY_GROUP
from .._security import Null
from ..zmtp import LARGEST_DATAGRAM, encode_datagram, parse_datagram
from ._addresses import SocketAddress, is_ipv4, is_ipv6, own_address, resolve
from ._attachment import Attachment, MessageTransport, Owner, Party
from ._datagrams import DatagramReceiver, DatagramSender, Decode
from ._socket_link import close_socket
from ._tcp import HostPort, parse_host, parse_host_port
from ._udp_sockets import (
    LARGEST_PAYLOAD,
    format_sockaddr,
    is_multicast,
    open_receiver,
    open_sender,
    send_multicast,
    sockaddr_of,
)


@dataclass(frozen=True)
class UdpAddress:
    """A udp endpoint understood. ``str()`` gives the endpoint as it was written.

    Attributes:
        interface: where a group is joined or sent to; empty: the system decides.
    """

    endpoint: Endpoint = field(compare=False)
    target: HostPort
    interface: str = ""

    def __str__(self) -> str:
        return self.endpoint.text


class UdpTransport(MessageTransport):
    """UDP, unicast and multicast."""

    schemes = ("udp",)
    socket_types = frozenset({"RADIO", "DISH", "DGRAM"})
    binding_types = frozenset({"DISH", "DGRAM"})
    connecting_types = frozenset({"RADIO"})

    def parse(self, endpoint: Endpoint, *, binding: bool) -> UdpAddress:
        before, separator, rest = endpoint.rest.rpartition(";")
        target = parse_host_port(endpoint, rest, wildcard=binding)
        group = is_multicast(target.host)
        if group and target.port == 0:
            raise EndpointError(endpoint.text, "a multicast group is joined at a port; * cannot be meant")
        interface = parse_host(endpoint, before, wildcard=True) if separator else ""
        if interface:
            _check_interface(endpoint, interface, target.host if group else "")
        return UdpAddress(endpoint, target, interface)

    def check(self, address: UdpAddress, options: Options) -> None:
        """`EndpointError` for an IPv6 address without ``ipv6=True``, and for options that ask for security."""
        if ":" in address.target.host and not options.ipv6:
            raise EndpointError(str(address), "an IPv6 address needs Options(ipv6=True)")
        if not isinstance(options.security, Null) or options.authenticator is not None:
            # Ignoring them, as libzmq does, would send in clear what was meant for a few.
            raise EndpointError(str(address), "datagrams have no security, and the options ask for some")

    def attach(
        self, address: UdpAddress, make_party: Callable[[], Party], *, binding: bool, owner: Owner
    ) -> Attachment:
        refusal = self.admits(owner.socket_type, binding=binding)
        if refusal:  # an endpoint of trio_mq.listen has not met the socket before
            raise EndpointError(str(address), refusal)
        if not binding:
            return Destination(address, make_party, owner)
        sock = open_receiver(address.target.host, address.target.port, address.interface, owner.options)
        return Source(sock, address, make_party, owner)


def _check_interface(endpoint: Endpoint, interface: str, group: str) -> None:
    if not group:
        raise EndpointError(endpoint.text, "an interface is for a multicast group: interface;group:port")
    if is_multicast(interface):
        raise EndpointError(endpoint.text, f"{interface} is a multicast group, and no interface")
    if is_ipv6(interface) or (is_ipv4(interface) and is_ipv6(group)):
        raise EndpointError(endpoint.text, "an IPv6 group is joined on an interface that is given by its name")


class Destination(Attachment):
    """Where a RADIO sends to."""

    def __init__(self, address: UdpAddress, make_party: Callable[[], Party], owner: Owner) -> None:
        self.endpoint = str(address)
        self._address = address
        self._party = make_party()
        self._owner = owner
        self._socket: socket.socket | None = None
        self._sender: DatagramSender | None = None
        self._task: trio.CancelScope | None = None

    def start(self) -> None:
        # A name takes a while; what is sent meanwhile waits for it, unless the options say otherwise (`immediate`).
        self._party.subscription(EVERY_GROUP, True)
        target = _numeric(self._address.target)
        if target is None or not self._try_open(target):
            self._task = self._owner.start(self._dial)

    def _try_open(self, target: SocketAddress) -> bool:
        try:
            self._open(target)
        except OSError as exc:
            self._owner.report(DialFailed(endpoint=self.endpoint, error=exc))
            return False
        return True

    async def _dial(self) -> None:
        """Try until there is an address, and a socket to send to it with, or trying again is pointless."""
        options, wait, attempt = self._owner.options, self._owner.options.reconnect_interval, 0
        while True:
            attempt += 1
            error = await self._attempt()
            if error is None:
                return
            self._owner.report(DialFailed(endpoint=self.endpoint, error=error))
            if not self._retries(error):
                self._party.failed(error)
                return
            self._owner.report(RetryIn(endpoint=self.endpoint, seconds=wait, attempt=attempt))
            await trio.sleep(wait)
            wait = min(2 * wait, options.reconnect_interval_max)

    async def _attempt(self) -> OSError | None:
        host, port = self._address.target.host, self._address.target.port
        try:
            self._open((await resolve(host, port, ipv6=self._owner.options.ipv6))[0])
        except OSError as exc:
            return exc  # noqa: ASYNC910  # a task of our own: nobody awaits it
        return None

    def _retries(self, error: OSError) -> bool:
        try:
            return self._owner.options.should_retry(error)
        except Exception as exc:  # noqa: BLE001  # the program's function, not ours: its failure is this endpoint's end
            self._owner.report(DialFailed(endpoint=self.endpoint, error=exc))
            return False

    def _open(self, target: SocketAddress) -> None:
        sock = open_sender(target, self._address.interface, self._owner.options)
        self._socket = sock
        address = f"udp://{format_sockaddr(target.sockaddr).decode()}"
        _, outbound = self._party.open(Datagrams(self), Peer(self.endpoint, address, socket_type="DISH"))
        self._party.begin()
        if self._owner.options.immediate:  # it has no queue before
            self._party.subscription(EVERY_GROUP, True)
        self._party.opened()

        def encode(message: list[bytes]) -> tuple[bytes, tuple[Any, ...]] | None:
            datagram = encode_datagram(message[0], message[1])
            return None if datagram is None else (datagram, target.sockaddr)

        self._sender = DatagramSender(sock, self._owner, self._party, outbound, encode)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._sender is not None:
            self._sender.close()
        sock, self._socket = self._socket, None
        if sock is not None:
            close_socket(sock)
            self._party.part(None, [])


class Source(Attachment):
    """Where a DISH or a DGRAM listens; a DGRAM sends from there as well."""

    def __init__(self, sock: socket.socket, address: UdpAddress, make_party: Callable[[], Party], owner: Owner) -> None:
        self._socket = sock
        self._sends = owner.socket_type == "DGRAM"
        try:
            if self._sends:
                send_multicast(sock, address.interface, owner.options)
        except BaseException:
            sock.close()
            raise
        bound = format_sockaddr(sock.getsockname()).decode()
        self.endpoint = str(address) if is_multicast(address.target.host) else f"udp://{bound}"
        self._make_party = make_party
        self._owner = owner
        self._party: Party | None = None
        self._halves: list[DatagramSender | DatagramReceiver] = []

    def start(self) -> None:
        party = self._party = self._make_party()
        partner = "DGRAM" if self._sends else "RADIO"
        inbound, outbound = party.open(Datagrams(self), Peer(self.endpoint, socket_type=partner))
        party.begin()
        party.opened()
        decode: Decode = _decode_plainly if self._sends else lambda data, _: parse_datagram(data)
        limit = LARGEST_PAYLOAD if self._sends else LARGEST_DATAGRAM
        self._halves.append(DatagramReceiver(self._socket, self._owner, party, inbound, decode, limit))
        if self._sends:
            self._halves.append(DatagramSender(self._socket, self._owner, party, outbound, self._encode))

    def _encode(self, message: list[bytes]) -> tuple[bytes, tuple[Any, ...]]:
        return message[1], sockaddr_of(message[0], self._socket.family)

    def close(self) -> None:
        for half in self._halves:
            half.close()
        if self._socket.fileno() >= 0:
            close_socket(self._socket)
            if self._party is not None:
                self._party.part(None, [])


class Datagrams:
    """What a pipe can ask of a datagram endpoint: only to be closed."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        """Not told to anybody: whoever sends datagrams does not know who listens."""

    def restart(self) -> None:
        """There is nothing that could be broken off and made anew."""

    def looks(self) -> int:
        return 0  # the receiving task is as near to the kernel

    def look(self) -> bool:
        return False

    def looked(self, found: bool) -> None:
        pass

    def figures(self) -> None:
        return None

    def close(self, error: Exception | None) -> None:
        self._attachment.close()


def _decode_plainly(data: bytes, address: Any) -> list[bytes]:
    return [format_sockaddr(address), data]


def _numeric(target: HostPort) -> SocketAddress | None:
    """*target* if nothing has to be looked up for it."""
    if is_ipv4(target.host):
        return own_address(target.host, target.port, socket.AF_INET)
    return own_address(target.host, target.port, socket.AF_INET6) if is_ipv6(target.host) else None
