"""Metadata where the user gives it and where the user sees it.

What a user gives is checked here, at the call, so that a mistake is a `TypeError` or `ValueError` on the line that made
it. grpcio finds it when the call is awaited, or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import grpc.aio

from ._blocks import ENTRY_OVERHEAD, Entry, is_key

_OWNED = frozenset(
    {
        "grpc-accept-encoding",
        "grpc-encoding",
        "grpc-internal-encoding-request",
        "grpc-message",
        "grpc-message-type",
        "grpc-status",
        "grpc-timeout",
    }
)
"""Keys of HTTP/2 gRPC whose meaning has a typed field here. Two sources for one fact would contradict each other."""

_DROPPED = frozenset({"content-type", "te", "user-agent"})
"""Keys that grpcio drops without a word. A proxy that passes `invocation_metadata()` on sends one of them each time."""


class Metadatum(NamedTuple):
    """An entry as grpcio's servers hand it out: a pair whose halves have names."""

    key: str
    value: str | bytes


def checked_metadata(metadata: Any) -> tuple[Entry, ...]:
    """The entries of *metadata* in order: a `grpc.aio.Metadata`, an iterable of pairs, or None.

    The values of keys that end in ``-bin`` are bytes, all others str of printable ASCII; bytes are taken for those,
    too, if they are ASCII. ``te``, ``content-type`` and ``user-agent`` are dropped, as in grpcio.

    Raises:
        TypeError: it is no iterable of pairs, or a key or value has a type that cannot be metadata.
        ValueError: a key or value has characters that gRPC does not allow, or the key is one of gRPC's own.
    """
    if not metadata:
        # Whatever is empty, as in grpcio: `metadata or {}` is common, and wrong only when it is not empty.
        return ()
    # grpcio's own class is a Mapping in old versions, and iterates over pairs all the same.
    is_dict = isinstance(metadata, Mapping) and not isinstance(metadata, grpc.aio.Metadata)
    if is_dict or isinstance(metadata, (str, bytes)) or not isinstance(metadata, Iterable):
        hint = "; write tuple(metadata.items())" if is_dict else ""
        raise TypeError(f"metadata is a sequence of (key, value) pairs, not {type(metadata).__name__}{hint}")
    entries: list[Entry] = []
    for pair in metadata:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"metadata is a sequence of (key, value) pairs; {pair!r} is none")
        key, value = pair
        if not isinstance(key, str):
            raise TypeError(f"a metadata key is a str, not {key!r}")
        match _kind(key):
            case "text":
                text = value if isinstance(value, str) else _as_text(key, value)
                if not text.isascii() or not text.isprintable():
                    raise ValueError(f"the value of metadata key {key!r} is not printable ASCII; -bin keys take bytes")
                entries.append((key, text))
            case "bin":
                entries.append((key, _as_bytes(key, value)))
    return tuple(entries)


def metadata_size(entries: Iterable[Entry]) -> int:
    """What *entries* count against a metadata limit: name, value and 32 bytes each (gRPC's rule for HTTP/2)."""
    return sum(len(key) + len(value) + ENTRY_OVERHEAD for key, value in entries)


def as_invocation_metadata(entries: Iterable[Entry]) -> tuple[Metadatum, ...]:
    """*entries* as `ServicerContext.invocation_metadata` gives them: pairs with ``key`` and ``value``."""
    return tuple(map(Metadatum._make, entries))


def as_metadata(entries: Iterable[Entry]) -> grpc.aio.Metadata:
    """*entries* as the multi-map that calls and errors give. A new one each time, because users may change theirs."""
    return grpc.aio.Metadata(*entries)


@lru_cache(1024)
def _kind(key: str) -> Literal["text", "bin", "dropped"]:
    if not is_key(key):
        raise ValueError(f"{key!r} is no metadata key: lower-case letters, digits and _ . - only")
    if key in _OWNED:
        raise ValueError(f"the metadata key {key!r} belongs to gRPC itself; use the argument or option it stands for")
    if key in _DROPPED:
        return "dropped"
    return "bin" if key.endswith("-bin") else "text"


def _as_text(key: str, value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"the value of metadata key {key!r} is a str, not {type(value).__name__}")
    return value.decode("latin-1")


def _as_bytes(key: str, value: object) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"the value of metadata key {key!r} is bytes, as -bin says, not {type(value).__name__}")
    return bytes(value)
