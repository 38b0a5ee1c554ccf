"""The two ends of a connection, ours and theirs, with one face, so that a dialogue is written once for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

import trio

import trio_mq

from ._messages import Frame, Seen, as_seen, built
from ._process import DEADLINE

OurSocket: TypeAlias = (
    trio_mq.Pair
    | trio_mq.Req
    | trio_mq.Rep
    | trio_mq.Dealer
    | trio_mq.Router
    | trio_mq.Pub
    | trio_mq.Sub
    | trio_mq.XPub
    | trio_mq.XSub
    | trio_mq.Push
    | trio_mq.Pull
)

CLASSES: dict[str, type[OurSocket]] = {
    "PAIR": trio_mq.Pair,
    "REQ": trio_mq.Req,
    "REP": trio_mq.Rep,
    "DEALER": trio_mq.Dealer,
    "ROUTER": trio_mq.Router,
    "PUB": trio_mq.Pub,
    "SUB": trio_mq.Sub,
    "XPUB": trio_mq.XPub,
    "XSUB": trio_mq.XSub,
    "PUSH": trio_mq.Push,
    "PULL": trio_mq.Pull,
}


class End(Protocol):
    """One end: a socket of ours, or one in a peer process. Every call has a deadline of its own."""

    @property
    def kind(self) -> str: ...
    async def bind(self, endpoint: str) -> str: ...
    async def connect(self, endpoint: str) -> None: ...
    async def wait_connected(self) -> None: ...
    async def send(self, frames: Sequence[Frame]) -> None: ...
    async def receive(self) -> list[Seen]: ...
    async def receive_within(self, seconds: float) -> list[Seen] | None: ...
    async def subscribe(self, topic: bytes) -> None: ...
    async def unsubscribe(self, topic: bytes) -> None: ...


class OurEnd:
    """A socket of trio_mq as an `End`."""

    def __init__(self, kind: str, socket: OurSocket) -> None:
        self.kind = kind
        self.socket = socket

    async def bind(self, endpoint: str) -> str:
        with trio.fail_after(DEADLINE):
            return await self.socket.bind(endpoint)

    async def connect(self, endpoint: str) -> None:
        self.socket.connect(endpoint)

    async def wait_connected(self) -> None:
        with trio.fail_after(DEADLINE):
            await self.socket.wait_connected()

    async def send(self, frames: Sequence[Frame]) -> None:
        assert not isinstance(self.socket, (trio_mq.Pull, trio_mq.Sub))
        with trio.fail_after(DEADLINE):
            await self.socket.send_multipart([built(frame) for frame in frames])

    async def receive(self) -> list[Seen]:
        message = await self.receive_within(DEADLINE)
        assert message is not None, f"our {self.kind} received nothing within {DEADLINE} s: {self.socket.statistics()}"
        return message

    async def receive_within(self, seconds: float) -> list[Seen] | None:
        assert not isinstance(self.socket, (trio_mq.Push, trio_mq.Pub))
        with trio.move_on_after(seconds):
            return as_seen(await self.socket.receive_multipart())
        return None

    def receive_nowait(self) -> list[Seen] | None:
        """A message that is here already, or None."""
        assert not isinstance(self.socket, (trio_mq.Push, trio_mq.Pub))
        try:
            return as_seen(self.socket.receive_multipart_nowait())
        except trio.WouldBlock:
            return None

    async def subscribe(self, topic: bytes) -> None:
        if isinstance(self.socket, trio_mq.XSub):
            await self.send([b"\x01" + topic])
        else:
            assert isinstance(self.socket, trio_mq.Sub)
            self.socket.subscribe(topic)

    async def unsubscribe(self, topic: bytes) -> None:
        if isinstance(self.socket, trio_mq.XSub):
            await self.send([b"\x00" + topic])
        else:
            assert isinstance(self.socket, trio_mq.Sub)
            self.socket.unsubscribe(topic)


@asynccontextmanager
async def open_ours(kind: str, options: trio_mq.Options | None = None) -> AsyncIterator[OurEnd]:
    """A socket of ours, open."""
    async with CLASSES[kind](options=options or trio_mq.Options()) as socket:
        yield OurEnd(kind, socket)


async def join(binder: End, connecter: End, endpoint: str) -> str:
    """Bind one end, connect the other; gives back the resolved endpoint."""
    resolved = await binder.bind(endpoint)
    await connecter.connect(resolved)
    return resolved
