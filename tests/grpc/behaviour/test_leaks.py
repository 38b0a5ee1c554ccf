"""What calls leave behind, whichever way they end: nothing that grows."""

from __future__ import annotations

import gc
import logging
import threading
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

import trio_mq_grpc

from .._kit import Ends, ends, ids_of, orders, receipt, wait_until

CODE = grpc.StatusCode


async def place(request: Any, context: Any) -> Any:
    match request.id:
        case "fail":
            raise LookupError("boom")
        case "abort":
            await context.abort(CODE.NOT_FOUND, "no", (("key", "value"),))
        case "wait":
            await trio.sleep_forever()
    return receipt(note=request.note)


async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
    for _ in range(request.quantity):
        yield receipt(note=bytes(1000))
    if request.id == "wait":
        await trio.sleep_forever()


async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
    return receipt(total=len(await ids_of(requests)))


async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield receipt(id=request.id)


def forget(request: Any, context: Any) -> Any:
    from google.protobuf import empty_pb2

    return empty_pb2.Empty()


HANDLERS: dict[str, Any] = {"Place": place, "Watch": watch, "Upload": upload, "Haggle": haggle, "Forget": forget}


@pytest.fixture(autouse=True)
def _no_records(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged pytest keeps, with tracebacks, and by them everything that a failed handler had in its hands."""
    caplog.set_level(logging.CRITICAL, "trio_mq.grpc")


# --- ways in which a call ends ---------------------------------------------------------------------------------------


async def well(both: Ends) -> None:
    await both.stub.Place(both.order(note=bytes(100)), timeout=10, metadata=(("key", "value"),))
    await ids_of(both.stub.Watch(both.order(quantity=3)))
    await both.stub.Upload(iter(orders(both.stubs, "abc")))
    await ids_of(both.stub.Haggle(iter(orders(both.stubs, "abc"))))


async def large(both: Ends) -> None:
    await both.stub.Place(both.order(note=bytes(2_000_000)))


async def in_a_thread(both: Ends) -> None:
    await both.stub.Forget(both.order())


async def badly(both: Ends) -> None:
    for name in ("fail", "abort"):
        assert await both.stub.Place(both.order(id=name)).code() is not CODE.OK


async def by_cancel(both: Ends) -> None:
    call = both.stub.Watch(both.order(quantity=2, id="wait"))
    await call.read()
    call.cancel()
    await call.code()


async def by_cancel_at_once(both: Ends) -> None:
    for method in (both.stub.Upload, both.stub.Haggle):
        method().cancel()
    await both.stub.Upload(iter(()))  # else all rounds would be one burst, and the pool of workers as large


async def by_its_block(both: Ends) -> None:
    async with both.stub.Watch(both.order(quantity=10**6)) as call:
        await call.read()


async def by_deadline(both: Ends) -> None:
    assert await both.stub.Place(both.order(id="wait"), timeout=0.005).code() is CODE.DEADLINE_EXCEEDED


async def by_scope(both: Ends) -> None:
    with trio.move_on_after(0.005):
        await both.stub.Place(both.order(id="wait"))


async def never_awaited(both: Ends) -> None:
    call = both.stub.Place(both.order())
    await wait_until(call.done)


async def unknown(both: Ends) -> None:
    await both.channel.unary_unary("/no/method")(b"").code()


ENDINGS = [
    well,
    large,
    in_a_thread,
    badly,
    by_cancel,
    by_cancel_at_once,
    by_its_block,
    by_deadline,
    by_scope,
    never_awaited,
    unknown,
]


# --- what is counted -------------------------------------------------------------------------------------------------


def tasks() -> int:
    """All tasks of this run but trio's own."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, count = [root], 0
    while waiting:
        task = waiting.pop()
        count += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


def objects() -> Counter[str]:
    """The objects of our classes, tasks, and messages of protobuf. (Trio itself keeps scopes until their deadline.)"""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return Counter(name for name in names if name.startswith(("trio_mq", "orders_pb2", "trio._core._run.Task")))


async def everything_settled(both: Ends) -> None:
    """Every message that was sent has been taken, and every handler that was cancelled has ended."""
    await both.stub.Upload(iter(()))
    await trio.testing.wait_all_tasks_blocked(0.02)


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
async def test_calls_leave_no_tasks_and_no_objects_behind(ending: Any, transport: str) -> None:
    async with ends(transport=transport, **HANDLERS) as both:
        # Pools of workers, caches of methods and the like fill in the first round.
        for _ in range(30):
            await ending(both)
        await everything_settled(both)
        before, tasks_before = objects(), tasks()
        for _ in range(30):
            await ending(both)
        await everything_settled(both)
        grown = objects() - before
        assert {name: count for name, count in grown.items() if count >= 10} == {}
        assert tasks() <= tasks_before + 3


async def test_calls_leave_no_memory_behind() -> None:
    async with ends(**HANDLERS) as both:
        await _rounds(both, 10)
        tracemalloc.start()
        try:
            await _rounds(both, 5)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await _rounds(both, 20)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # 20 rounds are some 400 calls; 100 bytes of each would be 40 kB.
        assert grown < 40_000


async def _rounds(both: Ends, count: int) -> None:
    for _ in range(count):
        for ending in ENDINGS:
            await ending(both)
    await everything_settled(both)


async def test_channels_leave_nothing_behind_in_their_server() -> None:
    async with ends(**HANDLERS) as both:

        async def come_and_go() -> None:
            async with trio_mq_grpc.insecure_channel(both.target) as channel:
                other = Ends(None, channel, both.target, both.stubs)
                await well(other)
                await by_cancel(other)
            await everything_settled(both)

        for _ in range(5):
            await come_and_go()
        before, tasks_before = objects(), tasks()
        for _ in range(15):
            await come_and_go()
        grown = objects() - before
        assert {name: count for name, count in grown.items() if count >= 8} == {}
        assert tasks() <= tasks_before + 2


def test_servers_and_channels_leave_nothing_behind_in_their_process() -> None:
    async def run() -> None:
        async with ends(**HANDLERS) as both:
            for ending in ENDINGS:
                await ending(both)

    for _ in range(3):
        trio.run(run)
    before, threads = objects(), threading.active_count()
    for _ in range(10):
        trio.run(run)
    grown = objects() - before
    assert {name: count for name, count in grown.items() if count >= 8} == {}
    assert threading.active_count() <= threads + 1  # trio keeps idle threads for ten seconds


async def test_plain_generators_leave_no_threads_behind() -> None:
    def endless(request: Any, context: Any) -> Iterator[Any]:
        while True:
            yield receipt(note=bytes(10_000))

    async with ends(Watch=endless) as both:
        before = threading.active_count()
        for _ in range(20):
            async with both.stub.Watch(both.order()) as call:
                await call.read()
        await wait_until(lambda: threading.active_count() <= before + 4)
