"""What may be metadata, and what users are given back."""

from __future__ import annotations

import sys
from typing import Any

import grpc.aio
import pytest

from trio_mq_grpc._blocks import Head, decode_head, encode_head
from trio_mq_grpc._metadata import (
    Metadatum,
    as_invocation_metadata,
    as_metadata,
    checked_metadata,
    metadata_size,
)

ENTRIES = (("a", "1"), ("b-bin", b"\0\xff"), ("a", "2"))


@pytest.mark.parametrize(
    "metadata",
    [
        ENTRIES,
        list(ENTRIES),
        [list(entry) for entry in ENTRIES],
        as_invocation_metadata(ENTRIES),
        iter(ENTRIES),
    ],
    ids=["tuple", "list", "list of lists", "invocation metadata", "iterator"],
)
def test_pairs_of_any_kind_are_taken_in_their_order(metadata: Any) -> None:
    checked = checked_metadata(metadata)
    assert checked == ENTRIES
    assert {type(entry) for entry in checked} == {tuple}


def test_a_metadata_object_gives_its_pairs_not_its_lists_of_values() -> None:
    # grpc.aio.Metadata.items() gives (key, [values]); only iterating gives pairs, those of one key together.
    assert checked_metadata(as_metadata(ENTRIES)) == (("a", "1"), ("a", "2"), ("b-bin", b"\0\xff"))


@pytest.mark.parametrize("metadata", [None, (), [], {}, grpc.aio.Metadata()], ids=repr)
def test_nothing_is_no_metadata(metadata: Any) -> None:
    assert checked_metadata(metadata) == ()


@pytest.mark.parametrize(
    "metadata", [5, "text", b"bytes", {"a": "b"}, ["ab"], [("a",)], [("a", "b", "c")], [5]], ids=repr
)
def test_what_is_no_sequence_of_pairs_is_a_type_error(metadata: Any) -> None:
    with pytest.raises(TypeError, match="pairs"):
        checked_metadata(metadata)


def test_a_dict_is_told_how_to_become_pairs() -> None:
    with pytest.raises(TypeError, match=r"tuple\(metadata\.items\(\)\)"):
        checked_metadata({"a": "b"})


@pytest.mark.parametrize("key", [b"a", 5, None, ["a"]], ids=repr)
def test_a_key_that_is_no_str_is_a_type_error(key: Any) -> None:
    with pytest.raises(TypeError, match="key"):
        checked_metadata([(key, "value")])


@pytest.mark.parametrize("key", ["", "Upper", "with space", ":path", "ümlaut", "line\n", "a\0"])
def test_a_key_that_http2_could_not_carry_is_a_value_error(key: str) -> None:
    for _ in range(2):  # the second time, too: what is remembered is what was right
        with pytest.raises(ValueError, match="no metadata key"):
            checked_metadata([(key, "value")])


@pytest.mark.parametrize("value", ["ü", "line\nline", "\t", "\x7f", "\0", b"\xff"], ids=repr)
def test_a_text_value_that_is_not_printable_ascii_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        checked_metadata([("key", value)])


@pytest.mark.parametrize("value", [5, None, ["a"], 1.5], ids=repr)
def test_a_value_of_another_type_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="is a str"):
        checked_metadata([("key", value)])
    with pytest.raises(TypeError, match="is bytes"):
        checked_metadata([("key-bin", value)])


def test_a_binary_key_refuses_str() -> None:
    with pytest.raises(TypeError, match="is bytes"):
        checked_metadata([("key-bin", "text")])


def test_a_text_key_takes_ascii_bytes_as_text() -> None:
    assert checked_metadata([("key", b"value")]) == (("key", "value"),)


def test_a_binary_value_is_copied_out_of_what_may_change() -> None:
    buffer = bytearray(b"abc")
    checked = checked_metadata([("key-bin", buffer), ("other-bin", memoryview(buffer))])
    buffer[0] = 0
    assert checked == (("key-bin", b"abc"), ("other-bin", b"abc"))


@pytest.mark.parametrize("value", ["", " outer spaces ", "~!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}"])
def test_empty_and_spaced_values_are_kept(value: str) -> None:
    assert checked_metadata([("key", value)]) == (("key", value),)


@pytest.mark.parametrize("key", ["te", "content-type", "user-agent"])
def test_keys_that_grpcio_drops_are_dropped(key: str) -> None:
    assert checked_metadata([(key, "x"), ("kept", "y")]) == (("kept", "y"),)


@pytest.mark.parametrize(
    "key", ["grpc-timeout", "grpc-status", "grpc-message", "grpc-encoding", "grpc-accept-encoding"]
)
def test_keys_that_have_a_typed_field_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="belongs to gRPC"):
        checked_metadata([(key, "x")])


@pytest.mark.parametrize(
    "entry",
    [
        ("grpc-foo", "x"),
        ("host", "x"),
        ("connection", "x"),
        ("grpc-previous-rpc-attempts", "1"),
        ("grpc-retry-pushback-ms", "100"),
        ("grpc-trace-bin", b"\0"),
        ("grpc-tags-bin", b"\0"),
        ("grpc-status-details-bin", b"\0"),
    ],
)
def test_other_keys_of_grpc_pass(entry: tuple[str, Any]) -> None:
    assert checked_metadata([entry]) == (entry,)


def test_whatever_is_accepted_arrives() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if code > 0x180 and code % 997:
            continue
        for entry in ((character, "v"), ("k", character), ("k-bin", character.encode("utf-8", "surrogatepass"))):
            try:
                checked = checked_metadata([entry])
            except ValueError:
                continue
            assert decode_head(encode_head(Head(checked))).metadata == (entry,)


def test_a_size_is_names_values_and_32_bytes_an_entry() -> None:
    assert metadata_size(()) == 0
    assert metadata_size(ENTRIES) == (1 + 1 + 32) * 2 + (5 + 2 + 32)


def test_invocation_metadata_has_names_for_both_halves() -> None:
    first = as_invocation_metadata(ENTRIES)[0]
    assert (first.key, first.value) == ("a", "1")
    assert tuple(first) == ("a", "1")
    assert first == Metadatum("a", "1")


def test_each_metadata_object_is_the_users_own() -> None:
    first, second = as_metadata(ENTRIES), as_metadata(ENTRIES)
    first["a"] = "changed"
    assert tuple(second) == (("a", "1"), ("a", "2"), ("b-bin", b"\0\xff"))
