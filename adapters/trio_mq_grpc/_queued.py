"""Channels whose calls end when they are queued: one-way and broadcast. No reply comes, and no status of a server's.

A stub call ends with OK when the socket has taken it, and that is all that OK means here: accepted by this process. The
response is an empty message.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc
import grpc.aio
import trio
from grpc import ChannelConnectivity as State

import trio_mq

from ._bases import StreamStreamMultiCallableBase, StreamUnaryMultiCallableBase
from ._calls import UnaryUnaryCall
from ._interception import by_kind
from ._line import Courier, Line
from ._method import Method
from ._multicallables import UnaryUnaryMultiCallable

Request = TypeVar("Request")
Response = TypeVar("Response")


async def _yield_once() -> None:
    await trio.lowlevel.checkpoint()


class QueuedCall(UnaryUnaryCall[Request, Response]):
    """A call that has ended when it is queued. Awaiting it gives an empty response; None if there is no such message.

    ``code()`` is OK then, and means "accepted here"; ``details()`` says so. Cancelled before that, it was not queued.
    """

    def __await__(self) -> Generator[Any, Any, Response]:
        home = self._rpc.home
        if isinstance(home, Line) and home.is_others_turn():
            yield from _yield_once().__await__()
        return (yield from super().__await__())

    def _read_response(self) -> Any:
        deserialize = self._rpc.method.deserialize
        try:
            return b"" if deserialize is None else deserialize(b"")
        except Exception:  # noqa: BLE001  # there is no empty message of this kind, and nothing was received
            return None


class QueuedMultiCallable(UnaryUnaryMultiCallable):
    """Begins calls that end when they are queued.

    Of what a call may be given, *timeout* is for the queueing alone, *metadata* goes along, and *credentials* are
    refused. *wait_for_ready* and *compression* change nothing: it always waits, and nobody has said what the other end
    can read.
    """

    face: ClassVar[Any] = QueuedCall


class RefusedMultiCallable(
    grpc.aio.UnaryStreamMultiCallable[Any, Any],
    StreamUnaryMultiCallableBase,
    StreamStreamMultiCallableBase,
):
    """In place of a kind of method that cannot be called over such a channel; stubs are made for all of them."""

    def __init__(self, method: str) -> None:
        self._method = method

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raises `grpc.aio.UsageError`."""
        raise grpc.aio.UsageError(
            f"{self._method}: a channel that gets no replies is for methods with one request and one response"
        )


class QueuingChannel(grpc.aio.Channel):
    """A channel whose calls are taken away by a courier. It lives in a block; calls are made inside."""

    def __init__(
        self,
        courier: Courier,
        name: str,
        *,
        interceptors: Iterable[grpc.aio.ClientInterceptor] | None,
    ) -> None:
        self._name = name
        self._line = Line(courier, name, by_kind(tuple(interceptors or ())))

    def __repr__(self) -> str:
        return f"<{self._name}: {self.get_state().name}, {len(self._line.waiting)} calls wait>"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What it is bound or connected to, with real ports."""
        return self.socket.endpoints

    @property
    def socket(self) -> trio_mq.Socket:
        """The socket below, for its ``statistics()`` and ``monitor()``: who is there, what was dropped for whom."""
        return self._line.courier.socket

    # --- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._line.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._line.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # the socket lingers as it was told

    async def serve(self, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Enter the channel until it is closed: ``channel = await nursery.start(channel.serve)``."""
        async with self:
            task_status.started(self)
            await self._line.closed.wait()

    async def close(self, grace: float | None = None) -> None:
        """Begin no more calls, wait up to *grace* seconds for those that wait to be queued, then cancel them.

        Raises:
            ValueError: *grace* is negative.
        """
        await self._line.close_after(grace)

    # --- stubs ------------------------------------------------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
        **_: Any,
    ) -> QueuedMultiCallable:
        """What begins calls of *method*; without serializers, in bytes."""
        made = Method(
            method,
            unary_request=True,
            unary_reply=True,
            serialize=request_serializer,
            deserialize=response_deserializer,
        )
        return QueuedMultiCallable(self._line, made)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> RefusedMultiCallable:
        """What refuses calls of *method*: nothing can stream back."""
        return RefusedMultiCallable(method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> RefusedMultiCallable:
        """What refuses calls of *method*: one call is one message."""
        return RefusedMultiCallable(method)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> RefusedMultiCallable:
        """What refuses calls of *method*: nothing can stream back."""
        return RefusedMultiCallable(method)

    # --- the connection ---------------------------------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> State:
        """READY if anybody is at the other end."""
        return self._line.state()

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        """Return when the state is another than *last_observed_state*; also when the channel is closed."""
        async with self.socket.monitor() as events:
            while self.get_state() is last_observed_state:
                try:
                    await events.receive()
                except trio.EndOfChannel:
                    break

    async def channel_ready(self) -> None:
        """Wait until anybody is at the other end."""
        self._line.check_open()
        await self.socket.wait_connected()
