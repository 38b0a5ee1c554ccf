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
_STRAYS = 16
"""Topics that may have another length than most, for a glance at them to cost less than a cache."""


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
        index = self._index
        if index.changed:
            index.settle()
        if index.strays is None:
            key = first_frame[: index.longest]
            found = self._cache.get(key)
            return self._look_up(key) if found is None else found
        # Nearly all topics have one length: one look-up, and one glance at the few others.
        matched = self._topics.get(first_frame[: index.main], ())
        return self._with_strays(first_frame, matched) if first_frame.startswith(index.strays) else matched

    def _with_strays(self, first_frame: bytes, matched: tuple[S, ...]) -> tuple[S, ...]:
        for stray in self._index.strays or ():
            if first_frame.startswith(stray):
                matched = _union(matched, self._topics[stray])
        return matched

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

    Attributes:
        longest: the length of the longest member.
        main: the length that most members have.
        strays: the members of other lengths, None if they are more than a few.
        changed: whether `settle` must find these out again.
    """

    def __init__(self) -> None:
        self.longest: int = 0
        self.main: int = 0
        self.strays: tuple[bytes, ...] | None = ()
        self.changed: bool = False
        self._by_length: dict[int, set[bytes]] = {}
        self._sorted: list[bytes] = []
        self._parents: list[int] = []

    def add(self, member: bytes) -> None:
        """*member* is in it now."""
        self._by_length.setdefault(len(member), set()).add(member)
        self.changed = True

    def discard(self, member: bytes) -> None:
        """*member*, which was in it, is no more."""
        members = self._by_length[len(member)]
        members.discard(member)
        if not members:
            del self._by_length[len(member)]
        self.changed = True

    def settle(self) -> None:
        """Take stock after changes."""
        self.changed = False
        self._sorted = []
        by_length = self._by_length
        self.longest = max(by_length, default=0)
        self.main = max(by_length, key=lambda length: len(by_length[length]), default=0)
        others = [members for length, members in by_length.items() if length != self.main]
        self.strays = tuple(member for members in others for member in members) if _are_few(others) else None

    def prefixes_of(self, key: bytes) -> Iterable[bytes]:
        """The members that *key* begins with, once each."""
        if self.changed:
            self.settle()
        if len(self._by_length) > _LENGTHS_TO_TRY:
            return self._walk(key)
        return [head for length, members in self._by_length.items() if (head := key[:length]) in members]

    def has_prefix_of(self, key: bytes) -> bool:
        """Whether *key* begins with some member."""
        return any(True for _ in self.prefixes_of(key))

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
        self._sorted = sorted(member for members in self._by_length.values() for member in members)
        self._parents = []
        open_prefixes: list[int] = []
        for at, member in enumerate(self._sorted):
            while open_prefixes and not member.startswith(self._sorted[open_prefixes[-1]]):
                open_prefixes.pop()
            self._parents.append(open_prefixes[-1] if open_prefixes else -1)
            open_prefixes.append(at)


def _are_few(others: list[set[bytes]]) -> bool:
    return sum(map(len, others)) <= _STRAYS


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
        if not self._invert and self._counts and not self._doubtful(messages):
            return messages
        wanted, unwanted = self._index.has_prefix_of, self._invert
        return [m for m in messages if wanted(m if isinstance(m, bytes) else m[0]) != unwanted]

    def _doubtful(self, messages: list[Payload]) -> bool:
        """Whether some of *messages* may be unwanted.

        Publishers filter, so most batches are wanted whole, and one look-up a message, at the length that most topics
        have, says so for most of them.
        """
        index, topics = self._index, self._counts
        if index.changed:
            index.settle()
        length, strays = index.main, index.strays
        rest = [
            first
            for m in messages
            if (first := m if isinstance(m, bytes) else m[0])[:length] not in topics
        ]  # fmt: skip
        if strays is not None:
            return not all([first.startswith(strays) for first in rest])
        return not all([index.has_prefix_of(first) for first in rest])
