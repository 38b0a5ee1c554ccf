"""tcp: ``tcp://interface:port`` to bind, ``tcp://[source;]host:port`` to connect.

==============  ========================================================================================
to bind         ``interface`` is ``*``, an address, a network interface (Linux), or a host name;
                ``port`` a number, or ``*`` (the same as 0) for one that is free
to connect      ``host`` is an address or a host name, looked up again at every attempt; ``port`` a number
``source``      ``interface:port`` as above, but no host name; the local end of the connection
IPv6            in brackets or bare, with a zone if need be (``[fe80::1%eth0]``), with ``Options(ipv6=True)``
==============  ========================================================================================

Where libzmq takes a port modulo 65536, or an IPv6 address without its option and then fails for ever in the
background, we refuse at the call.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from .._endpoint import Endpoint
from .._errors import EndpointError
from .._options import Options
from ._abc import ConnectionRefusedByFilter, Link, Listener, StreamTransport
from ._addresses import (
    SocketAddress,
    binding_address,
    format_address,
    is_ipv4,
    is_ipv6,
    lets_in,
    networks,
    own_address,
    resolve,
    resolve_now,
)
from ._happy_eyeballs import race
from ._socket_link import SocketLink, SocketListener, adopt_listening, set_buffers


@dataclass(frozen=True)
class HostPort:
    """One end: a host (``*``, numeric, interface or name; no brackets) and a port (0: any that is free)."""

    host: str
    port: int


@dataclass(frozen=True)
class TcpAddress:
    """A tcp endpoint understood. ``str()`` gives the endpoint as it was written."""

    endpoint: Endpoint = field(compare=False)
    target: HostPort
    source: HostPort | None = None

    def __str__(self) -> str:
        return self.endpoint.text

    @property
    def is_ipv6(self) -> bool:
        """Whether it names an IPv6 address."""
        return any(":" in end.host for end in (self.target, self.source) if end is not None)


class TcpTransport(StreamTransport[TcpAddress]):
    """TCP over IPv4 and IPv6. A link's peer address is ``tcp://address:port``, numeric."""

    schemes = ("tcp",)

    def parse(self, endpoint: Endpoint, *, binding: bool) -> TcpAddress:
        return _parse_bind(endpoint) if binding else _parse_connect(endpoint)

    def check(self, address: TcpAddress, options: Options) -> None:
        """`EndpointError` for an IPv6 address without ``ipv6=True``, `ValueError` for a malformed accept filter."""
        networks(options.accept_filter)
        if address.is_ipv6 and not options.ipv6:
            raise EndpointError(str(address), "an IPv6 address needs Options(ipv6=True)")

    async def listen(self, address: TcpAddress, options: Options) -> Listener:
        self.check(address, options)
        await trio.lowlevel.checkpoint()
        if options.use_fd is not None:
            return _adopt(options.use_fd, options)
        host, port = address.target.host, address.target.port
        found = binding_address(host, port, ipv6=options.ipv6)
        if found is None:
            found = (await resolve(host, port, ipv6=options.ipv6))[0]
        return _listen_at(found, options)

    def listen_now(self, address: TcpAddress, options: Options) -> Listener:
        """`listen` at once. A host name blocks the thread while it is looked up; an address or interface does not."""
        self.check(address, options)
        if options.use_fd is not None:
            return _adopt(options.use_fd, options)
        host, port = address.target.host, address.target.port
        found = binding_address(host, port, ipv6=options.ipv6) or resolve_now(host, port, ipv6=options.ipv6)[0]
        return _listen_at(found, options)

    async def connect(self, address: TcpAddress, options: Options) -> Link:
        """One attempt at every address of the host, as happy eyeballs do; with ``ipv6=True`` of both families."""
        self.check(address, options)
        targets = await resolve(address.target.host, address.target.port, ipv6=options.ipv6)
        return _link(await race(targets, lambda target: _connect_to(target, address.source, options)))


# ---- grammar


def _parse_bind(endpoint: Endpoint) -> TcpAddress:
    if ";" in endpoint.rest:
        raise EndpointError(endpoint.text, "source;host:port is for connecting; bind takes interface:port")
    return TcpAddress(endpoint, parse_host_port(endpoint, endpoint.rest, wildcard=True))


def _parse_connect(endpoint: Endpoint) -> TcpAddress:
    source_text, separator, target_text = endpoint.rest.rpartition(";")
    source = parse_host_port(endpoint, source_text, wildcard=True) if separator else None
    return TcpAddress(endpoint, parse_host_port(endpoint, target_text, wildcard=False), source)


def parse_host_port(endpoint: Endpoint, text: str, *, wildcard: bool) -> HostPort:
    """``host:port``; with *wildcard* both may be ``*``, and the port 0. Raises `EndpointError`."""
    # The last colon: an IPv6 address may stand without brackets, as libzmq lets it.
    host, separator, port = text.rpartition(":")
    if not separator:
        raise EndpointError(endpoint.text, f"a port must follow {text!r}, as in {endpoint.scheme}://127.0.0.1:5555")
    return HostPort(parse_host(endpoint, host, wildcard=wildcard), _parse_port(endpoint, port, wildcard=wildcard))


def _parse_port(endpoint: Endpoint, text: str, *, wildcard: bool) -> int:
    if text == "*" and wildcard:
        return 0
    # int() alone would take "+5", " 5", "5_0" and digits of every script.
    if not (text.isascii() and text.isdigit()):
        raise EndpointError(endpoint.text, f"a port is a number{' or *' if wildcard else ''}, not {text!r}")
    port = int(text[:6])
    if len(text) > 5 or port > 65535:
        raise EndpointError(endpoint.text, f"a port is at most 65535, not {text}")
    if port == 0 and not wildcard:
        raise EndpointError(endpoint.text, "port 0 is for binding; to connect, name the port of the other end")
    return port


def parse_host(endpoint: Endpoint, text: str, *, wildcard: bool) -> str:
    """A host without brackets; with *wildcard* it may be ``*``. Raises `EndpointError`."""
    if text == "*":
        if not wildcard:
            raise EndpointError(endpoint.text, "* is for binding; to connect, name the host of the other end")
        return text
    if text.startswith("[") or text.endswith("]"):
        if not (text.startswith("[") and text.endswith("]") and is_ipv6(text[1:-1])):
            raise EndpointError(endpoint.text, f"only an IPv6 address stands in brackets, not {text!r}")
        return text[1:-1]
    if not (is_ipv4(text) or is_ipv6(text)):
        _check_name(endpoint, text)
    return text


def _check_name(endpoint: Endpoint, name: str) -> None:
    if ":" in name:
        raise EndpointError(endpoint.text, f"{name!r} is no IPv6 address")
    if name.replace(".", "").isdigit():
        raise EndpointError(endpoint.text, f"{name!r} is no IPv4 address: four numbers from 0 to 255")
    if not name or not name.isprintable() or any(letter in " /\\@?#;,[]*" for letter in name):
        raise EndpointError(endpoint.text, f"{name!r} is no host, address or interface")
    try:
        name.encode("idna")
    except UnicodeError as exc:
        raise EndpointError(endpoint.text, f"{name!r} cannot be a host name: {exc}") from exc


# ---- sockets


def _listen_at(address: SocketAddress, options: Options) -> Listener:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # SO_REUSEADDR there lets a second program steal the port; this is what it means elsewhere.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # as libzmq: [::] is both families
        set_buffers(sock, options)
        sock.bind(address.sockaddr)
        sock.listen(options.backlog)
    except BaseException:
        sock.close()
        raise
    return _listener(sock, options)


def _adopt(fd: int, options: Options) -> Listener:
    return _listener(adopt_listening((socket.AF_INET, socket.AF_INET6), fd), options)


def _listener(sock: socket.socket, options: Options) -> Listener:
    return SocketListener(sock, endpoint=format_address(sock.getsockname()), welcome=_welcome(options))


def _welcome(options: Options) -> Callable[[socket.socket, object], Link]:
    allowed = networks(options.accept_filter)

    def welcome(sock: socket.socket, sockaddr: object) -> Link:
        assert isinstance(sockaddr, tuple)
        peer = format_address(sockaddr)
        if not lets_in(allowed, sockaddr[0]):
            raise ConnectionRefusedByFilter(peer)
        set_buffers(sock, options)  # inherited from a listener we made, but not from one we adopted
        _set_tcp_options(sock, options)
        return SocketLink(sock, peer_address=peer, local_address=format_address(sock.getsockname()))

    return welcome


def _link(sock: socket.socket) -> Link:
    try:
        local, peer = sock.getsockname(), sock.getpeername()
    except OSError:  # reset meanwhile
        sock.close()
        raise
    return SocketLink(sock, peer_address=format_address(peer), local_address=format_address(local))


async def _connect_to(target: SocketAddress, source: HostPort | None, options: Options) -> socket.socket:
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        set_buffers(sock, options)
        _set_tcp_options(sock, options)
        if source is not None:
            _bind_source(sock, own_address(source.host, source.port, target.family))
        await trio.socket.from_stdlib_socket(sock).connect(target.sockaddr)
        _refuse_self_connection(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_source(sock: socket.socket, source: SocketAddress) -> None:
    # As libzmq: the same source port may connect to several servers.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(source.sockaddr)


def _refuse_self_connection(sock: socket.socket) -> None:
    # Dialling a free port of the ephemeral range again and again, as reconnecting does, ends in the kernel choosing
    # that port for our own end, and TCP's simultaneous open then connects the socket to itself.
    if sock.getsockname() == sock.getpeername():
        raise OSError(errno.ECONNREFUSED, "nobody listens there: the connection came out at its own beginning")


def _set_tcp_options(sock: socket.socket, options: Options) -> None:
    # The engine writes whole batches; Nagle's algorithm would only hold back their last segment.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.tcp_keepalive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.tcp_keepalive)
    for names, value in (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), options.tcp_keepalive_idle),  # macOS has the second name
        (("TCP_KEEPINTVL",), options.tcp_keepalive_interval),
        (("TCP_KEEPCNT",), options.tcp_keepalive_count),
    ):
        option = next((getattr(socket, name) for name in names if hasattr(socket, name)), None)
        if value is not None and option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
