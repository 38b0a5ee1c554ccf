"""What an endpoint may look like. Everything here is pure: nobody is asked, nothing is opened."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._endpoint import Endpoint, parse_endpoint
from trio_mq._errors import EndpointError
from trio_mq._transports._ipc import IpcTransport
from trio_mq._transports._tcp import HostPort, TcpAddress, TcpTransport


def tcp(text: str, *, binding: bool) -> TcpAddress:
    return TcpTransport().parse(parse_endpoint(text), binding=binding)


# ---- any scheme


@pytest.mark.parametrize(
    ("text", "scheme", "rest"),
    [
        ("tcp://127.0.0.1:5555", "tcp", "127.0.0.1:5555"),
        ("ipc:///tmp/socket", "ipc", "/tmp/socket"),
        ("inproc://a://b", "inproc", "a://b"),
        ("x-my.scheme+1://é", "x-my.scheme+1", "é"),
    ],
)
def test_an_endpoint_is_a_scheme_and_the_rest(text: str, scheme: str, rest: str) -> None:
    endpoint = parse_endpoint(text)
    assert endpoint == Endpoint(scheme, rest)
    assert str(endpoint) == endpoint.text == text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "an endpoint is scheme://address"),
        ("127.0.0.1:5555", "an endpoint is scheme://address"),
        ("tcp:127.0.0.1:5555", "an endpoint is scheme://address"),
        ("://127.0.0.1:5555", "a scheme is lower-case letters"),
        ("TCP://127.0.0.1:5555", "a scheme is lower-case letters"),
        (" tcp://127.0.0.1:5555", "a scheme is lower-case letters"),
        ("tcp://", "an address must follow tcp://"),
    ],
)
def test_a_malformed_endpoint_is_refused_with_its_text_and_the_rule(text: str, rule: str) -> None:
    with pytest.raises(EndpointError, match=rule) as caught:
        parse_endpoint(text)
    assert caught.value.endpoint == text
    assert repr(text) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("value", [b"tcp://127.0.0.1:5555", 5555, None, Endpoint("tcp", "127.0.0.1:5555")])
def test_an_endpoint_is_a_str(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        parse_endpoint(value)


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_that_keeps_its_text_or_is_refused(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except EndpointError:
        return
    assert endpoint.text == text
    assert parse_endpoint(endpoint.text) == endpoint


# ---- tcp


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://127.0.0.1:5555", "127.0.0.1", 5555),
        ("tcp://127.0.0.1:*", "127.0.0.1", 0),
        ("tcp://127.0.0.1:0", "127.0.0.1", 0),
        ("tcp://*:*", "*", 0),
        ("tcp://*:65535", "*", 65535),
        ("tcp://eth0:5555", "eth0", 5555),
        ("tcp://eth0.12:5555", "eth0.12", 5555),
        ("tcp://wlp3s0_ap-1:5555", "wlp3s0_ap-1", 5555),
        ("tcp://localhost:05555", "localhost", 5555),
        ("tcp://[::1]:5555", "::1", 5555),
        ("tcp://::1:5555", "::1", 5555),
        ("tcp://[::]:*", "::", 0),
        ("tcp://[fe80::1%eth0]:5555", "fe80::1%eth0", 5555),
        ("tcp://[::ffff:192.0.2.1]:5555", "::ffff:192.0.2.1", 5555),
    ],
)
def test_tcp_binds_to_an_interface_and_a_port(text: str, host: str, port: int) -> None:
    address = tcp(text, binding=True)
    assert address.target == HostPort(host, port)
    assert address.source is None
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "target", "source"),
    [
        ("tcp://127.0.0.1:5555", HostPort("127.0.0.1", 5555), None),
        ("tcp://game.example:1", HostPort("game.example", 1), None),
        ("tcp://game.example.:1", HostPort("game.example.", 1), None),
        ("tcp://bücher.example:5555", HostPort("bücher.example", 5555), None),
        ("tcp://[::1]:5555", HostPort("::1", 5555), None),
        ("tcp://127.0.0.2:*;127.0.0.1:5555", HostPort("127.0.0.1", 5555), HostPort("127.0.0.2", 0)),
        ("tcp://127.0.0.2:0;localhost:5555", HostPort("localhost", 5555), HostPort("127.0.0.2", 0)),
        ("tcp://eth0:7777;127.0.0.1:5555", HostPort("127.0.0.1", 5555), HostPort("eth0", 7777)),
        ("tcp://*:7777;127.0.0.1:5555", HostPort("127.0.0.1", 5555), HostPort("*", 7777)),
        ("tcp://[::1]:*;[::1]:5555", HostPort("::1", 5555), HostPort("::1", 0)),
    ],
)
def test_tcp_connects_to_a_host_and_a_port_from_a_source(text: str, target: HostPort, source: HostPort | None) -> None:
    address = tcp(text, binding=False)
    assert address.target == target
    assert address.source == source
    assert str(address) == text


MALFORMED_ANYWHERE = [
    ("tcp://localhost", "a port must follow 'localhost'"),
    ("tcp://localhost:", "a port is a number"),
    ("tcp://localhost:http", "a port is a number"),
    ("tcp://localhost:-1", "a port is a number"),
    ("tcp://localhost:+1", "a port is a number"),
    ("tcp://localhost: 1", "a port is a number"),
    ("tcp://localhost:1\n", "a port is a number"),
    ("tcp://localhost:1_0", "a port is a number"),
    ("tcp://localhost:٣", "a port is a number"),
    ("tcp://localhost:²", "a port is a number"),
    ("tcp://localhost:5555/", "a port is a number"),
    ("tcp://localhost:65536", "a port is at most 65535, not 65536"),
    ("tcp://localhost:0000001", "a port is at most 65535"),
    ("tcp://localhost:" + "9" * 5000, "a port is at most 65535"),
    ("tcp://:5555", "is no host, address or interface"),
    ("tcp://a b:5555", "is no host, address or interface"),
    ("tcp://a/b:5555", "is no host, address or interface"),
    ("tcp://user@host:5555", "is no host, address or interface"),
    ("tcp://a\0b:5555", "is no host, address or interface"),
    ("tcp://256.0.0.1:5555", "is no IPv4 address"),
    ("tcp://127.1:5555", "is no IPv4 address"),
    ("tcp://2130706433:5555", "is no IPv4 address"),
    ("tcp://1::2::3:5555", "is no IPv6 address"),
    ("tcp://tcp://localhost:5555", "is no IPv6 address"),
    ("tcp://[127.0.0.1]:5555", "only an IPv6 address stands in brackets"),
    ("tcp://[localhost]:5555", "only an IPv6 address stands in brackets"),
    ("tcp://[*]:5555", "only an IPv6 address stands in brackets"),
    ("tcp://[::1:5555", "only an IPv6 address stands in brackets"),
    ("tcp://[]:5555", "only an IPv6 address stands in brackets"),
    ("tcp://a..b:5555", "cannot be a host name"),
    (f"tcp://{'a' * 64}:5555", "cannot be a host name"),
]
MALFORMED_TO_BIND = [
    ("tcp://127.0.0.1:*;127.0.0.1:5555", "source;host:port is for connecting"),
    ("tcp://**:5555", "is no host, address or interface"),
]
MALFORMED_TO_CONNECT = [
    ("tcp://localhost:0", "port 0 is for binding"),
    ("tcp://localhost:*", "a port is a number, not '\\*'"),
    ("tcp://*:5555", r"\* is for binding"),
    ("tcp://;localhost:5555", "a port must follow ''"),
    ("tcp://127.0.0.1;localhost:5555", "a port must follow '127.0.0.1'"),
    ("tcp://127.0.0.1:99999;localhost:5555", "a port is at most 65535"),
    ("tcp://127.0.0.1:*;", "a port must follow ''"),
    ("tcp://a:1;b:2;c:3", "is no"),
]


@pytest.mark.parametrize(("text", "rule"), MALFORMED_ANYWHERE + MALFORMED_TO_BIND)
def test_tcp_refuses_what_cannot_be_bound(text: str, rule: str) -> None:
    with pytest.raises(EndpointError, match=rule) as caught:
        tcp(text, binding=True)
    assert caught.value.endpoint == text


@pytest.mark.parametrize(("text", "rule"), MALFORMED_ANYWHERE + MALFORMED_TO_CONNECT)
def test_tcp_refuses_what_cannot_be_connected_to(text: str, rule: str) -> None:
    with pytest.raises(EndpointError, match=rule) as caught:
        tcp(text, binding=False)
    assert caught.value.endpoint == text


@given(st.text(alphabet="[]:;.*%0159abé@/- ", min_size=1, max_size=30), st.booleans())
def test_tcp_understands_or_refuses_any_text(rest: str, binding: bool) -> None:
    try:
        address = tcp(f"tcp://{rest}", binding=binding)
    except EndpointError:
        return
    ends = [address.target] + ([address.source] if address.source else [])
    assert all(end.host and 0 <= end.port <= 65535 for end in ends)
    assert binding or (address.target.port > 0 and address.target.host != "*")


# ---- ipc


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("ipc:///tmp/socket", "/tmp/socket"),
        ("ipc://relative/socket", "relative/socket"),
        ("ipc://*.sock", "*.sock"),
        ("ipc:///tmp/é", "/tmp/é"),
        pytest.param(
            "ipc://@name", "@name", marks=pytest.mark.skipif(sys.platform != "linux", reason="abstract: Linux only")
        ),
    ],
)
@pytest.mark.parametrize("binding", [True, False])
def test_ipc_takes_paths_and_names(text: str, path: str, binding: bool) -> None:
    address = IpcTransport().parse(parse_endpoint(text), binding=binding)
    assert address.path == path
    assert str(address) == text
    assert address.is_abstract is path.startswith("@")


@pytest.mark.parametrize(
    ("text", "rule", "binding"),
    [
        ("ipc://*", r"\* is for binding", False),
        ("ipc://@", "a name must follow @", True),
        ("ipc://@", "a name must follow @", False),
        ("ipc:///tmp/a\0b", "no zero bytes", True),
        ("ipc:///tmp/a\ud800b", "cannot be a path", True),
    ],
)
def test_ipc_refuses_what_is_no_path(text: str, rule: str, binding: bool) -> None:
    with pytest.raises(EndpointError, match=rule):
        IpcTransport().parse(parse_endpoint(text), binding=binding)
