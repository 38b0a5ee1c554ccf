"""The public page of the wire format says what the code does: its bytes, its table of combinations, its numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import pytest

from trio_mq_grpc import _flow, _wire
from trio_mq_grpc.v1 import blocks_pb2

PAGE = (Path(__file__).resolve().parents[3] / "proto" / "README.md").read_text(encoding="utf-8")
HEADER = Struct(">BBHIQ")
GREETING = 0x1A2B3C4D_00000001

SECTION = PAGE.partition("\n## Header")[2].partition("\n## ")[0]
FLAG = {
    name: int(value, 16) for value, name in re.findall(r"^\| (0x[0-9a-f]{4}) \| ([A-Z_]+) \|", SECTION, re.MULTILINE)
}
TYPE = {name: int(value) for value, name in re.findall(r"^\| (\d) \| ([A-Z]+) \|", SECTION, re.MULTILINE)}


def message(*frames: bytes) -> list[bytes]:
    return [b"", *frames]


def header(kind: str, flags: str, value: int, call_id: int) -> bytes:
    return HEADER.pack(0xA1, TYPE[kind], sum(FLAG[name] for name in flags.split()), value, call_id)


HEAD = blocks_pb2.Head(metadata=[blocks_pb2.Entry(key="user", value=b"ada")], timeout_us=1_500_000)
TOPIC = b"/demo.Tick\0x"

MESSAGES = [
    message(
        header("CALL", "HEAD MSG END", 0, GREETING),
        b"/demo.Greeter/Hello",
        HEAD.SerializeToString(),
        b"\x0a\x04trio",
    ),
    message(header("DATA", "MSG END STATUS", 0, GREETING), b"\x0a\x0aHello trio", b""),
    message(header("DATA", "END STATUS", 0, GREETING), blocks_pb2.Status(code=5, text="nobody").SerializeToString()),
    message(header("CREDIT", "", 131_072, GREETING)),
    message(header("RESET", "", 0, GREETING)),
    message(header("GOAWAY", "", 0, 0), blocks_pb2.Goaway(last_call_id=GREETING, text="stop").SerializeToString()),
    message(header("DATA", "MSG FRAG", 1, GREETING + 1), (10).to_bytes(4, "big"), b"012345"),
    message(header("DATA", "MSG END", 2, GREETING + 1), b"6789"),
    [TOPIC, header("EVENT", "MSG", 1, 0xCAFE0001_00000000), b"\x08\x01"],
]
"""What the page shows under "Bytes to compare with", in its order, made by protobuf."""


def messages_of_the_page() -> Iterator[list[bytes]]:
    for block in re.findall(r"^```frames\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        yield [bytes.fromhex(line[:39]) for line in block.splitlines()]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_the_bytes_of_the_page_are_those_that_protobuf_writes(number: int) -> None:
    assert list(messages_of_the_page())[number] == MESSAGES[number]


def test_the_page_shows_no_other_bytes() -> None:
    assert len(list(messages_of_the_page())) == len(MESSAGES)


# --- the table of legal combinations ---------------------------------------------------------------------------------


def rows() -> Iterator[tuple[str, str, str]]:
    table = PAGE.partition("\n## Legal combinations")[2].partition("\n## ")[0]
    yield from re.findall(r"^\| ((?:[A-Z]+(?:, )?)+) \| (\w*) \| ([A-Z_\[\] ]+|none) \|", table, re.MULTILINE)


def combinations(text: str) -> Iterator[int]:
    """All values of flags that a cell of the table stands for."""
    names = [] if text == "none" else text.split()
    for chosen in itertools.product(*[(0, FLAG[n[1:-1]]) if n[0] == "[" else (FLAG[n],) for n in names]):
        yield sum(chosen)


def legal_on_the_page(sender: str) -> set[tuple[int, int]]:
    legal = set()
    for types, who, cell in rows():
        if who in (sender, "both", "publisher"):
            legal |= {(TYPE[kind], flags) for kind in types.split(", ") for flags in combinations(cell)}
    cut = {(kind, flags | FLAG["FRAG"]) for kind, flags in legal if kind <= TYPE["DATA"] and can_be_cut(flags)}
    return legal | cut


def can_be_cut(flags: int) -> bool:
    return bool(flags & FLAG["MSG"]) and not flags & (FLAG["END"] | FLAG["STATUS"])


def test_the_table_has_every_type() -> None:
    assert {kind for types, _, _ in rows() for kind in types.split(", ")} == set(TYPE)


def test_whatever_the_page_calls_legal_is_accepted() -> None:
    assert legal_on_the_page("initiator") | legal_on_the_page("acceptor") <= _wire.LEGAL


def test_whatever_is_accepted_is_legal_on_the_page_but_for_what_depends_on_the_direction() -> None:
    # The code has one table for both directions. HEAD is an acceptor's, END without STATUS an initiator's.
    of_both = {(kind, flags) for kind, flags in _wire.LEGAL if kind == _wire.DATA and ends_with_a_head(flags)}
    assert _wire.LEGAL - of_both == legal_on_the_page("initiator") | legal_on_the_page("acceptor")


def ends_with_a_head(flags: int) -> bool:
    return flags & (_wire.HEAD | _wire.END | _wire.STATUS) == _wire.HEAD | _wire.END


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TYPE, *FLAG])
def test_types_and_flags_have_the_numbers_of_the_page(name: str) -> None:
    assert getattr(_wire, name) == {**TYPE, **FLAG}[name]


def test_the_header_is_that_of_the_page() -> None:
    assert _wire.pack(_wire.DATA, _wire.MSG, 7, GREETING) == header("DATA", "MSG", 7, GREETING)


def test_the_example_of_credit_comes_out_as_on_the_page() -> None:
    sender, receiver = _flow.SendWindow(262_144), _flow.ReceiveWindow(262_144)
    totals, sent = [], 0
    for _ in range(2):
        while sender.balance > 0:
            sender.charge(65_472)
            receiver.arrived(65_472)
            sent += 1
        grants = [receiver.taken(65_472) for _ in range(2)]
        assert grants[0] is None
        assert grants[1] is not None
        totals.append(grants[1])
        sender.grant(grants[1])
    assert (sent, totals) == (6, [131_072, 262_144])
    assert [int(number.replace(",", "")) for number in re.findall(r"CREDIT ([\d,]+)", PAGE)[:2]] == totals


def test_the_announcement_of_the_page_is_read() -> None:
    shown = re.search(r"^X-TMQ-RPC: (.*)$", PAGE, re.MULTILINE)
    assert shown
    read = _wire.read_announcement(shown[1])
    assert read == _wire.Announcement(0x1A2B3C4D, 262_144, 4_194_304, ("gzip", "deflate"), fragments=True)
    assert _wire.announce(read) == shown[1]
