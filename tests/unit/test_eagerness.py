"""Eagerness: looking goes on where it helps, and ends where it does not."""

from __future__ import annotations

from trio_mq._core._eagerness import LOOKS, PATIENCE, TRIAL_EVERY, Eagerness


def waits(eagerness: Eagerness, *found: bool) -> list[int]:
    """Wait once for each of *found*, which says whether looking would have helped; the looks of each wait."""
    looks = []
    for helped in found:
        count = eagerness.looks()
        looks.append(count)
        if count:
            eagerness.looked(helped)
    return looks


def test_switched_off_it_never_looks() -> None:
    eagerness = Eagerness(on=False)
    assert waits(eagerness, *[True] * (2 * TRIAL_EVERY)) == [0] * (2 * TRIAL_EVERY)


def test_the_first_wait_is_worth_a_try_and_no_more_without_success() -> None:
    assert waits(Eagerness(on=True), False, False) == [LOOKS, 0]


def test_it_looks_as_long_as_that_helps() -> None:
    assert waits(Eagerness(on=True), *[True] * 100) == [LOOKS] * 100


def test_some_misses_in_a_row_end_it() -> None:
    eagerness = Eagerness(on=True)
    assert waits(eagerness, True, *[False] * PATIENCE, False) == [LOOKS] * (PATIENCE + 1) + [0]


def test_misses_between_successes_do_not_add_up() -> None:
    assert 0 not in waits(Eagerness(on=True), True, *[False, False, True] * 20)


def test_now_and_then_one_wait_tries_again() -> None:
    eagerness = Eagerness(on=True)
    waits(eagerness, False)
    looks = waits(eagerness, *[False] * (2 * TRIAL_EVERY))
    assert [at for at, count in enumerate(looks, 1) if count] == [TRIAL_EVERY, 2 * TRIAL_EVERY]


def test_a_trial_that_helps_brings_it_back() -> None:
    eagerness = Eagerness(on=True)
    waits(eagerness, *[False] * TRIAL_EVERY)
    assert waits(eagerness, True, *[False] * PATIENCE, False) == [LOOKS] * (PATIENCE + 1) + [0]
