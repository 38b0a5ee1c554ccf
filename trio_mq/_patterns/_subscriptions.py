"""Subscriptions: which subscribers a topic has, and who wants a message, by prefix of its first frame (RFC 29).

Both directions have hot paths, so both are cached look-ups; neither cache outlives a change, and neither can grow with
the messages that pass: keys are cut to the longest subscribed topic, and there are at most 4,096 of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

from .._message import Payload

S = TypeVar("S")

_CACHED_KEYS = 4096
_LENGTHS_TO_TRY = 64
_CHEAP_LENGTHS = 4
"""Distinct lengths up to which trying each costs less than a cache that thousands of topics keep emptying."""


class SubscriptionTable(Generic[S]):
    """Who subscribed to what. A set for each topic, not a count: RFC 37 differs, every libzmq does it so."""

    def __init__(self) -> None:
        # Tuples, one shared by all topics that only that subscriber has: a hundred thousand topics are then no work for
        # the garbage collector, and a look-up gives the answer itself (`tests.benchmarks`,
        # row "100,000 subscriptions").
        self._topics: dict[bytes, tuple[S, ...]] = {}
        self._alone: dict[S, tuple[S]] = {}
        self._index = PrefixIndex()
        self._cache: dict[bytes, tuple[S, ...]] = {}

    def __len__(self) -> int:
        """The number of distinct topics."""
        return len(self._topics)

    def add(self, topic: bytes, subscriber: S) -> bool:
        """True if *topic* had no subscriber before."""
        subscribers = self._topics.get(topic)
        self._cache.clear()
        if subscribers is None:
            self._topics[topic] = self._alone.setdefault(subscriber, (subscriber,))
            self._index.add(topic)
            return True
        if subscriber not in subscribers:
            self._topics[topic] = (*subscribers, subscriber)
        return False

    def discard(self, topic: bytes, subscriber: S) -> bool:
        """True if *topic* has no subscriber any more, or never had this one."""
        subscribers = self._topics.get(topic, ())
        others = tuple(other for other in subscribers if other is not subscriber)
        self._cache.clear()
        if others:
            self._topics[topic] = others
            return len(others) == len(subscribers)
        if subscribers:
            del self._topics[topic]
            self._index.discard(topic)
        return True

    def forget(self, subscriber: S) -> None:
        """*subscriber* is gone and has no topic any more."""
        self._alone.pop(subscriber, None)

    def match(self, first_frame: bytes) -> tuple[S, ...]:
        """Everyone with a subscription that *first_frame* begins with, once each."""
        lengths = self._index.lengths
        if len(lengths) <= _CHEAP_LENGTHS:
            matched: tuple[S, ...] = ()
            topics = self._topics
            for length in lengths:
                subscribers = topics.get(first_frame[:length])
                if subscribers is not None:
                    matched = _union(matched, subscribers) if matched else subscribers
            return matched
        key = first_frame[: self._index.longest]
        found = self._cache.get(key)
        return self._look_up(key) if found is None else found

    def _look_up(self, key: bytes) -> tuple[S, ...]:
        matched: tuple[S, ...] = ()
        for topic in self._index.prefixes_of(key):
            matched = _union(matched, self._topics[topic])
        if len(self._cache) >= _CACHED_KEYS:
            self._cache.clear()
        self._cache[key] = matched
        return matched


def _union(some: tuple[S, ...], others: tuple[S, ...]) -> tuple[S, ...]:
    return tuple(dict.fromkeys((*some, *others))) if some else others


class PrefixIndex:
    """A set of byte strings that knows which of them a key begins with.

    With few distinct lengths it tries each; a peer that subscribes to a thousand lengths makes it sort the strings and
    link each to its longest prefix among them instead, so the work for a key never depends on what peers choose to
    send.
    """

    def __init__(self) -> None:
        self.longest = 0
        self.lengths: list[int] = []
        self._members: set[bytes] = set()
        self._counts: Counter[int] = Counter()
        self._sorted: list[bytes] = []
        self._parents: list[int] = []

    def add(self, member: bytes) -> None:
        """*member* was not in it."""
        self._members.add(member)
        self._counts[len(member)] += 1
        self._changed(len(member))

    def discard(self, member: bytes) -> None:
        """*member* was in it."""
        self._members.discard(member)
        self._counts[len(member)] -= 1
        if not self._counts[len(member)]:
            del self._counts[len(member)]
        self._changed(len(member))

    def _changed(self, length: int) -> None:
        self._sorted = []
        if (length in self._counts) != (length in self.lengths):
            self.lengths = sorted(self._counts)
            self.longest = self.lengths[-1] if self.lengths else 0

    def prefixes_of(self, key: bytes) -> Iterable[bytes]:
        """The members that *key* begins with, once each."""
        if len(self.lengths) > _LENGTHS_TO_TRY:
            return self._walk(key)
        members = self._members
        return [head for length in self.lengths if length <= len(key) and (head := key[:length]) in members]

    def has_prefix_of(self, key: bytes) -> bool:
        """Whether *key* begins with some member."""
        if len(self.lengths) > _LENGTHS_TO_TRY:
            return any(True for _ in self._walk(key))
        members = self._members
        for length in self.lengths:
            # A key shorter than that is cut to itself, and if it is a member it begins with one.
            if key[:length] in members:
                return True
        return False

    def _walk(self, key: bytes) -> Iterable[bytes]:
        if not self._sorted:
            self._link()
        # The largest member not above the key: every prefix of the key is a prefix of that one, or that one itself.
        at = bisect_right(self._sorted, key) - 1
        while at >= 0 and not key.startswith(self._sorted[at]):
            at = self._parents[at]
        while at >= 0:
            yield self._sorted[at]
            at = self._parents[at]

    def _link(self) -> None:
        self._sorted = sorted(self._members)
        self._parents = []
        open_prefixes: list[int] = []
        for at, member in enumerate(self._sorted):
            while open_prefixes and not member.startswith(self._sorted[open_prefixes[-1]]):
                open_prefixes.pop()
            self._parents.append(open_prefixes[-1] if open_prefixes else -1)
            open_prefixes.append(at)


class TopicFilter:
    """What one subscriber wants: topics counted as libzmq's SUB counts them, and a filter over batches.

    SUB filters what arrives, too: multicast and publishers of old send everything, and cancellations take time.
    """

    def __init__(self, *, invert: bool = False) -> None:
        self._counts: Counter[bytes] = Counter()
        self._index = PrefixIndex()
        self._invert = invert

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def topics(self) -> list[bytes]:
        """The distinct topics, in the order in which they came."""
        return list(self._counts)

    def add(self, topic: bytes) -> None:
        """One more subscription to *topic*. Every one is to be told upstream."""
        self._counts[topic] += 1
        if self._counts[topic] == 1:
            self._index.add(topic)

    def discard(self, topic: bytes) -> bool:
        """One less. True if it was the last one, which alone is told upstream; unknown topics change nothing."""
        if topic not in self._counts:
            return False
        self._counts[topic] -= 1
        if self._counts[topic]:
            return False
        del self._counts[topic]
        self._index.discard(topic)
        return True

    def wants(self, message: Payload) -> bool:
        """Whether *message* begins with a topic (or, inverted, with none)."""
        return self._index.has_prefix_of(message if isinstance(message, bytes) else message[0]) != self._invert

    def filter(self, messages: list[Payload]) -> list[Payload]:
        """Those of *messages* that are wanted, in order."""
        if b"" in self._counts and not self._invert:
            return messages
        if len(self._index.lengths) == 1 and not self._invert:
            length, topics = self._index.longest, self._counts
            return [m for m in messages if (m if isinstance(m, bytes) else m[0])[:length] in topics]
        wanted, unwanted = self._index.has_prefix_of, self._invert
        return [m for m in messages if wanted(m if isinstance(m, bytes) else m[0]) != unwanted]
