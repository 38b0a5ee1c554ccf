"""Metadata: the properties that peers tell each other in READY and INITIATE.

::

    property = name-length(1) name value-length(4, big-endian) value
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .._errors import LocalProtocolError, RemoteProtocolError

SOCKET_TYPE: Final = "Socket-Type"
IDENTITY: Final = "Identity"

# 37/ZMTP: names are case-insensitive. libzmq compares these two as they stand here, so they are written so.
_CANONICAL: Final = {name.lower(): name for name in (SOCKET_TYPE, IDENTITY)}


def encode_metadata(properties: Mapping[str, bytes]) -> bytes:
    """The bytes of all *properties*, in their order.

    Raises:
        LocalProtocolError: a name does not fit.
    """
    out = bytearray()
    for name, value in properties.items():
        if not (name.isascii() and 1 <= len(name) <= 255):
            raise LocalProtocolError(f"the name of a property has 1 to 255 ASCII characters, not {name!r}")
        out += bytes((len(name),)) + name.encode("ascii") + len(value).to_bytes(4, "big") + value
    return bytes(out)


def parse_metadata(data: bytes) -> dict[str, bytes]:
    """The properties in *data*: of those with the same name in any case the first, ZMTP's own in canonical spelling.

    Characters that 37/ZMTP forbids in names are let through, as libzmq does.

    Raises:
        RemoteProtocolError: *data* is cut off, has bytes left over or a property without a name.
    """
    found: dict[str, tuple[str, bytes]] = {}
    position = 0
    while position < len(data):
        name, position = _parse_string(data, position, 1)
        if not name:
            raise RemoteProtocolError("the metadata has a property without a name")
        value, position = _parse_string(data, position, 4)
        text = name.decode("ascii", "backslashreplace")
        key = text.lower()
        found.setdefault(key, (_CANONICAL.get(key, text), value))
    return dict(found.values())


def _parse_string(data: bytes, position: int, width: int) -> tuple[bytes, int]:
    """The string behind a length of *width* bytes at *position*, and where it ends."""
    start = position + width
    stop = start + int.from_bytes(data[position:start], "big")
    if stop > len(data) or start > len(data):
        raise RemoteProtocolError("the metadata ends within a property")
    return data[start:stop], stop
