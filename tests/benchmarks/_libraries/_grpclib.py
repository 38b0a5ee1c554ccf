"""grpclib, on asyncio: its handlers and stubs as its plug-in for protoc would write them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib.client import Channel, StreamStreamMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from .._echo.echo_pb2 import Message
from .._run import Run
from ._call_options import call_options

_SERVICE = "/trio_mq.benchmarks.v1.Echo"


class _Echo:
    def __init__(self, run: Run) -> None:
        self._run = run

    async def unary(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def stream(self, stream: Any) -> None:
        request = await stream.recv_message()
        for chunk in self._run.chunks():
            for _ in chunk:
                await stream.send_message(request)

    async def bidi(self, stream: Any) -> None:
        async for request in stream:
            await stream.send_message(request)

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"{_SERVICE}/Unary": Handler(self.unary, Cardinality.UNARY_UNARY, Message, Message),
            f"{_SERVICE}/Stream": Handler(self.stream, Cardinality.UNARY_STREAM, Message, Message),
            f"{_SERVICE}/Bidi": Handler(self.bidi, Cardinality.STREAM_STREAM, Message, Message),
        }


class _Grpclib:
    def launch(self, role: Callable[[Run], Awaitable[None]], run: Run) -> None:
        async def main() -> None:
            await role(run)

        asyncio.run(main())

    async def serve(self, run: Run) -> None:
        server = Server([_Echo(run)])
        # With its protocol named, as asyncio makes sockets itself: only then does it turn Nagle's algorithm off, which
        # would make a call take 44 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        await server.start(sock=listener)
        run.serving(f"127.0.0.1:{listener.getsockname()[1]}")
        await asyncio.to_thread(run.wait_stop)
        server.close()

    async def unary(self, run: Run) -> None:
        async with _channel(run) as channel:
            await _unary(UnaryUnaryMethod(channel, f"{_SERVICE}/Unary", Message, Message), run)

    async def stream(self, run: Run) -> None:
        async with _channel(run) as channel:
            method = UnaryStreamMethod(channel, f"{_SERVICE}/Stream", Message, Message)
            async with method.open() as stream:
                await stream.send_message(Message(payload=run.message), end=True)
                await _count(stream, run)

    async def bidi(self, run: Run) -> None:
        async with _channel(run) as channel:
            method = StreamStreamMethod(channel, f"{_SERVICE}/Bidi", Message, Message)
            async with method.open() as stream:
                await stream.send_request()
                sending = asyncio.create_task(_send(stream, run))
                await _count(stream, run)
                await sending


async def _unary(call: Any, run: Run) -> None:
    request, options = Message(payload=run.message), call_options(run)
    if run.scenario.in_flight == 1:
        for _ in run.trips():
            await call(request, **options)
        return

    async def one_task() -> None:
        for _ in run.calls():
            await call(request, **options)

    for _ in run.warm_up():
        await call(request, **options)
    await asyncio.gather(*(one_task() for _ in range(run.scenario.in_flight)))
    run.calls_ended()


async def _send(stream: Any, run: Run) -> None:
    request = Message(payload=run.message)
    for chunk in run.chunks():
        for _ in chunk:
            await stream.send_message(request)
    await stream.end()


async def _count(stream: Any, run: Run) -> None:
    await stream.recv_message()
    run.begin()
    count = 0
    async for _ in stream:
        count += 1
    run.end(count)


def _channel(run: Run) -> Channel:
    host, _, port = run.endpoint.rpartition(":")
    return Channel(host, int(port))


LIBRARY = _Grpclib()
