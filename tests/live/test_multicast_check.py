"""The self-test of multicast says what is wrong, in words."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from trio_mq import EndpointError, Options, check_multicast
from trio_mq._sockets import _multicast_check
from trio_mq._transports import _multicast_sockets, _pgm_subscriber

from .test_transport_pgm import GROUP, LOCAL, free_port


@pytest.fixture
def endpoint() -> str:
    return f"epgm://{LOCAL};{GROUP}:{free_port()}"


async def test_nothing_is_wrong_with_loopback(endpoint: str) -> None:
    report = await check_multicast(endpoint)
    # What a kernel grants is a matter of its settings.
    problems = [problem for problem in report.problems if "rmem_max" not in problem]
    assert problems == []
    assert (report.interface, report.sent, report.received) == (LOCAL, 200, 200)
    assert report.receive_buffer > 0
    assert report.ok == (not report.problems)


async def test_an_interface_that_is_not_there_is_a_problem_and_no_error() -> None:
    report = await check_multicast(f"epgm://nosuch0;{GROUP}:5555")
    assert not report.ok
    assert "nosuch0" in report.problems[0]


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "epgm://lo;10.0.0.1:5555", "nonsense"])
async def test_what_is_no_multicast_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(EndpointError):
        await check_multicast(endpoint)


async def test_a_port_that_is_not_shared_is_named(endpoint: str) -> None:
    port = int(endpoint.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((LOCAL, port))  # without SO_REUSEPORT
        report = await check_multicast(endpoint)
    assert f"Port {port}" in report.problems[0]


async def test_a_firewall_that_swallows_data_is_suspected_when_nothing_comes_back(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_multicast_check, "_WITHIN", 0.2)
    real = _multicast_sockets.open_hearing

    def deaf(interface: Any, group: str, *rest: Any, **options: Any) -> socket.socket:
        return real(interface, "239.192.77.99", *rest, **options)

    monkeypatch.setattr(_pgm_subscriber, "open_hearing", deaf)
    report = await check_multicast(endpoint)
    assert report.received == 0
    assert "firewall" in report.problems[0]


async def test_requests_that_do_not_arrive_are_a_problem(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _multicast_sockets.open_sending

    def elsewhere(*arguments: Any, **options: Any) -> Any:
        class Mute:
            def __enter__(self) -> Mute:
                return self

            def __exit__(self, *error: object) -> None:
                sock.close()

            def sendto(self, *packet: object) -> None:
                raise PermissionError(errno.EPERM, "a firewall says no")

        sock = real(*arguments, **options)
        return Mute()

    monkeypatch.setattr(_multicast_check, "open_sending", elsewhere)
    report = await check_multicast(endpoint)
    assert any("Requests to 127.0.0.1 do not reach the publisher" in problem for problem in report.problems)


async def test_a_small_receive_buffer_is_a_problem_with_a_remedy(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pgm_subscriber, "granted", lambda sock, option: 212_992)
    report = await check_multicast(endpoint, Options(multicast_rate=40e6))
    (problem,) = report.problems
    assert "212992 bytes instead of 4194304" in problem
    assert "sysctl -w net.core.rmem_max=4194304" in problem
