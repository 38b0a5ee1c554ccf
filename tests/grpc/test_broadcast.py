"""Broadcast calls: over PUB-SUB, to the servicers of everybody who has subscribed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_mq
import trio_mq_grpc
from trio_mq_grpc._broadcast import OutletCourier
from trio_mq_grpc._feeds import RadioOutlet
from trio_mq_grpc._queued import QueuingChannel

from ._kit import SOON, newest_stubs, orders_servicer, wait_until
from ._work import Heard, add_service, inproc, numbered, path, serve


async def test_a_call_reaches_every_server_that_has_subscribed(
    transport: str, endpoint_for: Callable[[str], str]
) -> None:
    heard = [Heard() for _ in range(3)]
    endpoint = endpoint_for(transport)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, trio.open_nursery() as nursery:
            for each in heard:
                server = serve(Do=each)
                server.subscribe(endpoint)
                await nursery.start(server.serve)
            await channel.wait_subscribed(path("Do"), 3)
            assert channel.subscriber_count(path("Do")) == 3
            call = channel.unary_unary(path("Do"))(b"listen")
            assert await call == b""
            assert await call.code() is grpc.StatusCode.OK
            await wait_until(lambda: all(each.requests == [b"listen"] for each in heard))
            nursery.cancel_scope.cancel()


async def test_generated_stubs_and_servicers_broadcast() -> None:
    stubs, placed = newest_stubs(), []

    async def place(order: Any, context: Any) -> Any:
        placed.append((order.id, dict(context.invocation_metadata()), context.peer()))
        return stubs.orders.Receipt()

    server, endpoint = trio_mq_grpc.server(), inproc()
    server.subscribe(endpoint)  # before the services are added: topics are taken at the start
    stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, Place=place), server)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, server:
            stub = stubs.orders_grpc.OrdersStub(channel)
            await channel.wait_subscribed("/shop.v1.Orders/Place")
            assert await stub.Place(stubs.orders.Order(id="7"), metadata=[("a", "b")]) == stubs.orders.Receipt()
            await wait_until(lambda: placed)
    ((identity, metadata, peer),) = placed
    assert (identity, metadata["a"]) == ("7", "b")
    assert peer.startswith("unix:")


async def test_only_calls_of_the_servers_own_services_are_subscribed_to() -> None:
    server, endpoint = serve(Do=Heard()), inproc()
    subscription = server.subscribe(endpoint)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, server:
            await channel.wait_subscribed(path("Do"))
            assert channel.subscriber_count("/test.Workshop/Do") == 0
            await channel.unary_unary("/test.Workshop/Do")(b"for others")
            await channel.unary_unary(path("Do"))(b"for us")
            await wait_until(lambda: subscription.statistics().done == 1)
            assert subscription.statistics().received == 1


async def test_a_handler_that_takes_anything_subscribes_to_everything() -> None:
    heard = Heard()

    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(heard)

    server, endpoint = trio_mq_grpc.server(handlers=[Anything()]), inproc()
    server.subscribe(endpoint)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, server:
            await channel.wait_subscribed("/some.Thing/Else")
            await channel.unary_unary("/some.Thing/Else")(b"x")
            await wait_until(lambda: heard.requests == [b"x"])


async def test_a_subscriber_may_be_the_stable_side() -> None:
    heard = Heard()
    server = serve(Do=heard)
    subscription = server.subscribe("tcp://127.0.0.1:*", bind=True)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.broadcast_channel(subscription.endpoints) as channel:
            await channel.wait_subscribed(path("Do"))
            await channel.unary_unary(path("Do"))(b"x")
            await wait_until(lambda: heard.requests == [b"x"])


async def test_handlers_run_one_at_a_time_and_in_order() -> None:
    running, order = 0, []

    async def do(request: bytes, context: Any) -> bytes:
        nonlocal running
        running += 1
        assert running == 1
        await trio.lowlevel.checkpoint()
        order.append(request)
        running -= 1
        return b""

    server, endpoint = serve(Do=do), inproc()
    subscription = server.subscribe(endpoint)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, server:
            await channel.wait_subscribed(path("Do"))
            for request in numbered(100):
                await channel.unary_unary(path("Do"))(request)
            await wait_until(lambda: subscription.statistics().received == 100)
            await wait_until(lambda: len(order) == 100)
    assert order == list(numbered(100))
    assert subscription.statistics().failed == 0


async def test_more_handlers_run_where_that_is_asked_for() -> None:
    begun, go = [], trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        begun.append(request)
        await go.wait()
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.subscribe(endpoint, concurrency=3)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, server:
            await channel.wait_subscribed(path("Do"))
            for request in numbered(5):
                await channel.unary_unary(path("Do"))(request)
            await wait_until(lambda: len(begun) == 3)
            go.set()
            await wait_until(lambda: len(begun) == 5)
    assert begun == list(numbered(5))


async def test_a_subscriber_that_is_too_slow_is_told_how_much_it_missed() -> None:
    gaps: list[trio_mq_grpc.Gap] = []
    heard, go = [], trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        heard.append(request)
        await go.wait()
        return b""

    little = trio_mq.Options(send_hwm=5, receive_hwm=5)
    server, endpoint = serve(Do=do), inproc()
    subscription = server.subscribe(endpoint, on_gap=gaps.append, options=little)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True, options=little) as channel, server:
            await channel.wait_subscribed(path("Do"))
            stub = channel.unary_unary(path("Do"))
            for request in numbered(100):
                await stub(request)
            go.set()
            await wait_all_tasks_blocked(0.01)
            await stub(b"100")
            await wait_until(lambda: heard[-1] == b"100")
    missed = sum(gap.missed for gap in gaps)
    assert missed == 101 - len(heard) == subscription.statistics().missed > 0
    assert {(gap.path, gap.epoch) for gap in gaps} == {(path("Do"), channel.epoch)}
    # A gap is told with the number of the call behind it, and calls come in order.
    assert {gap.sequence for gap in gaps} <= {int(request) for request in heard}
    assert heard == sorted(heard, key=int)


async def test_a_publisher_that_does_not_drop_waits_for_the_slowest() -> None:
    heard, go = [], trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        await go.wait()
        heard.append(request)
        return b""

    little = trio_mq.Options(send_hwm=2, receive_hwm=2)
    patient = trio_mq.Options(send_hwm=2, overflow="block")
    server, endpoint = serve(Do=do), inproc()
    subscription = server.subscribe(endpoint, options=little)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True, options=patient) as channel, server:
            await channel.wait_subscribed(path("Do"))
            stub = channel.unary_unary(path("Do"))
            calls = [stub(request) for request in numbered(30)]
            assert not calls[-1].done()
            go.set()
            for call in calls:
                await call
            await wait_until(lambda: subscription.statistics().done == 30)
    assert heard == list(numbered(30))
    assert subscription.statistics().missed == 0


async def test_a_publisher_that_was_started_again_is_a_beginning_and_no_gap() -> None:
    gaps: list[trio_mq_grpc.Gap] = []
    heard = Heard()
    server, endpoint = serve(Do=heard), inproc()
    subscription = server.subscribe(endpoint, on_gap=gaps.append)
    epochs = []

    def heard_thrice(life: bytes) -> bool:
        return heard.requests.count(life) == 3

    with trio.fail_after(SOON):
        async with server:
            for life in (b"first", b"second"):
                async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel:
                    epochs.append(channel.epoch)
                    await channel.wait_subscribed(path("Do"))
                    for _ in range(3):
                        await channel.unary_unary(path("Do"))(life)
                    await wait_until(partial(heard_thrice, life))
    assert epochs[0] != epochs[1]
    assert not gaps
    assert subscription.statistics().missed == 0


async def test_failures_are_logged_and_the_next_call_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    async def do(request: bytes, context: Any) -> bytes:
        if request == b"bad":
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        return b""

    server, endpoint = serve(Do=do), inproc()
    subscription = server.subscribe(endpoint)
    with trio.fail_after(SOON), caplog.at_level(logging.WARNING):
        async with trio_mq_grpc.broadcast_channel(endpoint, bind=True) as channel, server:
            await channel.wait_subscribed(path("Do"))
            await channel.unary_unary(path("Do"))(b"bad")
            await channel.unary_unary(path("Nothing"))(b"?")
            await channel.unary_unary(path("Do"))(b"good")
            await wait_until(lambda: subscription.statistics().done == 1)
    assert subscription.statistics().failed == 2
    assert "INVALID_ARGUMENT" in caplog.text
    assert "UNIMPLEMENTED" in caplog.text


async def test_garbage_is_counted() -> None:
    heard = Heard()
    server, endpoint = serve(Do=heard), inproc()
    subscription = server.subscribe(endpoint)
    good = bytes.fromhex("a109000200000000cafe000100000000")
    with trio.fail_after(SOON):
        async with trio_mq.Pub(bind=endpoint) as pub, server:
            await pub.wait_subscribed(b"/test.Work/")
            await pub.send(b"/test.Work/Do\0")
            await pub.send_multipart([b"/test.Work/Do\0", b"short", b"x"])
            await pub.send_multipart([b"/test.Work/Do\0", good[:2] + b"\0\3" + good[4:], b"\xff no head", b"x"])
            await pub.send_multipart([b"/test.Work/Do\0", good, b"good"])
            await wait_until(lambda: heard.requests == [b"good"])
    assert subscription.statistics().malformed == 3


async def test_other_kinds_are_refused() -> None:
    async with trio_mq_grpc.broadcast_channel(inproc(), bind=True) as channel:
        with pytest.raises(grpc.aio.UsageError):
            channel.unary_stream(path("Do"))(b"x")


async def test_nobody_there_is_no_error() -> None:
    async with trio_mq_grpc.broadcast_channel(inproc(), bind=True) as channel:
        assert await channel.unary_unary(path("Do"))(b"into the void") == b""


async def test_datagrams_and_connections_do_not_mix() -> None:
    with pytest.raises(ValueError, match="udp"):
        trio_mq_grpc.broadcast_channel(["udp://127.0.0.1:5000", "tcp://127.0.0.1:5000"])


async def test_calls_go_over_radio_and_dish_too() -> None:
    """The two over inproc, as they are used for ``udp://``."""
    from trio_mq_grpc._feeds import DishIntake

    heard = Heard()
    endpoint = inproc()
    server = trio_mq_grpc.server()
    subscription = server.subscribe(inproc())
    add_service(server, Do=heard)
    subscription._intake = DishIntake(trio_mq.Dish(connect=endpoint))
    outlet = RadioOutlet(trio_mq.Radio(bind=endpoint))
    with trio.fail_after(SOON):
        async with QueuingChannel(OutletCourier(outlet), "radio", interceptors=None) as channel, server:
            await outlet.wait_subscribed(path("Do").encode(), b"", 1)
            stub = channel.unary_unary(path("Do"))
            for request in numbered(3):
                await stub(request, metadata=[("a", "b")])
            await wait_until(lambda: heard.requests == list(numbered(3)))
