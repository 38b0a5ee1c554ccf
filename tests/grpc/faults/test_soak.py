"""Thousands of calls that end in every way there is, over one server and one channel: nothing is left of them."""

from __future__ import annotations

import gc
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio

import trio_mq
import trio_mq_grpc
from tests.interop._relay import Relay, relay_to

from .._kit import wait_until
from ..server._raw import Caller, port_of, service

Code = grpc.StatusCode
ROUNDS = 10
CALLS = 400
"""Of each round; with the peers that come and go that is some 5,000 in all."""
TRIOS_OWN = ("CancelScope", "tuple")
"""Trio keeps up to a thousand scopes with a deadline after they have ended, each in a tuple."""


class Failing(Exception):
    """What the handlers of this file raise."""


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def fail(request: bytes, context: Any) -> bytes:
    raise Failing


async def abort(request: bytes, context: Any) -> bytes:
    await context.abort(Code.ABORTED, "no", (("why", "x" * 100),))
    return b""


async def hang(request: bytes, context: Any) -> bytes:
    await trio.sleep_forever()
    return b""


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def total(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"%d" % sum([len(request) async for request in requests])


async def chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async with trio.open_nursery():
        async for request in requests:
            yield request


def plain(request: bytes, context: Any) -> bytes:
    return request


def add_handlers(server: Any) -> None:
    server.add_generic_rpc_handlers(
        [
            service(
                unary_unary={"Echo": echo, "Fail": fail, "Abort": abort, "Hang": hang, "Plain": plain},
                unary_stream={"Count": count},
                stream_unary={"Total": total},
                stream_stream={"Chat": chat},
            )
        ]
    )


class Calls:
    """One call of each way to end."""

    def __init__(self, channel: Any) -> None:
        unary = channel.unary_unary
        self.echo, self.plain = unary("/test.Service/Echo"), unary("/test.Service/Plain")
        self.fail, self.abort = unary("/test.Service/Fail"), unary("/test.Service/Abort")
        self.hang, self.nowhere = unary("/test.Service/Hang"), unary("/test.Service/Nowhere")
        self.count = channel.unary_stream("/test.Service/Count")
        self.total = channel.stream_unary("/test.Service/Total")
        self.chat = channel.stream_stream("/test.Service/Chat")

    async def ok(self) -> None:
        await self.echo(b"x" * random.randrange(5000), timeout=3600, metadata=(("key", "value"),))

    async def large(self) -> None:
        await self.echo(bytes(1_500_000))

    async def in_a_thread(self) -> None:
        await self.plain(b"x")

    async def failing(self) -> None:
        await self.fail(b"x")

    async def aborted(self) -> None:
        await self.abort(b"x")

    async def unknown(self) -> None:
        await self.nowhere(b"x")

    async def too_large(self) -> None:
        await self.echo(bytes(5_000_000))

    async def timed_out(self) -> None:
        await self.hang(b"x", timeout=random.random() * 0.02)

    async def cancelled(self) -> None:
        call = self.hang(b"x")
        if random.random() < 0.5:
            await trio.lowlevel.checkpoint()
        call.cancel()
        await call

    async def cancelled_from_outside(self) -> None:
        with trio.move_on_after(random.random() * 0.02):
            await self.hang(b"x")

    async def streamed(self) -> None:
        assert len([message async for message in self.count(b"50")]) == 50

    async def abandoned_half_way(self) -> None:
        async with self.count(b"1000000") as call:
            async for message in call:
                if message == b"20":
                    break

    async def uploaded(self) -> None:
        assert await self.total(iter([bytes(1000)] * 20)) == b"20000"

    async def upload_abandoned(self) -> None:
        async with self.total() as call:
            for _ in range(5):
                await call.write(bytes(100_000))

    async def chatted(self) -> None:
        async with self.chat(timeout=3600) as call:
            for number in range(5):
                await call.write(b"%d" % number)
                assert await call.read() == b"%d" % number
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

    async def chat_abandoned(self) -> None:
        async with self.chat() as call:
            await call.write(b"x")
            await call.read()


EXPECTED = {
    "failing": Code.UNKNOWN,
    "aborted": Code.ABORTED,
    "unknown": Code.UNIMPLEMENTED,
    "too_large": Code.RESOURCE_EXHAUSTED,
    "timed_out": Code.DEADLINE_EXCEEDED,
    "cancelled": Code.CANCELLED,
}
WAYS = tuple(name for name, value in vars(Calls).items() if not name.startswith("_") and callable(value))
RARE = ("large", "too_large")


async def one_round(calls: Calls, ended: Counter[str]) -> None:
    """Many calls, twenty at once."""
    limiter = trio.CapacityLimiter(20)

    async def one(way: str) -> None:
        async with limiter:
            code = None
            try:
                await getattr(calls, way)()
            except grpc.aio.AioRpcError as exc:
                code = exc.code()
            assert code is EXPECTED.get(way), way
            ended[way] += 1

    weights = [1 if way in RARE else 30 for way in WAYS]
    async with trio.open_nursery() as nursery:
        for way in random.choices(WAYS, weights, k=CALLS):
            nursery.start_soon(one, way)


async def peers_that_go(relay: Relay, server: Any) -> None:
    """Channels whose connection breaks under their calls, and raw peers that leave theirs open."""
    async with trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
        calls = Calls(channel)
        open_calls = [calls.hang(b"x") for _ in range(20)]
        streams = [calls.count(b"1000000") for _ in range(5)]
        for stream in streams:
            await stream.read()
        relay.connections[-1].reset()
        for call in (*open_calls, *streams):
            assert await call.code() is Code.UNAVAILABLE
    options = trio_mq.Options(linger=0)
    async with trio_mq.Dealer(connect=port_of(server).endpoint, options=options) as dealer:
        caller = Caller(dealer)
        for _ in range(20):
            await caller.call("Hang", b"x")
            await caller.call("Chat", bytes(1000), flags=2)
        await caller.receive()
    await wait_until(lambda: len(port_of(server).peers) == 1)


def rss() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class State:
    """What there is now, of everything that a call may leave behind."""

    def __init__(self, server: Any, channel: Any) -> None:
        gc.collect()
        gc.collect()
        (peer,) = port_of(server).peers.values()
        subchannel = channel._dispatcher.subchannels[0]
        self.tasks = trio.lowlevel.current_statistics().tasks_living
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.bytes = rss()
        self.left = {
            "calls of the server": len(peer.calls),
            "handlers": server._home.pool.busy,
            "handlers of the peer": peer.running,
            "calls of the channel": len(channel._dispatcher.active) + len(channel._dispatcher.waiting),
            "calls of the connection": len(subchannel.calls),
            "deadlines": len(server._home.wheel) + len(channel._dispatcher.wheel),
            "waiting": peer.outbox.waiting_bytes + subchannel.outbox.waiting_bytes + len(peer.held),
            "waiting control": len(peer.outbox._control) + len(subchannel.outbox._control),
        }
        self.kinds = Counter(type(each).__name__ for each in gc.get_objects())


def idle(server: Any, channel: Any) -> bool:
    return server._home.pool.busy == 0 and not channel._dispatcher.active and len(port_of(server).peers) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_after_thousands_of_calls_of_every_kind_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(100)  # records of failing handlers hold their tracebacks, and those hold everything
    random.seed(7)
    ended: Counter[str] = Counter()
    server = trio_mq_grpc.server()
    add_handlers(server)
    number = server.add_insecure_port("127.0.0.1:0")
    async with server, relay_to(f"tcp://127.0.0.1:{number}") as relay:
        async with trio_mq_grpc.insecure_channel(f"127.0.0.1:{number}") as channel:
            calls = Calls(channel)
            for _ in range(3):  # workers, threads, buffers and caches are as many as they get
                await one_round(calls, Counter())
                await peers_that_go(relay, server)
                relay.connections.clear()
            await wait_until(lambda: idle(server, channel))
            before = State(server, channel)
            for _ in range(ROUNDS):
                await one_round(calls, ended)
                await peers_that_go(relay, server)
                relay.connections.clear()
            await wait_until(lambda: idle(server, channel))
            after = State(server, channel)
    assert set(ended) == set(WAYS)
    assert not any(after.left.values()), after.left
    assert after.tasks <= before.tasks + 20  # parked workers, of which one round may want more than another
    assert after.descriptors <= before.descriptors
    grown = {kind: more for kind, more in (after.kinds - before.kinds).items() if kind not in TRIOS_OWN}
    assert sum(grown.values()) < 300, grown
    assert after.bytes < before.bytes + 30_000_000
