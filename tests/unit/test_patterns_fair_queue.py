"""Fair queueing: one message a turn, in batches that nobody could tell from single messages."""

from __future__ import annotations

from collections import deque
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import _mailbox
from trio_mq._patterns import NOTHING, Pull, Push
from trio_mq._patterns._face import Batch, PipeFace
from trio_mq._patterns._fair_queue import FairQueue
from trio_mq._pipe import Pipe

from ._pipes import Drops, new_pipe


def queue_of(*pipes: Pipe) -> FairQueue:
    """A fair queue in which each of *pipes* shows up when it has something."""
    queue = FairQueue()
    for pipe in pipes:
        pipe.inbound.on_item = partial(queue.activate, pipe)
    return queue


def pairs(batch: Batch) -> list[tuple[object, PipeFace]]:
    """Each message with the pipe it came from."""
    return [(message, batch.pipes[at % len(batch.pipes)]) for at, message in enumerate(batch.messages)]


def fill(pipe: Pipe, *messages: bytes) -> None:
    pipe.inbound.put_all(list(messages))


def test_an_empty_queue_has_nothing() -> None:
    queue = FairQueue()
    assert not queue
    assert queue.take(10) is NOTHING


def test_peers_are_heard_in_turn_and_each_in_its_order() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    queue = queue_of(a, b)
    fill(a, b"a1", b"a2")
    fill(b, b"b1", b"b2")
    assert pairs(queue.take(10)) == [(b"a1", a), (b"b1", b), (b"a2", a), (b"b2", b)]


def test_a_talkative_peer_does_not_drown_the_others() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    queue = queue_of(a, b)
    fill(a, *[b"a%d" % number for number in range(9)])
    fill(b, b"b0")
    assert pairs(queue.take(2)) == [(b"a0", a), (b"b0", b)]
    assert pairs(queue.take(2)) == [(b"a1", a), (b"a2", a)]


def test_a_limit_below_the_number_of_peers_takes_one_of_each_of_the_first() -> None:
    pipes = [new_pipe(name) for name in "abc"]
    queue = queue_of(*pipes)
    for pipe in pipes:
        fill(pipe, b"1", b"2")
    assert [pipe for _, pipe in pairs(queue.take(2))] == pipes[:2]
    assert next(pipe for _, pipe in pairs(queue.take(2))) is pipes[2]


def test_a_peer_that_is_heard_out_leaves_the_queue_and_sleeps() -> None:
    pipe = new_pipe()
    queue = queue_of(pipe)
    fill(pipe, b"1", b"2")
    assert not pipe.inbound.asleep
    queue.take(1)
    assert queue
    assert pipe.readable
    queue.take(1)
    assert not queue
    assert not pipe.readable
    assert pipe.inbound.asleep


def test_a_peer_stands_in_the_queue_once_however_often_it_shows_up() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    queue = queue_of(a, b)
    fill(a, b"a1", b"a2", b"a3")
    queue.activate(a)
    fill(b, b"b1")
    assert [message for _ in range(3) for message in queue.take(1).messages] == [b"a1", b"b1", b"a2"]


def test_a_batch_of_which_nothing_is_wanted_is_no_reason_to_say_there_is_nothing() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    queue = queue_of(a, b)
    a.inbound.refine = lambda messages: []
    fill(a, b"unwanted")
    fill(b, b"1")
    assert pairs(queue.take(1)) == [(b"1", b)]


def test_messages_keep_their_pipe_and_their_turn_when_some_are_filtered_out() -> None:
    pipes = [new_pipe(name) for name in "abc"]
    queue = queue_of(*pipes)
    pipes[1].inbound.refine = lambda messages: messages[1:]
    for pipe, name in zip(pipes, (b"a", b"b", b"c"), strict=True):
        fill(pipe, name + b"1", name + b"2")
    got = [(message, pipes.index(pipe)) for message, pipe in pairs(queue.take(6)) if isinstance(pipe, Pipe)]
    assert got == [(b"a1", 0), (b"b2", 1), (b"c1", 2), (b"a2", 0), (b"c2", 2)]


def test_no_batch_mixes_what_came_before_a_reconnect_with_what_came_after() -> None:
    pipe = new_pipe()
    queue = queue_of(pipe)
    fill(pipe, b"old 1", b"old 2")
    before = pipe.end_connection()
    fill(pipe, b"new")
    assert pairs(queue.take(10)) == [(b"old 1", before), (b"old 2", before)]
    assert pairs(queue.take(10)) == [(b"new", pipe)]
    assert not pipe.past


def test_what_came_before_a_reconnect_still_comes_from_who_sent_it() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    queue = queue_of(a, b)
    fill(a, b"old 1", b"old 2")
    before = a.end_connection()
    assert before.peer == a.peer
    assert before.connection is None
    fill(a, b"new")
    fill(b, b"b1", b"b2", b"b3")
    got = []
    while queue:
        got += pairs(queue.take(10))
    assert got == [(b"old 1", before), (b"b1", b), (b"old 2", before), (b"b2", b), (b"new", a), (b"b3", b)]


steps = st.lists(st.one_of(st.tuples(st.integers(0, 3), st.integers(1, 9)), st.integers(1, 12)), max_size=40)


class Turns:
    """Round robin, one message at a time, on plain lists."""

    def __init__(self) -> None:
        self.waiting: list[list[bytes]] = [[], [], [], []]
        self._order: deque[int] = deque()

    def put(self, peer: int, messages: list[bytes]) -> None:
        if not self.waiting[peer]:
            self._order.append(peer)
        self.waiting[peer] += messages

    def next(self) -> tuple[bytes, int]:
        peer = self._order.popleft()
        message = self.waiting[peer].pop(0)
        if self.waiting[peer]:
            self._order.append(peer)
        return message, peer


@pytest.mark.parametrize("long", [8192, 2])
@given(steps)
def test_batches_are_what_strict_round_robin_gives(long: int, steps: list[int | tuple[int, int]]) -> None:
    pipes = [new_pipe(str(number), hwm=None) for number in range(4)]
    queue, model, made = queue_of(*pipes), Turns(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mailbox, "LONG", long)
        for step in steps:
            if isinstance(step, tuple):
                messages = [b"%d" % number for number in range(made, made + step[1])]
                made += step[1]
                fill(pipes[step[0]], *messages)
                model.put(step[0], messages)
            else:
                batch = queue.take(step)
                assert len(batch.messages) <= step
                assert bool(batch.messages) == any(model.waiting)
                for message, pipe in pairs(batch):
                    expected, peer = model.next()
                    assert (message, pipe) == (expected, pipes[peer])
            assert bool(queue) == any(model.waiting)


@given(steps)
def test_long_mailboxes_lose_nothing_and_keep_each_peers_order(steps: list[int | tuple[int, int]]) -> None:
    pipes = [new_pipe(str(number), hwm=None) for number in range(4)]
    queue, waiting, made = queue_of(*pipes), [list[bytes]() for _ in pipes], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mailbox, "LONG", 1)
        for step in steps:
            if isinstance(step, tuple):
                messages = [b"%d" % number for number in range(made, made + step[1])]
                made += step[1]
                fill(pipes[step[0]], *messages)
                waiting[step[0]] += messages
            else:
                batch = queue.take(step)
                assert len(batch.messages) <= step
                for message, pipe in pairs(batch):
                    assert isinstance(pipe, Pipe)
                    assert waiting[pipes.index(pipe)].pop(0) == message
            assert bool(queue) == any(waiting)


def test_a_pull_receives_and_cannot_send() -> None:
    pull, pipe = Pull(), new_pipe()
    pipe.inbound.on_item = lambda: pull.readable(pipe)
    assert not pull.can_receive()
    fill(pipe, b"1")
    assert pull.can_receive()
    assert pull.take(5).messages == [b"1"]
    assert not pull.can_send()
    assert pull.take(5) is NOTHING


def test_what_a_pull_sends_to_a_push_is_counted_and_received_by_nobody() -> None:
    drops, pipe = Drops(), new_pipe()
    push = Push(drops)
    assert push.accept(pipe, [b"1", b"2"]) == []
    assert drops.counts == {"malformed": 2}
    assert drops.pipes == [pipe]
    assert push.take(5) is NOTHING
    assert not push.can_receive()
