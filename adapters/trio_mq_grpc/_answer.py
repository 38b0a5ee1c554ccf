"""What goes from the server to the caller within one call: initial metadata, messages, the status.

An ordinary unary reply needs none of it; `ServedCall.reply` sends that by itself. It knows credit, numbers, pieces and
compression, and nothing of handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
import trio

from ._blocks import Entry, Head, MetadataTooLarge, encode_head, encode_status
from ._compression import SUPPORTED, TooLarge, compress
from ._errors import CallEndedError
from ._flow import SendWindow
from ._metadata import metadata_size
from ._outbox import Pieces
from ._parking import Parking
from ._status import Status, code_number
from ._wire import (
    CHARGE,
    COMPRESSED,
    DATA,
    END,
    HEAD,
    HEADER,
    MAGIC,
    MSG,
    SEQ_MASK,
    STATUS,
    pieces_of,
)

if TYPE_CHECKING:
    from ._served import ServedCall

CHECKPOINT_EVERY: Final = 64
"""Messages that a call sends or receives before others get a chance."""
_pack = HEADER.pack


class Answer(Parking):
    """The sending half of a call.

    Attributes:
        head_sent: initial metadata cannot be sent any more.
    """

    __slots__ = (
        "_burst",
        "_call",
        "_encoding",
        "_initial",
        "_key",
        "_outbox",
        "_peer",
        "_plain",
        "_prefix",
        "_seq",
        "_skip_compression",
        "_window",
        "head_sent",
    )

    def __init__(self, call: ServedCall) -> None:
        super().__init__()
        peer = call.peer
        self._call = call
        self._key = call.key
        self._prefix = call.prefix
        self._peer = peer
        self._outbox = peer.outbox
        self._window = SendWindow(peer.announcement_for(call).window)
        self._encoding = ""
        self._initial: tuple[Entry, ...] = ()
        self._plain = True
        self._skip_compression = False
        self._seq = 0
        self._burst = CHECKPOINT_EVERY
        self.head_sent: bool = False

    # --- what the handler says --------------------------------------------------------------------------------------

    def send_initial_metadata(self, entries: tuple[Entry, ...]) -> None:
        """Send *entries* now: somebody may wait for them before sending on. A REQ gets them with its one reply.

        Raises:
            CallEndedError: the call has ended, or they were sent, or a message was.
        """
        if self._call.status is not None or self.head_sent:
            raise CallEndedError("initial metadata goes out once, before the first message")
        too_much = self._excess(entries)
        if too_much is not None:
            self._call.end(too_much)
            return
        self._initial = entries
        self.head_sent = True
        if self._peer.strict:
            self._plain = False
        else:
            self._send(HEAD, self._encoded_head())

    def _excess(self, entries: tuple[Entry, ...]) -> Status | None:
        """The status of a call whose metadata is too large to be sent; None if *entries* are not."""
        size, limit = metadata_size(entries), self._call.home.options.max_metadata_size
        if size <= limit:
            return None
        return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Sent {MetadataTooLarge(size, limit)}")

    def compress_with(self, encoding: str) -> None:
        """Compress messages from now on, if the caller can read that; before the first one."""
        call = self._call
        accepted = call.head.accept or self._peer.announcement_for(call).encodings
        self._encoding = encoding if encoding in accepted and encoding in SUPPORTED else ""
        self._plain = not (self._encoding or self._initial)

    def skip_compression(self) -> None:
        """The next message goes out as it is."""
        self._skip_compression = True
        self._plain = False

    # --- messages ---------------------------------------------------------------------------------------------------

    def grant(self, total: int) -> None:
        """The peer lets us send *total* bytes in all."""
        if self._window.grant(total):
            self.wake()

    def send_nowait(self, data: bytes) -> bool:
        """Send a message if that is simple and nothing hinders; False if `send` has to."""
        window = self._window
        if (
            window.balance <= 0
            or not self._plain
            or self._burst <= 0
            or len(data) > self._peer.cut_above
            or self._outbox.blocked
        ):
            return False
        window.balance -= len(data) + CHARGE
        self._burst -= 1
        self.head_sent = True
        seq = self._seq
        self._seq = (seq + 1) & SEQ_MASK
        self._outbox.send(self._key, [*self._prefix, _pack(MAGIC, DATA, MSG, seq, self._call.call_id), data])
        return True

    async def send(self, data: bytes) -> None:
        """Send a message as soon as there is credit. If cancelled, it was not sent.

        Raises:
            CallEndedError: the call has ended.
            TooLarge: it is above a limit; the call has ended because of that.
            trio.BusyResourceError: another task waits to send.
        """
        call, window, outbox = self._call, self._window, self._outbox
        if self._burst <= 0:
            await trio.lowlevel.checkpoint()
        # A caller may give credit without end; then it is the connection that says how much may wait.
        while call.status is None and (window.balance <= 0 or (outbox.blocked and outbox.waits(self._key))):
            if window.balance > 0:
                outbox.writers.add(self)
            await self.park("another task is writing to this call")
        self._burst = CHECKPOINT_EVERY
        if call.status is not None:
            await call.raise_ended()
        self._message(data, 0)

    def _message(self, data: bytes, finish: int, *behind: bytes) -> None:
        """Send a message with whatever goes with it."""
        if len(data) > self._peer.most_sent:
            exc = TooLarge(len(data), int(self._peer.most_sent))
            # Whose limit it is: the caller looks for it among the options of its own end, or tells us.
            ours = self._call.home.options.max_send_message_length
            who = "Sent" if ours is not None and len(data) > ours else "Received"
            self._call.end(Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{who} {exc}"))
            raise exc
        flags, ahead = MSG, []
        if self._initial or (self._encoding and not self.head_sent):
            flags, ahead = MSG | HEAD, [self._encoded_head()]
        if self._encoding and not self._skip_compression and data:
            data, flags = compress(self._encoding, data), flags | COMPRESSED
        self._skip_compression = False
        self.head_sent, self._plain = True, not self._encoding
        self._window.charge(len(data))
        if len(data) > self._peer.cut_above and self._peer.announcement_for(self._call).fragments:
            size = self._peer.fragment_size
            seq = self._take_numbers(-(-len(data) // size))
            units = pieces_of(
                data, size, DATA, flags, seq, self._call.call_id, finish=finish, ahead=ahead, behind=behind
            )
            self._outbox.send_pieces(self._key, Pieces(len(data), ([*self._prefix, *unit] for unit in units)))
        else:
            self._send(flags | finish, *ahead, data, *behind)

    # --- the end ----------------------------------------------------------------------------------------------------

    def reply(self, data: bytes, status: Status) -> Status:
        """Send the one message of a unary reply with its status, which is OK; the status that was sent.

        Raises:
            TooLarge: the message is above a limit; the call has ended because of that.
        """
        if self._excess(status.trailers) is not None:
            return self.finish(status)
        self._message(data, STATUS | END, encode_status(0, status.details, status.trailers))
        return status

    def finish(self, status: Status) -> Status:
        """Send *status*, or what must be said instead, behind all messages; the one that was sent."""
        status = self._excess(status.trailers) or status
        flags, frames = STATUS | END, [encode_status(code_number(status.code), status.details, status.trailers)]
        if self._initial:
            flags |= HEAD
            frames.insert(0, self._encoded_head())
        self._send(flags, *frames)
        return status

    def close(self) -> None:
        """The call has ended: nothing can be sent any more, and whoever waits for that hears it."""
        self._plain = False
        self.wake()

    def _encoded_head(self) -> bytes:
        entries, self._initial = self._initial, ()
        return encode_head(Head(metadata=entries, encoding=self._encoding))

    def _send(self, flags: int, *frames: bytes) -> None:
        header = _pack(MAGIC, DATA, flags, self._take_numbers(1), self._call.call_id)
        self._outbox.send(self._key, [*self._prefix, header, *frames])

    def _take_numbers(self, count: int) -> int:
        """The first of *count* sequence numbers that follow."""
        seq = self._seq
        self._seq = (seq + count) & SEQ_MASK
        return seq
