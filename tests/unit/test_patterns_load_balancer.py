"""Load balancing: strict rotation over whoever has room, whether messages go one by one or by turns dealt ahead."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import islice
from operator import length_hint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import _mailbox
from trio_mq._mailbox import WeighedMailbox
from trio_mq._patterns import Push
from trio_mq._patterns._face import Turns
from trio_mq._patterns._load_balancer import LoadBalancer
from trio_mq._pipe import Pipe

from ._pipes import Drops, new_pipe


def balancer_of(*pipes: Pipe) -> LoadBalancer:
    """A load balancer over *pipes*, to which each returns when it has room again."""
    balancer = LoadBalancer()
    for pipe in pipes:
        balancer.add(pipe)
        pipe.outbound.on_room = partial(balancer.add, pipe)
    return balancer


def queued(*pipes: Pipe) -> list[list[Any]]:
    return [pipe.outbound.waiting() for pipe in pipes]


def use(turns: Turns, *messages: bytes) -> int:
    """Send *messages* by *turns*; how many turns are left."""
    for message, turn in zip(messages, turns, strict=False):
        turn(message)
    return length_hint(turns)


def test_each_peer_gets_one_message_a_turn() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    balancer = balancer_of(a, b)
    for number in b"12345":
        assert balancer.send(b"%d" % (number - 48))
    assert queued(a, b) == [[b"1", b"3", b"5"], [b"2", b"4"]]


def test_a_full_peer_is_skipped_until_it_has_room() -> None:
    a, b = new_pipe("a", hwm=1), new_pipe("b", hwm=4)
    balancer = balancer_of(a, b)
    for number in range(4):
        assert balancer.send(b"%d" % number)
    assert queued(a, b) == [[b"0"], [b"1", b"2", b"3"]]
    assert not a.writable
    a.outbound.take(1)
    assert a.writable
    assert balancer.send(b"4")
    assert balancer.send(b"5")
    assert queued(a, b) == [[b"5"], [b"1", b"2", b"3", b"4"]]


def test_with_everybody_full_nothing_is_queued() -> None:
    pipe = new_pipe(hwm=1)
    balancer = balancer_of(pipe)
    assert balancer.send(b"1")
    assert not balancer.send(b"2")
    assert not balancer.can_send()
    assert queued(pipe) == [[b"1"]]


def test_without_peers_nothing_can_be_sent() -> None:
    balancer = LoadBalancer()
    assert not balancer.send(b"1")
    assert not balancer.can_send()
    assert balancer.next() is None
    assert length_hint(balancer.turns(10)) == 0


def test_asking_who_is_next_moves_nobody_until_it_is_used() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    balancer = balancer_of(a, b)
    assert balancer.next() is a
    assert balancer.can_send()
    assert balancer.next() is a
    balancer.advance()
    assert balancer.next() is b


def test_a_peer_that_left_gets_nothing() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    balancer = balancer_of(a, b)
    balancer.remove(a)
    balancer.remove(a)
    balancer.send(b"1")
    balancer.send(b"2")
    assert queued(a, b) == [[], [b"1", b"2"]]


def test_turns_may_be_revoked_when_nobody_is_left() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    balancer = balancer_of(a, b)
    a.outbound.asleep = b.outbound.asleep = False
    left = use(balancer.turns(4), b"1")
    assert left
    balancer.remove(a)
    balancer.remove(b)
    balancer.revoke(left)
    assert not balancer.send(b"2")


def test_a_peer_has_one_place_in_the_rotation() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    balancer = balancer_of(a, b)
    balancer.add(a)
    for _ in range(4):
        balancer.send(b"x")
    assert queued(a, b) == [[b"x", b"x"], [b"x", b"x"]]


def test_a_reader_that_sends_while_it_is_woken_does_not_take_anybodys_turn() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    balancer = balancer_of(a, b)

    def send_more() -> None:
        balancer.send(b"from within")

    a.outbound.on_item = send_more
    balancer.send(b"1")
    balancer.send(b"2")
    assert queued(a, b) == [[b"1", b"2"], [b"from within"]]


# --- turns -----------------------------------------------------------------------------------------------------------


def test_turns_go_on_with_the_rotation_and_so_does_what_follows() -> None:
    pipes = [new_pipe(name, awake=True) for name in "abc"]
    balancer = balancer_of(*pipes)
    balancer.send(b"0")
    left = use(balancer.turns(30), b"1", b"2", b"3", b"4")
    balancer.revoke(left)
    balancer.send(b"5")
    assert queued(*pipes) == [[b"0", b"3"], [b"1", b"4"], [b"2", b"5"]]


def test_no_turns_where_somebody_must_be_woken() -> None:
    a, b = new_pipe("a", awake=True), new_pipe("b", awake=False)
    assert length_hint(balancer_of(a, b).turns(10)) == 0
    assert length_hint(balancer_of(new_pipe(awake=False)).turns(10)) == 0


def test_no_turns_on_mailboxes_that_must_be_asked_each_time() -> None:
    a, b = new_pipe("a", awake=True), new_pipe("b", awake=True)
    b.outbound = WeighedMailbox(10, 1000)
    b.outbound.asleep = False
    assert length_hint(balancer_of(a, b).turns(10)) == 0
    assert length_hint(balancer_of(b).turns(10)) == 0


def test_no_turns_for_a_crowd() -> None:
    balancer = balancer_of(*[new_pipe(str(number), awake=True) for number in range(64)])
    assert length_hint(balancer.turns(64)) >= 64
    balancer.add(new_pipe("one too many", awake=True))
    assert length_hint(balancer.turns(64)) == 0


@pytest.mark.parametrize("others", [0, 1])
def test_turns_end_where_a_mark_is_reached(others: int) -> None:
    tight = new_pipe(hwm=3, awake=True)
    pipes = [tight, *[new_pipe(hwm=100, awake=True) for _ in range(others)]]
    balancer = balancer_of(*pipes)
    assert length_hint(balancer.turns(50)) == 3 * len(pipes)
    tight.outbound.put_all([b"1", b"2", b"3"])
    assert length_hint(balancer.turns(50)) == 0
    tight.outbound.set_mark(2)
    assert length_hint(balancer.turns(50)) == 0


def test_turns_are_as_many_as_asked_for_rounded_up_to_whole_rounds() -> None:
    assert length_hint(balancer_of(new_pipe(hwm=None, awake=True)).turns(7)) == 7
    balancer = balancer_of(*[new_pipe(hwm=None, awake=True) for _ in range(3)])
    dealt = length_hint(balancer.turns(7))
    assert 7 <= dealt <= 7 + 3
    assert dealt % 3 == 0


class Rotation:
    """The same one message at a time, on plain numbers."""

    def __init__(self, rooms: list[int]) -> None:
        self.order = deque(range(len(rooms)))
        self.rooms = rooms

    def send(self) -> int | None:
        while self.order:
            peer = self.order[0]
            if self.rooms[peer] > 0:
                self.rooms[peer] -= 1
                self.order.rotate(-1)
                return peer
            self.order.popleft()
        return None

    def join(self, peer: int) -> None:
        if peer not in self.order:
            self.order.append(peer)

    def leave(self, peer: int) -> None:
        if peer in self.order:
            self.order.remove(peer)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("deal"), st.integers(1, 20), st.integers(0, 25)),
        st.tuples(st.just("read"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("sleep"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("join"), st.integers(0, 3), st.just(0)),
    ),
    max_size=50,
)


class Play:
    """A load balancer and its model, played side by side."""

    def __init__(self, marks: list[int]) -> None:
        self.pipes = [new_pipe(str(number), hwm=mark, awake=True) for number, mark in enumerate(marks)]
        self.balancer = LoadBalancer()
        self.model = Rotation(list(marks))
        self.expected: list[list[int]] = [[] for _ in marks]
        self.count = 0
        self.gone: set[int] = set()
        for peer, pipe in enumerate(self.pipes):
            self.balancer.add(pipe)
            pipe.outbound.on_room = partial(self.has_room, peer)

    def has_room(self, peer: int) -> None:
        if peer not in self.gone:
            self.balancer.add(self.pipes[peer])
            self.model.join(peer)

    def expect(self) -> bool:
        peer = self.model.send()
        if peer is not None:
            self.expected[peer].append(self.count)
        self.count += 1
        return peer is not None

    def send(self, count: int, _: int) -> None:
        for _ in range(count):
            number = self.count
            assert self.balancer.send([b"%d" % number]) == self.expect()

    def deal(self, quantum: int, used: int) -> None:
        turns = self.balancer.turns(quantum)
        for turn in islice(turns, used):
            turn([b"%d" % self.count])
            assert self.expect()
        self.balancer.revoke(length_hint(turns))

    def read(self, peer: int, count: int) -> None:
        box = self.pipes[peer].outbound
        self.model.rooms[peer] += min(count, len(box.waiting()))
        taken = 0
        while taken < count and (batch := box.take(count - taken)):
            taken += len(batch)
            for message in batch:
                assert message == [b"%d" % self.expected[peer].pop(0)]

    def sleep(self, peer: int, _: int) -> None:
        box = self.pipes[peer].outbound
        if not box.items:
            box.sleep()

    def leave(self, peer: int, _: int) -> None:
        self.gone.add(peer)
        self.balancer.remove(self.pipes[peer])
        self.model.leave(peer)

    def join(self, peer: int, _: int) -> None:
        if peer in self.gone:
            self.gone.discard(peer)
            self.balancer.add(self.pipes[peer])
            self.model.join(peer)


@pytest.mark.parametrize("long", [2, 8192])
@given(marks=st.lists(st.integers(1, 9), min_size=4, max_size=4), steps=steps)
def test_rotation_is_strict_whatever_is_interleaved(
    long: int, marks: list[int], steps: list[tuple[str, int, int]]
) -> None:
    play = Play(marks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mailbox, "LONG", long)
        for name, first, second in steps:
            getattr(play, name)(first, second)
            assert queued(*play.pipes) == [[[b"%d" % number] for number in numbers] for numbers in play.expected]


# --- as a PUSH -------------------------------------------------------------------------------------------------------


def test_a_push_that_has_no_room_says_that_any_pipe_will_do() -> None:
    push = Push(Drops())
    assert push.send(b"1") is push
    pipe = new_pipe(hwm=1)
    push.attached(pipe)
    assert push.can_send()
    assert push.send(b"1") is None
    assert push.send(b"2") is push
    assert push.gate(b"2") is push
    pipe.outbound.take(1)
    push.writable(pipe)
    assert push.send(b"2") is None
    push.detached(pipe)
    assert push.send(b"3") is push
    assert not push.can_send()


def test_a_push_deals_and_revokes_turns() -> None:
    push = Push(Drops())
    a, b = new_pipe("a", awake=True), new_pipe("b", awake=True)
    push.attached(a)
    push.attached(b)
    push.revoke(use(push.turns(10), b"1"))
    push.send(b"2")
    assert queued(a, b) == [[b"1"], [b"2"]]
