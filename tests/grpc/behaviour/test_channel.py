"""The channel: how it finds its server, what state it is in, how it waits, retries and closes."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import bind_address, ends, fails_with, ids_of, newest_stubs, orders_servicer, receipt, wait_until

CODE = grpc.StatusCode
STATE = grpc.ChannelConnectivity
NOBODY = "tcp://127.0.0.1:1"


async def place(request: Any, context: Any) -> Any:
    return receipt(id=request.id)


def server_of(**handlers: Any) -> Any:
    stubs = newest_stubs()
    server = trio_mq_grpc.server()
    stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, **handlers), server)
    return server


def raw_place(channel: Any, **options: Any) -> Any:
    stub = newest_stubs().orders_grpc.OrdersStub(channel)
    return stub.Place(newest_stubs().orders.Order(id="a"), **options)


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tcp://127.0.0.1:{}", "127.0.0.1:{}", "localhost:{}", "ipv4:127.0.0.1:{}"])
async def test_targets_may_be_written_as_zeromq_does_or_as_grpc_does(form: str) -> None:
    server = server_of(Place=place)
    port = server.add_insecure_port("127.0.0.1:0")
    async with server, trio_mq_grpc.insecure_channel(form.format(port)) as channel:
        assert (await raw_place(channel)).id == "a"


async def test_dns_targets_are_looked_up() -> None:
    server = server_of(Place=place)
    port = server.add_insecure_port("127.0.0.1:0")
    async with server, trio_mq_grpc.insecure_channel(f"dns:///localhost:{port}") as channel:
        assert (await raw_place(channel)).id == "a"


async def test_unix_targets_are_ipc() -> None:
    with bind_address("ipc") as address:
        server = server_of(Place=place)
        server.add_insecure_port(address.replace("ipc://", "unix:"))
        async with server, trio_mq_grpc.insecure_channel(address.replace("ipc://", "unix://")) as channel:
            assert (await raw_place(channel)).id == "a"


def test_a_bad_target_is_refused_when_it_is_given() -> None:
    for target in ("no port", "xds:///service", ""):
        with pytest.raises(ValueError):
            trio_mq_grpc.insecure_channel(target)


# --- entering and closing --------------------------------------------------------------------------------------------


def test_the_channel_is_grpc_s_own_class() -> None:
    assert isinstance(trio_mq_grpc.insecure_channel(NOBODY), grpc.aio.Channel)


def own_names(channel: grpc.aio.Channel) -> set[str]:
    """What *channel* shows besides what grpc's own does."""
    return {name for name in dir(channel) if not name.startswith("_")} - set(dir(grpc.aio.Channel))


def test_what_a_channel_shows_is_grpc_s_and_serve() -> None:
    """What RPCs call is none of the user's: it would be in ``help(Channel)``, and in use, and never change again."""
    assert own_names(trio_mq_grpc.insecure_channel(NOBODY)) == {"serve"}


def test_what_a_channel_without_replies_shows_is_grpc_s_and_what_is_written_of_it() -> None:
    documented = {"serve", "endpoints", "socket"}
    assert own_names(trio_mq_grpc.oneway_channel(NOBODY)) == documented | {"expires_after"}
    of_publishers = {"epoch", "subscriber_count", "wait_subscribed"}
    assert own_names(trio_mq_grpc.broadcast_channel(NOBODY)) == documented | of_publishers


def test_stubs_may_be_made_before_there_is_a_run() -> None:
    server = server_of(Place=place)
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    channel = trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}")
    stub = newest_stubs().orders_grpc.OrdersStub(channel)

    async def main() -> str:
        async with server, channel:
            return str((await stub.Place(newest_stubs().orders.Order(id="a"))).id)

    assert trio.run(main) == "a"


async def test_a_call_on_a_channel_that_is_not_entered_says_how_to_enter_it() -> None:
    channel = trio_mq_grpc.insecure_channel(NOBODY)
    with pytest.raises(grpc.aio.UsageError, match="async with"):
        raw_place(channel)


async def test_a_nursery_may_own_the_channel() -> None:
    server = server_of(Place=place)
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    channel = trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}")
    async with server, trio.open_nursery() as nursery:
        await nursery.start(channel.serve)
        assert (await raw_place(channel)).id == "a"
        nursery.cancel_scope.cancel()


async def test_a_call_on_a_closed_channel_is_a_usage_error() -> None:
    async with ends(Place=place) as both:
        await both.channel.close()
        with pytest.raises(grpc.aio.UsageError, match=r"[Cc]losed"):
            both.stub.Place(both.order())


async def test_close_may_be_called_again() -> None:
    async with ends(Place=place) as both:
        for grace in (None, 0, 5):
            with trio.fail_after(2):
                await both.channel.close(grace)


async def test_a_negative_grace_is_a_value_error() -> None:
    async with ends(Place=place) as both:
        with pytest.raises(ValueError):
            await both.channel.close(-1)


class Held:
    def __init__(self) -> None:
        self.released = trio.Event()
        self.began = 0
        self.ended = 0

    async def place(self, request: Any, context: Any) -> Any:
        self.began += 1
        try:
            await self.released.wait()
        finally:
            self.ended += 1
        return receipt(id=request.id)


async def test_close_cancels_what_is_open() -> None:
    held = Held()
    async with ends(Place=held.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: held.began)
        await both.channel.close()
        assert await call.code() is CODE.CANCELLED
        await wait_until(lambda: held.ended)


async def test_close_with_grace_lets_a_short_call_end() -> None:
    held = Held()
    async with ends(Place=held.place) as both, trio.open_nursery() as nursery:
        call = both.stub.Place(both.order(id="a"))
        await wait_until(lambda: held.began)
        nursery.start_soon(both.channel.close, 10)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(grpc.aio.UsageError):
            both.stub.Place(both.order())
        held.released.set()
        assert (await call).id == "a"


async def test_close_with_grace_cancels_a_long_call() -> None:
    held = Held()
    async with ends(Place=held.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: held.began)
        with trio.fail_after(5):
            await both.channel.close(0.05)
        assert await call.code() is CODE.CANCELLED


async def test_a_close_that_is_cancelled_during_its_grace_cancels_the_calls() -> None:
    held = Held()
    async with ends(Place=held.place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: held.began)
        with trio.move_on_after(0.05):
            await both.channel.close(60)
        with trio.fail_after(2):
            assert await call.code() is CODE.CANCELLED


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with trio_mq_grpc.insecure_channel(NOBODY):
            raise KeyError("mine")


async def test_an_error_of_a_call_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        async with ends() as both:
            await both.stub.Place(both.order())


# --- states ----------------------------------------------------------------------------------------------------------


async def test_the_states_of_a_channel_that_finds_its_server() -> None:
    async with ends(Place=place) as both:
        assert both.channel.get_state() is STATE.IDLE
        assert both.channel.get_state(try_to_connect=True) in (STATE.IDLE, STATE.CONNECTING)
        seen = []
        while (state := both.channel.get_state()) is not STATE.READY:
            seen.append(state)
            await both.channel.wait_for_state_change(state)
        assert set(seen) <= {STATE.IDLE, STATE.CONNECTING}
        await both.channel.close()
        assert both.channel.get_state() is STATE.SHUTDOWN


async def test_the_state_of_a_channel_that_finds_nobody() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel:
        channel.get_state(try_to_connect=True)
        with trio.fail_after(5):
            while (state := channel.get_state()) is not STATE.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)


async def test_a_call_makes_an_idle_channel_connect() -> None:
    async with ends(Place=place) as both:
        await both.stub.Place(both.order())
        assert both.channel.get_state() is STATE.READY


async def test_channel_ready_waits_for_the_server(transport: str) -> None:
    async with ends(transport=transport, Place=place) as both:
        with trio.fail_after(5):
            await both.channel.channel_ready()
        assert both.channel.get_state() is STATE.READY


async def test_waiting_for_a_change_ends_when_the_channel_closes() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel, trio.open_nursery() as nursery:
        nursery.start_soon(channel.wait_for_state_change, STATE.IDLE)
        await trio.testing.wait_all_tasks_blocked()
        await channel.close()


# --- nobody there, and waiting for somebody --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_a_call_that_finds_nobody_is_unavailable(kind: str) -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel:
        argument = b"" if kind.startswith("unary") else iter([b""])
        call = getattr(channel, kind)("/shop.v1.Orders/Place")(argument)
        with trio.fail_after(5):
            assert await call.code() is CODE.UNAVAILABLE


async def test_a_call_that_waits_for_ready_ends_by_its_deadline() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel:
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await raw_place(channel, wait_for_ready=True, timeout=0.2)


async def test_a_call_that_waits_for_ready_is_sent_when_the_server_comes() -> None:
    with bind_address("ipc") as address:
        async with trio_mq_grpc.insecure_channel(address) as channel:
            call = raw_place(channel, wait_for_ready=True, timeout=10)
            await trio.testing.wait_all_tasks_blocked(0.05)
            server = server_of(Place=place)
            server.add_insecure_port(address)
            async with server:
                assert (await call).id == "a"


async def test_a_call_that_waits_can_be_cancelled() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY) as channel:
        call = raw_place(channel, wait_for_ready=True)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert call.cancel()
        assert await call.code() is CODE.CANCELLED


async def test_the_time_that_a_call_waited_is_gone_from_its_deadline() -> None:
    remaining: list[float] = []

    async def note(request: Any, context: Any) -> Any:
        remaining.append(context.time_remaining())
        return receipt()

    with bind_address("ipc") as address:
        async with trio_mq_grpc.insecure_channel(address) as channel:
            call = raw_place(channel, wait_for_ready=True, timeout=10)
            await trio.testing.wait_all_tasks_blocked(0.1)
            server = server_of(Place=note)
            server.add_insecure_port(address)
            async with server:
                await call
    assert remaining[0] < 9.95


async def test_a_channel_finds_a_server_that_comes_back() -> None:
    with bind_address("ipc") as address:
        async with trio_mq_grpc.insecure_channel(address) as channel:
            for _ in range(3):
                server = server_of(Place=place)
                server.add_insecure_port(address)
                async with server:
                    assert (await raw_place(channel, wait_for_ready=True, timeout=10)).id == "a"


async def test_a_server_that_dies_ends_its_calls_unavailable() -> None:
    """The connection breaks without a word: no status came, so UNAVAILABLE is ours."""
    from tests.interop._relay import relay_to

    held = Held()
    async with ends(Place=held.place) as both:
        async with relay_to(both.target) as relay, trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
            call = raw_place(channel)
            await wait_until(lambda: held.began)
            relay.connections[-1].reset()
            with fails_with(CODE.UNAVAILABLE):
                await call
            await wait_until(lambda: held.ended)
            assert held.began == 1
            held.released.set()
            assert (await raw_place(channel, wait_for_ready=True, timeout=10)).id == "a"


async def test_a_broken_connection_ends_every_open_stream() -> None:
    from tests.interop._relay import relay_to

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="first")
        await trio.sleep_forever()

    async with ends(Watch=watch) as both:
        async with relay_to(both.target) as relay, trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
            stub = newest_stubs().orders_grpc.OrdersStub(channel)
            calls = [stub.Watch(both.order()) for _ in range(5)]
            for call in calls:
                assert (await call.read()).id == "first"
            relay.connections[-1].finish()
            for call in calls:
                with fails_with(CODE.UNAVAILABLE):
                    await call.read()


async def test_attempts_to_connect_back_off() -> None:
    """The pauses grow, are spread at random, and never exceed the limit."""
    times: list[float] = []
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]

    async def refuse(listener: trio.SocketListener) -> None:
        while True:
            stream = await listener.accept()
            times.append(trio.current_time())
            await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(refuse, listener)
        async with trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}", options=options) as channel:
            call = raw_place(channel, wait_for_ready=True, timeout=20)
            await wait_until(lambda: len(times) > 12, 20)
            call.cancel()
        nursery.cancel_scope.cancel()
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(pauses) < 1  # the limit, and what a busy machine adds
    assert sum(pauses) > 0.4  # twelve of some 100 ms; without growing they would be of 25


# --- several servers -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[tuple[list[str], list[int]]]:
    """Targets of *count* servers, and how many calls each has had."""
    calls = [0] * count
    targets = []
    async with trio.open_nursery() as nursery:
        for number in range(count):

            async def answer(request: Any, context: Any, number: int = number) -> Any:
                calls[number] += 1
                return receipt(id=str(number))

            server = server_of(Place=answer)
            targets.append(f"tcp://127.0.0.1:{server.add_insecure_port('tcp://127.0.0.1:0')}")
            await nursery.start(server.serve)
        yield targets, calls
        nursery.cancel_scope.cancel()


async def test_round_robin_gives_each_server_its_share() -> None:
    options = [("grpc.lb_policy_name", "round_robin")]
    async with servers(3) as (targets, calls):
        async with trio_mq_grpc.insecure_channel(targets, options=options) as channel:
            for _ in range(30):
                await raw_place(channel, wait_for_ready=True, timeout=10)
            assert sum(calls) == 30
            await wait_until(lambda: channel.get_state() is STATE.READY)
            before = list(calls)
            for _ in range(30):
                await raw_place(channel)
            assert all(after - earlier == 10 for after, earlier in zip(calls, before, strict=True))


async def test_round_robin_gives_nobody_the_share_of_one_that_is_not_there() -> None:
    options = [("grpc.lb_policy_name", "round_robin")]
    async with servers(2) as ((one, other), calls):
        async with trio_mq_grpc.insecure_channel([one, NOBODY, other], options=options) as channel:
            while not all(calls):
                await raw_place(channel, wait_for_ready=True, timeout=10)
            before = list(calls)
            for _ in range(30):
                await raw_place(channel)
            assert [after - earlier for after, earlier in zip(calls, before, strict=True)] == [15, 15]


async def test_pick_first_stays_with_one_server() -> None:
    async with servers(3) as (targets, calls):
        async with trio_mq_grpc.insecure_channel(targets) as channel:
            for _ in range(10):
                await raw_place(channel, wait_for_ready=True, timeout=10)
            assert sorted(calls) == [0, 0, 10]


async def test_a_server_that_is_not_there_is_passed_over() -> None:
    async with servers(1) as (targets, calls):
        for policy in ("pick_first", "round_robin"):
            options = [("grpc.lb_policy_name", policy)]
            async with trio_mq_grpc.insecure_channel([NOBODY, *targets], options=options) as channel:
                for _ in range(5):
                    await raw_place(channel, wait_for_ready=True, timeout=10)
        assert calls == [10]


# --- options ---------------------------------------------------------------------------------------------------------


async def test_options_that_mean_nothing_here_are_ignored() -> None:
    options = [("grpc.http2.max_frame_size", 16384), ("grpc.so_reuseport", 1), ("my.own", object())]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with ends(channel={"options": options}, server={"options": options}, Place=place) as both:
            assert (await both.stub.Place(both.order(id="a"))).id == "a"


def test_an_ignored_option_that_changes_safety_is_warned_about() -> None:
    with pytest.warns(RuntimeWarning, match=r"grpc\.ssl_target_name_override"):
        trio_mq_grpc.insecure_channel(NOBODY, options=[("grpc.ssl_target_name_override", "x")])


def test_tls_credentials_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="CURVE"):
        trio_mq_grpc.secure_channel(NOBODY, grpc.ssl_channel_credentials())


async def test_call_credentials_need_a_secure_channel() -> None:
    credentials = grpc.access_token_call_credentials("token")
    async with ends(Place=place) as both:
        with pytest.raises(grpc.aio.UsageError):
            await both.stub.Place(both.order(), credentials=credentials)


# --- service config --------------------------------------------------------------------------------------------------


def service_config(**method: Any) -> dict[str, Any]:
    config = {"methodConfig": [{"name": [{"service": "shop.v1.Orders"}], **method}]}
    return {"options": [("grpc.service_config", json.dumps(config))]}


RETRIES = {
    "maxAttempts": 4,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.05s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class Flaky:
    def __init__(self, failures: int, code: Any = CODE.UNAVAILABLE) -> None:
        self.failures = failures
        self.code = code
        self.attempts: list[str] = []

    async def place(self, request: Any, context: Any) -> Any:
        sent = [str(entry.value) for entry in context.invocation_metadata()]
        keys = [entry.key for entry in context.invocation_metadata()]
        previous = sent[keys.index("grpc-previous-rpc-attempts")] if "grpc-previous-rpc-attempts" in keys else "0"
        self.attempts.append(previous)
        if len(self.attempts) <= self.failures:
            await context.abort(self.code, f"failure {len(self.attempts)}")
        return receipt(id=request.id)


async def test_a_retry_policy_calls_again() -> None:
    flaky = Flaky(2)
    async with ends(channel=service_config(retryPolicy=RETRIES), Place=flaky.place) as both:
        assert (await both.stub.Place(both.order(id="a"))).id == "a"
        assert flaky.attempts == ["0", "1", "2"]


async def test_a_retry_policy_gives_up_after_its_attempts() -> None:
    flaky = Flaky(100)
    async with ends(channel=service_config(retryPolicy=RETRIES), Place=flaky.place) as both:
        with fails_with(CODE.UNAVAILABLE, details="failure 4"):
            await both.stub.Place(both.order())
        assert len(flaky.attempts) == 4


async def test_a_retry_policy_leaves_other_codes_alone() -> None:
    flaky = Flaky(100, CODE.NOT_FOUND)
    async with ends(channel=service_config(retryPolicy=RETRIES), Place=flaky.place) as both:
        with fails_with(CODE.NOT_FOUND):
            await both.stub.Place(both.order())
        assert len(flaky.attempts) == 1


async def test_failures_give_no_right_to_more_retries() -> None:
    flaky = Flaky(100)
    throttling = {"maxTokens": 4, "tokenRatio": 1}
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": RETRIES}], "retryThrottling": throttling})

    async def fail(request: Any, context: Any) -> Any:
        await context.abort(CODE.NOT_FOUND, "not worth a retry")

    async with ends(channel={"options": [("grpc.service_config", config)]}, Place=flaky.place, Upload=fail) as both:
        with fails_with(CODE.UNAVAILABLE):
            await both.stub.Place(both.order())
        attempts = len(flaky.attempts)
        for _ in range(4):
            with fails_with(CODE.NOT_FOUND):
                await both.stub.Upload(iter([both.order()]))
        with fails_with(CODE.UNAVAILABLE):
            await both.stub.Place(both.order())
        assert (attempts, len(flaky.attempts)) == (2, 3)


async def test_without_a_policy_nothing_is_called_twice() -> None:
    flaky = Flaky(100)
    async with ends(Place=flaky.place) as both:
        with fails_with(CODE.UNAVAILABLE):
            await both.stub.Place(both.order())
        assert len(flaky.attempts) == 1


async def test_retries_can_be_switched_off() -> None:
    flaky = Flaky(100)
    options = [*service_config(retryPolicy=RETRIES)["options"], ("grpc.enable_retries", 0)]
    async with ends(channel={"options": options}, Place=flaky.place) as both:
        with fails_with(CODE.UNAVAILABLE):
            await both.stub.Place(both.order())
        assert len(flaky.attempts) == 1


async def test_a_call_that_has_got_headers_is_not_retried() -> None:
    attempts = 0

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        nonlocal attempts
        attempts += 1
        yield receipt()
        await context.abort(CODE.UNAVAILABLE, "in the middle")

    async with ends(channel=service_config(retryPolicy=RETRIES), Watch=watch) as both:
        with fails_with(CODE.UNAVAILABLE, details="in the middle"):
            await ids_of(both.stub.Watch(both.order()))
        assert attempts == 1


@pytest.mark.parametrize("pushback", ["-1", "garbage"])
async def test_a_server_may_stop_retries(pushback: str) -> None:
    attempts = 0

    async def refuse(request: Any, context: Any) -> Any:
        nonlocal attempts
        attempts += 1
        await context.abort(CODE.UNAVAILABLE, "no more", (("grpc-retry-pushback-ms", pushback),))

    async with ends(channel=service_config(retryPolicy=RETRIES), Place=refuse) as both:
        with fails_with(CODE.UNAVAILABLE):
            await both.stub.Place(both.order())
        assert attempts == 1


async def test_all_attempts_share_one_deadline() -> None:
    flaky = Flaky(100)
    slow = {**RETRIES, "initialBackoff": "10s", "maxBackoff": "10s"}
    async with ends(channel=service_config(retryPolicy=slow), Place=flaky.place) as both:
        with fails_with(CODE.DEADLINE_EXCEEDED, CODE.UNAVAILABLE):
            await both.stub.Place(both.order(), timeout=0.1)


async def test_a_service_config_may_set_a_timeout() -> None:
    held = Held()
    async with ends(channel=service_config(timeout="0.05s"), Place=held.place) as both:
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await both.stub.Place(both.order())


async def test_a_service_config_may_make_calls_wait() -> None:
    async with trio_mq_grpc.insecure_channel(NOBODY, **service_config(waitForReady=True)) as channel:
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await raw_place(channel, timeout=0.1)
        with fails_with(CODE.UNAVAILABLE):
            await raw_place(channel, timeout=10, wait_for_ready=False)


# --- foreigners ------------------------------------------------------------------------------------------------------


async def test_a_client_that_dies_in_an_upload_cancels_its_handler() -> None:
    """The stream must not look complete: half an upload that was taken for a whole one would be committed."""
    from tests.interop._relay import relay_to

    ended: list[str] = []

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        try:
            await ids_of(requests)
        except trio.Cancelled:
            ended.append("cancelled")
            raise
        ended.append("complete")

    async with ends(Upload=upload) as both:
        for number, how in enumerate(("reset", "finish"), 1):
            async with relay_to(both.target) as relay, trio_mq_grpc.insecure_channel(relay.endpoint) as channel:
                call = newest_stubs().orders_grpc.OrdersStub(channel).Upload()
                await call.write(both.order())
                await relay.wait_seen(b"Upload", 1, from_connecter=True)
                getattr(relay.connections[-1], how)()
                assert await call.code() is CODE.UNAVAILABLE
            await wait_until(partial(_has, ended, number))
        assert ended == ["cancelled", "cancelled"]


def _has(things: list[str], count: int) -> bool:
    return len(things) == count


async def test_calls_from_outside_trio_say_so() -> None:
    async with ends(Place=place) as both:

        def elsewhere() -> None:
            with pytest.raises((RuntimeError, grpc.aio.UsageError)):
                both.stub.Place(both.order())

        await trio.to_thread.run_sync(elsewhere)
        assert (await both.stub.Place(both.order(id="a"))).id == "a"
