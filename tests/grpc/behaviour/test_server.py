"""The server: what it serves, on which ports, how it starts and how it stops."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import bind_address, ends, fails_with, ids_of, newest_stubs, orders_servicer, receipt, wait_until

CODE = grpc.StatusCode


class Slow:
    """A handler that waits until it is released, and counts."""

    def __init__(self) -> None:
        self.released = trio.Event()
        self.began = 0
        self.cancelled = 0

    async def place(self, request: Any, context: Any) -> Any:
        self.began += 1
        try:
            await self.released.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return receipt(id=request.id)

    async def haggle(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.began += 1
        try:
            async for request in requests:
                yield receipt(id=request.id)
        except trio.Cancelled:
            self.cancelled += 1
            raise


async def quick(request: Any, context: Any) -> Any:
    return receipt(id=request.id)


def raw(channel: Any, path: str) -> Any:
    return channel.unary_unary(path)(b"")


# --- what is served --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/shop.v1.Orders/Lose", "/shop.v1.Nobody/Place", "/shop.v1.orders/Place", "shop.v1.Orders/Place", "/", "x"]
)
async def test_what_nobody_serves_is_unimplemented(path: str, transport: str) -> None:
    async with ends(transport=transport, Place=quick) as both:
        with fails_with(CODE.UNIMPLEMENTED, details="Method not found!"):
            await raw(both.channel, path)


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_unknown_methods_of_every_kind_are_unimplemented(kind: str) -> None:
    async with ends(Place=quick) as both:
        call = getattr(both.channel, kind)("/shop.v1.Orders/Lose")(b"" if kind == "unary_stream" else iter([b""]))
        assert await call.code() is CODE.UNIMPLEMENTED


async def test_many_unknown_methods_leave_nothing_behind() -> None:
    async with ends(Place=quick) as both:
        for number in range(300):
            assert await raw(both.channel, f"/shop.v1.Orders/{number}").code() is CODE.UNIMPLEMENTED
        assert (await both.stub.Place(both.order(id="a"))).id == "a"


async def test_a_service_without_methods_is_served() -> None:
    stubs = newest_stubs()
    nothing = (stubs.orders_grpc.add_NothingServicer_to_server, object())
    async with ends(nothing, Place=quick) as both:
        assert await raw(both.channel, "/shop.v1.Nothing/Any").code() is CODE.UNIMPLEMENTED
        assert (await both.stub.Place(both.order(id="a"))).id == "a"


def handler(name: str) -> Any:
    async def answer(request: bytes, context: Any) -> bytes:
        return name.encode()

    return grpc.unary_unary_rpc_method_handler(answer)


async def test_a_registered_handler_wins_over_a_generic_one() -> None:
    server = trio_mq_grpc.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("S", {"M": handler("generic")})])
    server.add_registered_method_handlers("S", {"M": handler("registered")})
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    async with server, trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
        assert await raw(channel, "/S/M") == b"registered"


async def test_generic_handlers_are_asked_in_order() -> None:
    asked: list[str] = []

    class CatchAll(grpc.GenericRpcHandler):
        def __init__(self, name: str, answers: str) -> None:
            self.name = name
            self.answers = answers

        def service(self, details: Any) -> Any:
            asked.append(self.name)
            return handler(details.method) if details.method.endswith(self.answers) else None

    server = trio_mq_grpc.server(handlers=[CatchAll("first", "/A")])
    server.add_generic_rpc_handlers((CatchAll("second", ""),))
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    async with server, trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
        assert await raw(channel, "/S/A") == b"/S/A"
        assert await raw(channel, "/S/B") == b"/S/B"
        assert asked == ["first", "first", "second"]


async def test_a_generic_handler_sees_the_metadata() -> None:
    seen: list[Any] = []

    class CatchAll(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            seen.extend(details.invocation_metadata)
            return handler("x")

    server = trio_mq_grpc.server(handlers=(CatchAll(),))
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    async with server, trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
        await channel.unary_unary("/S/M")(b"", metadata=(("key", "value"),))
        assert ("key", "value") in [tuple(entry) for entry in seen]


# --- ports -----------------------------------------------------------------------------------------------------------


async def test_port_0_is_a_free_one_and_told_before_the_server_starts() -> None:
    server = trio_mq_grpc.server()
    ports = [server.add_insecure_port(address) for address in ("tcp://127.0.0.1:0", "127.0.0.1:0")]
    assert all(1024 <= port <= 65535 for port in ports)
    assert len(set(ports)) == 2
    async with server:
        for port in ports:
            async with trio_mq_grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert await raw(channel, "/S/M").code() is CODE.UNIMPLEMENTED


def test_a_port_can_be_added_before_there_is_a_run() -> None:
    server = trio_mq_grpc.server()
    port = server.add_insecure_port("tcp://127.0.0.1:0")

    async def main() -> Any:
        async with server, trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
            return await raw(channel, "/S/M").code()

    assert trio.run(main) is CODE.UNIMPLEMENTED


async def test_a_port_in_use_is_a_runtime_error() -> None:
    async with ends(Place=quick) as both:
        with pytest.raises(RuntimeError, match=both.target.rpartition(":")[2]):
            trio_mq_grpc.server().add_insecure_port(both.target)


async def test_ports_are_added_before_the_start() -> None:
    async with ends(Place=quick) as both:
        with pytest.raises((RuntimeError, grpc.aio.UsageError)):
            both.server.add_insecure_port("tcp://127.0.0.1:0")


async def test_one_server_serves_several_transports_at_once() -> None:
    stubs = newest_stubs()
    with bind_address("ipc") as path, bind_address("inproc") as name:
        server = trio_mq_grpc.server()
        stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, Place=quick), server)
        targets = [f"tcp://127.0.0.1:{server.add_insecure_port('tcp://127.0.0.1:0')}", path, name]
        for address in (path, name):
            server.add_insecure_port(address)
        async with server:
            for target in targets:
                async with trio_mq_grpc.insecure_channel(target) as channel:
                    reply = await stubs.orders_grpc.OrdersStub(channel).Place(stubs.orders.Order(id=target))
                    assert reply.id == target


# --- starting --------------------------------------------------------------------------------------------------------


def test_the_server_is_grpc_s_own_class() -> None:
    assert isinstance(trio_mq_grpc.server(), grpc.aio.Server)


async def test_start_inside_the_block_does_nothing() -> None:
    async with ends(Place=quick) as both:
        await both.server.start()
        await both.server.start()
        assert (await both.stub.Place(both.order(id="a"))).id == "a"


async def test_start_without_the_block_says_how_to_enter() -> None:
    with pytest.raises(grpc.aio.UsageError, match="async with"):
        await trio_mq_grpc.server().start()


async def test_a_stopped_server_does_not_start_again() -> None:
    async with ends(Place=quick) as both:
        await both.server.stop(None)
        with pytest.raises(grpc.aio.UsageError):
            await both.server.start()


async def test_a_nursery_may_own_the_server() -> None:
    server = trio_mq_grpc.server()
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        async with trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
            assert await raw(channel, "/S/M").code() is CODE.UNIMPLEMENTED
        nursery.cancel_scope.cancel()


def test_interceptors_must_be_interceptors() -> None:
    with pytest.raises(ValueError, match="ntercept"):
        trio_mq_grpc.server(interceptors=[object()])  # type: ignore[list-item]  # that is the mistake


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_stop_cancels_what_runs_and_the_client_hears_why() -> None:
    slow = Slow()
    async with ends(Place=slow.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: slow.began)
        await both.server.stop(None)
        with fails_with(CODE.UNAVAILABLE, details="Cancelling all calls"):
            await call
        await wait_until(lambda: slow.cancelled == 1)


async def test_leaving_the_block_is_a_stop() -> None:
    slow = Slow()
    server = trio_mq_grpc.server()
    stubs = newest_stubs()
    stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, Place=slow.place), server)
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    async with trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
        async with server:
            call = stubs.orders_grpc.OrdersStub(channel).Place(stubs.orders.Order())
            await wait_until(lambda: slow.began)
        with fails_with(CODE.UNAVAILABLE):
            await call
        assert slow.cancelled == 1


async def test_a_graceful_stop_lets_calls_end_and_refuses_new_ones() -> None:
    slow = Slow()
    async with ends(Place=slow.place) as both, trio.open_nursery() as nursery:
        call = both.stub.Place(both.order(id="old"))
        await wait_until(lambda: slow.began)
        nursery.start_soon(both.server.stop, 10)
        await trio.testing.wait_all_tasks_blocked(0.02)
        with fails_with(CODE.UNAVAILABLE):
            await both.stub.Place(both.order(id="new"))
        assert not call.done()
        slow.released.set()
        assert (await call).id == "old"
        assert slow.began == 1


async def test_a_graceful_stop_waits_no_longer_than_its_calls() -> None:
    async with ends(Place=quick) as both:
        await both.stub.Place(both.order())
        with trio.fail_after(2):
            await both.server.stop(1000)


async def test_after_its_grace_a_stop_cancels() -> None:
    slow = Slow()
    async with ends(Place=slow.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: slow.began)
        with trio.fail_after(5):
            await both.server.stop(0.05)
        with fails_with(CODE.UNAVAILABLE, details="Cancelling all calls"):
            await call


async def test_of_several_stops_the_strictest_counts() -> None:
    slow = Slow()
    async with ends(Place=slow.place) as both, trio.open_nursery() as nursery:
        call = both.stub.Place(both.order())
        await wait_until(lambda: slow.began)
        with trio.fail_after(5):
            async with trio.open_nursery() as stops:
                for grace in (1000, 0.05, 2000):
                    stops.start_soon(both.server.stop, grace)
        with fails_with(CODE.UNAVAILABLE):
            await call
        nursery.cancel_scope.cancel()


async def test_stop_may_be_called_again() -> None:
    async with ends(Place=quick) as both:
        for grace in (None, 0, 5):
            with trio.fail_after(2):
                await both.server.stop(grace)


async def test_stop_of_a_server_that_never_started_does_nothing() -> None:
    server = trio_mq_grpc.server()
    await server.stop(None)
    server.add_insecure_port("tcp://127.0.0.1:0")
    await server.stop(5)


async def test_stop_ends_a_stream_in_its_middle() -> None:
    slow = Slow()
    async with ends(Haggle=slow.haggle) as both:
        call = both.stub.Haggle()
        await call.write(both.order(id="a"))
        assert (await call.read()).id == "a"
        await both.server.stop(None)
        with fails_with(CODE.UNAVAILABLE):
            await call.read()
        await wait_until(lambda: slow.cancelled == 1)


async def test_a_handler_that_does_not_end_is_told_before_the_grace_is_over() -> None:
    """A stop that is cancelled cancels the handlers at once."""
    slow = Slow()
    async with ends(Place=slow.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: slow.began)
        with trio.move_on_after(0.05):
            await both.server.stop(1000)
        with trio.fail_after(2):
            await both.server.stop(None)
        assert await call.code() is CODE.UNAVAILABLE


async def test_wait_for_termination_tells_whether_the_time_ran_out() -> None:
    async with ends(Place=quick) as both:
        assert await both.server.wait_for_termination(timeout=0.01) is True
        await both.server.stop(None)
        assert await both.server.wait_for_termination(timeout=1) is False
        assert await both.server.wait_for_termination() is False


async def test_a_port_is_free_again_after_the_block() -> None:
    async with ends(Place=quick) as both:
        target = both.target
    for _ in range(2):
        server = trio_mq_grpc.server()
        assert server.add_insecure_port(target) == int(target.rpartition(":")[2])
        async with server:
            pass


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with ends(Place=quick):
            raise KeyError("mine")


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_calls_beyond_the_limit_are_refused_at_once() -> None:
    slow = Slow()
    async with ends(server={"maximum_concurrent_rpcs": 3}, Place=slow.place) as both:
        running = [both.stub.Place(both.order(id=each)) for each in "abc"]
        await wait_until(lambda: slow.began == 3)
        for _ in range(5):
            with fails_with(CODE.RESOURCE_EXHAUSTED, details="Concurrent RPC limit exceeded!"):
                await both.stub.Place(both.order())
        slow.released.set()
        assert [(await call).id for call in running] == ["a", "b", "c"]
        assert (await both.stub.Place(both.order(id="d"))).id == "d"
        assert slow.began == 4


async def test_a_cancelled_call_makes_room_for_the_next() -> None:
    slow = Slow()
    async with ends(server={"maximum_concurrent_rpcs": 1}, Place=slow.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: slow.began)
        call.cancel()
        await wait_until(lambda: slow.cancelled)
        slow.released.set()
        assert (await both.stub.Place(both.order(id="next"))).id == "next"


async def test_an_ended_stream_makes_room_for_the_next() -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt()

    async with ends(server={"maximum_concurrent_rpcs": 1}, Watch=watch) as both:
        for _ in range(10):
            assert len(await ids_of(both.stub.Watch(both.order()))) == 1


# --- handlers registered late ----------------------------------------------------------------------------------------


async def test_handlers_added_after_the_start_are_refused_or_warned_about_but_break_nothing() -> None:
    async with ends(Place=quick) as both:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                both.server.add_registered_method_handlers("S", {"M": handler("late")})
            except (RuntimeError, grpc.aio.UsageError):
                pass
        assert (await both.stub.Place(both.order(id="a"))).id == "a"
