"""PGM packets, against those that OpenPGM wrote (tests/unit/vectors_pgm)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._pgm import Data, Nak, PacketError, Spm, Spmr, checksum, encode_packet, parse_packet

from ._pgm_vectors import CAPTURES, capture, synthetic

GSI = bytes.fromhex("b7c6d1bc038a")
HOST, GROUP = bytes((10, 77, 0, 1)), bytes((239, 192, 1, 1))


@pytest.mark.parametrize("name", CAPTURES)
def test_every_captured_packet_is_read_and_means_the_same_when_written_again(name: str) -> None:
    packets = capture(name)
    assert packets
    for each in packets:
        packet = parse_packet(each.packet)
        assert packet is not None
        assert parse_packet(encode_packet(packet)) == packet


@pytest.mark.parametrize("name", CAPTURES)
def test_what_openpgm_writes_we_write_byte_for_byte_but_for_the_byte_it_leaves_uninitialised(name: str) -> None:
    for each in capture(name):
        packet = parse_packet(each.packet)
        assert packet is not None
        written = encode_packet(packet)
        if isinstance(packet, Nak) and len(packet.sequences) > 1:
            place = len(written) - 4 * (len(packet.sequences) - 1) - 2  # the reserved byte of the list
            assert written[place] == 0
            patched = bytearray(written)
            patched[place] = each.packet[place]
            patched[6:8] = each.packet[6:8]
            written = bytes(patched)
        assert written == each.packet


def test_an_spm_tells_where_requests_go_and_what_is_kept() -> None:
    raw = bytes.fromhex("8bba15b30000c735b7c6d1bc038a00000000000000000000ffffffff000100000a4d0001")
    assert parse_packet(raw) == Spm(GSI, 35770, 5555, 0, 0, 0xFFFFFFFF, HOST)


def test_fin_is_an_option_of_an_spm() -> None:
    raw = encode_packet(Spm(GSI, 1, 2, 3, 4, 5, HOST, fin=True))
    assert raw[5] == 1
    assert raw.endswith(bytes.fromhex("000400088e040000"))
    packet = parse_packet(raw)
    assert isinstance(packet, Spm)
    assert packet.fin


def test_upstream_packets_carry_the_ports_the_other_way_round() -> None:
    for packet in (Nak(GSI, 0x1111, 0x2222, (7,), HOST, GROUP), Spmr(GSI, 0x1111, 0x2222)):
        raw = encode_packet(packet)
        assert raw[:4] == bytes.fromhex("22221111")
        assert parse_packet(raw) == packet
    assert encode_packet(Nak(GSI, 0x1111, 0x2222, (7,), HOST, GROUP, confirmed=True))[:4] == bytes.fromhex("11112222")


def test_a_request_can_name_sixty_three_numbers() -> None:
    numbers = tuple(range(63))
    packet = Nak(GSI, 1, 2, numbers, HOST, GROUP)
    assert parse_packet(encode_packet(packet)) == packet


@given(st.binary(max_size=1500))
def test_the_checksum_is_the_internet_checksum(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == (0xFFFF - total or 0xFFFF)


def test_a_checksum_that_comes_out_as_nothing_is_written_as_all_ones() -> None:
    packet = parse_packet(synthetic("odata_checksum_ffff"))
    assert packet is not None
    assert encode_packet(packet) == synthetic("odata_checksum_ffff")


def test_data_without_a_checksum_is_refused_and_a_request_without_one_is_not() -> None:
    with pytest.raises(PacketError, match="checksum"):
        parse_packet(synthetic("odata_no_checksum"))
    assert isinstance(parse_packet(synthetic("nak_no_checksum")), Nak)


@pytest.mark.parametrize("name", ["odata_syn", "odata_join"])
def test_options_that_mean_nothing_here_are_skipped(name: str) -> None:
    packet = parse_packet(synthetic(name))
    assert isinstance(packet, Data)
    assert packet.payload[2:] == b"\x06\x00first"


@pytest.mark.parametrize("name", ["fragment_0", "fragment_1"])
def test_fragments_are_refused(name: str) -> None:
    with pytest.raises(PacketError, match="fragment"):
        parse_packet(synthetic(name))


@pytest.mark.parametrize("name", ["offset_past_end", "one_byte_tsdu", "empty_tsdu", "spm_high_sqn"])
def test_what_ends_a_libzmq_subscriber_is_a_packet_like_any_other_here(name: str) -> None:
    assert parse_packet(synthetic(name)) is not None


def _patched(packet: Nak | Spm | Data, changes: dict[int, int]) -> bytes:
    raw = bytearray(encode_packet(packet))
    for place, value in changes.items():
        raw[place] = value
    raw[6:8] = b"\0\0"
    raw[6:8] = checksum(raw).to_bytes(2, "big")
    return bytes(raw)


NAK_OF_TWO = Nak(GSI, 1, 2, (7, 8), HOST, GROUP)  # its options begin at 36: 00 04 00 0c, 82 08 00 00, 8


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "truncated"),
        (encode_packet(Spmr(GSI, 1, 2))[:15], "truncated"),
        (encode_packet(Data(GSI, 1, 2, 3, 0, b"\0\0\1\0"))[:-1] + b"\1", "checksum"),
        (_patched(Data(GSI, 1, 2, 3, 0, b"\0\0\1\0"), {15: 5}), "length"),
        (_patched(Data(GSI, 1, 2, 3, 0, b"\0\0\1\0"), {4: 0x44}), "type"),
        (_patched(Data(GSI, 1, 2, 3, 0, b"\0\0\1\0"), {5: 0x80}), "type"),
        (_patched(Spm(GSI, 1, 2, 3, 4, 5, HOST), {29: 3}), "address"),
        (_patched(Spm(GSI, 1, 2, 3, 4, 5, HOST), {29: 2}), "truncated"),
        (_patched(Spm(GSI, 1, 2, 3, 4, 5, HOST), {15: 1}), "length"),
        (_patched(NAK_OF_TWO, {36: 2}), "options"),
        (_patched(NAK_OF_TWO, {37: 8}), "options"),
        (_patched(NAK_OF_TWO, {39: 200}), "options"),
        (_patched(NAK_OF_TWO, {39: 3}), "options"),
        (_patched(NAK_OF_TWO, {40: 0x02}), "options"),
        (_patched(NAK_OF_TWO, {41: 3}), "options"),
        (_patched(NAK_OF_TWO, {41: 0}), "options"),
        (_patched(NAK_OF_TWO, {41: 20}), "options"),
        (_patched(NAK_OF_TWO, {5: 0}), "length"),
    ],
)
def test_a_malformed_packet_is_refused_and_says_in_a_word_why(raw: bytes, reason: str) -> None:
    with pytest.raises(PacketError, match=f"^{reason}$"):
        parse_packet(raw)


def test_kinds_that_nobody_needs_are_nothing_and_no_error() -> None:
    for kind in (0x01, 0x02, 0x09, 0x0D):
        raw = bytearray(encode_packet(Spmr(GSI, 1, 2)))
        raw[4] = kind
        raw[6:8] = b"\0\0"
        assert parse_packet(bytes(raw)) is None


@given(st.binary(max_size=120), st.sampled_from([0, 4, 5, 8, 10, 12]), st.integers(0, 255))
def test_any_bytes_are_a_packet_nothing_or_a_packet_error(rest: bytes, kind: int, flags: int) -> None:
    raw = bytearray(struct.pack("!HHBBH6sH", 1, 2, kind, flags, 0, GSI, 0) + rest)
    raw[6:8] = checksum(raw).to_bytes(2, "big")
    try:
        parse_packet(bytes(raw))
    except PacketError:
        pass
