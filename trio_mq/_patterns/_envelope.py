"""Envelopes (RFC 28): what stands before the empty delimiter frame of a request or a reply."""

from __future__ import annotations

from typing import NamedTuple

from .._message import Payload

DELIMITER = b""


class Enveloped(NamedTuple):
    """A message cut at its first empty frame."""

    envelope: list[bytes]
    body: Payload


def open_envelope(message: Payload) -> Enveloped | None:
    """*message* cut at its first empty frame, or None if it has none or nothing behind it."""
    if isinstance(message, bytes):
        return None
    try:
        cut = message.index(DELIMITER)
    except ValueError:
        return None
    body = message[cut + 1 :]
    if not body:
        return None
    return Enveloped(message[:cut], body[0] if len(body) == 1 else body)


def close_envelope(envelope: list[bytes], body: Payload) -> list[bytes]:
    """The inverse: *envelope*, the delimiter, and the frames of *body*."""
    if isinstance(body, bytes):
        return [*envelope, DELIMITER, body]
    return [*envelope, DELIMITER, *body]
