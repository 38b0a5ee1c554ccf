"""Our ends against peers of TMQ-RPC 1 that were written from its public page, on libzmq (`tests.grpc.peers`)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

import grpc
import pytest
import trio

import trio_mq_grpc

pytest.importorskip("zmq")

import zmq  # behind the line that skips without it

from ..peers import level_0, level_1
from ._peer_processes import Methods, proxy, serving

BROKERED = (("trio_mq_grpc.brokered", True),)
STRICT = (("trio_mq_grpc.strict_reqrep", True),)
LARGE = bytes(range(256)) * 6 * 1024
"""1.5 MiB: more than the first window, and what goes out in pieces to those who take them."""


def code_of(error: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> grpc.StatusCode:
    return error.value.code()


async def requests_of(*requests: bytes) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


# --- our client, their servers ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def channel_to(module: str, *arguments: str, options: tuple[tuple[str, Any], ...] = ()) -> AsyncIterator[Any]:
    async with serving(module, *arguments) as endpoint:
        async with trio_mq_grpc.insecure_channel(endpoint, options) as channel:
            yield channel


@pytest.mark.parametrize("payload", [b"hello", b"", LARGE], ids=["short", "empty", "large"])
async def test_a_level_0_server_answers_our_unary_calls(payload: bytes) -> None:
    async with channel_to("level_0", "ROUTER") as channel:
        echo = channel.unary_unary("/peer.Test/Echo")
        assert await echo(payload) == payload
        assert await echo(payload, timeout=10, metadata=(("user", "ada"),)) == payload


async def test_a_level_0_server_s_status_arrives() -> None:
    async with channel_to("level_0", "ROUTER") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/peer.Test/Fail")(b"bread")
        assert (code_of(failed), failed.value.details()) == (grpc.StatusCode.NOT_FOUND, "there is no bread")
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await channel.unary_unary("/peer.Test/Nope")(b"")
        assert code_of(unknown) is grpc.StatusCode.UNIMPLEMENTED


async def test_a_level_0_server_refuses_a_stream_and_nothing_hangs() -> None:
    async with channel_to("level_0", "ROUTER") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.stream_unary("/peer.Test/Echo")(requests_of(b"a", b"b"))
        assert code_of(refused) is grpc.StatusCode.UNIMPLEMENTED
        assert await channel.unary_unary("/peer.Test/Echo")(b"still there") == b"still there"


async def test_many_calls_at_once_reach_a_level_0_server() -> None:
    async with channel_to("level_0", "ROUTER") as channel:
        echo = channel.unary_unary("/peer.Test/Echo")
        calls = [echo(b"%d" % number) for number in range(200)]
        assert [await call for call in calls] == [b"%d" % number for number in range(200)]


async def test_a_level_1_server_serves_our_calls_of_all_kinds() -> None:
    async with channel_to("level_1") as channel:
        assert await channel.unary_unary("/peer.Test/Join")(b"hello") == b"hello"
        assert [reply async for reply in channel.unary_stream("/peer.Test/Repeat")(b"3 word")] == [b"word"] * 3
        assert await channel.stream_unary("/peer.Test/Join")(requests_of(b"a", b"b", b"c")) == b"abc"
        chat = channel.stream_stream("/peer.Test/Chat")()
        for request in (b"one", b"two"):
            await chat.write(request)
            assert await chat.read() == request
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK


async def test_we_grant_a_level_1_server_credit_as_we_read() -> None:
    async with channel_to("level_1", options=(("trio_mq_grpc.window", 1000),)) as channel:
        assert [reply async for reply in channel.unary_stream("/peer.Test/Repeat")(b"2000 word")] == [b"word"] * 2000


async def test_a_level_1_server_gets_large_messages_whole() -> None:
    async with channel_to("level_1") as channel:
        assert await channel.stream_unary("/peer.Test/Join")(requests_of(LARGE, LARGE)) == LARGE * 2


async def test_a_cancelled_call_to_a_level_1_server_leaves_the_others_alone() -> None:
    async with channel_to("level_1") as channel:
        chat = channel.stream_stream("/peer.Test/Chat")()
        await chat.write(b"hello")
        assert await chat.read() == b"hello"
        async with channel.unary_stream("/peer.Test/Repeat")(b"100000 word") as repeat:
            assert await repeat.read() == b"word"
        await chat.write(b"still there")
        assert await chat.read() == b"still there"
        await chat.done_writing()


async def test_a_lost_level_1_server_ends_its_calls() -> None:
    async with contextlib.AsyncExitStack() as server:
        endpoint = await server.enter_async_context(serving("level_1"))
        async with trio_mq_grpc.insecure_channel(endpoint) as channel:
            chat = channel.stream_stream("/peer.Test/Chat")()
            await chat.write(b"hello")
            assert await chat.read() == b"hello"
            await server.aclose()
            with pytest.raises(grpc.aio.AioRpcError) as lost:
                await chat.read()
            assert code_of(lost) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("options", [(), STRICT], ids=["dealer", "strict"])
async def test_a_rep_server_answers_our_unary_calls(options: tuple[tuple[str, Any], ...]) -> None:
    async with channel_to("level_0", "REP", options=options) as channel:
        calls = [channel.unary_unary("/peer.Test/Echo")(b"%d" % number, timeout=10) for number in range(10)]
        assert [await call for call in calls] == [b"%d" % number for number in range(10)]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/peer.Test/Fail")(b"bread", timeout=10)
        assert code_of(failed) is grpc.StatusCode.NOT_FOUND


async def test_a_level_0_server_behind_two_proxies_answers() -> None:
    async with serving("level_0", "ROUTER") as endpoint:
        with proxy(endpoint) as (inner, _), proxy(inner) as (outer, _):
            async with trio_mq_grpc.insecure_channel(outer, BROKERED) as channel:
                echo = channel.unary_unary("/peer.Test/Echo")
                assert await echo(b"", timeout=10) == b""
                assert await echo(b"hello", timeout=10) == b"hello"


# --- their clients, our server ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def our_server() -> AsyncIterator[tuple[str, Methods]]:
    methods = Methods()
    server = trio_mq_grpc.server()
    server.add_generic_rpc_handlers((methods.handler(),))
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    async with server:
        yield f"tcp://127.0.0.1:{port}", methods


class Ended(NamedTuple):
    """How a call of a peer's client ended."""

    code: int
    text: str
    replies: list[bytes]


async def dealer(*arguments: str, **options: float) -> Ended:
    """A call of the level-1 client, which is a DEALER."""
    call = await trio.to_thread.run_sync(partial(level_1.call, *arguments, **options))  # type: ignore[arg-type]  # float
    assert call.status is not None
    return Ended(*call.status, call.messages)


async def req(endpoint: str, method: str, request: str) -> Ended:
    """A call of the level-0 client, which is a REQ."""
    return Ended(*await trio.to_thread.run_sync(level_0.call, endpoint, method, request))


Client: TypeAlias = Callable[[str, str, str], Awaitable[Ended]]
unary_clients = pytest.mark.parametrize("call", [dealer, req])


@unary_clients
async def test_our_server_answers_unary_peers(call: Client) -> None:
    async with our_server() as (target, _):
        assert await call(target, "/peer.Test/Echo", "hello") == (0, "", [b"hello"])
        assert await call(target, "/peer.Test/Echo", "") == (0, "", [b""])
        assert await call(target, "/peer.Test/Fail", "bread") == (5, "there is no bread", [])
        assert await call(target, "/peer.Test/Nope", "") == (12, "Method not found!", [])


@unary_clients
async def test_a_unary_peer_may_be_sent_early_metadata(call: Client) -> None:
    # A DEALER skips it; a REQ must not get it as a message of its own, because that would be its answer.
    async with our_server() as (target, _):
        assert await call(target, "/peer.Test/Early", "hello") == (0, "", [b"hello"])


@unary_clients
async def test_a_unary_peer_that_calls_a_stream_gets_a_status(call: Client) -> None:
    async with our_server() as (target, _):
        assert (await call(target, "/peer.Test/Repeat", "3 word")).code != 4


async def test_our_server_serves_level_1_clients() -> None:
    async with our_server() as (target, _):
        assert await dealer(target, "/peer.Test/Echo", "hello") == (0, "", [b"hello"])
        assert await dealer(target, "/peer.Test/Repeat", "3 word") == (0, "", [b"word"] * 3)
        assert await dealer(target, "/peer.Test/Join", "a", "b", "c") == (0, "", [b"abc"])
        assert await dealer(target, "/peer.Test/Chat", "a", "b", "c") == (0, "", [b"a", b"b", b"c"])
        assert await dealer(target, "/peer.Test/Fail", "bread") == (5, "there is no bread", [])
        assert await dealer(target, "/peer.Test/Nope", "a") == (12, "Method not found!", [])


async def test_our_server_grants_a_level_1_client_credit() -> None:
    large = "x" * 50_000  # twenty of them are four windows
    async with our_server() as (target, _):
        assert await dealer(target, "/peer.Test/Join", *[large] * 20) == (0, "", [large.encode() * 20])


async def test_our_server_obeys_a_level_1_client_s_credit() -> None:
    async with our_server() as (target, methods):
        words = await dealer(target, "/peer.Test/Repeat", "2000 word", window=1000)
        assert words == (0, "", [b"word"] * 2000)
        stuck = await dealer(target, "/peer.Test/Repeat", "2000 word", window=1000, grant=False, seconds=1)
        assert stuck == (4, "", [b"word"] * 15)  # the fifteenth takes 1000 - 14 × 68 below zero
        await methods.cancelled.wait()


async def test_a_level_1_client_s_reset_cancels_our_handler() -> None:
    async with our_server() as (target, methods):
        ended = await dealer(target, "/peer.Test/Repeat", "2000 word", window=1000, most=3)
        assert ended == (1, "", [b"word"] * 3)
        await methods.cancelled.wait()


def test_the_level_1_peer_is_whole_and_small() -> None:
    source = Path(level_1.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 150
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported - sys.stdlib_module_names == {"zmq"}


@pytest.mark.parametrize(
    ("frames", "call_id"),
    [
        ([b"nonsense"], 0),
        ([b""], 0),
        ([b"x" * 16, b"y"], 0),
        ([b"\xa1" * 16], 0xA1A1A1A1_A1A1A1A1),
    ],
    ids=["short", "empty", "magic", "type"],
)
async def test_a_req_is_answered_even_when_its_message_is_no_call(frames: list[bytes], call_id: int) -> None:
    async with our_server() as (target, _):
        header, status = await trio.to_thread.run_sync(one_exchange, target, frames)
        assert Struct(">BBHIQ").unpack(header) == (0xA1, 3, 0x08, 0, call_id)
        assert level_1.decode_status(status)[0] == 13


def one_exchange(target: str, frames: list[bytes]) -> list[bytes]:
    """What a REQ gets for *frames*."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(target)
        socket.send_multipart(frames)
        assert socket.poll(5000), "no answer"
        return socket.recv_multipart()


@unary_clients
async def test_our_server_answers_through_proxies(call: Client) -> None:
    async with our_server() as (target, _):
        with proxy(target) as (inner, _), proxy(inner) as (outer, _):
            assert await call(outer, "/peer.Test/Echo", "hello") == (0, "", [b"hello"])
            assert await call(outer, "/peer.Test/Fail", "bread") == (5, "there is no bread", [])


async def test_two_clients_with_the_same_call_id_behind_one_proxy_are_told_apart() -> None:
    async with our_server() as (target, _):
        with proxy(target) as (front, _):
            first, second = await trio.to_thread.run_sync(two_chats, front)
            assert (first, second) == ([b"first"], [b"second"])


def two_chats(endpoint: str) -> tuple[list[bytes], list[bytes]]:
    """What two DEALERs get for one message each of a bidirectional call with the same id, both open at once."""
    header = Struct(">BBHIQ")
    call_id = 0x1A2B3C4D_00000001
    with zmq.Context() as context, context.socket(zmq.DEALER) as first, context.socket(zmq.DEALER) as second:
        both = {first: b"first", second: b"second"}
        for socket in both:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(endpoint)
            socket.send_multipart([b"", header.pack(0xA1, 1, 0, 0, call_id), b"/peer.Test/Chat"])
        for socket, word in both.items():
            socket.send_multipart([b"", header.pack(0xA1, 2, 0x02, 1, call_id), word])
        for socket in both:
            assert socket.poll(5000), "no reply"
        return first.recv_multipart()[2:], second.recv_multipart()[2:]
