"""The endpoints of multicast: what they mean, and what is refused at the call."""

from __future__ import annotations

import pytest

import trio_mq
from trio_mq._endpoint import parse_endpoint
from trio_mq._errors import EndpointError
from trio_mq._transports._multicast_address import parse_multicast


@pytest.mark.parametrize(
    ("rest", "interface", "groups", "target", "port"),
    [
        ("eth0;239.192.1.1:5555", "eth0", ("239.192.1.1",), "239.192.1.1", 5555),
        ("10.0.0.0/8;239.192.1.1:1", "10.0.0.0/8", ("239.192.1.1",), "239.192.1.1", 1),
        ("127.0.0.1;239.1.1.1,239.1.1.2;239.1.1.3:65535", "127.0.0.1", ("239.1.1.1", "239.1.1.2"), "239.1.1.3", 65535),
        ("239.192.1.1:5555", "", ("239.192.1.1",), "239.192.1.1", 5555),
        (";239.192.1.1:5555", "", ("239.192.1.1",), "239.192.1.1", 5555),
        ("*;239.192.1.1:5555", "", ("239.192.1.1",), "239.192.1.1", 5555),
        ("[fd77::1];[ff15::7]:5555", "fd77::1", ("ff15::7",), "ff15::7", 5555),
        ("[fe80::1%eth0];[FF15:0::7]:5555", "fe80::1%eth0", ("ff15::7",), "ff15::7", 5555),
        ("eth0;ff15::7:5555", "eth0", ("ff15::7",), "ff15::7", 5555),
        ("fd77::/16;[ff15::7]:5555", "fd77::/16", ("ff15::7",), "ff15::7", 5555),
    ],
)
def test_an_endpoint_names_an_interface_groups_and_a_port(
    rest: str, interface: str, groups: tuple[str, ...], target: str, port: int
) -> None:
    address = parse_multicast(parse_endpoint(f"epgm://{rest}"))
    assert (address.interface, address.groups, address.target, address.port) == (interface, groups, target, port)
    assert str(address) == f"epgm://{rest}"
    assert parse_multicast(parse_endpoint(str(address))) == address


@pytest.mark.parametrize(
    ("rest", "rule"),
    [
        ("eth0;239.192.1.1", "port"),
        ("eth0;239.192.1.1:0", "port"),
        ("eth0;239.192.1.1:65536", "port"),
        ("eth0;239.192.1.1:*", "port"),
        ("eth0;239.192.1.1:-1", "port"),
        ("eth0;10.0.0.1:5555", "no multicast group"),
        ("eth0;localhost:5555", "no multicast group"),
        ("eth0:5555", "no multicast group"),
        ("eth0;:5555", "no multicast group"),
        ("eth0;239.1.1.1,:5555", "no multicast group"),
        ("eth0;239.1.1.1;239.1.1.2;239.1.1.3:5555", "three parts"),
        ("eth0;239.1.1.1;ff15::7:5555", "all groups"),
        ("10.0.0.1;[ff15::7]:5555", "different families"),
        ("fd77::1;239.1.1.1:5555", "different families"),
        ("fd77::/16;239.1.1.1:5555", "different families"),
        ("10.0.0.0/33;239.1.1.1:5555", "no network"),
        ("239.1.1.1;239.1.1.2:5555", "an interface comes first"),
    ],
)
@pytest.mark.parametrize("scheme", ["epgm", "pgm"])
def test_what_cannot_be_meant_is_refused_at_the_call(scheme: str, rest: str, rule: str) -> None:
    with pytest.raises(EndpointError, match=rule):
        trio_mq.Sub(connect=f"{scheme}://{rest}")


@pytest.mark.parametrize("kind", [trio_mq.Push, trio_mq.Dealer, trio_mq.Pair, trio_mq.Rep])
def test_only_publishers_and_subscribers_use_multicast(kind: type[trio_mq.Socket]) -> None:
    with pytest.raises(EndpointError, match="carries PUB, SUB, XPUB, XSUB"):
        kind(bind="epgm://lo;239.192.1.1:5555")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("multicast_rate", 0, ValueError),
        ("multicast_rate", float("inf"), ValueError),
        ("multicast_rate", "1e6", TypeError),
        ("multicast_rate", True, TypeError),
        ("multicast_recovery", 0, ValueError),
        ("multicast_recovery", float("inf"), ValueError),
        ("multicast_recovery", None, ValueError),
        ("multicast_max_tpdu", 100, ValueError),
        ("multicast_max_tpdu", 65536, ValueError),
        ("multicast_max_tpdu", None, TypeError),
        ("multicast_hops", 0, ValueError),
        ("multicast_hops", 256, ValueError),
        ("multicast_loop", 1, TypeError),
    ],
)
def test_options_of_multicast_have_limits(field: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=field):
        trio_mq.Options(**{field: value})  # type: ignore[arg-type]  # that is the test


def test_rate_and_recovery_mean_nothing_elsewhere() -> None:
    with pytest.raises(ValueError, match="multicast_rate means nothing on PUSH"):
        trio_mq.Push(options=trio_mq.Options(multicast_rate=1e6))
