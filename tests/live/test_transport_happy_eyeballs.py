"""The race between the addresses of one host, on a clock of our own."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from trio_mq._transports._addresses import SocketAddress
from trio_mq._transports._happy_eyeballs import DELAY, alternate, race

V4 = [SocketAddress(socket.AF_INET, (f"192.0.2.{number}", 5555)) for number in range(1, 4)]
V6 = [SocketAddress(socket.AF_INET6, (f"2001:db8::{number}", 5555, 0, 0)) for number in range(1, 4)]


class Attempts:
    """Attempts that take a given time and then succeed, or fail with a given error; and what became of them."""

    def __init__(self, fates: dict[SocketAddress, tuple[float, OSError | None]]) -> None:
        self.fates = fates
        self.started: list[tuple[float, SocketAddress]] = []
        self.cancelled: list[SocketAddress] = []
        self.opened: dict[SocketAddress, socket.socket] = {}

    async def __call__(self, address: SocketAddress) -> socket.socket:
        self.started.append((trio.current_time(), address))
        seconds, error = self.fates[address]
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.cancelled.append(address)
            raise
        if error is not None:
            raise error
        self.opened[address] = socket.socket()
        return self.opened[address]


async def test_one_address_is_simply_tried(autojump_clock: trio.testing.MockClock) -> None:
    attempts = Attempts({V4[0]: (3.0, ConnectionRefusedError(111, "refused"))})
    with pytest.raises(ConnectionRefusedError):
        await race(V4[:1], attempts)
    assert trio.current_time() == 3.0


async def test_the_next_address_is_tried_when_one_has_failed(autojump_clock: trio.testing.MockClock) -> None:
    attempts = Attempts({V6[0]: (0.1, OSError(101, "unreachable")), V4[0]: (0.1, None)})
    with await race([V6[0], V4[0]], attempts) as sock:
        assert sock is attempts.opened[V4[0]]
    assert attempts.started == [(0.0, V6[0]), (0.1, V4[0])]


async def test_the_next_address_is_tried_when_one_takes_too_long(autojump_clock: trio.testing.MockClock) -> None:
    attempts = Attempts({V6[0]: (100.0, None), V4[0]: (0.1, None)})
    with await race([V6[0], V4[0]], attempts) as sock:
        assert sock is attempts.opened[V4[0]]
    assert attempts.started == [(0.0, V6[0]), (DELAY, V4[0])]
    assert attempts.cancelled == [V6[0]]
    assert trio.current_time() == DELAY + 0.1


async def test_a_slow_attempt_may_still_win(autojump_clock: trio.testing.MockClock) -> None:
    attempts = Attempts({V6[0]: (0.3, None), V4[0]: (0.02, OSError(111, "refused")), V4[1]: (100.0, None)})
    with await race([V6[0], V4[0], V4[1]], attempts) as sock:
        assert sock is attempts.opened[V6[0]]
    assert [address for _, address in attempts.started] == [V6[0], V4[0], V4[1]]
    assert attempts.cancelled == [V4[1]]


async def test_two_that_succeed_at_the_same_instant_leave_one_socket_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    both = trio.Event()
    opened: list[socket.socket] = []

    async def attempt(address: SocketAddress) -> socket.socket:
        await both.wait()
        opened.append(socket.socket())
        return opened[-1]

    async def let_both_succeed() -> None:
        await trio.sleep(1)
        both.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_both_succeed)
        with await race([V6[0], V4[0]], attempt) as winner:
            assert len(opened) == 2
            assert [sock for sock in opened if sock.fileno() >= 0] == [winner]


async def test_when_all_fail_the_error_says_why_each_did(autojump_clock: trio.testing.MockClock) -> None:
    attempts = Attempts({V6[0]: (0.1, OSError(101, "Network is unreachable")), V4[0]: (0.1, OSError(111, "refused"))})
    with pytest.raises(OSError, match=r"none of 2 addresses.*Network is unreachable; refused") as caught:
        await race([V6[0], V4[0]], attempts)
    assert caught.value.errno == 101


@pytest.mark.parametrize("when", [0.1, DELAY + 0.05])
async def test_a_cancelled_race_leaves_nothing_running_or_open(
    when: float, autojump_clock: trio.testing.MockClock
) -> None:
    attempts = Attempts({V6[0]: (100.0, None), V4[0]: (100.0, None)})
    with trio.move_on_after(when) as scope:
        await race([V6[0], V4[0]], attempts)
    assert scope.cancelled_caught
    assert attempts.cancelled
    assert len(attempts.cancelled) == len(attempts.started)
    assert not attempts.opened


async def test_a_race_won_in_the_instant_of_its_cancellation_closes_the_winner(
    autojump_clock: trio.testing.MockClock,
) -> None:
    opened: list[socket.socket] = []

    async def attempt(address: SocketAddress) -> socket.socket:
        if address == V6[0]:
            await trio.sleep(1)
            scope.cancel()
            opened.append(socket.socket())
            return opened[-1]
        with trio.CancelScope(shield=True):  # keeps the race going until the cancellation has arrived
            await trio.sleep(2)
        await trio.lowlevel.checkpoint()
        raise AssertionError("cancelled before")

    with trio.CancelScope() as scope:
        await race([V6[0], V4[0]], attempt)
    assert scope.cancelled_caught
    assert [sock.fileno() for sock in opened] == [-1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([V6[0], V6[1], V4[0], V4[1]], [V6[0], V4[0], V6[1], V4[1]]),
        ([V4[0], V6[0]], [V4[0], V6[0]]),
        ([V4[0], V4[1]], [V4[0], V4[1]]),
        ([], []),
    ],
)
def test_the_second_address_tried_is_of_the_other_family(
    given: list[SocketAddress], expected: list[SocketAddress]
) -> None:
    assert alternate(given) == expected


async def test_an_error_of_our_own_is_not_taken_for_a_failed_attempt() -> None:
    async def attempt(address: SocketAddress) -> socket.socket:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    crashes = 0
    try:
        await race(V4, attempt)
    except* ZeroDivisionError as group:
        crashes = len(group.exceptions)
    assert crashes == 1  # and that one ended the race
