"""Back-off: longer and longer up to a limit, never two at the same moment, and from the start after traffic."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._core._connecter import LEAST_WAIT, Backoff


def longest(_: float, length: float) -> float:
    """The worst that jitter can do."""
    return length


def test_the_wait_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(0.1, 1.0, longest)
    assert [backoff.next() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_attempts_count_from_one_and_from_one_again_after_traffic() -> None:
    backoff = Backoff(0.1, 1.0, longest)
    backoff.next()
    assert backoff.attempt == 1
    backoff.next()
    assert backoff.attempt == 2
    backoff.reset()
    assert backoff.next() == 0.1
    assert backoff.attempt == 1


def test_jitter_is_over_the_full_length() -> None:
    asked: list[tuple[float, float]] = []

    def note(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    backoff = Backoff(0.1, 1.0, note)
    assert backoff.next() == LEAST_WAIT, "but no loop without any pause"
    backoff.next()
    assert asked == [(0.0, 0.1), (0.0, 0.2)]


def test_a_maximum_below_the_first_wait_does_not_shorten_it() -> None:
    backoff = Backoff(2.0, 1.0, longest)
    assert [backoff.next() for _ in range(3)] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("attempts", [1100])
def test_however_long_it_goes_on_it_does_not_overflow(attempts: int) -> None:
    backoff = Backoff(0.1, 5.0, longest)
    for _ in range(attempts):
        assert backoff.next() <= 5.0
    assert backoff.attempt == attempts


@given(first=st.floats(0, 100), maximum=st.floats(0, 1000), seed=st.integers(), attempts=st.integers(1, 40))
def test_every_wait_lies_within_its_bounds(first: float, maximum: float, seed: int, attempts: int) -> None:
    backoff = Backoff(first, maximum, random.Random(seed).uniform)
    for attempt in range(attempts):
        length = min(max(first, maximum), first * 2.0**attempt)
        wait = backoff.next()
        assert LEAST_WAIT <= wait <= max(LEAST_WAIT, length)
        assert math.isfinite(wait)
