"""Deadlines, under a clock that jumps whenever nothing else is to be done."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
from trio.testing import MockClock

import trio_mq_grpc

from .._kit import deterministic, fails_with, ids_of, newest_stubs, receipt

CODE = grpc.StatusCode


class Slow:
    """Handlers that take `seconds` of the test's clock, and note what they were told of theirs."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self.began = 0
        self.ended_at: list[float] = []
        self.remaining: list[float | None] = []

    async def place(self, request: Any, context: Any) -> Any:
        self.began += 1
        self.remaining.append(context.time_remaining())
        try:
            await trio.sleep(self.seconds)
        finally:
            self.ended_at.append(trio.current_time())
        return receipt(id=request.id)

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.remaining.append(context.time_remaining())
        try:
            for number in range(1000):
                await trio.sleep(self.seconds)
                yield receipt(id=str(number))
        finally:
            self.ended_at.append(trio.current_time())

    async def haggle(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield receipt(id=request.id)


async def test_a_deadline_that_passes_ends_the_call_at_that_time(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        began = trio.current_time()
        with fails_with(CODE.DEADLINE_EXCEEDED, details="Deadline Exceeded"):
            await both.stub.Place(both.order(), timeout=10)
        assert trio.current_time() - began == pytest.approx(10, abs=0.01)


async def test_the_handler_is_cancelled_at_the_same_deadline(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        began = trio.current_time()
        call = both.stub.Place(both.order(), timeout=10)
        await call.code()
        await trio.sleep(1)
        assert slow.ended_at == [pytest.approx(began + 10, abs=0.01)]


async def test_a_deadline_that_is_not_reached_does_nothing(autojump_clock: MockClock) -> None:
    slow = Slow(9.9)
    async with deterministic(Place=slow.place) as both:
        assert (await both.stub.Place(both.order(id="a"), timeout=10)).id == "a"
        await trio.sleep(100)
        assert (await both.stub.Place(both.order(id="b"))).id == "b"


async def test_both_ends_see_the_time_that_remains(autojump_clock: MockClock) -> None:
    slow = Slow(5)
    async with deterministic(Place=slow.place) as both:
        call = both.stub.Place(both.order(), timeout=10)
        assert call.time_remaining() == pytest.approx(10, abs=0.01)
        await trio.sleep(3)
        assert call.time_remaining() == pytest.approx(7, abs=0.01)
        await call
        assert slow.remaining == [pytest.approx(10, abs=0.01)]


async def test_time_remaining_is_never_negative(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        call = both.stub.Place(both.order(), timeout=1)
        await call.code()
        await trio.sleep(5)
        assert call.time_remaining() == 0


async def test_the_server_sees_none_without_a_deadline(autojump_clock: MockClock) -> None:
    slow = Slow(1)
    async with deterministic(Place=slow.place) as both:
        await both.stub.Place(both.order())
        assert slow.remaining == [None]


@pytest.mark.parametrize("given", [0, -1, -math.inf])
async def test_a_deadline_that_has_passed_ends_the_call_before_it_is_sent(
    given: float, autojump_clock: MockClock
) -> None:
    slow = Slow(0)
    async with deterministic(Place=slow.place) as both:
        call = both.stub.Place(both.order(), timeout=given)
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await call
        await both.stub.Place(both.order(id="next"))
        assert slow.began == 1  # the next one


@pytest.mark.parametrize("given", [math.inf, 1e300, 86400 * 400, 86400 * 366 * 20])
async def test_a_deadline_far_away_is_as_good_as_none(given: float, autojump_clock: MockClock) -> None:
    slow = Slow(100)
    async with deterministic(Place=slow.place) as both:
        assert (await both.stub.Place(both.order(id="a"), timeout=given)).id == "a"


async def test_a_stream_gives_what_came_before_its_deadline(autojump_clock: MockClock) -> None:
    slow = Slow(1)
    async with deterministic(Watch=slow.watch) as both:
        call = aiter(both.stub.Watch(both.order(), timeout=3.5))
        assert [(await anext(call)).id for _ in range(3)] == ["0", "1", "2"]
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await anext(call)


async def test_the_deadline_of_a_stream_is_that_of_the_whole_call(autojump_clock: MockClock) -> None:
    slow = Slow(1)
    async with deterministic(Watch=slow.watch) as both:
        call = both.stub.Watch(both.order(), timeout=5.5)
        for _ in range(5):
            await call.read()
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await call.read()


async def test_a_write_that_waits_for_room_ends_at_the_deadline(autojump_clock: MockClock) -> None:
    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        await trio.sleep_forever()

    async with deterministic(Upload=upload) as both:
        call = both.stub.Upload(timeout=5)
        with pytest.raises((grpc.aio.AioRpcError, grpc.aio.UsageError)):
            while True:
                await call.write(both.order(note=bytes(100_000)))
        assert await call.code() is CODE.DEADLINE_EXCEEDED
        assert call.time_remaining() == 0


async def test_a_handler_that_does_not_end_does_not_keep_the_client(autojump_clock: MockClock) -> None:
    released = trio.Event()

    async def place(request: Any, context: Any) -> Any:
        with trio.CancelScope(shield=True):
            await released.wait()

    async with deterministic(Place=place) as both:
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await both.stub.Place(both.order(), timeout=5)
        released.set()


async def test_many_deadlines_each_end_their_own_call_in_time(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        began = trio.current_time()
        ended: dict[int, float] = {}

        async def one(number: int) -> None:
            with fails_with(CODE.DEADLINE_EXCEEDED):
                await both.stub.Place(both.order(), timeout=1 + number / 100)
            ended[number] = trio.current_time() - began

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(one, number)
        assert all(at == pytest.approx(1 + number / 100, abs=0.01) for number, at in ended.items())
        assert slow.began == 1000


# --- deadlines that surround a call ----------------------------------------------------------------------------------


async def test_an_enclosing_deadline_reaches_the_server_and_stays_trio_s_here(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        with trio.move_on_after(7) as scope:
            await both.stub.Place(both.order())
        assert scope.cancelled_caught
        assert slow.remaining == [pytest.approx(7, abs=0.01)]


async def test_a_stream_outlives_a_scope_that_is_for_its_beginning_only(autojump_clock: MockClock) -> None:
    slow = Slow(2)
    async with deterministic(Watch=slow.watch, Haggle=slow.haggle) as both:
        with trio.fail_after(7):
            watch, haggle = both.stub.Watch(both.order()), both.stub.Haggle()
            await haggle.write(both.order(id="a"))
            assert (await watch.read()).id == "0"
            assert (await haggle.read()).id == "a"
        await trio.sleep(100)
        assert (await watch.read()).id == "1"
        await haggle.write(both.order(id="b"))
        assert (await haggle.read()).id == "b"
        watch.cancel()
        haggle.cancel()


async def test_a_stream_that_is_read_in_a_scope_is_cancelled_with_it_here_and_at_the_server(
    autojump_clock: MockClock,
) -> None:
    slow = Slow()
    async with deterministic(Watch=slow.watch) as both:
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError), trio.fail_after(7):
            await ids_of(both.stub.Watch(both.order()))
        await trio.sleep(1)
        assert slow.ended_at == [pytest.approx(began + 7, abs=0.01)]


async def test_a_handler_s_deadline_passes_on_to_streams_too(autojump_clock: MockClock) -> None:
    slow = Slow(1)
    async with deterministic(Watch=slow.watch) as inner:

        async def place(request: Any, context: Any) -> Any:
            await ids_of(inner.stub.Watch(inner.order()))
            raise AssertionError("it is cancelled before")

        async with deterministic(Place=place) as outer:
            with fails_with(CODE.DEADLINE_EXCEEDED):
                await outer.stub.Place(outer.order(), timeout=10)
            assert slow.remaining == [pytest.approx(10, abs=0.01)]


async def test_what_was_never_sent_says_why_when_its_deadline_passes() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with trio_mq_grpc.insecure_channel(target) as channel:
            stub = newest_stubs().orders_grpc.OrdersStub(channel)
            order = newest_stubs().orders.Order()
            await channel.wait_for_state_change(channel.get_state(try_to_connect=True))
            with fails_with(CODE.DEADLINE_EXCEEDED, details="Deadline Exceeded; not sent: ") as failed:
                await stub.Place(order, timeout=0.05, wait_for_ready=True)
    assert target in str(failed.value.details())


async def test_fail_after_raises_too_slow_not_an_rpc_error(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(7):
                await both.stub.Place(both.order())


async def test_the_nearer_of_two_deadlines_counts(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        with trio.move_on_after(20) as scope:
            with fails_with(CODE.DEADLINE_EXCEEDED):
                await both.stub.Place(both.order(), timeout=3)
        assert not scope.cancelled_caught
        with trio.move_on_after(2) as scope:
            await both.stub.Place(both.order(), timeout=10)
        assert scope.cancelled_caught
        assert slow.remaining == [pytest.approx(3, abs=0.01), pytest.approx(2, abs=0.01)]


async def test_the_deadline_passes_on_to_the_calls_that_a_handler_makes(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as inner:

        async def place(request: Any, context: Any) -> Any:
            await trio.sleep(2)
            return await inner.stub.Place(request)

        async with deterministic(Place=place) as outer:
            with fails_with(CODE.DEADLINE_EXCEEDED):
                await outer.stub.Place(outer.order(), timeout=10)
            assert slow.remaining == [pytest.approx(8, abs=0.05)]
            await trio.sleep(1)
            assert len(slow.ended_at) == 1


async def test_a_deadline_of_its_own_only_shortens_what_a_handler_inherits(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as inner:

        async def place(request: Any, context: Any) -> Any:
            for given in (3, 100):
                with fails_with(CODE.DEADLINE_EXCEEDED):
                    await inner.stub.Place(request, timeout=given)
            return receipt()

        async with deterministic(Place=place) as outer:
            await outer.stub.Place(outer.order(), timeout=10).code()
            assert slow.remaining[0] == pytest.approx(3, abs=0.05)
            assert slow.remaining[1] == pytest.approx(7, abs=0.05)


async def test_a_done_callback_runs_at_the_deadline(autojump_clock: MockClock) -> None:
    slow = Slow()
    async with deterministic(Place=slow.place) as both:
        seen: list[float] = []
        began = trio.current_time()
        call = both.stub.Place(both.order(), timeout=4)
        call.add_done_callback(lambda call: seen.append(trio.current_time() - began))
        await trio.sleep(10)
        assert seen == [pytest.approx(4, abs=0.01)]


async def test_the_messages_of_a_stream_may_come_slower_than_any_heartbeat(autojump_clock: MockClock) -> None:
    """Nothing but a deadline ends a quiet call."""
    slow = Slow(3600)
    async with deterministic(Watch=slow.watch) as both:
        call = both.stub.Watch(both.order())
        assert [(await call.read()).id for _ in range(3)] == ["0", "1", "2"]
        call.cancel()


async def test_a_call_that_ended_in_time_is_not_touched_by_its_deadline(autojump_clock: MockClock) -> None:
    slow = Slow(0)
    async with deterministic(Watch=slow.watch) as both:
        call = both.stub.Watch(both.order(), timeout=5)
        assert len(await ids_of(call)) == 1000
        await trio.sleep(10)
        assert await call.code() is CODE.OK


async def test_deadline_exceeded_that_a_handler_says_is_a_status_like_any_other(autojump_clock: MockClock) -> None:
    """It is not the caller's own deadline, which ends the scope, not the call."""

    async def place(request: Any, context: Any) -> Any:
        await context.abort(CODE.DEADLINE_EXCEEDED, "the database was too slow")

    async with deterministic(Place=place) as both:
        began = trio.current_time()
        with trio.move_on_after(1000):
            with fails_with(CODE.DEADLINE_EXCEEDED, details="the database was too slow"):
                await both.stub.Place(both.order())
        assert trio.current_time() - began < 1


@pytest.mark.parametrize("no_number", [float("nan"), "1"])
async def test_a_timeout_that_is_no_number_is_refused_at_the_call(no_number: Any) -> None:
    async with deterministic() as both:
        with pytest.raises(ValueError, match="a number of seconds"):
            both.stub.Place(both.order(), timeout=no_number)
