"""A server that speaks units by hand, for clients of ours: whatever a server may say, also wrong things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

import trio_mq
import trio_mq_grpc
from trio_mq_grpc._wire import CALL, DATA, HEADER, PROPERTY, Announcement, announce, pack

from ..server._raw import Unit, cut, new_endpoint

FULL = Announcement(window=262_144, max_message=None, encodings=("gzip", "deflate"), fragments=True)


class RawServer:
    """One ROUTER, and the routing id of who has called last."""

    def __init__(self, router: trio_mq.Router) -> None:
        self.router = router
        self.caller = b""

    async def receive(self) -> Unit:
        """The next unit, whoever sends it."""
        with trio.fail_after(5):
            self.caller, *frames = await self.router.receive_multipart()
        return cut(frames)

    async def receive_call(self) -> int:
        """The id of the next call."""
        unit = await self.receive()
        while unit.kind != CALL:
            unit = await self.receive()
        return unit.call_id

    async def send(self, *frames: bytes) -> None:
        """Send a unit to who has called last."""
        await self.router.send_multipart([self.caller, b"", *frames])

    async def send_to_call(self, call_id: int, flags: int, seq: int, *frames: bytes) -> None:
        """Send a DATA of a call of who has called last."""
        await self.send(pack(DATA, flags, seq, call_id), *frames)


@asynccontextmanager
async def raw_server(
    ours: Announcement | None = FULL, prop: str = "", endpoint: str = "", options: Any = ()
) -> AsyncIterator[tuple[RawServer, Any]]:
    """Such a server, and a channel to it.

    Args:
        ours: what it announces; None for nothing.
        prop: instead of that, as it is on the wire.
        endpoint: where; inproc by default.
        options: of the channel.
    """
    said = prop or ("" if ours is None else announce(ours))
    properties = {PROPERTY: said} if said else {}
    where = endpoint or new_endpoint()
    async with trio_mq.Router(bind=where, options=trio_mq.Options(linger=0, properties=properties)) as router:
        async with trio_mq_grpc.insecure_channel(router.endpoints[0], options=list(options)) as channel:
            yield RawServer(router), channel


def raw_header(magic: int, kind: int, flags: int, value: int, call_id: int) -> bytes:
    """A header frame with any magic."""
    return HEADER.pack(magic, kind, flags, value, call_id)
