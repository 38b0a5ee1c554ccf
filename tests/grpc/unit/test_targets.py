"""Targets and addresses of gRPC as endpoints of ZeroMQ, and back."""

from __future__ import annotations

from typing import Any

import pytest

import trio_mq
from trio_mq_grpc._targets import bind_endpoint, connect_endpoints, peer_name


@pytest.mark.parametrize(
    ("target", "endpoints"),
    [
        ("tcp://127.0.0.1:5555", ["tcp://127.0.0.1:5555"]),
        ("ipc:///run/a", ["ipc:///run/a"]),
        ("inproc://a", ["inproc://a"]),
        ("ws://127.0.0.1:1/x", ["ws://127.0.0.1:1/x"]),
        ("localhost:50051", ["tcp://localhost:50051"]),
        ("127.0.0.1:1", ["tcp://127.0.0.1:1"]),
        ("[::1]:65535", ["tcp://[::1]:65535"]),
        ("[fe80::1%eth0]:5", ["tcp://[fe80::1%eth0]:5"]),
        ("dns:///host:5", ["tcp://host:5"]),
        ("dns:host:5", ["tcp://host:5"]),
        ("ipv4:1.2.3.4:5", ["tcp://1.2.3.4:5"]),
        ("ipv4:///1.2.3.4:5", ["tcp://1.2.3.4:5"]),
        ("ipv4:1.2.3.4:5,1.2.3.5:6", ["tcp://1.2.3.4:5", "tcp://1.2.3.5:6"]),
        ("ipv6:[::1]:5", ["tcp://[::1]:5"]),
        ("ipv6:%5B::1%5D:5,[::2]:6", ["tcp://[::1]:5", "tcp://[::2]:6"]),
        ("unix:relative/path", ["ipc://relative/path"]),
        ("unix:/absolute", ["ipc:///absolute"]),
        ("unix:///absolute", ["ipc:///absolute"]),
        ("unix-abstract:name", ["ipc://@name"]),
    ],
)
def test_a_target_of_grpc_becomes_endpoints(target: str, endpoints: list[str]) -> None:
    assert connect_endpoints(target) == tuple(endpoints)


def test_several_targets_keep_their_order() -> None:
    targets = ["b:2", "ipv4:1.1.1.1:1,1.1.1.2:1", "inproc://x"]
    assert connect_endpoints(iter(targets)) == ("tcp://b:2", "tcp://1.1.1.1:1", "tcp://1.1.1.2:1", "inproc://x")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "host",
        "host:",
        ":50051",
        "host:port",
        "host:0",
        "host:65536",
        "host:999999",
        "::1:50051",
        "dns:///host",
        "dns://8.8.8.8/host:5",
        "ipv4:1.2.3.4",
        "ipv4:1.2.3.4:5,",
        "unix:",
        "unix:///",
        "unix://host/path",
        "unix-abstract:",
        "xds:///service",
        "vsock:2:5",
        "http://host:80",
        "https://host:443/path",
        "host:80/path",
        "tcp://",
        "TCP://host:1",
    ],
)
def test_what_names_no_endpoint_is_a_value_error_that_quotes_it(target: str) -> None:
    with pytest.raises(ValueError) as caught:
        connect_endpoints(target)
    assert repr(target) in str(caught.value)


def test_no_target_at_all_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        connect_endpoints([])


@pytest.mark.parametrize("target", [None, 5, b"tcp://h:1", [b"h:1"], [None]], ids=repr)
def test_a_target_that_is_no_text_is_a_type_error(target: Any) -> None:
    with pytest.raises(TypeError, match="a target is"):
        connect_endpoints(target)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("[::]:0", "tcp://[::]:*"),
        ("0.0.0.0:50051", "tcp://0.0.0.0:50051"),
        ("localhost:0", "tcp://localhost:*"),
        ("*:50051", "tcp://*:50051"),
        ("127.0.0.1:10", "tcp://127.0.0.1:10"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:5550", "tcp://127.0.0.1:5550"),
        ("unix:/a:0", "ipc:///a:0"),
        ("ipc://*", "ipc://*"),
        ("ipv4:127.0.0.1:0", "tcp://127.0.0.1:*"),
        ("inproc://a", "inproc://a"),
    ],
)
def test_an_address_of_grpc_becomes_the_endpoint_to_listen_on(address: str, endpoint: str) -> None:
    assert bind_endpoint(address) == endpoint


@pytest.mark.parametrize("address", ["", "host", "dns:///host:5", "ipv4:1.2.3.4:5,1.2.3.4:6", "host:-1", "xds:///a"])
def test_what_cannot_be_listened_on_is_a_value_error(address: str) -> None:
    with pytest.raises(ValueError):
        bind_endpoint(address)


def test_an_address_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="an address is"):
        bind_endpoint(50051)  # type: ignore[arg-type]  # which is what is tested


def test_the_sockets_take_what_comes_out() -> None:
    listener = trio_mq.listen(bind_endpoint("127.0.0.1:0"))
    try:
        assert connect_endpoints(listener.endpoint) == (listener.endpoint,)
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("tcp://127.0.0.1:5", "ipv4:127.0.0.1:5"),
        ("tcp://[::1]:5", "ipv6:%5B::1%5D:5"),
        ("tcp://[fe80::1%eth0]:5", "ipv6:%5Bfe80::1%eth0%5D:5"),
        ("ipc:uid=1000,gid=1000,pid=4242", "unix:uid=1000,gid=1000,pid=4242"),
        ("ipc:///run/a", "unix:/run/a"),
        ("inproc://a#3", "unix:a#3"),
        ("ws://somewhere", "ws://somewhere"),
        ("", ""),
    ],
)
def test_a_peer_is_named_as_instrumentation_expects_it(address: str, name: str) -> None:
    assert peer_name(address) == name
