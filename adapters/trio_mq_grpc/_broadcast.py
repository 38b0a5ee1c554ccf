"""Broadcast calls: a stub whose calls reach every server that has subscribed, over PUB or RADIO."""

from __future__ import annotations

from collections.abc import Iterable

import grpc.aio

import trio_mq

from ._blocks import Head, encode_head
from ._feeds import Outlet, open_outlet
from ._line import Courier
from ._queued import QueuingChannel
from ._rpc import Rpc


class OutletCourier(Courier):
    """Publishes calls."""

    def __init__(self, outlet: Outlet) -> None:
        self.socket: trio_mq.Socket = outlet.socket
        self.outlet = outlet

    def send_nowait(self, rpc: Rpc) -> None:
        """Publish *rpc*, or raise `trio.WouldBlock`."""
        assert rpc.request is not None
        head = encode_head(Head(metadata=rpc.entries)) if rpc.entries else None
        self.outlet.publish_nowait(rpc.method.path_bytes, b"", head, rpc.request)

    async def wait_room(self) -> None:
        """Wait until there is room for more."""
        await self.outlet.wait_room()


class BroadcastChannel(QueuingChannel):
    """What `broadcast_channel` gives."""

    def __init__(self, outlet: Outlet, name: str, *, interceptors: Iterable[grpc.aio.ClientInterceptor] | None) -> None:
        super().__init__(OutletCourier(outlet), name, interceptors=interceptors)
        self._outlet = outlet

    @property
    def epoch(self) -> int:
        """The number by which subscribers tell this publisher, and this life of it, from others."""
        return self._outlet.epoch

    def subscriber_count(self, method: str) -> int:
        """How many servers a call of *method* (``/package.Service/Method``) would reach now."""
        return self._outlet.subscriber_count(method.encode(), b"")

    async def wait_subscribed(self, method: str, count: int = 1) -> None:
        """Wait until a call of *method* would reach *count* servers. This ends the guess how long they take to join.

        Raises:
            trio.ClosedResourceError: the channel was closed meanwhile.
        """
        await self._outlet.wait_subscribed(method.encode(), b"", count)


def broadcast_channel(
    target: str | Iterable[str],
    *,
    bind: bool = False,
    options: trio_mq.Options | None = None,
    interceptors: Iterable[grpc.aio.ClientInterceptor] | None = None,
) -> BroadcastChannel:
    """A channel whose calls reach every server that has subscribed there (`Server.subscribe`), and nobody else.

    ``await stub.Method(request)`` returns when the message is queued for those who are there now; nobody there means
    nobody gets it. The response is an empty message and ``code()`` is OK, which says "published" and nothing more. A
    subscriber that is too slow misses calls, and is told how many, because they are numbered. Only methods with one
    request and one response can be called.

    Args:
        target: one or several to connect to, or to bind: what `trio_mq.Pub` takes, or ``udp://`` (RADIO).
        bind: whether this side is the stable one.
        options: how the socket behaves; ``Options(overflow="block")`` waits for slow subscribers instead.
        interceptors: as for `insecure_channel`.

    Raises:
        ValueError: the target cannot be meant.
    """
    outlet = open_outlet(target, bind=bind, options=options)
    return BroadcastChannel(outlet, f"broadcast_channel({target!r})", interceptors=interceptors)
