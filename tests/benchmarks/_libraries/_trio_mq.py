"""trio_mq, on trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

import trio_mq

from .._run import END, GREETINGS, HELLO, PAUSE, READY, Run
from .._scenario import MARK
from ._multicast import multicast_options

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
        async with trio_mq.Pub(options=replace(_UNMARKED, **multicast_options(run))) as pub:
            run.announce(await pub.bind(run.endpoint))
            for message in run.greetings():
                await pub.send(message)
                await trio.sleep(PAUSE)
            await _send(pub, run)
            for message in run.farewells():
                await pub.send(message)
                await trio.sleep(PAUSE)

    async def subscribe(self, run: Run) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(run.scenario.subscribers):
                nursery.start_soon(_subscribe, run)


def _options(run: Run) -> trio_mq.Options:
    return replace(_MARKED, eager_reads=run.scenario.eager_reads)


async def _send(socket: trio_mq.Push | trio_mq.Pub, run: Run) -> None:
    if run.scenario.batch:
        for chunk in run.chunks():
            await socket.send_many(chunk)
    else:
        for chunk in run.chunks():
            for message in chunk:
                await socket.send(message)


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
    options = replace(_UNMARKED, **multicast_options(run))
    async with trio_mq.Sub(connect=run.endpoint, topics=(), options=options) as sub:
        sub.subscribe(HELLO)
        await sub.receive()
        for topic in run.topics:
            sub.subscribe(topic)
        sub.subscribe(READY)
        while await sub.receive() != READY:
            pass
        run.subscriber_ready()
        run.subscriber_ended(await (_count_batches if run.scenario.batch else _count)(sub, run))


async def _count(sub: trio_mq.Sub, run: Run) -> int:
    while await sub.receive() in GREETINGS:
        pass
    run.begin()
    count = 1
    while await sub.receive() != END:
        count += 1
    return count


async def _count_batches(sub: trio_mq.Sub, run: Run) -> int:
    batch: Sequence[object] = []
    while not batch:
        batch = [message for message in await sub.receive_many() if message not in GREETINGS]
    run.begin()
    count = len(batch)
    while batch[-1] != END:  # nothing else follows one
        batch = await sub.receive_many()
        count += len(batch)
    return count - batch.count(END)


LIBRARY = _TrioMQ()
