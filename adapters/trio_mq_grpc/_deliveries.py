"""Messages that want no answer, handled by ordinary servicers: one-way work and broadcast calls.

A delivery is a call whose answer goes nowhere. The return value is ignored; a failure has nobody to go to but the hook
of the port, and the figures.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import grpc

import trio_mq

from ._blocks import EMPTY_HEAD, Head, decode_head
from ._compression import TooLarge
from ._errors import log
from ._home import Home
from ._incoming import fault
from ._metadata import Metadatum
from ._outbox import Frames
from ._peer import Peer
from ._served import ServedCall
from ._service import CallDetails, Method
from ._status import OK, Status
from ._workers import Worker

_MOST_PEERS = 1024
_NOT_FOUND = Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
_STREAMS = Status(grpc.StatusCode.UNIMPLEMENTED, "only methods with one request and one response are called here")


@dataclass(frozen=True)
class Failure:
    """Work that was not done, as an `OnFailure` hook gets it; enough to keep it for later (a dead letter).

    Attributes:
        method: ``/package.Service/Method``.
        code, details: as the status of a call would have been.
        exception: what the handler raised; None if it only set a code, or was never run.
        request: the message, encoded.
        metadata: the caller's.
        peer: where it came from, as `ServicerContext.peer` gives it.
    """

    method: str
    code: grpc.StatusCode
    details: str
    exception: BaseException | None
    request: bytes
    metadata: tuple[Metadatum, ...]
    peer: str


OnFailure: TypeAlias = Callable[[Failure], "Awaitable[None] | None"]
"""Told of each failure; a function or an async one. It runs in the place of the handler, so it holds up the next."""


@dataclass
class DeliveryStatistics:
    """What became of the messages of one port or subscription.

    Attributes:
        received: all that came.
        done: the handler returned.
        failed: the handler failed, or there is none, or it cannot read the request.
        expired: the work had become worthless before a handler had time for it.
        malformed: no messages of TMQ-RPC 1.
        missed: broadcast calls that never came, as their numbers show.
        unread: what was received and not begun when the server stopped.
    """

    received: int = 0
    done: int = 0
    failed: int = 0
    expired: int = 0
    malformed: int = 0
    missed: int = 0
    unread: int = 0

    def snapshot(self) -> DeliveryStatistics:
        """A copy that does not change any more."""
        return replace(self)


class Delivery(ServedCall):
    """One message on its way through a handler. Its answer goes nowhere.

    Attributes:
        request: the message, encoded.
        exception: what the handler raised.
        logged: that has been logged, with its traceback.
    """

    worker: Worker | None
    exception: BaseException | None = None
    logged: bool = False
    wants_reply = False

    def __init__(self, peer: Peer, path: bytes, head: Head, request: bytes, worker: Worker) -> None:
        super().__init__(peer, object(), 0, peer.prefix, path)
        self.request: bytes = request
        self.payload: bytes = self.request
        self.head = head
        self.worker = worker

    def finish(self, status: Status) -> None:
        """End it with *status*, which nobody is told but the port."""
        if self.status is None:
            self._over(status)

    def failed(self, exc: BaseException) -> None:
        """The handler ended with *exc*."""
        self.exception = exc
        self.logged = self.status is None
        super().failed(exc)


class Deliverer:
    """Hands messages to servicers.

    Attributes:
        figures: what became of them.
    """

    def __init__(self, home: Home, on_failure: OnFailure | None, figures: DeliveryStatistics) -> None:
        self.figures = figures
        self._home = home
        self._on_failure = on_failure
        self._peers: dict[trio_mq.Peer, Peer] = {}
        self._last: tuple[trio_mq.Peer | None, Peer | None] = (None, None)

    def __repr__(self) -> str:
        return f"<Deliverer: {self.figures}>"

    def read_head(self, data: bytes | None) -> Head:
        """The Head in *data*.

        Raises:
            ValueError: it cannot be read, or is too large.
        """
        return EMPTY_HEAD if data is None else decode_head(data, self._home.options.max_metadata_size)

    async def deliver(self, sender: trio_mq.Peer, path: bytes, head: Head, payload: bytes, worker: Worker) -> None:
        """Run the method at *path*, to its end. Only cancellation comes out; `settle` the job then."""
        peer = self._peer(sender)
        call = Delivery(peer, path, head, payload, worker)
        refused = self._too_large(payload)
        if refused is None:
            refused = await self._resolve(call) if self._home.services.dynamic else self._find(call)
        if refused is None:
            peer.calls[call.key] = call
            peer.running += 1
            worker.job = call
            await call.run()
        if call.status is OK:
            self.figures.done += 1
        else:
            await self.settle(call, refused)

    def _too_large(self, payload: bytes) -> Status | None:
        limit = self._home.most_received
        return fault(TooLarge(len(payload), int(limit))) if len(payload) > limit else None

    async def settle(self, call: Delivery, status: Status | None = None) -> None:
        """Count what became of *call*, and tell the hook of a failure."""
        status = status or call.status or Status(grpc.StatusCode.UNKNOWN, "the handler ended without a status")
        if status.code is grpc.StatusCode.OK:
            self.figures.done += 1
        else:
            await self._failed(call, status)

    def end_calls(self, end: Callable[[ServedCall], None]) -> None:
        """Apply *end* to everything that is being handled."""
        for peer in list(self._peers.values()):
            for call in list(peer.calls.values()):
                end(call)

    def _find(self, call: Delivery) -> Status | None:
        """Say which method it is; why not, if it cannot be run."""
        return _use(call, self._home.services.find(call.path))

    async def _resolve(self, call: Delivery) -> Status | None:
        """The same where only a task can find out."""
        try:
            return _use(call, await self._home.services.resolve(call.peer.details_of(call)))
        except Exception as exc:  # noqa: BLE001  # an interceptor's, and it fails this delivery only
            call.exception = exc
            return Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(exc)}: {exc}")

    async def _failed(self, call: Delivery, status: Status) -> None:
        self.figures.failed += 1
        details = call.peer.details_of(call)
        if self._on_failure is None:
            if not call.logged:
                log.warning("%s of %s failed: %s, %s", details.method, call.peer.name, status.code.name, status.details)
            return
        failure = _failure(call, details, status)
        try:
            outcome = self._on_failure(failure)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception:  # noqa: BLE001  # the user's, and nobody else must notice
            log.exception("the on_failure hook failed for %s", details.method)

    def _peer(self, sender: trio_mq.Peer) -> Peer:
        last, peer = self._last
        if last is sender and peer is not None:
            return peer
        peer = self._peers.get(sender)
        if peer is None:
            if len(self._peers) >= _MOST_PEERS:
                self._peers = {sender: peer for sender, peer in self._peers.items() if peer.calls}
            peer = self._peers[sender] = Peer(self._home, sender, _nowhere, _never)
        self._last = (sender, peer)
        return peer


def _use(call: Delivery, method: Method | None) -> Status | None:
    if method is None:
        return _NOT_FOUND
    call.method = method
    return _STREAMS if method.streams_requests or method.streams_responses else None


def _failure(call: Delivery, details: CallDetails, status: Status) -> Failure:
    return Failure(
        details.method,
        status.code,
        status.details,
        call.exception,
        call.request,
        details.invocation_metadata,
        call.peer.name,
    )


def _nowhere(_: Frames) -> None:
    """Where answers go."""


def _never(_: Peer) -> None:
    raise AssertionError("nowhere has room for everything")


def check_concurrency(concurrency: int) -> int:
    """*concurrency*, if it is a number of handlers.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency is a number of handlers, not {concurrency!r}")
    if concurrency < 1:
        raise ValueError(f"concurrency is at least 1 handler, not {concurrency}")
    return concurrency
