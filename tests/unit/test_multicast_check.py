"""What the self-test of multicast makes of options, endpoints and links: nothing wrong where nothing is."""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any

import pytest

from trio_mq import EndpointError, Options, Plain, check_multicast
from trio_mq._endpoint import parse_endpoint
from trio_mq._sockets import _multicast_check
from trio_mq._sockets._multicast_check import MulticastReport
from trio_mq._transports import _multicast_sockets
from trio_mq._transports._multicast_address import parse_multicast
from trio_mq._transports._multicast_interfaces import Interface, Link, find_link

LOCAL = "127.0.0.1"
UP = Link("eth7", up=True, running=True, mtu=1500)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOCAL, 0))
        return int(probe.getsockname()[1])


def wrong(report: MulticastReport) -> list[str]:
    """What it found, but for what a kernel grants, which is a matter of its settings."""
    return [problem for problem in report.problems if "rmem_max" not in problem]


def with_links(monkeypatch: pytest.MonkeyPatch, link: Link | None, loopback: Link | None = None) -> None:
    """The system says *link* of every interface but the loopback one."""

    def find(name: str) -> Link | None:
        return loopback if name == "lo" else link

    monkeypatch.setattr(_multicast_check, "find_link", find)
    monkeypatch.setattr(_multicast_check, "interface_name", lambda index: "eth7")


# ---- what is healthy


@pytest.mark.parametrize(
    "options",
    [
        Options(max_message_size=500),
        Options(max_frames=1),
        Options(conflate=True),
        Options(invert_matching=True),
        Options(overflow="block"),
        Options(xpub_verbose=True, xpub_welcome=b"hello"),
        Options(receive_hwm=1, send_hwm=1, receive_hwm_bytes=1),
        Options(multicast_max_tpdu=128),
        Options(multicast_loop=False),
        Options(multicast_rate=100e3, multicast_recovery=10.0),  # libzmq's
        Options(multicast_rate=None),
    ],
    ids=lambda options: ",".join(options.changed_fields(Options())),
)
async def test_nothing_is_wrong_whatever_options_a_publisher_or_a_subscriber_has(options: Options) -> None:
    report = await check_multicast(f"epgm://{LOCAL};239.192.79.1:{free_port()}", options)
    assert wrong(report) == []
    assert report.received == report.sent > 0


async def test_nothing_is_wrong_with_an_endpoint_that_hears_other_groups_than_it_sends_to() -> None:
    report = await check_multicast(f"epgm://{LOCAL};239.192.79.2,239.192.79.3;239.192.79.4:{free_port()}")
    assert wrong(report) == []
    assert report.received == report.sent == 200


@pytest.mark.parametrize(
    ("endpoint", "heard"),
    [
        ("epgm://lo;239.1.1.1:5", "epgm://lo;239.1.1.1:5"),
        ("epgm://239.1.1.1:5", "epgm://;239.1.1.1:5"),
        ("epgm://lo;239.1.1.1,239.1.1.2;239.1.1.2:5", "epgm://lo;239.1.1.1,239.1.1.2:5"),
        ("pgm://10.0.0.0/8;239.1.1.1;239.1.1.3:5", "pgm://10.0.0.0/8;239.1.1.1,239.1.1.3:5"),
        ("epgm://[fe80::1%eth0];[ff15::1];[ff15::2]:5", "epgm://fe80::1%eth0;[ff15::1],[ff15::2]:5"),
    ],
)
def test_the_test_hears_the_group_that_is_sent_to_and_joins_the_others(endpoint: str, heard: str) -> None:
    address = parse_multicast(parse_endpoint(endpoint))
    assert _multicast_check._heard(address) == heard
    again = parse_multicast(parse_endpoint(heard))
    assert (again.interface, again.port) == (address.interface, address.port)
    assert {*again.groups} == {*address.groups, address.target}


@pytest.mark.parametrize(
    ("rate", "messages"), [(None, 200), (40e6, 200), (1.2e6, 200), (1e6, 183), (100e3, 18), (1e3, 1)]
)
def test_no_more_is_sent_than_the_rate_has_time_for(rate: float | None, messages: int) -> None:
    assert _multicast_check._messages(rate) == messages


async def test_what_cannot_be_meant_is_refused_and_not_diagnosed() -> None:
    with pytest.raises(EndpointError, match="no security"):
        await check_multicast(f"epgm://{LOCAL};239.192.79.1:5", Options(security=Plain("me", "secret")))
    with pytest.raises(ValueError, match="multicast_max_tpdu"):
        await check_multicast("epgm://lo;[ff15::7]:5", Options(multicast_max_tpdu=128))
    with pytest.raises(TypeError, match="Options"):
        await check_multicast(f"epgm://{LOCAL};239.192.79.1:5", {"multicast_rate": 1e6})  # type: ignore[arg-type]  # that is the test


# ---- links


def test_the_link_of_an_interface_is_what_the_system_says() -> None:
    link = find_link("lo")
    if link is None:
        pytest.skip("this system does not tell of its interfaces")
    assert (link.name, link.up, link.running) == ("lo", True, True)
    assert link.mtu >= 1500


@pytest.mark.parametrize("name", ["", "nosuch0", "n" * 16, "é" * 8, "lo\0", "10.0.0.0/8"])
def test_what_is_no_interface_has_no_link(name: str) -> None:
    assert find_link(name) is None


async def test_an_interface_that_is_down_is_the_only_problem_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_links(monkeypatch, Link("eth7", up=False, running=False, mtu=100))
    report = await check_multicast(f"epgm://{LOCAL};239.192.79.1:{free_port()}")
    assert report.problems == ("The interface eth7 is down. As root: ip link set eth7 up",)
    assert (report.interface, report.sent) == (LOCAL, 0)


@pytest.mark.parametrize(
    ("interface", "name"), [("eth7", "eth7"), ("127.0.0.77", "lo"), ("::1", "lo"), ("lo", "lo"), ("eth8", None)]
)
async def test_an_interface_that_is_down_and_has_no_address_is_named_all_the_same(
    interface: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*what: Any) -> Interface:
        raise OSError(errno.EADDRNOTAVAIL, "no address")

    down = {"lo": Link("lo", False, False, 65536), "eth7": Link("eth7", False, False, 1500)}
    monkeypatch.setattr(_multicast_check, "find_interface", nothing)
    monkeypatch.setattr(_multicast_check, "find_link", down.get)
    group = "[ff15::7]" if ":" in interface else "239.192.79.1"
    (problem,) = (await check_multicast(f"epgm://{interface};{group}:5")).problems
    assert problem == (f"The interface {name} is down. As root: ip link set {name} up" if name else "no address.")


async def test_an_interface_without_a_carrier_is_a_problem_though_everything_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_links(monkeypatch, Link("eth7", up=True, running=False, mtu=1500))
    report = await check_multicast(f"epgm://{LOCAL};239.192.79.1:{free_port()}")
    (problem,) = wrong(report)
    assert "eth7 is up but has no carrier" in problem
    assert report.received == report.sent


@pytest.mark.parametrize(("tpdu", "problems"), [(1500, 1), (1401, 1), (1400, 0)])
async def test_an_mtu_smaller_than_the_datagrams_is_a_problem(
    tpdu: int, problems: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_links(monkeypatch, Link("eth7", up=True, running=True, mtu=1400))
    endpoint = f"epgm://{LOCAL};239.192.79.1:{free_port()}"
    found = wrong(await check_multicast(endpoint, Options(multicast_max_tpdu=tpdu)))
    assert len(found) == problems
    assert all("eth7 takes packets of at most 1400 bytes" in problem for problem in found)


async def test_a_loopback_interface_that_is_down_is_blamed_and_no_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    with_links(monkeypatch, UP, Link("lo", up=False, running=False, mtu=65536))

    def unheard(*arguments: Any, **options: Any) -> socket.socket:
        raise AssertionError("no request to ourselves can arrive, so none is sent")

    monkeypatch.setattr(_multicast_check, "open_sending", unheard)
    (problem,) = wrong(await check_multicast(f"epgm://{LOCAL};239.192.79.1:{free_port()}"))
    assert "The interface lo is down" in problem
    assert "ip link set lo up" in problem
    assert "irewall" not in problem


# ---- what the system says


class Unreachable(socket.socket):
    def connect(self, address: Any) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")


@pytest.mark.skipif(sys.platform != "linux", reason="the remedy is Linux's")
@pytest.mark.parametrize(
    ("interface", "group", "remedy"),
    [
        (Interface(1, "::1", socket.AF_INET6), "ff15::7", "ip -6 route add local ff15::7 dev lo"),
        (Interface(2, "fd77::1", socket.AF_INET6), "ff15::7", ""),
        (Interface(1, LOCAL, socket.AF_INET), "239.1.1.1", ""),
    ],
)
def test_a_group_that_cannot_be_reached_is_said_once_and_with_a_remedy_where_there_is_one(
    interface: Interface, group: str, remedy: str
) -> None:
    with Unreachable(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="no way to") as raised:
        _multicast_sockets.connect_to_group(sock, interface, group, 5555)
    text = str(raised.value)
    assert text.count("Errno") == 1
    assert text.endswith(remedy or "Network is unreachable")
    assert raised.value.errno == errno.ENETUNREACH
