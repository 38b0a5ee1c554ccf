"""What the sources of a receiver share, and ranges of numbers that cost nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_mq._pgm._allowance import MOST_NUMBERS, Allowance, Turns
from trio_mq._pgm._ranges import Ranges


def test_turns_are_given_so_many_a_second_and_in_order() -> None:
    turns = Turns(100.0, 10)
    given_ = [turns.take(1000.0) for _ in range(50)]
    assert given_[:10] == [1000.0] * 10
    assert None not in given_
    assert sorted(given_) == given_  # type: ignore[type-var]  # none is None, see above
    assert 1000.35 <= (given_[-1] or 0) <= 1000.42


def test_those_who_wait_come_together() -> None:
    turns = Turns(1000.0, 1)
    assert len({turns.take(1000.0) for _ in range(101)}) <= 15


def test_no_turn_is_promised_for_later_than_half_a_second() -> None:
    turns = Turns(100.0, 10)
    assert [turns.take(1000.0) for _ in range(200)].count(None) >= 138
    assert not turns.take_at_once(1000.0)
    assert turns.take_at_once(1001.0)
    assert turns.take(1001.0) == 1001.0


def test_a_pause_saves_up_no_more_than_may_be_taken_at_once() -> None:
    turns = Turns(100.0, 10)
    turns.take(1000.0)
    assert [turns.take(2000.0) for _ in range(20)].count(2000.0) == 11


def test_sources_share_what_may_be_kept_an_account_of() -> None:
    sources: list[int] = []
    allowance = Allowance(sources)
    assert allowance.numbers == MOST_NUMBERS
    sources += range(256)
    assert allowance.numbers == MOST_NUMBERS // 256


@given(st.data())
def test_ranges_are_a_set_of_numbers_of_which_the_smallest_can_be_taken(data: st.DataObject) -> None:
    ranges, numbers, beyond = Ranges(), set[int](), 0
    for _ in range(data.draw(st.integers(0, 20))):
        number = data.draw(st.integers(-2, beyond + 2))
        match data.draw(st.sampled_from(["append", "take", "remove", "remove_before"])):
            case "append":
                first = beyond + data.draw(st.integers(0, 3))
                beyond = first + data.draw(st.integers(1, 30))
                ranges.append(first, beyond - 1, float(first))
                numbers |= set(range(first, beyond))
            case "take" if numbers:
                taken = ranges.take(data.draw(st.integers(1, 10)))
                assert taken[0] == min(numbers)
                assert set(taken) <= numbers
                numbers -= set(taken)
            case "remove":
                assert ranges.remove(number) == (number in numbers)
                numbers.discard(number)
            case "remove_before":
                ranges.remove_before(number)
                numbers = {each for each in numbers if each >= number}
        assert ranges.count == len(numbers)
        assert {each for each in range(-1, beyond + 1) if each in ranges} == numbers
        if numbers:
            assert ranges.first == min(numbers)
            assert ranges.at <= ranges.first
