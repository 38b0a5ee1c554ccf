"""Channels whose calls end when they are queued: one-way and broadcast. No reply comes, and no status of a server's.

A stub call ends with OK when the socket has taken it, and that is all that OK means here: accepted by this process. The
response is an empty message.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, ClassVar, Final, Self, TypeVar

import grpc
import grpc.aio
import trio
from grpc import ChannelConnectivity as State

import trio_mq

from ._awaited import LOCALLY_CANCELLED
from ._bases import StreamStreamMultiCallableBase, StreamUnaryMultiCallableBase
from ._calls import UnaryUnaryCall
from ._interception import by_kind
from ._method import NO_LIMIT, Method
from ._multicallables import UnaryUnaryMultiCallable
from ._rpc import Rpc
from ._status import Status
from ._wheel import Wheel

QUEUED: Final = Status(grpc.StatusCode.OK, "queued; no reply is expected")
_CLOSED: Final = Status(grpc.StatusCode.UNAVAILABLE, "the channel was closed")
_BURST: Final = 32
"""Calls that end at once before others get a turn."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class QueuedMethod(Method):
    """A method of such a channel.

    Attributes:
        expires_after: seconds after which the work is worthless; None for never.
    """

    __slots__ = ("expires_after",)

    def __init__(self, path: str | bytes, serialize: Any, deserialize: Any, expires_after: float | None) -> None:
        super().__init__(path, unary_request=True, unary_reply=True, serialize=serialize, deserialize=deserialize)
        self.expires_after = expires_after
        self.retries = False

    def with_path(self, path: str | bytes) -> QueuedMethod:
        """The same under another path."""
        return QueuedMethod(path, self.serialize, self.deserialize, self.expires_after)


async def _yield_once() -> None:
    await trio.lowlevel.checkpoint()


class QueuedCall(UnaryUnaryCall[Request, Response]):
    """A call that has ended when it is queued. Awaiting it gives an empty response; None if there is no such message.

    ``code()`` is OK then, and means "accepted here"; ``details()`` says so. Cancelled before that, it was not queued.
    """

    def __await__(self) -> Generator[Any, Any, Response]:
        home = self._rpc.home
        if isinstance(home, QueuingChannel) and home.is_others_turn():
            yield from _yield_once().__await__()
        return (yield from super().__await__())

    def _read_response(self) -> Any:
        deserialize = self._rpc.method.deserialize
        try:
            return b"" if deserialize is None else deserialize(b"")
        except Exception:  # noqa: BLE001  # there is no empty message of this kind, and nothing was received
            return None


class QueuedMultiCallable(UnaryUnaryMultiCallable):
    """Begins calls that end when they are queued."""

    face: ClassVar[Any] = QueuedCall

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
        expires_after: float | None = None,
    ) -> UnaryUnaryCall[Any, Any]:
        """Queue the call; await what is returned until that is done.

        Args:
            request: the message.
            timeout: seconds for the queueing alone.
            metadata: goes along.
            credentials: are refused.
            wait_for_ready: nothing: it always waits.
            compression: nothing: nobody has said what the other end can read.
            expires_after: seconds after which the work is worthless, by the wall clock (one-way channels only);
                otherwise what the channel says.
        """
        begin: UnaryUnaryMultiCallable = self
        if expires_after is not None:
            method = self._method
            begin = type(self)(
                self._channel, QueuedMethod(method.path_bytes, method.serialize, method.deserialize, expires_after)
            )
        call: UnaryUnaryCall[Any, Any]
        call = begin._start(request, timeout, metadata, credentials, wait_for_ready, compression)  # noqa: SLF001  # ours
        return call


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


class Courier(ABC):
    """What takes the calls of a channel away."""

    socket: trio_mq.Socket

    @abstractmethod
    def send_nowait(self, rpc: Rpc) -> None:
        """Queue *rpc*, or raise `trio.WouldBlock`."""

    @abstractmethod
    async def wait_room(self) -> None:
        """Wait until it is worth to try again."""


class QueuingChannel(grpc.aio.Channel):
    """A channel whose calls are taken away by a courier. It lives in a block; calls are made inside.

    Attributes:
        expires_after: seconds after which the work of calls is worthless, for stubs that are made from now on.
    """

    def __init__(
        self,
        courier: Courier,
        name: str,
        *,
        interceptors: Iterable[grpc.aio.ClientInterceptor] | None,
    ) -> None:
        self.interceptors: dict[str, tuple[Any, ...]] = by_kind(tuple(interceptors or ()))
        self.wheel: Wheel = Wheel()
        # Of what else RPCs ask their channel, nothing applies here.
        self.encoding = self.user_agent = self.authority = ""
        self.brokered = False
        self.window = 0
        self.fragment_size = self.max_metadata = NO_LIMIT
        self.courier = courier
        self._name = name
        self.expires_after: float | None = None
        self._line: dict[Rpc, None] = {}
        self._active: set[Rpc] = set()
        self._burst = _BURST
        self._reactor = trio_mq.Reactor(name)
        self._stack = AsyncExitStack()
        self._entered = False
        self._closed = False
        self._draining = False
        self._finished = trio.Event()

    def __repr__(self) -> str:
        return f"<{self._name}: {self.get_state().name}, {len(self._line)} calls wait>"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What it is bound or connected to, with real ports."""
        return self.courier.socket.endpoints

    @property
    def socket(self) -> trio_mq.Socket:
        """The socket below, for its ``statistics()`` and ``monitor()``: who is there, what was dropped for whom."""
        return self.courier.socket

    # --- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise grpc.aio.UsageError("a channel is entered once")
        self._entered = True
        await self._stack.__aenter__()
        try:
            await self._stack.enter_async_context(self._reactor.run(self._leave))
            await self._stack.enter_async_context(self.courier.socket)
        except BaseException as exc:
            await self._stack.__aexit__(type(exc), exc, exc.__traceback__)  # noqa: ASYNC102  # it waits for nobody
            raise
        self._reactor.start(self.wheel.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._abandon_all()
            await self._stack.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # the socket lingers as it was told
        finally:
            self._finished.set()

    async def _leave(self, normally: bool) -> None:
        self._abandon_all()

    def _abandon_all(self) -> None:
        self._closed = True
        for rpc in list(self._active):
            rpc.abandon(LOCALLY_CANCELLED)
        self._finished.set()

    async def serve(self, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Enter the channel until it is closed: ``channel = await nursery.start(channel.serve)``."""
        async with self:
            task_status.started(self)
            await self._finished.wait()

    async def close(self, grace: float | None = None) -> None:
        """Begin no more calls, wait up to *grace* seconds for those that wait to be queued, then cancel them."""
        if grace is not None and grace < 0:
            raise ValueError(f"grace is at least 0 seconds, not {grace}")
        self._closed = True
        if grace and self._active:
            with trio.move_on_after(grace):
                while self._active:
                    await next(iter(self._active)).wait_ended()
        self._abandon_all()
        await trio.lowlevel.checkpoint()

    def check_open(self) -> None:
        """Raise `grpc.aio.UsageError` unless calls can begin."""
        if not self._entered:
            raise grpc.aio.UsageError(f"enter the channel first: async with {self._name} as channel")
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")

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
        made = QueuedMethod(method, request_serializer, response_deserializer, self.expires_after)
        return QueuedMultiCallable(self, made)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> RefusedMultiCallable:
        """What refuses calls of *method*: nothing can stream back."""
        return RefusedMultiCallable(method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> RefusedMultiCallable:
        """What refuses calls of *method*: one call is one message."""
        return RefusedMultiCallable(method)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> RefusedMultiCallable:
        """What refuses calls of *method*: nothing can stream back."""
        return RefusedMultiCallable(method)

    # --- calls ------------------------------------------------------------------------------------------------------

    def begin(self, rpc: Rpc, credentials: grpc.CallCredentials | None) -> None:
        """Begin *rpc*."""
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels, and for calls with replies")
        self._active.add(rpc)
        rpc.begin()

    def start(self, rpc: Rpc) -> None:
        """Queue it now, or let it wait in line."""
        if not self._line and self._send(rpc):
            return
        self._line[rpc] = None
        if not self._draining:
            self._draining = True
            self._reactor.start(self._drain)

    def _send(self, rpc: Rpc) -> bool:
        """Whether it is settled: queued, or never to be."""
        try:
            self.courier.send_nowait(rpc)
        except trio.WouldBlock:
            return False
        except (trio.ClosedResourceError, trio_mq.MQError):
            rpc.finish(_CLOSED)
        else:
            rpc.finish(QUEUED)
        return True

    async def _drain(self) -> None:
        try:
            while self._line:
                rpc = next(iter(self._line))
                if not self._send(rpc):
                    await self.courier.wait_room()
        except trio.ClosedResourceError:
            for rpc in list(self._line):
                rpc.finish(_CLOSED)
        finally:
            self._draining = False

    def is_others_turn(self) -> bool:
        """Whether whoever awaits a call that has ended should yield once: a loop of them must not starve others."""
        self._burst = self._burst - 1 or _BURST
        return self._burst == _BURST

    def withdraw(self, rpc: Rpc) -> None:
        """It has ended."""
        self._line.pop(rpc, None)

    def ended(self, rpc: Rpc) -> None:
        """It has its status."""
        self._active.discard(rpc)

    def retry(self, rpc: Rpc, status: Status) -> bool:
        """Nothing is done twice."""
        return False

    def start_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run ``task(*args)`` in the background until the channel is closed."""
        return self._reactor.start(task, *args)

    # --- the connection ---------------------------------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> State:
        """READY if anybody is at the other end."""
        if self._closed:
            return State.SHUTDOWN
        if not self._entered:
            return State.IDLE
        states = {peer.state for peer in self.courier.socket.statistics().peers}
        if "ready" in states:
            return State.READY
        return State.TRANSIENT_FAILURE if states & {"waiting", "failed"} else State.CONNECTING

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        """Return when the state is another than *last_observed_state*; also when the channel is closed."""
        async with self.courier.socket.monitor() as events:
            while self.get_state() is last_observed_state:
                try:
                    await events.receive()
                except trio.EndOfChannel:
                    break

    async def channel_ready(self) -> None:
        """Wait until anybody is at the other end."""
        self.check_open()
        await self.courier.socket.wait_connected()
