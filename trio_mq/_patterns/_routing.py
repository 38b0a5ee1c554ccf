"""DEALER and ROUTER (RFC 28): asynchronous request and reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._errors import HandshakeError, HostUnreachableError
from .._message import Payload
from ._face import Batch, Dropped, Pattern, PipeFace
from ._fair_queue import FairQueue
from ._pipeline import Sending


class Dealer(Sending):
    """A load balancer out, a fair queue in; nothing added, nothing removed."""

    def __init__(self, *, probe: bool = False) -> None:
        super().__init__()
        self._queue = FairQueue()
        self._probe = probe

    def ready(self, pipe: PipeFace) -> None:
        if self._probe:
            pipe.outbound.put_all([b""])

    def readable(self, pipe: PipeFace) -> None:
        self._queue.activate(pipe)

    def take(self, limit: int) -> Batch:
        return self._queue.take(limit)

    def can_receive(self) -> bool:
        return bool(self._queue)


class Router(Pattern):
    """Every peer has a routing id: the first frame of what is received from it, and of what is sent to it.

    Args:
        first_id: where the numbers of made-up routing ids begin; random, so that ids are not mistaken across restarts.
    """

    def __init__(
        self, dropped: Dropped, *, first_id: int, mandatory: bool, handover: bool, block: bool, probe: bool
    ) -> None:
        self._dropped = dropped
        self._queue = FairQueue()
        self._pipes: dict[bytes, PipeFace] = {}
        self._ids: dict[PipeFace, bytes] = {}
        self._paused: set[PipeFace] = set()
        self._next_id = first_id
        self.mandatory = mandatory
        self.handover = handover
        self._block = block
        self._probe = probe

    def attached(self, pipe: PipeFace) -> None:
        # libzmq's CONNECT_ROUTING_ID: the peer can be addressed before it has said who it is.
        if pipe.preset_id:
            self._register(pipe, pipe.preset_id)

    def ready(self, pipe: PipeFace) -> None:
        known = self._ids.get(pipe)
        wanted = pipe.preset_id or pipe.peer.routing_id or (self._made_up_id() if known is None else known)
        owner = self._pipes.get(wanted)
        if owner is not None and owner is not pipe and not self.handover:
            raise HandshakeError(
                f"the routing id {wanted!r} belongs to another peer; Options(router_handover=True) would pass it on"
            )
        if known is not None and known != wanted and self._pipes.get(known) is pipe:
            del self._pipes[known]
        # The newcomer first: who waits for room at the old one goes on waiting at the new one.
        self._register(pipe, wanted)
        if owner is not None and owner is not pipe and owner.connection is not None:
            owner.connection.close(HandshakeError(f"the routing id {wanted!r} was taken over by a newcomer"))
        if self._probe:
            pipe.outbound.put_all([b""])

    def lost(self, pipe: PipeFace) -> None:
        # What answers a REQ is for a request that died with the connection. On the next one it could be taken for the
        # answer to another, so neither what is queued nor what is still to be sent to this id goes there.
        if pipe.peer.socket_type == "REQ" and not pipe.preset_id:
            if len(pipe.outbound):
                self._dropped(pipe, "disconnected", len(pipe.outbound.clear()))
            self.detached(pipe)

    def _register(self, pipe: PipeFace, routing_id: bytes) -> None:
        self._pipes[routing_id] = pipe
        self._ids[pipe] = routing_id
        pipe.peer = replace(pipe.peer, routing_id=routing_id)

    def _made_up_id(self) -> bytes:
        # 28/REQREP: generated ids are five bytes and begin with a zero byte, which no peer may choose itself.
        self._next_id = (self._next_id + 1) % (1 << 32)
        return b"\0" + self._next_id.to_bytes(4, "big")

    def knows(self, routing_id: bytes) -> bool:
        """Whether some peer has (or was promised) this routing id."""
        return routing_id in self._pipes

    def pipe_of(self, routing_id: bytes) -> PipeFace | None:
        """The pipe to the peer with this routing id."""
        return self._pipes.get(routing_id)

    def detached(self, pipe: PipeFace) -> None:
        if pipe in self._paused:
            self.resume(pipe)  # what came before it left is heard, and that it left
        known = self._ids.pop(pipe, None)
        if known is not None and self._pipes.get(known) is pipe:
            del self._pipes[known]

    def accept(self, pipe: PipeFace, messages: list[Any]) -> list[Any]:
        routing_id = pipe.peer.routing_id
        return [
            [routing_id, m] if isinstance(m, bytes) else [routing_id, *m] if isinstance(m, list) else m
            for m in messages
        ]

    def unrefine(self, message: Any) -> Any:
        if not isinstance(message, list):
            return message
        return message[1] if len(message) == 2 else message[1:]

    def readable(self, pipe: PipeFace) -> None:
        if pipe not in self._paused:
            self._queue.activate(pipe)

    def pause(self, pipe: PipeFace) -> None:
        """Take nothing more of *pipe*; its mailbox fills up to the mark, and then nothing more is read."""
        self._paused.add(pipe)
        self._queue.deactivate(pipe)

    def resume(self, pipe: PipeFace) -> None:
        """Take what *pipe* has again."""
        self._paused.discard(pipe)
        if pipe.inbound.items:
            self._queue.activate(pipe)

    def take(self, limit: int) -> Batch:
        return self._queue.take(limit)

    def can_receive(self) -> bool:
        return bool(self._queue)

    def send(self, message: Payload) -> object | None:
        if isinstance(message, bytes) or len(message) < 2:
            raise ValueError(
                "a message to a ROUTER's peer begins with its routing id: send_multipart([routing_id, frame, ...])"
            )
        pipe = self._pipes.get(message[0])
        if pipe is None:
            if self.mandatory:
                raise HostUnreachableError(message[0])
            self._dropped(None, "unroutable", 1)
        elif not pipe.outbound.put(message[1] if len(message) == 2 else message[1:]):
            if self.mandatory or self._block:
                return pipe
            pipe.outbound.full = False
            self._dropped(pipe, "hwm", 1)
        return None

    def gate(self, message: Payload) -> object:
        return self._pipes.get(message[0]) if isinstance(message, list) else None

    def can_send(self) -> bool:
        # Without a peer it drops or raises; whether one has room is known only for the one a message is for.
        return True
