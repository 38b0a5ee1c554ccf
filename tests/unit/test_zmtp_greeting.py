"""The greeting: which version a peer speaks is known as early as it can be, and strangers are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._errors import VersionMismatchError
from trio_mq.zmtp._greeting import (
    OPENING,
    Dialect,
    Greeting,
    encode_answer_2_0,
    encode_rest,
    parse_answer_2_0,
    parse_dialect,
    parse_greeting,
)

SIGNATURE = bytes.fromhex("ff00000000000000 007f")
NULL_3_1 = bytes.fromhex("ff00000000000000007f03014e554c4c") + bytes(48)


def test_our_greeting_is_that_of_the_specification() -> None:
    assert OPENING + encode_rest("NULL", as_server=False) == NULL_3_1
    plain = OPENING + encode_rest("PLAIN", as_server=True)
    assert plain.hex().startswith("ff00000000000000007f0301504c41494e00")
    assert plain[32] == 1
    assert len(plain) == 64
    assert not any(plain[33:])


# libzmq's decision table (2.3 of the wire reference), and 2.6: what it downgrades to 1.0 for, we refuse.
@pytest.mark.parametrize(
    ("first", "dialect"),
    [
        (SIGNATURE + b"\x01", Dialect.ZMTP_2_0),
        (SIGNATURE + b"\x02", Dialect.ZMTP_3),
        (SIGNATURE + b"\x03", Dialect.ZMTP_3),
        (SIGNATURE + b"\x04", Dialect.ZMTP_3),
        (SIGNATURE + b"\xff", Dialect.ZMTP_3),
        (b"\xff" + b"\xab" * 8 + b"\x01\x03", Dialect.ZMTP_3),
    ],
)
def test_the_major_version_decides_the_dialect(first: bytes, dialect: Dialect) -> None:
    assert parse_dialect(first) is dialect
    assert all(parse_dialect(first[:cut]) is None for cut in range(11))


@pytest.mark.parametrize(
    ("first", "named"),
    [
        (SIGNATURE + b"\x00", "1.0"),
        (SIGNATURE[:9] + b"\x7e", "1.0"),
        (b"\xff\0\0\0\0\0\0\0\4\0", "1.0"),
        (b"\x03\x00me", "1.0"),
        (b"\x01", "1.0"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"POST /", "HTTP"),
        (b"HTTP/1.1 400", "HTTP"),
        (b"PRI * HTTP/2.0", "HTTP/2"),
        (bytes.fromhex("000018 04 00 00000000 0004"), "HTTP/2 .as ordinary gRPC servers do"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"SSH-2.0-OpenSSH", "SSH"),
    ],
)
def test_who_speaks_something_else_is_refused_by_name(first: bytes, named: str) -> None:
    with pytest.raises(VersionMismatchError, match=named):
        parse_dialect(first)


@pytest.mark.parametrize(
    ("version", "agreed"),
    [(b"\3\0", (3, 0)), (b"\3\1", (3, 1)), (b"\3\x09", (3, 1)), (b"\4\0", (3, 1)), (b"\2\0", (3, 1))],
)
def test_a_higher_version_is_as_ours(version: bytes, agreed: tuple[int, int]) -> None:
    assert parse_greeting(SIGNATURE + version + NULL_3_1[12:]) == Greeting(agreed, "NULL", as_server=False)


def test_the_mechanism_is_compared_in_all_its_20_bytes() -> None:
    greeting = parse_greeting(NULL_3_1[:12] + b"NULL\0" + bytes(14) + b"x" + NULL_3_1[32:])
    assert greeting is not None
    assert greeting.mechanism != "NULL"


def test_padding_is_not_looked_at() -> None:
    assert parse_greeting(NULL_3_1[:33] + b"\xee" * 31) == parse_greeting(NULL_3_1)


def test_a_greeting_has_64_bytes() -> None:
    assert all(parse_greeting(NULL_3_1[:cut]) is None for cut in range(64))
    assert parse_greeting(NULL_3_1 + b"more") == Greeting((3, 1), "NULL", as_server=False)


def test_the_answer_to_a_2_0_peer_is_a_number_and_an_identity() -> None:
    assert encode_answer_2_0("ROUTER", b"srv") == bytes.fromhex("06 00 03 737276")
    with pytest.raises(VersionMismatchError, match="CHANNEL"):
        encode_answer_2_0("CHANNEL", b"")


def test_the_answer_of_a_2_0_peer_is_read_once_it_is_whole() -> None:
    wire = SIGNATURE + b"\x01" + bytes.fromhex("05 00 02 6d65")
    assert all(parse_answer_2_0(wire[:cut]) is None for cut in range(len(wire)))
    assert parse_answer_2_0(wire + b"\x01\x01x") == (5, b"me", len(wire))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_dialect_or_refused(data: bytes) -> None:
    try:
        dialect = parse_dialect(data)
    except VersionMismatchError:
        return
    assert (dialect is None) == (len(data) < 11)
