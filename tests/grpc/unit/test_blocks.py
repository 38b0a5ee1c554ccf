"""The hand-written control blocks, with protobuf as the judge: the same bytes out, the same values in."""

from __future__ import annotations

import string

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from trio_mq_grpc._blocks import (
    EMPTY_HEAD,
    MAX_BLOCK,
    MAX_TEXT,
    Entry,
    Head,
    MetadataTooLarge,
    decode_goaway,
    decode_head,
    decode_status,
    encode_goaway,
    encode_head,
    encode_status,
)
from trio_mq_grpc.v1 import blocks_pb2

PRINTABLE = st.text(string.printable[:95], max_size=200)
KEYS = st.text(string.ascii_lowercase + string.digits + "-_.", min_size=1, max_size=150)
TEXT_ENTRIES = st.tuples(KEYS.filter(lambda key: not key.endswith("-bin")), PRINTABLE)
BINARY_ENTRIES = st.tuples(KEYS.map("{}-bin".format), st.binary(max_size=300))
ENTRIES = st.lists(TEXT_ENTRIES | BINARY_ENTRIES, max_size=6).map(tuple)
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)

HEADS = st.builds(
    Head,
    metadata=ENTRIES,
    timeout_us=st.none() | st.integers(1, 2**64 - 1),
    encoding=PRINTABLE,
    accept=st.lists(PRINTABLE, max_size=3).map(tuple),
    attempts=U32,
    authority=PRINTABLE,
    expires_unix_us=U64 | st.just(0),
    user_agent=PRINTABLE,
)


def octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def judge_entries(entries: tuple[Entry, ...]) -> list[blocks_pb2.Entry]:
    return [blocks_pb2.Entry(key=key, value=octets(value)) for key, value in entries]


def judge_head(head: Head) -> blocks_pb2.Head:
    return blocks_pb2.Head(
        metadata=judge_entries(head.metadata),
        timeout_us=head.timeout_us,
        encoding=head.encoding,
        accept=head.accept,
        attempts=head.attempts,
        authority=head.authority,
        expires_unix_us=head.expires_unix_us,
        user_agent=head.user_agent,
    )


def judge_status(code: int, text: str, trailers: tuple[Entry, ...]) -> blocks_pb2.Status:
    return blocks_pb2.Status(code=code, text=text, trailers=judge_entries(trailers))


def same_entries(read: tuple[Entry, ...], judged: object) -> bool:
    return [(key, octets(value)) for key, value in read] == [(e.key, e.value) for e in judged]  # type: ignore[attr-defined]  # a container of entries


def same_head(read: Head, judged: blocks_pb2.Head) -> bool:
    return same_entries(read.metadata, judged.metadata) and read[1:] == (
        judged.timeout_us if judged.HasField("timeout_us") else None,
        judged.encoding,
        tuple(judged.accept),
        judged.attempts,
        judged.authority,
        judged.expires_unix_us,
        judged.user_agent,
    )


@given(HEADS)
def test_a_head_is_written_as_protobuf_writes_it(head: Head) -> None:
    assert encode_head(head) == judge_head(head).SerializeToString(deterministic=True)


@given(HEADS)
def test_a_head_that_protobuf_wrote_is_read_back(head: Head) -> None:
    assert decode_head(judge_head(head).SerializeToString(), limit=2**20) == head


@given(st.integers(0, 2**32 - 1), st.text(max_size=300), ENTRIES)
def test_a_status_is_written_and_read_as_protobuf_does(code: int, text: str, trailers: tuple[Entry, ...]) -> None:
    judged = judge_status(code, text, trailers).SerializeToString(deterministic=True)
    assert encode_status(code, text, trailers) == judged
    assert decode_status(judged) == (code, text, trailers)


@given(U64, st.text(max_size=300))
def test_a_goaway_is_written_and_read_as_protobuf_does(last_call_id: int, text: str) -> None:
    judged = blocks_pb2.Goaway(last_call_id=last_call_id, text=text).SerializeToString(deterministic=True)
    assert encode_goaway(last_call_id, text) == judged
    assert decode_goaway(judged) == (last_call_id, text)


def test_nothing_to_say_takes_no_bytes() -> None:
    assert encode_head(EMPTY_HEAD) == b""
    assert encode_status(0) == b""
    assert encode_goaway(0) == b""
    assert decode_head(b"") is EMPTY_HEAD
    assert decode_status(b"") == (0, "", ())
    assert decode_goaway(b"") == (0, "")


@pytest.mark.parametrize("timeout_us", [0, -1, -(10**9)])
def test_a_timeout_that_has_passed_is_written_as_one_microsecond(timeout_us: int) -> None:
    assert decode_head(encode_head(Head(timeout_us=timeout_us))).timeout_us == 1


def test_a_timeout_of_zero_is_not_the_same_as_none() -> None:
    assert decode_head(b"\x10\x00").timeout_us == 0
    assert decode_head(b"\x1a\x04gzip").timeout_us is None


@given(st.lists(HEADS, min_size=2, max_size=3))
def test_heads_one_after_the_other_are_one_head_as_protobuf_merges_them(heads: list[Head]) -> None:
    data = b"".join(map(encode_head, heads))
    assert same_head(decode_head(data, limit=2**20), blocks_pb2.Head.FromString(data))


UNKNOWN = {
    "a varint of a reserved number": b"\x28\xff\xff\xff\xff\x0f",
    "eight bytes": b"\x59" + bytes(8),
    "four bytes": b"\x5d" + bytes(4),
    "a string": b"\x62\x03abc",
    "a big number": b"\xf8\xff\xff\xff\x0f\x01",
    "a group": b"\x63\x10\x05\x6b\x08\x01\x6c\x64",
    "a known number with another wire type": b"\x0d" + bytes(4),
    "an entry as a varint": b"\x08\x01",
    "a timeout as a string": b"\x12\x01a",
}


@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_unknown_fields_are_skipped_wherever_they_are(unknown: bytes) -> None:
    head = Head((("a", "b"), ("c-bin", b"\0")), 5, "gzip", ("gzip",), 1, "here", 7, "me")
    written = [encode_head(Head(head.metadata)), encode_head(Head((), 5)), encode_head(Head((), None, *head[2:]))]
    for place in range(4):
        data = b"".join([*written[:place], unknown, *written[place:]])
        blocks_pb2.Head.FromString(data)
        assert decode_head(data) == head


def test_unknown_fields_of_an_entry_are_skipped() -> None:
    for content in (b"\x0a\x01k\x12\x01v\x1a\x01x", b"\x1a\x01x\x0a\x01k\x12\x01v", b"\x12\x01v\x18\x05\x0a\x01k"):
        data = b"\x0a" + bytes([len(content)]) + content
        assert decode_head(data).metadata == (("k", "v"),)
        assert decode_status(b"\x1a" + data[1:])[2] == (("k", "v"),)


def test_the_last_of_two_values_counts() -> None:
    assert decode_head(b"\x0a\x09\x0a\x01k\x12\x01v\x0a\x01l").metadata == (("l", "v"),)
    assert decode_head(b"\x10\x05\x1a\x01x\x10\x06\x1a\x01y")[:3] == ((), 6, "y")


@given(st.binary(max_size=60))
@example(b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")
@example(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"\x8a\x80\x80\x80\x00\x02\x0a\x00")
@example(b"\x0a\x06\x0a\x01a\x12\x01")
@example(b"\x0a\x05\x0a\x81\x00a\x12\x00")
@example(b"\x63\x64")
@example(b"\x63\x6c")
def test_any_bytes_are_a_head_as_protobuf_reads_it_or_a_value_error(data: bytes) -> None:
    try:
        head = decode_head(data)
    except ValueError:
        return
    assert same_head(head, blocks_pb2.Head.FromString(data))


SHAPED = st.lists(
    st.one_of(
        st.sampled_from([encode_head(Head((("key", "value"), ("k-bin", b"v")), 9, "gzip", ("gzip",), 3, "a", 8, "u"))]),
        st.sampled_from(sorted(UNKNOWN.values())),
        HEADS.map(encode_head),
    ),
    min_size=1,
    max_size=4,
).map(b"".join)


@given(SHAPED, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3), st.integers(0, 8))
def test_a_damaged_head_is_one_as_protobuf_reads_it_or_a_value_error(
    data: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(data)
    for place, octet in damage:
        if damaged:
            damaged[place % len(damaged)] = octet
    data = bytes(damaged)[: len(damaged) - cut]
    try:
        head = decode_head(data)
    except ValueError:
        return
    assert same_head(head, blocks_pb2.Head.FromString(data))


@given(st.binary(max_size=60) | st.builds(encode_status, U32, st.text(max_size=9), ENTRIES).map(lambda data: data[:-1]))
def test_any_bytes_are_a_status_as_protobuf_reads_it_or_a_value_error(data: bytes) -> None:
    try:
        code, text, trailers = decode_status(data)
    except ValueError:
        return
    try:
        judged = blocks_pb2.Status.FromString(data)
    except DecodeError:
        assert "�" in text  # text that is no UTF-8 is the one thing that is mended
        return
    assert (code, text) == (judged.code, judged.text)
    assert same_entries(trailers, judged.trailers)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_goaway_or_a_value_error(data: bytes) -> None:
    try:
        last_call_id, _ = decode_goaway(data)
    except ValueError:
        return
    assert 0 <= last_call_id < 2**64


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05\x0a\x01k\x12",
        b"\x10",
        b"\x10\x80",
        b"\x10" + b"\x80" * 10 + b"\x01",
        b"\x1a\x05gzi",
        b"\x07",
        b"\x00\x00",
        b"\x5d\x00\x00",
        b"\x64",
        b"\x63",
        b"\x1a\x02\xff\xff",
        b"\x80\x80\x80\x80\x80\x01",
    ],
    ids=lambda data: data.hex(),
)
def test_what_is_no_protobuf_is_a_value_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        blocks_pb2.Head.FromString(data)
    with pytest.raises(ValueError):
        decode_head(data)


@pytest.mark.parametrize("key", ["", "Upper", "a b", ":path", "ümlaut", "new\nline", "a" * 200 + "!", "nul\0"])
def test_a_key_that_http2_could_not_carry_is_refused_on_receipt(key: str) -> None:
    data = blocks_pb2.Head(metadata=[blocks_pb2.Entry(key=key, value=b"v")]).SerializeToString()
    with pytest.raises(ValueError, match="no metadata key"):
        decode_head(data)


@pytest.mark.parametrize("value", [b"\0", b"new\nline", "ü".encode(), b"\x7f", b"\xff", b"\t", b"x" * 300 + b"\r"])
def test_a_text_value_that_is_not_printable_ascii_is_refused_on_receipt(value: bytes) -> None:
    entry = blocks_pb2.Entry(key="key", value=value)
    with pytest.raises(ValueError, match="not printable ASCII"):
        decode_head(blocks_pb2.Head(metadata=[entry]).SerializeToString())
    with pytest.raises(ValueError, match="not printable ASCII"):
        decode_status(blocks_pb2.Status(trailers=[entry]).SerializeToString())


@pytest.mark.parametrize("field", ["encoding", "authority", "user_agent"])
def test_text_of_a_head_that_is_not_printable_ascii_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} of a Head"):
        decode_head(blocks_pb2.Head(**{field: "line\nline"}).SerializeToString())  # type: ignore[arg-type]  # one field


def test_empty_and_spaced_values_are_kept() -> None:
    metadata = (("a", ""), ("b", " x "), ("c-bin", b""))
    assert decode_head(encode_head(Head(metadata))).metadata == metadata


def test_a_head_over_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(MetadataTooLarge) as caught:
        decode_head(b"\xff" * (MAX_BLOCK + 1))
    assert (caught.value.size, caught.value.limit) == (MAX_BLOCK + 1, MAX_BLOCK)
    assert str(MAX_BLOCK + 1) in str(caught.value)
    assert str(MAX_BLOCK) in str(caught.value)


def test_entries_that_fit_the_block_are_refused_by_what_they_count() -> None:
    data = encode_head(Head((("k", ""),) * 500))
    assert len(data) < MAX_BLOCK
    with pytest.raises(MetadataTooLarge) as caught:
        decode_head(data)
    assert caught.value.size == 500 * 33


def test_entries_are_counted_exactly() -> None:
    data = encode_head(Head((("key", "value"),) * 3))
    assert decode_head(data, limit=120).metadata == (("key", "value"),) * 3
    with pytest.raises(MetadataTooLarge):
        decode_head(data, limit=119)


def test_trailers_over_the_limit_are_refused() -> None:
    with pytest.raises(MetadataTooLarge):
        decode_status(encode_status(2, "", (("k", ""),) * 500))
    with pytest.raises(MetadataTooLarge):
        decode_status(encode_status(2, "", (("k-bin", bytes(40_000)),)))


@pytest.mark.parametrize("character", ["x", "ü", "☺", "😈"])
def test_long_status_text_is_cut_between_characters_when_sent_and_when_received(character: str) -> None:
    text = "." + character * MAX_TEXT
    sent = decode_status(encode_status(2, text))[1]
    received = decode_status(blocks_pb2.Status(text=text[: MAX_TEXT // 2]).SerializeToString())[1]
    for cut in (sent, received):
        assert text.startswith(cut)
        assert len(cut.encode()) <= MAX_TEXT
    assert len(sent.encode()) > MAX_TEXT - 4


def test_a_status_is_not_lost_for_its_wording() -> None:
    assert decode_status(encode_status(2, "lone \ud800 surrogate")) == (2, "lone ? surrogate", ())
    assert decode_status(b"\x08\x02\x12\x03a\xffb") == (2, "a�b", ())


def test_an_overlong_goaway_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        decode_goaway(b"\x12\xff\xff\x01" + bytes(2**15 - 1))
