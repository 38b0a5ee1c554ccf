"""Where a message came from: the connection it came on, whoever is at the other end by the time it is received."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_mq import Dealer, Options, PeerJoined, PeerLeft, Pull, Push, Rep, Req, Router, proxy

from .kit import EVERYWHERE, over, unread, until

BRIEF = Options(linger=0, reconnect_interval=0.01)


def called(name: str) -> Options:
    return Options(properties={"X-Name": name}, linger=0)


@asynccontextmanager
async def binding(kind: type[Any], endpoint: str, name: str, dialler: Any) -> AsyncIterator[Any]:
    """A socket that calls itself *name*, at *endpoint*, with *dialler* connected to it; returns when that one knows."""
    async with kind(bind=endpoint, options=called(name)) as socket:
        if not dialler.endpoints:
            dialler.connect(socket.last_endpoint)
        await until(lambda: [peer.peer.properties.get("X-Name") for peer in ready(dialler)] == [name])
        yield socket
    await until(lambda: not ready(dialler))


def ready(socket: Any) -> list[Any]:
    return [peer for peer in socket.statistics().peers if peer.state == "ready"]


async def origins(pull: Any, count: int) -> list[tuple[bytes, str]]:
    """The next *count* messages, each with the name its sender had given itself."""
    messages = [await pull.receive_message() for _ in range(count)]
    return [(message.frames[-1], message.properties["X-Name"]) for message in messages]


MARKS = [
    pytest.param(BRIEF, id="mark in messages"),
    pytest.param(Options(reconnect_interval=0.01, receive_hwm=None), id="no mark"),
    pytest.param(Options(reconnect_interval=0.01, receive_hwm_bytes=10_000), id="mark in bytes"),
]


@pytest.mark.parametrize("options", MARKS)
@over(*EVERYWHERE)
async def test_a_message_that_is_received_after_a_reconnect_belongs_to_who_sent_it(
    endpoint: str,
    options: Options,
) -> None:
    async with Pull(options=options) as pull:
        async with binding(Push, endpoint, "first", pull) as push:
            where = push.last_endpoint
            await push.send_many([b"1", b"2"])
            await until(lambda: unread(pull) == [2])
        async with binding(Push, where, "second", pull) as push:
            await push.send_many([b"3", b"4"])
            await until(lambda: unread(pull) == [4])
            assert await origins(pull, 4) == [(b"1", "first"), (b"2", "first"), (b"3", "second"), (b"4", "second")]


@over("tcp", "ipc")
async def test_the_newest_message_of_a_conflating_socket_belongs_to_who_sent_it(endpoint: str) -> None:
    async with Pull(options=Options(reconnect_interval=0.01, conflate=True)) as pull:
        async with binding(Push, endpoint, "first", pull) as push:
            where = push.last_endpoint
            await push.send(b"1")
            await until(lambda: unread(pull) == [1])
        async with binding(Push, where, "second", pull):
            assert await origins(pull, 1) == [(b"1", "first")]


@over("tcp", "ipc")
async def test_what_was_received_earlier_does_not_shift_the_border_between_two_senders(
    endpoint: str,
) -> None:
    await borders(endpoint)


@over("inproc")
async def test_what_was_received_earlier_does_not_shift_the_border_over_inproc_either(
    endpoint: str,
) -> None:
    await borders(endpoint)


async def borders(endpoint: str) -> None:
    async with Pull(options=BRIEF) as pull:
        async with binding(Push, endpoint, "first", pull) as push:
            where = push.last_endpoint
            await push.send_many([b"early"] * 5)
            assert await origins(pull, 5) == [(b"early", "first")] * 5
            await push.send(b"unread")
            await until(lambda: unread(pull) == [1])
        async with binding(Push, where, "second", pull) as push:
            await push.send_many([b"late"] * 8)
            await until(lambda: unread(pull) == [9])
            assert await origins(pull, 9) == [(b"unread", "first")] + [(b"late", "second")] * 8


@over(*EVERYWHERE)
async def test_a_message_out_of_a_batch_that_was_begun_before_belongs_to_who_sent_it(
    endpoint: str,
) -> None:
    async with Pull(options=BRIEF) as pull:
        async with binding(Push, endpoint, "first", pull) as push:
            where = push.last_endpoint
            await push.send_many([b"%d" % number for number in range(100)])
            await until(lambda: unread(pull) == [100])
            assert await pull.receive() == b"0"
        async with binding(Push, where, "second", pull):
            assert {name for _, name in await origins(pull, 99)} == {"first"}


@over(*EVERYWHERE)
async def test_several_endpoints_keep_their_origins_apart(endpoint: str, new_endpoint: Any) -> None:
    async with Pull(options=BRIEF) as pull, Push(bind=new_endpoint(), options=called("steady")) as steady:
        async with Push(bind=endpoint, options=called("first")) as push:
            where = push.last_endpoint or ""
            pull.connect(where)
            pull.connect(steady.last_endpoint or "")
            await pull.wait_connected(2)
            for sender, word in ((push, b"first"), (steady, b"steady")):
                await sender.send_many([word] * 3)
            await until(lambda: sorted(unread(pull)) == [3, 3])
        await until(lambda: len(ready(pull)) == 1)
        async with Push(bind=where, options=called("second")) as push:
            await push.send_many([b"second"] * 3)
            await until(lambda: sorted(unread(pull)) == [3, 6])
            assert all(body.decode() == name for body, name in await origins(pull, 9))


@over(*EVERYWHERE)
async def test_a_request_says_who_asked_it(endpoint: str) -> None:
    async with Rep(options=BRIEF) as rep:
        async with binding(Req, endpoint, "first", rep) as req:
            where = req.last_endpoint
            await req.send(b"1")
            await until(lambda: unread(rep) == [1])
        async with binding(Req, where, "second", rep) as req:
            await req.send(b"2")
            await until(lambda: unread(rep) == [2])
            requests = [await anext(rep.requests()) for _ in range(2)]
            assert [(each.message, each.peer.properties["X-Name"]) for each in requests] == [
                (b"1", "first"),
                (b"2", "second"),
            ]
            assert requests[0].peer.connection != requests[1].peer.connection
            for request in requests:
                await request.reply(b"re")


@over("inproc")
async def test_a_proxy_keeps_the_peer_events_of_each_side_to_itself(
    endpoint: str,
    new_endpoint: Any,
) -> None:
    telling = Options(peer_events=True, linger=0)
    async with (
        Router(bind=endpoint, options=telling) as front,
        Dealer(bind=new_endpoint(), options=telling) as back,
        Rep(connect=back.last_endpoint, options=BRIEF) as rep,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(proxy, front, back)
        for _ in range(2):
            async with Req(connect=endpoint, options=BRIEF) as req, trio.open_nursery() as asking:
                asking.start_soon(req.request, b"question")
                request = await anext(rep.requests())
                assert request.message == b"question"
                await request.reply(b"answer")
        await trio.testing.wait_all_tasks_blocked()
        assert unread(rep) == [0], "nothing of the comings and goings has travelled on"
        nursery.cancel_scope.cancel()


@over(*EVERYWHERE)
async def test_messages_leave_out_the_peer_events(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=Options(peer_events=True)) as pull:
        async with Push(connect=pull.last_endpoint, options=called("first")) as push:
            await push.send(b"1")
            assert await origins(pull, 1) == [(b"1", "first")]
        left: object = await pull.receive()
        assert isinstance(left, PeerLeft)
        assert not isinstance(left, PeerJoined)
