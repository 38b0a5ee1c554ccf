"""What is published, as frames and as one body, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq_grpc._numbers import Numbers
from trio_mq_grpc._published import (
    Published,
    body_of,
    checked_key,
    frames_of,
    from_body,
    from_frames,
    header_of,
    path_of,
    topic_of,
)
from trio_mq_grpc._wire import Breach

U32 = st.integers(0, 0xFFFFFFFF)
PUBLISHED = st.builds(
    Published,
    st.binary(max_size=40).filter(lambda path: b"\0" not in path).map(lambda path: b"/" + path),
    st.binary(max_size=40),
    U32,
    st.builds(Numbers, U32, U32),
    st.none() | st.binary(max_size=40),
    st.binary(max_size=100),
)


def header(published: Published) -> bytes:
    return header_of(published.epoch, published.numbers, published.head)


@given(PUBLISHED)
def test_what_goes_out_over_pub_comes_in_over_sub(published: Published) -> None:
    topic = topic_of(published.path, published.key)
    assert from_frames(frames_of(topic, header(published), published.head, published.payload)) == published


@given(PUBLISHED)
def test_what_goes_out_over_radio_comes_in_over_dish(published: Published) -> None:
    body = body_of(published.key, header(published), published.head, published.payload)
    assert from_body(published.path, body) == published


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_frames_are_read_or_refused(frames: list[bytes]) -> None:
    try:
        from_frames(frames)
    except Breach:
        pass


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_body_is_read_or_refused(body: bytes, group: bytes) -> None:
    try:
        from_body(b"/" + group, bytes.fromhex("a1090003") + body)
    except Breach:
        pass


def test_the_frames_are_those_of_the_wire_page() -> None:
    topic = topic_of(b"/demo.Tick", b"x")
    frames = frames_of(topic, header_of(0xCAFE0001, Numbers(1, 0), None), None, b"\x08\x01")
    assert frames == [b"/demo.Tick\0x", bytes.fromhex("a109000200000001cafe000100000000"), b"\x08\x01"]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"/a\0", bytes(16)],
        [b"/a", bytes.fromhex("a109000200000001cafe000100000000"), b""],
        [b"a\0", bytes.fromhex("a109000200000001cafe000100000000"), b""],
        [b"/a\0", bytes.fromhex("a109000200000001cafe0001000000"), b""],
        [b"/a\0", bytes.fromhex("a209000200000001cafe000100000000"), b""],
        [b"/a\0", bytes.fromhex("a101000200000001cafe000100000000"), b""],
        [b"/a\0", bytes.fromhex("a109000300000001cafe000100000000"), b""],
        [b"/a\0", bytes.fromhex("a109000200000001cafe000100000000"), b"", b""],
        [b"/a\0", bytes.fromhex("a109002200000001cafe000100000000"), b""],
        [b"/a\0", bytes.fromhex("a109001300000001cafe000100000000"), b"", b""],
    ],
)
def test_what_is_not_by_the_rules_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(Breach):
        from_frames(frames)


def test_a_key_is_bytes_and_not_endless() -> None:
    assert checked_key(b"x") == b"x"
    with pytest.raises(TypeError):
        checked_key("x")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="at most"):
        checked_key(bytes(70_000))


def test_only_generated_classes_are_types_of_events() -> None:
    with pytest.raises(TypeError, match="generated"):
        path_of(int)
