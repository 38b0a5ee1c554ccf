"""tcp: addresses of every kind, the options of its sockets, and who may come in."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from trio_mq._endpoint import parse_endpoint
from trio_mq._errors import EndpointError
from trio_mq._options import Options
from trio_mq._transports import ConnectionRefusedByFilter, Link, Listener, StreamTransport, transport_for
from trio_mq._transports._addresses import binding_address, format_address, interface_address, lets_in, networks
from trio_mq._transports._socket_link import SocketLink, SocketListener

from ._transports import address_of, connect, connected, listen, open_descriptors, receive, send_all

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="interfaces can be named on Linux only")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


with_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def socket_of(end: Link | Listener) -> socket.socket:
    assert isinstance(end, SocketLink | SocketListener)
    return end._socket


def port_of(listener: Listener) -> int:
    return int(listener.endpoint.rpartition(":")[2])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
async def names() -> AsyncIterator[dict[str, list[str]]]:
    """Host names that resolve to what the test puts in here, and a record of nothing else being asked."""
    table: dict[str, list[str]] = {}

    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(  # type: ignore[override]  # as trio calls it, without the types of its private aliases
            self, host: bytes, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
        ) -> list[Any]:
            await trio.lowlevel.checkpoint()
            return [
                entry
                for address in table[host.decode()]
                for entry in socket.getaddrinfo(address, port, socket.AF_UNSPEC, kind, proto, socket.AI_NUMERICHOST)
                if family in (socket.AF_UNSPEC, entry[0])
            ]

        async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    await trio.lowlevel.checkpoint()
    yield table
    trio.socket.set_custom_hostname_resolver(None)


# ---- where a listener is


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0"])
async def test_a_wildcard_port_is_resolved_to_the_real_one(endpoint: str) -> None:
    async with connected(endpoint) as ends:
        assert port_of(ends.listener) > 0
        assert ends.listener.endpoint == f"tcp://127.0.0.1:{port_of(ends.listener)}"


async def test_a_wildcard_interface_is_every_ipv4_address() -> None:
    listener = await listen("tcp://*:*")
    assert listener.endpoint == f"tcp://0.0.0.0:{port_of(listener)}"
    near = await connect(f"tcp://127.0.0.1:{port_of(listener)}")
    near.close()
    listener.close()


async def test_a_given_port_is_kept() -> None:
    port = free_port()
    async with connected(f"tcp://127.0.0.1:{port}") as ends:
        assert ends.listener.endpoint == f"tcp://127.0.0.1:{port}"
        assert ends.near.peer_address == f"tcp://127.0.0.1:{port}"


@on_linux
@pytest.mark.parametrize("ipv6", [False, pytest.param(True, marks=with_ipv6)])
async def test_the_name_of_an_interface_stands_for_its_address(ipv6: bool) -> None:
    async with connected("tcp://lo:*", Options(ipv6=ipv6)) as ends:
        host = "[::1]" if ipv6 else "127.0.0.1"
        assert ends.listener.endpoint == f"tcp://{host}:{port_of(ends.listener)}"


@on_linux
def test_an_interface_that_does_not_exist_is_an_os_error() -> None:
    with pytest.raises(OSError, match="neither an address nor a network interface") as caught:
        interface_address("nosuch0", socket.AF_INET)
    assert caught.value.errno == errno.ENODEV


async def test_a_host_name_is_resolved_to_bind(names: dict[str, list[str]]) -> None:
    names["here.example"] = ["127.0.0.1"]
    listener = await listen("tcp://here.example:*")
    assert listener.endpoint == f"tcp://127.0.0.1:{port_of(listener)}"
    listener.close()


async def test_a_port_in_use_is_the_systems_error() -> None:
    async with connected("tcp://127.0.0.1:*") as ends:
        before = open_descriptors()
        with pytest.raises(OSError, match="in use") as caught:
            await listen(ends.listener.endpoint)
        assert caught.value.errno == errno.EADDRINUSE
        assert open_descriptors() == before


async def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(OSError, match=r".+") as caught:
        await listen("tcp://192.0.2.1:*")
    assert caught.value.errno == errno.EADDRNOTAVAIL


# ---- without waiting


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "tcp://localhost:*"])
def test_a_listener_can_be_made_used_and_closed_without_a_loop(endpoint: str) -> None:
    before = open_descriptors()
    listener = listen_now(endpoint)
    with socket.create_connection(("127.0.0.1", port_of(listener))):
        pass
    listener.close()
    listener.close()
    assert open_descriptors() == before


async def test_a_listener_made_without_a_loop_accepts_inside_one() -> None:
    listener = listen_now("tcp://127.0.0.1:*")
    near = await connect(listener.endpoint)
    far = await listener.accept()
    assert far.peer_address == near.local_address
    for end in (listener, near, far):
        end.close()


def listen_now(text: str, options: Options | None = None) -> Listener:
    transport, address = address_of(text, binding=True, options=options)
    return transport.listen_now(address, options or Options())


# ---- IPv6


@with_ipv6
@pytest.mark.parametrize("host", ["[::1]", "::1"])
async def test_ipv6_addresses_work_with_and_without_brackets(host: str) -> None:
    async with connected(f"tcp://{host}:*", Options(ipv6=True)) as ends:
        assert ends.listener.endpoint == f"tcp://[::1]:{port_of(ends.listener)}"
        assert ends.near.peer_address == ends.listener.endpoint
        assert ends.far.peer_address == ends.near.local_address


@with_ipv6
async def test_a_wildcard_with_ipv6_is_both_families_and_ipv4_peers_are_named_as_such() -> None:
    options = Options(ipv6=True)
    listener = await listen("tcp://*:*", options)
    assert listener.endpoint == f"tcp://[::]:{port_of(listener)}"
    for host in ("127.0.0.1", "[::1]"):
        near = await connect(f"tcp://{host}:{port_of(listener)}", options)
        far = await listener.accept()
        assert far.peer_address.startswith(f"tcp://{host}:")
        near.close()
        far.close()
    listener.close()


@on_linux
@with_ipv6
def test_a_zone_becomes_a_scope_and_comes_back_in_the_endpoint() -> None:
    _, address = address_of("tcp://[fe80::1%lo]:5555", binding=True, options=Options(ipv6=True))
    found = binding_address(address.target.host, address.target.port, ipv6=True)
    assert found is not None
    assert found.sockaddr[3] == socket.if_nametoindex("lo")
    assert format_address(found.sockaddr) == "tcp://[fe80::1%lo]:5555"
    assert format_address(("fe80::1", 5555, 0, found.sockaddr[3])) == "tcp://[fe80::1%lo]:5555"


@pytest.mark.parametrize(
    ("endpoint", "binding"),
    [
        ("tcp://[::1]:5555", True),
        ("tcp://::1:5555", True),
        ("tcp://[::1]:5555", False),
        ("tcp://[::1]:*;localhost:5555", False),
    ],
)
def test_an_ipv6_address_without_the_option_is_refused_at_the_call(endpoint: str, binding: bool) -> None:
    with pytest.raises(EndpointError, match=r"needs Options\(ipv6=True\)"):
        address_of(endpoint, binding=binding)
    address_of(endpoint, binding=binding, options=Options(ipv6=True))


async def test_a_name_with_addresses_of_both_families_is_ipv4_without_the_option(names: dict[str, list[str]]) -> None:
    names["both.example"] = ["::1", "127.0.0.1"]
    async with connected("tcp://127.0.0.1:*", connect_to=on_host("both.example")) as ends:
        assert ends.near.peer_address == ends.listener.endpoint


@with_ipv6
async def test_with_the_option_the_family_that_answers_is_found(names: dict[str, list[str]]) -> None:
    names["both.example"] = ["::1", "127.0.0.1"]
    async with connected("tcp://127.0.0.1:*", Options(ipv6=True), connect_to=on_host("both.example")) as ends:
        assert ends.near.peer_address == ends.listener.endpoint


def on_host(name: str) -> Callable[[str], str]:
    return lambda endpoint: f"tcp://{name}:{endpoint.rpartition(':')[2]}"


# ---- connecting


async def test_a_host_name_is_looked_up_again_at_every_attempt(names: dict[str, list[str]]) -> None:
    listener = await listen("tcp://127.0.0.2:*")
    transport, address = address_of(f"tcp://moves.example:{port_of(listener)}", binding=False)
    names["moves.example"] = ["127.0.0.1"]
    with pytest.raises(ConnectionRefusedError):
        await transport.connect(address, Options())
    names["moves.example"] = ["127.0.0.2"]
    link = await transport.connect(address, Options())
    assert link.peer_address == listener.endpoint
    link.close()
    listener.close()


async def test_a_name_that_does_not_resolve_is_an_os_error(names: dict[str, list[str]]) -> None:
    names["nowhere.example"] = []
    with pytest.raises(OSError, match="has no address"):
        await connect("tcp://nowhere.example:5555")


@pytest.mark.parametrize("source", ["127.0.0.3:*", "127.0.0.3:0", pytest.param("lo:*", marks=on_linux), "*:*"])
async def test_a_connection_comes_from_the_source_address(source: str) -> None:
    async with connected("tcp://127.0.0.1:*", connect_to=lambda end: f"tcp://{source};{end[6:]}") as ends:
        expected = "127.0.0.3" if "127" in source else "127.0.0.1"
        assert ends.far.peer_address.startswith(f"tcp://{expected}:")
        assert ends.far.peer_address == ends.near.local_address


async def test_a_connection_comes_from_the_source_port_to_several_listeners() -> None:
    port = free_port()
    through = f"tcp://127.0.0.1:{port};"
    async with (
        connected("tcp://127.0.0.1:*", connect_to=lambda end: through + end[6:]) as one,
        connected("tcp://127.0.0.1:*", connect_to=lambda end: through + end[6:]) as two,
    ):
        assert one.far.peer_address == two.far.peer_address == f"tcp://127.0.0.1:{port}"


async def test_a_source_of_the_wrong_family_is_an_os_error() -> None:
    with pytest.raises(OSError, match="different families"):
        await connect("tcp://[::1]:*;127.0.0.1:5555", Options(ipv6=True))


async def test_a_connection_to_itself_counts_as_refused() -> None:
    port = free_port()
    before = open_descriptors()
    with pytest.raises(ConnectionRefusedError, match="at its own beginning"):
        await connect(f"tcp://127.0.0.1:{port};127.0.0.1:{port}")
    assert open_descriptors() == before


async def test_a_cancelled_attempt_leaves_nothing_open() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = [socket.socket() for _ in range(4)]  # more than the backlog takes, so that the next attempt hangs
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
    before = open_descriptors()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, f"tcp://127.0.0.1:{full.getsockname()[1]}")
            await trio.testing.wait_all_tasks_blocked()
            assert open_descriptors() != before
            scope.cancel()
    assert open_descriptors() == before
    for sock in (*waiting, full):
        sock.close()


# ---- options of its sockets


async def test_small_writes_are_not_held_back() -> None:
    async with connected("tcp://127.0.0.1:*") as ends:
        for link in (ends.near, ends.far):
            assert socket_of(link).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_keepalive_is_set_on_both_ends() -> None:
    options = Options(tcp_keepalive=True, tcp_keepalive_idle=31, tcp_keepalive_interval=7, tcp_keepalive_count=4)
    async with connected("tcp://127.0.0.1:*", options) as ends:
        for link in (ends.near, ends.far):
            sock = socket_of(link)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if sys.platform == "linux":
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 31
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 7
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4


async def test_keepalive_is_left_alone_by_default() -> None:
    async with connected("tcp://127.0.0.1:*") as ends:
        assert not socket_of(ends.near).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_buffer_sizes_are_set_on_both_ends() -> None:
    async with connected("tcp://127.0.0.1:*", Options(send_buffer=30_000, receive_buffer=40_000)) as ends:
        for link in (ends.near, ends.far):
            # Linux doubles what it is asked for, and says so.
            assert socket_of(link).getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (30_000, 60_000)
            assert socket_of(link).getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) in (40_000, 80_000)


async def test_a_listening_descriptor_is_adopted() -> None:
    theirs = socket.create_server(("127.0.0.1", 0))
    port = theirs.getsockname()[1]
    options = Options(use_fd=theirs.detach())
    async with connected("tcp://127.0.0.1:*", options) as ends:
        assert ends.listener.endpoint == f"tcp://127.0.0.1:{port}"
        await send_all(ends.near, b"adopted")
        assert await receive(ends.far) == b"adopted"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(options.use_fd or 0)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),  # not listening
        (socket.AF_INET, socket.SOCK_DGRAM),
        pytest.param("AF_UNIX", socket.SOCK_STREAM, marks=on_linux),
    ],
)
def test_a_descriptor_of_another_kind_is_refused_and_left_alone(family: int | str, kind: int) -> None:
    with socket.socket(family if isinstance(family, int) else getattr(socket, family), kind) as theirs:
        with pytest.raises(OSError, match="no listening stream socket"):
            listen_now("tcp://127.0.0.1:*", Options(use_fd=theirs.fileno()))
        theirs.getsockname()  # still theirs


# ---- who may come in


async def test_a_connection_from_outside_the_accept_filter_is_closed_and_named() -> None:
    options = Options(accept_filter=("127.0.0.3", "10.0.0.0/8"))
    listener = await listen("tcp://127.0.0.1:*", options)
    stranger = await connect(f"tcp://127.0.0.2:*;{listener.endpoint[6:]}")
    before = open_descriptors()
    with pytest.raises(ConnectionRefusedByFilter, match="accept_filter") as caught:
        await listener.accept()
    assert caught.value.address == stranger.local_address
    assert open_descriptors() == before
    assert await receive(stranger) == b""
    friend = await connect(f"tcp://127.0.0.3:*;{listener.endpoint[6:]}")
    accepted = await listener.accept()
    assert accepted.peer_address == friend.local_address
    for end in (listener, stranger, friend, accepted):
        end.close()


@pytest.mark.parametrize(
    ("accept_filter", "host", "allowed"),
    [
        ((), "192.0.2.1", True),
        (("192.0.2.0/24",), "192.0.2.77", True),
        (("192.0.2.77/24",), "192.0.2.1", True),
        (("192.0.2.0/24",), "192.0.3.1", False),
        (("192.0.2.0/24",), "::ffff:192.0.2.1", True),
        (("192.0.2.0/24",), "2001:db8::1", False),
        (("2001:db8::/32",), "2001:db8::1", True),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("0.0.0.0/0", "::/0"), "2001:db8::1", True),
    ],
)
def test_accept_filters_are_networks(accept_filter: tuple[str, ...], host: str, allowed: bool) -> None:
    assert lets_in(networks(accept_filter), host) is allowed


def test_a_malformed_accept_filter_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match=r"accept_filter.*'10.0.0/8'"):
        address_of("tcp://127.0.0.1:*", binding=True, options=Options(accept_filter=("10.0.0/8",)))


async def test_running_out_of_descriptors_is_an_os_error_and_the_listener_goes_on() -> None:
    listener = await listen("tcp://127.0.0.1:*")
    near = await connect(listener.endpoint)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        with pytest.raises(OSError, match="open files"):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(OSError, match="open files") as caught:
            await listener.accept()
        assert caught.value.errno == errno.EMFILE
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    far = await listener.accept()
    assert far.peer_address == near.local_address
    for end in (listener, near, far):
        end.close()


async def test_a_wait_that_is_over_still_notices_a_close_that_came_before_its_task_ran() -> None:
    async def wait(link: Link) -> None:
        try:
            await link.wait_readable()
        except trio.ClosedResourceError:
            return
        assert link.try_receive(10) == b"x"

    async def wait_and_close(link: Link, other: Link) -> None:
        await link.wait_readable()
        other.close()

    # Both become readable in the same turn of the loop, and trio runs them in random order.
    for _ in range(40):
        async with connected("tcp://127.0.0.1:*") as one, connected("tcp://127.0.0.1:*") as two:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, one.far)
                nursery.start_soon(wait_and_close, two.far, one.far)
                await trio.testing.wait_all_tasks_blocked()
                await send_all(one.near, b"x")
                await send_all(two.near, b"x")


def test_tcp_serves_every_socket_type() -> None:
    transport = transport_for(parse_endpoint("tcp://127.0.0.1:*"))
    assert isinstance(transport, StreamTransport)
    assert transport.socket_types is None
