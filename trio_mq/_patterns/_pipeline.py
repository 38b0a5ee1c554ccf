"""PUSH and PULL (RFC 30): work dealt out, results gathered."""

from __future__ import annotations

from .._message import Payload
from ._face import Batch, Dropped, Pattern, PipeFace, Turns
from ._fair_queue import FairQueue
from ._load_balancer import LoadBalancer


class Sending(Pattern):
    """Load-balanced sending: the outgoing half of PUSH and DEALER."""

    def __init__(self) -> None:
        self._balancer = LoadBalancer()

    def attached(self, pipe: PipeFace) -> None:
        self._balancer.add(pipe)

    def detached(self, pipe: PipeFace) -> None:
        self._balancer.remove(pipe)

    def writable(self, pipe: PipeFace) -> None:
        self._balancer.add(pipe)

    def send(self, message: Payload) -> object | None:
        return None if self._balancer.send(message) else self

    def turns(self, quantum: int) -> Turns:
        return self._balancer.turns(quantum)

    def revoke(self, unused: int) -> None:
        self._balancer.revoke(unused)

    def can_send(self) -> bool:
        return self._balancer.can_send()


class Receiving(Pattern):
    """Fair-queued receiving: the incoming half of PULL, DEALER and others."""

    def __init__(self) -> None:
        self._queue = FairQueue()

    def readable(self, pipe: PipeFace) -> None:
        self._queue.activate(pipe)

    def take(self, limit: int) -> Batch:
        return self._queue.take(limit)

    def can_receive(self) -> bool:
        return bool(self._queue)


class Push(Sending):
    """A load balancer; whatever a PULL sends is nothing it may."""

    def __init__(self, dropped: Dropped) -> None:
        super().__init__()
        self._dropped = dropped

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Payload]:
        self._dropped(pipe, "malformed", len(messages))
        return []


class Pull(Receiving):
    """A fair queue."""
