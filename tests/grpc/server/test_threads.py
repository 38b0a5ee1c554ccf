"""Plain functions as handlers: threads, what they may do there, and what becomes of those that nobody waits for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import grpc
import pytest
import trio

from trio_mq_grpc._blocks import Head
from trio_mq_grpc._wire import END, HEAD, Announcement

from ._raw import Code, echo, port_of, serving, wait_until


async def test_a_plain_generator_stays_in_one_thread_with_one_context() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    threads: set[int] = set()

    def count(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in requests:
            threads.add(threading.get_ident())
            variable.set(variable.get() + 1)
            yield b"%d" % variable.get()

    async with serving(stream_stream={"M": count}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        for number in range(1, 6):
            await caller.data(call_id, b"x")
            assert (await caller.receive()).frames == [b"%d" % number]
        await caller.data(call_id, flags=END)
        assert (await caller.receive()).code is Code.OK
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_the_context_can_be_used_in_the_thread() -> None:
    called: list[str] = []

    def handler(request: bytes, context: Any) -> bytes:
        assert isinstance(context, grpc.ServicerContext)
        assert context.is_active()
        assert context.time_remaining() > 1
        assert dict(context.invocation_metadata())["k"] == "v"
        assert context.peer().startswith("unix:")
        assert context.add_callback(lambda: called.append("end"))
        context.send_initial_metadata((("early", "bird"),))
        context.set_trailing_metadata((("late", "bird"),))
        return request

    async with serving(unary_unary={"M": handler}) as (_, caller):
        await caller.call("M", b"x", head=Head(metadata=(("k", "v"),), timeout_us=60_000_000))
        head, end = await caller.receive(), await caller.receive()
        assert (head.flags, head.head.metadata) == (HEAD, (("early", "bird"),))
        assert (end.frames[0], end.trailers) == (b"x", (("late", "bird"),))
    assert called == ["end"]


async def test_a_thread_may_abort() -> None:
    def handler(request: bytes, context: Any) -> bytes:
        try:
            context.abort(Code.ABORTED, "from a thread")
        finally:
            assert not context.is_active()
        return request

    async with serving(unary_unary={"M": handler}) as (_, caller):
        unit = await caller.failure("M", b"")
        assert (unit.code, unit.details) == (Code.ABORTED, "from a thread")


@pytest.mark.parametrize("pool", [1, ThreadPoolExecutor(1)])
async def test_no_more_threads_run_than_the_pool_has(pool: Any) -> None:
    running = most = 0
    lock = threading.Lock()

    def handler(request: bytes, context: Any) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1
        return request

    async with serving(unary_unary={"M": handler, "E": echo}, migration_thread_pool=pool) as (_, caller):
        for _ in range(10):
            await caller.call("M", b"x")
        for _ in range(10):
            assert (await caller.receive()).frames[0] == b"x"
        assert await caller.answer("E", b"x") == b"x"
    assert most == 1


async def test_a_thread_that_outlasts_its_call_is_left_behind_and_counts_until_it_ends() -> None:
    release, seen = threading.Event(), threading.Event()
    written: list[BaseException] = []

    def handler(request: bytes, context: Any) -> Iterator[bytes]:
        release.wait(10)
        try:
            context.write(b"too late")
        except trio.ClosedResourceError as exc:
            written.append(exc)
        seen.set()
        yield b"never"

    async with serving(unary_stream={"M": handler}, unary_unary={"E": echo}, maximum_concurrent_rpcs=1) as (
        served,
        caller,
    ):
        unit = await caller.failure("M", b"", head=Head(timeout_us=20_000))
        assert unit.code is Code.DEADLINE_EXCEEDED
        await wait_until(lambda: served._home.pool.busy == 1)
        assert (await caller.failure("E", b"x")).code is Code.RESOURCE_EXHAUSTED
        release.set()
        await wait_until(lambda: served._home.pool.busy == 0)
        assert seen.is_set()
        assert len(written) == 1
        assert served._home.threads.busy == 0
        assert await caller.answer("E", b"x") == b"x"


async def test_a_call_that_ends_before_a_thread_is_free_takes_none() -> None:
    release = threading.Event()
    runs = 0

    def handler(request: bytes, context: Any) -> bytes:
        nonlocal runs
        runs += 1
        release.wait(10)
        return request

    async with serving(unary_unary={"M": handler}, migration_thread_pool=1) as (served, caller):
        first = await caller.call("M", b"x")
        await wait_until(lambda: runs)
        second = await caller.call("M", b"x")
        await wait_until(lambda: served._home.pool.busy == 2)
        await caller.reset(second)
        await wait_until(lambda: served._home.pool.busy == 1)
        release.set()
        assert (await caller.receive()).call_id == first
        await wait_until(lambda: served._home.threads.busy == 0)
    assert runs == 1


async def test_a_thread_that_waits_for_a_slow_peer_hears_the_end_of_its_call() -> None:
    errors: list[BaseException] = []
    written = 0

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        nonlocal written
        try:
            while True:
                context.write(bytes(50_000))
                written += 1
        except trio.ClosedResourceError as exc:
            errors.append(exc)
        yield b"never"

    async with serving(Announcement(epoch=1, window=None), unary_stream={"M": endless}) as (served, caller):
        await caller.call("M", b"", head=Head(timeout_us=300_000))
        await wait_until(lambda: any(peer.outbox.blocked for peer in port_of(served).peers.values()))
        await wait_until(lambda: errors)
        assert written < 100


async def test_calls_that_end_while_their_threads_begin_leave_no_place_taken() -> None:
    def handler(request: bytes, context: Any) -> bytes:
        return request

    async with serving(unary_unary={"M": handler, "E": echo}) as (served, caller):
        for _ in range(50):
            call_id = await caller.call("M", b"x")
            await trio.lowlevel.checkpoint()
            await caller.reset(call_id)
        await wait_until(lambda: served._home.pool.busy == 0)
        await wait_until(lambda: served._home.threads.busy == 0)


async def test_a_place_is_free_when_its_wait_is_cancelled_before_the_thread() -> None:
    async with serving() as (served, _):
        home = served._home
        with trio.CancelScope() as scope:
            scope.cancel()
            await home.threads.run(int)
        assert scope.cancelled_caught
        assert (home.pool.busy, home.threads.busy) == (0, 0)


async def test_a_generator_whose_caller_has_gone_is_closed_in_its_thread() -> None:
    closed_in: list[int] = []
    began_in: list[int] = []

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        began_in.append(threading.get_ident())
        try:
            while True:
                yield bytes(10_000)
        finally:
            closed_in.append(threading.get_ident())

    async with serving(unary_stream={"M": endless}) as (_, caller):
        call_id = await caller.call("M", b"")
        await caller.receive()
        await caller.reset(call_id)
        await wait_until(lambda: closed_in)
    assert closed_in == began_in


async def test_one_call_after_the_other_runs_in_one_thread() -> None:
    threads: set[int] = set()

    def handler(request: bytes, context: Any) -> bytes:
        threads.add(threading.get_ident())
        return request

    async with serving(unary_unary={"M": handler}) as (_, caller):
        for _ in range(10):
            assert await caller.answer("M", b"x") == b"x"
    assert len(threads) == 1


async def test_calls_beyond_the_threads_wait_for_one() -> None:
    release = threading.Event()
    seen: list[bytes] = []

    def handler(request: bytes, context: Any) -> bytes:
        release.wait(10)
        seen.append(request)
        return request

    async with serving(unary_unary={"M": handler}, migration_thread_pool=1) as (served, caller):
        for number in range(5):
            await caller.call("M", b"%d" % number)
        await wait_until(lambda: served._home.pool.busy == 5)
        release.set()
        for _ in range(5):
            await caller.receive()
    assert sorted(seen) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_plain_function_may_call_back_into_the_event_loop() -> None:
    def handler(request: bytes, context: Any) -> bytes:
        trio.from_thread.run(trio.lowlevel.checkpoint)
        return trio.from_thread.run_sync(lambda: request * 2)

    async with serving(unary_unary={"M": handler}) as (_, caller):
        for _ in range(2):
            assert await caller.answer("M", b"x") == b"xx"


async def test_a_plain_function_can_find_out_that_its_call_was_cancelled() -> None:
    found = threading.Event()

    def handler(request: bytes, context: Any) -> bytes:
        while not found.wait(0.001):
            try:
                trio.from_thread.check_cancelled()
            except trio.Cancelled:
                found.set()
                raise
        raise AssertionError

    async with serving(unary_unary={"M": handler, "E": echo}) as (served, caller):
        assert await caller.answer("E", b"x") == b"x"
        call_id = await caller.call("M", b"x")
        await wait_until(lambda: served._home.threads.busy)
        await caller.reset(call_id)
        await wait_until(found.is_set)
        await wait_until(lambda: not served._home.threads.busy and not served._home.pool.busy)


async def test_threads_that_do_nothing_end_with_the_server() -> None:
    threads: list[threading.Thread] = []

    def handler(request: bytes, context: Any) -> bytes:
        threads.append(threading.current_thread())
        return request

    async with serving(unary_unary={"M": handler}) as (_, caller):
        assert await caller.answer("M", b"x") == b"x"
        (thread,) = threads
        assert "_work" in thread.name
    await wait_until(lambda: "_work" not in thread.name)  # trio has it back


async def test_a_thread_that_does_nothing_keeps_nothing_of_its_last_call() -> None:
    class Kept:
        """Something in the call's context."""

    kept: ContextVar[Kept] = ContextVar("kept")
    seen: list[weakref.ref[Kept]] = []

    def handler(request: bytes, context: Any) -> bytes:
        kept.set(Kept())
        seen.append(weakref.ref(kept.get()))
        return request

    async with serving(unary_unary={"M": handler, "E": echo}) as (_, caller):
        assert await caller.answer("M", b"x") == b"x"
        assert await caller.answer("E", b"x") == b"x"
        await wait_until(lambda: seen[0]() is None)
