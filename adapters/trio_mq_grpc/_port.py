"""One port of a server: a ROUTER, the peers that are connected to it, and the task that gives each unit to its call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from struct import error as StructError  # noqa: N812  # it is an exception class with a module's short name

import grpc
import trio

import trio_mq

from ._compression import SUPPORTED
from ._errors import log
from ._home import Home
from ._options import ServerOptions
from ._outbox import Frames
from ._peer import Key, Peer
from ._served import ServedCall
from ._status import Status
from ._wire import CALL, CREDIT, DATA, HEADER, MAGIC, PROPERTY, RESET, Announcement, announce, envelope_end

_unpack = HEADER.unpack
_SEND_MARK = 1 << 18
"""Bytes that may wait in the socket for one peer; beyond, order is the outbox's."""
_REFILL_BELOW = _SEND_MARK // 2
_AT_ONCE = 8
"""Units after which the calls that they begin get a chance to run, and their answers to be written. With all that there
is at once the two ends would take turns instead of working side by side (`tests.benchmarks`, row "rpc-unary-64")."""
_MOST_AT_ONCE = 128
"""Units that are looked at before the calls they begin get a chance to run, and to fill what waits for the peer."""
_MOST_FRAMES = 64
_RECEIVE_MARK = 1 << 20
"""Bytes of one peer that may wait to be looked at."""


class Port:
    """One port.

    Attributes:
        endpoint: what peers connect to.
        peers: those that are connected, by routing id.
        dropped: units that were for nobody, by reason.
    """

    def __init__(self, home: Home, endpoint: str, **security: object) -> None:
        self._home = home
        self._options = socket_options(home.options, **security)
        self._listener = trio_mq.listen(endpoint, self._options)
        # Made here and entered in `serve`, so that an endpoint at which no ROUTER can be is an error of the caller's.
        self._router = trio_mq.Router(bind=self._listener, options=self._options)
        self._nursery: trio.Nursery | None = None
        self.endpoint = self._listener.endpoint
        self.peers: dict[bytes, Peer] = {}
        self.dropped: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Port {self.endpoint}: {len(self.peers)} peers>"

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self.endpoint

    @property
    def number(self) -> int:
        """The port number as grpcio returns it; 1 where there is none."""
        number = self.endpoint.rpartition(":")[2]
        return int(number) if self.endpoint.startswith("tcp:") and number.isdigit() else 1

    def close(self) -> None:
        """Stop listening; the peers stay."""
        self._listener.close()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve it until cancelled."""
        async with self._router, trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                while True:
                    batch = await self._router.receive_many()
                    for start in range(0, len(batch), _AT_ONCE):
                        if start:
                            await trio.lowlevel.checkpoint()
                        for item in batch[start : start + _AT_ONCE]:
                            if type(item) is list:
                                self._on_message(item)
                            else:
                                self._on_event(item)
            finally:
                # While the socket is still open: a handler that ends later has nobody to tell.
                for peer in list(self.peers.values()):
                    self._forget(peer)

    async def wait_idle(self) -> None:
        """Return at once: whatever runs here is in the server's pool."""

    async def flush(self) -> None:
        """Wait until the kernel has all that was sent."""
        for peer in list(self.peers.values()):
            while peer.outbox.blocked and self.peers.get(peer.prefix[0]) is peer:
                await peer.wait_drained()
        await self._router.flush()

    def go_away(self) -> None:
        """Tell every peer that no new calls are taken."""
        for peer in list(self.peers.values()):
            peer.go_away()

    def end_calls(self, end: Callable[[ServedCall], None]) -> None:
        """Apply *end* to every call."""
        for peer in list(self.peers.values()):
            for call in list(peer.calls.values()):
                end(call)

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _on_message(self, frames: Frames) -> None:
        peer = self.peers.get(frames[0])
        if peer is None:
            self.dropped["no peer"] += 1
            return
        at = 0
        try:
            at = 2 if not frames[1] else envelope_end(frames, 1)
            magic, kind, flags, value, call_id = _unpack(frames[at] if at else b"")
        except (StructError, IndexError):
            magic = kind = flags = value = call_id = 0
        if magic >> 4 != MAGIC >> 4 or (not call_id and kind <= CREDIT):
            self._on_garbage(peer, frames, at)
            return
        key = call_id if at == 2 else (*frames[1 : at - 1], call_id)
        if magic == MAGIC and kind == CALL and not peer.holding:
            peer.on_call(key, flags, value, call_id, frames, at)
            return
        call = peer.calls.get(key)
        if call is None or magic != MAGIC or kind == CALL:
            self._on_stray(peer, key, magic, kind, value, call_id, frames, at)
        elif kind == DATA:
            call.on_data(flags, value, frames, at)
        elif kind == CREDIT:
            call.on_credit(value)
        elif kind == RESET:
            self._on_reset(peer, call, frames, at)
        else:
            call.end(Status(grpc.StatusCode.UNIMPLEMENTED, f"version 1 of TMQ-RPC has no type {kind}"))

    def _on_garbage(self, peer: Peer, frames: Frames, at: int) -> None:
        if peer.holding:
            self._hold(peer, frames)  # it may have an answer, so it may not be had without reading those before
        else:
            self.dropped["no unit"] += 1
            peer.on_garbage(frames, at)

    def _on_stray(
        self, peer: Peer, key: Key, magic: int, kind: int, value: int, call_id: int, frames: Frames, at: int
    ) -> None:
        """A unit of no call that runs, or one that is not of our version."""
        if peer.holding and (kind in (CALL, DATA, RESET) or peer.strict):
            self._hold(peer, frames)
        elif magic == MAGIC and kind == RESET and not peer.strict:
            peer.outbox.forget(key)  # it has ended here, and its last large message may still be going out
        elif not peer.on_stray(magic, kind, value, call_id, frames, at):
            self.dropped["no call"] += 1

    def _on_reset(self, peer: Peer, call: ServedCall, frames: Frames, at: int) -> None:
        if not peer.on_reset(call, frames, at):
            self._disconnect(peer, "it resets too many calls")

    def _hold(self, peer: Peer, frames: Frames) -> None:
        """Too much waits to be sent to *peer*: what was read of it already waits, too, and nothing more is read."""
        if not peer.held:
            self._router.pause_peer(peer.identity.routing_id)
        peer.held.append(frames)

    def _disconnect(self, peer: Peer, reason: str) -> None:
        assert self._nursery is not None
        log.warning("the peer at %s is disconnected: %s", peer.name, reason)
        self.dropped["disconnected"] += 1
        self._forget(peer)
        self._nursery.start_soon(self._end_connection, peer)

    async def _end_connection(self, peer: Peer) -> None:
        try:
            await self._router.disconnect_peer(peer.identity)
        except (trio_mq.StateError, trio.ClosedResourceError):
            pass  # it has gone by itself

    def _on_event(self, event: object) -> None:
        if isinstance(event, trio_mq.PeerJoined):
            if event.peer.routing_id in self.peers:
                # One that chose its id is back, and what its last connection left has not been read to the end.
                self._forget(self.peers[event.peer.routing_id])
            peer = Peer(self._home, event.peer, self._router.send_multipart_nowait, self._blocked)
            self.peers[event.peer.routing_id] = peer
            if self._home.stopping:
                peer.go_away()
        elif isinstance(event, trio_mq.PeerLeft):
            left = self.peers.get(event.peer.routing_id)
            if left is not None and left.identity.connection == event.peer.connection:
                self._forget(left)

    def _forget(self, peer: Peer) -> None:
        del self.peers[peer.identity.routing_id]
        peer.lost()

    # --- what goes out ----------------------------------------------------------------------------------------------

    def _blocked(self, peer: Peer) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._drain, peer)

    async def _drain(self, peer: Peer) -> None:
        """Send what waits for *peer* as there is room, then look at what came meanwhile."""
        router = self._router
        await peer.drain(lambda: router.wait_room(peer.identity.routing_id, _REFILL_BELOW))
        while peer.held and not peer.outbox.blocked:
            peer.releasing = True
            for _ in range(_MOST_AT_ONCE):
                # What one unit does may disconnect the peer, or bring so many answers that the rest is held on.
                if peer.held and not peer.holding:
                    self._on_message(peer.held.popleft())
            peer.releasing = False
            if not peer.held and self.peers.get(peer.identity.routing_id) is peer:
                router.resume_peer(peer.identity.routing_id)
            await trio.lowlevel.checkpoint()


def socket_options(options: ServerOptions, **security: object) -> trio_mq.Options:
    """How the ROUTER of a port behaves: nothing is dropped, and what is not ours ends before it costs memory."""
    largest = options.max_receive_message_length
    ours = Announcement(window=options.window, max_message=largest, encodings=SUPPORTED, fragments=True)
    given: dict[str, object] = {
        "peer_events": True,
        "overflow": "block",
        "send_hwm": None,
        "send_hwm_bytes": _SEND_MARK,
        "receive_hwm_bytes": _RECEIVE_MARK,
        "linger": 0,
        "heartbeat_interval": options.heartbeat_interval,
        "heartbeat_timeout": options.heartbeat_timeout,
        # A message that is too large ends its call, with both numbers; one that is absurd ends the connection.
        "max_message_size": None if largest is None else max(4 * largest, 1 << 20),
        "max_frames": _MOST_FRAMES,
        "ipv6": True,
        "properties": {PROPERTY: announce(ours)},
        **security,
    }
    return trio_mq.Options(**given)  # type: ignore[arg-type]  # Options checks its fields itself
