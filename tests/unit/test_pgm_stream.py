"""Messages to payloads of datagrams and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._message import Payload
from trio_mq._pgm import Data, Packer, Unpacker, encode_v1, parse_packet

from ._pgm_vectors import capture

frames = st.one_of(st.binary(max_size=20), st.integers(250, 600).map(bytes))
messages = st.one_of(frames, st.lists(frames, min_size=2, max_size=4))


def payloads(name: str) -> list[bytes]:
    packets = [parse_packet(each.packet) for each in capture(name)]
    return [packet.payload for packet in packets if isinstance(packet, Data) and not packet.repair]


def packed(largest: int, messages: list[Payload]) -> list[bytes]:
    packer, out = Packer(largest), []
    packer.add(messages)
    while packer:
        out.append(packer.next())
    return out


def test_frames_have_the_form_of_zmtp_1() -> None:
    assert encode_v1(b"hello").hex() == "0600" + b"hello".hex()
    assert encode_v1([b"topic", b"", b"body"]).hex() == "0601" + b"topic".hex() + "0101" + "0500" + b"body".hex()
    assert encode_v1(bytes(253))[:2].hex() == "fe00"
    assert encode_v1(bytes(254))[:10].hex() == "ff00000000000000ff00"


def test_libzmq_puts_twelve_messages_into_one_datagram_and_so_do_we() -> None:
    theirs = payloads("epgm_batch")
    assert packed(1428, [b"%08d" % number + b"x" * 12 for number in range(12)]) == theirs


def test_libzmq_cuts_a_long_message_in_three_and_so_do_we() -> None:
    theirs = payloads("epgm_message_over_many_datagrams")
    long = [b"%08d" % number + b"x" * 292 for number in range(2)]
    ours = [payload for message in long for payload in packed(128, [message])]
    # It may point at the very end of what it sends, where we say that no message begins.
    assert [payload[2:] for payload in ours] == [payload[2:] for payload in theirs]
    for our_payload, their_payload in zip(ours, theirs, strict=True):
        assert our_payload[:2] in (their_payload[:2], b"\xff\xff")
    unpacker = Unpacker()
    assert [message for payload in theirs for message in unpacker.feed(payload)] == long


def test_the_basic_capture_is_read() -> None:
    unpacker = Unpacker()
    read = [message for payload in payloads("epgm_pub_basic") for message in unpacker.feed(payload)]
    assert read == [b"hello", [b"topic", b"", b"body"], b"", b"A" * 253, b"B" * 254]


@given(st.lists(messages, max_size=12), st.integers(5, 400))
def test_what_is_packed_comes_out_again_whatever_the_size_of_datagrams(sent: list[Payload], largest: int) -> None:
    unpacker = Unpacker()
    datagrams = packed(largest, sent)
    assert [message for payload in datagrams for message in unpacker.feed(payload)] == sent
    assert all(3 <= len(payload) <= largest for payload in datagrams)
    assert (unpacker.broken, unpacker.malformed) == (0, 0)


@given(st.lists(messages, min_size=1, max_size=12), st.integers(5, 60), st.data())
def test_an_offset_never_points_beyond_what_a_datagram_holds(
    sent: list[Payload], largest: int, data: st.DataObject
) -> None:
    for payload in packed(largest, sent):
        offset = int.from_bytes(payload[:2], "big")
        assert offset == 0xFFFF or offset < len(payload) - 2


@given(st.lists(messages, min_size=2, max_size=12), st.integers(5, 300), st.data())
def test_after_a_loss_nothing_but_whole_messages_come(sent: list[Payload], largest: int, data: st.DataObject) -> None:
    datagrams = packed(largest, sent)
    lost = data.draw(st.integers(0, len(datagrams) - 1))
    unpacker, received = Unpacker(), list[Payload]()
    for place, payload in enumerate(datagrams):
        if place == lost:
            unpacker.reset()
        else:
            received += unpacker.feed(payload)
    rest = iter(sent)
    assert all(any(message == other for other in rest) for message in received)


def test_half_a_multipart_message_is_dropped_and_counted_and_never_glued_to_the_next() -> None:
    unpacker = Unpacker()
    first = encode_v1([b"part1", b"part2"])
    assert unpacker.feed(b"\0\0" + first[:7]) == []  # the whole of the first frame
    unpacker.reset()
    assert unpacker.broken == 1
    assert unpacker.feed(b"\0\0" + encode_v1(b"next")) == [b"next"]


def test_who_comes_late_begins_with_the_first_message_that_begins() -> None:
    whole = b"".join(map(encode_v1, [b"first", b"second", b"third"]))
    unpacker = Unpacker()
    assert unpacker.feed(b"\xff\xff" + whole[:3]) == []
    assert unpacker.feed(b"\0\4" + whole[3:11]) == []
    assert unpacker.feed(b"\0\4" + whole[11:]) == [b"second", b"third"]


def test_an_offset_to_the_very_end_is_a_place_to_begin_with_the_next_datagram() -> None:
    unpacker = Unpacker()
    assert unpacker.feed(b"\0\3abc") == []
    assert unpacker.feed(b"\xff\xff" + encode_v1(b"whole")) == [b"whole"]


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x40\2\0x", b"\xff\xff", b"\0\0\0\0\0"])
def test_payloads_that_end_a_libzmq_subscriber_do_nothing_here(payload: bytes) -> None:
    unpacker = Unpacker()
    assert unpacker.feed(payload) == []
    assert unpacker.feed(b"\0\0" + encode_v1(b"fine")) == [b"fine"]


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\4\2\0x", b"\0\x40\2\0x", b"\xff\xfe\2\0x"])
def test_payloads_that_cannot_be_are_counted_and_end_what_was_begun(payload: bytes) -> None:
    late = Unpacker()
    assert late.feed(payload) == []
    assert late.malformed == 1
    unpacker = Unpacker()
    whole = encode_v1([b"part1", b"part2"])
    assert unpacker.feed(b"\0\0" + whole[:9]) == []
    assert unpacker.feed(payload) == []
    assert (unpacker.malformed, unpacker.joined) == (1, False)
    assert unpacker.feed(b"\xff\xff" + whole[9:]) == []
    assert unpacker.feed(b"\0\0" + encode_v1(b"next")) == [b"next"]
    assert (unpacker.malformed, unpacker.broken) == (1, 0)


def test_limits_hold_and_the_next_message_is_found_again() -> None:
    unpacker = Unpacker(max_message_size=10, max_frames=2)
    good = encode_v1(b"good")
    assert unpacker.feed(b"\0\0" + good + encode_v1(bytes(11))) == [b"good"]
    assert unpacker.feed(b"\0\0" + encode_v1([b"", b"", b""])) == []
    assert unpacker.malformed == 2
    assert unpacker.feed(b"\0\0" + good) == [b"good"]


def test_a_promised_size_reserves_no_memory() -> None:
    unpacker = Unpacker()
    assert unpacker.feed(b"\0\0\xff\x7f" + b"\xff" * 7 + b"\0x") == []
    assert sum(map(len, unpacker._chunks)) == 1


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_payloads_give_messages_or_nothing(datagrams: list[bytes]) -> None:
    unpacker = Unpacker(max_message_size=100, max_frames=5)
    for payload in datagrams:
        unpacker.feed(payload)
