"""Units of TMQ-RPC 1: which are legal, how they are cut, what peers announce of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq_grpc._wire import (
    CALL,
    COMPRESSED,
    CREDIT,
    DATA,
    END,
    EVENT,
    FRAG,
    GOAWAY,
    HEAD,
    HEADER,
    LEGAL,
    LEVEL_0,
    MAGIC,
    MSG,
    NOT_PROCESSED,
    RESET,
    STATUS,
    Announcement,
    Breach,
    announce,
    check_flags,
    cut,
    envelope_end,
    pack,
    read_announcement,
)


def test_a_header_has_sixteen_bytes_in_network_order() -> None:
    header = pack(DATA, MSG | END, 7, 0x1A2B3C4D_00000001)
    assert header == bytes.fromhex("a1 02 0006 00000007 1a2b3c4d00000001")
    assert HEADER.unpack(header) == (MAGIC, DATA, MSG | END, 7, 0x1A2B3C4D_00000001)


def test_a_sequence_number_wraps_at_32_bits() -> None:
    assert HEADER.unpack(pack(DATA, MSG, 1 << 32, 1))[3] == 0


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (CALL, 0),
        (CALL, HEAD),
        (CALL, MSG | END),
        (CALL, HEAD | MSG | COMPRESSED | END),
        (CALL, MSG | FRAG),
        (DATA, MSG),
        (DATA, END),
        (DATA, HEAD),
        (DATA, MSG | STATUS | END),
        (DATA, STATUS | END),
        (DATA, STATUS | END | NOT_PROCESSED),
        (RESET, 0),
        (RESET, STATUS | NOT_PROCESSED),
        (CREDIT, 0),
        (GOAWAY, 0),
        (EVENT, MSG),
        (DATA, MSG | 0x8000),
    ],
)
def test_these_go_together(kind: int, flags: int) -> None:
    check_flags(kind, flags)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (DATA, 0),
        (DATA, STATUS),  # a status is the end
        (CALL, STATUS | END),
        (DATA, COMPRESSED),  # of what?
        (CALL, FRAG),
        (DATA, MSG | FRAG | END),  # the end comes with the last piece
        (DATA, MSG | FRAG | STATUS | END),
        (DATA, MSG | NOT_PROCESSED),
        (RESET, NOT_PROCESSED),
        (RESET, MSG),
        (CREDIT, MSG),
        (CALL, 0x40),  # no meaning yet, and critical
        (CALL, MSG | END | 0x0100),
        (5, 0),
        (99, 0),
    ],
)
def test_these_do_not_go_together(kind: int, flags: int) -> None:
    with pytest.raises(Breach, match="not legal"):
        check_flags(kind, flags)


def test_frames_come_in_one_order_as_the_flags_say() -> None:
    flags = HEAD | MSG | FRAG
    unit = cut([b"header", b"/a/b", b"head", b"\0\0\0\x09", b"piece"], CALL, flags, first_piece=True)
    assert (unit.method, unit.head, unit.size, unit.payload) == (b"/a/b", b"head", 9, b"piece")
    unit = cut([b"header", b"message", b"status"], DATA, MSG | STATUS | END, first_piece=True)
    assert (unit.head, unit.size, unit.payload, unit.status) == (None, None, b"message", b"status")


def test_later_pieces_have_no_size() -> None:
    assert cut([b"header", b"piece"], DATA, MSG | FRAG, first_piece=False).size is None


@given(st.sampled_from(sorted(LEGAL)), st.lists(st.binary(max_size=5), max_size=7), st.booleans())
def test_any_frames_are_cut_or_refused(pair: tuple[int, int], frames: list[bytes], first_piece: bool) -> None:
    kind, flags = pair
    wanted = 1 + (kind == CALL) + bool(flags & HEAD) + bool(flags & MSG) + bool(flags & STATUS)
    wanted += bool(flags & FRAG and first_piece)
    try:
        cut([b"header", *frames], kind, flags, first_piece=first_piece)
    except Breach:
        assert len(frames) + 1 != wanted or flags & FRAG
    else:
        assert len(frames) + 1 == wanted


def test_an_envelope_ends_behind_the_first_empty_frame() -> None:
    assert envelope_end([b"", b"header"]) == 1
    assert envelope_end([b"id", b"", b"header", b""]) == 2
    assert envelope_end([b"peer", b"client", b"", b"header"], 1) == 3


def test_an_envelope_may_be_as_long_as_the_limits_say() -> None:
    assert envelope_end([*[b"x"] * 8, b"", b"header"]) == 9
    assert envelope_end([b"x" * 1024, b"", b"header"]) == 2


@pytest.mark.parametrize(
    "frames", [[b"header"], [b"id", b""], [b"x"] * 9 + [b"", b"header"], [b"x" * 1025, b"", b"header"], []]
)
def test_what_has_no_envelope_has_none(frames: list[bytes]) -> None:
    assert envelope_end(frames) == 0


def test_an_announcement_is_read_as_it_was_written() -> None:
    full = Announcement(0x1A2B3C4D, 65536, 4194304, ("gzip", "deflate"), True)
    assert announce(full) == "1;e=1a2b3c4d;w=65536;m=4194304;c=gzip,deflate;frag"
    assert read_announcement(announce(full)) == full
    unlimited = Announcement(1, None)
    assert read_announcement(announce(unlimited)) == unlimited


@pytest.mark.parametrize("value", [None, "", "2;e=1", "1;w=many", "1;e=xyz", "nonsense"])
def test_a_peer_that_says_nothing_readable_is_of_level_0(value: str | None) -> None:
    assert read_announcement(value) == LEVEL_0


def test_unknown_fields_of_an_announcement_are_passed_over() -> None:
    assert read_announcement("1;new=thing;w=5;other").window == 5


def test_a_window_is_not_less_than_nothing() -> None:
    assert read_announcement("1;w=-5").window == 0


@given(st.text(max_size=40))
def test_no_announcement_can_do_harm(value: str) -> None:
    read_announcement(f"1;{value}")
