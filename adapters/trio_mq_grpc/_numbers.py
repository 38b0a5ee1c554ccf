"""Sequence numbers of what is published: how a publisher counts, and how a subscriber sees what it missed. Pure.

PUB drops for a subscriber that is too slow, and nobody is told. So everything that is published carries two numbers:
one counts its method or message type whatever the key, one its topic, that is type and key. Both begin at 0, which says
"begun, or begun again" and is never a gap; then come 1, 2, … 2³² - 1, 1, and so on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

LAST: Final = 0xFFFFFFFF
MOST_KEYS: Final = 65_536
"""Topics that a publisher remembers: those used last. A topic that was forgotten begins again at 0."""
MOST_HEARD: Final = 65_536
"""Counters that a subscriber remembers; whoever invents publishers must not cost it memory without end."""

_HALF = 1 << 31
_PERIOD = LAST
"""Numbers that come round again: all but 0."""


class Numbers(NamedTuple):
    """The numbers of one published message.

    Attributes:
        of_type: which of its method or type it is.
        of_topic: which of its topic, with the key.
    """

    of_type: int
    of_topic: int


def following(number: int) -> int:
    """The number after *number*."""
    return 1 if number == LAST else number + 1


def is_before(number: int, expected: int) -> bool:
    """Whether *number* came earlier than *expected* in the count of one publisher's type."""
    if number == expected or expected == 0:
        return False
    return number == 0 or (expected - number) % _PERIOD < _HALF


class Numbering:
    """The counters of one publisher.

    `upcoming` and `taken` are two, so that a message that could not be sent leaves no gap behind.
    """

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._types: dict[bytes, int] = {}
        self._topics: OrderedDict[bytes, int] = OrderedDict()
        self._most_keys = most_keys

    def __repr__(self) -> str:
        return f"<Numbering of {len(self._types)} types, {len(self._topics)} topics>"

    def upcoming_of_type(self, path: bytes) -> int:
        """The number of the next message of the type or method *path*."""
        return self._types.get(path, 0)

    def upcoming(self, path: bytes, topic: bytes) -> Numbers:
        """The numbers of the next message of *topic*, which is of the type or method *path*."""
        return Numbers(self._types.get(path, 0), self._topics.get(topic, 0))

    def taken(self, path: bytes, topic: bytes, numbers: Numbers) -> None:
        """The message with *numbers* was sent."""
        self._types[path] = following(numbers.of_type)
        topics = self._topics
        topics[topic] = following(numbers.of_topic)
        topics.move_to_end(topic)
        if len(topics) > self._most_keys:
            topics.popitem(last=False)


class Missed:
    """What a subscriber has not received, as the numbers show it.

    Attributes:
        count: all that was missed so far.
    """

    def __init__(self, most: int = MOST_HEARD) -> None:
        self.count = 0
        self._expected: OrderedDict[Hashable, int] = OrderedDict()
        self._most = most

    def __repr__(self) -> str:
        return f"<Missed: {self.count}, {len(self._expected)} counters>"

    def before(self, counter: Hashable, number: int, *, restarts: bool) -> int:
        """How many messages of *counter* were missed just before the one with *number*.

        What is heard first of a counter is a beginning, so nothing was missed; nor before a 0.

        Args:
            counter: whose number it is; publishers have different ones.
            number: what has arrived.
            restarts: the counter may begin again within the life of its publisher, as those of topics do. A number that
                goes back then means that the 0, at least, was missed. Otherwise it is a repetition.
        """
        expected = self._expected.get(counter)
        missed = 0
        if expected is not None and number != expected:
            missed = (number - expected) % _PERIOD
            if number == 0 or missed >= _HALF:
                if not restarts:
                    return 0  # a repetition: the publisher is heard in two ways, say
                missed = number
        self._remember(counter, following(number))
        self.count += missed
        return missed

    def _remember(self, counter: Hashable, expected: int) -> None:
        known = self._expected
        known[counter] = expected
        known.move_to_end(counter)
        if len(known) > self._most:
            known.popitem(last=False)
