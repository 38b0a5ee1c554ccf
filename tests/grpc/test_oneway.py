"""One-way calls: over PUSH-PULL, to ordinary servicers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
import pytest
import trio
from trio.testing import MockClock, Sequencer, wait_all_tasks_blocked

import trio_mq
import trio_mq_grpc

from ._kit import SOON, newest_stubs, orders_servicer, wait_until
from ._work import Heard, add_service, inproc, numbered, path, serve

LITTLE = trio_mq.Options(immediate=True, send_hwm=1)
"""For a channel that fills at once."""


def figures(server: trio_mq_grpc.Server) -> trio_mq_grpc.DeliveryStatistics:
    (feed,) = server.feeds
    return feed.statistics()


async def test_a_call_returns_when_it_is_queued_and_a_servicer_does_the_work(
    transport: str, endpoint_for: Callable[[str], str]
) -> None:
    heard = Heard()
    server, endpoint = serve(Do=heard), endpoint_for(transport)
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            call = channel.unary_unary(path("Do"))(b"dig")
            assert await call == b""
            assert await call.code() is grpc.StatusCode.OK
            assert await call.details() == "queued; no reply is expected"
            await wait_until(lambda: heard.requests == [b"dig"])
            await wait_until(lambda: figures(server).done == 1)


async def test_generated_stubs_get_an_empty_response() -> None:
    stubs = newest_stubs()
    placed: list[str] = []

    async def place(order: Any, context: Any) -> Any:
        placed.append(order.id)
        return stubs.orders.Receipt(id="nobody reads this")

    server, endpoint = trio_mq_grpc.server(), inproc()
    stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, Place=place), server)
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = stubs.orders_grpc.OrdersStub(channel)
            assert await stub.Place(stubs.orders.Order(id="7")) == stubs.orders.Receipt()
            await wait_until(lambda: placed == ["7"])


async def test_the_response_is_none_where_there_is_no_empty_message() -> None:
    def read(data: bytes) -> bytes:
        if not data:
            raise ValueError("there is always something in it")
        return data

    server, endpoint = serve(Do=Heard()), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            assert await channel.unary_unary(path("Do"), response_deserializer=read)(b"x") is None


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_methods_of_other_kinds_are_refused_at_the_call(kind: str) -> None:
    async with trio_mq_grpc.oneway_channel(inproc()) as channel:
        stub = getattr(channel, kind)(path("Do"), _registered_method=True)
        with pytest.raises(grpc.aio.UsageError, match="one request and one response"):
            stub(b"x")


async def test_a_channel_is_entered_before_its_first_call() -> None:
    channel = trio_mq_grpc.oneway_channel(inproc())
    stub = channel.unary_unary(path("Do"))
    with pytest.raises(grpc.aio.UsageError, match="enter the channel first"):
        stub(b"x")
    async with channel:
        pass
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        stub(b"x")


async def test_metadata_reaches_the_servicer_and_wrong_metadata_fails_at_the_call() -> None:
    seen: list[Any] = []

    async def do(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            with pytest.raises(ValueError, match="metadata key"):
                stub(b"x", metadata=[("Upper", "x")])
            await stub(b"x", metadata=[("who", "ada"), ("raw-bin", b"\0\1")])
            await wait_until(lambda: seen)
    assert seen[0]["who"] == "ada"
    assert seen[0]["raw-bin"] == b"\0\1"


# --- back-pressure ---------------------------------------------------------------------------------------------------


async def test_a_server_reads_no_more_than_its_handlers_take() -> None:
    begun: list[bytes] = []

    async def never(request: bytes, context: Any) -> bytes:
        begun.append(request)
        await trio.sleep_forever()
        raise AssertionError

    server, endpoint = serve(Do=never), inproc()
    server.add_oneway_port(endpoint, concurrency=2)
    sent = 0
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint, options=LITTLE) as channel:
            stub = channel.unary_unary(path("Do"))
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def send_all() -> None:
                        nonlocal sent
                        for request in numbered(1000):
                            await stub(request)
                            sent += 1

                    nursery.start_soon(send_all)
                    await wait_until(lambda: len(begun) == 2)
                    await wait_all_tasks_blocked(0.01)
                    scope.cancel()
    assert begun == [b"0", b"1"]
    # Two that are handled, a few in the queues between: the marks are 2 and 1.
    assert 2 <= sent <= 8


async def test_a_full_channel_ends_a_call_at_its_timeout_and_has_not_queued_it(autojump_clock: MockClock) -> None:
    heard = Heard()
    endpoint = inproc()
    async with trio_mq_grpc.oneway_channel(endpoint, options=LITTLE) as channel:
        stub = channel.unary_unary(path("Do"))
        began = trio.current_time()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub(b"too early", timeout=3)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)
        server = serve(Do=heard)
        server.add_oneway_port(endpoint)
        async with server:
            await stub(b"now")
            await wait_until(lambda: heard.requests)
            assert heard.requests == [b"now"]


async def test_a_cancelled_call_is_not_queued() -> None:
    heard = Heard()
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel(endpoint, options=LITTLE) as channel:
            stub = channel.unary_unary(path("Do"))
            with trio.move_on_after(0.01) as scope:
                await stub(b"cancelled")
            assert scope.cancelled_caught
            server = serve(Do=heard)
            server.add_oneway_port(endpoint)
            async with server:
                await stub(b"sent")
                await wait_until(lambda: heard.requests)
                assert heard.requests == [b"sent"]


async def test_calls_that_wait_are_queued_in_their_order() -> None:
    heard = Heard()
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel(endpoint, options=LITTLE) as channel:
            stub = channel.unary_unary(path("Do"))
            calls = [stub(request) for request in numbered(20)]
            server = serve(Do=heard)
            server.add_oneway_port(endpoint)
            async with server:
                for call in calls:
                    await call
                await wait_until(lambda: len(heard.requests) == 20)
    assert heard.requests == list(numbered(20))


async def test_a_loop_of_calls_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    server, endpoint = serve(Do=Heard()), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel, trio.open_nursery() as nursery:
            stub = channel.unary_unary(path("Do"))
            nursery.start_soon(other)
            for request in numbered(500):
                await stub(request)
            assert turns > 5
            nursery.cancel_scope.cancel()


# --- the server's side -----------------------------------------------------------------------------------------------


async def test_work_is_shared_among_the_servers_that_are_there() -> None:
    first, second = Heard(), Heard()
    server, other = serve(Do=first), serve(Do=second)
    endpoints = inproc(), inproc()
    server.add_oneway_port(endpoints[0])
    other.add_oneway_port(endpoints[1])
    with trio.fail_after(SOON):
        async with server, other, trio_mq_grpc.oneway_channel(endpoints) as channel:
            await channel.socket.wait_connected(2)
            stub = channel.unary_unary(path("Do"))
            for request in numbered(10):
                await stub(request)
            await wait_until(lambda: len(first.requests) + len(second.requests) == 10)
    assert len(first.requests) == len(second.requests) == 5


async def test_a_server_may_dial_a_channel_that_is_bound() -> None:
    heard = Heard()
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel("tcp://127.0.0.1:*", bind=True) as channel:
            server = serve(Do=heard)
            server.add_oneway_port(channel.endpoints[0], bind=False)
            async with server:
                await channel.unary_unary(path("Do"))(b"x")
                await wait_until(lambda: heard.requests == [b"x"])


async def test_the_port_number_is_returned() -> None:
    server = serve(Do=Heard())
    port = server.add_oneway_port("127.0.0.1:0")
    assert 1024 < port < 65536
    with pytest.raises(RuntimeError, match="failed to bind"):
        serve(Do=Heard()).add_oneway_port(f"127.0.0.1:{port}")
    await server.stop(None)


async def test_handlers_begin_in_the_order_of_the_work() -> None:
    begun: list[bytes] = []

    async def do(request: bytes, context: Any) -> bytes:
        begun.append(request)
        await trio.lowlevel.checkpoint()
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=8)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            for request in numbered(200):
                await stub(request)
            await wait_until(lambda: len(begun) == 200)
    assert begun == list(numbered(200))


async def test_as_many_handlers_run_as_are_allowed_and_no_more() -> None:
    running = most = 0

    async def do(request: bytes, context: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.001)
        running -= 1
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=3)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            for request in numbered(30):
                await stub(request)
            await wait_until(lambda: figures(server).done == 30)
    assert most == 3


async def test_a_limit_of_calls_refuses_no_work_and_work_takes_none_of_it() -> None:
    begun, go = Heard(), trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        await begun(request, context)
        if request != b"call":
            await go.wait()
        return request

    server, endpoint, rpc = trio_mq_grpc.server(maximum_concurrent_rpcs=1), inproc(), inproc()
    add_service(server, Do=do)
    server.add_oneway_port(endpoint, concurrency=3)
    server.add_insecure_port(rpc)
    with trio.fail_after(SOON):
        async with (
            server,
            trio_mq_grpc.oneway_channel(endpoint) as channel,
            trio_mq_grpc.insecure_channel(rpc) as calls,
        ):
            for request in numbered(3):
                await channel.unary_unary(path("Do"))(request)
            await wait_until(lambda: len(begun.requests) == 3)
            assert await calls.unary_unary(path("Do"))(b"call") == b"call"
            go.set()
            await wait_until(lambda: figures(server).done == 3)


async def test_plain_functions_run_in_threads() -> None:
    seen: list[bytes] = []

    def do(request: bytes, context: Any) -> bytes:
        time.sleep(0.001)
        seen.append(request)
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=2)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            for request in numbered(10):
                await stub(request)
            await wait_until(lambda: figures(server).done == 10)
    assert sorted(seen) == sorted(numbered(10))


async def test_nothing_passes_from_one_handler_to_the_next() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def do(request: bytes, context: Any) -> bytes:
        seen.append(variable.get())
        variable.set(request.decode())
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=1)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            for request in numbered(5):
                await stub(request)
            await wait_until(lambda: len(seen) == 5)
    assert seen == ["nothing"] * 5


async def test_a_failure_goes_to_the_hook_with_all_that_is_needed_to_try_again() -> None:
    failures: list[trio_mq_grpc.Failure] = []

    async def do(request: bytes, context: Any) -> bytes:
        match request:
            case b"raise":
                raise KeyError("gone")
            case b"abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            case b"code":
                context.set_code(grpc.StatusCode.DATA_LOSS)
        return b""

    async def keep(failure: trio_mq_grpc.Failure) -> None:
        await trio.lowlevel.checkpoint()
        failures.append(failure)

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=1, on_failure=keep)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            for request in (b"raise", b"abort", b"code", b"fine"):
                await stub(request, metadata=[("n", "1")])
            await channel.unary_unary("/test.Work/Nothing")(b"what")
            await wait_until(lambda: len(failures) == 4 and figures(server).done == 1)
    assert [(each.method, each.request, each.code) for each in failures] == [
        (path("Do"), b"raise", grpc.StatusCode.UNKNOWN),
        (path("Do"), b"abort", grpc.StatusCode.NOT_FOUND),
        (path("Do"), b"code", grpc.StatusCode.DATA_LOSS),
        ("/test.Work/Nothing", b"what", grpc.StatusCode.UNIMPLEMENTED),
    ]
    assert isinstance(failures[0].exception, KeyError)
    assert failures[1].details == "no such thing"
    assert ("n", "1") in failures[0].metadata
    assert failures[0].peer.startswith("unix:")
    assert figures(server).failed == 4


async def test_a_failure_of_which_no_hook_is_told_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def do(request: bytes, context: Any) -> bytes:
        raise KeyError("a bug")

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            await channel.unary_unary(path("Do"))(b"x")
            await wait_until(lambda: figures(server).failed)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_work_that_its_handler_refused_and_of_which_no_hook_is_told_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def do(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            await channel.unary_unary(path("Do"))(b"x")
            await wait_until(lambda: figures(server).failed)
    (record,) = caplog.records
    assert record.getMessage().endswith("failed: NOT_FOUND, no such thing")


async def test_a_hook_that_fails_and_a_handler_that_cancels_itself_stop_nothing() -> None:
    def broken(failure: trio_mq_grpc.Failure) -> None:
        raise RuntimeError("the hook")

    async def do(request: bytes, context: Any) -> bytes:
        if request == b"cancel":
            context.cancel()
            await trio.sleep_forever()
        if request == b"raise":
            raise ValueError
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=1, on_failure=broken)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint) as channel:
            stub = channel.unary_unary(path("Do"))
            for request in (b"raise", b"cancel", b"cancel", b"fine"):
                await stub(request)
            await wait_until(lambda: figures(server).done == 1)
            assert figures(server).failed == 3


async def test_expired_work_is_dropped_and_counted() -> None:
    heard = Heard()
    server, endpoint = serve(Do=heard), inproc()
    server.add_oneway_port(endpoint)
    yesterday = time.time() - 86400
    with trio.fail_after(SOON):
        async with (
            server,
            trio_mq_grpc.oneway_channel(endpoint, expires_after=60) as channel,
            trio_mq_grpc.oneway_channel(endpoint, expires_after=60, wall_clock=lambda: yesterday) as late,
        ):
            await late.unary_unary(path("Do"))(b"stale")
            await wait_until(lambda: figures(server).expired == 1)
            await late.unary_unary(path("Do"))(b"longer", expires_after=2 * 86400)
            await channel.unary_unary(path("Do"))(b"fresh")
            await wait_until(lambda: figures(server).done == 2)
    assert sorted(heard.requests) == [b"fresh", b"longer"]


@pytest.mark.parametrize("after", [0, -1])
async def test_no_time_is_so_early_that_work_which_has_expired_would_never_expire(after: float) -> None:
    server, endpoint = serve(Do=Heard()), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint, wall_clock=lambda: 0.0) as channel:
            await channel.unary_unary(path("Do"))(b"stale", expires_after=after)
            await wait_until(lambda: figures(server).received == 1)
    assert figures(server).expired == 1


async def test_the_calls_of_a_channel_are_numbered() -> None:
    endpoint = inproc()
    with trio.fail_after(SOON):
        async with trio_mq.Pull(bind=endpoint) as pull, trio_mq_grpc.oneway_channel(endpoint) as channel:
            for request in numbered(3):
                await channel.unary_unary(path("Do"))(request)
            headers = [(await pull.receive_multipart())[0] for _ in range(3)]
    assert [int.from_bytes(header[8:]) for header in headers] == [1, 2, 3]


async def test_work_expires_also_under_the_path_that_an_interceptor_gives_it() -> None:
    class Redirecting(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details._replace(method=path("Do")), request)

    server, endpoint = serve(Do=Heard()), inproc()
    server.add_oneway_port(endpoint)
    redirected = [Redirecting()]
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint, interceptors=redirected, expires_after=-60) as channel:
            await channel.unary_unary(path("Old"))(b"stale")
            await wait_until(lambda: figures(server).received == 1)
    assert figures(server).expired == 1


async def test_garbage_is_counted_and_the_rest_is_done() -> None:
    heard = Heard()
    server, endpoint = serve(Do=heard), inproc()
    server.add_oneway_port(endpoint)
    header = bytes.fromhex("a1010006000000000000000000000001")
    garbage: list[list[bytes]] = [
        [b"hello"],
        [header],
        [header, path("Do").encode()],
        [header, path("Do").encode(), b"x", b"too many"],
        [b"\xb1" + header[1:], path("Do").encode(), b"another magic"],
        [header[:1] + b"\x02" + header[2:], b"another type"],
        [header[:2] + b"\x04\x06" + header[4:], path("Do").encode(), b"a critical flag"],
        [header[:2] + b"\0\x07" + header[4:], path("Do").encode(), b"\xff\xff no head", b"x"],
        [header, b"\xff", b"no UTF-8"],
        [header, b"/" * 2000, b"long"],
    ]
    with trio.fail_after(SOON):
        async with server, trio_mq.Push(connect=endpoint) as push:
            for frames in garbage:
                await push.send_multipart(frames)
            await push.send_multipart([header, path("Do").encode(), b"good"])
            await wait_until(lambda: heard.requests == [b"good"])
    assert figures(server).malformed == len(garbage)


async def test_work_that_is_too_large_fails_alone_and_absurd_work_ends_its_connection() -> None:
    failures: list[trio_mq_grpc.Failure] = []
    heard = Heard()
    server = trio_mq_grpc.server(options=[("grpc.max_receive_message_length", 1000)])
    add_service(server, Do=heard)
    port = server.add_oneway_port("127.0.0.1:0", on_failure=failures.append)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(f"127.0.0.1:{port}") as channel:
            stub = channel.unary_unary(path("Do"))
            await stub(bytes(1001))
            await wait_until(lambda: failures)
            async with channel.socket.monitor() as events:
                await stub(bytes(2 << 20))
                while not isinstance(await events.receive(), trio_mq.events.Disconnected):
                    pass
            await stub(bytes(1000))
            await wait_until(lambda: heard.requests == [bytes(1000)])
    (failure,) = failures
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1001 vs. 1000" in failure.details


async def test_interceptors_of_both_sides_are_asked() -> None:
    seen: list[str] = []

    class Client(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            call = await continuation(details, request)
            seen.append(f"client {await call.code()}")
            return call

    class Watching(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append(f"server {details.method}")
            return await continuation(details)

    heard = Heard()
    server, endpoint = trio_mq_grpc.server(interceptors=[Watching()]), inproc()
    add_service(server, Do=heard)
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.oneway_channel(endpoint, interceptors=[Client()]) as channel:
            assert await channel.unary_unary(path("Do"))(b"x") == b""
            await wait_until(lambda: heard.requests == [b"x"])
    assert sorted(seen) == ["client StatusCode.OK", f"server {path('Do')}"]


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_stopping_with_grace_lets_what_was_begun_end() -> None:
    order, done = Sequencer(), []

    async def do(request: bytes, context: Any) -> bytes:
        async with order(0):
            pass
        async with order(2):
            done.append(request)
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel(endpoint) as channel, trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            await channel.unary_unary(path("Do"))(b"x")
            async with order(1):
                nursery.start_soon(server.stop, 5)
                await wait_all_tasks_blocked()
                assert not done
    assert done == [b"x"]


async def test_stopping_with_grace_does_what_was_received_and_nothing_that_comes_later() -> None:
    heard, go = [], trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        heard.append(request)
        await go.wait()
        return b""

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=1)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel(endpoint) as channel, trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            stub = channel.unary_unary(path("Do"))
            for request in numbered(5):
                await stub(request)
            await wait_until(lambda: heard)
            nursery.start_soon(server.stop, 5)
            await wait_all_tasks_blocked()
            late = stub(b"late")
            go.set()
            await server.wait_for_termination()
            assert not late.done()
            late.cancel()
    assert heard == list(numbered(5))
    assert figures(server) == trio_mq_grpc.DeliveryStatistics(received=5, done=5)


async def test_stopping_with_grace_does_what_had_reached_this_machine_also_of_a_channel_that_has_left() -> None:
    heard, go = [], trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        heard.append(request)
        await go.wait()
        return b""

    server = serve(Do=do)
    endpoint = f"tcp://127.0.0.1:{server.add_oneway_port('tcp://127.0.0.1:*', concurrency=1)}"
    with trio.fail_after(SOON):
        async with server, trio.open_nursery() as nursery:
            async with trio_mq_grpc.oneway_channel(endpoint) as channel:
                for request in numbered(100):
                    await channel.unary_unary(path("Do"))(request)
            await wait_until(lambda: heard)
            nursery.start_soon(server.stop, 5)
            await wait_all_tasks_blocked()
            go.set()
            await server.wait_for_termination()
    assert heard == list(numbered(100))
    assert figures(server) == trio_mq_grpc.DeliveryStatistics(received=100, done=100)


async def test_stopping_counts_all_that_had_reached_this_machine_and_was_not_begun() -> None:
    begun = trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    server = serve(Do=do)
    port = server.add_oneway_port("tcp://127.0.0.1:*", concurrency=1, on_failure=lambda failure: None)
    endpoint = f"tcp://127.0.0.1:{port}"
    with trio.fail_after(SOON):
        async with server:
            async with trio_mq_grpc.oneway_channel(endpoint) as channel:
                for request in numbered(100):
                    await channel.unary_unary(path("Do"))(request)
            await begun.wait()
            await server.stop(None)
    assert figures(server) == trio_mq_grpc.DeliveryStatistics(received=1, failed=1, unread=99)


async def test_stopping_at_once_counts_what_was_not_begun() -> None:
    begun = trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, concurrency=1, on_failure=lambda failure: None)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel(endpoint) as channel, trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            for request in numbered(5):
                await channel.unary_unary(path("Do"))(request)
            await begun.wait()
            await server.stop(None)
    assert figures(server) == trio_mq_grpc.DeliveryStatistics(received=1, failed=1, unread=4)


async def test_stopping_cancels_what_does_not_end(autojump_clock: MockClock) -> None:
    failures: list[trio_mq_grpc.Failure] = []
    begun = trio.Event()

    async def do(request: bytes, context: Any) -> bytes:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    server, endpoint = serve(Do=do), inproc()
    server.add_oneway_port(endpoint, on_failure=failures.append)
    async with trio_mq_grpc.oneway_channel(endpoint) as channel, trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        await channel.unary_unary(path("Do"))(b"x")
        await begun.wait()
        began = trio.current_time()
        await server.stop(2)
        assert 2 <= trio.current_time() - began < 4
    assert [failure.code for failure in failures] == [grpc.StatusCode.UNAVAILABLE]


async def test_leaving_a_channel_waits_for_what_is_queued_and_ends_what_is_not(autojump_clock: MockClock) -> None:
    endpoint = inproc()
    async with trio_mq_grpc.oneway_channel(endpoint) as channel:
        call = channel.unary_unary(path("Do"))(b"nobody is there")
    assert call.cancelled()


async def test_closing_with_grace_waits_for_calls_to_be_queued_and_then_ends_those_that_are_not(
    autojump_clock: MockClock,
) -> None:
    endpoint = inproc()
    async with trio_mq_grpc.oneway_channel(endpoint) as channel, trio.open_nursery() as nursery:
        call = channel.unary_unary(path("Do"))(b"x")
        nursery.start_soon(channel.close, 9)
        await trio.sleep(1)
        async with trio_mq.Pull(bind=endpoint):
            await call
        assert await call.code() is grpc.StatusCode.OK
    async with trio_mq_grpc.oneway_channel(inproc()) as channel:
        call = channel.unary_unary(path("Do"))(b"nobody is there")
        began = trio.current_time()
        await channel.close(9)
        assert trio.current_time() - began == pytest.approx(9)
        assert call.cancelled()


async def test_an_error_in_the_block_comes_out_as_it_was() -> None:
    with pytest.raises(KeyError):
        async with trio_mq_grpc.oneway_channel(inproc()):
            raise KeyError


async def test_a_channel_says_whether_anybody_is_there() -> None:
    server, endpoint = serve(Do=Heard()), inproc()
    server.add_oneway_port(endpoint)
    with trio.fail_after(SOON):
        async with trio_mq_grpc.oneway_channel(endpoint) as channel:
            assert channel.get_state() is not grpc.ChannelConnectivity.READY
            async with server:
                await channel.channel_ready()
                assert channel.get_state() is grpc.ChannelConnectivity.READY
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            assert channel.get_state() is not grpc.ChannelConnectivity.READY
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_no_handlers_are_refused(concurrency: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        serve(Do=Heard()).add_oneway_port(inproc(), concurrency=concurrency)
