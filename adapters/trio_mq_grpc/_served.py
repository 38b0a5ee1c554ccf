"""One call as the server keeps it: its state on the wire, from the CALL to the status.

It speaks units to a peer and bytes to whoever runs the handler, which is the worker task that it is a job of. It knows
nothing of message classes, contexts or kinds of handlers.

What ends it first decides: its status, a deadline, a RESET, a lost peer, the server's stop. Whoever is the first also
sends the status, so that a handler which does not listen to its cancellation delays nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import grpc
import trio

from ._answer import CHECKPOINT_EVERY, Answer
from ._blocks import EMPTY_HEAD, Entry, Head, encode_status
from ._compression import TooLarge
from ._deadline import deadline as handler_deadline
from ._errors import CallEndedError, log
from ._home import Home
from ._incoming import Incoming, fault, inflated
from ._outbox import Frames
from ._status import OK, Status, code_number, status_of_exception
from ._wire import (
    CREDIT,
    DATA,
    END,
    HEAD,
    HEADER,
    MAGIC,
    MSG,
    RESET,
    SEQ_MASK,
    STATUS,
    UNARY_REPLY,
    Breach,
    check_flags,
    cut,
    pack,
)

if TYPE_CHECKING:
    from ._peer import Peer
    from ._service import Method
    from ._workers import Worker

CANCELLED: Final = Status(grpc.StatusCode.CANCELLED, "Cancelled")
DEADLINE_EXCEEDED: Final = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
LOST: Final = Status(grpc.StatusCode.UNAVAILABLE, "message lost in transport")
PEER_LOST: Final = Status(grpc.StatusCode.CANCELLED, "the peer was lost")
UNARY_ONLY: Final = Status(grpc.StatusCode.UNIMPLEMENTED, "a REQ socket can make unary calls only, each in one message")
_NOT_FOUND: Final = Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

_pack = HEADER.pack


class ServedCall:
    """One call at the server.

    Attributes:
        key: what it is known by among the calls of its peer: its id, and its envelope if it has one.
        prefix: the frames before each of its units.
        method: None as long as interceptors have not said which.
        payload: the request of a complete unary call, if it is still to be decoded.
        incoming: the request stream; None for a call that came complete.
        status: how it ended; None while it runs.
        aborted: the handler ended it by `abort`.
        code, details, trailers: what the handler has set.
        state: a place for the handler and its interceptors.
    """

    # On the class, so that an ordinary unary call sets the few that differ and pays for no others.
    worker: Worker | None = None
    method: Method | None = None
    head: Head = EMPTY_HEAD
    payload: bytes | None = None
    incoming: Incoming | None = None
    status: Status | None = None
    aborted = False
    code: grpc.StatusCode | None = None
    details = ""
    trailers: tuple[Entry, ...] = ()
    deadline: float = math.inf
    callbacks: list[Callable[[], None]] | None = None
    was_compressed: bool = False
    wants_reply = True
    """Whether what the handler returns goes anywhere."""
    odd_end = False
    """The status is more than OK."""
    _answer: Answer | None = None
    _deadline_key = 0
    _in_seq = 1
    _burst = CHECKPOINT_EVERY
    _state: dict[Any, Any] | None = None

    def __init__(self, peer: Peer, key: object, call_id: int, prefix: Frames, path: bytes) -> None:
        self.peer = peer
        self.home: Home = peer.home
        self.key = key
        self.call_id = call_id
        self.prefix = prefix
        self.path = path

    def __repr__(self) -> str:
        state = "running" if self.status is None else self.status.code.name
        return f"<ServedCall {self.path!r} of {self.peer.name}: {state}>"

    @property
    def takes_stream(self) -> bool:
        """Whether its requests are kept as a stream, even if there is just one."""
        return self.method is None or self.method.streams_requests

    @property
    def streams_responses(self) -> bool:
        """Whether its handler is known to give a response stream."""
        return self.method is not None and self.method.streams_responses

    @property
    def answer(self) -> Answer:
        """What goes to the caller, if that is more than a unary reply."""
        if self._answer is None:
            self._answer = Answer(self)
        return self._answer

    @property
    def state(self) -> dict[Any, Any]:
        if self._state is None:
            self._state = {}
        return self._state

    # --- running the handler ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run its handler; a worker does."""
        try:
            if self.status is None:
                if self.deadline < math.inf:
                    handler_deadline.set(self.deadline)
                method = self.method
                if method is None:
                    method = await self._resolve()
                if method is not None:
                    await method.run(self)
        except trio.Cancelled as exc:  # noqa: ASYNC103  # one that came from outside is raised again
            if self._is_cancelled_from_outside():
                raise
            self.failed(exc)
        except Exception as exc:  # noqa: BLE001  # whatever a handler raises is a status
            self.failed(exc)
        except BaseExceptionGroup as exc:
            rest = exc.split(trio.Cancelled)[1]
            if rest is None and self._is_cancelled_from_outside():
                raise
            if rest is not None and rest.subgroup(KeyboardInterrupt):
                raise  # Ctrl-C is not for us
            self.failed(exc)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # SystemExit, asyncio's Cancelled …: no handler ends the others' server
            self.failed(exc)
        finally:
            self.peer.running -= 1

    def _is_cancelled_from_outside(self) -> bool:
        """Whether the worker is cancelled; if not, a `trio.Cancelled` is one that the handler kept from some scope."""
        return trio.current_effective_deadline() == -math.inf

    async def _resolve(self) -> Method | None:
        details = self.peer.details_of(self)
        self.method = method = await self.home.services.resolve(details)
        if method is None:
            self.finish(_NOT_FOUND)
        elif self.peer.strict and method.streams_responses:
            self.finish(UNARY_ONLY)
            return None
        return method

    def failed(self, exc: BaseException) -> None:
        """The handler ended with *exc*."""
        if self.status is None:
            raised = status_of_exception(exc, hide_details=self.home.options.hide_error_details)
            code = raised.code if self.code in (None, grpc.StatusCode.OK) else self.code
            status = replace(raised, code=code, trailers=self.trailers)
            log.error("the handler of %s failed", self.path.decode(), exc_info=exc)
            self.finish(status)
        elif not self.aborted and not isinstance(exc, trio.Cancelled):
            log.warning("the handler of %s failed after its call had ended", self.path.decode(), exc_info=exc)

    # --- what comes from the peer -----------------------------------------------------------------------------------

    def open(self, flags: int, seq: int, frames: Frames) -> None:
        """Take over what the CALL carries besides its path; *frames* begins with its header.

        Raises:
            Breach, TooLarge, ValueError: it is not as it should be.
        """
        if seq:
            raise Breach("the first message of a call has another number than 0")
        check_flags(frames[0][1], flags)
        self.incoming = Incoming(self.home.options.window, self.home.options.max_receive_message_length)
        self._take(cut(frames, frames[0][1], flags, first_piece=True), flags)

    def on_data(self, flags: int, seq: int, frames: Frames, at: int) -> None:
        """A DATA unit, whose header is ``frames[at]``."""
        incoming = self.incoming
        if seq != self._in_seq:
            self.end(LOST)
            return
        self._in_seq = (seq + 1) & SEQ_MASK
        try:
            if incoming is None or incoming.ended:
                raise Breach("the requests go on after their end")
            if flags == MSG and len(frames) == at + 2 and incoming.assembly is None:
                incoming.arrived(frames[at + 1])
            elif flags & (HEAD | STATUS):
                raise Breach("a request after the first has neither head nor status")
            else:
                check_flags(DATA, flags)
                self._take(cut(frames[at:], DATA, flags, first_piece=incoming.assembly is None), flags)
        except ValueError as exc:
            self.end(fault(exc))

    def _take(self, unit: Any, flags: int) -> None:
        assert self.incoming is not None
        if flags & MSG:
            self.incoming.piece(flags, unit.size, unit.payload)
        elif self.incoming.assembly is not None:
            raise Breach("the call goes on in the middle of a message")
        if flags & END:
            self.incoming.end()

    def on_credit(self, total: int) -> None:
        """The peer lets us send more."""
        self.answer.grant(total)

    # --- receiving --------------------------------------------------------------------------------------------------

    def take(self) -> bytes | None:
        """The next request, inflated, if that is simple; None if `receive` has to say.

        Raises:
            ValueError: it cannot be inflated; the call has ended because of that.
        """
        incoming = self.incoming
        if incoming is None or self._burst <= 0 or self.status is not None:
            return None
        taken = incoming.take()
        if taken is None:
            return None
        message, credit = taken
        self._burst -= 1
        if credit is not None and not incoming.ended:
            self.peer.outbox.send_control(self.key, [*self.prefix, pack(CREDIT, 0, credit, self.call_id)])
        if type(message) is bytes:
            self.was_compressed = False
            return message
        return self._inflated(message)

    async def receive(self) -> bytes | None:
        """The next request, inflated; None behind the last one. If cancelled, none was taken.

        Raises:
            CallEndedError: the call has ended meanwhile.
            ValueError: it cannot be inflated; the call has ended because of that.
            trio.BusyResourceError: another task waits for one.
        """
        incoming = self.incoming
        if incoming is None:
            payload, self.payload = self.payload, None
            return payload
        while True:
            if self.status is not None:
                await self.raise_ended()
            if self._burst <= 0:
                await trio.lowlevel.checkpoint()
                self._burst = CHECKPOINT_EVERY
                continue
            message = self.take()
            if message is not None or (incoming.ended and self.status is None):
                return message
            await incoming.wait()
            self._burst = CHECKPOINT_EVERY

    async def receive_only(self) -> bytes | None:
        """The one request of a unary call; None if there are none or several, and the call has ended."""
        message = await self.receive()
        if message is None:
            self.end(Status(grpc.StatusCode.UNIMPLEMENTED, "a unary method was called without a request"))
        elif await self.receive() is not None:
            self.end(Status(grpc.StatusCode.UNIMPLEMENTED, "a unary method was called with several requests"))
        else:
            return message
        return None

    def _inflated(self, message: bytes) -> bytes:
        self.was_compressed = True
        try:
            return inflated(message, self.head.encoding, self.home.options.max_receive_message_length)
        except ValueError as exc:
            self.end(fault(exc))
            raise

    async def raise_ended(self) -> None:
        """Raise `trio.Cancelled` in a handler that was cancelled, `CallEndedError` elsewhere."""
        # In the worker that is its own cancellation; a thread, or a shielded cleanup, gets an exception.
        await trio.lowlevel.checkpoint()
        raise CallEndedError("the call has ended")

    # --- the end ----------------------------------------------------------------------------------------------------

    def reply(self, data: bytes) -> None:
        """End it with OK and the one message of a unary reply; or as the handler has said otherwise."""
        if self.status is not None:
            return
        if self._answer is not None or self.odd_end or len(data) > self.peer.cut_above:
            self._reply_oddly(data)
            return
        self._over(OK)
        header = _pack(MAGIC, DATA, UNARY_REPLY, 0, self.call_id)
        self.peer.outbox.send(self.key, [*self.prefix, header, data, b""])

    def _reply_oddly(self, data: bytes) -> None:
        status = self._said()
        if status.code is not grpc.StatusCode.OK:
            self.finish(status)
            return
        try:
            self._over(self.answer.reply(data, status))
        except TooLarge:
            pass  # the call has ended because of that

    def finish_stream(self) -> None:
        """The handler of a response stream has returned: end it as that has said, or with OK."""
        if self.status is None:
            self.finish(self._said() if self.odd_end else OK)

    def _said(self) -> Status:
        """What the handler has set. OK has no text, as in grpcio."""
        if self.code is None or self.code is grpc.StatusCode.OK:
            return Status(grpc.StatusCode.OK, "", self.trailers)
        return Status(self.code, self.details, self.trailers)

    def finish(self, status: Status) -> None:
        """End it with *status*, behind all messages that were sent. The handler may go on, to clean up."""
        if self.status is None:
            self._over(self.answer.finish(status))

    def end(self, status: Status) -> None:
        """End it with *status* at once: what waits to be sent is dropped, and the handler is cancelled."""
        if self.status is not None:
            return
        if self.peer.outbox.waits(self.key):
            self.peer.outbox.forget(self.key, control=self.key)
            block = encode_status(code_number(status.code), status.details, status.trailers)
            self.peer.outbox.send(self.key, [*self.prefix, pack(RESET, STATUS, 0, self.call_id), block])
            self._over(status)
        else:
            self.finish(status)
        self.cancel_handler()

    def vanish(self, status: Status) -> None:
        """End it with nobody to tell: the peer has reset it, or is lost."""
        if self.status is None:
            self.peer.outbox.forget(self.key, control=self.key)
            self._over(status)
            self.cancel_handler()

    def expire(self) -> None:
        """Its deadline has passed."""
        self._deadline_key = 0
        self.end(DEADLINE_EXCEEDED)

    def cancel_handler(self) -> None:
        """Cancel whatever runs for it."""
        if self.worker is not None and self.worker.job is self:
            self.worker.scope.cancel()

    def _over(self, status: Status) -> None:
        self.status = status
        del self.peer.calls[self.key]
        if self._deadline_key:
            self.home.wheel.discard(self._deadline_key, self)
        if self.incoming is not None:
            self.incoming.close()
        if self._answer is not None:
            self._answer.close()
        if self.callbacks:
            self._call_back()

    def _call_back(self) -> None:
        callbacks, self.callbacks = self.callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception:  # noqa: BLE001  # the user's, and nobody waits for it
                log.exception("a done callback of %s failed", self.path.decode())

    def set_deadline(self, seconds: float) -> None:
        """End it in so many *seconds*."""
        self.deadline = trio.current_time() + seconds
        self._deadline_key = self.home.wheel.add(self.deadline, self)
