"""PUB, SUB, XPUB, XSUB: a copy for everybody who wants it, and news of who wants what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice

import pytest

from trio_mq._mailbox import Mailbox
from trio_mq._message import Payload
from trio_mq._patterns import NOTHING, Pub, XPub, XSub
from trio_mq._pipe import Pipe

from ._pipes import Drops, new_pipe, notes


class Wire:
    """An encoder that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, message: Payload) -> bytes:
        self.calls += 1
        return b"wire:" + (message if isinstance(message, bytes) else b"|".join(message))


class Stage:
    """What a publisher is given: somebody to tell of drops and of changes, and an encoder."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.changes = 0
        self.wire = Wire()

    def changed(self) -> None:
        self.changes += 1

    def pub(self, *, invert: bool = False, block: bool = False) -> Pub:
        return Pub(self.drops, self.changed, self.wire, invert=invert, block=block)

    def xpub(
        self,
        *,
        verbose: bool = False,
        verboser: bool = False,
        manual: bool = False,
        welcome: bytes | None = None,
    ) -> XPub:
        return XPub(
            self.drops, self.changed, self.wire, verbose=verbose, verboser=verboser, manual=manual, welcome=welcome
        )


def subscriber(pattern: Pub, *topics: bytes, hwm: int = 10, awake: bool = False, encoded: bool = False) -> Pipe:
    """A pipe to somebody who subscribed to *topics*."""
    pipe = new_pipe(hwm=hwm, awake=awake)
    pipe.outbound.encoded = encoded
    pattern.attached(pipe)
    pipe.inbound.on_item = lambda: pattern.readable(pipe)
    pattern.ready(pipe)
    for topic in topics:
        pattern.subscription(pipe, topic, True)
    return pipe


def got(pipe: Pipe) -> list[object]:
    return pipe.outbound.waiting()


# --- PUB -------------------------------------------------------------------------------------------------------------


def test_everybody_who_wants_it_gets_a_copy() -> None:
    pub = Stage().pub()
    a, b, c = subscriber(pub, b"x"), subscriber(pub, b"x", b"xy"), subscriber(pub, b"z")
    assert pub.send(b"xyz") is None
    assert pub.send([b"z", b"xyz"]) is None
    pub.publish(b"zz")
    pub.publish([b"x", b"1"])
    assert got(a) == [b"xyz", [b"x", b"1"]]
    assert got(b) == got(a), "two topics that match are no two copies"
    assert got(c) == [[b"z", b"xyz"], b"zz"]


def test_a_message_nobody_wants_goes_nowhere_and_is_no_drop() -> None:
    stage = Stage()
    pub = stage.pub()
    pipe = subscriber(pub, b"x")
    pub.send(b"y")
    pub.publish(b"y")
    assert got(pipe) == []
    assert stage.drops.counts == {}
    assert stage.wire.calls == 0


@pytest.mark.parametrize("awake", [True, False])
@pytest.mark.parametrize("message", [b"x1", [b"x", b"1"]])
def test_a_full_subscriber_alone_misses_it_and_never_blocks(message: Payload, awake: bool) -> None:
    stage = Stage()
    pub = stage.pub()
    slow, fast = subscriber(pub, b"x", hwm=1, awake=awake), subscriber(pub, b"x", awake=awake)
    for _ in range(3):
        pub.publish(message)
    assert pub.send(message) is None
    assert got(slow) == [message]
    assert got(fast) == [message] * 4
    assert stage.drops.counts == {"hwm": 3}
    assert stage.drops.pipes == [slow] * 3
    assert not slow.outbound.full, "nobody waits for its room"


@pytest.mark.parametrize("message", [b"x1", [b"x", b"1"]])
def test_a_message_is_encoded_once_for_all_and_only_where_wire_bytes_are_wanted(message: Payload) -> None:
    stage = Stage()
    pub = stage.pub()
    near = subscriber(pub, b"x")
    far = [subscriber(pub, b"x", awake=awake, encoded=True) for awake in (True, False)]
    pub.publish(message)
    assert got(near) == [message]
    assert stage.wire.calls == 1
    assert got(far[0]) == [stage.wire(message)]
    assert far[0].outbound.first() is far[1].outbound.first()


def test_a_reader_asleep_is_woken_and_one_awake_is_not() -> None:
    pub = Stage().pub()
    woken: list[Pipe] = []
    for awake in (True, False):
        pipe = subscriber(pub, b"", awake=awake)
        pipe.outbound.on_item = partial(woken.append, pipe)
    pub.publish(b"1")
    pub.publish(b"2")
    assert woken == [pipe]


def test_turns_publish_and_need_no_readers() -> None:
    pub = Stage().pub()
    pipe = subscriber(pub, b"x")
    turns = list(islice(pub.turns(3), 10))
    assert len(turns) == 3
    for turn in turns:
        turn(b"x")
    assert got(pipe) == [b"x"] * 3
    assert not pub.turns_need_readers


def test_a_publisher_that_blocks_waits_for_all_who_match_and_sends_to_none_before() -> None:
    pub = Stage().pub(block=True)
    slow, fast, other = subscriber(pub, b"x", hwm=2), subscriber(pub, b"x"), subscriber(pub, b"y", hwm=1)
    pub.send(b"x")
    pub.send(b"x")
    pub.send(b"y")
    assert pub.send(b"x") is pub
    assert len(fast.outbound) == 2
    assert slow.outbound.full, "so that its room will be told"
    assert not other.outbound.full
    slow.outbound.take(2)
    assert pub.send(b"x") is None
    assert list(pub.turns(10)) == []


def test_inverted_matching_sends_to_those_who_did_not_ask() -> None:
    pub = Stage().pub(invert=True)
    a, b = subscriber(pub, b"x"), subscriber(pub)
    pub.publish(b"x1")
    pub.publish(b"y1")
    assert got(a) == [b"y1"]
    assert got(b) == [b"x1", b"y1"]


def test_old_peers_subscribe_by_messages() -> None:
    stage = Stage()
    pub = stage.pub()
    pipe = subscriber(pub)
    assert pub.accept(pipe, [b"\x01x", b"noise", [b"\x01z", b""], b""]) == []
    pub.send(b"x")
    pub.send(b"z")
    assert got(pipe) == [b"x"]
    pub.accept(pipe, [b"\x00x"])
    pub.send(b"x")
    assert got(pipe) == [b"x"]


def test_a_subscriber_counts_while_it_is_connected() -> None:
    stage = Stage()
    pub = stage.pub()
    a, b = subscriber(pub, b"x"), subscriber(pub, b"", b"x")
    subscriber(pub)
    assert pub.subscriber_count(None) == 2
    assert pub.subscriber_count(b"x") == 2
    assert pub.subscriber_count(b"y") == 1
    b.connection = None
    assert pub.subscriber_count(None) == 1
    assert pub.subscriber_count(b"y") == 0
    pub.lost(b)
    pub.detached(a)
    assert pub.subscriber_count(None) == 0
    pub.send(b"x")
    assert got(a) == got(b) == []


def test_every_change_is_told() -> None:
    stage = Stage()
    pub = stage.pub()
    pipe = new_pipe()
    pub.attached(pipe)
    acts: list[Callable[[], None]] = [
        partial(pub.subscription, pipe, b"x", True),
        partial(pub.subscription, pipe, b"x", False),
        partial(pub.lost, pipe),
        partial(pub.detached, pipe),
    ]
    for act in acts:
        before = stage.changes
        act()
        assert stage.changes > before


def test_a_peer_that_is_gone_leaves_nothing_in_the_table() -> None:
    pub = Stage().pub()
    pipe = subscriber(pub, b"x", b"y")
    pub.detached(pipe)
    assert len(pub.table) == 0
    assert pub.recipients(b"x") == ()
    assert pipe.subscriptions == set()


def test_a_pub_receives_nothing_and_can_always_send() -> None:
    pub = Stage().pub()
    pipe = subscriber(pub)
    pipe.inbound.put(b"noise")
    assert pub.take(5) is NOTHING
    assert not pub.can_receive()
    assert pub.can_send()
    assert len(pipe.inbound) == 0


# --- XPUB ------------------------------------------------------------------------------------------------------------


def told(xpub: XPub) -> list[object]:
    """What its program receives now."""
    found: list[object] = []
    while xpub.can_receive():
        found += xpub.take(100).messages
    return found


def test_an_xpub_hears_of_the_first_subscription_and_the_last_cancellation() -> None:
    xpub = Stage().xpub()
    a, b = subscriber(xpub, b"x"), subscriber(xpub, b"x")
    assert told(xpub) == [b"\x01x"]
    xpub.subscription(a, b"x", False)
    assert told(xpub) == []
    xpub.subscription(b, b"x", False)
    assert told(xpub) == [b"\x00x"]


def test_a_verbose_xpub_hears_of_every_subscription() -> None:
    xpub = Stage().xpub(verbose=True)
    a, b = subscriber(xpub, b"x"), subscriber(xpub, b"x")
    assert told(xpub) == [b"\x01x", b"\x01x"]
    xpub.subscription(a, b"x", False)
    assert told(xpub) == []
    xpub.subscription(b, b"x", False)
    assert told(xpub) == [b"\x00x"]


def test_a_verboser_xpub_hears_of_every_cancellation_too() -> None:
    xpub = Stage().xpub(verboser=True)
    a, b = subscriber(xpub, b"x"), subscriber(xpub, b"x")
    xpub.subscription(a, b"x", False)
    assert told(xpub) == [b"\x01x", b"\x01x", b"\x00x"]
    xpub.lost(b)
    assert told(xpub) == [b"\x00x"]


def test_a_peer_that_goes_cancels_what_nobody_else_wants() -> None:
    xpub = Stage().xpub()
    a = subscriber(xpub, b"x", b"y")
    subscriber(xpub, b"y")
    told(xpub)
    xpub.lost(a)
    assert told(xpub) == [b"\x00x"]
    xpub.detached(a)
    assert told(xpub) == [], "it has gone once"


def test_a_manual_xpub_applies_nothing_and_hears_everything() -> None:
    xpub = Stage().xpub(manual=True)
    pipe = subscriber(xpub, b"x", b"x")
    assert told(xpub) == [b"\x01x", b"\x01x"]
    xpub.send(b"x")
    assert got(pipe) == []
    assert xpub.apply(pipe, b"other", True)
    xpub.send(b"other")
    assert got(pipe) == [b"other"]
    xpub.lost(pipe)
    assert told(xpub) == [b"\x00x"], "what it asked for, not what it was given"
    assert xpub.recipients(b"other") == ()


def test_a_manual_xpub_may_send_to_one_peer_whatever_it_subscribed_to() -> None:
    xpub = Stage().xpub(manual=True)
    a, b = subscriber(xpub), subscriber(xpub)
    xpub.send_to(a, b"1")
    assert got(a) == [b"1"]
    assert got(b) == []


def test_each_new_subscriber_is_welcomed_first() -> None:
    xpub = Stage().xpub(welcome=b"hello")
    pipe = subscriber(xpub, b"")
    xpub.send(b"1")
    assert got(pipe) == [b"hello", b"1"]


def test_an_xpub_receives_messages_of_its_peers_beside_subscriptions_of_old_ones() -> None:
    xpub = Stage().xpub()
    pipe = subscriber(xpub)
    accepted = xpub.accept(pipe, [b"\x01x", b"hello", [b"\x01z", b"frames"], b"\x01x"])
    assert accepted == [b"\x01x", b"hello", [b"\x01z", b"frames"]]
    assert pipe.subscriptions == {b"x"}


def test_notices_are_not_taken_for_subscriptions_once_more() -> None:
    xpub = Stage().xpub()
    pipe = subscriber(xpub)
    assert xpub.refine(pipe, [b"\x01x"]) == [b"\x01x"]
    assert pipe.subscriptions == set()


# --- SUB and XSUB ----------------------------------------------------------------------------------------------------


def xsub_with(*pipes: Pipe, filtering: bool = False) -> XSub:
    xsub = XSub(Drops(), Wire(), filtering=filtering)
    for pipe in pipes:
        xsub.attached(pipe)
        if pipe.connection is not None:
            xsub.ready(pipe)
    return xsub


def test_every_subscription_and_the_last_cancellation_is_told_to_every_publisher() -> None:
    a, b, absent = new_pipe("a"), new_pipe("b"), new_pipe("c", connected=False)
    xsub = xsub_with(a, b, absent)
    xsub.subscribe(b"x")
    xsub.subscribe(b"x")
    xsub.unsubscribe(b"x")
    xsub.unsubscribe(b"never")
    assert notes(a).subscriptions == [(b"x", True)] * 2
    xsub.unsubscribe(b"x")
    assert notes(a).subscriptions == notes(b).subscriptions == [(b"x", True), (b"x", True), (b"x", False)]


def test_a_new_publisher_is_told_each_topic_once() -> None:
    xsub = xsub_with()
    for topic in (b"x", b"y", b"x"):
        xsub.subscribe(topic)
    pipe = new_pipe()
    xsub.attached(pipe)
    xsub.ready(pipe)
    assert notes(pipe).subscriptions == [(b"x", True), (b"y", True)]


def test_a_publisher_that_left_is_told_nothing() -> None:
    pipe = new_pipe()
    xsub = xsub_with(pipe)
    xsub.detached(pipe)
    xsub.subscribe(b"x")
    assert xsub.send(b"hello") is None
    assert notes(pipe).subscriptions == []
    assert got(pipe) == []


def test_an_xsub_subscribes_by_messages_and_sends_the_rest_to_all_who_are_there() -> None:
    a, b, absent = new_pipe("a"), new_pipe("b"), new_pipe("c", connected=False)
    xsub = xsub_with(a, b, absent)
    for message in (b"\x01x", b"\x00x", b"hello", [b"\x01y", b"z"]):
        assert xsub.send(message) is None
    assert notes(a).subscriptions == [(b"x", True), (b"x", False)]
    assert got(a) == got(b) == [b"hello", [b"\x01y", b"z"]]
    assert got(absent) == []
    assert xsub.can_send()


def test_a_sub_filters_what_arrives_and_an_xsub_does_not() -> None:
    pipe = new_pipe()
    for filtering, expected in ((True, [b"x1", [b"x", b"2"]]), (False, [b"x1", b"y", [b"x", b"2"]])):
        xsub = xsub_with(pipe, filtering=filtering)
        xsub.subscribe(b"x")
        assert xsub.accept(pipe, [b"x1", b"y", [b"x", b"2"]]) == expected


def test_a_full_publisher_misses_what_an_xsub_sends() -> None:
    drops, pipe = Drops(), new_pipe()
    pipe.take_outbound(Mailbox(1))
    xsub = XSub(drops, Wire())
    xsub.attached(pipe)
    xsub.send(b"1")
    xsub.send(b"2")
    assert got(pipe) == [b"1"]
    assert drops.counts == {"hwm": 1}
