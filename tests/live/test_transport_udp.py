"""udp sockets: what is set on them, and addresses of datagrams as text."""

from __future__ import annotations

import errno
import socket
from contextlib import closing

import pytest

from trio_mq._options import Options
from trio_mq._transports._addresses import SocketAddress
from trio_mq._transports._udp_sockets import (
    format_sockaddr,
    is_multicast,
    open_receiver,
    open_sender,
    sockaddr_of,
    split_address,
)

GROUP = SocketAddress(socket.AF_INET, ("239.255.7.1", 5555))
GROUP_6 = SocketAddress(socket.AF_INET6, ("ff11::7:1", 5555, 0, 0))


@pytest.fixture
def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def test_what_is_sent_to_a_group_goes_as_far_as_the_options_say() -> None:
    with closing(open_sender(GROUP, "", Options())) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 1
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 1
        assert sock.getblocking() is False
    with closing(open_sender(GROUP, "127.0.0.1", Options(multicast_hops=7, multicast_loop=False))) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP) == 0
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4) == socket.inet_aton("127.0.0.1")


@pytest.fixture
def interface() -> tuple[int, str]:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    return socket.if_nameindex()[0]


def test_the_same_over_ipv6(interface: tuple[int, str]) -> None:
    index, name = interface
    options = Options(multicast_hops=7, multicast_loop=False)
    try:
        sock = open_sender(GROUP_6, name, options)
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6: {exc}")
    with sock:
        level = socket.IPPROTO_IPV6
        assert sock.getsockopt(level, socket.IPV6_MULTICAST_HOPS) == 7
        assert sock.getsockopt(level, socket.IPV6_MULTICAST_LOOP) == 0
        assert sock.getsockopt(level, socket.IPV6_MULTICAST_IF) == index


def test_an_interface_may_be_named_or_be_given_by_its_address(free_port: int) -> None:
    name = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "")
    if not name:
        pytest.skip("this machine's loopback interface has another name")
    for interface in ("127.0.0.1", name):
        with closing(open_receiver("239.255.7.1", free_port, interface, Options())) as receiver:
            with closing(open_sender(GROUP, interface, Options())) as sender:
                sender.sendto(b"x", ("239.255.7.1", free_port))
                receiver.settimeout(5)
                assert receiver.recv(10) == b"x"


def test_an_interface_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match="nosuchif0") as caught:
        open_sender(GROUP, "nosuchif0", Options())
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(OSError, match="nosuchif0"):
        open_receiver("239.255.7.1", 5555, "nosuchif0", Options())


def test_only_a_group_can_be_bound_twice(free_port: int) -> None:
    with closing(open_receiver("239.255.7.1", free_port, "127.0.0.1", Options())):
        open_receiver("239.255.7.1", free_port, "127.0.0.1", Options()).close()
    with closing(open_receiver("127.0.0.1", free_port, "", Options())), pytest.raises(OSError, match="in use"):
        open_receiver("127.0.0.1", free_port, "", Options())


def test_buffers_are_those_of_the_options() -> None:
    options = Options(receive_buffer=50000, send_buffer=60000)
    with closing(open_receiver("127.0.0.1", 0, "", options)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) in (50000, 100000)  # Linux doubles it
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (60000, 120000)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("239.0.0.1", True),
        ("224.0.0.1", True),
        ("ff02::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("*", False),
        ("name", False),
    ],
)
def test_groups_are_told_from_addresses(host: str, expected: bool) -> None:
    assert is_multicast(host) is expected


@pytest.mark.parametrize(
    ("text", "family", "sockaddr"),
    [
        (b"127.0.0.1:5555", socket.AF_INET, ("127.0.0.1", 5555)),
        (b"127.0.0.1:5555\0", socket.AF_INET, ("127.0.0.1", 5555)),
        (b"127.0.0.1:5555", socket.AF_INET6, ("::ffff:127.0.0.1", 5555, 0, 0)),
        (b"[::1]:5555", socket.AF_INET6, ("::1", 5555, 0, 0)),
        (b"::1:5555", socket.AF_INET6, ("::1", 5555, 0, 0)),
    ],
)
def test_an_address_is_understood_and_written_back(text: bytes, family: int, sockaddr: tuple[object, ...]) -> None:
    assert sockaddr_of(text, family) == sockaddr
    written = format_sockaddr(sockaddr)
    assert sockaddr_of(written, family) == sockaddr
    assert b"\0" not in written


def test_a_link_local_address_keeps_its_interface() -> None:
    index, name = socket.if_nameindex()[0]
    text = f"[fe80::1%{name}]:5555".encode()
    assert sockaddr_of(text, socket.AF_INET6) == ("fe80::1", 5555, 0, index)
    assert format_sockaddr(("fe80::1", 5555, 0, index)) == text


def test_an_ipv6_address_is_no_destination_for_an_ipv4_socket() -> None:
    with pytest.raises(OSError, match="IPv4"):
        sockaddr_of(b"[::1]:5555", socket.AF_INET)


@pytest.mark.parametrize("text", ["", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:0", "1.2.3:4", "a:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="goes to an address"):
        split_address(text)
