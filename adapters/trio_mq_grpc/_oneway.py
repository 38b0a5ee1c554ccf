"""One-way calls: a stub whose calls are work for whoever has time, over PUSH."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc.aio

import trio_mq

from ._blocks import Head, encode_head
from ._calls import UnaryUnaryCall
from ._line import Courier
from ._method import Method
from ._queued import QueuedMultiCallable, QueuingChannel
from ._rpc import Rpc
from ._targets import bind_endpoint, connect_endpoints
from ._wire import CALL, HEAD, UNARY_CALL, pack


class OnewayMethod(Method):
    """A method whose work may become worthless.

    Attributes:
        expires_after: seconds after which it is; None for never.
    """

    __slots__ = ("expires_after",)

    def __init__(self, path: str | bytes, serialize: Any, deserialize: Any, expires_after: float | None) -> None:
        super().__init__(path, unary_request=True, unary_reply=True, serialize=serialize, deserialize=deserialize)
        self.expires_after = expires_after

    def with_path(self, path: str | bytes) -> OnewayMethod:
        """The same under another path."""
        return OnewayMethod(path, self.serialize, self.deserialize, self.expires_after)


class OnewayMultiCallable(QueuedMultiCallable):
    """Begins one-way calls: those that end when they are queued, and may say when their work becomes worthless."""

    def __call__(self, request: Any, *, expires_after: float | None = None, **others: Any) -> UnaryUnaryCall[Any, Any]:
        """Queue the call; await what is returned until that is done.

        Args:
            request: the message.
            expires_after: seconds after which the work is worthless, by the wall clock; None: what the channel says.
            others: as for any call that is queued.
        """
        if expires_after is None:
            return super().__call__(request, **others)
        method = self._method
        hurried = OnewayMethod(method.path_bytes, method.serialize, method.deserialize, expires_after)
        return OnewayMultiCallable(self._channel, hurried)(request, **others)


class PushCourier(Courier):
    """Takes calls away over PUSH."""

    def __init__(self, socket: trio_mq.Push, wall_clock: Callable[[], float]) -> None:
        self.socket: trio_mq.Push = socket
        self._wall_clock = wall_clock
        self._last_id = 0

    def send_nowait(self, rpc: Rpc) -> None:
        """Queue *rpc*, or raise `trio.WouldBlock`."""
        head = self._head(rpc)
        assert rpc.request is not None
        flags, blocks = (UNARY_CALL | HEAD, [head]) if head else (UNARY_CALL, [])
        header = pack(CALL, flags, 0, self._last_id + 1)
        self.socket.send_multipart_nowait([header, rpc.method.path_bytes, *blocks, rpc.request])
        self._last_id += 1

    def _head(self, rpc: Rpc) -> bytes:
        method = rpc.method
        expires = 0
        if isinstance(method, OnewayMethod) and method.expires_after is not None:
            # Not before it leaves: time in the line of this channel is time, too.
            expires = max(1, int((self._wall_clock() + method.expires_after) * 1e6))
        return encode_head(Head(metadata=rpc.entries, expires_unix_us=expires)) if rpc.entries or expires else b""

    async def wait_room(self) -> None:
        """Wait until some peer has room."""
        await self.socket.wait_sendable()


class OnewayChannel(QueuingChannel):
    """What `oneway_channel` gives.

    Attributes:
        expires_after: seconds after which the work of calls is worthless, for stubs that are made from now on.
    """

    def __init__(
        self,
        courier: PushCourier,
        name: str,
        *,
        interceptors: Iterable[grpc.aio.ClientInterceptor] | None,
        expires_after: float | None,
    ) -> None:
        super().__init__(courier, name, interceptors=interceptors)
        self.expires_after = expires_after

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
        **_: Any,
    ) -> OnewayMultiCallable:
        """What begins calls of *method*; without serializers, in bytes."""
        made = OnewayMethod(method, request_serializer, response_deserializer, self.expires_after)
        return OnewayMultiCallable(self._line, made)


def oneway_channel(
    target: str | Iterable[str],
    *,
    bind: bool = False,
    options: trio_mq.Options | None = None,
    interceptors: Iterable[grpc.aio.ClientInterceptor] | None = None,
    expires_after: float | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> OnewayChannel:
    """A channel for work that wants no answer: each call goes to one of the servers that are there, in turn.

    ``await stub.Method(request)`` returns when the message is queued for a server. While none is there, or all have
    as much as they take, it waits; ``timeout=`` ends that with DEADLINE_EXCEEDED, and then nothing was queued. The
    response is an empty message and ``code()`` is OK, which says "queued" and nothing about the work: no status is
    invented, and failures stay with the server (`Server.add_oneway_port`). Only methods with one request and one
    response can be called.

    Work is done at most once. What is queued for a server that goes is lost with it.

    Args:
        target: one or several to connect to, or to bind.
        bind: whether this side is the stable one.
        options: how the PUSH socket behaves: marks, linger, security. By default 1,000 messages may wait for each
            server, and nothing is queued for one that is not connected.
        interceptors: as for `insecure_channel`.
        expires_after: seconds after which the work is worthless; servers drop it then, by their wall clock. Each call
            may say otherwise, by an argument of the same name. Time in queues counts, which a timeout could not see.
        wall_clock: seconds since 1970.

    Raises:
        ValueError: the target cannot be meant.
    """
    endpoints = tuple(map(bind_endpoint, [target] if isinstance(target, str) else target)) if bind else ()
    dialled = () if bind else connect_endpoints(target)
    socket = trio_mq.Push(bind=endpoints, connect=dialled, options=options or push_options())
    name = f"oneway_channel({target!r})"
    return OnewayChannel(PushCourier(socket, wall_clock), name, interceptors=interceptors, expires_after=expires_after)


def push_options() -> trio_mq.Options:
    """How the PUSH of a one-way channel behaves: it queues only for servers that are there."""
    return trio_mq.Options(immediate=True, heartbeat_interval=20.0)
