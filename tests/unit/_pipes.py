"""Pipes as patterns see them: real ones, with no socket around, and a connection that only takes notes."""

from __future__ import annotations

from collections import Counter

from trio_mq._mailbox import new_mailbox
from trio_mq._message import Peer
from trio_mq._patterns._face import PipeFace
from trio_mq._pipe import Pipe


class Notes:
    """A connection that does nothing but remember what it was asked."""

    def __init__(self) -> None:
        self.subscriptions: list[tuple[bytes, bool]] = []
        self.restarts = 0
        self.closed: list[Exception | None] = []

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        self.subscriptions.append((topic, subscribe))

    def restart(self) -> None:
        self.restarts += 1

    def looks(self) -> int:
        return 0

    def look(self) -> bool:
        return False

    def looked(self, found: bool) -> None:
        pass

    def close(self, error: Exception | None) -> None:
        self.closed.append(error)


class Drops:
    """A `Dropped` that counts by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.pipes: list[PipeFace | None] = []

    def __call__(self, pipe: PipeFace | None, reason: str, count: int) -> None:
        self.counts[reason] += count
        self.pipes.append(pipe)


def new_pipe(
    name: str = "peer",
    *,
    hwm: int | None = 10,
    connected: bool = True,
    awake: bool = False,
    routing_id: bytes = b"",
    socket_type: str = "",
) -> Pipe:
    """A pipe to *name*. *awake*: an engine is just emptying its outbound mailbox."""
    pipe = Pipe(new_mailbox(hwm), new_mailbox(hwm), Peer(name, routing_id=routing_id, socket_type=socket_type))
    pipe.connection = Notes() if connected else None
    pipe.outbound.asleep = not awake
    return pipe


def notes(pipe: Pipe) -> Notes:
    """The notes of its connection."""
    assert isinstance(pipe.connection, Notes)
    return pipe.connection
