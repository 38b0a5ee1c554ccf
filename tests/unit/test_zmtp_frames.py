"""Frames: what goes in comes out, however the stream is cut, and what is wrong is refused before it costs anything."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import zmtp
from trio_mq._errors import RemoteProtocolError
from trio_mq._message import Payload
from trio_mq.zmtp import LARGEST_READ, READ_SIZE, Decoder

COMMAND = b"\x04\x05\x04PONG"

frames = st.binary(max_size=300)
messages = st.lists(st.one_of(frames, st.lists(frames, min_size=2, max_size=5)), max_size=30)
limits = st.sampled_from([1, 2, 3, 1000])


def drain(decoder: Decoder, limit: int = 1000) -> list[Payload | tuple[str, bytes]]:
    """All that *decoder* gives now, in order; commands as ("command", body)."""
    found: list[Payload | tuple[str, bytes]] = []
    while True:
        out: list[Payload] = []
        command = decoder.decode(limit, out)
        assert len(out) <= limit
        found += out
        if command is not None:
            found.append(("command", command))
        elif len(out) < limit:
            return found


def decode(*pieces: bytes, limit: int = 1000, decoder: Decoder | None = None) -> list[Payload | tuple[str, bytes]]:
    decoder = decoder or Decoder()
    found: list[Payload | tuple[str, bytes]] = []
    for piece in pieces:
        decoder.feed(piece)
        found += drain(decoder, limit)
    return found


def test_encode_writes_the_frames_of_the_specification() -> None:
    assert zmtp.encode([b"Hello", b"", [b"a", b"b"]]) == bytes.fromhex("000548656c6c6f 0000 010161 000162")
    assert zmtp.encode([[b"", b"x"]]) == bytes.fromhex("01000001 78")
    assert zmtp.encode([bytes(256)])[:9] == bytes.fromhex("020000000000000100")
    assert zmtp.encode([[bytes(256), bytes(256)]])[:9] == bytes.fromhex("030000000000000100")
    assert zmtp.encode([]) == b""


def test_an_empty_message_is_the_probe_that_a_router_gets() -> None:
    assert zmtp.encode_message(b"") == bytes.fromhex("0000")


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 257, 65536, 1024 * 1024])
def test_frames_of_every_notable_size_survive(size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    batch: list[Payload] = [body, [body, body], b"last"]
    assert decode(zmtp.encode(batch)) == batch


@pytest.mark.parametrize("size", [255, 256])
def test_the_long_form_begins_above_255_bytes(size: int) -> None:
    assert len(zmtp.encode_message(bytes(size))) == size + (2 if size == 255 else 9)


def test_a_subclass_of_bytes_is_one_frame() -> None:
    class Tagged(bytes):
        pass

    assert zmtp.encode([Tagged(b"abc")]) == zmtp.encode([b"abc"])


def test_interleave_copies_no_body() -> None:
    body, more = bytes(5000), bytes(6000)
    assert [id(piece) for piece in zmtp.interleave([body, [more, body]])[1::2]] == [id(body), id(more), id(body)]


@given(messages)
def test_decode_all_is_the_inverse_of_encode(batch: list[Payload]) -> None:
    assert zmtp.decode_all(zmtp.encode(batch)) == batch


def test_decode_all_leaves_commands_out() -> None:
    assert zmtp.decode_all(COMMAND + b"\x00\x01a" + COMMAND) == [b"a"]


@pytest.mark.parametrize("cut", [b"\x00", b"\x00\x02a", b"\x01\x01a", b"\x02\x00"])
def test_decode_all_refuses_what_ends_within_a_message(cut: bytes) -> None:
    with pytest.raises(ValueError, match="within a message"):
        zmtp.decode_all(b"\x00\x01a" + cut)


@given(messages, st.lists(st.integers(0, 10_000), max_size=6), limits)
def test_any_cutting_and_any_limit_give_the_same_messages(batch: list[Payload], cuts: list[int], limit: int) -> None:
    wire = zmtp.encode(batch)
    places = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
    assert decode(*pieces, limit=limit) == batch


def test_every_split_of_a_stream_gives_the_same_events() -> None:
    wire = zmtp.encode([b"one", [b"", b"two"]]) + b"\x01\x01a" + COMMAND + b"\x00\x01b" + zmtp.encode([bytes(300), b""])
    expected = [b"one", [b"", b"two"], ("command", b"\x04PONG"), [b"a", b"b"], bytes(300), b""]
    assert decode(*(wire[i : i + 1] for i in range(len(wire)))) == expected
    for cut in range(len(wire) + 1):
        assert decode(wire[:cut], wire[cut:], limit=1) == expected


def test_feeding_before_all_is_decoded_loses_nothing() -> None:
    decoder = Decoder()
    decoder.feed(b"\x00\x01a\x00\x01")
    decoder.feed(b"b\x00")
    decoder.feed(b"\x01c")
    assert drain(decoder) == [b"a", b"b", b"c"]


def test_decode_stops_at_the_limit_and_goes_on_from_there() -> None:
    decoder, out = Decoder(), list[Payload]()
    decoder.feed(zmtp.encode([b"a", b"b", [b"c", b"d"], b"e"]))
    assert decoder.decode(0, out) is None
    assert out == []
    assert decoder.decode(2, out) is None
    assert out == [b"a", b"b"]
    assert decoder.decode(1, out) is None
    assert out == [b"a", b"b", [b"c", b"d"]]
    assert decoder.decode(9, out) is None
    assert out[3:] == [b"e"]


def test_a_command_keeps_its_place_among_messages() -> None:
    assert decode(b"\x00\x01a" + COMMAND + b"\x00\x01b") == [b"a", ("command", b"\x04PONG"), b"b"]


def test_a_command_between_the_frames_of_a_message_does_not_disturb_it() -> None:
    assert decode(b"\x01\x01a" + COMMAND + b"\x00\x01b") == [("command", b"\x04PONG"), [b"a", b"b"]]


def test_a_long_command_and_an_empty_one_are_commands() -> None:
    assert decode(b"\x06" + (300).to_bytes(8, "big") + bytes(300)) == [("command", bytes(300))]
    assert decode(b"\x04\x00") == [("command", b"")]


def test_the_long_form_is_accepted_for_any_size() -> None:
    assert decode(b"\x02" + (1).to_bytes(8, "big") + b"a" + b"\x03" + bytes(8) + b"\x00\x01b") == [b"a", [b"", b"b"]]


def test_reserved_flags_are_ignored() -> None:
    assert decode(bytes.fromhex("f80166")) == [b"f"]
    assert decode(bytes.fromhex("f90161 080162")) == [[b"a", b"b"]]


def test_more_on_a_command_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="MORE"):
        decode(b"\x05\x05\x04PONG")


def test_the_messages_before_an_error_are_given_out() -> None:
    decoder, out = Decoder(), list[Payload]()
    decoder.feed(b"\x00\x01a\x05\x01b")
    with pytest.raises(RemoteProtocolError):
        decoder.decode(9, out)
    assert out == [b"a"]
    with pytest.raises(RemoteProtocolError):
        decoder.decode(9, out)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
@pytest.mark.parametrize("flags", [2, 3, 6])
def test_sizes_of_64_bits_are_refused(flags: int, size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="63"):
        decode(bytes((flags,)) + size.to_bytes(8, "big"))


@pytest.mark.parametrize("limit", [0, 10, 254, 255, 256, 5000])
@pytest.mark.parametrize("before", [b"", b"\x01\x00"], ids=["first frame", "second frame"])
def test_a_frame_above_the_limit_is_refused_by_its_header_alone(limit: int, before: bytes) -> None:
    decoder = Decoder(limit)
    good: list[Payload] = [bytes(limit), [bytes(limit), b""]]
    assert decode(zmtp.encode(good), decoder=decoder) == good
    for message in (bytes(limit + 1), [bytes(limit + 1), b""]):
        header, body = zmtp.interleave([message])[:2]
        for wire in (before + header, before + header + body):
            with pytest.raises(RemoteProtocolError, match="longer"):
                decode(wire, decoder=Decoder(limit))


def test_the_limit_is_about_each_frame_not_the_message() -> None:
    message: list[Payload] = [[bytes(300), bytes(300), bytes(300)]]
    assert decode(zmtp.encode(message), decoder=Decoder(300)) == message


def test_the_limit_holds_for_commands() -> None:
    with pytest.raises(RemoteProtocolError, match="longer"):
        decode(COMMAND, decoder=Decoder(4))


def test_a_message_of_too_many_frames_is_refused() -> None:
    for split in (False, True):
        wire = zmtp.encode([b"bare", [b"a", b"b", b"c"]])
        assert decode(*split_if(split, wire), decoder=Decoder(max_frames=3)) == [b"bare", [b"a", b"b", b"c"]]
        with pytest.raises(RemoteProtocolError, match="2 frames"):
            decode(*split_if(split, wire), decoder=Decoder(max_frames=2))


def split_if(split: bool, wire: bytes) -> Iterator[bytes]:
    return (wire[i : i + 1] for i in range(len(wire))) if split else iter([wire])


def test_a_header_allocates_nothing() -> None:
    decoder = Decoder()
    tracemalloc.start()
    try:
        decoder.feed(b"\x02" + (2**62).to_bytes(8, "big") + b"abc")
        assert drain(decoder) == []
        decoder.feed(b"defg")
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert decoder.partial_bytes == 7


def test_a_body_that_drips_is_not_held_as_a_million_crumbs() -> None:
    decoder = Decoder()
    decoder.feed(b"\x02" + (2**40).to_bytes(8, "big"))
    assert drain(decoder) == []
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20_000):
            decoder.feed(b"".join((b"a", b"b")))
        assert tracemalloc.get_traced_memory()[0] - before < 60_000
    finally:
        tracemalloc.stop()
    assert decoder.partial_bytes == 40_000


@pytest.mark.parametrize("step", [1000, READ_SIZE, LARGEST_READ])
def test_a_large_frame_among_small_ones_arrives_whole_from_any_reads(step: int) -> None:
    batch: list[Payload] = [b"a", bytes(range(256)) * 5000, [b"b", b"c" * 70_000], b"d"]
    wire = zmtp.encode(batch)
    assert decode(*(wire[i : i + step] for i in range(0, len(wire), step))) == batch


def test_wanted_grows_with_what_is_missing_and_is_bounded() -> None:
    decoder = Decoder()
    assert decoder.wanted == READ_SIZE
    for size, wanted in ((10, READ_SIZE), (200_000, 199_998), (2**40, LARGEST_READ)):
        decoder = Decoder()
        decoder.feed(b"\x02" + size.to_bytes(8, "big") + b"ab")
        assert drain(decoder) == []
        assert decoder.wanted == wanted


def test_large_frames_are_read_on_their_own_so_that_a_body_is_not_copied() -> None:
    size, decoder = READ_SIZE, Decoder()
    header, body = b"\x02" + size.to_bytes(8, "big"), bytes(size)
    stream, read = (header + body) * 3, 0
    for _ in range(3):  # the first read cannot know; from the second frame on, header and body come apart
        wanted = decoder.wanted
        decoder.feed(stream[read : read + wanted])
        read += wanted
        drain(decoder)
    assert decoder.wanted == size
    decoder.feed(body)
    assert drain(decoder)[0] is body


@pytest.mark.parametrize("next_frame", [b"\x00\x07small 7", b"\x02" + (100).to_bytes(8, "big") + bytes(100)])
def test_reads_are_as_usual_again_once_a_frame_is_small(next_frame: bytes) -> None:
    decoder = Decoder()
    decoder.feed(b"\x02" + (200_000).to_bytes(8, "big"))
    assert drain(decoder) == []
    decoder.feed(bytes(200_000))
    assert drain(decoder) == [bytes(200_000)]
    assert decoder.wanted == 9
    decoder.feed(next_frame[:9])
    got = drain(decoder)
    assert decoder.wanted == READ_SIZE
    decoder.feed(next_frame[9:])
    assert [*got, *drain(decoder)] == zmtp.decode_all(next_frame)


def holds_nothing(decoder: Decoder) -> bool:
    assert decoder.at_message_boundary == (decoder.partial_bytes == 0)
    return decoder.at_message_boundary


@pytest.mark.parametrize("held", [b"\x00", b"\x00\x02a", b"\x01\x01a", b"\x02\x00\x00"])
def test_a_message_boundary_is_where_nothing_is_held(held: bytes) -> None:
    decoder = Decoder()
    assert holds_nothing(decoder)
    decoder.feed(b"\x00\x01x")
    assert not holds_nothing(decoder)  # whole, but nobody has taken it
    assert drain(decoder) == [b"x"]
    assert holds_nothing(decoder)
    decoder.feed(held)
    assert drain(decoder) == []
    assert not holds_nothing(decoder)


def test_an_idle_decoder_keeps_nothing_of_what_it_gave_out() -> None:
    decoder = Decoder()
    decoder.feed(b"".join([b"\x00\x01a"] * 20_000) + b"\x00")
    drain(decoder)
    assert sum(sys.getsizeof(getattr(decoder, name)) for name in Decoder.__slots__) < 1000


def test_small_limits_do_not_copy_the_buffer_at_each_call() -> None:
    """Without a position a buffer of n tiny frames costs n²: here 300,000 copies of up to 1 MiB, minutes."""
    wire = b"\x00\x00" * 300_000 + b"\x01\x00\x00\x00" * 50_000 + b"\x04\x00" * 50_000
    decoder = Decoder()
    decoder.feed(wire)
    tracemalloc.start()
    try:
        out: list[Payload] = []
        commands = 0
        for _ in range(1000):
            commands += decoder.decode(1, out) is not None
        assert (len(out), commands) == (1000, 0)
        assert tracemalloc.get_traced_memory()[1] < 100_000  # one copy would be a million
    finally:
        tracemalloc.stop()
    assert len(drain(decoder, limit=1)) == 300_000 + 50_000 + 50_000 - 1000


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from([None, 0, 20, 300]), st.sampled_from([None, 1, 3]))
def test_any_bytes_give_messages_or_a_protocol_error(
    pieces: list[bytes], max_message_size: int | None, max_frames: int | None
) -> None:
    decoder = Decoder(max_message_size, max_frames)
    try:
        found = decode(*pieces, decoder=decoder)
    except RemoteProtocolError:
        return
    for message in found:
        assert max_message_size is None or not isinstance(message, bytes) or len(message) <= max_message_size
        assert max_frames is None or not isinstance(message, list) or len(message) <= max_frames


@given(st.binary(max_size=60), st.integers(0, 60), st.sampled_from([None, 20]), st.sampled_from([None, 1, 3]))
def test_any_bytes_give_the_same_whatever_the_cut(
    data: bytes, cut: int, max_message_size: int | None, max_frames: int | None
) -> None:
    def outcome(*pieces: bytes) -> tuple[list[Payload], str]:
        decoder, out = Decoder(max_message_size, max_frames), list[Payload]()
        try:
            for piece in pieces:
                decoder.feed(piece)
                while decoder.decode(1000, out) is not None:
                    pass
        except RemoteProtocolError as error:
            return out, str(error)
        return out, f"{decoder.partial_bytes} held"

    assert outcome(data) == outcome(data[:cut], data[cut:])
