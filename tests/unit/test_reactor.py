"""The reactor: background tasks, what a crash of one means, and what leaves the block."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mq._core._reactor import Reactor
from trio_mq._errors import InternalError


class Leave:
    """What closing means: nothing, and it is remembered how it was asked for."""

    def __init__(self) -> None:
        self.normally: list[bool] = []

    async def __call__(self, normally: bool) -> None:
        self.normally.append(normally)
        await trio.lowlevel.checkpoint()


async def crash() -> None:
    raise ZeroDivisionError("a bug of ours")


async def leaves(body: Callable[[Reactor], Awaitable[None]], leave: Leave | None = None) -> BaseException | None:
    """What leaves the block when *body* runs in it."""
    reactor = Reactor("a socket")
    try:
        async with reactor.run(leave or Leave()):
            await body(reactor)
    except BaseException as exc:  # noqa: ASYNC103, BLE001  # it is looked at, Cancelled and all
        return exc  # noqa: ASYNC104  # as above
    return None


# --- tasks -----------------------------------------------------------------------------------------------------------


async def test_tasks_run_beside_the_block_and_end_with_it() -> None:
    seen: list[str] = []

    async def task(name: str) -> None:
        seen.append(name)
        try:
            await trio.sleep_forever()
        finally:
            seen.append(f"end of {name}")

    reactor, leave = Reactor("a socket"), Leave()
    async with reactor.run(leave):
        reactor.start(task, "a")
        reactor.start(task, "b")
        await wait_all_tasks_blocked()
        assert sorted(seen) == ["a", "b"]
        assert leave.normally == []
    assert sorted(seen[2:]) == ["end of a", "end of b"]
    assert leave.normally == [True]


async def test_its_repr_counts_the_tasks_and_so_does_running() -> None:
    reactor = Reactor("PULL")
    async with reactor.run(Leave()):
        assert not reactor.running
        scope = reactor.start(trio.sleep_forever)
        reactor.start(trio.sleep_forever)
        assert repr(reactor) == "<Reactor of PULL: 2 tasks>"
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert repr(reactor) == "<Reactor of PULL: 1 tasks>"
        assert reactor.running
        reactor.stop()
        assert "stopping" in repr(reactor)
    assert not reactor.running


async def test_cancelling_the_scope_of_a_task_ends_it_alone() -> None:
    ended: list[str] = []

    async def task(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    reactor = Reactor("a socket")
    async with reactor.run(Leave()):
        scope = reactor.start(task, "a")
        reactor.start(task, "b")
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert ended == ["a"]


async def test_stop_cancels_every_task_and_takes_no_new_one() -> None:
    reactor = Reactor("a socket")
    started: list[str] = []

    async def late() -> None:
        started.append("late")

    async with reactor.run(Leave()):
        reactor.start(trio.sleep_forever)
        await wait_all_tasks_blocked()
        reactor.stop()
        with trio.fail_after(5):
            await reactor.wait_stopped()
        assert not reactor.running
        assert reactor.start(late).cancel_called
        await wait_all_tasks_blocked()
    assert started == []


async def test_stopping_waits_for_a_task_that_cleans_up(autojump_clock: MockClock) -> None:
    cleaned: list[bool] = []

    async def slow_to_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            cleaned.append(True)

    reactor = Reactor("a socket")
    async with reactor.run(Leave()):
        reactor.start(slow_to_end)
        await wait_all_tasks_blocked()
        reactor.stop()
        await reactor.wait_stopped()
        assert cleaned == [True]


async def test_without_tasks_it_stops_at_once() -> None:
    reactor = Reactor("a socket")
    async with reactor.run(Leave()):
        reactor.stop()
        with trio.fail_after(5):
            await reactor.wait_stopped()


async def test_before_and_after_the_block_nothing_is_started() -> None:
    reactor = Reactor("a socket")
    assert reactor.start(trio.sleep_forever).cancel_called
    async with reactor.run(Leave()):
        pass
    assert reactor.start(trio.sleep_forever).cancel_called
    assert not reactor.running


# --- crashes ---------------------------------------------------------------------------------------------------------


async def test_a_crash_ends_the_block_and_comes_out_as_an_internal_error() -> None:
    leave, ended = Leave(), list[bool]()

    async def body(reactor: Reactor) -> None:
        reactor.start(crash)
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    with trio.fail_after(5):
        error = await leaves(body, leave)
    assert isinstance(error, InternalError)
    assert "a socket" in str(error)
    assert "a bug of ours" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert ended == [True]
    assert leave.normally == [False]


async def test_a_crash_ends_the_other_tasks() -> None:
    async def body(reactor: Reactor) -> None:
        reactor.start(trio.sleep_forever)
        reactor.start(crash)
        await reactor.wait_stopped()
        assert not reactor.running

    with trio.fail_after(5):
        assert isinstance(await leaves(body), InternalError)


async def test_of_two_crashes_the_first_is_told() -> None:
    async def second() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("while cleaning up")

    async def body(reactor: Reactor) -> None:
        reactor.start(second)
        await wait_all_tasks_blocked()
        reactor.start(crash)
        await trio.sleep_forever()

    error = await leaves(body)
    assert isinstance(error, InternalError)
    assert isinstance(error.__cause__, ZeroDivisionError)


async def test_a_crash_does_not_hide_what_the_block_raised() -> None:
    async def body(reactor: Reactor) -> None:
        reactor.start(crash)
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("the block's own")

    error = await leaves(body)
    assert isinstance(error, InternalError)
    assert isinstance(error.__cause__, BaseExceptionGroup)
    assert [type(inner) for inner in error.__cause__.exceptions] == [ZeroDivisionError, KeyError]


# --- what leaves -----------------------------------------------------------------------------------------------------


async def fail(reactor: Reactor) -> None:
    raise KeyError("plain")


async def fail_in_a_nursery(reactor: Reactor) -> None:
    async with trio.open_nursery():
        raise KeyError("grouped by the program itself")


@pytest.mark.parametrize("body", [fail, fail_in_a_nursery])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_the_block_raised_leaves_as_it_was(
    body: Callable[[Reactor], Awaitable[None]], cancelled: bool
) -> None:
    leave, caught = Leave(), list[BaseException | None]()
    with trio.CancelScope() as scope:

        async def raising(reactor: Reactor) -> None:
            reactor.start(trio.sleep_forever)
            if cancelled:
                scope.cancel()
            await body(reactor)

        caught.append(await leaves(raising, leave))
    assert type(caught[0]) in (KeyError, ExceptionGroup)
    assert (type(caught[0]) is KeyError) == (body is fail)
    assert leave.normally == [False]


async def test_a_cancelled_block_leaves_by_a_plain_cancelled() -> None:
    with trio.CancelScope() as scope:

        async def body(reactor: Reactor) -> None:
            reactor.start(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()

        error = await leaves(body)
        assert type(error) is trio.Cancelled
        raise error
    assert scope.cancelled_caught


async def test_a_crash_is_told_even_when_everything_is_being_cancelled() -> None:
    with trio.CancelScope() as scope:

        async def body(reactor: Reactor) -> None:
            reactor.start(crash)
            scope.cancel()
            await trio.sleep_forever()

        error = await leaves(body)
    assert isinstance(error, InternalError)


async def test_an_error_while_leaving_is_not_lost() -> None:
    async def leave(normally: bool) -> None:
        raise KeyError("while lingering")

    reactor = Reactor("a socket")
    with pytest.raises(KeyError, match="lingering"):
        async with reactor.run(leave):
            reactor.start(trio.sleep_forever)
    with pytest.raises(ValueError, match="first"):
        async with Reactor("another").run(leave):
            raise ValueError("first")


async def test_leaving_lingers_while_the_tasks_go_on(autojump_clock: MockClock) -> None:
    written: list[int] = []

    async def write() -> None:
        for number in range(5):
            await trio.sleep(1)
            written.append(number)

    async def linger(normally: bool) -> None:
        await trio.sleep(3.5)

    reactor = Reactor("a socket")
    async with reactor.run(linger):
        reactor.start(write)
    assert written == [0, 1, 2]


def test_under_another_event_loop_it_says_what_to_run_instead() -> None:
    async def main() -> None:
        async with Reactor("Pull socket").run(Leave()):
            raise AssertionError("it was not entered")

    with pytest.raises(RuntimeError, match=r"Pull socket needs trio: run the program with trio.run\(main\)"):
        asyncio.run(main())
