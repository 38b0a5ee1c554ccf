"""What the scenarios share: where they run, and how they wait.

A scenario over inproc runs on a mock clock that jumps when every task is blocked, so a wait that never ends fails at
once; over tcp and ipc it waits for conditions on the real clock under a deadline. Nothing sleeps for a fixed time.
"""

from __future__ import annotations

import functools
import inspect
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import pytest
import trio

from trio_mq import events

EventT = TypeVar("EventT", bound=events.Event)


class Receiving(Protocol):
    """A socket that gives multipart messages."""

    async def receive_multipart(self) -> list[bytes]: ...

    def receive_multipart_nowait(self) -> list[bytes]: ...


class Counting(Protocol):
    """A socket that keeps statistics."""

    def statistics(self) -> Any: ...


def over(
    *transports: str, seconds: float = 5.0
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """The decorated scenario once for each of *transports*, with a deadline of *seconds*.

    The `endpoint` fixture is then something to bind, and `clock` (which this adds to the scenario's arguments, because
    pytest-trio takes the clock from there) is a jumping one for inproc.
    """

    def decorate(scenario: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(scenario)
        async def run(*, clock: object, **arguments: object) -> None:
            with trio.fail_after(seconds):
                await scenario(**arguments)

        told = inspect.signature(scenario)
        clock = inspect.Parameter("clock", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = told.replace(parameters=[*told.parameters.values(), clock])  # type: ignore[attr-defined] # functions take it
        marked: Callable[..., Awaitable[None]] = pytest.mark.parametrize("transport", transports)(run)
        return marked

    return decorate


EVERYWHERE = ("tcp", "ipc", "inproc")
NETWORK = ("tcp", "ipc")


async def until(condition: Callable[[], bool]) -> None:
    """Return when *condition* holds. The caller brings the deadline."""
    while not condition():
        await trio.sleep(0.002)


async def event_of(channel: trio.abc.ReceiveChannel[events.Event], kind: type[EventT]) -> EventT:
    """The next event of *kind*; others are passed over."""
    async for event in channel:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the socket closed without a {kind.__name__}")


async def take(receiver: Receiving, count: int) -> list[list[bytes]]:
    """The next *count* messages."""
    return [await receiver.receive_multipart() for _ in range(count)]


def waiting(receiver: Receiving) -> list[list[bytes]]:
    """What *receiver* has right now."""
    taken = []
    while True:
        try:
            taken.append(receiver.receive_multipart_nowait())
        except trio.WouldBlock:
            return taken


def unread(counted: Counting) -> list[int]:
    """How many messages of each peer wait in *counted* to be received."""
    return [peer.unread_messages for peer in counted.statistics().peers]


def ready_peers(counted: Counting) -> int:
    """How many peers of *counted* are past their handshake and there."""
    return sum(1 for peer in counted.statistics().peers if peer.state == "ready")


def dropped(counted: Counting, reason: str) -> int:
    """How many messages *counted* has dropped for *reason*, whoever they were for."""
    count: int = counted.statistics().dropped.get(reason, 0)
    return count


def dead_tcp_endpoint() -> str:
    """A tcp endpoint on which nobody listens (the port was free a moment ago)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def raw_address(endpoint: str) -> tuple[str, int]:
    """Host and port of a resolved tcp endpoint."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)


def ready(socket_type: str, identity: bytes = b"") -> bytes:
    """The READY command, in its frame, of a peer written out by hand."""
    name = socket_type.encode()
    body = b"\x05READY\x0bSocket-Type" + len(name).to_bytes(4, "big") + name
    if identity:
        body += b"\x08Identity" + len(identity).to_bytes(4, "big") + identity
    return b"\x04" + bytes([len(body)]) + body


async def raw_peer(endpoint: str, socket_type: str, identity: bytes = b"") -> trio.SocketStream:
    """A connection to *endpoint* past its handshake, driven by hand: it answers nothing by itself."""
    stream = await trio.open_tcp_stream(*raw_address(endpoint))
    await stream.send_all(GREETING + ready(socket_type, identity))
    await read_exactly(stream, len(GREETING))
    header = await read_exactly(stream, 2)
    await read_exactly(stream, header[1])
    return stream


async def read_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """The next *size* bytes."""
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        assert more, f"the peer closed after {data!r}"
        data += more
    return data


async def read_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the other end closes, be it with a FIN or a reset."""
    data = b""
    try:
        while more := await stream.receive_some():
            data += more
    except trio.BrokenResourceError:
        pass
    return data


def spread(counts: Sequence[int]) -> int:
    """By how much the largest share exceeds the smallest."""
    return max(counts) - min(counts)
