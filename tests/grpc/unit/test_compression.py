"""gzip and deflate, message by message, and never more than was allowed."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq_grpc._compression import (
    SUPPORTED,
    DecompressError,
    TooLarge,
    UnknownEncoding,
    compress,
    decompress,
    name_of,
)

ENCODINGS = ["", *SUPPORTED]


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        (None, ""),
        (grpc.Compression.NoCompression, ""),
        (grpc.Compression.Gzip, "gzip"),
        (grpc.Compression.Deflate, "deflate"),
    ],
)
def test_a_compression_has_its_name_on_the_wire(compression: grpc.Compression | None, name: str) -> None:
    assert name_of(compression) == name


@pytest.mark.parametrize("compression", ["gzip", 7, []], ids=repr)
def test_what_is_no_compression_is_a_value_error(compression: Any) -> None:
    with pytest.raises(ValueError, match=r"grpc\.Compression"):
        name_of(compression)


@pytest.mark.parametrize("name", ENCODINGS)
@given(data=st.binary(max_size=2000))
def test_what_is_compressed_comes_back(name: str, data: bytes) -> None:
    for given_as in (data, bytearray(data), memoryview(data)):
        assert decompress(name, compress(name, given_as), len(data)) == data
    assert decompress(name, memoryview(compress(name, data)), None) == data


def test_the_formats_are_those_of_gzip_and_zlib() -> None:
    data = b"abc" * 100
    assert gzip.decompress(compress("gzip", data)) == data
    assert zlib.decompress(compress("deflate", data)) == data
    assert decompress("gzip", gzip.compress(data), None) == data
    assert decompress("deflate", zlib.compress(data), None) == data


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("limit", [0, 1, 1000])
def test_the_limit_is_what_a_message_may_have(name: str, limit: int) -> None:
    assert decompress(name, compress(name, bytes(limit)), limit) == bytes(limit)
    with pytest.raises(TooLarge) as caught:
        decompress(name, compress(name, bytes(limit + 1)), limit)
    assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
    assert f"({limit + 1} vs. {limit})" in str(caught.value)


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_bomb_costs_what_a_message_may_cost(name: str) -> None:
    bomb = compress(name, bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(name, bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_several_gzip_members_are_refused() -> None:
    with pytest.raises(DecompressError, match="follow the end"):
        decompress("gzip", gzip.compress(b"one") + gzip.compress(b"two"), 1000)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "followed", "flipped"])
def test_a_damaged_message_is_refused(name: str, damage: str) -> None:
    good = compress(name, b"some text, and some more text" * 10)
    bad = {
        "cut": good[:-1],
        "empty": b"",
        "garbage": b"no compressed data at all",
        "followed": good + b"\0",
        "flipped": good[:-6] + bytes([good[-6] ^ 1]) + good[-5:],
    }[damage]
    with pytest.raises(DecompressError, match=name):
        decompress(name, bad, 10_000)


@pytest.mark.parametrize("name", ["br", "identity", "GZIP", "x" * 10_000])
def test_an_unknown_encoding_says_which_are_known(name: str) -> None:
    with pytest.raises(UnknownEncoding, match="gzip, deflate") as caught:
        decompress(name, b"", 10)
    assert len(str(caught.value)) < 200
    with pytest.raises(UnknownEncoding):
        compress(name, b"")
