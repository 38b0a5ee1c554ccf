"""The mailbox: the only queue there is, between one that writes and one that reads, both on one event loop.

It is bounded by a high-water mark, filled and emptied in batches, and speaks up only at the edges:

* `on_item`: the reader had found it empty (`asleep`) and there is something now;
* `on_full`: the writer found it full; whoever reads may make room on the spot (one inline write);
* `on_room`: the writer had found it full (`full`) and half of it, at least, has gone;
* `on_fewer`: somebody watches it (`watched`), and some of it has gone;
* `on_sleep`: the reader found it empty, so turns dealt out on it (see below) end.

**Turns.** While the reader is awake a writer may append to `items` itself, as often as `room` said, and say
nothing. That is what makes sending cheap (`tests.benchmarks`, row "16 B one by one").

**Held items.** An engine that writes a batch to the kernel `hold`s it: it has left `items` but still counts
against the mark until the kernel has all of it (`release`) or it comes back to the front (`restore`).

It knows nothing of sockets, patterns, wires or tasks: the hooks are plain functions, set by those who share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._message import size_of, size_of_all

UNBOUNDED = 1 << 60
LONG = 1 << 13
"""Items from which a mailbox is worth splitting, so that taking some does not move all the others."""


def nothing() -> None:
    """A hook that nobody has set."""


class Mailbox:
    """A queue of whole messages with a mark in messages.

    Attributes:
        items: what waits, oldest first. The list stays the same object for ever.
        hwm: messages that may wait; `UNBOUNDED` for no mark.
        asleep: the reader found it empty and must be told about the next item.
        full: the writer was refused and must be told about room.
        batch: the messages being written to the kernel right now.
        held: how many count against the mark without being in `items`: the batch, and the front of a long queue.
        passed: messages that have left it for good, towards the reader.
        deals: whether turns may be dealt out on it.
        encoded: items are wire bytes of one message each, not messages.
        watched: somebody waits for fewer bytes in it, and is to be told of the next batch that goes.
        refine: applied to what is taken, where no engine stands between the two ends to do it (inproc).
        full_reason: why messages are dropped where a full mailbox means that: its mark, or what keeps it from emptying.
    """

    __slots__ = (
        "_front", "asleep", "batch", "encoded", "full", "full_reason", "held", "hwm", "items", "on_fewer", "on_full",
        "on_item", "on_room", "on_sleep", "passed", "refine", "watched",
    )  # fmt: skip
    deals = True

    def __init__(self, hwm: int | None) -> None:
        self.items: list[Any] = []
        self.hwm: int = UNBOUNDED if hwm is None else hwm
        self.asleep: bool = True
        self.full: bool = False
        self.full_reason: str = "hwm"
        self.encoded: bool = False
        self.batch: list[Any] = []
        self._front: list[Any] = []
        self.held: int = 0
        self.passed: int = 0
        self.on_item: Callable[[], None] = nothing
        self.watched: bool = False
        self.on_fewer: Callable[[], None] = nothing
        self.on_full: Callable[[], None] = nothing
        self.on_room: Callable[[], None] = nothing
        self.on_sleep: Callable[[], None] = nothing
        self.refine: Callable[[list[Any]], list[Any]] | None = None

    def __repr__(self) -> str:
        mark = "no mark" if self.hwm == UNBOUNDED else f"mark {self.hwm}"
        return f"<{type(self).__name__}: {len(self.items)} waiting, {self.held} held, {mark}>"

    def __len__(self) -> int:
        return len(self.items) + self.held

    def set_mark(self, hwm: int | None) -> None:
        """Change the mark; below what waits already it just stays full."""
        self.hwm = UNBOUNDED if hwm is None else hwm
        if self.full:
            self._tell_of_room()

    def room(self) -> int:
        """How many more messages it takes; zero or less when it is full."""
        return self.hwm - len(self.items) - self.held

    def room_for(self, size: int) -> int:
        """How many more it takes of messages that have no more than *size* bytes in all."""
        return self.room()

    def put(self, item: Any) -> bool:
        """Add *item*; or return False, and tell the writer of room later, if there is none even after asking."""
        if len(self.items) + self.held >= self.hwm and not self._made_room():
            self.full = True
            return False
        self.items.append(item)
        if self.asleep:
            self.asleep = False
            self.on_item()
        return True

    def _made_room(self) -> bool:
        self.on_full()
        return self.room() > 0

    def has_room(self) -> bool:
        """Whether `put` would succeed, asking the reader to make room if need be."""
        if self.room() > 0 or self._made_room():
            return True
        self.full = True
        return False

    def put_all(self, items: list[Any]) -> None:
        """Add *items*, whose number the caller has fitted to `room` (notices that must not be lost may exceed it)."""
        self.items += items
        if self.asleep and self.items:
            self.asleep = False
            self.on_item()

    def take(self, limit: int) -> list[Any]:
        """Up to *limit* items, oldest first, for good."""
        batch = self._cut(limit)
        self.passed += len(batch)
        self._tell()
        return batch if self.refine is None else self.refine(batch)

    def hold(self, limit: int) -> list[Any]:
        """Up to *limit* items, oldest first, that stay charged until `release` or `restore`."""
        batch = self.batch = self._cut(limit)
        self.held += len(batch)
        return batch

    def keep(self, count: int) -> list[Any]:
        """Of what is held only the first *count*; the rest goes back to the front."""
        rest = self.batch[count:]
        del self.batch[count:]
        self.held -= len(rest)
        self.put_back(rest)
        return self.batch

    def _cut(self, limit: int) -> list[Any]:
        items = self.items
        if len(items) > LONG or self._front:
            return self._cut_front(limit)
        batch = items[:limit]
        del items[:limit]
        return batch

    def _cut_front(self, limit: int) -> list[Any]:
        # Cutting the head off a list moves all the rest. From a long one half is cut off at once, and kept in reverse,
        # so that its head is the cheap end. Items stay behind it as long as there is any, so `items` still says whether
        # the mailbox is empty.
        if not self._front:
            half = len(self.items) // 2
            self._front = self.items[half - 1 :: -1]
            del self.items[:half]
            self.held += half
        kept = max(0, len(self._front) - limit)
        batch = self._front[: kept - 1 if kept else None : -1]
        del self._front[kept:]
        self.held -= len(batch)
        return batch

    def reach(self) -> int:
        """How many items one `take` can give."""
        if self._front:
            return len(self._front)
        return len(self.items) if len(self.items) <= LONG else len(self.items) // 2

    def put_back(self, items: list[Any]) -> None:
        """Put *items*, which had been taken, first in line again."""
        if self._front:
            self._front.extend(reversed(items))
            self.held += len(items)
        else:
            self.items[:0] = items

    def first(self) -> Any:
        """The oldest item; there must be one."""
        return self._front[-1] if self._front else self.items[0]

    def waiting(self) -> list[Any]:
        """All items that wait, oldest first, without those that are being written."""
        return [*reversed(self._front), *self.items]

    def release(self) -> None:
        """The held batch has gone."""
        count = len(self.batch)
        self.passed += count
        self.held -= count
        self.batch = []
        self._tell()

    def restore(self, unsent: list[Any]) -> None:
        """Of the held batch *unsent* goes back to the front, the rest has gone."""
        count = len(self.batch)
        self.passed += count - len(unsent)
        self.held -= count
        self.batch = []
        self.put_back(unsent)

    def sleep(self) -> None:
        """The reader has found it empty and stops looking."""
        self.asleep = True
        self.on_sleep()

    def _tell(self) -> None:
        """Some items have gone."""
        if self.full:
            self._tell_of_room()
        if self.watched:
            self.watched = False
            self.on_fewer()

    def _tell_of_room(self) -> None:
        # At half of the mark, as libzmq does: a writer woken for each single place would cost a task switch each.
        if self.room() * 2 >= self.hwm:
            self.full = False
            self.on_room()

    def remove(self, item: Any) -> bool:
        """Take back *item* (this very object) if it still waits."""
        waiting = self.clear()
        others = [other for other in waiting if other is not item]
        self.items += others
        if self.full:
            self._tell_of_room()
        return len(others) < len(waiting)

    def clear(self) -> list[Any]:
        """Everything that waits, oldest first; nobody is told."""
        everything = self.waiting()
        self.held -= len(self._front)
        self._front = []
        self.items.clear()
        return everything

    def size(self) -> int:
        """Bytes of payload (or of wire, where items are encoded) that wait or are held."""
        return size_of_all(self.waiting()) + size_of_all(self.batch)


class WeighedMailbox(Mailbox):
    """A mailbox with a mark in bytes, too: below it one more message of any size is taken."""

    __slots__ = ("hwm_bytes", "weight")
    deals = False

    def __init__(self, hwm: int | None, hwm_bytes: int) -> None:
        super().__init__(hwm)
        self.hwm_bytes = hwm_bytes
        self.weight = 0

    def room(self) -> int:
        if self.weight >= self.hwm_bytes:
            return 0
        # One at a time: how heavy the next one is, nobody knows.
        return min(1, super().room())

    def room_for(self, size: int) -> int:
        return super().room() if self.weight + size < self.hwm_bytes else self.room()

    def put(self, item: Any) -> bool:
        if (self.weight >= self.hwm_bytes or len(self.items) + self.held >= self.hwm) and not self.has_room():
            return False
        self.weight += size_of(item)
        self.items.append(item)
        if self.asleep:
            self.asleep = False
            self.on_item()
        return True

    def put_all(self, items: list[Any]) -> None:
        self.weight += size_of_all(items)
        super().put_all(items)

    def take(self, limit: int) -> list[Any]:
        batch = self._cut(limit)
        self.passed += len(batch)
        # What was all there is need not be weighed again.
        self.weight = self.weight - size_of_all(batch) if len(self) else 0
        self._tell()
        return batch if self.refine is None else self.refine(batch)

    def put_back(self, items: list[Any]) -> None:
        self.weight += size_of_all(items)
        super().put_back(items)

    def keep(self, count: int) -> list[Any]:
        self.weight -= size_of_all(self.batch[count:])
        return super().keep(count)

    def release(self) -> None:
        self.weight = self.weight - size_of_all(self.batch) if len(self) > len(self.batch) else 0
        super().release()

    def restore(self, unsent: list[Any]) -> None:
        self.weight -= size_of_all(self.batch)
        super().restore(unsent)

    def remove(self, item: Any) -> bool:
        removed = super().remove(item)
        self.weight = self.size()
        return removed

    def clear(self) -> list[Any]:
        self.weight = size_of_all(self.batch)
        return super().clear()

    def _tell_of_room(self) -> None:
        if self.room() > 0 and self.weight * 2 <= self.hwm_bytes:
            self.full = False
            self.on_room()


class NewestMailbox(Mailbox):
    """A mailbox of one that keeps the newest message (``conflate``); it is never full."""

    __slots__ = ()
    deals = False

    def room(self) -> int:
        return UNBOUNDED

    def put(self, item: Any) -> bool:
        self.put_all([item])
        return True

    def put_all(self, items: list[Any]) -> None:
        self.items.clear()
        super().put_all(items[-1:])

    def restore(self, unsent: list[Any]) -> None:
        super().restore(unsent if not self.items else [])


def new_mailbox(hwm: int | None, hwm_bytes: int | None = None, *, conflate: bool = False) -> Mailbox:
    """The mailbox for these marks."""
    if conflate:
        return NewestMailbox(None)
    return Mailbox(hwm) if hwm_bytes is None else WeighedMailbox(hwm, hwm_bytes)


def combined_mark(*marks: int | None) -> int | None:
    """The mark in messages of a queue that belongs to two sockets (inproc): the sum, and none if one has none."""
    known = [mark for mark in marks if mark is not None]
    return sum(known) if len(known) == len(marks) else None


def combined_bytes(*marks: int | None) -> int | None:
    """The same in bytes, where an end without a mark adds nothing to the other's."""
    return sum(mark or 0 for mark in marks) or None
