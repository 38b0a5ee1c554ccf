"""Options: the defaults are a contract, and what cannot be meant is refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from trio_mq._errors import AuthenticationError
from trio_mq._options import CHANGEABLE, Options
from trio_mq._security import AuthenticationRequest, Curve, Null, Plain

DEFAULTS: Mapping[str, object] = {
    "send_hwm": 1000,
    "receive_hwm": 1000,
    "send_hwm_bytes": None,
    "receive_hwm_bytes": None,
    "linger": 5.0,
    "immediate": False,
    "conflate": False,
    "routing_id": b"",
    "reconnect_interval": 0.1,
    "reconnect_interval_max": 5.0,
    "retry": True,
    "connect_timeout": None,
    "handshake_interval": 30.0,
    "heartbeat_interval": None,
    "heartbeat_ttl": None,
    "heartbeat_timeout": None,
    "max_message_size": None,
    "max_frames": None,
    "ipv6": False,
    "tcp_keepalive": None,
    "tcp_keepalive_idle": None,
    "tcp_keepalive_interval": None,
    "tcp_keepalive_count": None,
    "backlog": 100,
    "max_handshakes": 256,
    "send_buffer": None,
    "receive_buffer": None,
    "accept_filter": (),
    "use_fd": None,
    "multicast_rate": 40e6,
    "multicast_recovery": 2.0,
    "multicast_max_tpdu": 1500,
    "multicast_hops": 1,
    "multicast_loop": True,
    "eager_reads": True,
    "security": Null(),
    "authenticator": None,
    "properties": {},
    "peer_events": False,
    "overflow": None,
    "probe_router": False,
    "req_correlate": None,
    "req_relaxed": False,
    "router_mandatory": False,
    "router_handover": False,
    "xpub_verbose": False,
    "xpub_verboser": False,
    "xpub_manual": False,
    "xpub_welcome": None,
    "invert_matching": False,
}

ALL = frozenset("PAIR PUB SUB REQ REP DEALER ROUTER PULL PUSH XPUB XSUB RADIO DISH DGRAM".split())

SPECIAL: Mapping[str, tuple[object, str]] = {
    "multicast_rate": (1e6, "PUB SUB XPUB XSUB"),
    "multicast_recovery": (1.0, "PUB SUB XPUB XSUB"),
    "multicast_max_tpdu": (1400, "PUB SUB XPUB XSUB"),
    "conflate": (True, "DEALER PUSH PULL PUB SUB"),
    "routing_id": (b"me", "REQ DEALER ROUTER REP"),
    "probe_router": (True, "REQ DEALER ROUTER"),
    "req_correlate": (False, "REQ"),
    "req_relaxed": (True, "REQ"),
    "router_mandatory": (True, "ROUTER"),
    "router_handover": (True, "ROUTER"),
    "xpub_verbose": (True, "XPUB"),
    "xpub_verboser": (True, "XPUB"),
    "xpub_manual": (True, "XPUB"),
    "xpub_welcome": (b"", "XPUB"),
    "invert_matching": (True, "PUB XPUB SUB XSUB"),
    "overflow": ("block", "PUB XPUB ROUTER RADIO"),
    "peer_events": (True, "PAIR DEALER ROUTER PULL"),
}
"""What only some socket types have a use for: a value that is not the default, and the types."""


def options(**settings: Any) -> Options:
    """Options whose values need not be of the right type."""
    return Options(**settings)


async def ask(request: AuthenticationRequest) -> str:
    return request.username


# --- defaults --------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_promised() -> None:
    assert {entry.name: getattr(Options(), entry.name) for entry in fields(Options)} == DEFAULTS


def test_options_are_a_frozen_value() -> None:
    assert Options(send_hwm=5) == Options(send_hwm=5)
    assert Options(send_hwm=5) != Options()
    assert hash(Options(properties={"X-a": "b"})) == hash(Options(properties={"X-a": "b"}))
    with pytest.raises(FrozenInstanceError):
        Options().send_hwm = 5  # type: ignore[misc]  # that is the point


def test_each_field_is_said_by_name() -> None:
    with pytest.raises(TypeError):
        Options(1000)  # type: ignore[call-arg]  # that is the point


def test_every_field_has_its_line_in_the_documentation() -> None:
    assert Options.__doc__ is not None
    assert [name for name in DEFAULTS if name not in Options.__doc__] == []


# --- values ----------------------------------------------------------------------------------------------------------

COUNTS = (
    "send_hwm",
    "receive_hwm",
    "send_hwm_bytes",
    "receive_hwm_bytes",
    "backlog",
    "max_handshakes",
    "tcp_keepalive_idle",
    "tcp_keepalive_interval",
    "tcp_keepalive_count",
    "send_buffer",
    "receive_buffer",
)
LIMITS = ("max_message_size", "max_frames", "use_fd")
SWITCHES = (
    "immediate",
    "conflate",
    "ipv6",
    "eager_reads",
    "peer_events",
    "probe_router",
    "req_relaxed",
    "router_mandatory",
    "router_handover",
    "xpub_verbose",
    "xpub_verboser",
    "xpub_manual",
    "invert_matching",
)
LENGTHS = ("linger", "reconnect_interval", "reconnect_interval_max")
PERIODS = ("connect_timeout", "handshake_interval", "heartbeat_interval", "heartbeat_timeout")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_count_is_a_whole_number_from_one(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        options(**{name: value})
    assert getattr(options(**{name: 1}), name) == 1


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), ("1", TypeError), (False, TypeError)])
def test_a_limit_is_a_whole_number_from_zero(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        options(**{name: value})
    assert getattr(options(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", [*COUNTS, *LIMITS, *PERIODS, "heartbeat_ttl"])
def test_none_means_off_wherever_there_is_an_off(name: str) -> None:
    if name in ("backlog", "max_handshakes"):
        with pytest.raises(TypeError, match=name):
            options(**{name: None})
    else:
        assert getattr(options(**{name: None}), name) is None


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize(
    ("value", "error"),
    [(None, ValueError), (-0.1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)],
)
def test_a_length_of_time_has_no_off_and_is_not_negative(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        options(**{name: value})


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("value", [0, 0.5, math.inf])
def test_a_length_of_time_may_be_nothing_or_for_ever(name: str, value: float) -> None:
    assert getattr(options(**{name: value}), name) == value


@pytest.mark.parametrize("name", PERIODS)
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)]
)
def test_a_period_is_longer_than_nothing(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        options(**{name: value})
    assert getattr(options(**{name: 0.001}), name) == 0.001


@pytest.mark.parametrize(
    ("value", "error"), [(0.05, ValueError), (65.6, ValueError), (math.nan, ValueError), ("1", TypeError)]
)
def test_a_ttl_is_what_libzmq_can_read(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="heartbeat_ttl"):
        options(heartbeat_ttl=value)
    assert Options(heartbeat_ttl=0.1).heartbeat_ttl == 0.1
    assert Options(heartbeat_ttl=65.5).heartbeat_ttl == 65.5


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_a_switch_is_true_or_false(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        options(**{name: value})
    assert getattr(options(**{name: True}), name) is True


@pytest.mark.parametrize("name", ["tcp_keepalive", "req_correlate"])
def test_some_switches_may_be_left_to_others(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        options(**{name: "yes"})
    for value in (None, True, False):
        assert getattr(options(**{name: value}), name) is value


@pytest.mark.parametrize(
    ("value", "error"),
    [(b"\0id", ValueError), (b"\0", ValueError), (b"x" * 256, ValueError), ("text", TypeError), (None, TypeError)],
)
def test_a_routing_id_is_up_to_255_bytes_that_no_router_would_make_up(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="routing_id"):
        options(routing_id=value)


@pytest.mark.parametrize("value", [b"x", b"x" * 255, b"x\0", b""])
def test_any_other_bytes_are_a_routing_id(value: bytes) -> None:
    assert Options(routing_id=value).routing_id == value


@pytest.mark.parametrize("value", ["drop", "", True])
def test_overflow_is_block_or_nothing(value: object) -> None:
    with pytest.raises(ValueError, match="overflow"):
        options(overflow=value)


@pytest.mark.parametrize("name", ["User", "", "X", "x_", "X-a b", "X-ü", "X-" + "a" * 254])
def test_a_property_has_a_name_that_is_ours_to_use(name: str) -> None:
    with pytest.raises(ValueError, match="property"):
        Options(properties={name: "text"})


@pytest.mark.parametrize(("value", "error"), [("ü", ValueError), ("a\nb", ValueError), (b"text", TypeError)])
def test_a_property_has_a_value_that_libzmq_can_show(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="X-Name"):
        Options(properties={"X-Name": value})


def test_good_properties_are_kept() -> None:
    assert Options(properties={"X-Name": "a b!", "x-2.+_": ""}).properties == {"X-Name": "a b!", "x-2.+_": ""}


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry", "yes"), ("security", "PLAIN"), ("authenticator", "root"), ("xpub_welcome", "hello")],
)
def test_what_is_of_the_wrong_kind_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        options(**{name: value})


# --- security --------------------------------------------------------------------------------------------------------


def test_a_plain_server_needs_somebody_to_ask() -> None:
    with pytest.raises(ValueError, match="authenticator"):
        Options(security=Plain(server=True))
    assert Options(security=Plain(server=True), authenticator=ask).authenticator is ask


@pytest.mark.parametrize(
    ("username", "password", "culprit"),
    [("", "x", "username"), ("x", "", "password"), ("ü" * 128, "x", "username"), ("x", "x" * 256, "password")],
)
def test_plain_credentials_fit_into_their_command(username: str, password: str, culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        Plain(username, password)


def test_a_plain_server_has_no_credentials_of_its_own() -> None:
    with pytest.raises(ValueError, match="server"):
        Plain("me", "", server=True)
    with pytest.raises(ValueError, match="server"):
        Plain("", "secret", server=True)


def test_no_password_shows_in_a_repr() -> None:
    assert "secret" not in repr(Options(security=Plain("me", "secret")))
    assert "secret" not in repr(AuthenticationRequest("PLAIN", username="me", password="secret"))


def test_curve_says_that_it_is_not_there_yet() -> None:
    with pytest.raises(NotImplementedError, match="curve"):
        Curve(b"key")


# --- socket types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("socket_type", sorted(ALL))
def test_the_defaults_fit_every_socket_type(socket_type: str) -> None:
    Options().check_for(socket_type)


@pytest.mark.parametrize("socket_type", sorted(ALL))
@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_a_field_without_a_use_is_refused_by_name(name: str, socket_type: str) -> None:
    value, types = SPECIAL[name]
    chosen = options(**{name: value})
    if socket_type in types.split():
        chosen.check_for(socket_type)
    else:
        with pytest.raises(ValueError, match=f"{name} means nothing on {socket_type}"):
            chosen.check_for(socket_type)


@pytest.mark.parametrize("socket_type", sorted(ALL))
def test_all_other_fields_fit_every_socket_type(socket_type: str) -> None:
    everything: dict[str, object] = {
        name: 7 if default is None or isinstance(default, int) else default
        for name, default in DEFAULTS.items()
        if name not in SPECIAL
    }
    everything |= {"immediate": True, "ipv6": True, "eager_reads": False, "tcp_keepalive": True, "retry": False}
    everything["multicast_loop"] = False
    everything |= {"properties": {"X-a": "b"}, "authenticator": ask, "accept_filter": ("127.0.0.0/8",)}
    everything |= {"security": Plain("me", "secret"), "linger": 1.0, "heartbeat_ttl": 7.0}
    options(**everything).check_for(socket_type)


# --- what it answers -------------------------------------------------------------------------------------------------


def test_what_differs_is_said_by_name() -> None:
    assert Options().changed_fields(Options()) == set()
    assert Options().changed_fields(Options(linger=0, send_hwm=5)) == {"linger", "send_hwm"}


def test_what_may_change_on_an_open_socket_is_a_field() -> None:
    assert not CHANGEABLE.difference(DEFAULTS)


def test_retry_is_a_rule_or_a_function_of_the_error() -> None:
    assert Options().should_retry(None)
    assert not Options(retry=False).should_retry(OSError())
    picky = Options(retry=lambda error: not isinstance(error, AuthenticationError))
    assert picky.should_retry(None)
    assert not picky.should_retry(AuthenticationError("no"))
    assert Options(retry=lambda error: 1).should_retry(None) is True  # type: ignore[arg-type, return-value]
