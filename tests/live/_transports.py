"""What the transport tests share: a third party's transport, two connected links, and the loops an engine would run."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

from trio_mq._endpoint import Endpoint, parse_endpoint
from trio_mq._errors import EndpointError
from trio_mq._options import Options
from trio_mq._transports import Link, Listener, StreamLink, StreamTransport, transport_for


class HallTransport(StreamTransport[Endpoint]):
    """What a third party would write: a transport within the process, made of trio's test streams.

    ``hall://name`` has streams that hold any amount, ``step://name`` streams that hold nothing.
    """

    schemes: tuple[str, ...] = ("hall", "step")

    def __init__(self) -> None:
        self.listeners: dict[Endpoint, HallListener] = {}

    def parse(self, endpoint: Endpoint, *, binding: bool) -> Endpoint:
        if not endpoint.rest.isalpha():
            raise EndpointError(endpoint.text, "a name has letters only")
        return endpoint

    async def listen(self, address: Endpoint, options: Options) -> Listener:
        await trio.lowlevel.checkpoint()
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        listener = self.listeners[address] = HallListener(self, address)
        return listener

    async def connect(self, address: Endpoint, options: Options) -> Link:
        if address not in self.listeners:
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
        near: trio.abc.Stream
        far: trio.abc.Stream
        if address.scheme == "hall":
            near, far = trio.testing.memory_stream_pair()
        else:
            near, far = trio.testing.lockstep_stream_pair()
        await self.listeners[address].arrivals.send(far)
        return StreamLink(near, peer_address=address.text)


class HallListener(Listener):
    def __init__(self, transport: HallTransport, address: Endpoint) -> None:
        self.endpoint = address.text
        self._transport = transport
        self._address = address
        self.arrivals, self._queue = trio.open_memory_channel[trio.abc.Stream](100)

    async def accept(self) -> Link:
        return StreamLink(await self._queue.receive(), local_address=self.endpoint)

    def close(self) -> None:
        self._transport.listeners.pop(self._address, None)
        self._queue.close()


@dataclass
class Ends:
    """Two ends of one connection, and the listener it came through."""

    listener: Listener
    near: Link
    far: Link


def address_of(text: str, *, binding: bool, options: Options | None = None) -> tuple[StreamTransport[Any], Any]:
    """What the socket layer does with an endpoint at the user's call."""
    endpoint = parse_endpoint(text)
    transport = transport_for(endpoint)
    assert isinstance(transport, StreamTransport)
    address = transport.parse(endpoint, binding=binding)
    transport.check(address, options or Options())
    return transport, address


async def listen(text: str, options: Options | None = None) -> Listener:
    transport, address = address_of(text, binding=True, options=options)
    return await transport.listen(address, options or Options())


async def connect(text: str, options: Options | None = None) -> Link:
    transport, address = address_of(text, binding=False, options=options)
    return await transport.connect(address, options or Options())


@contextlib.asynccontextmanager
async def connected(
    text: str, options: Options | None = None, *, connect_to: Callable[[str], str] = lambda endpoint: endpoint
) -> AsyncIterator[Ends]:
    """Bind *text*, connect to what it resolved to, accept; close everything at the end."""
    listener = await listen(text, options)
    try:
        near = await connect(connect_to(listener.endpoint), options)
        try:
            far = await listener.accept()
        except BaseException:
            await near.aclose()
            raise
    except BaseException:
        listener.close()
        raise
    try:
        yield Ends(listener, near, far)
    finally:
        listener.close()
        with trio.CancelScope(shield=True):
            await near.aclose()
            await far.aclose()


async def send_all(link: Link, *buffers: bytes | memoryview) -> None:
    """Send *buffers*, as an engine's writer does."""
    rest = list(buffers)
    while rest:
        taken = link.try_send(rest)
        if not taken:
            await link.wait_writable()
        while rest and taken >= len(rest[0]):
            taken -= len(rest.pop(0))
        if taken:
            rest[0] = memoryview(rest[0])[taken:]
    if link.unflushed:
        await link.flush()


async def receive(link: Link, limit: int = 65536) -> bytes:
    """The next bytes, or ``b""`` at the end, as an engine's reader does."""
    while (data := link.try_receive(limit)) is None:
        await link.wait_readable()
    return data


async def receive_exactly(link: Link, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = await receive(link, size - len(found))
        assert data, f"the stream ended after {len(found)} of {size} bytes"
        found += data
    return bytes(found)


async def receive_to_the_end(link: Link) -> bytes:
    found = bytearray()
    while data := await receive(link):
        found += data
    return bytes(found)


def fill(link: Link) -> int:
    """Send until nothing more is taken; how much was."""
    chunk, total = b"x" * 65536, 0
    while taken := link.try_send([chunk]):
        total += taken
    return total


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))
