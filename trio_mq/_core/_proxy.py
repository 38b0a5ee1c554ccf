"""The proxy: connects two sockets back to back, as ``zmq_proxy`` does."""

from __future__ import annotations

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from .._errors import StateError
from .._message import Payload, Received
from ._receiving import ReceivingSocket
from ._sending import MultipartSendingSocket
from ._socket import Socket

BATCH = 64


@enable_ki_protection
async def proxy(front: Socket, back: Socket, capture: Socket | None = None) -> None:
    """Pass every message of *front* on to *back* and the other way round, until cancelled.

    A message is taken from one side only when the other has room for it, so a cancelled proxy has lost none. Pairs that
    make sense: ROUTER and DEALER, XSUB and XPUB (subscriptions travel, too), PULL and PUSH.

    Args:
        front, back: the two sides, both entered.
        capture: a PUB, PUSH, DEALER or PAIR that gets a copy of everything, as far as it has room.

    Raises:
        StateError: neither side can send what the other receives, or *capture* cannot send.
        trio.ClosedResourceError: one of the sockets was closed.
    """
    if capture is not None and not isinstance(capture, MultipartSendingSocket):
        raise StateError(f"capture must be a socket that sends, not a {type(capture).__name__}")
    ways = [way for way in (_way(front, back), _way(back, front)) if way is not None]
    if not ways:
        raise StateError(f"a {type(front).__name__} and a {type(back).__name__} have nothing to pass on")
    failures: list[Exception] = []

    async def run(source: ReceivingSocket, target: MultipartSendingSocket) -> None:
        try:
            await _pass_on(source, target, capture)
        except Exception as exc:  # noqa: BLE001  # raised again below, outside the nursery
            failures.append(exc)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for source, target in ways:
            nursery.start_soon(run, source, target)
    if failures:
        # One plain exception: that there are two tasks is nobody's business.
        raise failures[0]


def _way(source: Socket, target: Socket) -> tuple[ReceivingSocket, MultipartSendingSocket] | None:
    if isinstance(source, ReceivingSocket) and isinstance(target, MultipartSendingSocket):
        return source, target
    return None


@enable_ki_protection
async def _pass_on(
    source: ReceivingSocket, target: MultipartSendingSocket, capture: MultipartSendingSocket | None
) -> None:
    while True:
        await source.wait_receivable()
        await target.wait_sendable()
        for _ in range(BATCH):
            if not (target.can_send() and source.can_receive()):
                break
            message: Received = source.take_nowait()
            if not isinstance(message, (bytes, list)):
                continue  # a peer event is this side's own business
            try:
                await target.pass_on(message)
            except BaseException:
                # Whether a ROUTER has room is known only for the peer that a message is for.
                source.take_back(message)
                raise
            if capture is not None:
                _copy(capture, message)
        await checkpoint()


def _copy(capture: MultipartSendingSocket, message: Payload) -> None:
    try:
        capture.send_payload_nowait(message)
    except trio.WouldBlock:
        pass
