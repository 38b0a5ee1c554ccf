"""Interop cases of channels that live long, and of peers that end a call in the middle of its reply.

From gRPC's descriptions, under their names there: `long_lived_channel`, and of its HTTP/2 suite `rst_after_header`,
`rst_during_data` and `rst_after_data`. What cuts a call there is RST_STREAM; here it is RESET, alone or with a status,
and the connection itself, which ends with a FIN or an RST. A call that was cut never ends with OK, and the next one on
the channel does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
from trio.testing import MockClock

import trio_mq_grpc
from tests.interop._relay import Relay, relay_to
from trio_mq_grpc._blocks import Head, encode_head, encode_status
from trio_mq_grpc._wire import END, FRAG, HEAD, MSG, RESET, STATUS, pack

from .._kit import ends, fails_with, newest_stubs
from ..faults._raw_server import RawServer, raw_server
from ..interop_service import interop_servicer
from ..server._raw import port_of
from ._cases import CASES

CODE = grpc.StatusCode
PATH = "/grpc.testing.TestService/Cut"
MANY_MINUTES = 15 * 60 + 7.0
"""Seconds between two calls; not a multiple of the next, or a call and a heartbeat would come at the same time."""
HEARTBEAT = 20.0
"""Seconds, of both ends unless an option says otherwise."""


# --- long_lived_channel ----------------------------------------------------------------------------------------------


def service() -> Any:
    stubs = newest_stubs()
    return stubs.interop_grpc.add_TestServiceServicer_to_server, interop_servicer(stubs, trio.sleep)


async def test_long_lived_channel(autojump_clock: MockClock) -> None:
    """A large call now and then through a whole day, all on one connection."""
    async with ends(service(), transport="inproc") as both:
        await CASES["large_unary"](newest_stubs(), both.channel)
        connections = dict(port_of(both.server).peers)
        while trio.current_time() < 24 * 3600:
            await trio.sleep(MANY_MINUTES)
            await CASES["large_unary"](newest_stubs(), both.channel)
        assert port_of(both.server).peers == connections


@pytest.fixture
def patient_clock() -> MockClock:
    """A clock that jumps when nothing has come through the kernel for a while either."""
    return MockClock(autojump_threshold=0.01)


async def test_long_lived_channel_with_heartbeats(patient_clock: MockClock) -> None:
    """The same over tcp, where both ends make sure all the time that the other one is there."""
    async with ends(service()) as both, relay_to(both.target) as relay:
        async with trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
            for calls in range(3):
                await CASES["large_unary"](newest_stubs(), channel)
                (connection,) = relay.connections
                silent = int(calls * MANY_MINUTES / HEARTBEAT)
                for sent, heard in [
                    (connection.from_connecter, connection.from_binder),
                    (connection.from_binder, connection.from_connecter),
                ]:
                    assert silent - 1 <= sent.count(b"\x04PING") <= silent + calls
                    assert heard.count(b"\x04PONG") == sent.count(b"\x04PING")
                await trio.sleep(MANY_MINUTES)
            assert channel.get_state() is grpc.ChannelConnectivity.READY


# --- rst_after_header, rst_during_data, rst_after_data ---------------------------------------------------------------


class Exchange:
    """A call that is under way between a channel of ours and a server that speaks units by hand."""

    def __init__(self, server: RawServer, channel: Any, relay: Relay, call: Any, call_id: int) -> None:
        self.server = server
        self.channel = channel
        self.relay = relay
        self.call = call
        self.call_id = call_id

    async def send(self, flags: int, *frames: bytes) -> None:
        """Send the first DATA of the reply, and see it pass."""
        await self.server.send_to_call(self.call_id, flags, 0, *frames)
        await self.relay.wait_seen(frames[-1], 1, from_connecter=False)

    async def ends_another_call_well(self) -> None:
        with trio.fail_after(5):
            call = self.channel.unary_unary(PATH)(b"again")
            call_id = await self.server.receive_call()
            await self.server.send_to_call(call_id, MSG | END | STATUS, 0, b"well", b"")
            assert await call == b"well"


@asynccontextmanager
async def exchange(kind: str) -> AsyncIterator[Exchange]:
    """A call of *kind*, "unary_unary" or "unary_stream", which the server has heard of."""
    async with raw_server(endpoint="tcp://127.0.0.1:*") as (server, _):
        (bound,) = server.router.endpoints
        async with relay_to(bound) as relay, trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
            call = getattr(channel, kind)(PATH)(b"request")
            yield Exchange(server, channel, relay, call, await server.receive_call())


async def fin(exchange: Exchange) -> None:
    exchange.relay.connections[-1].finish()


async def rst(exchange: Exchange) -> None:
    exchange.relay.connections[-1].reset()


async def reset(exchange: Exchange) -> None:
    await exchange.server.send(pack(RESET, 0, 0, exchange.call_id))


async def reset_with_status(exchange: Exchange) -> None:
    await exchange.server.send(pack(RESET, STATUS, 0, exchange.call_id), encode_status(13, "cut", ()))


Cut = Callable[[Exchange], Awaitable[None]]
CUTS: list[tuple[Cut, grpc.StatusCode]] = [
    (fin, CODE.UNAVAILABLE),
    (rst, CODE.UNAVAILABLE),
    (reset, CODE.CANCELLED),
    (reset_with_status, CODE.INTERNAL),
]
by_whatever_cuts = pytest.mark.parametrize(("cut", "code"), CUTS, ids=[cut.__name__ for cut, _ in CUTS])
of_both_kinds = pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])


async def fails(exchange: Exchange, code: grpc.StatusCode) -> None:
    """Check that the call ends with *code*, whoever asks, and gives nothing more; and that it was this call alone."""
    call = exchange.call
    with trio.fail_after(5):
        with fails_with(code):
            await (call.read() if hasattr(call, "read") else call)
        assert await call.code() is code
    await exchange.ends_another_call_well()


@by_whatever_cuts
@of_both_kinds
async def test_rst_after_header(kind: str, cut: Cut, code: grpc.StatusCode) -> None:
    async with exchange(kind) as under_way:
        await under_way.send(HEAD, encode_head(Head(metadata=(("said", "before-the-cut"),))))
        assert list(await under_way.call.initial_metadata()) == [("said", "before-the-cut")]
        await cut(under_way)
        await fails(under_way, code)


@by_whatever_cuts
@of_both_kinds
async def test_rst_during_data(kind: str, cut: Cut, code: grpc.StatusCode) -> None:
    """The first piece of a message has come, the second never does."""
    async with exchange(kind) as under_way:
        await under_way.send(MSG | FRAG, (1000).to_bytes(4, "big"), b"one-half-of-it")
        await cut(under_way)
        await fails(under_way, code)


@by_whatever_cuts
@of_both_kinds
async def test_rst_after_data(kind: str, cut: Cut, code: grpc.StatusCode) -> None:
    """All of the message has come, and only its status is missing. A stream gives it out first."""
    async with exchange(kind) as under_way:
        await under_way.send(MSG, b"all-of-it")
        if kind == "unary_stream":
            assert await under_way.call.read() == b"all-of-it"
        await cut(under_way)
        await fails(under_way, code)
