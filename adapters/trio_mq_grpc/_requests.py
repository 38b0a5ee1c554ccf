"""The requests of one RPC on their way: credit, numbers, pieces, compression, and what is kept for another attempt.

An ordinary unary request needs none of it; `Rpc.open_on` sends that by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ._compression import compress
from ._flow import SendWindow
from ._outbox import Outbox, Pieces
from ._parking import Parking
from ._wire import CALL, CHARGE, COMPRESSED, DATA, END, HEAD, HEADER, MAGIC, MSG, SEQ_MASK, pack, pieces_of

if TYPE_CHECKING:
    from ._rpc import Rpc, Subchannel

_pack = HEADER.pack
_CHECKPOINT_EVERY = 64
"""Requests that are sent before others get a chance."""


class Requests(Parking):
    """The sending half of an RPC.

    Attributes:
        half_closed: nothing follows.
    """

    __slots__ = (
        "_burst",
        "_call_id",
        "_encoding",
        "_fragment_size",
        "_outbox",
        "_replay",
        "_replay_size",
        "_rpc",
        "_seq",
        "_window",
        "half_closed",
    )

    def __init__(self, rpc: Rpc) -> None:
        super().__init__()
        self._rpc = rpc
        self._burst = _CHECKPOINT_EVERY
        self._call_id = 0
        self._outbox: Outbox | None = None
        self._window = SendWindow(0)
        self._encoding = ""
        self._fragment_size = 0
        self._seq = 0
        self._replay: list[bytes] | None = []
        self._replay_size = 0
        self.half_closed: bool = False

    @property
    def replayable(self) -> bool:
        """Whether all of them can be sent again."""
        return self._replay is not None

    def commit(self) -> None:
        """They will not be sent again."""
        self._replay = None

    # --- an attempt -------------------------------------------------------------------------------------------------

    def open(self, subchannel: Subchannel, call_id: int, head: bytes | None) -> None:
        """Send the CALL, and what was sent in the attempt before this one."""
        rpc, announcement = self._rpc, subchannel.announcement
        self._call_id = call_id
        self._outbox = subchannel.outbox
        self._window = SendWindow(announcement.window)
        self._encoding = rpc.encoding if rpc.encoding in announcement.encodings else ""
        self._fragment_size = rpc.home.fragment_size if announcement.fragments else 1 << 62
        self._seq = 0
        opening = [rpc.method.path_bytes] if head is None else [rpc.method.path_bytes, head]
        flags = 0 if head is None else HEAD
        if rpc.request is not None:
            self._message(rpc.request, CALL, flags, END, opening)
            return
        self._outbox.send(call_id, [b"", self._header(CALL, flags), *opening], opens=True)
        for payload in self._replay or ():
            self._message(payload, DATA)
        if self.half_closed:
            self._end()
        self.wake()

    def close(self) -> None:
        """The attempt is over: nothing can be sent until there is another."""
        self._outbox = None

    # --- messages ---------------------------------------------------------------------------------------------------

    def grant(self, total: int) -> None:
        """The peer lets us send *total* bytes in all."""
        if self._window.grant(total):
            self.wake()

    def send_nowait(self, payload: bytes) -> bool:
        """Send a message if nothing hinders; False if `send` has to."""
        window, outbox = self._window, self._outbox
        if (
            outbox is None
            or window.balance <= 0
            or self._rpc.status is not None
            or self._burst <= 0
            or (outbox.blocked and outbox.waits(self._call_id))
        ):
            return False
        self._burst -= 1
        if self._replay is not None:
            self._keep(self._replay, payload)
        if self._encoding or len(payload) > self._fragment_size:
            self._message(payload, DATA)
        else:
            window.balance -= len(payload) + CHARGE
            seq = self._seq
            self._seq = (seq + 1) & SEQ_MASK
            outbox.send(self._call_id, [b"", _pack(MAGIC, DATA, MSG, seq, self._call_id), payload])
        return True

    async def send(self, payload: bytes) -> bool:
        """Send a message once there is a peer, and credit; False if the RPC has ended instead.

        Raises:
            trio.BusyResourceError: another task waits to send.
        """
        while self._rpc.status is None:
            if self.send_nowait(payload):
                return True
            if self._burst <= 0:
                await trio.lowlevel.checkpoint()
            else:
                # A server may give credit without end; then it is the connection that says how much may wait.
                if self._outbox is not None and self._window.balance > 0:
                    self._outbox.writers.add(self)
                await self.park("another task is writing to this call")
            self._burst = _CHECKPOINT_EVERY
        return False

    def end(self) -> None:
        """No more follow."""
        self.half_closed = True
        if self._outbox is not None and self._rpc.status is None:
            self._end()

    def _end(self) -> None:
        assert self._outbox is not None
        self._outbox.send(self._call_id, [b"", self._header(DATA, END)])

    def _keep(self, replay: list[bytes], payload: bytes) -> None:
        replay.append(payload)
        self._replay_size += len(payload)
        if self._replay_size > self._rpc.method.retry_buffer:
            self._replay = None

    def _message(
        self, payload: bytes, kind: int, flags: int = 0, finish: int = 0, opening: list[bytes] | None = None
    ) -> None:
        assert self._outbox is not None
        flags |= MSG
        if self._encoding and payload:
            payload, flags = compress(self._encoding, payload), flags | COMPRESSED
        self._window.charge(len(payload))
        if len(payload) > self._fragment_size:
            size, seq = self._fragment_size, self._seq
            self._seq = (seq + -(-len(payload) // size)) & SEQ_MASK
            units = pieces_of(payload, size, kind, flags, seq, self._call_id, finish=finish, ahead=opening or ())
            pieces = Pieces(len(payload), ([b"", *unit] for unit in units))
            self._outbox.send_pieces(self._call_id, pieces, opens=kind == CALL)
        else:
            frames = [b"", self._header(kind, flags | finish), *(opening or ()), payload]
            self._outbox.send(self._call_id, frames, opens=kind == CALL)

    def _header(self, kind: int, flags: int) -> bytes:
        seq = self._seq
        self._seq = (seq + 1) & SEQ_MASK
        return pack(kind, flags, seq, self._call_id)
