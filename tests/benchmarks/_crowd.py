"""Connected peers that say nothing: bare ZMTP handshakes, so that a crowd of 2,000 costs no library anything."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

# 37/ZMTP: signature, version 3.1, mechanism NULL padded to 20 octets, not a server, filler.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY_BODY = b"\x05READY" + b"\x0bSocket-Type" + (4).to_bytes(4, "big") + b"PUSH"
_READY = b"\x04" + bytes((len(_READY_BODY),)) + _READY_BODY
_PATIENCE = 10.0  # seconds for one handshake


@contextmanager
def crowd() -> Iterator[Callable[[str, int], None]]:
    """A function that makes so many silent PUSH peers of the PULL at a tcp endpoint.

    They stay until the block is left.
    """
    raise_descriptor_limit()
    with ExitStack() as stack:

        def join(endpoint: str, count: int) -> None:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            for _ in range(count):
                # One after the other: all at once would overrun the backlog.
                stack.enter_context(_join(host, int(port)))

        yield join


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may: 2,000 peers do not fit into the 1,024 of many systems."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _join(host: str, port: int) -> socket.socket:
    peer = socket.create_connection((host, port), timeout=_PATIENCE)
    try:
        peer.sendall(_GREETING + _READY)
        _read(peer, len(_GREETING))
        _flags, size = _read(peer, 2)
        _read(peer, size)
    except BaseException:
        peer.close()
        raise
    return peer


def _read(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = peer.recv(count - len(data))
        if not piece:
            raise ConnectionError("the receiving end refused a silent peer")
        data += piece
    return data
