"""Timers: one task for all heartbeats, and none without any."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mq._core._timers import Timers
from trio_mq.zmtp import Heartbeat


class Ticker:
    """An engine, as far as timers know it: it ticks its heartbeat and writes down when."""

    def __init__(self, interval: float | None) -> None:
        self.heartbeat = Heartbeat(interval)
        self.ticks: list[float] = []

    def tick(self, now: float) -> None:
        self.heartbeat.heard()
        if self.heartbeat.tick(now):
            self.ticks.append(round(now, 3))


class Runner:
    """Starts tasks in a nursery, and counts them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.started = 0

    def __call__(self, task: Callable[[], Awaitable[None]]) -> None:
        self.started += 1
        self._nursery.start_soon(task)


async def test_without_heartbeats_there_is_no_task() -> None:
    async with trio.open_nursery() as nursery:
        runner = Runner(nursery)
        timers = Timers(runner)
        timers.add(Ticker(None))
        timers.changed()
        assert runner.started == 0


async def test_one_task_ticks_whoever_is_due(autojump_clock: MockClock) -> None:
    fast, slow, none = Ticker(2.0), Ticker(5.0), Ticker(None)
    async with trio.open_nursery() as nursery:
        runner = Runner(nursery)
        timers = Timers(runner)
        start = trio.current_time()
        for ticker in (fast, slow, none):
            timers.add(ticker)
        await trio.sleep(10.5)
        nursery.cancel_scope.cancel()
    assert runner.started == 1
    assert [round(at - start) for at in fast.ticks] == [2, 4, 6, 8, 10]
    assert [round(at - start) for at in slow.ticks] == [5, 10]
    assert none.ticks == []


async def test_a_newcomer_does_not_wait_for_the_deadlines_of_others(autojump_clock: MockClock) -> None:
    slow, fast = Ticker(100.0), Ticker(1.0)
    async with trio.open_nursery() as nursery:
        timers = Timers(Runner(nursery))
        start = trio.current_time()
        timers.add(slow)
        await trio.sleep(10)
        timers.add(fast)
        await trio.sleep(2.5)
        nursery.cancel_scope.cancel()
    assert [round(at - start) for at in fast.ticks] == [11, 12]


async def test_who_was_removed_is_ticked_no_more(autojump_clock: MockClock) -> None:
    ticker = Ticker(1.0)
    async with trio.open_nursery() as nursery:
        timers = Timers(Runner(nursery))
        timers.add(ticker)
        await trio.sleep(2.5)
        timers.remove(ticker)
        timers.remove(ticker)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(ticker.ticks) == 2


async def test_a_deadline_that_became_earlier_is_met(autojump_clock: MockClock) -> None:
    ticker = Ticker(None)
    async with trio.open_nursery() as nursery:
        runner = Runner(nursery)
        timers = Timers(runner)
        timers.add(ticker)
        await trio.sleep(5)
        ticker.heartbeat = Heartbeat(1.0)
        timers.changed()
        await trio.sleep(1.5)
        assert len(ticker.ticks) == 1
        assert runner.started == 1
        ticker.heartbeat = Heartbeat(0.1)
        timers.changed()
        await trio.sleep(0.25)
        nursery.cancel_scope.cancel()
    assert len(ticker.ticks) == 3


async def test_a_deadline_that_stays_in_the_past_does_not_spin(mock_clock: MockClock) -> None:
    class Stuck:
        """Its deadline has always passed."""

        def __init__(self) -> None:
            self.count = 0
            self.heartbeat = Heartbeat(1.0)

        def tick(self, now: float) -> None:
            self.count += 1

    stuck = Stuck()
    assert stuck.heartbeat.next_deadline == -math.inf
    async with trio.open_nursery() as nursery:
        timers = Timers(Runner(nursery))
        timers.add(stuck)
        await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert stuck.count == 1, "time has not moved"
        mock_clock.jump(0.002)
        await wait_all_tasks_blocked()
        assert stuck.count == 2
        nursery.cancel_scope.cancel()
