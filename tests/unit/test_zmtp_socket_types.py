"""Socket types: who talks to whom."""

from __future__ import annotations

import itertools

import pytest

from trio_mq.zmtp import SOCKET_TYPES, accepts
from trio_mq.zmtp._socket_types import number_of, partners, type_with_number

TALKS_TO = {
    "REQ": "REP ROUTER",
    "REP": "REQ DEALER",
    "DEALER": "REP DEALER ROUTER",
    "ROUTER": "REQ DEALER ROUTER",
    "PUB": "SUB XSUB",
    "XPUB": "SUB XSUB",
    "SUB": "PUB XPUB",
    "XSUB": "PUB XPUB",
    "PUSH": "PULL",
    "PULL": "PUSH",
    "PAIR": "PAIR",
}


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.product(TALKS_TO, TALKS_TO)))
def test_stable_types_talk_as_the_rfcs_say(ours: str, theirs: str) -> None:
    assert accepts(ours, theirs) == (theirs in TALKS_TO[ours].split())


def test_talking_is_mutual() -> None:
    assert all(accepts(a, b) == accepts(b, a) for a, b in itertools.product(SOCKET_TYPES, SOCKET_TYPES))
    assert all(partners(socket_type) for socket_type in SOCKET_TYPES)


def test_nobody_talks_to_a_stranger() -> None:
    assert not accepts("REQ", "FOO")
    assert not accepts("FOO", "REQ")
    assert not accepts("STREAM", "STREAM")


def test_the_numbers_of_zmtp_2_are_those_of_its_rfc() -> None:
    expected = ["PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH", "XPUB", "XSUB"]
    assert [type_with_number(number) for number in range(11)] == expected
    assert [number_of(socket_type) for socket_type in expected] == list(range(11))
    assert type_with_number(11) == type_with_number(255) == ""
    assert number_of("CHANNEL") is None
