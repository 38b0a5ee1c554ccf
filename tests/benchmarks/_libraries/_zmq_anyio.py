"""zmq-anyio, on trio: what a trio program had before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
import zmq
import zmq_anyio

from .._run import END, GREETINGS, HELLO, PAUSE, READY, Run
from .._scenario import MARK


class _ZmqAnyio:
    def launch(self, role: Callable[[Run], Awaitable[None]], run: Run) -> None:
        trio.run(role, run)

    async def push(self, run: Run) -> None:
        async with _open(zmq.PUSH) as socket:
            socket.connect(run.endpoint)
            await _send(socket, run)

    async def pull(self, run: Run) -> None:
        async with _open(zmq.PULL) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            await _receive(socket, run)

    async def inproc(self, run: Run) -> None:
        with _context() as context:
            async with _socket(context, zmq.PULL) as pull, _socket(context, zmq.PUSH) as push:
                pull.bind(run.endpoint)
                push.connect(run.endpoint)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send, push, run)
                    await _receive(pull, run)

    async def request(self, run: Run) -> None:
        async with _open(zmq.REQ) as socket:
            socket.connect(run.endpoint)
            for message in run.trips():
                await socket.asend(message)
                await socket.arecv()

    async def reply(self, run: Run) -> None:
        async with _open(zmq.REP) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            message = b""
            while message != run.last:
                message = await socket.arecv()
                run.begin()
                await socket.asend(message)

    async def publish(self, run: Run) -> None:
        async with _open(zmq.PUB, mark=0) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            for message in run.greetings():
                await socket.asend(message)
                await trio.sleep(PAUSE)
            for chunk in run.chunks():
                for message in chunk:
                    await socket.asend(message)
            for message in run.farewells():
                await socket.asend(message)
                await trio.sleep(PAUSE)

    async def subscribe(self, run: Run) -> None:
        with _context() as context:
            async with trio.open_nursery() as nursery:
                for _ in range(run.scenario.subscribers):
                    nursery.start_soon(_subscribe, context, run)


async def _send(socket: Any, run: Run) -> None:
    for chunk in run.chunks():
        for message in chunk:
            await socket.asend(message)


async def _receive(socket: Any, run: Run) -> None:
    for arrivals in run.arrivals():
        for _ in arrivals:
            message = await socket.arecv()
        run.newest = message


async def _subscribe(context: Any, run: Run) -> None:
    async with _socket(context, zmq.SUB, mark=0) as socket:
        socket.connect(run.endpoint)
        socket.subscribe(HELLO)
        await socket.arecv()
        for topic in run.topics:
            socket.subscribe(topic)
        socket.subscribe(READY)
        while await socket.arecv() != READY:
            pass
        run.subscriber_ready()
        while await socket.arecv() in GREETINGS:
            pass
        run.begin()
        count = 1
        while await socket.arecv() != END:
            count += 1
        run.subscriber_ended(count)


@asynccontextmanager
async def _open(kind: int, mark: int = MARK) -> AsyncIterator[Any]:
    with _context() as context:
        async with _socket(context, kind, mark) as socket:
            yield socket


@contextmanager
def _context() -> Iterator[Any]:
    context = zmq.Context()
    yield context
    # Not after an error: it would wait, for ever, for messages that nobody will take.
    context.term()


@asynccontextmanager
async def _socket(context: Any, kind: int, mark: int = MARK) -> AsyncIterator[Any]:
    plain = context.socket(kind)
    plain.sndhwm = plain.rcvhwm = mark
    plain.linger = -1
    async with zmq_anyio.Socket(plain) as socket:
        yield socket
    plain.close()


LIBRARY = _ZmqAnyio()
