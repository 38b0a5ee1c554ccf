"""The pool: tasks that are used again, and how handlers are told apart."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing

from trio_mq_grpc._service import COROUTINE, GENERATOR, THREAD, UNIMPLEMENTED, style_of
from trio_mq_grpc._workers import Pool, Worker

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class Job:
    worker: Worker | None = None

    def __init__(self, body: Callable[[], Any]) -> None:
        self.body = body
        self.done = trio.Event()
        self.task: Any = None

    async def run(self) -> None:
        self.task = trio.lowlevel.current_task()
        try:
            await self.body()
        finally:
            self.done.set()


async def run(pool: Pool, body: Callable[[], Any]) -> Job:
    job = Job(body)
    pool.run(job)
    await job.done.wait()
    await trio.testing.wait_all_tasks_blocked()
    return job


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool()
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.serve)
        yield pool
        nursery.cancel_scope.cancel()


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


async def test_a_task_is_used_again_with_a_fresh_context(pool: Pool) -> None:
    seen: list[str] = []

    async def body() -> None:
        seen.append(variable.get())
        variable.set("leaked")

    first = await run(pool, body)
    second = await run(pool, body)
    assert first.task is second.task
    assert seen == ["nothing", "nothing"]


async def test_a_worker_that_was_cancelled_ends(pool: Pool) -> None:
    first = Job(trio.sleep_forever)
    pool.run(first)
    await trio.testing.wait_all_tasks_blocked()
    assert first.worker is not None
    first.worker.scope.cancel()
    await first.done.wait()
    second = await run(pool, nothing)
    assert second.task is not first.task


async def test_a_worker_that_was_cancelled_too_late_ends_all_the_same(pool: Pool) -> None:
    first = Job(nothing)

    async def cancel_itself() -> None:
        assert first.worker is not None
        first.worker.scope.cancel()

    first.body = cancel_itself
    pool.run(first)
    await first.done.wait()
    await trio.testing.wait_all_tasks_blocked()
    second = await run(pool, nothing)
    assert second.task is not first.task


async def test_busy_counts_what_runs_and_what_is_held(pool: Pool) -> None:
    release = trio.Event()
    job = Job(release.wait)
    pool.run(job)
    pool.hold()
    assert pool.busy == 2
    release.set()
    await job.done.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert pool.busy == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.wait_idle)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        pool.release()


async def test_a_burst_does_not_hold_its_tasks_for_ever(pool: Pool) -> None:
    release = trio.Event()
    jobs = [Job(release.wait) for _ in range(1000)]
    for job in jobs:
        pool.run(job)
    await trio.testing.wait_all_tasks_blocked()
    release.set()
    await pool.wait_idle()
    await trio.testing.wait_all_tasks_blocked()
    assert len(pool._parked) == 256


class Methods:
    async def coroutine(self) -> None: ...

    async def generator(self) -> AsyncIterator[int]:
        yield 1

    def plain(self) -> None: ...

    def base(self, request: Any, context: Any) -> None:
        context.set_code(grpc_status.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")

    async def __call__(self) -> None: ...


grpc_status: Any = None
methods = Methods()


@functools.wraps(methods.coroutine)
def wrapped() -> Any:
    return methods.coroutine()


@pytest.mark.parametrize(
    ("function", "style"),
    [
        (methods.coroutine, COROUTINE),
        (methods.generator, GENERATOR),
        (methods.plain, THREAD),
        (methods.base, UNIMPLEMENTED),
        (methods, COROUTINE),
        (wrapped, COROUTINE),
        (functools.partial(methods.generator), GENERATOR),
        (functools.partial(functools.partial(wrapped)), COROUTINE),
        (lambda: None, THREAD),
        (print, THREAD),
        (Methods, THREAD),
    ],
)
def test_a_handler_s_style_is_seen_through_its_wrappers(function: Any, style: str) -> None:
    assert style_of(function) == style
