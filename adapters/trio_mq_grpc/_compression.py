"""gzip and deflate as gRPC means them: one message at a time, with no context from one to the next.

Inflating is bounded: the output stops one byte above the limit, so a bomb costs what a message may cost.
"""

from __future__ import annotations

import zlib

import grpc

SUPPORTED: tuple[str, ...] = ("gzip", "deflate")
"""What we can read, in the order of preference: this is what a peer is told."""

# How zlib is told about the wrapping: 31 is gzip's (RFC 1952); gRPC's "deflate" is zlib's (RFC 1950), which is 15.
_WRAPPINGS = {"gzip": 31, "deflate": 15}

_NAMES = {
    grpc.Compression.NoCompression: "",
    grpc.Compression.Deflate: "deflate",
    grpc.Compression.Gzip: "gzip",
}


class TooLarge(ValueError):
    """A message is over its limit. The text has both numbers, in grpcio's form.

    Attributes:
        size: what it has, in bytes; what it has at least, if it was still being inflated.
        limit: what is allowed.
    """

    def __init__(self, size: int, limit: int, what: str = "message") -> None:
        super().__init__(f"{what} larger than max ({size} vs. {limit})")
        self.size = size
        self.limit = limit


class UnknownEncoding(ValueError):
    """An encoding that this side does not have: UNIMPLEMENTED at a server, INTERNAL at a client."""

    def __init__(self, name: str) -> None:
        super().__init__(f"encoding {name[:64]!r} is not supported; supported are {', '.join(SUPPORTED)}")
        self.name = name


class DecompressError(ValueError):
    """A message is not what its encoding says."""


def name_of(compression: grpc.Compression | None) -> str:
    """The encoding's name on the wire: ``"gzip"``, ``"deflate"``, or ``""`` for none.

    Raises:
        ValueError: it is no `grpc.Compression`.
    """
    if compression is None:
        return ""
    try:
        return _NAMES[compression]
    except (KeyError, TypeError):
        raise ValueError(f"compression is a grpc.Compression, not {compression!r}") from None


def compress(name: str, data: bytes | bytearray | memoryview) -> bytes:
    """*data* in the encoding *name*; as it is for ``""``. May be longer than *data*.

    Raises:
        UnknownEncoding: there is no such encoding.
    """
    if not name:
        return bytes(data)
    compressor = zlib.compressobj(wbits=_wrapping(name))
    return compressor.compress(data) + compressor.flush()


def decompress(name: str, data: bytes | bytearray | memoryview, limit: int | None) -> bytes:
    """What *data* holds, at most *limit* bytes (None: any number).

    Raises:
        TooLarge: it is more.
        DecompressError: it is damaged, cut short, or followed by something: a second gzip member, too, because what
            the members hold together is bounded by nothing.
        UnknownEncoding: there is no such encoding.
    """
    if not name:
        if limit is not None and len(data) > limit:
            raise TooLarge(len(data), limit)
        return bytes(data)
    inflater = zlib.decompressobj(wbits=_wrapping(name))
    try:
        # One byte more than allowed, so that too much can be told from just enough. 0 would mean "no bound" to zlib.
        message = inflater.decompress(data, 0 if limit is None else limit + 1)
    except zlib.error as exc:
        raise DecompressError(f"{name}: {exc}") from exc
    if limit is not None and len(message) > limit:
        raise TooLarge(len(message), limit, "decompressed message")
    if not inflater.eof:
        raise DecompressError(f"{name}: the message is cut short")
    if inflater.unused_data:
        raise DecompressError(f"{name}: {len(inflater.unused_data)} bytes follow the end of the message")
    return message


def _wrapping(name: str) -> int:
    try:
        return _WRAPPINGS[name]
    except KeyError:
        raise UnknownEncoding(name) from None
