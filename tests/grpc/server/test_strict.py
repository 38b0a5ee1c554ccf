"""REQ sockets, and callers behind proxies, on the same port as everybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio

import trio_mq
from trio_mq_grpc._blocks import Head, encode_head
from trio_mq_grpc._wire import CALL, DATA, END, FRAG, HEAD, MSG, PING, PONG, RESET, STATUS, pack

from ._raw import Code, Unit, cut, dial, echo, new_endpoint, port_of, serving

PATH = b"/test.Service/M"
ALL = MSG | END


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def metadata(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata((("key", "value"),))
    return request


async def fail(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata((("key", "value"),))
    await context.abort(Code.NOT_FOUND, "gone")
    return b""


async def forever(request: bytes, context: Any) -> bytes:
    await trio.sleep_forever()
    return b""


@asynccontextmanager
async def requester(**kinds: Any) -> AsyncIterator[trio_mq.Req]:
    where = new_endpoint()
    async with (
        serving(endpoint=where, **kinds),
        trio_mq.Req(connect=where, options=trio_mq.Options(linger=0)) as req,
    ):
        yield req


async def ask(req: trio_mq.Req, *frames: bytes) -> Unit:
    """The one answer to a request."""
    with trio.fail_after(5):
        await req.send_multipart(frames)
        return cut(await req.receive_multipart(), 0)


async def test_a_req_makes_unary_calls() -> None:
    async with requester(unary_unary={"M": echo}) as req:
        for call_id in (1, 2):
            unit = await ask(req, pack(CALL, ALL, 0, call_id), PATH, b"x")
            assert unit == (DATA, ALL | STATUS, 0, call_id, [b"x", b""])


async def test_a_req_gets_initial_metadata_with_its_one_reply() -> None:
    async with requester(unary_unary={"M": metadata}) as req:
        unit = await ask(req, pack(CALL, ALL, 0, 1), PATH, b"x")
        assert unit.flags == HEAD | ALL | STATUS
        assert unit.head.metadata == (("key", "value"),)
        assert unit.frames[1:] == [b"x", b""]


async def test_a_req_gets_initial_metadata_with_a_failure() -> None:
    async with requester(unary_unary={"M": fail}) as req:
        unit = await ask(req, pack(CALL, ALL, 0, 1), PATH, b"x")
        assert unit.head.metadata == (("key", "value"),)
        assert (unit.code, unit.details) == (Code.NOT_FOUND, "gone")


async def test_a_req_hears_of_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with requester(unary_unary={"M": forever}) as req:
        unit = await ask(req, pack(CALL, ALL | HEAD, 0, 1), PATH, encode_head(Head(timeout_us=1_000_000)), b"x")
        assert unit.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"nonsense"], Code.INTERNAL),
        ([b""], Code.INTERNAL),
        ([b"x" * 16], Code.INTERNAL),
        ([pack(CALL, ALL, 0, 1)], Code.UNIMPLEMENTED),
        ([pack(CALL, 0, 0, 1), PATH], Code.UNIMPLEMENTED),
        ([pack(CALL, MSG, 0, 1), PATH, b"x"], Code.UNIMPLEMENTED),
        ([pack(CALL, MSG | FRAG, 0, 1), PATH, b"\0\0\0\2", b"x"], Code.UNIMPLEMENTED),
        ([pack(CALL, ALL, 0, 1), PATH, b"x", b"y"], Code.INTERNAL),
        ([pack(CALL, ALL, 0, 1), b"/nobody/M", b"x"], Code.UNIMPLEMENTED),
        ([pack(CALL, ALL, 0, 1), b"/test.Service/Count", b"3"], Code.UNIMPLEMENTED),
        ([pack(DATA, MSG, 1, 1), b"x"], Code.INTERNAL),
        ([pack(RESET, 0, 0, 1)], Code.INTERNAL),
    ],
)
async def test_a_req_gets_an_answer_whatever_it_says(frames: list[bytes], code: Any) -> None:
    async with requester(unary_unary={"M": echo}, unary_stream={"Count": count}) as req:
        assert (await ask(req, *frames)).code is code
        assert (await ask(req, pack(CALL, ALL, 0, 2), PATH, b"next")).frames == [b"next", b""]


async def test_a_req_cannot_stream_where_interceptors_choose_the_handler() -> None:
    class Through(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            return await continuation(details)

    async with requester(unary_stream={"M": count}, interceptors=[Through()]) as req:
        assert (await ask(req, pack(CALL, ALL, 0, 1), PATH, b"3")).code is Code.UNIMPLEMENTED
        assert (await ask(req, pack(CALL, ALL, 0, 2), PATH, b"3")).code is Code.UNIMPLEMENTED


async def test_a_req_s_ping_is_answered() -> None:
    async with requester() as req:
        assert (await ask(req, pack(PING, 0, 5, 0)))[:3] == (PONG, 0, 5)


async def test_a_correlated_req_gets_its_own_frame_back() -> None:
    where = new_endpoint()
    options = trio_mq.Options(linger=0, req_correlate=True)
    async with (
        serving(endpoint=where, unary_unary={"M": echo}),
        trio_mq.Req(connect=where, options=options) as req,
    ):
        assert (await ask(req, pack(CALL, ALL, 0, 1), PATH, b"x")).frames == [b"x", b""]


# --- proxies ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def proxied(**kinds: Any) -> AsyncIterator[str]:
    """The front of a ROUTER–DEALER proxy before a server."""
    front_end, where = new_endpoint(), new_endpoint()
    async with (
        serving(endpoint=where, **kinds),
        trio_mq.Router(bind=front_end) as front,
        trio_mq.Dealer(connect=where) as back,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio_mq.proxy, front, back)
        yield front_end
        nursery.cancel_scope.cancel()


async def test_callers_behind_one_proxy_may_use_the_same_call_id() -> None:
    release = trio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    async with (
        proxied(unary_unary={"M": handler}) as front,
        dial(front) as one,
        dial(front) as two,
        trio_mq.Req(connect=front) as req,
    ):
        await one.call("M", b"one")
        await two.call("M", b"two")
        await req.send_multipart([pack(CALL, ALL, 0, 1), PATH, b"req"])
        release.set()
        assert (await one.receive()).frames == [b"one", b""]
        assert (await two.receive()).frames == [b"two", b""]
        with trio.fail_after(5):
            assert (await req.receive_multipart())[1:] == [b"req", b""]


async def test_streams_and_resets_pass_a_proxy_with_one_backend() -> None:
    cancelled = trio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                yield request
        finally:
            if context.cancelled():
                cancelled.set()

    async with proxied(stream_stream={"M": handler}) as front, dial(front) as caller:
        call_id = await caller.call("M", b"a", flags=MSG)
        assert (await caller.receive()).frames == [b"a"]
        await caller.data(call_id, b"b", flags=ALL)
        messages, end = await caller.receive_end()
        assert (messages, end.code) == ([b"b"], Code.OK)
        second = await caller.call("M", b"a", flags=MSG)
        await caller.receive()
        await caller.reset(second)
        with trio.fail_after(5):
            await cancelled.wait()


async def test_nonsense_behind_a_proxy_is_answered_for_it_may_be_a_req_s() -> None:
    async with proxied(unary_unary={"M": echo}) as front, trio_mq.Req(connect=front) as req:
        assert (await ask(req, b"nonsense")).code is Code.INTERNAL
        assert (await ask(req, pack(CALL, ALL, 0, 2), PATH, b"next")).frames == [b"next", b""]


async def test_an_envelope_without_end_is_dropped() -> None:
    async with serving(unary_unary={"M": echo}) as (server, caller):
        port = port_of(server)
        await caller.dealer.send_multipart([b"frame"] * 9 + [b"", pack(CALL, ALL, 0, 1), PATH, b"x"])
        await caller.dealer.send_multipart([b"x" * 2000, b"", pack(CALL, ALL, 0, 1), PATH, b"x"])
        await caller.nothing_comes()
        assert port.dropped["no unit"] == 2
