"""A relay between two real ends: it sees every byte, and can lose the connection in each way a network can."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ._process import DEADLINE
from ._raw import port_of


class Relayed:
    """One connection through the relay, with what went through it so far."""

    def __init__(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.near = near
        self.far = far
        self.from_connecter = bytearray()
        self.from_binder = bytearray()
        self.audible = trio.Event()
        self.audible.set()

    def silence(self) -> None:
        """From now on this connection stays open and carries nothing, in either direction."""
        self.audible = trio.Event()

    def finish(self) -> None:
        """End both halves as a process does that exits: with FIN."""
        for stream in (self.near, self.far):
            with contextlib.suppress(OSError):  # that end was faster
                stream.socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End both halves with RST."""
        for stream in (self.near, self.far):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()


class Relay:
    """Listens at `endpoint` and passes on each connection to *target*."""

    def __init__(self, listener: trio.SocketListener, target: str) -> None:
        self.endpoint = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
        self.connections: list[Relayed] = []
        self._listener = listener
        self._target = target

    async def wait_seen(self, needle: bytes, times: int, *, from_connecter: bool) -> None:
        """Wait until *needle* went through the newest connection *times* times, in one direction."""
        with trio.fail_after(DEADLINE):
            while True:
                newest = self.connections[-1] if self.connections else None
                if newest is not None:
                    seen = newest.from_connecter if from_connecter else newest.from_binder
                    if seen.count(needle) >= times:
                        return
                await trio.sleep(0.005)

    async def run(self) -> None:
        """Accept and pass on until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                near = await self._listener.accept()
                nursery.start_soon(self._serve, near)

    async def _serve(self, near: trio.SocketStream) -> None:
        async with near:
            try:
                far = await trio.open_tcp_stream("127.0.0.1", port_of(self._target))
            except OSError:
                return  # as if the target had refused the connection itself, which a relay cannot show
            async with far:
                _shrink(near.socket, far.socket)
                connection = Relayed(near, far)
                self.connections.append(connection)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, connection, near, far, connection.from_connecter)
                    nursery.start_soon(self._pass_on, connection, far, near, connection.from_binder)

    async def _pass_on(
        self, connection: Relayed, source: trio.SocketStream, sink: trio.SocketStream, record: bytearray
    ) -> None:
        try:
            while data := await source.receive_some(65536):
                await connection.audible.wait()
                record += data
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            sink.socket.close()


def _shrink(*sockets: trio.socket.SocketType) -> None:
    """Give *sockets* small buffers: the relay shall pass back-pressure on, not swallow megabytes of it."""
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)


@asynccontextmanager
async def relay_to(target: str) -> AsyncIterator[Relay]:
    """A relay in front of the bound endpoint *target*."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    _shrink(listener.socket)
    async with listener, trio.open_nursery() as nursery:
        relay = Relay(listener, target)
        nursery.start_soon(relay.run)
        yield relay
        nursery.cancel_scope.cancel()
