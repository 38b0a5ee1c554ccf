"""Subscriptions: which subscribers a topic has, and who wants a message, by prefix of its first frame (RFC 29).

Both directions have hot paths, so both are cached look-ups; neither cache outlives a change, and neither can grow with the
messages that pass: keys are cut to the longest subscribed topic, and there are at most 4,096 of them.
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


class SubscriptionTable(Generic[S]):
    """Who subscribed to what. A set for each topic, not a count: RFC 37 differs, every libzmq does it so."""

    def __init__(self) -> None:
        self._topics: dict[bytes, dict[S, None]] = {}
        self._index = PrefixIndex()
        self._cache: dict[bytes, tuple[S, ...]] = {}

    def __len__(self) -> int:
        """The number of distinct topics."""
        return len(self._topics)

    def add(self, topic: bytes, subscriber: S) -> bool:
        """True if *topic* had no subscriber before."""
        subscribers = self._topics.get(topic)
        first = subscribers is None
        if subscribers is None:
            subscribers = self._topics[topic] = {}
            self._index.add(topic)
        subscribers[subscriber] = None
        self._cache.clear()
        return first

    def discard(self, topic: bytes, subscriber: S) -> bool:
        """True if *topic* has no subscriber any more, or never had this one."""
        subscribers = self._topics.get(topic, {})
        subscribers.pop(subscriber, None)
        self._cache.clear()
        if subscribers:
            return False
        if topic in self._topics:
            del self._topics[topic]
            self._index.discard(topic)
        return True

    def match(self, first_frame: bytes) -> tuple[S, ...]:
        """Everyone with a subscription that *first_frame* begins with, once each."""
        key = first_frame[: self._index.longest]
        found = self._cache.get(key)
        return self._look_up(key) if found is None else found

    def _look_up(self, key: bytes) -> tuple[S, ...]:
        found: dict[S, None] = {}
        for topic in self._index.prefixes_of(key):
            found.update(self._topics[topic])
        if len(self._cache) >= _CACHED_KEYS:
            self._cache.clear()
        matched = self._cache[key] = tuple(found)
        return matched


class PrefixIndex:
    """A set of byte strings that knows which of them a key begins with.

    With few distinct lengths it tries each; a peer that subscribes to a thousand lengths makes it sort the strings and link
    each to its longest prefix among them instead, so the work for a key never depends on what peers choose to send.
    """

    def __init__(self) -> None:
        self.longest = 0
        self._members: set[bytes] = set()
        self._lengths: Counter[int] = Counter()
        self._tried: list[int] = []
        self._sorted: list[bytes] = []
        self._parents: list[int] = []

    def add(self, member: bytes) -> None:
        self._members.add(member)
        self._lengths[len(member)] += 1
        self._changed(len(member))

    def discard(self, member: bytes) -> None:
        self._members.discard(member)
        self._lengths[len(member)] -= 1
        if not self._lengths[len(member)]:
            del self._lengths[len(member)]
        self._changed(len(member))

    def _changed(self, length: int) -> None:
        self._sorted = []
        if (length in self._lengths) != (length in self._tried):
            self._tried = sorted(self._lengths)
            self.longest = self._tried[-1] if self._tried else 0

    def prefixes_of(self, key: bytes) -> Iterable[bytes]:
        """The members that *key* begins with."""
        if len(self._tried) <= _LENGTHS_TO_TRY:
            heads = (key[:length] for length in self._tried if length <= len(key))
            return [head for head in heads if head in self._members]
        return self._walk(key)

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
        self._table: SubscriptionTable[None] = SubscriptionTable()
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
        self._table.add(topic, None)

    def discard(self, topic: bytes) -> bool:
        """One less. True if it was the last one, which alone is told upstream; unknown topics change nothing."""
        if topic not in self._counts:
            return False
        self._counts[topic] -= 1
        if self._counts[topic]:
            return False
        del self._counts[topic]
        self._table.discard(topic, None)
        return True

    def wants(self, message: Payload) -> bool:
        """Whether *message* begins with a topic (or, inverted, with none)."""
        return bool(self._table.match(message if isinstance(message, bytes) else message[0])) != self._invert

    def filter(self, messages: list[Payload]) -> list[Payload]:
        """Those of *messages* that are wanted, in order."""
        if b"" in self._counts and not self._invert:
            return messages
        wants = self.wants
        return [message for message in messages if wants(message)]
