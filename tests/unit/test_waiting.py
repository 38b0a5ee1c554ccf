"""Waiting in line: served in order, cancelled without a trace, and nothing in between."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mq._core._waiting import Line, Slot


async def stand(line: Line[str], want: str, got: list[object]) -> None:
    """Wait for *want*, and write down what came of it."""
    try:
        got.append((want, await line.wait(want)))
    except (trio.ClosedResourceError, KeyError) as exc:
        got.append((want, type(exc)))


async def test_whoever_came_first_is_served_first() -> None:
    line, got = Line[str](), list[object]()
    async with trio.open_nursery() as nursery:
        for want in "abc":
            nursery.start_soon(stand, line, want, got)
            await wait_all_tasks_blocked()
        assert len(line) == 3
        for number in (1, 2, 3):
            assert line.first() == "abc"[number - 1]
            line.serve(number)
            await wait_all_tasks_blocked()
    assert got == [("a", 1), ("b", 2), ("c", 3)]
    assert not line


async def test_a_cancelled_wait_leaves_the_line_and_its_place_to_the_next() -> None:
    line, got = Line[str](), list[object]()
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def give_up() -> None:
            with scope:
                await stand(line, "first", got)

        nursery.start_soon(give_up)
        await wait_all_tasks_blocked()
        nursery.start_soon(stand, line, "second", got)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert len(line) == 1
        line.serve("for the one who stayed")
    assert scope.cancelled_caught
    assert got == [("second", "for the one who stayed")]


async def test_who_was_served_before_the_cancellation_has_it_whatever_comes() -> None:
    line, got = Line[str](), list[object]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand, line, "a", got)
        await wait_all_tasks_blocked()
        line.serve("served")
        nursery.cancel_scope.cancel()
    assert got == [("a", "served")]


async def test_who_was_cancelled_before_cannot_be_served_any_more() -> None:
    line, got = Line[str](), list[object]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand, line, "a", got)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        assert not line, "out of the line at once, so that nothing is handed to the dead"
    assert got == []


async def test_a_wait_that_is_cancelled_from_the_start_takes_nothing() -> None:
    line = Line[str]()
    with trio.CancelScope() as scope:
        scope.cancel()
        await line.wait("a")
    assert scope.cancelled_caught
    assert not line


async def test_a_refusal_is_raised_in_the_first_in_line_alone() -> None:
    line, got = Line[str](), list[object]()
    async with trio.open_nursery() as nursery:
        for want in "ab":
            nursery.start_soon(stand, line, want, got)
            await wait_all_tasks_blocked()
        line.refuse(KeyError("no"))
        await wait_all_tasks_blocked()
        line.serve(1)
    assert got == [("a", KeyError), ("b", 1)]


async def test_all_are_refused_each_with_an_error_of_its_own() -> None:
    line, errors = Line[str](), list[trio.ClosedResourceError]()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError, match="closed") as caught:
            await line.wait("a")
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        line.refuse_all(trio.ClosedResourceError, "it was closed")
    assert len(set(map(id, errors))) == 3, "one exception in several tasks would mix their tracebacks"


async def test_a_task_can_be_served_from_within_its_own_servers_turn() -> None:
    line = Line[str]()
    async with trio.open_nursery() as nursery:

        async def again() -> None:
            for number in range(3):
                assert await line.wait("more") == number

        nursery.start_soon(again)
        for number in range(3):
            await wait_all_tasks_blocked()
            line.serve(number)


async def test_the_line_keeps_no_task_alive() -> None:
    line = Line[str]()
    tasks: list[weakref.ref[trio.lowlevel.Task]] = []

    async def wait() -> None:
        tasks.append(weakref.ref(trio.lowlevel.current_task()))
        await line.wait("a")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        line.serve(None)
    await trio.lowlevel.checkpoint()
    gc.collect()
    assert tasks[0]() is None


# --- one parked task -------------------------------------------------------------------------------------------------


async def test_a_parked_task_sleeps_until_it_is_woken() -> None:
    slot, woken = Slot(), list[str]()

    async def park() -> None:
        await slot.park()
        woken.append("up")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(park)
        await wait_all_tasks_blocked()
        assert slot.occupied
        assert woken == []
        slot.wake()
        assert not slot.occupied
    assert woken == ["up"]


async def test_waking_nobody_or_twice_is_nothing() -> None:
    slot = Slot()
    slot.wake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.park)
        await wait_all_tasks_blocked()
        slot.wake()
        slot.wake()
    assert not slot.occupied


async def test_a_cancelled_sleeper_leaves_its_slot_and_can_be_followed() -> None:
    slot = Slot()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.park)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        assert not slot.occupied
    slot.wake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.park)
        await wait_all_tasks_blocked()
        slot.wake()
