"""PGM packets (RFC 3208, section 8): values to bytes and bytes to values, with their checksum.

Where RFC 3208 and its one implementation differ, OpenPGM's bytes are what is written: the flags count from the other
end, a fragment option has 16 bytes, and the reserved byte of an option is whatever was in memory, so nobody reads it.

Addresses are packed (4 or 16 bytes). Ports are named by what they mean, *sport* of the source and *dport* of the data,
also where a packet that goes upstream carries them swapped.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, TypeAlias

SPM, POLL, POLR, ODATA, RDATA, NAK, NNAK, NCF, SPMR, ACK = 0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0A, 0x0C, 0x0D

_WITHOUT_DATA: Final = frozenset({SPM, POLL, POLR, NAK, NNAK, NCF, SPMR, ACK})

HEADER: Final = Struct("!HHBBH6sH")
HEADER_SIZE: Final = 16
DATA_HEADER_SIZE: Final = 24
_TWO_NUMBERS: Final = Struct("!II")
_SPM_NUMBERS: Final = Struct("!III")
_DATA: Final = Struct("!HHBBH6sHII")
_SHORT: Final = Struct("!H")
_LONG: Final = Struct("!I")

HAS_OPTIONS, NETWORK_SIGNIFICANT, _PARITY = 0x01, 0x02, 0x80
_OPT_LENGTH, _OPT_FRAGMENT, _OPT_NAK_LIST, _OPT_FIN = 0x00, 0x01, 0x02, 0x0E
_LAST: Final = 0x80
_FIN_OPTION: Final = bytes.fromhex("000400088e040000")
_MOST_OPTIONS: Final = 16  # RFC 3208, section 9.1

LONGEST_LIST: Final = 63
"""Sequence numbers one NAK can name: its own, and the 62 of a list whose length fits into a byte."""

_ADDRESS_SIZES: Final = {1: 4, 2: 16}
_AFI: Final = {4: b"\0\1\0\0", 16: b"\0\2\0\0"}


class PacketError(ValueError):
    """What came is no PGM packet, or one that must be thrown away. Its text is one word, for counting."""


class Spm(NamedTuple):
    """Source path message: what can still be asked for, what was sent last, and where requests go."""

    gsi: bytes
    sport: int
    dport: int
    sequence: int
    trail: int
    lead: int
    path: bytes
    fin: bool = False


class Data(NamedTuple):
    """A datagram's worth of the stream, for the first time (ODATA) or again (RDATA)."""

    gsi: bytes
    sport: int
    dport: int
    sequence: int
    trail: int
    payload: bytes
    repair: bool = False


class Nak(NamedTuple):
    """A request for what is missing, or (*confirmed*, NCF) the source's word that it was heard."""

    gsi: bytes
    sport: int
    dport: int
    sequences: tuple[int, ...]
    source: bytes
    group: bytes
    confirmed: bool = False


class Spmr(NamedTuple):
    """A request for an SPM."""

    gsi: bytes
    sport: int
    dport: int


Packet: TypeAlias = "Spm | Data | Nak | Spmr"


def checksum(packet: bytes | bytearray) -> int:
    """The Internet checksum of *packet*, whose own checksum field is zero; never 0, which means "none"."""
    # One number and one division instead of a loop over words: a third of the time of summing a memoryview.
    rest = int.from_bytes(packet, "big") % 65535
    if len(packet) & 1:
        rest = (rest << 8) % 65535
    return 65535 - rest


def _is_intact(packet: bytes) -> bool:
    rest = int.from_bytes(packet, "big") % 65535
    return not ((rest << 8) % 65535 if len(packet) & 1 else rest)


# ---- bytes to values


def parse_packet(data: bytes) -> Packet | None:
    """*data* as a packet; None for kinds that nobody needs here (polls, congestion reports).

    Raises:
        PacketError: it is malformed, or of a kind that must be thrown away.
    """
    if len(data) < HEADER_SIZE:
        raise PacketError("truncated")
    if data[4] == ODATA and not data[5] and len(data) >= DATA_HEADER_SIZE:
        return _parse_plain_data(data)
    first, second, kind, flags, check, gsi, size = HEADER.unpack_from(data)
    if check:
        if not _is_intact(data):
            raise PacketError("checksum")
    elif kind in (ODATA, RDATA):
        raise PacketError("checksum")  # RFC 3208, section 8: for data it is mandatory
    if kind in (ODATA, RDATA):
        return _parse_data(data, flags, Data(gsi, first, second, 0, 0, b"", kind == RDATA), size)
    if kind not in _WITHOUT_DATA:
        raise PacketError("type")
    if size:
        raise PacketError("length")
    if kind == SPM:
        return _parse_spm(data, flags, gsi, first, second)
    if kind == NCF:
        return _parse_nak(data, flags, gsi, first, second, confirmed=True)
    if kind == NAK:
        return _parse_nak(data, flags, gsi, second, first, confirmed=False)
    return Spmr(gsi, second, first) if kind == SPMR else None


def _parse_plain_data(data: bytes) -> Data:
    """Nearly everything that comes: data for the first time, without options (`tests.benchmarks`, rows "multicast")."""
    sport, dport, _, _, check, gsi, size, sequence, trail = _DATA.unpack_from(data)
    if not check or not _is_intact(data):
        raise PacketError("checksum")
    if len(data) - DATA_HEADER_SIZE != size:
        raise PacketError("length")
    return Data(gsi, sport, dport, sequence, trail, data[DATA_HEADER_SIZE:])


def _parse_data(data: bytes, flags: int, blank: Data, size: int) -> Data:
    if len(data) < DATA_HEADER_SIZE:
        raise PacketError("truncated")
    if flags & _PARITY:
        raise PacketError("type")  # of forward error correction, which libzmq never enables
    start = DATA_HEADER_SIZE
    if flags & HAS_OPTIONS:
        options, start = _parse_options(data, start)
        if _OPT_FRAGMENT in options:
            # Reassembled by OpenPGM, and libzmq then aborts: nobody who feeds libzmq can mean it.
            raise PacketError("fragment")
    if len(data) - start != size:
        raise PacketError("length")
    sequence, trail = _TWO_NUMBERS.unpack_from(data, HEADER_SIZE)
    return Data(blank.gsi, blank.sport, blank.dport, sequence, trail, data[start:], blank.repair)


def _parse_spm(data: bytes, flags: int, gsi: bytes, sport: int, dport: int) -> Spm:
    if len(data) < 28:
        raise PacketError("truncated")
    sequence, trail, lead = _SPM_NUMBERS.unpack_from(data, HEADER_SIZE)
    path, position = _parse_address(data, 28)
    options = _options_at(data, flags, position)
    return Spm(gsi, sport, dport, sequence, trail, lead, path, _OPT_FIN in options)


def _parse_nak(data: bytes, flags: int, gsi: bytes, sport: int, dport: int, *, confirmed: bool) -> Nak:
    if len(data) < 20:
        raise PacketError("truncated")
    (first,) = _LONG.unpack_from(data, HEADER_SIZE)
    source, position = _parse_address(data, 20)
    group, position = _parse_address(data, position)
    more = _options_at(data, flags, position).get(_OPT_NAK_LIST, b"")
    if len(more) % 4:
        raise PacketError("options")
    numbers = Struct(f"!{len(more) // 4}I").unpack(more)
    return Nak(gsi, sport, dport, (first, *numbers), source, group, confirmed)


def _parse_address(data: bytes, position: int) -> tuple[bytes, int]:
    """The address at *position* and where it ends."""
    if len(data) < position + 4:
        raise PacketError("truncated")
    size = _ADDRESS_SIZES.get(_SHORT.unpack_from(data, position)[0])
    if size is None:
        raise PacketError("address")
    end = position + 4 + size
    if len(data) < end:
        raise PacketError("truncated")
    return data[position + 4 : end], end


def _options_at(data: bytes, flags: int, position: int) -> dict[int, bytes]:
    """The options of a packet without data: they, or nothing, end it."""
    options, end = _parse_options(data, position) if flags & HAS_OPTIONS else ({}, position)
    if end != len(data):
        raise PacketError("length")
    return options


def _parse_options(data: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """The values of the options at *position*, by type, and where they end. Unknown ones are among them."""
    if len(data) < position + 4 or data[position] & 0x7F != _OPT_LENGTH or data[position + 1] != 4:
        raise PacketError("options")
    end = position + _SHORT.unpack_from(data, position + 2)[0]
    position += 4
    if end > len(data) or end < position:
        raise PacketError("options")
    found: dict[int, bytes] = {}
    for _ in range(_MOST_OPTIONS):
        if position + 4 > end:
            break
        kind, length = data[position], data[position + 1]
        if length < 4 or position + length > end:
            break
        found[kind & 0x7F] = data[position + 4 : position + length]
        position += length
        if kind & _LAST:
            if position != end:
                break
            return found, end
    raise PacketError("options")


# ---- values to bytes


def encode_data(gsi: bytes, ports: tuple[int, int], numbers: tuple[int, int], payload: bytes, *, repair: bool) -> bytes:
    """The bytes of a `Data` packet; *ports* are the source's and the data's, *numbers* its own and the trail."""
    size = len(payload)
    header = _DATA.pack(*ports, RDATA if repair else ODATA, 0, 0, gsi, size, *numbers)
    # The sum of a whole is the sum of its parts, and so nothing has to be put together twice.
    body = int.from_bytes(payload, "big")
    rest = (int.from_bytes(header, "big") + (body << 8 if size & 1 else body)) % 65535
    return b"".join((header[:6], _SHORT.pack(65535 - rest), header[8:], payload))


def encode_packet(packet: Packet) -> bytes:
    """The bytes of *packet*."""
    match packet:
        case Data(gsi, sport, dport, sequence, trail, payload, repair):
            return encode_data(gsi, (sport, dport), (sequence, trail), payload, repair=repair)
        case Spm(gsi, sport, dport, sequence, trail, lead, path, fin):
            raw = bytearray(HEADER.pack(sport, dport, SPM, HAS_OPTIONS if fin else 0, 0, gsi, 0))
            raw += _SPM_NUMBERS.pack(sequence, trail, lead) + _AFI[len(path)] + path
            raw += _FIN_OPTION if fin else b""
        case Nak():
            raw = _encode_nak(packet)
        case Spmr(gsi, sport, dport):
            raw = bytearray(HEADER.pack(dport, sport, SPMR, 0, 0, gsi, 0))
    _SHORT.pack_into(raw, 6, checksum(raw))
    return bytes(raw)


def _encode_nak(nak: Nak) -> bytearray:
    first, *more = nak.sequences
    flags = HAS_OPTIONS | NETWORK_SIGNIFICANT if more else 0
    ports, kind = ((nak.sport, nak.dport), NCF) if nak.confirmed else ((nak.dport, nak.sport), NAK)
    raw = bytearray(HEADER.pack(*ports, kind, flags, 0, nak.gsi, 0))
    raw += _LONG.pack(first) + _AFI[len(nak.source)] + nak.source + _AFI[len(nak.group)] + nak.group
    if more:
        size = 4 + 4 * len(more)
        raw += bytes((0, 4)) + _SHORT.pack(4 + size) + bytes((_OPT_NAK_LIST | _LAST, size, 0, 0))
        raw += Struct(f"!{len(more)}I").pack(*more)
    return raw
