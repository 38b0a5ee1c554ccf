"""RADIO and DISH: groups are whole names, memberships are counted, and everybody else hears nothing."""

from __future__ import annotations

import pytest

from trio_mq._errors import RemoteProtocolError, StateError
from trio_mq._message import Payload
from trio_mq._patterns import EVERY_GROUP, Dish, Radio
from trio_mq._pipe import Pipe

from ._pipes import Drops, new_pipe, notes


class Stage:
    """A RADIO, with what it is given."""

    def __init__(self, *, block: bool = False) -> None:
        self.drops = Drops()
        self.changes = 0
        self.encoded = 0
        self.radio = Radio(self.drops, self._change, self._encode, block=block)

    def _change(self) -> None:
        self.changes += 1

    def _encode(self, message: Payload) -> bytes:
        self.encoded += 1
        assert isinstance(message, list)
        return b"|".join(message)

    def member(self, *groups: bytes, hwm: int = 10, encoded: bool = False) -> Pipe:
        pipe = new_pipe(hwm=hwm)
        pipe.outbound.encoded = encoded
        self.radio.attached(pipe)
        for group in groups:
            self.radio.subscription(pipe, group, True)
        return pipe


def sent(pipe: Pipe) -> list[object]:
    return pipe.outbound.waiting()


def test_a_group_is_matched_whole() -> None:
    stage = Stage()
    pipe = stage.member(b"ab")
    for group in (b"", b"a", b"abc", b"ab"):
        stage.radio.send([group, b"x"])
    assert sent(pipe) == [[b"ab", b"x"]]


def test_the_empty_group_is_a_group_like_any_other() -> None:
    stage = Stage()
    pipe = stage.member(b"")
    stage.radio.send([b"", b"one"])
    stage.radio.send([b"g", b"two"])
    assert sent(pipe) == [[b"", b"one"]]


def test_who_joined_twice_gets_one_copy_and_must_leave_twice() -> None:
    stage = Stage()
    pipe = stage.member(b"g", b"g")
    stage.radio.send([b"g", b"1"])
    stage.radio.subscription(pipe, b"g", False)
    stage.radio.send([b"g", b"2"])
    stage.radio.subscription(pipe, b"g", False)
    stage.radio.send([b"g", b"3"])
    assert sent(pipe) == [[b"g", b"1"], [b"g", b"2"]]
    assert pipe.subscriptions == set()


def test_leaving_what_was_never_joined_changes_nothing() -> None:
    stage = Stage()
    one, two = stage.member(b"g"), stage.member()
    stage.radio.subscription(two, b"g", False)
    stage.radio.subscription(two, b"h", False)
    stage.radio.send([b"g", b"x"])
    assert (sent(one), sent(two)) == ([[b"g", b"x"]], [])


def test_who_is_a_member_of_every_group_gets_each_message_once() -> None:
    stage = Stage()
    before = stage.member(b"g")
    every = stage.member(EVERY_GROUP, b"g")
    after = stage.member(b"h")
    stage.radio.send([b"g", b"1"])
    stage.radio.send([b"h", b"2"])
    stage.radio.send([b"i", b"3"])
    assert sent(every) == [[b"g", b"1"], [b"h", b"2"], [b"i", b"3"]]
    assert (sent(before), sent(after)) == ([[b"g", b"1"]], [[b"h", b"2"]])
    stage.radio.detached(every)
    stage.radio.send([b"i", b"4"])
    stage.radio.send([b"h", b"5"])
    assert len(sent(every)) == 3
    assert sent(after) == [[b"h", b"2"], [b"h", b"5"]]


@pytest.mark.parametrize("end", ["lost", "detached"])
def test_memberships_end_with_the_connection(end: str) -> None:
    stage = Stage()
    pipe = stage.member(b"g", b"g", b"h")
    changes = stage.changes
    getattr(stage.radio, end)(pipe)
    assert len(stage.radio.table) == 0
    assert stage.changes > changes
    stage.radio.send([b"g", b"x"])
    assert sent(pipe) == []


def test_a_full_member_misses_a_message_and_the_others_do_not() -> None:
    stage = Stage()
    slow, fast = stage.member(b"g", hwm=1), stage.member(b"g")
    stage.radio.send([b"g", b"1"])
    stage.radio.send([b"g", b"2"])
    assert (len(sent(slow)), len(sent(fast))) == (1, 2)
    assert stage.drops.counts == {"hwm": 1}
    assert stage.drops.pipes == [slow]


def test_one_that_blocks_waits_until_every_member_has_room() -> None:
    stage = Stage(block=True)
    slow, fast = stage.member(b"g", hwm=1), stage.member(b"g")
    assert stage.radio.send([b"g", b"1"]) is None
    assert stage.radio.send([b"g", b"2"]) is stage.radio
    assert stage.radio.send([b"h", b"nobody's"]) is None
    slow.outbound.take(1)
    assert stage.radio.send([b"g", b"2"]) is None
    assert sent(fast) == [[b"g", b"1"], [b"g", b"2"]]
    assert stage.drops.counts == {}


def test_a_message_is_encoded_once_for_all() -> None:
    stage = Stage()
    pipes = [stage.member(b"g", encoded=True) for _ in range(3)]
    stage.radio.send([b"g", b"x"])
    assert [sent(pipe) for pipe in pipes] == [[b"g|x"]] * 3
    assert stage.encoded == 1


def test_turns_are_sends() -> None:
    stage = Stage()
    pipe = stage.member(b"g")
    turns = list(stage.radio.turns(3))
    assert len(turns) == 3
    turns[0]([b"g", b"x"])
    assert sent(pipe) == [[b"g", b"x"]]


@pytest.mark.parametrize("message", [b"body", [b"g", b"a", b"b"]])
def test_a_message_without_a_group_or_with_two_bodies_is_refused(message: Payload) -> None:
    stage = Stage()
    with pytest.raises(ValueError, match="two frames"):
        stage.radio.send(message)


def test_what_a_dish_sends_is_counted_and_dropped() -> None:
    stage = Stage()
    pipe = stage.member(b"g")
    assert stage.radio.accept(pipe, [b"x", [b"y", b"z"]]) == []
    assert stage.drops.counts == {"malformed": 2}


def test_members_are_counted_while_they_are_connected() -> None:
    stage = Stage()
    pipe, _ = stage.member(b"g", b"h"), stage.member(b"g")
    assert (stage.radio.member_count(b"g"), stage.radio.member_count(b"h")) == (2, 1)
    assert stage.radio.member_count(None) == 2
    pipe.connection = None
    assert (stage.radio.member_count(b"g"), stage.radio.member_count(None)) == (1, 1)


# ---- DISH


def test_a_dish_tells_its_groups_to_who_comes_and_changes_to_who_is_there() -> None:
    dish = Dish()
    dish.join(b"a")
    pipe = new_pipe()
    dish.attached(pipe)
    dish.ready(pipe)
    dish.join(b"b")
    dish.leave(b"a")
    assert notes(pipe).subscriptions == [(b"a", True), (b"b", True), (b"a", False)]
    dish.detached(pipe)
    dish.join(b"c")
    assert len(notes(pipe).subscriptions) == 3


def test_joining_twice_and_leaving_unjoined_is_a_mistake() -> None:
    dish = Dish()
    dish.join(b"g")
    with pytest.raises(StateError, match="already"):
        dish.join(b"g")
    dish.leave(b"g")
    with pytest.raises(StateError, match="no member"):
        dish.leave(b"g")


def test_a_dish_picks_out_its_groups() -> None:
    dish = Dish()
    dish.join(b"g")
    messages: list[Payload] = [[b"g", b"1"], [b"gg", b"2"], [b"", b"3"], [b"g", b""]]
    assert dish.accept(new_pipe(), messages) == [[b"g", b"1"], [b"g", b""]]


@pytest.mark.parametrize("message", [b"body", [b"g", b"a", b"b"], [b"x" * 256, b""], [b"a\0b", b""]], ids=repr)
def test_a_radio_that_sends_anything_else_breaks_the_rules(message: Payload) -> None:
    dish = Dish()
    dish.join(b"g")
    pipe = new_pipe()
    with pytest.raises(RemoteProtocolError, match="RADIO"):
        dish.accept(pipe, [[b"g", b"fine"], [b"h", b"not ours"], message, [b"g", b"too late"]])
    assert pipe.inbound.waiting() == [[b"g", b"fine"]]
