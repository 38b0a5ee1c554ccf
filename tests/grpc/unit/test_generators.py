"""Driving the user's iterators: what is raised while one is suspended belongs into it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from trio_mq_grpc._generators import drive, drive_any


class Takes:
    """Takes items; `limit` of them, then it waits for ever."""

    def __init__(self, limit: int = 1000) -> None:
        self.items: list[object] = []
        self.limit = limit

    async def __call__(self, item: object) -> bool:
        self.items.append(item)
        if len(self.items) == self.limit:
            await trio.sleep_forever()
        return True


async def test_every_item_is_taken_in_order() -> None:
    async def source() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    for some in (source(), [0, 1, 2], iter([0, 1, 2])):
        takes = Takes()
        await drive_any(some, takes)
        assert takes.items == [0, 1, 2]


async def test_a_scope_around_a_yield_that_expires_while_the_item_waits_ends_the_generator_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    after = False

    async def source() -> AsyncIterator[int]:
        nonlocal after
        with trio.move_on_after(1):
            yield 1
            yield 2
        after = True

    takes = Takes(limit=2)
    await drive(source(), takes)
    assert after
    assert takes.items == [1, 2]


async def test_a_nursery_around_a_yield_whose_child_fails_raises_out_of_the_generator(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise KeyError("the child")

    async def source() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield 1

    with pytest.RaisesGroup(KeyError):
        await drive(source(), Takes(limit=1))


async def test_a_generator_is_closed_when_nothing_more_is_taken() -> None:
    closed = False

    async def source() -> AsyncIterator[int]:
        nonlocal closed
        try:
            while True:
                yield 1
        finally:
            closed = True

    async def take_one(item: int) -> bool:
        return False

    await drive(source(), take_one)
    assert closed


async def test_an_iterator_that_is_no_generator_sees_the_error_pass_by() -> None:
    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            return 1

    async def take(item: int) -> bool:
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        await drive(Source(), take)
