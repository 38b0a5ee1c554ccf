"""Processes that are killed, connections that are cut at any moment: calls end, and none is run twice."""

from __future__ import annotations

import functools
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio

import trio_mq
import trio_mq_grpc
from tests.interop._relay import Relay, relay_to
from trio_mq_grpc._subchannel import _MOST
from trio_mq_grpc._wire import CALL, DATA, END, MSG, PROPERTY, RESET, STATUS, announce, pack

from .._kit import fails_with, wait_until
from ..server._raw import port_of, service
from ._raw_server import FULL, RawServer

Code = grpc.StatusCode
ROOT = Path(__file__).resolve().parents[3]
NO_CALL = 1


@asynccontextmanager
async def process(part: str, endpoint: str = "") -> AsyncIterator[trio.Process]:
    """A part of `_doomed`, in a process of its own."""
    command = [sys.executable, "-m", "tests.grpc.faults._doomed", part, endpoint]
    started = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert started.stdout is not None
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.stdout.aclose()
        with trio.CancelScope(shield=True):
            await started.wait()


async def line_of(running: trio.Process) -> str:
    assert running.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        data = await running.stdout.receive_some()
        assert data, "it has ended"
        line += data
    return line.decode().strip()


# --- killed processes ------------------------------------------------------------------------------------------------


async def test_a_server_killed_in_the_middle_of_a_stream_ends_the_call_unavailable() -> None:
    async with process("server") as running:
        endpoint = await line_of(running)
        async with trio_mq_grpc.insecure_channel(endpoint) as channel:
            stream = channel.unary_stream("/test.Service/Count")(b"")
            unary = channel.unary_unary("/test.Service/Hang")(b"")
            for number in range(100):
                assert await stream.read() == b"%d" % number
            running.send_signal(signal.SIGKILL)
            with fails_with(Code.UNAVAILABLE):
                while True:
                    await stream.read()
            with fails_with(Code.UNAVAILABLE):
                await unary
            assert await stream.code() is Code.UNAVAILABLE


async def test_a_server_killed_in_the_middle_of_a_large_message_ends_the_call_unavailable() -> None:
    async with process("server") as running:
        endpoint = await line_of(running)
        async with trio_mq_grpc.insecure_channel(endpoint) as channel:
            calls = [channel.unary_unary("/test.Service/Large")(b"") for _ in range(10)]
            assert len(await calls[0]) == 3_000_000
            running.send_signal(signal.SIGKILL)
            for call in calls[1:]:
                assert await call.code() in (Code.UNAVAILABLE, Code.OK)


async def test_a_client_killed_in_the_middle_of_an_upload_cancels_its_handlers_and_no_other() -> None:
    got, ended = [], trio.Event()

    async def upload(requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            async for request in requests:
                got.append(len(request))  # noqa: PERF401  # each as it comes: the test watches
        finally:
            if context.cancelled():
                ended.set()
        return b"%d" % len(got)

    server = trio_mq_grpc.server()
    server.add_generic_rpc_handlers([service(stream_unary={"Upload": upload})])
    port = server.add_insecure_port("127.0.0.1:0")
    async with server, trio_mq_grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        other = channel.stream_unary("/test.Service/Upload")()
        await other.write(b"x")
        async with process("client", f"tcp://127.0.0.1:{port}") as running:
            await wait_until(lambda: len(got) > 20)
            running.send_signal(signal.SIGKILL)
            with trio.fail_after(5):
                await ended.wait()
        await wait_until(lambda: len(port_of(server).peers) == 1)
        (peer,) = port_of(server).peers.values()
        assert (len(peer.calls), server._home.pool.busy) == (1, 1)
        await other.done_writing()
        assert int(await other) > 20


# --- cut connections -------------------------------------------------------------------------------------------------


async def cut_often(relay: Relay, how: str, well: list[bytes], chance: random.Random, callers: trio.Nursery) -> int:
    """Cut the connection again and again, each time when some more calls went *well*; how often it was."""
    cuts = 0
    while callers.child_tasks and cuts < 15:
        enough, seen = len(well) + chance.randrange(3, 30), len(relay.connections)
        while callers.child_tasks and (len(well) < enough or not seen):
            await trio.sleep(0.001)
            seen = len(relay.connections)
        getattr(relay.connections[-1], how)()
        cuts += 1
        while callers.child_tasks and len(relay.connections) <= seen:
            await trio.sleep(0.001)
    return cuts


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("how", ["finish", "reset"])
async def test_no_call_runs_twice_however_often_the_connection_is_cut(how: str, seed: int) -> None:
    """Each has a name; the server counts. Cuts come after random numbers of calls, in the middle of the traffic."""
    chance = random.Random(seed)
    ran: Counter[bytes] = Counter()

    async def handler(request: bytes, context: Any) -> bytes:
        ran[request[:8]] += 1
        return request[:8]

    async def stream(requests: AsyncIterator[bytes], context: Any) -> bytes:
        (only,) = [request async for request in requests]
        ran[only[:8]] += 1
        return only[:8]

    well: list[bytes] = []
    outcomes: Counter[grpc.StatusCode] = Counter()

    async def caller(channel: Any, number: int) -> None:
        for step in range(40):
            name = b"%03d-%04d" % (number, step)
            request = name + bytes(chance.choice((0, 10, 5_000, 300_000)))
            if number % 3:
                call = channel.unary_unary("/test.Service/M")(request, timeout=20, wait_for_ready=True)
            else:
                call = channel.stream_unary("/test.Service/S")(iter([request]), timeout=20, wait_for_ready=True)
            try:
                assert await call == name
                well.append(name)
            except grpc.aio.AioRpcError as exc:
                outcomes[exc.code()] += 1

    server = trio_mq_grpc.server()
    server.add_generic_rpc_handlers([service(unary_unary={"M": handler}, stream_unary={"S": stream})])
    port = server.add_insecure_port("127.0.0.1:0")
    options = [("grpc.initial_reconnect_backoff_ms", 5), ("grpc.max_reconnect_backoff_ms", 5)]
    async with server, relay_to(f"tcp://127.0.0.1:{port}") as relay:
        async with trio_mq_grpc.insecure_channel(relay.endpoint, options) as channel:
            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(caller, channel, number)
                cuts = await cut_often(relay, how, well, chance, nursery)
    assert cuts >= 5
    assert max(ran.values()) == 1
    assert all(ran[name] == 1 for name in well)
    assert set(outcomes) <= {Code.UNAVAILABLE}
    assert outcomes[Code.UNAVAILABLE]


async def test_calls_that_never_left_this_process_are_made_again_without_a_policy() -> None:
    """The server does not read, so calls wait here; then it is gone, and the next one gets them."""
    async with trio.open_nursery() as nursery:
        options = trio_mq.Options(linger=0, properties={PROPERTY: announce(FULL)}, receive_hwm_bytes=1000)
        listener = trio_mq.listen("tcp://127.0.0.1:0", options)
        endpoint = listener.endpoint
        quick = [("grpc.initial_reconnect_backoff_ms", 10), ("grpc.max_reconnect_backoff_ms", 10)]
        async with trio_mq_grpc.insecure_channel(endpoint, quick) as channel:
            async with trio_mq.Router(bind=listener, options=options):
                # Fills what is between the ends: both kernels' buffers, and the socket's own queue.
                await channel.channel_ready()
                blocking = [channel.unary_unary("/test.Service/M")(bytes(1_000_000)) for _ in range(20)]
                subchannel = channel._dispatcher.subchannels[0]
                await wait_until(lambda: subchannel.outbox.blocked)
                waiting = [channel.unary_unary("/test.Service/M")(b"%d" % number) for number in range(100)]
                assert subchannel.outbox.unopened >= {call._rpc.call_id for call in waiting}
            async with trio_mq.Router(bind=endpoint, options=trio_mq.Options(linger=0)) as router:
                nursery.start_soon(answer_all, RawServer(router))  # noqa: ASYNC111  # it ends before
                with trio.fail_after(10):
                    assert [await call for call in waiting] == [b"%d" % number for number in range(100)]
                    for call in blocking:
                        assert await call.code() in (Code.UNAVAILABLE, Code.OK)
                nursery.cancel_scope.cancel()


async def answer_all(server: RawServer) -> None:
    while True:
        caller, _, header, *rest = await server.router.receive_multipart()
        if header[1] != CALL:
            continue
        call_id = int.from_bytes(header[8:], "big")
        await server.router.send_multipart([caller, b"", pack(DATA, MSG | END | STATUS, 0, call_id), rest[-1], b""])


async def test_an_answer_from_the_connection_before_matches_nothing() -> None:
    async with trio_mq.Router(bind="tcp://127.0.0.1:0", options=trio_mq.Options(linger=0)) as router:
        server = RawServer(router)
        quick = [("grpc.initial_reconnect_backoff_ms", 10)]
        async with relay_to(router.endpoints[0]) as relay:
            async with trio_mq_grpc.insecure_channel(relay.endpoint, quick) as channel:
                lost = channel.unary_unary("/test.Service/M")(b"x")
                old = await server.receive_call()
                relay.connections[-1].finish()
                assert await lost.code() is Code.UNAVAILABLE
                call = channel.unary_unary("/test.Service/M")(b"x", wait_for_ready=True, timeout=10)
                new = await server.receive_call()
                assert new > old
                await server.send(pack(DATA, MSG | END | STATUS, 0, old), b"old", b"")
                await server.send(pack(DATA, MSG | END | STATUS, 0, new), b"new", b"")
                assert await call == b"new"


@pytest.mark.parametrize("unread", [0, _MOST])
async def test_calls_begun_on_the_next_connection_before_the_loss_was_heard_of_do_not_run_on(
    monkeypatch: pytest.MonkeyPatch, unread: int
) -> None:
    dealers: list[trio_mq.Dealer] = []
    hearing = trio.Event()
    hearing.set()

    class BusyDealer(trio_mq.Dealer):
        """The socket of a program that does not hear what happens while it does other things."""

        def _prepare(self) -> None:
            super()._prepare()
            dealers.append(self)

        async def receive_many(self, limit: int | None = None) -> list[Any]:
            await self.wait_receivable()
            await hearing.wait()
            return self.receive_many_nowait(limit)

    monkeypatch.setattr(trio_mq, "Dealer", BusyDealer)
    options = trio_mq.Options(linger=0, properties={PROPERTY: announce(FULL)})
    quick = [("grpc.initial_reconnect_backoff_ms", 10)]
    async with trio_mq.Router(bind="tcp://127.0.0.1:0", options=options) as router:
        server = RawServer(router)
        async with relay_to(router.endpoints[0]) as relay:
            async with trio_mq_grpc.insecure_channel(relay.endpoint, quick) as channel:
                stream = channel.unary_stream("/test.Service/M")
                before = stream(b"x")
                old = await server.receive_call()
                await server.send_to_call(old, MSG, 0, b"x")
                assert await before.read() == b"x"

                hearing = trio.Event()
                for _ in range(unread):
                    await server.send_to_call(NO_CALL, MSG, 0, b"x")
                await wait_until(lambda: dealers[0].statistics().peers[0].unread_messages == unread)
                relay.connections[-1].finish()
                await wait_until(lambda: not dealers[0].can_send())
                await dealers[0].wait_connected()
                between = stream(b"x")
                new = await server.receive_call()

                hearing.set()
                assert await before.code() is await between.code() is Code.UNAVAILABLE
                unit = await server.receive()
                assert (unit.kind, unit.call_id) == (RESET, new)  # and none for the old one, which went with its peer
                after = stream(b"x", wait_for_ready=True)
                unit = await server.receive()
                assert unit.kind == CALL
                await server.send_to_call(unit.call_id, MSG, 0, b"x")
                assert await after.read() == b"x"

                relay.connections[-1].finish()
                assert await after.code() is Code.UNAVAILABLE
                last = stream(b"x", wait_for_ready=True)
                assert (await server.receive()).kind == CALL  # they are cancelled once
                last.cancel()


def more_than(some: Counter[bytes], least: int) -> bool:
    return len(some) > least


async def test_servers_that_stop_under_load_lose_no_call_and_run_none_twice() -> None:
    """GOAWAY crosses calls on their way: those are made again at the other server, and only those."""
    ran: Counter[bytes] = Counter()

    async def handler(request: bytes, context: Any) -> bytes:
        ran[request] += 1
        await trio.sleep(0.001)
        return request

    async def caller(number: int) -> None:
        for step in range(60):
            name = b"%d-%d" % (number, step)
            assert await call(name, timeout=20) == name

    def new_server() -> tuple[Any, int]:
        server = trio_mq_grpc.server()
        server.add_generic_rpc_handlers([service(unary_unary={"M": handler})])
        return server, server.add_insecure_port("127.0.0.1:0")

    staying, port = new_server()
    async with staying, trio.open_nursery() as servers:
        going = [new_server() for _ in range(4)]
        for server, _ in going:
            await servers.start(server.serve)
        targets = [f"tcp://127.0.0.1:{each}" for each in (port, *(each for _, each in going))]
        async with trio_mq_grpc.insecure_channel(targets, [("grpc.lb_policy_name", "round_robin")]) as channel:
            call = channel.unary_unary("/test.Service/M")
            async with trio.open_nursery() as callers:
                for number in range(30):
                    callers.start_soon(caller, number)
                for stopped, (server, _) in enumerate(going):
                    await wait_until(functools.partial(more_than, ran, (stopped + 1) * 300))
                    await server.stop(5)
    assert len(ran) == 30 * 60
    assert set(ran.values()) == {1}
