"""RADIO-DISH in datagrams: libzmq's bytes, and nothing that it would not survive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq.zmtp import LARGEST_DATAGRAM, encode_datagram, parse_datagram

groups = st.binary(max_size=127).filter(lambda group: 0 not in group)


def test_the_vector_of_the_specification() -> None:
    datagram = bytes.fromhex("064d6f76696573476f64666174686572")
    assert encode_datagram(b"Movies", b"Godfather") == datagram
    assert parse_datagram(datagram) == [b"Movies", b"Godfather"]


@given(groups, st.binary(max_size=300))
def test_what_is_written_is_read(group: bytes, body: bytes) -> None:
    datagram = encode_datagram(group, body)
    assert datagram is not None
    assert parse_datagram(datagram) == [group, body]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_none(datagram: bytes) -> None:
    message = parse_datagram(datagram)
    if message is not None:
        group, body = message
        assert bytes((len(group),)) + group + body == datagram


def test_a_datagram_has_at_most_8192_bytes() -> None:
    assert len(encode_datagram(b"g", bytes(8190)) or b"") == LARGEST_DATAGRAM == 8192
    assert encode_datagram(b"g", bytes(8191)) is None


def test_long_groups_are_read_and_not_written() -> None:
    assert encode_datagram(b"x" * 127, b"") is not None
    assert encode_datagram(b"x" * 128, b"") is None
    assert parse_datagram(b"\xff" + b"x" * 255 + b"body") == [b"x" * 255, b"body"]


@pytest.mark.parametrize("datagram", [b"", b"\x01", b"\x05abcd", b"\xff" + b"x" * 254, b"\x01\x00body"], ids=repr)
def test_what_is_no_message_of_a_radio_is_told(datagram: bytes) -> None:
    assert parse_datagram(datagram) is None
