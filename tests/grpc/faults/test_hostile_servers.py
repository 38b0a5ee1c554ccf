"""Servers that break rules: each break ends one call with the status of the table, and no other call notices."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq
import trio_mq_grpc
from trio_mq_grpc._blocks import Head, encode_goaway, encode_head, encode_status
from trio_mq_grpc._wire import (
    CALL,
    COMPRESSED,
    CREDIT,
    DATA,
    END,
    FRAG,
    GOAWAY,
    HEAD,
    MSG,
    NOT_PROCESSED,
    PING,
    PONG,
    PROPERTY,
    RESET,
    STATUS,
    announce,
    pack,
)

from .._kit import fails_with, wait_until
from ..server._raw import new_endpoint
from ._raw_server import FULL, RawServer, raw_header, raw_server

Code = grpc.StatusCode
PATH = "/test.Service/M"


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    """How *call* ends, by its own account, however it is used."""
    with trio.fail_after(5):
        try:
            if hasattr(call, "read"):
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as exc:
            return exc.code(), str(exc.details())
        return await call.code(), await call.details()


async def answers_as_before(server: RawServer, channel: Any) -> None:
    """Another call on the same connection ends well."""
    with trio.fail_after(5):
        call = channel.unary_unary(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send(pack(DATA, MSG | END | STATUS, 0, call_id), b"y", b"")
        assert await call == b"y"


async def next_peer(router: trio_mq.Router) -> trio_mq.Peer:
    """Who comes next, past whatever comes before."""
    with trio.fail_after(5):
        while True:
            event: Any = await router.receive_multipart()
            if isinstance(event, trio_mq.PeerJoined):
                return event.peer


async def say_goaway(router: trio_mq.Router, peer: trio_mq.Peer) -> None:
    """Say to *peer* that this server stops, and wait until it has read that."""
    await router.send_multipart([peer.routing_id, b"", pack(GOAWAY, 0, 0, 0), encode_goaway(0, "bye")])
    await router.send_multipart([peer.routing_id, b"", pack(PING, 0, 1, 0)])
    with trio.fail_after(5):
        frames: Any = None
        while not isinstance(frames, list) or frames[-1] != pack(PONG, 0, 1, 0):
            frames = await router.receive_multipart()


# --- sequence numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (1, 0), (1,), (0, 1, 0), (0, 0xFFFFFFFF)])
async def test_a_gap_a_repeat_or_a_change_of_places_in_a_stream_is_unavailable(numbers: tuple[int, ...]) -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        for number in numbers:
            await server.send(pack(DATA, MSG, number, call_id), b"m")
        assert await ended(call) == (Code.UNAVAILABLE, "message lost in transport")
        unit = await server.receive()
        assert (unit.kind, unit.call_id) == (RESET, call_id)
        await answers_as_before(server, channel)


async def test_a_unary_reply_whose_beginning_was_lost_is_unavailable() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_unary(PATH)(b"x")
        await server.send_to_call(await server.receive_call(), MSG | END | STATUS, 1, b"y", b"")
        assert (await ended(call))[0] is Code.UNAVAILABLE
        await answers_as_before(server, channel)


# --- units that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "frames"),
    [
        (MSG, []),
        (MSG, [b"x", b"y"]),
        (STATUS, [b""]),
        (END, []),
        (MSG | END, [b"x"]),
        (COMPRESSED, []),
        (FRAG | MSG, [b"12345", b"x"]),
        (FRAG | MSG | END | STATUS, [b"\0\0\0\5", b"x", b""]),
        (0x40 | MSG, [b"x"]),
        (0x100 | MSG, [b"x"]),
        (HEAD, [b"\xff"]),
        (HEAD, [b"\x0a\x06\x0a\x01k\x12\x01\x07"]),
        (HEAD, [b"\x0a\x06\x0a\x01K\x12\x01x"]),
        (END | STATUS, [b"\xff"]),
        (END | STATUS, [b"\x08\x02\x1a\x06\x0a\x01K\x12\x01x"]),
        (MSG | FRAG, [b"\0\0\0\0", b""]),
        (MSG | FRAG, [b"\0\0\0\1", b"xy"]),
    ],
)
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_data_that_is_no_legal_unit_ends_its_call_internal(kind: str, flags: int, frames: list[bytes]) -> None:
    async with raw_server() as (server, channel):
        call = getattr(channel, kind)(PATH)(b"x")
        await server.send_to_call(await server.receive_call(), flags, 0, *frames)
        assert (await ended(call))[0] is Code.INTERNAL
        await answers_as_before(server, channel)


async def test_a_head_after_the_first_message_is_internal() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, MSG, 0, b"m")
        await server.send_to_call(call_id, HEAD | MSG, 1, b"", b"m")
        assert (await ended(call))[0] is Code.INTERNAL
        await answers_as_before(server, channel)


async def test_a_status_in_the_middle_of_a_message_is_internal() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, MSG | FRAG, 0, b"\0\0\0\5", b"abc")
        await server.send_to_call(call_id, END | STATUS, 1, b"")
        assert (await ended(call))[0] is Code.INTERNAL
        await answers_as_before(server, channel)


@pytest.mark.parametrize("kind", [0, CALL, 5, 10, 255])
async def test_a_type_that_no_server_sends_ends_the_call_it_names_unimplemented(kind: int) -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send(pack(kind, 0, 0, 12345))
        await server.send(pack(kind, 0, 0, call_id))
        assert (await ended(call))[0] is Code.UNIMPLEMENTED
        await answers_as_before(server, channel)


async def test_another_version_ends_the_call_it_names_unimplemented_and_names_version_1() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send(raw_header(0xA2, DATA, MSG, 0, 12345), b"m")
        await server.send(raw_header(0xA2, DATA, MSG, 0, call_id), b"m")
        code, details = await ended(call)
        assert code is Code.UNIMPLEMENTED
        assert "not 1" in details
        await answers_as_before(server, channel)


async def test_what_is_no_unit_or_has_another_magic_or_no_envelope_is_dropped() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        for frames in ([b""], [b"", b"short"], [b"", b"x" * 17], [b"x"], [b"", b""], [b"a"] * 9 + [b"", b"x" * 16]):
            await server.router.send_multipart([server.caller, *frames])
        await server.send(raw_header(0xB1, DATA, MSG, 0, call_id), b"m")
        await server.router.send_multipart([server.caller, pack(DATA, MSG, 0, call_id), b"m"])
        await server.send_to_call(call_id, END | STATUS, 0, b"")
        assert await ended(call) == (Code.OK, "")
        await answers_as_before(server, channel)


@pytest.mark.parametrize("kind", [DATA, RESET, CREDIT, PONG])
async def test_units_of_no_call_are_dropped_and_never_answered(kind: int) -> None:
    async with raw_server() as (server, channel):
        await answers_as_before(server, channel)
        await server.send(pack(kind, 0, 0, 99))
        await server.send(pack(PING, 0, 77, 0))
        unit = await server.receive()
        assert (unit.kind, unit.value) == (PONG, 77)


async def test_pings_are_answered_ten_times_a_second() -> None:
    async with raw_server() as (server, channel):
        await answers_as_before(server, channel)
        before = channel.unary_unary(PATH)(b"x")
        call_id = await server.receive_call()
        for cookie in range(30):
            await server.send(pack(PING, 0, cookie, 0))
        await server.send(pack(DATA, MSG | END | STATUS, 0, call_id), b"y", b"")
        await before  # so the pings before it were read
        behind = channel.unary_unary(PATH)(b"x")
        pongs = 0
        while (unit := await server.receive()).kind == PONG:
            pongs += 1
        assert unit.kind == CALL
        assert pongs == 10
        behind.cancel()


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "flags", "status", "code"),
    [
        (RESET, 0, None, Code.CANCELLED),
        (RESET, STATUS, b"", Code.UNKNOWN),
        (RESET, STATUS, encode_status(0, "", ()), Code.UNKNOWN),
        (RESET, STATUS, encode_status(99, "", ()), Code.UNKNOWN),
        (RESET, STATUS, encode_status(5, "", ()), Code.NOT_FOUND),
        (RESET, STATUS, b"\xff", Code.INTERNAL),
        (RESET, MSG, b"x", Code.INTERNAL),
        (RESET, STATUS, None, Code.INTERNAL),
        (DATA, END | STATUS, encode_status(17, "", ()), Code.UNKNOWN),
        (DATA, END | STATUS, encode_status(2**31, "", ()), Code.UNKNOWN),
    ],
)
async def test_a_status_that_means_nothing_is_unknown_or_internal(
    kind: int, flags: int, status: bytes | None, code: grpc.StatusCode
) -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send(pack(kind, flags, 0, call_id), *([] if status is None else [status]))
        assert (await ended(call))[0] is code
        await answers_as_before(server, channel)


@pytest.mark.parametrize("kind", [DATA, RESET])
async def test_trailing_metadata_that_is_too_large_is_resource_exhausted_with_both_numbers(kind: int) -> None:
    block = encode_status(5, "", (("key", "x" * 20_000),))
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send(pack(kind, STATUS | (END if kind == DATA else 0), 0, call_id), block)
        code, details = await ended(call)
        assert code is Code.RESOURCE_EXHAUSTED
        assert "16384" in details
        await answers_as_before(server, channel)


async def test_initial_metadata_that_is_too_large_is_resource_exhausted() -> None:
    head = encode_head(Head(metadata=(("k", ""),) * 600))
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        await server.send_to_call(await server.receive_call(), HEAD, 0, head)
        assert (await ended(call))[0] is Code.RESOURCE_EXHAUSTED
        await answers_as_before(server, channel)


async def test_a_status_text_without_end_is_cut() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, END | STATUS, 0, b"\x08\x05\x12\x90\x4e" + b"x" * 10_000)
        code, details = await ended(call)
        assert code is Code.NOT_FOUND
        assert 0 < len(details) <= 8192


# --- size, credit, compression ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_messages_without_credit_are_internal(kind: str) -> None:
    async with raw_server(options=[("trio_mq_grpc.window", 1000)]) as (server, channel):
        call = channel.unary_stream(PATH)(b"x") if kind == "unary_stream" else channel.stream_stream(PATH)()
        call_id = await server.receive_call()
        for seq in range(2):
            await server.send_to_call(call_id, MSG, seq, bytes(1000))
        await wait_until(call.done)
        assert await call.code() is Code.INTERNAL
        assert "without credit" in await call.details()
        await answers_as_before(server, channel)


@pytest.mark.parametrize("pieces", [False, True])
async def test_a_reply_above_the_limit_is_resource_exhausted_with_both_numbers(pieces: bool) -> None:
    async with raw_server(options=[("grpc.max_receive_message_length", 1000)]) as (server, channel):
        call = channel.unary_unary(PATH)(b"x")
        call_id = await server.receive_call()
        if pieces:
            await server.send_to_call(call_id, MSG | FRAG, 0, (3000).to_bytes(4, "big"), b"x")
        else:
            await server.send_to_call(call_id, MSG | END | STATUS, 0, bytes(3000), b"")
        code, details = await ended(call)
        assert code is Code.RESOURCE_EXHAUSTED
        assert "3000" in details
        assert "1000" in details
        await answers_as_before(server, channel)


async def test_a_frame_that_is_absurdly_large_ends_the_connection_before_it_takes_memory() -> None:
    options = [("grpc.max_receive_message_length", 1000)]
    async with raw_server(endpoint="tcp://127.0.0.1:0", options=options) as (server, channel):
        call = channel.unary_unary(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, MSG | END | STATUS, 0, bytes(2_000_000), b"")
        assert (await ended(call))[0] is Code.UNAVAILABLE


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_reply_that_inflates_too_far_is_resource_exhausted(kind: str, encoding: str) -> None:
    data = gzip.compress(bytes(50_000_000), 1) if encoding == "gzip" else zlib.compress(bytes(50_000_000), 1)
    head = encode_head(Head(encoding=encoding))
    async with raw_server() as (server, channel):
        call = getattr(channel, kind)(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, HEAD | MSG | COMPRESSED | END | STATUS, 0, head, data, b"")
        code, details = await ended(call)
        assert code is Code.RESOURCE_EXHAUSTED
        assert "4194304" in details
        assert await call.code() is Code.RESOURCE_EXHAUSTED
        await answers_as_before(server, channel)


@pytest.mark.parametrize(
    ("head", "data"), [(Head(encoding="zstd"), b"x"), (Head(), b"x"), (Head(encoding="gzip"), b"no gzip")]
)
@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_reply_that_cannot_be_inflated_is_internal(kind: str, head: Head, data: bytes) -> None:
    async with raw_server() as (server, channel):
        call = getattr(channel, kind)(PATH)(b"x")
        call_id = await server.receive_call()
        flags = HEAD | MSG | COMPRESSED | END | STATUS
        await server.send_to_call(call_id, flags, 0, encode_head(head), data, b"")
        assert (await ended(call))[0] is Code.INTERNAL
        await answers_as_before(server, channel)


@pytest.mark.parametrize("said", ["1;w=0", "1;w=-5", "1;m=-1", "2;w=1", "1;w=x", "1;frag;c=zstd", "1;" + "y" * 3000])
async def test_whatever_a_server_says_of_itself_unary_calls_reach_it(said: str) -> None:
    async with raw_server(prop=said) as (server, channel):
        await answers_as_before(server, channel)


async def test_credit_without_end_or_for_a_unary_call_harms_nobody() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_unary(PATH)(b"x")
        call_id = await server.receive_call()
        for total in (0x7FFFFFFF, 0xFFFFFFFE, 0x7FFFFFFD, 0):
            await server.send(pack(CREDIT, 0, total, call_id))
        await server.send_to_call(call_id, MSG | END | STATUS, 0, b"y", b"")
        assert await call == b"y"


# --- GOAWAY ----------------------------------------------------------------------------------------------------------


async def test_of_the_open_calls_goaway_moves_those_above_its_number_to_another_connection() -> None:
    async with raw_server() as (server, channel):
        low, high = channel.unary_stream(PATH)(b"x"), channel.unary_stream(PATH)(b"x")
        first, second = await server.receive_call(), await server.receive_call()
        assert first < second
        await server.send(pack(GOAWAY, 0, 0, 0), encode_goaway(first, "bye"))
        stopping = server.caller
        again = await server.receive_call()
        assert server.caller != stopping
        await server.send_to_call(again, MSG | END | STATUS, 0, b"z", b"")
        assert await high.read() == b"z"
        server.caller = stopping
        await server.send_to_call(second, MSG | END | STATUS, 0, b"n", b"")  # it is no call any more
        await server.send_to_call(first, MSG | END | STATUS, 0, b"y", b"")
        assert await low.read() == b"y"
        assert await low.code() is Code.OK


async def test_calls_after_goaway_go_to_a_new_connection_and_the_old_one_ends_with_its_last_call() -> None:
    async with raw_server() as (server, channel):
        low = channel.unary_stream(PATH)(b"x")
        first = await server.receive_call()
        await server.send(pack(GOAWAY, 0, 0, 0), encode_goaway(first, "bye"))
        stopping = server.caller
        await trio.testing.wait_all_tasks_blocked()
        await answers_as_before(server, channel)
        assert server.caller != stopping
        assert len(server.router.statistics().peers) == 2
        server.caller = stopping
        await server.send_to_call(first, END | STATUS, 0, b"")
        assert await low.code() is Code.OK
        await wait_until(lambda: len(server.router.statistics().peers) == 1)


async def test_a_server_that_says_nothing_but_goaway_is_not_dialled_again_and_again() -> None:
    options = trio_mq.Options(linger=0, peer_events=True, properties={PROPERTY: announce(FULL)})
    async with trio_mq.Router(bind=new_endpoint(), options=options) as router:
        async with trio_mq_grpc.insecure_channel(router.endpoints[0]) as channel:
            channel.get_state(try_to_connect=True)
            joined: Any = await router.receive_multipart()
            await router.send_multipart([joined.peer.routing_id, b"", pack(GOAWAY, 0, 0, 0), encode_goaway(0, "bye")])
            await trio.testing.wait_all_tasks_blocked()
            with fails_with(Code.UNAVAILABLE, details="the server is stopping"):
                await channel.unary_unary(PATH)(b"x")
            await trio.testing.wait_all_tasks_blocked()
            assert not router.can_receive()  # neither a call nor another peer


async def test_a_server_that_says_goaway_as_soon_as_it_is_back_is_not_dialled_again_for_calls_it_had_before() -> None:
    options = trio_mq.Options(linger=0, peer_events=True, properties={PROPERTY: announce(FULL)})
    quick = [("grpc.initial_reconnect_backoff_ms", 10)]
    async with trio_mq.Router(bind="tcp://127.0.0.1:0", options=options) as router:
        async with trio_mq_grpc.insecure_channel(router.endpoints[0], quick) as channel:
            call = channel.unary_unary(PATH)(b"x")
            joined = await next_peer(router)
            await router.receive_multipart()
            await router.disconnect_peer(joined)
            assert (await ended(call))[0] is Code.UNAVAILABLE
            joined = await next_peer(router)
            await say_goaway(router, joined)
            with fails_with(Code.UNAVAILABLE, details="the server is stopping"):
                await channel.unary_unary(PATH)(b"x", timeout=5)


async def test_a_server_that_has_said_goaway_may_come_back() -> None:
    options = trio_mq.Options(linger=0, peer_events=True, properties={PROPERTY: announce(FULL)})
    quick = [("grpc.initial_reconnect_backoff_ms", 10)]
    async with trio_mq.Router(bind="tcp://127.0.0.1:0", options=options) as router:
        async with trio_mq_grpc.insecure_channel(router.endpoints[0], quick) as channel:
            channel.get_state(try_to_connect=True)
            joined = await next_peer(router)
            await say_goaway(router, joined)
            await router.disconnect_peer(joined)
            await next_peer(router)
            await wait_until(lambda: channel.get_state() is grpc.ChannelConnectivity.READY)
            await answers_as_before(RawServer(router), channel)


async def test_a_server_that_was_there_for_a_while_is_dialled_anew_after_goaway_though_nothing_was_called(
    autojump_clock: trio.testing.MockClock,
) -> None:
    options = trio_mq.Options(linger=0, peer_events=True, properties={PROPERTY: announce(FULL)})
    async with trio_mq.Router(bind=new_endpoint(), options=options) as router:
        async with trio_mq_grpc.insecure_channel(router.endpoints[0]) as channel:
            channel.get_state(try_to_connect=True)
            joined: Any = await router.receive_multipart()
            await trio.sleep(1)
            await router.send_multipart([joined.peer.routing_id, b"", pack(GOAWAY, 0, 0, 0), encode_goaway(0, "bye")])
            with trio.fail_after(5):
                events = [await router.receive_multipart(), await router.receive_multipart()]
            assert {type(event) for event in events} == {trio_mq.PeerJoined, trio_mq.PeerLeft}


@pytest.mark.parametrize("frames", [[], [b"\xff"], [b"\x09\x01"]])
async def test_a_goaway_that_cannot_be_read_is_dropped(frames: list[bytes]) -> None:
    async with raw_server() as (server, channel):
        await answers_as_before(server, channel)
        await server.send(pack(GOAWAY, 0, 0, 0), *frames)
        await answers_as_before(server, channel)


async def test_not_processed_is_believed_once() -> None:
    """A server that says so for ever does not keep a client busy for ever."""
    async with raw_server() as (server, channel):
        call = channel.unary_unary(PATH)(b"x")
        ids = []
        for _ in range(2):
            ids.append(await server.receive_call())
            await server.send_to_call(ids[-1], END | STATUS | NOT_PROCESSED, 0, encode_status(14, "no", ()))
        assert await ended(call) == (Code.UNAVAILABLE, "no")
        assert ids[0] < ids[1]


async def test_not_processed_after_something_of_the_reply_is_not_believed() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, MSG, 0, b"m")
        await server.send(pack(RESET, STATUS | NOT_PROCESSED, 0, call_id), encode_status(14, "no", ()))
        assert await call.read() == b"m"
        with fails_with(Code.UNAVAILABLE):
            await call.read()
        await answers_as_before(server, channel)


async def test_the_first_piece_of_a_message_is_something_of_the_reply() -> None:
    async with raw_server() as (server, channel):
        call = channel.unary_stream(PATH)(b"x")
        call_id = await server.receive_call()
        await server.send_to_call(call_id, MSG | FRAG, 0, b"\0\0\0\2", b"m")
        with trio.fail_after(5):
            assert len(await call.initial_metadata()) == 0
        await server.send(pack(RESET, STATUS | NOT_PROCESSED, 0, call_id), encode_status(14, "no", ()))
        assert await ended(call) == (Code.UNAVAILABLE, "no")
        await answers_as_before(server, channel)


# --- what is still to be sent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DATA, RESET])
async def test_the_rest_of_a_large_request_is_not_sent_when_its_call_has_ended(kind: int) -> None:
    async with raw_server(endpoint="tcp://127.0.0.1:0") as (server, channel):
        call = channel.unary_unary(PATH)(bytes(100_000_000))
        call_id = await server.receive_call()
        subchannel = channel._dispatcher.subchannels[0]
        assert subchannel.outbox.waits(call_id)
        await server.send(pack(kind, STATUS | (END if kind == DATA else 0), 0, call_id), encode_status(8, "", ()))
        while not call.done():
            with trio.move_on_after(0.001):
                await server.router.receive_multipart()
        assert await call.code() is Code.RESOURCE_EXHAUSTED
        assert not subchannel.outbox.waiting_bytes
        await answers_as_before(server, channel)


async def test_a_reset_with_the_id_0_is_the_answer_to_a_strict_call() -> None:
    """A REP that could not read the call has no other id to give."""
    async with raw_server(ours=None, options=[("trio_mq_grpc.strict_reqrep", 1)]) as (server, channel):
        call = channel.unary_unary(PATH)(b"x", timeout=20)
        await server.receive_call()
        await server.send(pack(RESET, STATUS, 0, 0), encode_status(13, "what?", ()))
        assert await ended(call) == (Code.INTERNAL, "what?")


async def test_a_call_that_was_sent_to_a_server_that_stops_does_not_say_that_it_was_not_sent() -> None:
    options = trio_mq.Options(linger=0, properties={PROPERTY: announce(FULL)})
    listener = trio_mq.listen("tcp://127.0.0.1:0", options)
    async with trio_mq.Router(bind=listener, options=options) as router:
        async with trio_mq_grpc.insecure_channel(listener.endpoint) as channel:
            server = RawServer(router)
            call = channel.unary_unary(PATH)(b"x", timeout=0.2)
            call_id = await server.receive_call()
            listener.close()
            await server.send(pack(GOAWAY, 0, 0, 0), encode_goaway(call_id, "bye"))
            assert await ended(call) == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")


async def test_a_call_whose_time_ends_between_two_attempts_does_not_say_that_it_was_not_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    block = encode_status(14, "", (("grpc-retry-pushback-ms", "9000"),))
    async with raw_server(options=[("grpc.service_config", config)]) as (server, channel):
        call = channel.unary_unary(PATH)(b"x", timeout=3)
        await server.send_to_call(await server.receive_call(), END | STATUS, 0, block)
        assert await ended(call) == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")


async def test_a_pause_of_days_before_a_retry_keeps_nothing_of_a_call_that_has_ended() -> None:
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    block = encode_status(14, "", (("grpc-retry-pushback-ms", "999999999"),))
    async with raw_server(options=[("grpc.service_config", config)]) as (server, channel):
        await answers_as_before(server, channel)
        tasks = trio.lowlevel.current_statistics().tasks_living
        calls = [channel.unary_unary(PATH)(b"x") for _ in range(20)]
        for _ in calls:
            await server.send_to_call(await server.receive_call(), END | STATUS, 0, block)
        await answers_as_before(server, channel)
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        await wait_until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
