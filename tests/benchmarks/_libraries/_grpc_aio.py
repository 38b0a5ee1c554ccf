"""grpcio's asyncio API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio

from .._echo.echo_pb2_grpc import EchoStub, add_EchoServicer_to_server
from .._run import Run
from . import _echo_calls as calls
from ._echo_servicers import servicer


class _GrpcAio:
    def launch(self, role: Callable[[Run], Awaitable[None]], run: Run) -> None:
        async def main() -> None:
            await role(run)

        asyncio.run(main())

    async def serve(self, run: Run) -> None:
        server = grpc.aio.server(interceptors=calls.interceptors(run, "server"))
        add_EchoServicer_to_server(servicer(run), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        run.serving(f"127.0.0.1:{port}")
        await asyncio.to_thread(run.wait_stop)
        await server.stop(None)

    async def unary(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.unary(EchoStub(channel), run, _gather)

    async def stream(self, run: Run) -> None:
        async def one_client() -> None:
            async with _channel(run) as channel:
                await calls.stream(EchoStub(channel), run)

        await _gather(one_client, run.scenario.subscribers)

    async def bidi(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.bidi(EchoStub(channel), run)

    async def open_calls(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.open_calls(EchoStub(channel), run)


def _channel(run: Run) -> grpc.aio.Channel:
    # Channels of one process share a connection when their options are equal; subscribers are to have one each.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(run.endpoint, options, interceptors=calls.interceptors(run, "client"))


async def _gather(task: Callable[[], Awaitable[None]], count: int) -> None:
    await asyncio.gather(*(task() for _ in range(count)))


LIBRARY = _GrpcAio()
