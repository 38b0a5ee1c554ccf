"""A server with a few handlers, and a caller that speaks units by hand: whatever a peer may say, also wrong things."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import trio

import trio_mq
from trio_mq_grpc._blocks import Head, decode_head, decode_status, encode_head
from trio_mq_grpc._port import Port
from trio_mq_grpc._server import Server, server
from trio_mq_grpc._wire import (
    CALL,
    CREDIT,
    DATA,
    END,
    HEAD,
    HEADER,
    MAGIC,
    MSG,
    PROPERTY,
    RESET,
    STATUS,
    Announcement,
    announce,
    pack,
)

_numbers = itertools.count(1)
Code = grpc.StatusCode


class Unit(NamedTuple):
    """One unit, cut into its header's fields and its frames."""

    kind: int
    flags: int
    value: int
    call_id: int
    frames: list[bytes]

    @property
    def code(self) -> grpc.StatusCode:
        return list(Code)[decode_status(self.frames[-1])[0]]

    @property
    def details(self) -> str:
        return decode_status(self.frames[-1])[1]

    @property
    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        return decode_status(self.frames[-1])[2]

    @property
    def head(self) -> Head:
        assert self.flags & HEAD
        return decode_head(self.frames[0])


def cut(frames: list[bytes], at: int = 1) -> Unit:
    magic, kind, flags, value, call_id = HEADER.unpack(frames[at])
    assert magic == MAGIC
    return Unit(kind, flags, value, call_id, frames[at + 1 :])


class Caller:
    """One connection to a server."""

    def __init__(self, dealer: trio_mq.Dealer, epoch: int = 0) -> None:
        self.dealer = dealer
        self._ids = itertools.count((epoch << 32) + 1)
        self._seq: dict[int, int] = {}

    def new_id(self) -> int:
        return next(self._ids)

    async def send(self, *frames: bytes) -> None:
        await self.dealer.send_multipart([b"", *frames])

    async def call(self, method: str, *frames: bytes, flags: int = MSG | END, head: Head | None = None) -> int:
        """Begin a call of ``/test.Service/<method>``; returns its id."""
        call_id = self.new_id()
        ahead = [] if head is None else [encode_head(head)]
        self._seq[call_id] = 1
        path = f"/test.Service/{method}".encode()
        await self.send(pack(CALL, flags | (HEAD if ahead else 0), 0, call_id), path, *ahead, *frames)
        return call_id

    async def data(self, call_id: int, *frames: bytes, flags: int = MSG, skip: int = 0) -> None:
        seq = self._seq[call_id] + skip
        self._seq[call_id] = seq + 1
        await self.send(pack(DATA, flags, seq, call_id), *frames)

    async def reset(self, call_id: int) -> None:
        await self.send(pack(RESET, 0, 0, call_id))

    async def credit(self, call_id: int, total: int) -> None:
        await self.send(pack(CREDIT, 0, total, call_id))

    async def receive(self) -> Unit:
        """The next unit; CREDIT aside."""
        with trio.fail_after(5):
            while True:
                unit = cut(await self.dealer.receive_multipart())
                if unit.kind != CREDIT:
                    return unit

    async def receive_end(self) -> tuple[list[bytes], Unit]:
        """The messages of the one call that is under way, and the unit with its status."""
        messages = []
        while True:
            unit = await self.receive()
            if unit.flags & MSG:
                messages.append(unit.frames[-2 if unit.flags & STATUS else -1])
            if unit.flags & STATUS:
                return messages, unit

    async def answer(self, method: str, *frames: bytes, **options: Any) -> bytes:
        """The reply of a unary call, which succeeds."""
        await self.call(method, *frames, **options)
        messages, end = await self.receive_end()
        assert end.code is Code.OK, end.details
        (message,) = messages
        return message

    async def failure(self, method: str, *frames: bytes, **options: Any) -> Unit:
        """The end of a call, which fails."""
        await self.call(method, *frames, **options)
        _, end = await self.receive_end()
        assert end.code is not Code.OK
        return end

    async def nothing_comes(self) -> None:
        """Everything has been said: a call that is answered at once is the next thing heard."""
        unit = await self.round_trip()
        assert unit.code is Code.UNIMPLEMENTED

    async def round_trip(self) -> Unit:
        call_id = await self.call("Nowhere")
        unit = await self.receive()
        assert unit.call_id == call_id, unit
        return unit


def kind_of(name: str) -> Callable[..., Any]:
    builder: Callable[..., Any] = getattr(grpc, f"{name}_rpc_method_handler")
    return builder


def service(**kinds: dict[str, Any]) -> grpc.GenericRpcHandler:
    """``service(unary_unary={"Echo": function}, …)``, with messages in bytes."""
    handlers = {name: kind_of(kind)(function) for kind, methods in kinds.items() for name, function in methods.items()}
    return grpc.method_handlers_generic_handler("test.Service", handlers)


def new_endpoint() -> str:
    return f"inproc://raw-{next(_numbers)}"


@asynccontextmanager
async def dial(endpoint: str, ours: Announcement | None = None) -> AsyncIterator[Caller]:
    """A connection to *endpoint*; without an announcement, of a peer of level 0."""
    properties = {} if ours is None else {PROPERTY: announce(ours)}
    options = trio_mq.Options(linger=0, properties=properties, receive_hwm_bytes=1 << 16)
    async with trio_mq.Dealer(connect=endpoint, options=options) as dealer:
        yield Caller(dealer, 0 if ours is None else ours.epoch)


@asynccontextmanager
async def serving(
    ours: Announcement | None = None, endpoint: str = "", more: Any = (), **options: Any
) -> AsyncIterator[tuple[Server, Caller]]:
    """A server with what `service` makes of *options* that are kinds, and a caller."""
    kinds = {name: options.pop(name) for name in list(options) if name.count("_") == 1 and name[-5:] in _ENDS}
    served = server(handlers=[service(**kinds), *more], **options)
    where = endpoint or new_endpoint()
    port = served.add_insecure_port(where)
    async with served, dial(where.replace(":0", f":{port}"), ours) as caller:
        yield served, caller


_ENDS = ("unary", "tream")


def port_of(served: Server) -> Port:
    """The first port of *served*."""
    port = served._ports[0]
    assert isinstance(port, Port)
    return port


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def wait_until(condition: Callable[[], object]) -> None:
    """Return once *condition* holds; fails after five seconds of the run's clock."""
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.001)
