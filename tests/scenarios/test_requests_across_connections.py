"""REQ and REP when connections come and go: nothing abandoned is asked again, nothing late answers anybody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mq import Options, PeerLostError, Rep, Req, Router

from .kit import EVERYWHERE, GREETING, dropped, over, read_exactly, ready, unread, until

BRIEF = Options(linger=0, reconnect_interval=0.01)
# Requests without ids, as libzmq's: only the connection tells an answer from another.
PLAIN = Options(linger=0, reconnect_interval=0.01, req_correlate=False)


async def echo_as_router(router: Router) -> None:
    async for routing_id, delimiter, body in router:
        await router.send_multipart([routing_id, delimiter, b"re: " + body])


async def echo_as_rep(rep: Rep) -> None:
    async for request in rep.requests():
        await request.reply(b"re: " + request.frames[0])


async def ask_in_vain(req: Req, body: bytes, scope: trio.CancelScope) -> None:
    """A request that will be cancelled; its caller hears nothing else."""
    with scope:
        await req.request(body)
        raise AssertionError("it was answered")


# --- the next request goes to whoever is there -----------------------------------------------------------------------


@over(*EVERYWHERE)
async def test_a_request_that_waits_for_its_turn_goes_to_the_next_router_when_this_one_leaves(endpoint: str) -> None:
    async with Req(bind=endpoint, options=BRIEF) as req, trio.open_nursery() as nursery:
        outcomes: dict[bytes, object] = {}

        async def ask(body: bytes) -> None:
            try:
                outcomes[body] = await req.request(body)
            except PeerLostError as exc:
                outcomes[body] = type(exc)

        async with Router(connect=req.last_endpoint, options=BRIEF) as router:
            await req.wait_connected()
            nursery.start_soon(ask, b"one")
            assert (await router.receive_multipart())[-1] == b"one"
            nursery.start_soon(ask, b"two")
            await wait_all_tasks_blocked()
        async with Router(connect=req.last_endpoint, options=BRIEF) as router:
            nursery.start_soon(echo_as_router, router)  # noqa: ASYNC111  # it ends with the router
            await until(lambda: len(outcomes) == 2)
            nursery.cancel_scope.cancel()
        assert outcomes == {b"one": PeerLostError, b"two": b"re: two"}


@over(*EVERYWHERE)
async def test_after_a_cancelled_request_a_router_that_dials_us_gets_the_next_one(endpoint: str) -> None:
    async with (
        Req(bind=endpoint, options=BRIEF) as req,
        Router(connect=req.last_endpoint, options=BRIEF) as router,
        trio.open_nursery() as nursery,
    ):
        await req.wait_connected()
        scope = trio.CancelScope()
        nursery.start_soon(ask_in_vain, req, b"one", scope)
        assert (await router.receive_multipart())[-1] == b"one"
        scope.cancel()
        nursery.start_soon(echo_as_router, router)
        # Not on the connection that is being given up, where it would be lost.
        assert await req.request(b"two") == b"re: two"
        nursery.cancel_scope.cancel()


@over("tcp")
async def test_what_was_half_written_of_a_cancelled_request_is_not_sent_again(transport: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listeners[0].socket.getsockname()[:2]
    options = Options(linger=0, reconnect_interval=0.01, send_buffer=4096)

    async def accept() -> trio.SocketStream:
        stream = await listeners[0].accept()
        await stream.send_all(GREETING + ready("ROUTER"))
        await read_exactly(stream, len(GREETING))
        await read_exactly(stream, (await read_exactly(stream, 2))[1])
        return stream

    async with listeners[0], Req(connect=f"tcp://{host}:{port}", options=options) as req:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(ask_in_vain, req, bytes(16 << 20), scope)
            async with await accept() as stream:
                await read_exactly(stream, 1000)
                scope.cancel()
                async with await accept() as again:
                    nursery.start_soon(req.request, b"second")
                    wire = b"\x01\x00" + b"\x00\x06second"
                    assert await read_exactly(again, len(wire)) == wire
                    nursery.cancel_scope.cancel()


# --- nothing late reaches anybody else -------------------------------------------------------------------------------


@over(*EVERYWHERE)
async def test_a_router_s_late_answer_is_not_delivered_on_its_next_connection(endpoint: str) -> None:
    async with (
        Req(bind=endpoint, options=BRIEF) as req,
        Router(connect=req.last_endpoint, options=BRIEF) as router,
        trio.open_nursery() as nursery,
    ):
        await req.wait_connected()
        scope = trio.CancelScope()
        nursery.start_soon(ask_in_vain, req, b"one", scope)
        one = await router.receive_multipart()
        scope.cancel()
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append(await req.request(b"two"))

        nursery.start_soon(ask)
        two = await router.receive_multipart()
        assert two[0] != one[0], "the id of the connection before would lead to this one"
        await router.send_multipart([one[0], b"", b"late answer to one"])
        await router.send_multipart([two[0], b"", b"answer to two"])
        await until(lambda: bool(answers))
        assert answers == [b"answer to two"]
        assert dropped(router, "unroutable") == 1


@over(*EVERYWHERE)
async def test_what_a_router_had_queued_for_a_req_dies_with_the_connection(endpoint: str) -> None:
    async with Router(options=BRIEF) as router:
        async with Req(bind=endpoint, options=PLAIN) as first:
            where = first.last_endpoint or ""
            router.connect(where)
            await first.send(b"question")
            routing_id, *_ = await router.receive_multipart()
        await until(lambda: all(peer.state != "ready" for peer in router.statistics().peers))
        await router.send_multipart([routing_id, b"", b"for the first"])
        async with Req(bind=where, options=PLAIN) as second:
            await second.send(b"another question")
            new_id, *_ = await router.receive_multipart()
            await router.send_multipart([new_id, b"", b"for the second"])
            assert await second.receive() == b"for the second"


Answer = Callable[[Any, Rep], Awaitable[None]]


async def by_request(request: Any, rep: Rep) -> None:
    await request.reply(b"for the first")


async def by_send(request: Any, rep: Rep) -> None:
    await rep.send(b"for the first")


@pytest.mark.parametrize("answer", [by_request, by_send])
@over(*EVERYWHERE)
async def test_a_rep_that_dials_does_not_tell_a_stranger_what_another_asked(endpoint: str, answer: Answer) -> None:
    async with Rep(options=BRIEF) as rep:
        async with Req(bind=endpoint, options=PLAIN) as first:
            where = first.last_endpoint or ""
            rep.connect(where)
            await first.send(b"question of the first")
            request = None
            if answer is by_request:
                request = await anext(rep.requests())
            else:
                assert await rep.receive() == b"question of the first"
        async with Req(bind=where, options=PLAIN) as second:
            await second.wait_connected()
            await second.send(b"question of the second")
            await until(lambda: unread(rep) == [1])
            await answer(request, rep)
            await rep.send(b"re: " + await rep.receive())
            assert await second.receive() == b"re: question of the second"
        assert dropped(rep, "no-peer") == 1


BYTES = Options(linger=0, reconnect_interval=0.01, receive_hwm_bytes=10_000)


@pytest.mark.parametrize(
    "options",
    [
        BRIEF,
        BYTES,
    ],
    ids=["mark in messages", "mark in bytes"],
)
@over(*EVERYWHERE)
async def test_a_request_that_is_taken_only_after_its_asker_left_is_answered_to_nobody(
    endpoint: str, options: Options
) -> None:
    async with Rep(options=options) as rep:
        async with Req(bind=endpoint, options=PLAIN) as first:
            where = first.last_endpoint or ""
            rep.connect(where)
            await first.send(b"question of the first")
            await until(rep.can_receive)
        await until(lambda: all(peer.state != "ready" for peer in rep.statistics().peers))
        async with Req(bind=where, options=PLAIN) as second:
            await second.send(b"question of the second")
            await until(lambda: unread(rep) == [2])
            for whose in (b"first", b"second"):
                assert await rep.receive() == b"question of the " + whose
                await rep.send(b"for the " + whose)
            assert await second.receive() == b"for the second"
        assert dropped(rep, "no-peer") == 1


# --- cancelled anywhere ----------------------------------------------------------------------------------------------

STEPS = range(25)


async def cancelled_after(steps: int, req: Req, body: bytes) -> None:
    """Ask, and be cancelled after the scheduler has gone round so often; an answer until then is the right one."""
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            assert await req.request(body) == b"re: " + body
            nursery.cancel_scope.cancel()


async def one_by_one(req: Req) -> None:
    for steps in STEPS:
        await cancelled_after(steps, req, b"cancelled after %d" % steps)
        assert await req.request(b"beside %d" % steps) == b"re: beside %d" % steps


@pytest.mark.parametrize("dials", ["REQ", "the other"])
@over("tcp", "inproc")
async def test_wherever_a_request_to_a_rep_is_cancelled_the_next_gets_its_own_answer(endpoint: str, dials: str) -> None:
    if dials == "REQ":
        async with Rep(bind=endpoint, options=BRIEF) as rep, Req(connect=rep.last_endpoint, options=BRIEF) as req:
            await served(echo_as_rep, rep, req)
    else:
        async with Req(bind=endpoint, options=BRIEF) as req, Rep(connect=req.last_endpoint, options=BRIEF) as rep:
            await served(echo_as_rep, rep, req)


@pytest.mark.parametrize("dials", ["REQ", "the other"])
@over("tcp", "inproc")
async def test_wherever_a_request_to_a_router_is_cancelled_the_next_gets_its_own_answer(
    endpoint: str, dials: str
) -> None:
    if dials == "REQ":
        async with Router(bind=endpoint, options=BRIEF) as router:
            async with Req(connect=router.last_endpoint, options=BRIEF) as req:
                await served(echo_as_router, router, req)
    else:
        async with Req(bind=endpoint, options=BRIEF) as req:
            async with Router(connect=req.last_endpoint, options=BRIEF) as router:
                await served(echo_as_router, router, req)


async def served(echo: Callable[[Any], Awaitable[None]], peer: Rep | Router, req: Req) -> None:
    async with trio.open_nursery() as nursery:
        await req.wait_connected()
        nursery.start_soon(echo, peer)
        await one_by_one(req)
        nursery.cancel_scope.cancel()


@over("inproc")
async def test_requests_of_other_tasks_do_not_suffer_from_one_that_is_cancelled(endpoint: str) -> None:
    async with Rep(bind=endpoint, options=BRIEF) as rep, Req(connect=endpoint, options=BRIEF) as req:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo_as_rep, rep)
            async with trio.open_nursery() as askers:
                for _ in range(4):
                    askers.start_soon(one_by_one, req)
            nursery.cancel_scope.cancel()
