"""trio_mq_grpc, on trio."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import trio_mq
import trio_mq_grpc

from .._echo.echo_pb2 import Message
from .._echo.echo_pb2_grpc import EchoStub, add_EchoServicer_to_server
from .._run import END, GREETINGS, PAUSE, READY, Run
from . import _echo_calls as calls
from ._echo_servicers import AsyncEcho, servicer
from ._multicast import multicast_options


class _TrioMQGrpc:
    def launch(self, role: Callable[[Run], Awaitable[None]], run: Run) -> None:
        trio.run(role, run)

    async def serve(self, run: Run) -> None:
        server = trio_mq_grpc.server(interceptors=calls.interceptors(run, "server"))
        add_EchoServicer_to_server(servicer(run), server)
        port = server.add_insecure_port("tcp://127.0.0.1:0")
        async with server:
            run.serving(f"tcp://127.0.0.1:{port}")
            await trio.to_thread.run_sync(run.wait_stop, abandon_on_cancel=True)

    async def unary(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.unary(EchoStub(channel), run, _gather)

    async def stream(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.stream(EchoStub(channel), run)

    async def bidi(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.bidi(EchoStub(channel), run)

    async def open_calls(self, run: Run) -> None:
        async with _channel(run) as channel:
            await calls.open_calls(EchoStub(channel), run)

    async def publish(self, run: Run) -> None:
        # As with streams of grpc.aio, a publisher that is too fast waits, and over tcp everybody gets everything.
        options = trio_mq.Options(overflow="block", **multicast_options(run))
        endpoint = run.endpoint if run.scenario.multicast else _free_endpoint()
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True, options=options) as channel:
            run.announce(endpoint)
            stub: Any = EchoStub(channel)  # its type says what a blocking stub would return
            publish = stub.Unary
            for payload in run.greetings():
                await publish(Message(payload=payload))
                await trio.sleep(PAUSE)
            event = Message(payload=run.message)
            for chunk in run.chunks():
                for _ in chunk:
                    await publish(event)
            for payload in run.farewells():
                await publish(Message(payload=payload))
                await trio.sleep(PAUSE)

    async def subscribe(self, run: Run) -> None:
        async def one_subscriber() -> None:
            subscriber = _Subscriber(run)
            server = trio_mq_grpc.server()
            add_EchoServicer_to_server(subscriber, server)
            options = multicast_options(run)
            server.subscribe(run.endpoint, options=trio_mq.Options(**options) if options else None)
            async with server:
                await subscriber.ended.wait()

        await _gather(one_subscriber, run.scenario.subscribers)


class _Subscriber(AsyncEcho):
    """Counts the events between the greetings and the farewells."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.ended = trio.Event()
        self._count = 0
        self._greeted = False

    async def Unary(self, request: Message, context: Any) -> Message:
        payload = request.payload
        if payload in GREETINGS:
            if payload == READY and not self._greeted:
                self._greeted = True
                self._run.subscriber_ready()
        elif payload != END:
            if not self._count:
                self._run.begin()
            self._count += 1
        elif not self.ended.is_set():
            self.ended.set()
            self._run.subscriber_ended(self._count)
        return request


def _channel(run: Run) -> trio_mq_grpc.Channel:
    return trio_mq_grpc.insecure_channel(run.endpoint, interceptors=calls.interceptors(run, "client"))


def _free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


async def _gather(task: Callable[[], Awaitable[None]], count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(task)


LIBRARY = _TrioMQGrpc()
