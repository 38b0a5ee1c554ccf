"""One RPC as the client keeps it: from the call to its status, over all its attempts.

It speaks units to a subchannel and bytes to the call object that the user holds. It knows nothing of message classes,
of the four kinds' faces, or of which peer to pick. The subchannel's table refers to it, not to the user's object, so a
call that the user dropped can be noticed and ended.

An attempt is *committed* once something of the reply was seen: from then on it is never sent again (gRFC A6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

import grpc
import trio

from ._awaited import LOCALLY_CANCELLED, Awaited
from ._blocks import Entry, Head, MetadataTooLarge, decode_head, decode_status, encode_head
from ._compression import DecompressError, TooLarge, decompress
from ._deadline import deadline as handler_deadline
from ._errors import log
from ._incoming import Compressed, Incoming
from ._method import Method
from ._outbox import Outbox
from ._requests import Requests
from ._status import OK, Status, to_code
from ._wheel import Wheel
from ._wire import (
    CALL,
    CREDIT,
    DATA,
    END,
    HEAD,
    HEADER,
    MAGIC,
    MSG,
    NOT_PROCESSED,
    RESET,
    SEQ_MASK,
    STATUS,
    UNARY_REPLY,
    Announcement,
    Breach,
    check_flags,
    cut,
    pack,
)

DEADLINE_EXCEEDED: Final = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
_RESET: Final = Status(grpc.StatusCode.CANCELLED, "the server reset the call")
LOST: Final = Status(grpc.StatusCode.UNAVAILABLE, "message lost in transport")

MOST_ATTEMPTS_UNPROCESSED: Final = 1
"""How often a call is sent again because a peer says that it has not processed it."""

_MOST_TIMEOUT: Final = 10 * 365 * 86400.0
_header = HEADER.pack


class Subchannel(Protocol):
    """What an attempt needs of the connection it is made on."""

    calls: dict[int, Rpc]
    outbox: Outbox
    announcement: Announcement
    cancels: bool

    def new_call_id(self) -> int:
        """An id that was never used."""


class Home(Protocol):
    """The channel, as its RPCs see it."""

    wheel: Wheel
    window: int
    fragment_size: int
    user_agent: str
    authority: str
    max_metadata: int

    def start(self, rpc: Rpc) -> None:
        """Send it now, keep it until a peer is ready, or let it fail."""

    def withdraw(self, rpc: Rpc) -> None:
        """It ended before it was sent."""

    def why_waiting(self) -> str:
        """What RPCs wait for that are not sent, for people; "" where that is nothing special."""

    def retry(self, rpc: Rpc, status: Status) -> bool:
        """Start it again if its policy allows that after *status*; False if this is its end."""

    def ended(self, rpc: Rpc) -> None:
        """It has its status."""


class Rpc(Awaited):
    """One RPC at the client.

    Attributes:
        request: the encoded request of a unary-request method; None for a stream.
        requests: the sending half, where that is more than one plain message.
        incoming: what came and was not taken, likewise.
        reply: the one message of a unary reply, once the call has ended well.
        entries: the metadata that it is called with.
        deadline: on trio's clock; inherited: that of the surrounding scope or handler, if it comes first.
        attempts: how often its CALL was sent.
        cause: what went wrong here, for the error's cause.
        feeder: cancels the task that sends what the user's iterator gives.
        scoped: inside ``async with call``: a cancelled read or write does not cancel the call.
    """

    # On the class, so that an ordinary unary call sets the few that differ and pays for no others.
    subchannel: Subchannel | None = None
    status: Status | None
    initial: tuple[Entry, ...] | None
    call_id: int
    reply: bytes | None = None
    incoming: Incoming | None = None
    requests: Requests | None = None
    entries: tuple[Entry, ...] = ()
    deadline: float = math.inf
    inherited: float = math.inf
    wait_for_ready = False
    encoding = ""
    scoped = False
    attempts: int = 0
    cause: BaseException | None = None
    callbacks: list[Callable[[], None]] | None = None
    feeder: trio.CancelScope | None = None
    _reply_encoding = ""
    _not_processed = 0
    _deadline_key = 0
    _in_seq = 0

    def __init__(self, home: Home, method: Method, request: bytes | None) -> None:
        self.home = home
        self.method = method
        self.request = request

    def __repr__(self) -> str:
        state = "running" if self.status is None else self.status.code.name
        return f"<Rpc {self.method.path}: {state}, {self.attempts} attempts>"

    # --- the beginning ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start it; called once, when everything above is set."""
        if self.prepare():
            self.home.start(self)

    def prepare(self) -> bool:
        """Make it usable and start its clock; False if it has ended by that."""
        if not self.method.unary:
            self._prepare_streams()
        if self.deadline < math.inf:
            if self.deadline <= trio.current_time():
                self.finish(DEADLINE_EXCEEDED)
                return False
            self._deadline_key = self.home.wheel.add(self.deadline, self)
        scope, inherited = trio.current_effective_deadline(), handler_deadline.get()
        # A unary call is awaited where it is made. A stream may well outlive the scope that it was begun in, with a
        # limit for its beginning only; what ends it within that scope is its cancellation.
        if self.method.unary or scope == -math.inf:
            inherited = min(scope, inherited)
        if inherited < self.deadline:
            self.inherited = inherited
            if inherited == -math.inf:
                # The surrounding scope is cancelled: nothing is sent, and an await in there finds out. This is for one
                # that comes later and outside, which would wait for ever.
                trio.lowlevel.current_trio_token().run_sync_soon(self.abandon, LOCALLY_CANCELLED)
                return False
        return True

    def open_on(self, subchannel: Subchannel) -> None:
        """Make an attempt on *subchannel*: its CALL goes out."""
        self.subchannel = subchannel
        self.attempts += 1
        self.call_id = call_id = subchannel.new_call_id()
        subchannel.calls[call_id] = self
        method, request = self.method, self.request
        head = self._head(subchannel)
        if method.unary:
            assert request is not None
            if not self.encoding and len(request) <= self.home.fragment_size:
                if head is None:
                    frames = [b"", _header(MAGIC, CALL, MSG | END, 0, call_id), method.path_bytes, request]
                else:
                    header = _header(MAGIC, CALL, HEAD | MSG | END, 0, call_id)
                    frames = [b"", header, method.path_bytes, head, request]
                subchannel.outbox.send(call_id, frames, opens=True)
                return
        if self.requests is None:
            self.requests = Requests(self)
        self.requests.open(subchannel, call_id, head)
        self.tell_lookers()

    def _head(self, subchannel: Subchannel) -> bytes | None:
        """The Head of the CALL; None when there is nothing to say."""
        limit = min(self.deadline, self.inherited)
        home = self.home
        compressing = bool(self.encoding) and self.encoding in subchannel.announcement.encodings
        if limit == math.inf and not (
            self.entries or compressing or self.attempts > 1 or home.user_agent or home.authority
        ):
            return None
        left = limit - trio.current_time()
        return encode_head(
            Head(
                metadata=self.entries,
                timeout_us=max(1, int(left * 1e6)) if left < _MOST_TIMEOUT else None,
                encoding=self.encoding if compressing else "",
                attempts=self.attempts - 1,
                authority=home.authority,
                user_agent=home.user_agent,
            )
        )

    def _prepare_streams(self) -> None:
        self.incoming = Incoming(self.home.window, self.method.max_response)
        self.requests = Requests(self)

    def finish_unsent(self, status: Status) -> None:
        """It ends before it has begun."""
        self._prepare_streams()
        self.status = status

    # --- what comes from the peer -----------------------------------------------------------------------------------

    def on_data(self, flags: int, seq: int, frames: list[bytes], at: int) -> None:
        """A DATA unit, whose header is ``frames[at]``."""
        if seq != self._in_seq:
            self.abandon(LOST)
            return
        self._in_seq = (seq + 1) & SEQ_MASK
        count = len(frames) - at
        if flags == UNARY_REPLY and count == 3 and not seq and not frames[at + 2] and self.method.unary:
            # The whole of an ordinary unary reply: nothing else came, and nothing else is said.
            payload = frames[at + 1]
            if len(payload) <= self.method.max_response:
                self.reply = payload
                self.finish(OK)
                return
        incoming = self.incoming
        try:
            if flags == MSG and count == 2 and incoming is not None and incoming.assembly is None:
                if self.method.unary_reply:
                    self._check_only_one(incoming)
                incoming.arrived(frames[at + 1])
                if self.initial is None:
                    self._commit(())
            else:
                self._on_unusual_data(flags, frames[at:])
        except (TooLarge, MetadataTooLarge) as exc:
            self.abandon(Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Received {exc}"))
        except ValueError as exc:
            self.abandon(Status(grpc.StatusCode.INTERNAL, str(exc)))

    def _on_unusual_data(self, flags: int, frames: list[bytes]) -> None:
        check_flags(DATA, flags)
        incoming = self.incoming
        if incoming is None:
            incoming = self.incoming = Incoming(self.home.window, self.method.max_response)
        unit = cut(frames, DATA, flags, first_piece=incoming.assembly is None)
        if unit.head is not None:
            self._on_head(unit.head)
        if flags & MSG:
            if self.method.unary_reply:
                self._check_only_one(incoming)
            incoming.piece(flags, unit.size, unit.payload)
            if self.initial is None:
                self._commit(())
        if flags & STATUS:
            self._on_status(incoming, self._read_status(flags, unit.status))
        elif flags & END:
            raise Breach("the server ended its stream without a status")

    def _check_only_one(self, incoming: Incoming) -> None:
        if incoming.first is not None:
            raise Breach("a unary reply has more than one message")

    def _on_head(self, data: bytes) -> None:
        if self.initial is not None:
            raise Breach("initial metadata came twice, or after a message")
        head = decode_head(data, self.home.max_metadata)
        self._reply_encoding = head.encoding
        self._commit(head.metadata)

    def _commit(self, initial: tuple[Entry, ...]) -> None:
        """Something of the reply was seen: it is never sent again."""
        self.initial = initial
        if self.requests is not None:
            self.requests.commit()
        self.tell_lookers()

    def _on_status(self, incoming: Incoming, status: Status) -> None:
        if incoming.assembly is not None:
            raise Breach("the call ended in the middle of a message")
        if status.code is grpc.StatusCode.OK and self.method.unary_reply:
            taken = incoming.take()
            if taken is None:
                raise Breach("a unary reply has no message")
            self.reply = taken[0]
        self.attempt_over(status)

    def on_credit(self, total: int) -> None:
        """The peer lets us send more."""
        if self.requests is not None:
            self.requests.grant(total)

    def on_reset(self, flags: int, frames: list[bytes]) -> None:
        """The peer has given the call up; *frames* begins with the header."""
        try:
            check_flags(RESET, flags)
            status = self._read_status(flags, frames[1]) if flags & STATUS else _RESET
        except MetadataTooLarge as exc:
            status = Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Received {exc}")
        except (ValueError, IndexError) as exc:
            status = Status(grpc.StatusCode.INTERNAL, f"the server reset the call in a way that cannot be read: {exc}")
        if status.code is grpc.StatusCode.OK:
            status = Status(grpc.StatusCode.UNKNOWN, "the server reset the call and said OK")
        self.attempt_over(status)

    def _read_status(self, flags: int, data: bytes) -> Status:
        code, text, trailers = decode_status(data, self.home.max_metadata)
        return Status(to_code(code), text, trailers, bool(flags & NOT_PROCESSED))

    def on_lost(self, reason: str, *, unsent: bool) -> None:
        """The connection was lost; *unsent*: before the CALL had left this process."""
        status = Status(grpc.StatusCode.UNAVAILABLE, f"the connection was lost: {reason}", (), unsent)
        if unsent:
            self._not_processed = -1  # as often as it takes, within the deadline
        self.attempt_over(status)

    def attempt_over(self, status: Status) -> None:
        """The attempt is over; so is the RPC, unless it may be made again."""
        if status.code is grpc.StatusCode.OK or self.initial is not None or not self._can_replay():
            self.finish(status)
            return
        if status.not_processed and self._not_processed < MOST_ATTEMPTS_UNPROCESSED:
            self.detach()
            self._not_processed += 1
            self.home.start(self)
        elif not self.home.retry(self, status):
            self.finish(status)

    def _can_replay(self) -> bool:
        return self.request is not None or (self.requests is not None and self.requests.replayable)

    def restart(self) -> None:
        """Make another attempt, after a pause that the policy asked for."""
        if self.status is None:
            self.home.start(self)

    def detach(self) -> None:
        """Forget the attempt that is over, in which nothing was received, before another."""
        if self.subchannel is not None:
            self.subchannel.calls.pop(self.call_id, None)
            self.subchannel.outbox.forget(self.call_id, control=self.call_id)
            self.subchannel = None
        self.call_id = self._in_seq = 0
        if self.requests is not None:
            self.requests.close()

    # --- the end ----------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Its deadline has passed."""
        self._deadline_key = 0
        status, why = DEADLINE_EXCEEDED, "" if self.subchannel is not None else self.home.why_waiting()
        if why:
            status = replace(status, details=f"{status.details}; not sent: {why}")
        self.abandon(status)

    def abandon(self, status: Status) -> None:
        """End it here with *status*, and tell the peer if it has heard of it."""
        if self.status is not None:
            return
        subchannel = self.subchannel
        if subchannel is not None:
            unopened = subchannel.outbox.forget(self.call_id, control=self.call_id)
            if subchannel.cancels and not unopened:
                subchannel.outbox.send_control(self.call_id, [b"", pack(RESET, 0, 0, self.call_id)])
        if self.incoming is not None:
            self.incoming.close()  # cancellation beats what the application has not seen yet
        self.finish(status)

    def finish(self, status: Status) -> None:
        """It has its status; everybody who waits is told."""
        if self.status is not None:
            return
        self.status = status
        subchannel = self.subchannel
        if subchannel is not None:
            subchannel.calls.pop(self.call_id, None)
            if self.requests is not None:
                subchannel.outbox.forget(self.call_id)  # the server has ended it: it would drop what still goes out
        else:
            self.home.withdraw(self)
        if self._deadline_key:
            self.home.wheel.discard(self._deadline_key, self)
        if self.feeder is not None:
            self.feeder.cancel()  # the user's iterator would wait, and hold what it holds, for nobody
        if self.incoming is not None:
            self.incoming.end()
        if self.requests is not None:
            self.requests.wake()
        self.tell_all()
        self.home.ended(self)
        if self.callbacks:
            self.call_back()

    def call_back(self) -> None:
        """Run the done callbacks; what they raise is logged."""
        callbacks, self.callbacks = self.callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception:  # noqa: BLE001  # the user's, and the RPC has ended all the same
                log.exception("a done callback of %s failed", self.method.path)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def wait_message(self) -> None:
        """Wait until a message is there, or the status.

        Raises:
            trio.BusyResourceError: another task waits for one.
        """
        incoming = self.incoming
        assert incoming is not None
        while incoming.first is None and self.status is None:
            try:
                await incoming.wait()
            except trio.Cancelled:
                self.await_cancelled()
                raise

    def take(self) -> bytes | None:
        """The next message of the stream, inflated; None if there is none.

        Raises:
            ValueError: it cannot be inflated.
        """
        assert self.incoming is not None
        taken = self.incoming.take()
        if taken is None:
            return None
        message, credit = taken
        if credit is not None and self.status is None and self.subchannel is not None:
            self.subchannel.outbox.send_control(self.call_id, [b"", pack(CREDIT, 0, credit, self.call_id)])
        return message if type(message) is bytes else self.inflated(message)

    def inflated(self, message: bytes) -> bytes:
        """*message* as the sender meant it.

        Raises:
            ValueError: it cannot be inflated, or grows beyond the limit.
        """
        if not isinstance(message, Compressed):
            return message
        if not self._reply_encoding:
            raise DecompressError("a message is compressed, and the server does not say how")
        return decompress(self._reply_encoding, message, self.method.max_response)

    def await_cancelled(self) -> None:
        """A read or write was cancelled: so is the call, unless it is used as a context manager."""
        if not self.scoped:
            self.abandon(LOCALLY_CANCELLED)
