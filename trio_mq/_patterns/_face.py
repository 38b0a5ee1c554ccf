"""What a pattern sees of a pipe, and what a socket sees of a pattern.

The pattern decides who gets a message and who is heard next. It never waits, wakes, connects or closes; where it cannot
go on it says what must have room first, and the live socket waits for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from .._message import Payload, Peer


class Box(Protocol):
    """A mailbox, as a pattern sees it."""

    asleep: bool
    encoded: bool
    full: bool
    full_reason: str
    held: int
    hwm: int
    items: list[Any]
    passed: int
    watched: bool

    @property
    def deals(self) -> bool: ...
    def put(self, item: Any) -> bool: ...
    def put_all(self, items: list[Any]) -> None: ...
    def take(self, limit: int) -> list[Any]: ...
    def room(self) -> int: ...
    def has_room(self) -> bool: ...
    def sleep(self) -> None: ...
    def remove(self, item: Any) -> bool: ...
    def size(self) -> int: ...
    def waiting(self) -> list[Any]: ...
    def reach(self) -> int: ...
    def clear(self) -> list[Any]: ...
    def __len__(self) -> int: ...


class Carrier(Protocol):
    """What carries a pipe at the moment."""

    def subscribe(self, topic: bytes, subscribe: bool) -> None: ...
    def restart(self) -> None: ...
    def looks(self) -> int: ...
    def look(self) -> bool: ...
    def looked(self, found: bool) -> None: ...
    def close(self, error: Exception | None) -> None: ...


class Past(Protocol):
    """Who was the peer of messages that still wait, oldest first: up to which count taken, and a stand-in."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[int, PipeFace]: ...
    def popleft(self) -> object: ...


class PipeFace(Protocol):
    """A pipe, as a pattern sees it. Hashable by identity."""

    peer: Peer
    readable: bool
    writable: bool
    preset_id: bytes
    subscriptions: set[bytes]
    requested: set[bytes]
    drops: Counter[str]

    @property
    def inbound(self) -> Box: ...
    @property
    def outbound(self) -> Box: ...
    @property
    def connection(self) -> Carrier | None: ...
    @property
    def past(self) -> Past: ...


class Batch(NamedTuple):
    """Messages to receive: the i-th came from ``pipes[i % len(pipes)]``."""

    messages: list[Any]
    pipes: Sequence[PipeFace]


Dropped: TypeAlias = Callable[["PipeFace | None", str, int], None]
"""Called with the pipe (None: no peer at all), the reason, and how many messages."""

Turns: TypeAlias = Iterator[Callable[[Any], object]]
"""One callable for each message that may be sent before anything must be asked again."""

NO_TURNS: Turns = iter(())
NOTHING = Batch([], ())


class Pattern:
    """What every pattern answers, with the answers of one that only exchanges nothing.

    Attributes:
        turns_need_readers: turns append to mailboxes directly, so they end when the reader of one falls asleep.

    A pipe's life: `attached` once, then `ready` and `lost` each time a connection is made and lost, then `detached`
    once.
    """

    turns_need_readers = True

    def attached(self, pipe: PipeFace) -> None:
        """*pipe* exists; messages may be queued in it, even if nobody is connected yet."""

    def ready(self, pipe: PipeFace) -> None:
        """The peer of *pipe* is past its handshake. Raises `HandshakeError` to refuse it."""

    def lost(self, pipe: PipeFace) -> None:
        """The connection of *pipe* is gone; the pipe waits for the next one."""

    def detached(self, pipe: PipeFace) -> None:
        """*pipe* is gone for good; what it has received can still be taken."""

    def readable(self, pipe: PipeFace) -> None:
        """*pipe* has messages again. A pattern that receives none still lets `accept` see them, on inproc here."""
        while pipe.inbound.items:
            pipe.inbound.take(len(pipe.inbound))
        pipe.inbound.sleep()

    def writable(self, pipe: PipeFace) -> None:
        """*pipe* has room again."""

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Any]:
        """Of *messages*, just arrived in this order, those (in the form) that shall be received.

        Raises:
            RemoteProtocolError: the peer may not send such a thing; its connection ends.
        """
        return messages

    def refine(self, pipe: PipeFace, messages: list[Any]) -> list[Any]:
        """`accept` where no wire is between the two ends (inproc): *messages* are just being taken."""
        return self.accept(pipe, messages)

    def unrefine(self, message: Any) -> Any:
        """*message* as it was before `refine`, for giving back what the program never received."""
        return message

    def subscription(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> None:
        """The peer of *pipe* subscribed to *topic*, or cancelled."""

    def send(self, message: Payload) -> object | None:
        """Queue *message* and return None, or return what must have room first: a pipe, or the pattern for any."""
        raise NotImplementedError

    def gate(self, message: Payload) -> object:
        """What `send` of *message* would wait for, so that it can queue behind who waits for it already."""
        return self

    def turns(self, quantum: int) -> Turns:
        """Turns for up to *quantum* messages, or none if each message must be asked for."""
        return NO_TURNS

    def revoke(self, unused: int) -> None:
        """The turns dealt last have ended with *unused* of them left."""

    def can_send(self) -> bool:
        """Whether `send` of an ordinary message would queue or drop it now instead of waiting."""
        return False

    def take(self, limit: int) -> Batch:
        """The next messages, at most *limit* and perhaps fewer; `NOTHING` if there are none."""
        return NOTHING

    def can_receive(self) -> bool:
        """Whether `take` has something."""
        return False
