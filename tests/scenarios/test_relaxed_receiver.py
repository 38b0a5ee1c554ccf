"""A REQ with ``req_relaxed``: what a task hears that is in `receive` while another asks again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mq import Options, Rep, Req, Router, StateError

from .kit import EVERYWHERE, over

RELAXED = Options(req_relaxed=True, linger=0)


@over(*EVERYWHERE)
async def test_a_receiver_that_waits_while_the_request_is_replaced_gets_the_reply_to_the_new_one(
    endpoint: str,
) -> None:
    async with Rep(bind=endpoint) as rep, Req(connect=rep.last_endpoint, options=RELAXED) as req:
        await req.wait_connected()
        heard: list[bytes] = []

        async def listen() -> None:
            heard.append(await req.receive())

        await req.send(b"1")
        first = await anext(rep.requests())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            await req.send(b"2")
            second = await anext(rep.requests())
            for request in (first, second):
                await request.reply(b"re: " + request.frames[0])
        assert heard == [b"re: 2"]
        with pytest.raises(StateError):
            req.receive_nowait()


@over("inproc")
async def test_a_receiver_goes_on_waiting_while_the_new_request_waits_for_a_peer(endpoint: str) -> None:
    async with Router(bind=endpoint, options=Options(linger=0)) as router:
        async with Req(connect=endpoint, options=RELAXED) as req, trio.open_nursery() as nursery:
            heard: list[bytes] = []

            async def listen() -> None:
                heard.append(await req.receive())

            await req.send(b"1")
            await router.receive_multipart()
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            nursery.start_soon(req.send, b"2")
            routing_id, _, question = await router.receive_multipart()
            assert question == b"2"
            await router.send_multipart([routing_id, b"", b"re: 2"])
            await wait_all_tasks_blocked()
            assert heard == [b"re: 2"]


@over("inproc")
async def test_a_send_nowait_that_fails_leaves_the_request_before_as_it_was(endpoint: str) -> None:
    async with Router(bind=endpoint) as router, Req(connect=endpoint, options=RELAXED) as req:
        await req.send(b"1")
        routing_id, _, question = await router.receive_multipart()
        assert question == b"1"
        with pytest.raises(TypeError):
            req.send_nowait("no bytes")  # type: ignore[arg-type] # that is the point
        with pytest.raises(trio.WouldBlock):
            req.send_nowait(b"2")  # a ROUTER can have one request at a time
        await router.send_multipart([routing_id, b"", b"re: 1"])
        assert await req.receive() == b"re: 1"
