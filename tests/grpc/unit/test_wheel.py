"""The wheel: every deadline fires once, in order, at most a millisecond late."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mq_grpc._wheel import Wheel


class Item:
    def __init__(self) -> None:
        self.expired_at = math.inf

    def expire(self) -> None:
        self.expired_at = trio.current_time()


async def running(nursery: trio.Nursery) -> Wheel:
    wheel = Wheel()
    nursery.start_soon(wheel.run)
    await wait_all_tasks_blocked()
    return wheel


async def test_each_expires_at_its_time(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    wheel = await running(nursery)
    now = trio.current_time()
    items = {delay: Item() for delay in (5.0, 1.0, 0.0015, 1.0004, 30.0)}
    for delay, item in items.items():
        wheel.add(now + delay, item)
    await trio.sleep(31)
    for delay, item in items.items():
        assert -1e-4 <= item.expired_at - now - delay < 0.0011


async def test_an_earlier_deadline_wakes_the_task(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    wheel = await running(nursery)
    late, early = Item(), Item()
    now = trio.current_time()
    wheel.add(now + 100, late)
    await wait_all_tasks_blocked()
    wheel.add(now + 1, early)
    await trio.sleep(2)
    assert early.expired_at - now < 1.01
    assert late.expired_at == math.inf


async def test_what_was_discarded_does_not_expire_and_takes_no_room(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wheel = await running(nursery)
    item = Item()
    key = wheel.add(trio.current_time() + 1, item)
    wheel.discard(key, item)
    assert len(wheel) == 0
    await trio.sleep(2)
    assert item.expired_at == math.inf


async def test_a_deadline_in_the_past_expires_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    wheel = await running(nursery)
    item = Item()
    wheel.add(trio.current_time() - 5, item)
    await wait_all_tasks_blocked()
    assert item.expired_at <= trio.current_time()


async def test_expiring_may_add_and_discard_others(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    wheel = await running(nursery)
    now, second = trio.current_time(), Item()

    class First(Item):
        def expire(self) -> None:
            super().expire()
            wheel.add(now + 2, second)

    wheel.add(now + 1, First())
    await trio.sleep(3)
    assert 1.9999 <= second.expired_at - now < 2.002


async def test_a_deadline_of_never_is_no_error(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    wheel = await running(nursery)
    wheel.add(math.inf, Item())
    await trio.sleep(1)
