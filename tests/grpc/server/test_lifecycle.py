"""Starting, stopping, and what becomes of calls, peers and tasks meanwhile."""

from __future__ import annotations

import signal
import socket
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq
from trio_mq_grpc import insecure_channel
from trio_mq_grpc._blocks import decode_goaway
from trio_mq_grpc._port import Port
from trio_mq_grpc._server import server
from trio_mq_grpc._wire import CALL, END, GOAWAY, MSG, NOT_PROCESSED, pack

from ._raw import Caller, Code, dial, echo, kind_of, new_endpoint, port_of, service, serving, wait_until


class Slow:
    """A handler that can be looked at."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.release = trio.Event()
        self.cancelled = trio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.started.set()
        try:
            await self.release.wait()
        except trio.Cancelled:
            self.cancelled.set()
            raise
        return request


async def test_a_graceful_stop_lets_calls_end_and_refuses_new_ones() -> None:
    slow = Slow()
    async with serving(unary_unary={"M": slow}) as (served, caller), trio.open_nursery() as nursery:
        call_id = await caller.call("M", b"x")
        await slow.started.wait()
        nursery.start_soon(served.stop, 100)
        goaway = await caller.receive()
        assert (goaway.kind, decode_goaway(goaway.frames[0])[0]) == (GOAWAY, call_id)
        await caller.call("M", b"y")
        refused = await caller.receive()
        assert (refused.code, refused.flags & NOT_PROCESSED) == (Code.UNAVAILABLE, NOT_PROCESSED)
        slow.release.set()
        assert (await caller.receive()).frames == [b"x", b""]
        assert not await served.wait_for_termination(5)


async def test_while_calls_end_another_server_may_have_the_port_and_the_channel_s_next_calls() -> None:
    slow = Slow()
    first = server(handlers=[service(unary_unary={"M": slow})])
    where = f"tcp://127.0.0.1:{first.add_insecure_port('tcp://127.0.0.1:0')}"
    second = server(handlers=[service(unary_unary={"M": echo})])
    quick = [("grpc.initial_reconnect_backoff_ms", 10), ("grpc.max_reconnect_backoff_ms", 10)]
    async with first, insecure_channel(where, quick) as channel, trio.open_nursery() as nursery:
        method = channel.unary_unary("/test.Service/M")
        early = method(b"early")
        await slow.started.wait()
        nursery.start_soon(first.stop, 100)
        await wait_until(lambda: not listens(where))
        second.add_insecure_port(where)
        async with second:
            with trio.fail_after(5):
                assert await method(b"late", wait_for_ready=True) == b"late"
                assert not early.done()
                slow.release.set()
                assert await early == b"early"
                await first.wait_for_termination()
                assert await method(b"later") == b"later"


def listens(endpoint: str) -> bool:
    """Whether anybody listens there."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


async def test_the_last_call_that_a_proxy_is_told_of_is_its_own() -> None:
    slow = Slow()
    async with serving(unary_unary={"M": slow}) as (served, caller), trio.open_nursery() as nursery:
        await caller.dealer.send_multipart([b"who", b"", pack(CALL, MSG | END, 0, 99), b"/test.Service/M", b"x"])
        await slow.started.wait()
        nursery.start_soon(served.stop, 100)
        goaway = await caller.receive()
        assert (goaway.kind, decode_goaway(goaway.frames[0])[0]) == (GOAWAY, 0)
        slow.release.set()


async def test_who_comes_while_the_server_stops_is_told() -> None:
    slow = Slow()
    async with serving(unary_unary={"M": slow}) as (served, caller), trio.open_nursery() as nursery:
        await caller.call("M", b"x")
        await slow.started.wait()
        nursery.start_soon(served.stop, 100)
        assert (await caller.receive()).kind == GOAWAY
        async with dial(port_of(served).endpoint) as late:
            assert (await late.receive()).kind == GOAWAY
        slow.release.set()


async def test_calls_that_outlast_the_grace_are_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    slow = Slow()
    async with serving(unary_unary={"M": slow}) as (served, caller):
        await caller.call("M", b"x")
        await slow.started.wait()
        began = trio.current_time()
        await served.stop(10)
        assert 10 <= trio.current_time() - began < 12
        await caller.receive()
        unit = await caller.receive()
        assert (unit.code, unit.details) == (Code.UNAVAILABLE, "Cancelling all calls")
        assert slow.cancelled.is_set()


async def test_the_smallest_grace_decides(autojump_clock: trio.testing.MockClock) -> None:
    slow = Slow()
    async with serving(unary_unary={"M": slow}) as (served, caller), trio.open_nursery() as nursery:
        await caller.call("M", b"x")
        await slow.started.wait()
        began = trio.current_time()
        nursery.start_soon(served.stop, 1000)
        await trio.sleep(1)
        nursery.start_soon(served.stop, 50)
        await served.stop(5)
        assert trio.current_time() - began < 8


async def test_leaving_the_block_stops_at_once_and_callers_hear_it() -> None:
    slow = Slow()
    where = new_endpoint()
    served = server(handlers=[service(unary_unary={"M": slow})])
    served.add_insecure_port(where)
    async with dial(where) as caller:
        async with served:
            await caller.call("M", b"x")
            await slow.started.wait()
        await caller.receive()
        assert (await caller.receive()).details == "Cancelling all calls"
    assert slow.cancelled.is_set()


async def test_a_handler_that_swallows_its_cancellation_disturbs_nobody() -> None:
    async def stubborn(request: bytes, context: Any) -> bytes:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:  # noqa: ASYNC103  # that is the point
            pass
        return b"too late"

    async with serving(unary_unary={"M": stubborn, "E": echo}) as (_, caller):
        call_id = await caller.call("M", b"x")
        assert await caller.answer("E", b"x") == b"x"
        await caller.reset(call_id)
        for _ in range(5):
            assert await caller.answer("E", b"x") == b"x"


async def test_a_lost_peer_s_handlers_are_cancelled() -> None:
    slow = Slow()
    seen: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        context.add_done_callback(seen.append)
        return await slow(request, context)

    where = new_endpoint()
    async with serving(endpoint=where, unary_unary={"M": handler}) as (served, _):
        async with dial(where) as other:
            await other.call("M", b"x")
            await slow.started.wait()
        with trio.fail_after(5):
            await slow.cancelled.wait()
        assert seen[0].cancelled()
        await wait_until(lambda: served._home.pool.busy == 0)


async def test_a_server_is_started_by_entering_it_only() -> None:
    served = server()
    with pytest.raises(grpc.aio.UsageError, match="enter"):
        await served.start()
    async with served:
        await served.start()
        await served.start()
        await served.stop(None)
        with pytest.raises(grpc.aio.UsageError, match="stopped"):
            await served.start()
    with pytest.raises(grpc.aio.UsageError):
        await served.__aenter__()


async def test_stopping_a_server_that_was_never_started_does_nothing() -> None:
    served = server()
    served.add_insecure_port("tcp://127.0.0.1:0")
    await served.stop(None)
    await served.stop(5)
    assert not await served.wait_for_termination()


async def test_serve_runs_in_a_nursery_until_stopped() -> None:
    where = new_endpoint()
    served = server(handlers=[service(unary_unary={"M": echo})])
    served.add_insecure_port(where)
    async with trio.open_nursery() as nursery:
        await nursery.start(served.serve)
        async with dial(where) as caller:
            assert await caller.answer("M", b"x") == b"x"
        await served.stop(None)


async def test_waiting_for_termination_says_whether_time_ran_out(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as (served, _):
        assert await served.wait_for_termination(1)
        assert await served.wait_for_termination(timeout=0)
        await served.stop(None)
        assert not await served.wait_for_termination(1)


async def test_a_handler_that_outlives_a_block_left_by_an_error_changes_nothing() -> None:
    started = trio.Event()

    async def stubborn(request: bytes, context: Any) -> bytes:
        started.set()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        return b"nobody hears it"

    with pytest.raises(KeyError, match="mine"):
        async with serving(unary_unary={"M": stubborn}) as (_, caller):
            await caller.call("M", b"x")
            await started.wait()
            raise KeyError("mine")


async def test_what_the_block_raises_comes_out_as_it_was() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with server():
            raise KeyError("mine")


async def test_a_crash_inside_is_an_internal_error_and_ends_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Port, frames: list[bytes]) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(Port, "_on_message", crash)
    with pytest.raises(trio_mq.InternalError, match="a mistake of ours"):
        async with serving() as (_, caller):
            await caller.call("M", b"x")
            await trio.sleep_forever()


def test_ctrl_c_in_a_handler_s_time_is_the_program_s() -> None:
    async def busy(request: bytes, context: Any) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return request

    async def main() -> None:
        async with serving(unary_unary={"M": busy}) as (_, caller):
            await caller.call("M", b"x")
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_a_handler_that_cannot_be_run_fails_its_call_only() -> None:
    class Broken(grpc.ServiceRpcHandler):
        def service_name(self) -> str:
            return "test.Service"

        def service(self, details: Any) -> Any:
            if details.method.endswith("Raises"):
                raise ValueError("it raises")
            handler: Any = kind_of("unary_unary")(None)
            return handler

    async with serving(more=[Broken()]) as (_, caller):
        assert (await caller.failure("Raises", b"")).details == "Unexpected <class 'ValueError'>: it raises"
        assert (await caller.failure("IsNone", b"")).code is Code.UNKNOWN


async def test_a_port_that_is_taken_is_a_runtime_error() -> None:
    first = server()
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError, match="failed to bind"):
        server().add_insecure_port(f"127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match="failed to bind"):
        server().add_insecure_port("what is this")
    await first.stop(None)


async def test_an_inproc_name_that_is_taken_is_a_runtime_error_when_entering() -> None:
    where = new_endpoint()
    async with serving(endpoint=where):
        served = server()
        served.add_insecure_port(where)
        with pytest.raises(RuntimeError, match="failed to serve"):
            async with served:
                raise AssertionError("it was not entered")


async def test_ports_are_added_before_the_start() -> None:
    async with serving() as (served, _):
        with pytest.raises(RuntimeError, match="before"):
            served.add_insecure_port(new_endpoint())


async def test_hooks_are_called_when_it_begins_to_stop() -> None:
    called: list[str] = []
    async with serving() as (served, _):
        served.on_stop.append(lambda: called.append("stop"))
        await served.stop(None)
    assert called == ["stop"]


async def test_a_hook_that_fails_is_logged_and_neither_the_others_nor_the_calls_notice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow, called = Slow(), []

    def fail() -> None:
        raise KeyError("registry")

    async with serving(unary_unary={"M": slow}) as (served, caller), trio.open_nursery() as nursery:
        served.on_stop += [fail, lambda: called.append("stop")]
        await caller.call("M", b"x")
        await slow.started.wait()
        nursery.start_soon(served.stop, 100)
        assert (await caller.receive()).kind == GOAWAY
        slow.release.set()
        assert (await caller.receive()).frames == [b"x", b""]
        assert not await served.wait_for_termination(5)
    assert called == ["stop"]
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [KeyError]


@pytest.mark.parametrize("how", ["left", "raised", "cancelled", "stopped"])
async def test_hooks_are_called_once_however_it_ends(how: str) -> None:
    called: list[str] = []
    served = server()
    served.add_insecure_port(new_endpoint())
    served.on_stop.append(lambda: called.append("stop"))
    with trio.CancelScope() as scope:
        try:
            async with served:
                if how == "raised":
                    raise KeyError(how)
                if how == "cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
                if how == "stopped":
                    await served.stop(None)
        except KeyError:
            pass
    assert called == ["stop"]


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("x", TypeError), (True, TypeError)])
@pytest.mark.parametrize("name", ["maximum_concurrent_rpcs", "migration_thread_pool"])
def test_numbers_of_calls_and_threads_are_checked_when_it_is_made(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        server(**{name: value})


@pytest.mark.parametrize("address", ["udp://127.0.0.1:5555", "epgm://127.0.0.1;239.192.1.1:5555"])
def test_an_address_at_which_there_can_be_no_calls_is_refused_when_it_is_given(address: str) -> None:
    with pytest.raises(RuntimeError, match=f"failed to bind {address}"):
        server().add_insecure_port(address)


async def test_a_subscription_that_cannot_be_bound_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        where = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        served = server(handlers=[service(unary_unary={"M": echo})])
        served.subscribe(where, bind=True)
        with pytest.raises(RuntimeError, match=f"failed to serve {where}: "):
            async with served:
                raise AssertionError("it was not entered")


async def test_who_comes_back_under_its_own_id_has_none_of_its_old_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    hearing = trio.Event()
    hearing.set()

    class BusyRouter(trio_mq.Router):
        """The socket of a server that does not hear what happens while it does other things."""

        async def receive_many(self, limit: int | None = None) -> list[Any]:
            await self.wait_receivable()
            await hearing.wait()
            return self.receive_many_nowait(limit)

    monkeypatch.setattr(trio_mq, "Router", BusyRouter)
    slow = Slow()
    where = new_endpoint()
    options = trio_mq.Options(routing_id=b"me", linger=0)
    async with serving(endpoint=where, unary_unary={"M": slow, "E": echo}):
        async with trio_mq.Dealer(connect=where, options=options) as dealer:
            first = Caller(dealer)
            call_id = await first.call("M", b"x")
            await slow.started.wait()
            hearing = trio.Event()
            for total in range(10):
                await first.credit(call_id, total)
            await trio.testing.wait_all_tasks_blocked()
        async with trio_mq.Dealer(connect=where, options=options) as dealer:
            second = Caller(dealer)
            await second.call("E", b"y")
            await trio.testing.wait_all_tasks_blocked()
            hearing.set()
            assert (await second.receive()).frames == [b"y", b""]
            with trio.fail_after(5):
                await slow.cancelled.wait()
            await trio.testing.wait_all_tasks_blocked()  # by now it has read of the end of the first connection, too
            await second.call("E", b"z")
            assert (await second.receive()).frames == [b"z", b""]


async def test_no_more_than_the_limit_run_and_the_rest_is_resource_exhausted() -> None:
    slow = Slow()
    async with serving(unary_unary={"M": slow}, maximum_concurrent_rpcs=2) as (_, caller):
        await caller.call("M", b"1")
        await caller.call("M", b"2")
        await caller.call("M", b"3")
        refused = await caller.receive()
        assert (refused.code, refused.details) == (Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
        assert not refused.flags & NOT_PROCESSED
        slow.release.set()
        await caller.receive()
        await caller.receive()
        assert await caller.answer("M", b"4") == b"4"


async def test_one_peer_may_be_limited_without_the_others() -> None:
    slow = Slow()
    where = new_endpoint()
    options = [("grpc.max_concurrent_streams", 1)]
    async with (
        serving(endpoint=where, unary_unary={"M": slow, "E": echo}, options=options) as (_, caller),
        dial(where) as other,
    ):
        await caller.call("M", b"1")
        await caller.call("M", b"2")
        assert (await caller.receive()).code is Code.RESOURCE_EXHAUSTED
        assert await other.answer("E", b"x") == b"x"


async def test_a_slot_is_free_only_when_the_handler_has_ended() -> None:
    release = trio.Event()
    started = trio.Event()

    async def lingering(request: bytes, context: Any) -> bytes:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await release.wait()
        return b""

    async with serving(unary_unary={"M": lingering, "E": echo}, maximum_concurrent_rpcs=1) as (_, caller):
        call_id = await caller.call("M", b"x")
        await started.wait()
        await caller.reset(call_id)
        assert (await caller.failure("E", b"x")).code is Code.RESOURCE_EXHAUSTED
        release.set()
        with trio.fail_after(5):
            while True:
                await caller.call("E", b"x")
                if (await caller.receive()).code is Code.OK:
                    break


async def test_nothing_is_left_when_the_calls_have_ended() -> None:
    async with serving(unary_unary={"M": echo}, stream_stream={"S": echo}) as (served, caller):
        port = port_of(served)
        for number in range(200):
            await caller.answer("M", b"x")
            if number % 3 == 0:
                await caller.reset(await caller.call("M", b"x"))
        await wait_until(lambda: served._home.pool.busy == 0)
        assert all(not peer.calls and not peer.running for peer in port.peers.values())
        assert len(served._home.wheel) == 0


def test_a_server_knows_only_interceptors() -> None:
    with pytest.raises(ValueError, match="interceptor"):
        server(interceptors=[object()])  # type: ignore[list-item]  # that is the point


def test_its_repr_shows_its_state() -> None:
    assert "not started" in repr(server())
