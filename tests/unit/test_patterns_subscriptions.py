"""Subscriptions: whatever short cut is taken, the answer is that of a walk over all of them."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._message import Payload
from trio_mq._patterns import _subscriptions
from trio_mq._patterns._subscriptions import PrefixIndex, SubscriptionTable, TopicFilter

MANY_LENGTHS = [b"a" * length for length in range(70)]
"""More distinct lengths than are tried one by one."""

# Topics that are prefixes of each other more often than not.
topics = st.one_of(st.binary(max_size=4).map(lambda b: bytes(c & 1 for c in b)), st.sampled_from(MANY_LENGTHS))
keys = st.one_of(topics, st.integers(0, 80).map(lambda length: b"a" * length + b"b"), st.binary(max_size=6))
few_lengths = st.just(list[bytes]())
start = st.one_of(few_lengths, st.just(MANY_LENGTHS), st.just(MANY_LENGTHS[:6]))


# --- who wants it ----------------------------------------------------------------------------------------------------


class Walk:
    """Subscriptions as a set of pairs."""

    def __init__(self) -> None:
        self.pairs: set[tuple[bytes, str]] = set()

    def add(self, topic: bytes, who: str) -> bool:
        news = all(other != topic for other, _ in self.pairs)
        self.pairs.add((topic, who))
        return news

    def discard(self, topic: bytes, who: str) -> bool:
        had = (topic, who) in self.pairs
        self.pairs.discard((topic, who))
        return not had or all(other != topic for other, _ in self.pairs)

    def match(self, frame: bytes) -> set[str]:
        return {who for topic, who in self.pairs if frame.startswith(topic)}


subscribers = st.sampled_from(["ann", "bob", "eve"])
changes = st.lists(st.tuples(st.booleans(), topics, subscribers, keys), max_size=40)


@given(start=start, changes=changes)
def test_everyone_with_a_matching_topic_is_found_once(
    start: list[bytes], changes: list[tuple[bool, bytes, str, bytes]]
) -> None:
    table, walk = SubscriptionTable[str](), Walk()
    for topic in start:
        assert table.add(topic, "ann") == walk.add(topic, "ann")
    for adding, topic, who, key in changes:
        if adding:
            assert table.add(topic, who) == walk.add(topic, who)
        elif (topic, who) in walk.pairs or all(other != topic for other, _ in walk.pairs):
            assert table.discard(topic, who) == walk.discard(topic, who)
        for frame in (key, key, topic, topic + key):
            found = table.match(frame)
            assert len(found) == len(set(found))
            assert set(found) == walk.match(frame)
        assert len(table) == len({topic for topic, _ in walk.pairs})


def test_a_subscriber_that_repeats_itself_is_counted_once() -> None:
    table = SubscriptionTable[str]()
    assert table.add(b"a", "ann")
    assert not table.add(b"a", "ann")
    assert table.match(b"abc") == ("ann",)
    assert table.discard(b"a", "ann"), "one cancellation ends it, however often it subscribed"
    assert table.match(b"abc") == ()


def test_cancelling_what_one_never_had_is_news_as_with_libzmq() -> None:
    table = SubscriptionTable[str]()
    assert table.discard(b"a", "ann")
    table.add(b"a", "bob")
    assert table.discard(b"a", "ann")


def test_cancelling_what_one_never_had_takes_nothing_from_others() -> None:
    table = SubscriptionTable[str]()
    table.add(b"a", "bob")
    table.discard(b"a", "ann")
    assert table.match(b"a") == ("bob",)


def test_an_empty_topic_matches_everything_even_an_empty_frame() -> None:
    table = SubscriptionTable[str]()
    table.add(b"", "ann")
    assert table.match(b"") == ("ann",)
    assert table.match(b"anything") == ("ann",)


def test_topics_of_one_subscriber_share_what_they_answer() -> None:
    table, subscriber = SubscriptionTable[object](), object()
    table.add(b"a", subscriber)
    table.add(b"b", subscriber)
    assert table.match(b"a") is table.match(b"b")
    table.discard(b"a", subscriber)
    table.discard(b"b", subscriber)
    table.forget(subscriber)
    table.forget(subscriber)
    assert len(table) == 0


def test_a_look_up_is_made_once_and_a_change_forgets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_subscriptions, "_STRAYS", 0)
    table = SubscriptionTable[str]()
    for length in range(6):
        table.add(b"abcdef"[:length], "ann")
    looks: list[bytes] = []
    look_up = PrefixIndex.prefixes_of

    def noted(index: PrefixIndex, key: bytes) -> Iterable[bytes]:
        looks.append(key)
        return look_up(index, key)

    monkeypatch.setattr(PrefixIndex, "prefixes_of", noted)
    table.match(b"abcdefgh")
    table.match(b"abcde, and longer than any topic")
    assert looks == [b"abcde"], "what lies behind the longest topic makes no new key"
    table.add(b"abc", "bob")
    assert set(table.match(b"abcdefgh")) == {"ann", "bob"}
    assert len(looks) == 2


def test_what_is_remembered_of_look_ups_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_subscriptions, "_STRAYS", 0)
    monkeypatch.setattr(_subscriptions, "_CACHED_KEYS", 10)
    table = SubscriptionTable[str]()
    for length in range(6):
        table.add(b"abcdef"[:length], "ann")
    for number in range(100):
        assert table.match(b"%05d" % number) == ("ann",)
        assert 0 < len(table._cache) <= 10


# --- which prefixes --------------------------------------------------------------------------------------------------


@given(start=start, changes=st.lists(st.tuples(topics, keys), max_size=40))
def test_an_index_knows_all_prefixes_of_a_key_whatever_comes_and_goes(
    start: list[bytes], changes: list[tuple[bytes, bytes]]
) -> None:
    index, members = PrefixIndex(), set[bytes]()
    for member in start:
        index.add(member)
        members.add(member)
    for member, key in changes:
        if member in members:
            index.discard(member)
            members.discard(member)
        else:
            index.add(member)
            members.add(member)
        index.settle()
        assert index.longest == max(map(len, members), default=0)
        assert index.longest == max(map(len, members), default=0)
        for text in (key, member, member + key):
            expected = sorted(member for member in members if text.startswith(member))
            assert sorted(index.prefixes_of(text)) == expected
            assert index.has_prefix_of(text) == bool(expected)


@given(members=st.sets(st.binary(max_size=5), max_size=30), found=st.lists(keys, min_size=1, max_size=10))
def test_the_sorted_index_agrees_with_trying_each_length(members: set[bytes], found: list[bytes]) -> None:
    index = PrefixIndex()
    for member in members:
        index.add(member)
    for key in itertools.chain(found, members):
        tried = set(index.prefixes_of(key))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_subscriptions, "_LENGTHS_TO_TRY", -1)
            if members:
                assert set(index.prefixes_of(key)) == tried
                assert index.has_prefix_of(key) == bool(tried)


def test_a_thousand_lengths_cost_a_key_that_has_few_of_them_little() -> None:
    index, steps = PrefixIndex(), 0
    for length in range(1000):
        index.add(b"b" * length)
    for _ in index.prefixes_of(b"bbbc"):
        steps += 1
    assert steps == 4
    assert list(index.prefixes_of(b"a")) == [b""]


# --- what one wants --------------------------------------------------------------------------------------------------


@given(
    invert=st.booleans(),
    start=start,
    changes=st.lists(st.tuples(st.booleans(), topics, keys), max_size=40),
)
def test_a_filter_lets_through_what_a_walk_would(
    invert: bool, start: list[bytes], changes: list[tuple[bool, bytes, bytes]]
) -> None:
    wanted, counted = TopicFilter(invert=invert), list[bytes]()
    for topic in start:
        wanted.add(topic)
        counted.append(topic)
    for adding, topic, key in changes:
        if adding:
            wanted.add(topic)
            counted.append(topic)
        else:
            last = counted.count(topic) == 1
            assert wanted.discard(topic) == last
            if topic in counted:
                counted.remove(topic)
        messages: list[Any] = [key, [key, b"body"], topic, [topic + key, b""]]
        expected = [m for m in messages if wants(counted, m) != invert]
        assert wanted.filter(messages) == expected
        assert [m for m in messages if wanted.wants(m)] == expected
        assert set(wanted.topics) == set(counted)
        assert len(wanted) == len(set(counted))


def wants(topics: list[bytes], message: Payload) -> bool:
    first = message if isinstance(message, bytes) else message[0]
    return any(first.startswith(topic) for topic in topics)


def test_topics_are_listed_in_the_order_in_which_they_came() -> None:
    wanted = TopicFilter()
    for topic in (b"b", b"a", b"b", b"c"):
        wanted.add(topic)
    assert wanted.topics == [b"b", b"a", b"c"]


def test_without_a_topic_nothing_is_wanted() -> None:
    assert TopicFilter().filter([b"1", [b"", b"2"]]) == []
    assert TopicFilter(invert=True).filter([b"1"]) == [b"1"]


def test_a_subscriber_that_is_forgotten_is_not_kept() -> None:
    class Subscriber:
        """Whoever subscribes."""

    table: SubscriptionTable[Subscriber] = SubscriptionTable()
    subscriber = Subscriber()
    kept = weakref.ref(subscriber)
    table.add(b"topic", subscriber)
    table.discard(b"topic", subscriber)
    table.forget(subscriber)
    del subscriber
    gc.collect()
    assert kept() is None
