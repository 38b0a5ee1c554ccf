"""Several addresses, one connection: RFC 6555's race, for sockets that have to be prepared before they connect.

`trio.open_tcp_stream` runs the same race, but gives no hand on the socket before it connects, where buffer sizes
(TCP settles its window scale in the first segment) and a source port have to be set.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from ._addresses import SocketAddress

DELAY = 0.25  # RFC 6555, section 5.5: "150-250ms is the recommended range"; the value of trio


async def race(
    addresses: Sequence[SocketAddress], attempt: Callable[[SocketAddress], Awaitable[socket.socket]]
) -> socket.socket:
    """The socket of the first *attempt* at one of *addresses* (at least one) that succeeds; the others are cancelled.

    Each starts when the one before it has failed, or has not succeeded for `DELAY` seconds. Cancelled: every attempt
    is, and nothing is left open.

    Raises:
        OSError: every attempt failed. The first failure, naming the others.
    """
    if len(addresses) == 1:
        return await attempt(addresses[0])
    won: list[socket.socket] = []
    failures: list[OSError] = []

    async def run(address: SocketAddress, failed: trio.Event) -> None:
        await trio.lowlevel.checkpoint()
        try:
            won.append(await attempt(address))
        except OSError as exc:
            failures.append(exc)
            failed.set()
        else:
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in alternate(addresses):
                failed = trio.Event()
                nursery.start_soon(run, address, failed)
                with trio.move_on_after(DELAY):
                    await failed.wait()
    except BaseException:
        _close(won)
        raise
    if not won:
        raise _all_failed(failures)
    # Two attempts may succeed in the same turn of the loop, before the cancellation of the second reaches it.
    _close(won[1:])
    return won[0]


def alternate(addresses: Sequence[SocketAddress]) -> list[SocketAddress]:
    """*addresses* with the first one of the other family in second place.

    RFC 6555, section 5.4: if one family does not work at all, its addresses shall not be tried one by one first.
    """
    ordered = list(addresses)
    for index, address in enumerate(ordered):
        if address.family != ordered[0].family:
            ordered.insert(1, ordered.pop(index))
            break
    return ordered


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _all_failed(failures: Sequence[OSError]) -> OSError:
    first = failures[0]
    if len(failures) == 1:
        return first
    reasons = "; ".join(failure.strerror or str(failure) for failure in failures)
    return OSError(first.errno, f"none of {len(failures)} addresses could be connected to: {reasons}")
