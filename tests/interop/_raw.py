"""Peers made of a plain socket and bytes from the specifications: no ZeroMQ library takes part.

They know ZMTP only as far as a test needs it, and share no code with `trio_mq.zmtp`: an error there must not be
repeated here.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ._process import DEADLINE

SIGNATURE = bytes.fromhex("ff00000000000000017f")

MORE, LONG, COMMAND = 1, 2, 4


def greeting(minor: int = 1, mechanism: bytes = b"NULL", *, major: int = 3) -> bytes:
    """The 64 bytes that a ZMTP 3 peer begins with."""
    return SIGNATURE + bytes([major, minor]) + mechanism.ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    """A frame in v2 framing: short up to 255 bytes."""
    if len(body) <= 255:
        return bytes([flags, len(body)]) + body
    return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body


def message(*frames: bytes) -> bytes:
    """A message of several frames."""
    return b"".join(frame(body, MORE) for body in frames[:-1]) + frame(frames[-1])


def command(name: bytes, data: bytes = b"") -> bytes:
    """A command frame."""
    return frame(bytes([len(name)]) + name + data, COMMAND)


def ready(socket_type: bytes, identity: bytes | None = None) -> bytes:
    """READY with the properties that libzmq sends."""
    properties = [(b"Socket-Type", socket_type)]
    if identity is not None:
        properties.append((b"Identity", identity))
    return command(b"READY", b"".join(map(metadata, properties)))


def metadata(entry: tuple[bytes, bytes]) -> bytes:
    """One property of a READY."""
    name, value = entry
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


class RawPeer:
    """One TCP connection; every wait has a deadline."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    @property
    def address(self) -> str:
        """Our name for this peer's end of the connection."""
        host, port = self._stream.socket.getsockname()
        return f"tcp://{host}:{port}"

    async def send(self, *data: bytes) -> None:
        with trio.fail_after(DEADLINE):
            await self._stream.send_all(b"".join(data))

    async def read(self, count: int) -> bytes:
        """Exactly *count* bytes."""
        with trio.fail_after(DEADLINE):
            while len(self._buffer) < count:
                data = await self._stream.receive_some()
                assert data, f"closed after {bytes(self._buffer)!r}, {count} bytes were awaited"
                self._buffer += data
        data, self._buffer = bytes(self._buffer[:count]), self._buffer[count:]
        return data

    async def read_frame(self) -> tuple[int, bytes]:
        """Flags (without LONG) and body of the next frame."""
        (flags,) = await self.read(1)
        (length,) = struct.unpack(">Q", await self.read(8)) if flags & LONG else await self.read(1)
        return flags & ~LONG, await self.read(length)

    async def read_message(self) -> list[bytes]:
        """The frames of the next message; commands before it and in between are skipped."""
        frames: list[bytes] = []
        while True:
            flags, body = await self.read_frame()
            if not flags & COMMAND:
                frames.append(body)
                if not flags & MORE:
                    return frames

    async def read_command(self, name: bytes) -> bytes:
        """The data of the next command called *name*; everything before it is skipped."""
        while True:
            flags, body = await self.read_frame()
            if flags & COMMAND and body[1 : 1 + body[0]] == name:
                return body[1 + body[0] :]

    async def read_to_end(self) -> bytes:
        """Everything until the other end closes, be it by FIN or by RST."""
        with trio.fail_after(DEADLINE):
            try:
                while data := await self._stream.receive_some():
                    self._buffer += data
            except trio.BrokenResourceError:
                pass
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    async def read_early(self, seconds: float = 0.05) -> bytes:
        """What comes within *seconds*: for the claim that nothing does."""
        with trio.move_on_after(seconds):
            while data := await self._stream.receive_some():
                self._buffer += data
        data, self._buffer = bytes(self._buffer), bytearray()
        return data

    async def handshake(self, socket_type: bytes, identity: bytes | None = None, *, minor: int = 1) -> bytes:
        """Greeting and READY of the NULL mechanism, as of version 3.*minor*; gives back the other end's metadata."""
        await self.send(greeting(minor))
        theirs = await self.read(64)
        assert (theirs[0], theirs[9:12]) == (0xFF, b"\x7f\x03\x01"), theirs
        await self.send(ready(socket_type, identity))
        return await self.read_command(b"READY")

    async def handshake_2_0(self, socket_type: int, identity: bytes = b"") -> bytes:
        """Greeting of ZMTP 2.0; gives back what the other end said after its signature and version."""
        await self.send(SIGNATURE)
        await self.read(11)
        await self.send(bytes([1, socket_type]), frame(identity))
        their_type = await self.read(1)
        return their_type + frame((await self.read_frame())[1])

    async def finish(self) -> None:
        """Close with FIN."""
        await self._stream.aclose()

    async def reset(self) -> None:
        """Close with RST."""
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self._stream.aclose()


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


@asynccontextmanager
async def raw_connect(endpoint: str) -> AsyncIterator[RawPeer]:
    """A peer that has connected to one of our listeners."""
    with trio.fail_after(DEADLINE):
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(endpoint))
    async with stream:
        yield RawPeer(stream)


class RawListener:
    """A listener for our sockets to connect to."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.endpoint = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"

    @asynccontextmanager
    async def accept(self) -> AsyncIterator[RawPeer]:
        """The next connection."""
        with trio.fail_after(DEADLINE):
            stream = await self._listener.accept()
        async with stream:
            yield RawPeer(stream)


@asynccontextmanager
async def raw_listen() -> AsyncIterator[RawListener]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield RawListener(listener)
