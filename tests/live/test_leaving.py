"""How a socket's block is left: what comes out of it, how soon, and what stays behind (nothing).

The matrix: {an error in the block, an error in a nursery of the user's inside the block, a crash of a background task,
nothing} × {the surrounding scope was cancelled, or not}. What comes out is plain: never a group of ours, never nothing
in place of something.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from trio_mq import InternalError, Options, Pair, Pub, Pull, Push, StateError, Sub, register_transport
from trio_mq.abc import Link, Listener, StreamTransport
from trio_mq.events import Closed

LOOPBACK = "tcp://127.0.0.1:*"


class Rotten(RuntimeError):
    """What the background task dies of."""


class RottenListener(Listener):
    """Dies when it is told to."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.rot = trio.Event()

    async def accept(self) -> Link:
        await self.rot.wait()
        raise Rotten("this transport has a bug")

    def close(self) -> None:
        pass


class RottenTransport(StreamTransport[str]):
    """A third party's transport with a bug: its listeners raise what no listener may."""

    schemes = ("rotten",)

    def __init__(self) -> None:
        self.listeners: list[RottenListener] = []

    def parse(self, endpoint: object, *, binding: bool) -> str:
        return str(endpoint)

    async def listen(self, address: str, options: Options) -> Listener:
        await trio.lowlevel.checkpoint()
        self.listeners.append(RottenListener(address))
        return self.listeners[-1]

    async def connect(self, address: str, options: Options) -> Link:
        raise OSError("nobody can connect to it")

    def crash_all(self) -> None:
        """Let every listener there is raise."""
        for listener in self.listeners:
            listener.rot.set()
        self.listeners.clear()


ROTTEN = RottenTransport()
register_transport(ROTTEN)


@pytest.fixture(autouse=True)
def no_listeners_of_other_tests() -> Iterator[None]:
    yield
    ROTTEN.listeners.clear()


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def every_fd_closed() -> Iterator[None]:
    """After the block there are as many open files as before it."""
    before = open_fds()
    yield
    assert open_fds() == before


Cancel = Callable[[], None]


async def a_body_error(cancel: Cancel) -> None:
    cancel()
    raise KeyError("mine")


async def an_error_in_a_nursery(cancel: Cancel) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(a_body_error, cancel)


async def a_crash(cancel: Cancel) -> None:
    # Before the cancellation, which would end the listener's task as well as everything else.
    ROTTEN.crash_all()
    cancel()
    await trio.sleep_forever()


async def nothing(cancel: Cancel) -> None:
    cancel()
    await trio.lowlevel.checkpoint()


def is_my_key_error(exc: BaseException | None) -> bool:
    return isinstance(exc, KeyError) and exc.args == ("mine",)


def is_the_users_group(exc: BaseException | None) -> bool:
    return isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1 and is_my_key_error(exc.exceptions[0])


def is_the_crash(exc: BaseException | None) -> bool:
    return isinstance(exc, InternalError) and isinstance(exc.__cause__, Rotten) and "Rotten" in str(exc)


def is_none(exc: BaseException | None) -> bool:
    return exc is None


MATRIX: list[tuple[Callable[[Cancel], Awaitable[None]], Callable[[BaseException | None], bool]]] = [
    (a_body_error, is_my_key_error),
    (an_error_in_a_nursery, is_the_users_group),
    (a_crash, is_the_crash),
    (nothing, is_none),
]


@pytest.mark.parametrize("cancelled", [False, True], ids=["", "in a cancelled scope"])
@pytest.mark.parametrize(("happening", "is_right"), MATRIX, ids=lambda item: getattr(item, "__name__", item))
async def test_what_leaves_the_block_is_plain(
    happening: Callable[[Cancel], Awaitable[None]],
    is_right: Callable[[BaseException | None], bool],
    cancelled: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    left_with: BaseException | None = None
    with trio.CancelScope() as scope:
        try:
            async with Pull(bind=["rotten://here", "inproc://here"]), Push(connect="inproc://here"):
                await trio.testing.wait_all_tasks_blocked()
                await happening(scope.cancel if cancelled else lambda: None)
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001 - what comes out is the question
            left_with = exc
    if isinstance(left_with, BaseExceptionGroup) and cancelled:
        # In a cancelled scope the user's own nursery adds the Cancelled of its other tasks; that is the user's group.
        left_with = left_with.split(trio.Cancelled)[1]
    assert is_right(left_with)
    assert scope.cancelled_caught == (cancelled and happening is nothing)


@pytest.mark.parametrize("cancelled", [False, True], ids=["", "in a cancelled scope"])
async def test_an_error_while_the_block_cleans_up_is_not_lost(cancelled: bool) -> None:
    """A sibling failed, everything is cancelled, and the block fails in its own clean-up: both errors arrive."""

    async def fail() -> None:
        if cancelled:
            nursery.cancel_scope.cancel()
        raise ValueError("the sibling")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            async with Pull(bind="inproc://here"):
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyError("mine")


async def test_a_cancellation_arrives_as_a_plain_cancelled() -> None:
    seen: list[BaseException] = []
    with trio.move_on_after(0):
        try:
            async with Pull(bind="inproc://here") as pull, Push(connect="inproc://here"):
                await pull.receive()
        except BaseException as exc:
            seen.append(exc)
            raise
    assert [type(exc) for exc in seen] == [trio.Cancelled]


async def test_a_crash_ends_the_block_wherever_it_waits() -> None:
    steps: list[str] = []
    with pytest.raises(InternalError) as caught:
        async with Pull(bind="rotten://here") as pull:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(pull.receive)
                await trio.testing.wait_all_tasks_blocked()
                ROTTEN.crash_all()
                await trio.sleep_forever()
            steps.append("went on behind the wait")
    assert steps == []
    assert isinstance(caught.value.__cause__, Rotten), (
        "the Cancelled of the block's own tasks do not belong in the story"
    )


async def test_a_crash_and_an_error_of_the_block_are_both_told() -> None:
    with pytest.raises(InternalError) as caught:
        async with Pull(bind="rotten://here"):
            ROTTEN.crash_all()
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("mine")
    assert isinstance(caught.value.__cause__, BaseExceptionGroup)
    assert [type(exc) for exc in caught.value.__cause__.exceptions] == [Rotten, KeyError]


async def test_a_crash_of_one_socket_leaves_the_one_around_it_whole() -> None:
    async with Pair(bind="inproc://outer") as outer, Pair(connect="inproc://outer") as peer:
        with pytest.raises(InternalError):
            async with Pull(bind="rotten://here"):
                ROTTEN.crash_all()
                await trio.sleep_forever()
        await peer.send(b"still there")
        assert await outer.receive() == b"still there"


@contextmanager
def leaving_by(way: str) -> Iterator[trio.CancelScope]:
    """Expect the block to be left by *way*."""
    with trio.CancelScope() as scope:
        if way == "an error":
            with pytest.raises(KeyError):
                yield scope
        else:
            yield scope


@pytest.mark.parametrize("way", ["normally", "an error", "a cancellation", "aclose"])
@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*", "inproc://fds"])
async def test_every_file_is_closed_when_the_block_is_left(way: str, endpoint: str) -> None:
    with trio.fail_after(5), every_fd_closed():
        with leaving_by(way) as scope:
            async with Pull(bind=endpoint, options=Options(linger=0)) as pull:
                async with Push(connect=pull.last_endpoint) as push, Push(connect=pull.last_endpoint):
                    async with Push(connect="tcp://127.0.0.1:1", options=Options(linger=0)):
                        await pull.wait_connected(2)
                        await push.send(b"hello")
                        assert await pull.receive() == b"hello"
                        if way == "an error":
                            raise KeyError
                        if way == "a cancellation":
                            scope.cancel()
                            await trio.sleep_forever()
                        if way == "aclose":
                            await pull.aclose()
                            await push.aclose()


@pytest.mark.parametrize("error", [None, KeyError], ids=["a cancellation", "an error"])
async def test_leaving_by_an_error_or_a_cancellation_does_not_linger(
    error: type[Exception] | None, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun = trio.current_time()
    with trio.CancelScope() as scope:
        try:
            async with Push(connect="inproc://nobody", options=Options(linger=100)) as push:
                await push.send_many([b"unsent"] * 3)
                if error is not None:
                    raise error
                scope.cancel()
                await trio.sleep_forever()
        except KeyError:
            pass
    assert trio.current_time() - begun < 1
    assert any("3" in record.getMessage() and "inproc://nobody" in record.getMessage() for record in caplog.records), (
        "what was not sent is counted all the same"
    )


async def test_leaving_normally_lingers_and_says_what_it_could_not_send(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun = trio.current_time()
    async with Push(connect="inproc://nobody") as push:
        await push.send_many([b"unsent"] * 3)
    assert trio.current_time() - begun == pytest.approx(5.0, abs=0.1)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "3" in warnings[0].getMessage()
    assert "inproc://nobody" in warnings[0].getMessage()


@pytest.mark.parametrize("linger", [0, 2.5])
async def test_the_linger_is_the_options(linger: float, autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    async with Push(connect="inproc://nobody", options=Options(linger=linger)) as push:
        await push.send(b"unsent")
    assert trio.current_time() - begun == pytest.approx(linger, abs=0.1)


async def test_a_subscriber_does_not_linger(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    async with Sub(connect="inproc://nobody", topics=b"a"):
        pass
    assert trio.current_time() == begun


async def test_leaving_with_nothing_queued_takes_no_time(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    async with Push(connect="inproc://nobody", options=Options(linger=math.inf)), Pub(bind="inproc://pub"):
        pass
    assert trio.current_time() == begun


async def test_a_linger_can_be_cancelled_and_closes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    with trio.move_on_after(3) as scope:
        async with Push(connect="inproc://nobody", options=Options(linger=math.inf)) as push:
            await push.send(b"unsent")
    assert scope.cancelled_caught
    assert trio.current_time() - begun == pytest.approx(3, abs=0.1)
    with pytest.raises(trio.ClosedResourceError):
        await push.send(b"closed")


async def test_lingering_delivers_over_the_network_to_a_reader_that_takes_its_time() -> None:
    body = bytes(200_000)
    with trio.fail_after(10):
        async with Pull(bind=LOOPBACK) as pull, trio.open_nursery() as nursery:

            async def send_and_leave() -> None:
                async with Push(connect=pull.last_endpoint, options=Options(linger=math.inf)) as push:
                    await push.send_many([body] * 100)

            nursery.start_soon(send_and_leave)
            for _ in range(100):
                assert len(await pull.receive()) == len(body)


async def test_sockets_stacked_in_one_with_linger_one_after_another_and_one_scope_ends_them_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begun = trio.current_time()
    brief = Options(linger=2)
    async with Push(connect="inproc://a", options=brief) as one, Push(connect="inproc://b", options=brief) as two:
        await one.send(b"unsent")
        await two.send(b"unsent")
    assert trio.current_time() - begun == pytest.approx(4, abs=0.1)
    with trio.move_on_after(1) as scope:
        async with Push(connect="inproc://a", options=brief) as one, Push(connect="inproc://b", options=brief) as two:
            await one.send(b"unsent")
            await two.send(b"unsent")
    assert scope.cancelled_caught
    assert trio.current_time() - begun == pytest.approx(5, abs=0.1)


async def test_aclose_by_another_task_ends_what_waits_and_the_block_goes_on() -> None:
    went_on = False
    async with Pull(bind="inproc://here") as pull, Push(bind="inproc://there") as push:

        async def receives() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pull.receive()

        async def sends() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await push.send(b"nobody")

        async def iterates() -> None:
            async for _ in pull:
                raise AssertionError("nothing was sent")

        async def waits() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pull.wait_connected()

        async with trio.open_nursery() as nursery:
            for task in (receives, sends, iterates, waits):
                nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
            await pull.aclose()
            await push.aclose()
        went_on = True
    assert went_on


async def test_aclose_is_idempotent_and_closed_is_closed() -> None:
    pull = Pull(bind="inproc://here")
    async with pull:
        await pull.aclose()
        await pull.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await pull.receive()
        with pytest.raises(trio.ClosedResourceError):
            pull.connect("inproc://there")
        async with Pull(bind="inproc://here"):
            pass  # the name is free
    await pull.aclose()
    with pytest.raises(StateError):
        await pull.__aenter__()


async def test_aclose_before_entry_closes_for_good() -> None:
    pull = Pull(bind="inproc://here")
    await pull.aclose()
    with pytest.raises((trio.ClosedResourceError, StateError)):
        async with pull:
            raise AssertionError("it was closed")


async def test_a_cancelled_aclose_has_closed(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(60):
        async with Push(connect="inproc://nobody", options=Options(linger=math.inf)) as push:
            await push.send(b"unsent")
            with trio.move_on_after(1) as scope:
                await push.aclose()
            assert scope.cancelled_caught
            with pytest.raises(trio.ClosedResourceError):
                push.send_nowait(b"closed")


async def test_several_tasks_may_close_the_same_socket(autojump_clock: trio.testing.MockClock) -> None:
    async with Push(connect="inproc://nobody", options=Options(linger=1)) as push:
        await push.send(b"unsent")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(push.aclose)


async def test_the_last_event_is_closed_and_the_monitor_ends() -> None:
    async with Push(connect="inproc://nobody", options=Options(linger=0)) as push, push.monitor() as story:
        await push.send_many([b"unsent"] * 2)
        await push.aclose()
        happenings = [event async for event in story]
    assert isinstance(happenings[-1], Closed)
    assert happenings[-1].unsent == 2


async def test_a_bind_that_fails_on_entry_undoes_the_earlier_ones_and_raises_its_own_error() -> None:
    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as owner:
            with every_fd_closed(), pytest.raises(OSError):  # plain: a group of it would not match
                async with Pull(bind=["inproc://first", LOOPBACK, *owner.endpoints]):
                    raise AssertionError("the last bind must fail")
            async with Pull(bind="inproc://first"):
                pass


async def test_entering_in_a_cancelled_scope_leaves_nothing_behind() -> None:
    with every_fd_closed(), trio.CancelScope() as scope:
        scope.cancel()
        async with Pull(bind=LOOPBACK):
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_a_socket_can_be_served_by_a_nursery_instead_of_a_block() -> None:
    pull = Pull(bind="inproc://here")
    async with trio.open_nursery() as nursery:
        await nursery.start(pull.serve)
        async with Push(connect="inproc://here") as push:
            await push.send(b"served")
            assert await pull.receive() == b"served"
        await pull.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await pull.receive()


async def test_a_served_socket_ends_with_its_nursery() -> None:
    with every_fd_closed():
        async with trio.open_nursery() as nursery:
            await nursery.start(Pull(bind=LOOPBACK).serve)
            nursery.cancel_scope.cancel()
