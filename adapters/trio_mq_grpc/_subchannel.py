"""One connection of a channel, to one endpoint: a DEALER, the calls on it, and the state in which it is.

It knows the wire's units and gives each to the RPC it belongs to. Which RPC goes where is the channel's affair.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from typing import Protocol

import grpc
import trio
from grpc import ChannelConnectivity as State

import trio_mq

from ._blocks import decode_goaway
from ._outbox import Frames, Outbox
from ._rpc import Rpc
from ._status import Status
from ._wire import (
    CREDIT,
    DATA,
    GOAWAY,
    HEADER,
    LEVEL_0,
    MAGIC,
    PING,
    PONG,
    PROPERTY,
    RESET,
    Announcement,
    announce,
    envelope_end,
    pack,
    read_announcement,
)

_unpack = HEADER.unpack
_SEND_MARK = 1 << 18
"""Bytes that may wait in the socket; beyond, order is the outbox's."""
_AT_ONCE = 32
"""Units after which whoever waits for them gets a chance to go on, and to send what comes next (see `_port`)."""
_MOST = 1000
"""Units taken at once."""
_SETTLED = 1.0
"""Seconds after which a connection is one that a server wanted, even if nothing was called on it."""
_MOST_PONGS = 10
"""Per second."""
_READY = State.READY  # looked up here: as an attribute of an Enum it costs a step of every call


class Watcher(Protocol):
    """The channel, as its subchannels see it."""

    def state_changed(self, subchannel: Subchannel) -> None:
        """Its state is another one."""

    def replace(self, subchannel: Subchannel) -> None:
        """Its server stops: it keeps the calls that it has, and takes no others."""


class Subchannel:
    """One connection, made when it is first needed.

    Attributes:
        state: as gRPC's connectivity semantics name it.
        error: why the last attempt to connect failed, or the peer was lost.
        calls: the RPCs that are under way on it.
        announcement: what the peer said of itself.
        going_away: the server has said that it stops.
        replaced: another one has taken its place; this one ends with its last call.
        cancels: whether the peer is told of cancelled calls; a REP could not take it.
        one_at_a_time: the peer is a REP: the next call goes out when this one has ended.
    """

    def __init__(
        self,
        watcher: Watcher,
        endpoint: str,
        make_options: Callable[[str, str], trio_mq.Options],
        ours: Announcement,
        *,
        cancels: bool = True,
        one_at_a_time: bool = False,
    ) -> None:
        epoch = 1 + secrets.randbelow(0xFFFFFFFE)  # 0 is a server's
        self.endpoint = endpoint
        self.state: State = State.IDLE
        self.error: Exception | str | None = None
        self.calls: dict[int, Rpc] = {}
        self.outbox: Outbox = Outbox(self._send_nowait, self._blocked)
        self.announcement: Announcement = LEVEL_0
        self.going_away: bool = False
        self.replaced: bool = False
        self.cancels = cancels
        self.one_at_a_time = one_at_a_time
        self.dropped: int = 0
        self._connection = 0
        self._joined_at = 0.0
        self._astray: list[int] = []
        self._watcher = watcher
        self._last_id = self._last_placed = self._id_at_join = epoch << 32
        # Made here and entered in `run`, so that an endpoint that cannot be meant is an error of the caller's.
        self._socket = trio_mq.Dealer(
            connect=endpoint, options=make_options(endpoint, announce(ours._replace(epoch=epoch)))
        )
        self._dealer: trio_mq.Dealer | None = None
        self._nursery: trio.Nursery | None = None
        self._pongs = (0.0, 0)

    def __repr__(self) -> str:
        return f"<Subchannel to {self.endpoint}: {self.state.name}, {len(self.calls)} calls>"

    def new_call_id(self) -> int:
        """An id that was never used."""
        self._last_id += 1
        return self._last_id

    @property
    def usable(self) -> bool:
        """Whether a call can begin on it now."""
        return self.state is _READY and not self.going_away and not (self.one_at_a_time and self.calls)

    def why_not(self) -> str:
        """Why it is not ready, for people."""
        if self.going_away:
            return f"{self.endpoint}: the server is stopping"
        return f"{self.endpoint}: {self.error or self.state.name}"

    def begin(self) -> None:
        """`run` follows."""
        self._enter(State.CONNECTING)

    async def run(self) -> None:
        """Keep the connection: until cancelled, or until it was replaced and its calls have ended."""
        async with self._socket as dealer:
            async with trio.open_nursery() as nursery:
                self._dealer, self._nursery = dealer, nursery
                nursery.start_soon(self._watch, dealer)
                try:
                    await self._receive(dealer)
                    nursery.cancel_scope.cancel()
                finally:
                    # Cancelled, perhaps together with the channel's block and before that could end its calls. They
                    # have nobody to tell: the peer learns of their end from that of the connection.
                    self._dealer = None

    async def _watch(self, dealer: trio_mq.Dealer) -> None:
        async with dealer.monitor() as events:
            async for event in events:
                if isinstance(event, (trio_mq.events.DialFailed, trio_mq.events.HandshakeFailed)):
                    self.error = _explained(event.error)
                    if self.state is not State.READY:
                        self._enter(State.TRANSIENT_FAILURE)

    async def _receive(self, dealer: trio_mq.Dealer) -> None:
        while self.calls or not self.replaced:
            batch = await dealer.receive_many(_MOST)
            last = self._last_id
            for start in range(0, len(batch), _AT_ONCE):
                if start:
                    await trio.lowlevel.checkpoint()
                for item in batch[start : start + _AT_ONCE]:
                    if type(item) is list:
                        self._on_message(item)
                    else:
                        self._on_event(item)
            if len(batch) < _MOST:  # that was all there was: so the connection held till then, or is the next already
                self._last_placed = last

    def _on_message(self, frames: Frames) -> None:
        try:
            at = 1 if not frames[0] else envelope_end(frames)
            magic, kind, flags, value, call_id = _unpack(frames[at] if at else b"")
        except (struct.error, IndexError):
            self.dropped += 1
            return
        call = self.calls.get(call_id)
        if call is None or magic != MAGIC:
            self._on_other(magic, kind, value, call_id, frames[at:])
        elif kind == DATA:
            call.on_data(flags, value, frames, at)
        elif kind == CREDIT:
            call.on_credit(value)
        elif kind == RESET:
            call.on_reset(flags, frames[at:])
        else:
            call.abandon(Status(grpc.StatusCode.UNIMPLEMENTED, f"the server sent a unit of type {kind}"))

    def _on_other(self, magic: int, kind: int, value: int, call_id: int, frames: list[bytes]) -> None:
        """A unit of no call of ours; they are dropped, never answered: that would be a storm after each cancel."""
        call = self.calls.get(call_id)
        if call is not None and magic >> 4 == MAGIC >> 4:
            call.abandon(Status(grpc.StatusCode.UNIMPLEMENTED, f"the server speaks version {magic & 15}, not 1"))
        elif magic == MAGIC and kind == GOAWAY and not call_id:
            self._on_goaway(frames)
        elif magic == MAGIC and kind == PING and not call_id:
            self._on_ping(value)
        elif magic == MAGIC and kind == RESET and not call_id and self.one_at_a_time:
            # A REP that could not read the call has no other id to give, and answers nothing else before.
            for call in list(self.calls.values()):
                call.on_reset(_unpack(frames[0])[2], frames)
        else:
            self.dropped += 1

    def _on_goaway(self, frames: list[bytes]) -> None:
        try:
            last, text = decode_goaway(frames[1])
        except (ValueError, IndexError):
            self.dropped += 1
            return
        self.going_away = True
        self.error = text or "the server is stopping"
        # Not for a server that says nothing else: it would be dialled again and again.
        if self._last_id > self._id_at_join or trio.current_time() - self._joined_at >= _SETTLED:
            self.replaced = True
            self._watcher.replace(self)
        self._watcher.state_changed(self)
        for call in [call for call_id, call in self.calls.items() if call_id > last]:
            call.attempt_over(Status(grpc.StatusCode.UNAVAILABLE, str(self.error), (), True))

    def _on_ping(self, value: int) -> None:
        second, count = self._pongs
        now = trio.current_time()
        self._pongs = (second, count + 1) if now - second < 1 else (now, 1)
        if self._pongs[1] <= _MOST_PONGS:
            self.outbox.send_control("pong", [b"", pack(PONG, 0, value, 0)])

    def _on_event(self, event: object) -> None:
        if isinstance(event, trio_mq.PeerJoined):
            if self._connection:
                self._lost("the connection was replaced", ())
            self._connection = event.peer.connection
            self._joined_at, self._id_at_join = trio.current_time(), self._last_id
            self.announcement = read_announcement(event.peer.properties.get(PROPERTY))
            self.going_away = False
            self.error = None
            self._call_back()
            self._enter(State.READY)
        elif isinstance(event, trio_mq.PeerLeft):
            if event.peer.connection == self._connection:
                self._connection = 0
                self._lost(event.reason, event.unsent)
        else:
            self.dropped += 1  # a message of one frame is no unit

    def _lost(self, reason: str, unsent_messages: tuple[object, ...]) -> None:
        """Every call of this connection is over; those whose CALL comes back have never left this process."""
        unsent = {_call_of(message) for message in unsent_messages} | self.outbox.unopened
        self.error = reason
        self.outbox.clear()
        self._enter(State.CONNECTING)
        calls = list(self.calls.items())
        self.calls.clear()
        if self.cancels:
            self._astray += [each for each, _ in calls if each > self._last_placed and each not in unsent]
        for call_id, call in calls:
            call.on_lost(reason, unsent=call_id in unsent)

    def _call_back(self) -> None:
        """Cancel what may have gone to this peer already, because the loss of the last one had not been read yet.

        A program that is behind with its messages begins calls in good faith after a connection was lost and made anew.
        Here they have ended with the old connection, and their handlers must not run on.
        """
        for call_id in self._astray:
            self.outbox.send_control(call_id, [b"", pack(RESET, 0, 0, call_id)])
        self._astray.clear()

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._watcher.state_changed(self)

    def stop(self) -> None:
        """The channel is closed."""
        self._enter(State.SHUTDOWN)

    # --- sending ----------------------------------------------------------------------------------------------------

    def _send_nowait(self, frames: Frames) -> None:
        if self._dealer is not None:
            self._dealer.send_multipart_nowait(frames)

    def _blocked(self, outbox: Outbox) -> None:
        assert self._nursery is not None
        assert self._dealer is not None
        self._nursery.start_soon(outbox.drain, self._dealer.wait_sendable)


def _call_of(message: object) -> int:
    """The id of the call that *message* opens; 0 if it is none."""
    if not isinstance(message, list):
        return 0
    try:
        _, kind, _, _, call_id = _unpack(message[1])
    except (struct.error, IndexError):
        return 0
    return int(call_id) if kind == 1 else 0


def _explained(error: Exception) -> str:
    """*error* for people; what an ordinary gRPC server at the other end says is recognised."""
    return f"{type(error).__name__}: {error}"


def socket_options(**overrides: object) -> trio_mq.Options:
    """What every RPC socket has: nothing dropped, nothing kept for another connection, and heartbeats."""
    defaults: dict[str, object] = {
        "peer_events": True,
        "send_hwm": None,
        "send_hwm_bytes": _SEND_MARK,
        "linger": 0,
        "max_frames": 64,
    }
    return trio_mq.Options(**{**defaults, **overrides})  # type: ignore[arg-type]  # fields are checked by Options itself
