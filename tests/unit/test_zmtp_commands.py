"""Commands: the vectors of the specification both ways, and what is malformed is told from what is merely unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import zmtp
from trio_mq._errors import LocalProtocolError, RemoteProtocolError
from trio_mq._message import Payload
from trio_mq.zmtp import (
    Cancel,
    Command,
    Error,
    Hello,
    Initiate,
    Join,
    Leave,
    Ping,
    Pong,
    Ready,
    Subscribe,
    Unknown,
    Welcome,
)

DEALER = {"Socket-Type": b"DEALER", "Identity": b""}

VECTORS: list[tuple[Command, str]] = [
    (Subscribe(b"A"), "040b0953554253435249424541"),
    (Subscribe(b""), "040a09535542534352494245"),
    (Cancel(b"A"), "04080643414e43454c41"),
    (Ping(1.5, b"ctx"), "040a0450494e47000f637478"),
    (Ping(1.5), "04070450494e47000f"),
    (Pong(b"ctx"), "040804504f4e47637478"),
    (Error(b"400"), "040a054552524f5203343030"),
    (Join(b"Movies"), "040b044a4f494e4d6f76696573"),
    (Leave(b"Movies"), "040c054c454156454d6f76696573"),
    (Join(b""), "0405044a4f494e"),
    (Unknown(b"LEAP", b"Movies"), "040b044c4541504d6f76696573"),
    (Hello(b"admin", b"secret"), "04130548454c4c4f0561646d696e06736563726574"),
    (Welcome(), "04080757454c434f4d45"),
    (
        Initiate(DEALER),
        "042c08494e4954494154450b536f636b65742d54797065000000064445414c4552084964656e7469747900000000",
    ),
    (Ready(DEALER), "04290552454144590b536f636b65742d54797065000000064445414c4552084964656e7469747900000000"),
    (
        Ready({"Socket-Type": b"REQ", "Identity": b"me"}),
        "04280552454144590b536f636b65742d5479706500000003524551084964656e74697479000000026d65",
    ),
]


@pytest.mark.parametrize(("command", "wire"), VECTORS, ids=lambda value: type(value).__name__)
def test_commands_are_written_and_read_as_the_specification_has_them(command: Command, wire: str) -> None:
    assert zmtp.encode_command(command).hex() == wire
    assert zmtp.parse_command(bytes.fromhex(wire)[2:]) == command


@pytest.mark.parametrize(
    ("subscribe", "topic", "command", "message"),
    [
        (True, b"A", "040b0953554253435249424541", "00020141"),
        (True, b"", "040a09535542534352494245", "000101"),
        (False, b"A", "04080643414e43454c41", "00020041"),
    ],
)
def test_subscriptions_have_two_forms(subscribe: bool, topic: bytes, command: str, message: str) -> None:
    assert zmtp.encode_subscription(subscribe, topic).hex() == command
    assert zmtp.encode_subscription(subscribe, topic, legacy=True).hex() == message


def test_a_membership_is_a_command_of_its_own() -> None:
    assert zmtp.encode_membership(True, b"Movies").hex() == "040b044a4f494e4d6f76696573"
    assert zmtp.encode_membership(False, b"Movies").hex() == "040c054c454156454d6f76696573"
    assert zmtp.encode_membership(True, b"x" * 255)[:2].hex() == "0600"


@pytest.mark.parametrize("group", [b"x" * 256, b"a\0b"], ids=repr)
def test_a_group_that_is_none_is_neither_written_nor_read(group: bytes) -> None:
    for name in (b"JOIN", b"LEAVE"):
        with pytest.raises(LocalProtocolError, match="group"):
            zmtp.encode_membership(name == b"JOIN", group)
        with pytest.raises(RemoteProtocolError, match="group"):
            zmtp.parse_command(bytes((len(name),)) + name + group)


@pytest.mark.parametrize("size", [245, 246, 254, 255, 256, 70_000])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_topic_of_any_length_keeps_the_framing(size: int, legacy: bool) -> None:
    """With 255 bytes in the old form libzmq writes a long size without the LONG flag, and loses the connection."""
    decoder, out = zmtp.Decoder(), list[Payload]()
    decoder.feed(zmtp.encode_subscription(True, bytes(size), legacy))
    body = decoder.decode(9, out)
    if legacy:
        assert (body, out) == (None, [b"\1" + bytes(size)])
    else:
        assert body is not None
        assert zmtp.parse_command(body) == Subscribe(bytes(size))
    assert decoder.at_message_boundary


def test_the_error_that_libzmq_misspells_is_an_error() -> None:
    assert zmtp.parse_command(bytes.fromhex("5e52524f5203343030")) == Error(b"400")


@pytest.mark.parametrize("body", [b"", b"\x05", b"\x05PING", b"\x5eABC", b"\xff"])
def test_a_body_without_a_whole_name_is_unknown(body: bytes) -> None:
    assert zmtp.parse_command(body) == Unknown(b"", body)


@pytest.mark.parametrize("name", [b"", b"ping", b"NOVEL"])
def test_a_name_nobody_knows_is_unknown(name: bytes) -> None:
    assert zmtp.parse_command(bytes((len(name),)) + name + b"data") == Unknown(name, b"data")


@pytest.mark.parametrize(
    "body",
    [
        b"\x04PING",
        b"\x04PING\x00",
        b"\x05ERROR",
        b"\x05ERROR\x04400",
        b"\x05ERROR\x03400x",
        b"\x5eRROR",
        b"\x05HELLO",
        b"\x05HELLO\x01a",
        b"\x05HELLO\x01a\x02b",
        b"\x05HELLO\x01a\x01bc",
        b"\x07WELCOMEx",
        b"\x05READY\x0bSocket-Type\x00\x00\x00\x04RE",
        b"\x08INITIATEx",
    ],
)
def test_a_command_we_know_must_have_its_form(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        zmtp.parse_command(body)


def test_a_long_context_of_a_ping_is_cut_to_16_bytes() -> None:
    assert zmtp.parse_command(b"\x04PING\x00\x00" + bytes(range(40))) == Ping(0.0, bytes(range(16)))


@pytest.mark.parametrize(("ttl", "tenths"), [(0.0, 0), (0.1, 1), (65.5, 655), (65.6, 655), (1e6, 655)])
def test_the_ttl_is_capped_where_libzmq_wraps(ttl: float, tenths: int) -> None:
    assert zmtp.encode_command(Ping(ttl))[-2:] == tenths.to_bytes(2, "big")


def test_a_ttl_too_short_for_the_wire_is_not_written_as_none() -> None:
    assert zmtp.encode_command(Ping(0.01))[-2:] == b"\x00\x01"


@pytest.mark.parametrize("command", [Error(bytes(256)), Hello(bytes(256), b""), Ping(1.0, bytes(17)), Pong(bytes(17))])
def test_what_does_not_fit_is_refused_before_it_is_sent(command: Command) -> None:
    with pytest.raises(LocalProtocolError):
        zmtp.encode_command(command)


def test_no_password_shows_in_a_repr() -> None:
    assert "secret" not in repr(Hello(b"admin", b"secret"))


@given(st.binary(max_size=80))
def test_any_body_is_a_command_or_a_protocol_error(body: bytes) -> None:
    try:
        command = zmtp.parse_command(body)
    except RemoteProtocolError:
        return
    assert isinstance(command, Command)


@given(st.sampled_from([b"\x05READY", b"\x05ERROR", b"\x05HELLO", b"\x04PING", b"\x5eRROR"]), st.binary(max_size=40))
def test_any_data_behind_a_known_name_is_a_command_or_a_protocol_error(name: bytes, data: bytes) -> None:
    try:
        command = zmtp.parse_command(name + data)
    except RemoteProtocolError:
        return
    assert not isinstance(command, Unknown)
