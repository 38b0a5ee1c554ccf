"""Callers that break rules or want too much: memory is bounded, the server lives, other peers notice nothing."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import trio_mq
from trio_mq_grpc._blocks import Head
from trio_mq_grpc._wire import (
    CALL,
    COMPRESSED,
    DATA,
    END,
    FRAG,
    HEAD,
    HEADER,
    MSG,
    NOT_PROCESSED,
    PROPERTY,
    RESET,
    pack,
)

from ..server._raw import Caller, Code, dial, echo, new_endpoint, port_of, serving, wait_until

PATH = b"/test.Service/M"
VERSION_2 = 0xA2


async def forever(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
    await trio.sleep_forever()


async def hang(request: bytes, context: Any) -> bytes:
    await trio.sleep_forever()
    raise AssertionError("it never wakes up")


# --- headers and numbers ---------------------------------------------------------------------------------------------


async def test_a_call_with_the_id_0_is_dropped_and_counted() -> None:
    ran = []

    async def handler(request: bytes, context: Any) -> bytes:
        ran.append(request)
        return request

    async with serving(unary_unary={"M": handler}) as (server, caller):
        await caller.send(pack(CALL, MSG | END, 0, 0), PATH, b"x")
        await caller.nothing_comes()
        assert not ran
        assert port_of(server).dropped["no unit"] + port_of(server).dropped["no call"] == 1


async def test_requests_that_change_places_end_their_call_unavailable_and_no_other() -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        other = await caller.call("M", flags=0)
        call_id = await caller.call("M", flags=0)
        for seq in (2, 1):
            await caller.send(pack(DATA, MSG, seq, call_id), b"x")
        unit = await caller.receive()
        assert (unit.call_id, unit.code, unit.details) == (call_id, Code.UNAVAILABLE, "message lost in transport")
        await caller.data(other, b"still there")
        assert (await caller.receive()).frames == [b"still there"]


async def test_sequence_numbers_go_round() -> None:
    """After 2**32 messages comes number 0, which is no gap."""

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async with serving(stream_unary={"M": handler}) as (server, caller):
        call_id = await caller.call("M", flags=0)
        await wait_until(lambda: any(peer.calls for peer in port_of(server).peers.values()))
        (peer,) = port_of(server).peers.values()
        peer.calls[call_id]._in_seq = 0xFFFFFFFF
        await caller.send(pack(DATA, MSG, 0xFFFFFFFF, call_id), b"a")
        await caller.send(pack(DATA, MSG | END, 0, call_id), b"b")
        assert (await caller.receive_end())[0] == [b"ab"]


@pytest.mark.parametrize("flags", [MSG | FRAG | COMPRESSED, MSG | COMPRESSED | END], ids=["middle", "last"])
async def test_only_the_first_piece_may_say_that_it_is_compressed(flags: int) -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        call_id = await caller.call("M", flags=0, head=Head(encoding="gzip"))
        await caller.data(call_id, (9).to_bytes(4, "big"), b"abc", flags=MSG | FRAG)
        await caller.data(call_id, b"def", flags=flags)
        assert (await caller.receive()).code is Code.INTERNAL


async def test_a_call_that_goes_on_in_the_middle_of_a_message_is_internal() -> None:
    async with serving(stream_stream={"M": forever}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        await caller.data(call_id, (9).to_bytes(4, "big"), b"abc", flags=MSG | FRAG)
        await caller.data(call_id, flags=END)
        assert (await caller.receive()).code is Code.INTERNAL


@pytest.mark.parametrize(
    "said", ["", "1", "2;w=1", "1;w=-1", "1;w=x", "1;e=zz;w=9", "1;m=-7", "1;;;=;frag=no", "1;" + "x" * 5000, "x"]
)
async def test_whatever_a_peer_says_of_itself_it_gets_its_answer_or_a_status(said: str) -> None:
    endpoint = new_endpoint()
    async with serving(unary_unary={"M": echo}, endpoint=endpoint):
        options = trio_mq.Options(linger=0, properties={PROPERTY: said} if said else {})
        async with trio_mq.Dealer(connect=endpoint, options=options) as dealer:
            caller = Caller(dealer)
            await caller.call("M", b"x")
            _, end = await caller.receive_end()
            assert end.code in (Code.OK, Code.RESOURCE_EXHAUSTED)


# --- deadlines on the wire -------------------------------------------------------------------------------------------


async def test_a_deadline_of_0_microseconds_has_passed() -> None:
    async with serving(unary_unary={"M": hang}) as (_, caller):
        assert (await caller.failure("M", b"", head=Head(timeout_us=0))).code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout_us", [2**63, 2**64 - 1, 10 * 366 * 86400 * 1_000_000])
async def test_a_deadline_that_is_centuries_away_is_none(timeout_us: int) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async with serving(unary_unary={"M": handler}) as (_, caller):
        assert await caller.answer("M", b"", head=Head(timeout_us=timeout_us)) == b"None"


async def test_deadlines_of_calls_that_have_ended_are_forgotten() -> None:
    """Not kept until their time: callers say how far away that is."""
    async with serving(unary_unary={"M": echo}) as (server, caller):
        for number in range(2000):
            await caller.answer("M", b"x", head=Head(timeout_us=3_600_000_000 + number * 1000))
        assert len(server._home.wheel) == 0
        assert len(server._home.wheel._times) < 200


# --- compression -----------------------------------------------------------------------------------------------------


def bomb(encoding: str) -> bytes:
    return gzip.compress(bytes(50_000_000), 1) if encoding == "gzip" else zlib.compress(bytes(50_000_000), 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
async def test_a_request_that_inflates_too_far_is_resource_exhausted_with_both_numbers(
    kind: str, encoding: str
) -> None:
    kinds: dict[str, Any] = {kind: {"M": echo if kind == "unary_unary" else forever}}
    async with serving(**kinds) as (_, caller):
        head = Head(encoding=encoding)
        unit = await caller.failure("M", bomb(encoding), flags=MSG | COMPRESSED | END, head=head)
        assert unit.code is Code.RESOURCE_EXHAUSTED
        assert "4194305" in unit.details
        assert "4194304" in unit.details
        await caller.nothing_comes()


async def test_several_gzip_members_are_refused() -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        members = gzip.compress(b"x") * 3
        unit = await caller.failure("M", members, flags=MSG | COMPRESSED | END, head=Head(encoding="gzip"))
        assert unit.code is Code.INTERNAL


# --- peers that do not read ------------------------------------------------------------------------------------------


def flood_units(kind: str) -> list[bytes]:
    """A message that is answered, and begins no call."""
    if kind == "another version":
        return [b"", HEADER.pack(VERSION_2, CALL, MSG | END, 0, 7), PATH, b"x"]
    if kind == "no unit behind a proxy":
        return [b"a proxy's", b"", b"no unit"]
    return [b"", pack(CALL, MSG | END, 0, 7), b"/nobody/Serves", b"x"]


@pytest.mark.parametrize("kind", ["another version", "no unit behind a proxy", "unknown method"])
async def test_refusals_to_a_peer_that_does_not_read_are_bounded(kind: str) -> None:
    limit = 20_000
    options = [("trio_mq_grpc.output_limit", limit)]
    async with serving(unary_unary={"M": echo}, options=options) as (server, _):
        port = port_of(server)
        quiet = trio_mq.Options(linger=0, receive_hwm_bytes=1000)
        async with trio_mq.Dealer(connect=port.endpoint, options=quiet) as dealer:
            most = 0
            while True:
                with trio.move_on_after(1) as waiting:
                    for _ in range(200):
                        await dealer.send_multipart(flood_units(kind))
                most = max([most, *(peer.outbox.waiting_bytes for peer in port.peers.values())])
                assert most < 4 * limit
                if waiting.cancelled_caught:
                    break
            assert most > limit / 2


async def test_a_peer_that_is_disconnected_while_its_held_units_are_looked_at_harms_nobody() -> None:
    """It asked for more than it read, then read, and then it turned out that it resets too many calls."""
    reply = bytes(50_000)

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield reply

    options = [("trio_mq_grpc.output_limit", 10_000), ("trio_mq_grpc.max_resets_per_second", 5)]
    async with serving(stream_stream={"M": handler}, unary_unary={"E": echo}, options=options) as (server, other):
        port = port_of(server)
        quiet = trio_mq.Options(linger=0, receive_hwm_bytes=1000, properties={PROPERTY: "1;w=4294967295"})
        async with trio_mq.Dealer(connect=port.endpoint, options=quiet) as dealer:
            caller = Caller(dealer)
            call_id = await caller.call("M", b"x", flags=MSG)
            for _ in range(30):
                await caller.data(call_id, b"x")
            await wait_until(lambda: any(peer.holding for peer in port.peers.values()))
            (peer,) = [peer for peer in port.peers.values() if peer.holding]
            for call_id in range(1000, 1030):  # as if they had been read together: then they are held together
                port._on_message([*peer.prefix, pack(CALL, 0, 0, call_id), PATH])
                port._on_message([*peer.prefix, pack(RESET, 0, 0, call_id)])
            assert len(peer.held) >= 60
            with trio.move_on_after(5):
                while not port.dropped["disconnected"]:
                    with trio.move_on_after(0.1):
                        await dealer.receive_multipart()
            assert port.dropped["disconnected"] == 1
        assert await other.answer("E", b"x") == b"x"


async def test_tiny_replies_to_a_peer_that_does_not_read_count_with_what_they_cost() -> None:
    """A message of a few bytes takes hundreds in memory; a limit that counted the few would be none."""
    limit = 100_000
    options = [("trio_mq_grpc.output_limit", limit)]
    async with serving(unary_unary={"M": echo}, options=options) as (server, _):
        port = port_of(server)
        quiet = trio_mq.Options(linger=0, receive_hwm_bytes=1000)
        async with trio_mq.Dealer(connect=port.endpoint, options=quiet) as dealer:
            caller = Caller(dealer)
            most = 0
            while True:
                with trio.move_on_after(1) as waiting:
                    for _ in range(200):
                        await caller.call("M", b"")
                most = max([most, *(sum(map(len, peer.outbox._calls.values())) for peer in port.peers.values())])
                if waiting.cancelled_caught:
                    break
            assert most < limit / 100 + 300


# --- many calls ------------------------------------------------------------------------------------------------------


async def test_slots_count_running_handlers_so_rapid_resets_gain_nothing() -> None:
    running = 0
    release = trio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        nonlocal running
        running += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(20, shield=True):
                await release.wait()
            running -= 1
        raise AssertionError("it never wakes up")

    async with serving(unary_unary={"M": handler}, maximum_concurrent_rpcs=10) as (server, caller):
        ids = [await caller.call("M", b"x") for _ in range(10)]
        await wait_until(lambda: running == 10)
        for call_id in ids:
            await caller.reset(call_id)
        for _ in range(50):
            await caller.reset(await caller.call("M", b"x"))
            unit = await caller.receive()
            assert unit.code is Code.RESOURCE_EXHAUSTED
            assert not unit.flags & NOT_PROCESSED
        assert running == 10
        release.set()
        await wait_until(lambda: server._home.pool.busy == 0)


async def test_10000_calls_may_be_open_on_one_connection() -> None:
    async with serving(stream_stream={"M": forever}) as (server, caller):
        ids = [await caller.call("M", flags=0) for _ in range(10_000)]
        await wait_until(lambda: server._home.pool.busy == 10_000)
        for call_id in (ids[0], ids[5000], ids[-1]):
            await caller.data(call_id, b"x")
            unit = await caller.receive()
            assert (unit.call_id, unit.frames) == (call_id, [b"x"])
    assert server._home.pool.busy == 0


# --- routing ids -----------------------------------------------------------------------------------------------------


async def test_nobody_takes_over_the_calls_of_a_routing_id_in_use() -> None:
    async with serving(stream_stream={"M": forever}, endpoint="tcp://127.0.0.1:0") as (server, _):
        endpoint = port_of(server).endpoint
        named = trio_mq.Options(linger=0, routing_id=b"the same")
        async with trio_mq.Dealer(connect=endpoint, options=named) as first:
            owner = Caller(first)
            call_id = await owner.call("M", b"x", flags=MSG)
            assert (await owner.receive()).frames == [b"x"]
            thief = trio_mq.Options(linger=0, routing_id=b"the same", retry=False)
            async with trio_mq.Dealer(connect=endpoint, options=thief) as second:
                with trio.move_on_after(1):
                    await Caller(second).reset(call_id)
                    await Caller(second).round_trip()
            await owner.data(call_id, b"y")
            assert (await owner.receive()).frames == [b"y"]


async def test_who_comes_back_under_the_same_routing_id_has_none_of_the_calls_before() -> None:
    cancelled = trio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                yield request
        finally:
            cancelled.set()

    async with serving(stream_stream={"M": handler}, endpoint="tcp://127.0.0.1:0") as (server, _):
        named = trio_mq.Options(linger=0, routing_id=b"the same")
        async with trio_mq.Dealer(connect=port_of(server).endpoint, options=named) as first:
            caller = Caller(first)
            call_id = await caller.call("M", b"x", flags=MSG)
            await caller.receive()
        with trio.fail_after(5):
            await cancelled.wait()
        async with trio_mq.Dealer(connect=port_of(server).endpoint, options=named) as second:
            caller = Caller(second)
            await caller.send(pack(DATA, MSG, 1, call_id), b"y")
            await caller.send(pack(RESET, 0, 0, call_id))
            await caller.nothing_comes()
            await caller.call("M", b"z", flags=MSG)
            assert (await caller.receive()).frames == [b"z"]


async def test_two_peers_may_use_the_same_call_id() -> None:
    async with serving(stream_stream={"M": forever}) as (server, one):
        async with dial(port_of(server).endpoint) as two:
            first, second = await one.call("M", flags=0), await two.call("M", flags=0)
            assert first == second
            await two.reset(second)
            await two.nothing_comes()
            await one.data(first, b"x")
            assert (await one.receive()).frames == [b"x"]


# --- metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"\x10" + b"\xff" * 10 + b"\x01", b"\x0a\xff\xff\xff\xff\x0f", b"\x00", b"\x0b"])
async def test_a_head_that_is_no_protobuf_is_internal(head: bytes) -> None:
    async with serving(unary_unary={"M": echo}) as (_, caller):
        await caller.send(pack(CALL, HEAD | MSG | END, 0, 7), PATH, head, b"x")
        assert (await caller.receive()).code is Code.INTERNAL
        assert await caller.answer("M", b"x") == b"x"
