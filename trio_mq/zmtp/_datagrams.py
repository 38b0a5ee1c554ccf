"""RADIO-DISH in datagrams, one for each message, as libzmq has it (no RFC does).

::

    datagram = group-length(1) group body          8,192 bytes at most

Long groups are read and not written: every release of libzmq up to 4.3.5 takes the length for a signed byte, and a
DISH there ends its process with an assertion when it is sent a group of 128 bytes or more.
"""

from __future__ import annotations

from typing import Final

from .._message import is_group

LARGEST_DATAGRAM: Final = 8192
"""libzmq sends none that is longer, and would cut one off that it receives."""


LONGEST_DATAGRAM_GROUP: Final = 127
"""Bytes of a group that every DISH of libzmq survives in a datagram."""


def encode_datagram(group: bytes, body: bytes) -> bytes | None:
    """The datagram of a message; None if it, or its group, would be too long."""
    if len(group) + len(body) >= LARGEST_DATAGRAM or len(group) > LONGEST_DATAGRAM_GROUP:
        return None
    return b"%c%b%b" % (len(group), group, body)


def parse_datagram(datagram: bytes) -> list[bytes] | None:
    """``[group, body]``; None if *datagram* is not that of a RADIO."""
    start = 1 + datagram[0] if datagram else 1
    if len(datagram) < start:
        return None
    group = datagram[1:start]
    return [group, datagram[start:]] if is_group(group) else None
