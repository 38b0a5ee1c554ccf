"""Metadata: properties, by whatever case their names have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import zmtp
from trio_mq._errors import LocalProtocolError, RemoteProtocolError

names = st.text(st.sampled_from("abcXYZ019-_.+"), min_size=1, max_size=255)


def test_properties_are_written_in_their_order() -> None:
    wire = zmtp.encode_metadata({"Socket-Type": b"REQ", "Identity": b"me"})
    assert wire.hex() == "0b536f636b65742d5479706500000003524551084964656e74697479000000026d65"


@given(st.dictionaries(names, st.binary(max_size=300), max_size=5))
def test_properties_survive(properties: dict[str, bytes]) -> None:
    if len({name.lower() for name in properties}) == len(properties):
        parsed = zmtp.parse_metadata(zmtp.encode_metadata({f"X-{name}": value for name, value in properties.items()}))
        assert parsed == {f"X-{name}": value for name, value in properties.items()}


@pytest.mark.parametrize("name", ["socket-type", "SOCKET-TYPE", "Socket-Type"])
def test_the_case_of_a_name_does_not_matter(name: str) -> None:
    assert zmtp.parse_metadata(zmtp.encode_metadata({name: b"REQ"})) == {"Socket-Type": b"REQ"}


def test_the_first_of_a_repeated_name_wins() -> None:
    wire = zmtp.encode_metadata({"Identity": b"first"}) + zmtp.encode_metadata({"identity": b"second"})
    assert zmtp.parse_metadata(wire) == {"Identity": b"first"}


def test_no_metadata_is_no_properties() -> None:
    assert zmtp.parse_metadata(b"") == {}


@pytest.mark.parametrize("cut", range(1, 15))
def test_bytes_left_over_are_an_error(cut: int) -> None:
    wire = zmtp.encode_metadata({"Identity": b"me"})
    with pytest.raises(RemoteProtocolError):
        zmtp.parse_metadata(wire + wire[:cut])


def test_a_property_needs_a_name() -> None:
    with pytest.raises(RemoteProtocolError, match="name"):
        zmtp.parse_metadata(bytes(5))


@pytest.mark.parametrize("name", ["", "x" * 256, "X-größe"])
def test_a_name_that_the_wire_has_no_room_for_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        zmtp.encode_metadata({name: b""})


@given(st.binary(max_size=60))
def test_any_bytes_are_properties_or_a_protocol_error(data: bytes) -> None:
    try:
        properties = zmtp.parse_metadata(data)
    except RemoteProtocolError:
        return
    assert all(name.isascii() and name for name in properties)
