"""Credit: nobody starves, and nobody yields more often than that takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._core._credit import MOST, SLICE, Credit


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spend(credit: Credit, clock: Clock, operations: int, seconds_each: float) -> None:
    credit.left -= operations
    clock.now += operations * seconds_each


def test_the_clock_is_asked_after_the_first_operation_already() -> None:
    assert Credit(Clock()).left == 1


def test_a_tight_loop_gets_as_much_as_there_is() -> None:
    clock = Clock()
    credit = Credit(clock)
    spend(credit, clock, 1, 0.0)
    assert not credit.used_up()
    assert credit.left == MOST


def test_the_new_credit_is_what_fits_into_a_slice_at_the_rate_just_seen() -> None:
    clock = Clock()
    credit = Credit(clock)
    spend(credit, clock, 1, 0.0)
    credit.used_up()
    spend(credit, clock, MOST, SLICE / 19.5)
    credit.used_up()
    assert credit.left == 19


def test_a_task_that_computes_between_operations_yields_at_each() -> None:
    clock = Clock()
    credit = Credit(clock)
    for _ in range(3):
        spend(credit, clock, 1, 5 * SLICE)
        assert credit.used_up()
        credit.yielded()
        assert credit.left == 1


def test_a_slice_runs_from_the_last_yield_not_from_the_last_look_at_the_clock() -> None:
    clock = Clock()
    credit = Credit(clock)
    asked = []
    for _ in range(3):
        spend(credit, clock, 1, 0.4 * SLICE)
        asked.append(credit.used_up())
    assert asked == [False, False, True]
    credit.yielded()
    spend(credit, clock, 1, 0.9 * SLICE)
    assert not credit.used_up()


def test_time_spent_elsewhere_while_yielding_is_not_held_against_the_task() -> None:
    clock = Clock()
    credit = Credit(clock)
    spend(credit, clock, 1, SLICE)
    assert credit.used_up()
    clock.now += 100.0
    credit.yielded()
    spend(credit, clock, 1, SLICE / 10.5)
    assert not credit.used_up()
    assert credit.left == 10


def test_a_costly_operation_counts_as_many() -> None:
    clock = Clock()
    credit = Credit(clock)
    credit.left -= 20  # one message of 76 KiB, with credit for one
    clock.now += SLICE / 2.01
    credit.used_up()
    assert credit.left == 40


def test_yielding_leaves_credit_for_one_at_least() -> None:
    credit = Credit(Clock())
    credit.left = -5
    credit.yielded()
    assert credit.left == 1
    credit.left = 30
    credit.yielded()
    assert credit.left == 30


def run(durations: list[float]) -> list[float]:
    """A loop of operations as sockets do them; the time between its yields."""
    clock = Clock()
    credit = Credit(clock)
    gaps, since = [], clock.now
    for seconds in durations:
        if credit.left <= 0 and credit.used_up():
            gaps.append(clock.now - since)
            since = clock.now
            credit.yielded()
        spend(credit, clock, 1, seconds)
    return [*gaps, clock.now - since]


@given(seconds=st.floats(1e-7, 1e-2), operations=st.integers(1, 2000))
def test_a_steady_loop_yields_within_two_slices(seconds: float, operations: int) -> None:
    assert max(run([seconds] * operations)) <= 2 * SLICE + 2 * seconds + 1e-9


@pytest.mark.parametrize("slow", [1e-3, 1.0])
def test_a_fast_loop_that_turns_slow_is_late_once_and_then_yields_at_each(slow: float) -> None:
    gaps = run([1e-7] * 1000 + [slow] * 200)
    late = [gap for gap in gaps if gap > 1.5 * slow]
    assert len(late) == 1
    assert late[0] <= (MOST + 1) * slow
    assert len(gaps) >= 200 - MOST


def test_a_tight_loop_seldom_yields() -> None:
    assert len(run([1e-6] * 10_000)) <= 10_000 * 1e-6 / SLICE + 1
