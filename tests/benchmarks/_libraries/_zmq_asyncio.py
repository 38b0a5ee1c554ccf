"""pyzmq's `zmq.asyncio`, on asyncio's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import zmq
import zmq.asyncio

from .._run import END, GREETINGS, HELLO, PAUSE, READY, Run
from .._scenario import MARK


class _ZmqAsyncio:
    def launch(self, role: Callable[[Run], Coroutine[Any, Any, None]], run: Run) -> None:
        asyncio.run(role(run))

    async def push(self, run: Run) -> None:
        with _open(zmq.PUSH) as socket:
            socket.connect(run.endpoint)
            await _send(socket, run)

    async def pull(self, run: Run) -> None:
        with _open(zmq.PULL) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            await _receive(socket, run)

    async def inproc(self, run: Run) -> None:
        with _context() as context, _socket(context, zmq.PULL) as pull, _socket(context, zmq.PUSH) as push:
            pull.bind(run.endpoint)
            push.connect(run.endpoint)
            await asyncio.gather(_send(push, run), _receive(pull, run))

    async def request(self, run: Run) -> None:
        with _open(zmq.REQ) as socket:
            socket.connect(run.endpoint)
            for message in run.trips():
                await socket.send(message)
                await socket.recv()

    async def reply(self, run: Run) -> None:
        with _open(zmq.REP) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            message = b""
            while message != run.last:
                message = await socket.recv()
                run.begin()
                await socket.send(message)

    async def publish(self, run: Run) -> None:
        with _open(zmq.PUB, mark=0) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            for message in run.greetings():
                await socket.send(message)
                await asyncio.sleep(PAUSE)
            for chunk in run.chunks():
                for message in chunk:
                    await socket.send(message)
            for message in run.farewells():
                await socket.send(message)
                await asyncio.sleep(PAUSE)

    async def subscribe(self, run: Run) -> None:
        with _context() as context:
            await asyncio.gather(*(_subscribe(context, run) for _ in range(run.scenario.subscribers)))


async def _send(socket: Any, run: Run) -> None:
    for chunk in run.chunks():
        for message in chunk:
            await socket.send(message)


async def _receive(socket: Any, run: Run) -> None:
    for arrivals in run.arrivals():
        for _ in arrivals:
            message = await socket.recv()
        run.newest = message


async def _subscribe(context: Any, run: Run) -> None:
    with _socket(context, zmq.SUB, mark=0) as socket:
        socket.connect(run.endpoint)
        socket.subscribe(HELLO)
        await socket.recv()
        for topic in run.topics:
            socket.subscribe(topic)
        socket.subscribe(READY)
        while await socket.recv() != READY:
            pass
        run.subscriber_ready()
        while await socket.recv() in GREETINGS:
            pass
        run.begin()
        count = 1
        while await socket.recv() != END:
            count += 1
        run.subscriber_ended(count)


@contextmanager
def _open(kind: int, mark: int = MARK) -> Iterator[Any]:
    with _context() as context, _socket(context, kind, mark) as socket:
        yield socket


@contextmanager
def _context() -> Iterator[Any]:
    context = zmq.asyncio.Context()
    yield context
    # Not after an error: it would wait, for ever, for messages that nobody will take.
    context.term()


@contextmanager
def _socket(context: Any, kind: int, mark: int = MARK) -> Iterator[Any]:
    socket = context.socket(kind)
    socket.sndhwm = socket.rcvhwm = mark
    socket.linger = -1
    yield socket
    socket.close()


LIBRARY = _ZmqAsyncio()
