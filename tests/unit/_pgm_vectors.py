"""Packets captured from libzmq on OpenPGM, and hand-made ones with what libzmq made of them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("vectors_pgm")
CAPTURES = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem != "synthetic")


class Captured(NamedTuple):
    """One packet, as it was on the wire."""

    time: float
    source: bytes
    destination: bytes
    packet: bytes


def capture(name: str) -> list[Captured]:
    """The packets of a capture, without IP headers."""
    found = []
    for line in (FOLDER / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            time, source, destination, _, digits = line.split()
            data = bytes.fromhex(digits)
            if name.startswith("pgm_raw"):
                data = data[4 * (data[0] & 15) :]
            ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
            found.append(Captured(float(time), *ends, data))
    return found


def synthetic(name: str) -> bytes:
    """A hand-made packet."""
    for line in (FOLDER / "synthetic.txt").read_text().splitlines():
        if line.startswith(f"{name} "):
            return bytes.fromhex(line.split()[1])
    raise KeyError(name)
