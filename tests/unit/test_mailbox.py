"""Mailboxes: a bounded queue that speaks up at its edges only, and whose long form differs in nothing but speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import _mailbox
from trio_mq._mailbox import (
    UNBOUNDED,
    Mailbox,
    NewestMailbox,
    WeighedMailbox,
    combined_bytes,
    combined_mark,
    new_mailbox,
)


class Told:
    """Counts what a mailbox said."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.said: list[str] = []
        for hook in ("on_item", "on_full", "on_room", "on_fewer", "on_sleep"):
            setattr(mailbox, hook, lambda hook=hook: self.said.append(hook))

    def take(self) -> list[str]:
        said, self.said = self.said, []
        return said


# --- the edges -------------------------------------------------------------------------------------------------------


def test_only_the_first_item_after_a_sleep_is_told() -> None:
    mailbox = Mailbox(10)
    told = Told(mailbox)
    assert mailbox.put(b"1")
    assert mailbox.put(b"2")
    assert told.take() == ["on_item"]
    assert mailbox.take(10) == [b"1", b"2"]
    mailbox.put(b"3")
    assert told.take() == [], "its reader has not stopped looking"
    mailbox.take(10)
    mailbox.sleep()
    mailbox.put(b"4")
    assert told.take() == ["on_sleep", "on_item"]


def test_many_items_at_once_are_told_once_and_none_not_at_all() -> None:
    mailbox = Mailbox(10)
    told = Told(mailbox)
    mailbox.put_all([])
    assert told.take() == []
    assert mailbox.asleep
    mailbox.put_all([b"1", b"2"])
    assert told.take() == ["on_item"]


def test_a_full_mailbox_refuses_and_asks_its_reader_first() -> None:
    mailbox = Mailbox(1)
    told = Told(mailbox)
    mailbox.put(b"1")
    told.take()
    assert not mailbox.put(b"2")
    assert mailbox.full
    assert told.take() == ["on_full"]
    assert mailbox.waiting() == [b"1"]


def test_a_reader_that_makes_room_on_the_spot_keeps_the_mailbox_from_being_full() -> None:
    mailbox = Mailbox(1)
    mailbox.put(b"1")
    mailbox.on_full = lambda: mailbox.take(1).clear()
    assert mailbox.put(b"2")
    assert not mailbox.full
    assert mailbox.has_room()
    assert mailbox.waiting() == []


def test_asking_for_room_in_vain_is_as_good_as_a_refused_put() -> None:
    mailbox = Mailbox(2)
    mailbox.put_all([b"1", b"2"])
    assert not mailbox.has_room()
    told = Told(mailbox)
    mailbox.take(1)
    assert told.take() == ["on_room"]


def test_room_is_told_once_at_half_of_the_mark_and_only_to_who_was_refused() -> None:
    mailbox = Mailbox(4)
    told = Told(mailbox)
    mailbox.put_all([b"1", b"2", b"3", b"4"])
    mailbox.put(b"5")
    told.take()
    mailbox.take(1)
    assert told.take() == [], "one of four is less than half"
    mailbox.take(1)
    assert told.take() == ["on_room"]
    assert not mailbox.full
    mailbox.take(1)
    assert told.take() == [], "nobody waits any more"


def test_who_watches_hears_of_the_next_batch_that_goes() -> None:
    mailbox = Mailbox(5)
    told = Told(mailbox)
    mailbox.put_all([b"1", b"2", b"3", b"4"])
    told.take()
    mailbox.take(1)
    assert told.take() == [], "nobody watches"
    mailbox.watched = True
    mailbox.take(1)
    mailbox.take(1)
    assert told.take() == ["on_fewer"]
    mailbox.watched = True
    mailbox.hold(1)
    assert told.take() == [], "held is not gone"
    mailbox.release()
    assert told.take() == ["on_fewer"]


def test_held_items_count_against_the_mark_until_they_are_released() -> None:
    mailbox = Mailbox(2)
    mailbox.put_all([b"1", b"2"])
    told = Told(mailbox)
    assert mailbox.hold(2) == [b"1", b"2"]
    assert len(mailbox) == 2
    assert not mailbox.put(b"3")
    mailbox.release()
    assert len(mailbox) == 0
    assert told.take() == ["on_full", "on_room"]
    assert mailbox.put(b"3")


def test_what_is_restored_comes_first_and_the_rest_has_passed() -> None:
    mailbox = Mailbox(10)
    mailbox.put_all([b"1", b"2", b"3", b"4"])
    mailbox.hold(3)
    mailbox.restore([b"2", b"3"])
    assert mailbox.waiting() == [b"2", b"3", b"4"]
    assert mailbox.passed == 1
    assert mailbox.held == 0


def test_a_batch_too_large_is_cut_back_in_order() -> None:
    mailbox = Mailbox(10)
    mailbox.put_all([b"1", b"2", b"3", b"4"])
    batch = mailbox.hold(3)
    assert mailbox.keep(1) == [b"1"]
    assert batch is mailbox.batch
    assert mailbox.waiting() == [b"2", b"3", b"4"]
    assert len(mailbox) == 4


def test_only_this_very_object_is_taken_back() -> None:
    mailbox = Mailbox(10)
    one, twin = [b"same"], [b"same"]
    mailbox.put_all([one, twin])
    assert mailbox.remove(twin)
    assert mailbox.waiting()[0] is one
    assert not mailbox.remove(twin)
    mailbox.hold(1)
    assert not mailbox.remove(one), "what is being written cannot be taken back"


def test_taking_back_makes_room() -> None:
    mailbox = Mailbox(1)
    item = [b"1"]
    mailbox.put(item)
    mailbox.put(b"2")
    told = Told(mailbox)
    mailbox.remove(item)
    assert told.take() == ["on_room"]


def test_a_higher_mark_is_room_and_a_lower_one_loses_nothing() -> None:
    mailbox = Mailbox(2)
    mailbox.put_all([b"1", b"2"])
    mailbox.put(b"3")
    told = Told(mailbox)
    mailbox.set_mark(1)
    assert told.take() == []
    assert mailbox.room() == -1
    mailbox.set_mark(None)
    assert told.take() == ["on_room"]
    assert mailbox.hwm == UNBOUNDED
    assert mailbox.waiting() == [b"1", b"2"]


def test_what_is_taken_is_refined_and_counted_as_it_was() -> None:
    mailbox = Mailbox(10)
    mailbox.refine = lambda messages: messages[1:]
    mailbox.put_all([b"1", b"2"])
    assert mailbox.take(2) == [b"2"]
    assert mailbox.passed == 2


def test_its_size_is_all_bytes_that_wait_or_are_held() -> None:
    mailbox = Mailbox(10)
    mailbox.put_all([b"12", [b"3", b"45"], b"678"])
    mailbox.hold(1)
    assert mailbox.size() == 8


def test_its_repr_shows_what_waits() -> None:
    mailbox = Mailbox(3)
    mailbox.put_all([b"1", b"2"])
    mailbox.hold(1)
    assert repr(mailbox) == "<Mailbox: 1 waiting, 1 held, mark 3>"
    assert "no mark" in repr(Mailbox(None))


# --- against a list --------------------------------------------------------------------------------------------------

counts = st.integers(1, 7)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), counts),
        st.tuples(st.just("put_all"), counts),
        st.tuples(st.just("turn"), counts),
        st.tuples(st.just("take"), counts),
        st.tuples(st.just("take_and_put_back"), counts),
        st.tuples(st.just("hold"), counts),
        st.tuples(st.just("keep"), counts),
        st.tuples(st.just("release"), st.just(0)),
        st.tuples(st.just("restore"), st.integers(0, 7)),
        st.tuples(st.just("remove"), counts),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=60,
)


class Model:
    """A mailbox beside two plain lists that say what should be in it."""

    def __init__(self, mailbox: Mailbox, weigh: Callable[[int], int] = lambda _: 0) -> None:
        self.mailbox = mailbox
        self.waiting: list[Any] = []
        self.held: list[Any] = []
        self.passed = 0
        self._made = 0
        self._weigh = weigh

    def new(self) -> list[bytes]:
        self._made += 1
        return [b"%d" % self._made, bytes(self._weigh(self._made))]

    def put(self, count: int) -> None:
        for _ in range(count):
            item, room = self.new(), self.mailbox.room()
            assert self.mailbox.put(item) == (room > 0)
            if room > 0:
                self.waiting.append(item)

    def put_all(self, count: int) -> None:
        items = [self.new() for _ in range(count)]
        self.mailbox.put_all(list(items))
        self.waiting += items

    def turn(self, count: int) -> None:
        if not self.mailbox.asleep and self.mailbox.deals:
            for _ in range(min(count, self.mailbox.room())):
                item = self.new()
                self.mailbox.items.append(item)
                self.waiting.append(item)

    def _head(self, batch: list[Any], limit: int) -> None:
        """Check *batch*, which was cut off: some of what waits, from the front, and something if there is any."""
        assert bool(batch) == bool(self.waiting)
        assert len(batch) <= limit
        assert batch == self.waiting[: len(batch)]
        del self.waiting[: len(batch)]

    def take(self, count: int) -> None:
        batch = self.mailbox.take(count)
        self._head(batch, count)
        self.passed += len(batch)
        if not self.mailbox.items:
            self.mailbox.sleep()

    def take_and_put_back(self, count: int) -> None:
        batch = self.mailbox.take(count)
        self._head(batch, count)
        self.passed += len(batch)
        self.mailbox.put_back(list(batch))
        self.waiting[:0] = batch

    def hold(self, count: int) -> None:
        if not self.held:
            batch = list(self.mailbox.hold(count))
            self._head(batch, count)
            self.held = batch

    def keep(self, count: int) -> None:
        if self.held:
            self.waiting[:0] = self.held[count:]
            del self.held[count:]
            assert self.mailbox.keep(count) == self.held

    def release(self, _: int) -> None:
        self.mailbox.release()
        self.passed += len(self.held)
        self.held = []

    def restore(self, count: int) -> None:
        unsent = self.held[len(self.held) - min(count, len(self.held)) :]
        self.passed += len(self.held) - len(unsent)
        self.waiting[:0] = unsent
        self.held = []
        self.mailbox.restore(list(unsent))

    def remove(self, count: int) -> None:
        known = [*self.waiting, *self.held]
        if known:
            item = known[(count - 1) * 3 % len(known)]
            waits = any(other is item for other in self.waiting)
            assert self.mailbox.remove(item) == waits
            self.waiting = [other for other in self.waiting if other is not item]

    def clear(self, _: int) -> None:
        assert self.mailbox.clear() == self.waiting
        self.waiting = []

    def check(self) -> None:
        mailbox = self.mailbox
        assert mailbox.waiting() == self.waiting
        assert mailbox.batch == self.held
        assert len(mailbox) == len(self.waiting) + len(self.held)
        assert bool(mailbox.items) == bool(self.waiting), "`items` alone says whether something waits"
        assert mailbox.passed == self.passed
        assert mailbox.size() == sum(len(frame) for item in [*self.waiting, *self.held] for frame in item)
        if self.waiting:
            assert mailbox.first() is self.waiting[0]

    def run(self, operations: list[tuple[str, int]], *also: Callable[[], None]) -> None:
        for name, count in operations:
            getattr(self, name)(count)
            self.check()
            for check in also:
                check()


@pytest.mark.parametrize("long", [1, 2, 5, 8192])
@given(hwm=st.sampled_from([1, 3, 10, None]), operations=operations)
def test_a_mailbox_long_or_short_is_a_list(long: int, hwm: int | None, operations: list[tuple[str, int]]) -> None:
    model = Model(Mailbox(hwm))

    def room_is_what_the_mark_leaves() -> None:
        if hwm is not None:
            assert model.mailbox.room() == hwm - len(model.waiting) - len(model.held)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mailbox, "LONG", long)
        model.run(operations, room_is_what_the_mark_leaves)


@given(operations=operations)
def test_nobody_who_was_refused_is_forgotten_once_all_has_been_read(operations: list[tuple[str, int]]) -> None:
    model = Model(Mailbox(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mailbox, "LONG", 1)
        model.run([step for step in operations if step[0] not in ("clear", "restore")])
        model.release(0)
        while model.mailbox.take(1):
            pass
    assert not model.mailbox.full


def test_a_long_queue_is_read_without_moving_its_tail_each_time() -> None:
    mailbox = Mailbox(None)
    mailbox.put_all([b"%d" % number for number in range(_mailbox.LONG + 2)])
    assert mailbox.take(1) == [b"0"]
    tail = list(mailbox.items)
    assert mailbox.take(100) == [b"%d" % number for number in range(1, 101)]
    assert mailbox.items == tail


# --- marks in bytes --------------------------------------------------------------------------------------------------


def test_below_its_mark_in_bytes_one_more_message_of_any_size_is_taken() -> None:
    mailbox = WeighedMailbox(10, 100)
    assert mailbox.put(bytes(99))
    assert mailbox.put(bytes(1000))
    assert not mailbox.put(b"")
    assert mailbox.full


def test_messages_that_cannot_reach_the_mark_in_bytes_are_taken_all_at_once() -> None:
    mailbox = WeighedMailbox(10, 100)
    mailbox.put(b"x" * 40)
    assert mailbox.room_for(59) == 9
    assert mailbox.room_for(60) == 1  # the first of them may take it to the mark


def test_a_mark_in_messages_holds_beside_the_one_in_bytes() -> None:
    mailbox = WeighedMailbox(1, 100)
    assert mailbox.put(b"1")
    assert not mailbox.put(b"2")


def test_room_in_bytes_is_told_when_half_of_them_have_gone() -> None:
    mailbox = WeighedMailbox(None, 100)
    mailbox.put_all([bytes(30), bytes(30), bytes(40)])
    mailbox.put(b"")
    told = Told(mailbox)
    mailbox.take(1)
    assert told.take() == []
    mailbox.take(1)
    assert told.take() == ["on_room"]


def test_what_the_kernel_has_taken_weighs_nothing() -> None:
    mailbox = WeighedMailbox(None, 100)
    mailbox.put(bytes(100))
    assert not mailbox.put(b"next")
    told = Told(mailbox)
    mailbox.hold(1)
    assert told.take() == []
    mailbox.release()
    assert mailbox.weight == 0
    assert told.take() == ["on_room"]


def test_a_cut_back_batch_weighs_as_before() -> None:
    mailbox = WeighedMailbox(None, 100)
    mailbox.put_all([bytes(30), bytes(30)])
    mailbox.hold(2)
    mailbox.keep(1)
    assert mailbox.weight == 60
    mailbox.restore([bytes(30)])
    assert mailbox.weight == 60


@given(operations=operations)
def test_a_weighed_mailbox_weighs_what_is_in_it(operations: list[tuple[str, int]]) -> None:
    mailbox = WeighedMailbox(10, 40)
    model = Model(mailbox, lambda number: number % 17)

    def its_weight_is_right() -> None:
        assert mailbox.weight == mailbox.size()
        assert (mailbox.room() > 0) == (mailbox.weight < 40 and len(mailbox) < 10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mailbox, "LONG", 2)
        model.run(operations, its_weight_is_right)


def test_turns_are_not_dealt_on_a_mailbox_that_must_weigh_or_replace() -> None:
    assert Mailbox.deals
    assert not WeighedMailbox.deals
    assert not NewestMailbox.deals


# --- the newest alone ------------------------------------------------------------------------------------------------


def test_only_the_newest_message_is_kept() -> None:
    mailbox = NewestMailbox(None)
    told = Told(mailbox)
    assert mailbox.put(b"1")
    assert mailbox.put(b"2")
    mailbox.put_all([b"3", b"4"])
    assert mailbox.waiting() == [b"4"]
    assert mailbox.room() == UNBOUNDED
    assert told.take() == ["on_item"]


def test_what_was_not_sent_gives_way_to_what_is_newer() -> None:
    mailbox = NewestMailbox(None)
    mailbox.put(b"1")
    mailbox.hold(1)
    mailbox.put(b"2")
    mailbox.restore([b"1"])
    assert mailbox.waiting() == [b"2"]
    mailbox.hold(1)
    mailbox.restore([b"2"])
    assert mailbox.waiting() == [b"2"]


# --- which one -------------------------------------------------------------------------------------------------------


def test_the_options_decide_which_mailbox_it_is() -> None:
    assert type(new_mailbox(5)) is Mailbox
    assert new_mailbox(5).hwm == 5
    assert new_mailbox(None).hwm == UNBOUNDED
    assert type(new_mailbox(5, 100)) is WeighedMailbox
    assert type(new_mailbox(5, 100, conflate=True)) is NewestMailbox


def test_a_queue_of_two_sockets_has_both_marks_together() -> None:
    assert combined_mark(3, 4) == 7
    assert combined_mark(3, None) is None, "an end without a mark takes anything"
    assert combined_bytes(3, 4) == 7
    assert combined_bytes(3, None) == 3
    assert combined_bytes(None, None) is None
