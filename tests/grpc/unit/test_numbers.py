"""How what is published is numbered, and how a gap is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq_grpc._numbers import LAST, Missed, Numbering, Numbers, following, is_before

A, B = b"/t.A", b"/t.B"


def publish(numbering: Numbering, path: bytes, topic: bytes) -> Numbers:
    numbers = numbering.upcoming(path, topic)
    numbering.taken(path, topic, numbers)
    return numbers


def test_types_and_topics_are_counted_from_0_each_by_itself() -> None:
    numbering = Numbering()
    assert [publish(numbering, A, topic) for topic in (b"A.x", b"A.y", b"A.x")] == [(0, 0), (1, 0), (2, 1)]
    assert publish(numbering, B, b"B.x") == (0, 0)


def test_a_message_that_was_not_sent_leaves_no_gap() -> None:
    numbering = Numbering()
    numbering.upcoming(A, b"A.x")
    assert publish(numbering, A, b"A.x") == (0, 0)


def test_only_the_topics_used_last_are_remembered() -> None:
    numbering = Numbering(most_keys=2)
    for topic in (b"1", b"2", b"1", b"3"):
        publish(numbering, A, topic)
    assert numbering.upcoming(A, b"1").of_topic == 2
    assert numbering.upcoming(A, b"2").of_topic == 0
    assert numbering.upcoming(A, b"3").of_topic == 1


def test_0_is_skipped_where_the_numbers_begin_again() -> None:
    assert following(0) == 1
    assert following(LAST) == 1


@pytest.mark.parametrize("restarts", [True, False])
def test_what_is_heard_first_and_what_follows_is_no_gap(restarts: bool) -> None:
    missed = Missed()
    assert [missed.before("a", number, restarts=restarts) for number in (LAST - 1, LAST, 1, 2)] == [0, 0, 0, 0]
    assert missed.before("b", 77, restarts=restarts) == 0
    assert missed.count == 0


def test_a_gap_is_counted_over_the_wrap_too() -> None:
    missed = Missed()
    missed.before("a", 4, restarts=False)
    assert missed.before("a", 8, restarts=False) == 3
    missed.before("b", LAST - 1, restarts=False)
    assert missed.before("b", 2, restarts=False) == 2  # LAST and 1
    assert missed.count == 5


def test_a_repetition_is_no_gap_and_changes_nothing() -> None:
    missed = Missed()
    for number in (0, 1, 2):
        missed.before("a", number, restarts=False)
    assert [missed.before("a", number, restarts=False) for number in (0, 1, 2, 3)] == [0, 0, 0, 0]


def test_a_topic_that_begins_again_is_no_gap_unless_its_beginning_was_missed() -> None:
    missed = Missed()
    missed.before("a", 500, restarts=True)
    assert missed.before("a", 0, restarts=True) == 0
    assert missed.before("a", 1, restarts=True) == 0
    missed.before("b", 500, restarts=True)
    assert missed.before("b", 3, restarts=True) == 3


def test_counters_are_forgotten_when_there_are_too_many() -> None:
    missed = Missed(most=2)
    for counter in "abc":
        missed.before(counter, 0, restarts=False)
    assert missed.before("a", 9, restarts=False) == 0
    assert missed.before("c", 9, restarts=False) == 8


@given(st.integers(0, LAST), st.lists(st.booleans(), max_size=60))
def test_what_is_missed_and_what_is_heard_is_all_there_was(start: int, arrives: list[bool]) -> None:
    missed, number, heard, lost = Missed(), start, 1, 0
    missed.before("a", number, restarts=False)
    pending = 0
    for arrived in arrives:
        number = following(number)
        if arrived:
            assert missed.before("a", number, restarts=False) == pending
            heard, lost, pending = heard + 1, lost + pending, 0
        else:
            pending += 1
    assert missed.count == lost
    assert heard + lost + pending == 1 + len(arrives)


@given(st.integers(0, LAST), st.integers(1, 50))
def test_earlier_numbers_are_before_later_ones(number: int, distance: int) -> None:
    later = number
    for _ in range(distance):
        later = following(later)
    assert is_before(number, later)
    assert not is_before(later, number) or number == 0
    assert not is_before(number, number)
