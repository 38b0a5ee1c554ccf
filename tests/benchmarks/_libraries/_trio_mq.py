"""trio_mq, on trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

import trio_mq

from .._run import END, GREETINGS, HELLO, PAUSE, READY, Run
from .._scenario import MARK

_MARKED = trio_mq.Options(send_hwm=MARK, receive_hwm=MARK)
_UNMARKED = replace(_MARKED, send_hwm=None, receive_hwm=None)


class _TrioMQ:
    def launch(self, role: Callable[[Run], Awaitable[None]], run: Run) -> None:
        trio.run(role, run)

    async def push(self, run: Run) -> None:
        async with trio_mq.Push(connect=run.endpoint, options=_MARKED) as push:
            await _send(push, run)

    async def pull(self, run: Run) -> None:
        async with trio_mq.Pull(options=_MARKED) as pull:
            run.announce(await pull.bind(run.endpoint))
            await _receive(pull, run)

    async def inproc(self, run: Run) -> None:
        async with (
            trio_mq.Pull(bind=run.endpoint, options=_MARKED) as pull,
            trio_mq.Push(connect=run.endpoint, options=_MARKED) as push,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_send, push, run)
            await _receive(pull, run)

    async def request(self, run: Run) -> None:
        async with trio_mq.Req(connect=run.endpoint, options=_options(run)) as req:
            if run.scenario.requests:
                for message in run.trips():
                    await req.request(message)
            else:
                for message in run.trips():
                    await req.send(message)
                    await req.receive()

    async def reply(self, run: Run) -> None:
        async with trio_mq.Rep(options=_options(run)) as rep:
            run.announce(await rep.bind(run.endpoint))
            if run.scenario.requests:
                async for request in rep.requests():
                    run.begin()
                    (message,) = request.frames
                    await request.reply(message)
                    if message == run.last:
                        break
            else:
                message = b""
                while message != run.last:
                    message = await rep.receive()
                    run.begin()
                    await rep.send(message)

    async def publish(self, run: Run) -> None:
        async with trio_mq.Pub(options=_UNMARKED) as pub:
            run.announce(await pub.bind(run.endpoint))
            for message in run.greetings():
                await pub.send(message)
                await trio.sleep(PAUSE)
            for chunk in run.chunks():
                for message in chunk:
                    await pub.send(message)
            for message in run.farewells():
                await pub.send(message)
                await trio.sleep(PAUSE)

    async def subscribe(self, run: Run) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(run.scenario.subscribers):
                nursery.start_soon(_subscribe, run)


def _options(run: Run) -> trio_mq.Options:
    return replace(_MARKED, eager_reads=run.scenario.eager_reads)


async def _send(push: trio_mq.Push, run: Run) -> None:
    if run.scenario.batch:
        for chunk in run.chunks():
            await push.send_many(chunk)
    else:
        for chunk in run.chunks():
            for message in chunk:
                await push.send(message)


async def _receive(pull: trio_mq.Pull, run: Run) -> None:
    if run.scenario.batch:
        batch = await pull.receive_many()
        run.begin()
        count = 0
        while batch[-1] != run.last:
            batch = await pull.receive_many()
            count += len(batch)
        run.end(count)
    else:
        for arrivals in run.arrivals():
            for _ in arrivals:
                message = await pull.receive()
            run.newest = message


async def _subscribe(run: Run) -> None:
    async with trio_mq.Sub(connect=run.endpoint, topics=(), options=_UNMARKED) as sub:
        sub.subscribe(HELLO)
        await sub.receive()
        for topic in run.topics:
            sub.subscribe(topic)
        sub.subscribe(READY)
        while await sub.receive() != READY:
            pass
        run.subscriber_ready()
        while await sub.receive() in GREETINGS:
            pass
        run.begin()
        count = 1
        while await sub.receive() != END:
            count += 1
        run.subscriber_ended(count)


LIBRARY = _TrioMQ()
