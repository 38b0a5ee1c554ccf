"""Options of a channel that change what its calls do, each shown by a call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc
from trio_mq_grpc._blocks import decode_head

from .._kit import ends, fails_with, ids_of, receipt
from ..faults._raw_server import raw_server

CODE = grpc.StatusCode
RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.05s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def configured(*options: tuple[str, Any], throttling: dict[str, Any] | None = None, **method: Any) -> dict[str, Any]:
    """Keyword arguments of a channel with a service config for all methods, and with *options*."""
    config: dict[str, Any] = {"methodConfig": [{"name": [{}], **method}]}
    if throttling is not None:
        config["retryThrottling"] = throttling
    return {"options": [("grpc.service_config", json.dumps(config)), *options]}


class Refuses:
    """Handlers that are unavailable, always or the first time, and count."""

    def __init__(self, times: int = 1000) -> None:
        self.attempts = 0
        self._times = times

    async def _attempt(self, context: Any) -> None:
        self.attempts += 1
        if self.attempts <= self._times:
            await context.abort(CODE.UNAVAILABLE, "not now")

    async def place(self, request: Any, context: Any) -> Any:
        await self._attempt(context)
        return receipt(id=request.id)

    async def upload(self, requests: AsyncIterator[Any], context: Any) -> Any:
        ids = await ids_of(requests)
        await self._attempt(context)
        return receipt(id="+".join(ids))


# --- retries ---------------------------------------------------------------------------------------------------------


async def test_a_stream_is_made_again_with_all_of_its_requests() -> None:
    handlers = Refuses(times=1)
    async with ends(channel=configured(retryPolicy=RETRIES), Upload=handlers.upload) as both:
        reply = await both.stub.Upload(both.order(id=each) for each in "abc")
        assert (reply.id, handlers.attempts) == ("a+b+c", 2)


async def test_a_stream_that_is_longer_than_the_buffer_for_retries_is_made_once() -> None:
    handlers = Refuses(times=1)
    options = configured(("grpc.per_rpc_retry_buffer_size", 4), retryPolicy=RETRIES)
    async with ends(channel=options, Upload=handlers.upload) as both:
        with fails_with(CODE.UNAVAILABLE, details="not now"):
            await both.stub.Upload(both.order(id=each) for each in "abc")
        assert handlers.attempts == 1


async def test_a_server_that_fails_most_calls_is_not_called_again() -> None:
    handlers = Refuses()
    options = configured(throttling={"maxTokens": 4, "tokenRatio": 0.1}, retryPolicy=RETRIES)
    async with ends(channel=options, Place=handlers.place) as both:
        for _ in range(3):
            with fails_with(CODE.UNAVAILABLE):
                await both.stub.Place(both.order())
        assert (
            handlers.attempts == 4
        )  # two of the first call, and of the others, when half the tokens are gone, one each


# --- sizes, names ----------------------------------------------------------------------------------------------------


async def test_a_service_config_may_limit_messages_both_ways() -> None:
    async def place(request: Any, context: Any) -> Any:
        return receipt(note=bytes(request.quantity))

    async with ends(channel=configured(maxRequestMessageBytes=100, maxResponseMessageBytes=200), Place=place) as both:
        assert len((await both.stub.Place(both.order(quantity=150))).note) == 150
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="vs. 100"):
            await both.stub.Place(both.order(note=bytes(150)))
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="vs. 200"):
            await both.stub.Place(both.order(quantity=250))


async def test_the_authority_of_a_channel_goes_with_its_calls() -> None:
    async with raw_server(options=[("grpc.default_authority", "shop.example")]) as (server, channel):
        call = channel.unary_unary("/test.Service/M")(b"x")
        unit = await server.receive()
        assert decode_head(unit.frames[1]).authority == "shop.example"
        call.cancel()


# --- proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["brokered", "strict_reqrep"])
async def test_through_a_proxy_only_unary_calls_with_a_deadline_are_made(option: str) -> None:
    async with trio_mq_grpc.insecure_channel("inproc://nobody", [(f"trio_mq_grpc.{option}", True)]) as channel:
        for kind in ("unary_stream", "stream_unary", "stream_stream"):
            begin = getattr(channel, kind)("/test.Service/M")
            with pytest.raises(grpc.aio.UsageError, match="unary"):
                begin(b"" if kind == "unary_stream" else None, timeout=1)
        with pytest.raises(grpc.aio.UsageError, match="timeout"):
            channel.unary_unary("/test.Service/M")(b"")
        with trio.fail_after(60):  # a deadline that the call inherits is one, too
            call = channel.unary_unary("/test.Service/M")(b"", wait_for_ready=True)
            call.cancel()
            assert await call.code() is CODE.CANCELLED


# --- keepalive -------------------------------------------------------------------------------------------------------


class Cable:
    """A connection to *port* that can be pulled: nothing passes any more, and nobody is told."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._whole = trio.Event()
        self._whole.set()

    def pull(self) -> None:
        self._whole = trio.Event()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._connect, 0)
            yield f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            nursery.cancel_scope.cancel()

    async def _connect(self, stream: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as other, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, stream, other)
            nursery.start_soon(self._pass, other, stream)

    async def _pass(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            async for data in source:
                await self._whole.wait()
                await target.send_all(data)
            await target.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def test_a_pulled_cable_ends_calls_without_a_deadline_on_both_sides() -> None:
    began, cancelled = trio.Event(), trio.Event()

    async def place(request: Any, context: Any) -> Any:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    keepalive = [("grpc.keepalive_time_ms", 50), ("grpc.keepalive_timeout_ms", 50)]
    async with ends(Place=place, server={"options": keepalive}) as both:
        cable = Cable(int(both.target.rpartition(":")[2]))
        async with cable.laid() as target, trio_mq_grpc.insecure_channel(target, keepalive) as channel:
            call = both.stubs.orders_grpc.OrdersStub(channel).Place(both.order())
            await began.wait()
            cable.pull()
            with trio.fail_after(5):
                with fails_with(CODE.UNAVAILABLE, details="connection was lost"):
                    await call
                await cancelled.wait()


# --- several servers -------------------------------------------------------------------------------------------------


async def test_every_stream_stays_with_the_server_that_it_began_on() -> None:
    began: dict[str, list[str]] = {}
    done: set[str] = set()

    def haggle_at(name: str) -> Any:
        async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                began.setdefault(request.id, []).append(name)
                yield receipt(id=name)

        return haggle

    async def talk(both: Any, stub: Any, name: str) -> None:
        async with stub.Haggle() as call:
            replies = set()
            for _ in range(20):
                await call.write(both.order(id=name))
                replies.add((await call.read()).id)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        assert replies == set(began[name])
        assert (len(replies), len(began[name])) == (1, 20)
        done.add(name)

    async with ends(Haggle=haggle_at("a")) as a, ends(Haggle=haggle_at("b")) as b, ends(Haggle=haggle_at("c")) as c:
        targets = [each.target for each in (a, b, c)]
        balanced = [("grpc.lb_policy_name", "round_robin")]
        async with trio_mq_grpc.insecure_channel(targets, balanced) as channel:
            stub = a.stubs.orders_grpc.OrdersStub(channel)
            while {*map(len, began.values())} != {1} or len({name for names in began.values() for name in names}) < 3:
                began.clear()  # until all three are connected, and each call goes to the next
                for number in range(3):
                    async with stub.Haggle() as call:
                        await call.write(a.order(id=str(number)))
                        await call.read()
            began.clear()
            async with trio.open_nursery() as nursery:
                for number in range(9):
                    nursery.start_soon(talk, a, stub, f"call {number}")
        assert len(done) == 9
        assert {names[0] for names in began.values()} == {"a", "b", "c"}


async def test_a_reply_that_is_too_large_is_reported_as_received_or_sent_by_whose_limit_it_is() -> None:
    async def place(request: Any, context: Any) -> Any:
        return receipt(id="x" * 200)

    for side, option, text in (
        ("channel", "grpc.max_receive_message_length", "Received message larger than max"),
        ("server", "grpc.max_send_message_length", "Sent message larger than max"),
    ):
        async with ends(Place=place, **{side: {"options": [(option, 100)]}}) as both:  # type: ignore[arg-type]  # a dict each
            with fails_with(CODE.RESOURCE_EXHAUSTED, details=text):
                await both.stub.Place(both.order())
