"""The channel: a `grpc.aio.Channel` over ZeroMQ. It owns the connections, picks one for each call, and retries.

It lives in a block: ``async with insecure_channel(...) as channel``. Stubs may be made before; calls may not.
Leaving the block cancels the calls that are under way.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
import trio
from grpc import ChannelConnectivity as State

import trio_mq

from ._compression import SUPPORTED, name_of
from ._credentials import CredentialsError, call_metadata, call_plugins, is_private, security_of
from ._generators import drive_any, reported
from ._interception import by_kind
from ._method import NO_LIMIT, Method
from ._multicallables import (
    Multicallable,
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from ._options import parse_channel_options
from ._rpc import LOCALLY_CANCELLED, Rpc
from ._service_config import MethodConfig, pushback_of
from ._status import Status
from ._subchannel import Subchannel, socket_options
from ._targets import connect_endpoints
from ._wheel import Wheel
from ._wire import PROPERTY, Announcement

Kind = TypeVar("Kind", bound=Multicallable)
_NOT_ENTERED = "enter the channel first: async with insecure_channel(...) as channel"


class Channel(grpc.aio.Channel):
    """Calls to one target, which may be several endpoints; made by `insecure_channel` and `secure_channel`.

    A call begins when the stub's method is called. Cancelling ``await call``, ``async for``, ``read`` or ``write``
    cancels it, here and at the server; inside ``async with call:`` a cancelled ``read`` or ``write`` changes nothing,
    and leaving that block cancels. What fails is a `grpc.aio.AioRpcError`, also a call that was cancelled by
    ``call.cancel()``, by leaving the channel's block, or by whatever is cancelled around that. Calls begin in the order
    in which they are made; what is promised of the order of messages is the order within one call.
    """

    def __init__(
        self,
        target: str | Iterable[str],
        options: Sequence[tuple[str, Any]] | None,
        compression: grpc.Compression | None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] | None,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        parsed = parse_channel_options(options)
        self._options = parsed
        endpoints = connect_endpoints(target)
        self._plugins = call_plugins(credentials) if credentials is not None else ()
        self._secure = credentials is not None and (
            parsed.allow_call_credentials_on_plain or all(map(is_private, endpoints))
        )
        self._security = security_of(credentials)
        self.interceptors: dict[str, tuple[Any, ...]] = by_kind(interceptors)
        self.wheel: Wheel = Wheel()
        self.window: int = parsed.window
        self.fragment_size: int = parsed.fragment_size
        self.user_agent: str = " ".join(filter(None, parsed.user_agent))
        self.authority: str = parsed.authority
        self.max_metadata: int = parsed.max_metadata_size
        self.encoding: str = name_of(compression)
        self.brokered: bool = parsed.brokered
        ours = Announcement(0, parsed.window, parsed.max_receive_message_length, SUPPORTED, not parsed.brokered)
        self._subchannels = [
            Subchannel(
                self,
                endpoint,
                self._socket_options,
                ours,
                cancels=not parsed.brokered,
                one_at_a_time=parsed.strict_reqrep,
            )
            for endpoint in endpoints
        ]
        self._turn = 0
        self._chosen: Subchannel | None = None
        self._waiting: dict[Rpc, None] = {}
        self._active: set[Rpc] = set()
        self._throttle = parsed.service_config.make_throttle()
        self._reactor = trio_mq.Reactor(f"channel to {target}")
        self._block: Any = None
        self._entered = False
        self._closed = False
        self._changed = trio.Event()
        self._drained: trio.Event | None = None
        self._finished = trio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.get_state().name}, {len(self._active)} calls>"

    def _socket_options(self, endpoint: str, announcement: str) -> trio_mq.Options:
        options = self._options
        largest = options.max_receive_message_length
        return socket_options(
            **self._security,
            # As at the server: too large ends a call, with both numbers; absurd ends the connection.
            max_message_size=None if largest is None else max(4 * largest, 1 << 20),
            immediate=True,
            ipv6="[" in endpoint,
            reconnect_interval=options.reconnect_interval,
            reconnect_interval_max=options.reconnect_interval_max,
            heartbeat_interval=options.heartbeat_interval,
            heartbeat_timeout=options.heartbeat_timeout,
            properties={} if options.brokered else {PROPERTY: announcement},
        )

    # --- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise grpc.aio.UsageError("a channel is entered once")
        self._entered = True
        self._block = self._reactor.run(self._leave)
        await self._block.__aenter__()
        self._reactor.start(self.wheel.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._block.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # it waits for nobody
        finally:
            self._finished.set()

    async def _leave(self, normally: bool) -> None:
        self._close_now()

    async def serve(self, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Enter the channel until it is closed: ``channel = await nursery.start(insecure_channel(...).serve)``."""
        async with self:
            task_status.started(self)
            await self._finished.wait()

    async def close(self, grace: float | None = None) -> None:
        """Begin no more calls, wait up to *grace* seconds for those under way, then cancel them. Twice is fine.

        Raises:
            ValueError: *grace* is negative.
        """
        if grace is not None and grace < 0:
            raise ValueError(f"grace is at least 0 seconds, not {grace}")
        if not self._closed:
            self._closed = True
            if grace and self._active:
                self._drained = trio.Event()
                with trio.move_on_after(grace):
                    await self._drained.wait()
        self._close_now()
        await trio.lowlevel.checkpoint()

    def _close_now(self) -> None:
        self._closed = True
        for rpc in list(self._active):
            rpc.abandon(LOCALLY_CANCELLED)
        for subchannel in self._subchannels:
            subchannel.stop()
        self._reactor.stop()
        self._finished.set()

    def check_open(self) -> None:
        """Raise `grpc.aio.UsageError` unless calls can begin."""
        if not self._entered:
            raise grpc.aio.UsageError(_NOT_ENTERED)
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
    ) -> UnaryUnaryMultiCallable:
        """What begins calls of *method*, one request and one response; without serializers, in bytes."""
        return self._multicallable(UnaryUnaryMultiCallable, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
        **_: Any,
    ) -> UnaryStreamMultiCallable:
        """What begins calls of *method*, one request and many responses."""
        return self._multicallable(UnaryStreamMultiCallable, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
        **_: Any,
    ) -> StreamUnaryMultiCallable:
        """What begins calls of *method*, many requests and one response."""
        return self._multicallable(StreamUnaryMultiCallable, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
        **_: Any,
    ) -> StreamStreamMultiCallable:
        """What begins calls of *method*, many requests and many responses."""
        return self._multicallable(StreamStreamMultiCallable, method, request_serializer, response_deserializer)

    def _multicallable(self, kind: type[Kind], path: str, serialize: Any, deserialize: Any) -> Kind:
        method = Method(
            path,
            unary_request=kind in (UnaryUnaryMultiCallable, UnaryStreamMultiCallable),
            unary_reply=kind in (UnaryUnaryMultiCallable, StreamUnaryMultiCallable),
            serialize=serialize,
            deserialize=deserialize,
        )
        options = self._options
        config = options.service_config.method(method.path)
        method.config = config if config != MethodConfig() else None
        method.retries, method.retry_buffer = options.enable_retries, options.retry_buffer_size
        method.max_request = _smaller(options.max_send_message_length, config.max_request)
        method.max_response = _smaller(options.max_receive_message_length, config.max_response)
        return kind(self, method)

    # --- calls ------------------------------------------------------------------------------------------------------

    def begin(self, rpc: Rpc, credentials: grpc.CallCredentials | None) -> None:
        """Begin *rpc*, after its credentials have said what they add."""
        plugins = self._plugins
        if credentials is not None:
            if not self._secure:
                raise grpc.aio.UsageError(
                    "Call credentials are only valid on secure channels: over ipc or inproc, or with the option "
                    "trio_mq_grpc.allow_call_credentials_on_plain"
                )
            plugins = (*plugins, *call_plugins(credentials))
        self._active.add(rpc)
        if plugins:
            self._reactor.start(self._begin_with_credentials, rpc, plugins)
        else:
            rpc.begin()

    async def _begin_with_credentials(self, rpc: Rpc, plugins: tuple[Any, ...]) -> None:
        authority = self.authority or self._subchannels[0].endpoint.partition("://")[2]
        try:
            rpc.entries += await call_metadata(plugins, authority, rpc.method.path)
        except CredentialsError as exc:
            rpc.cause = exc
            rpc.abandon(Status(grpc.StatusCode.UNAUTHENTICATED, str(exc)))
        if rpc.status is None:
            rpc.begin()

    def start_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run ``task(*args)`` in the background, with the caller's context, until the channel is closed."""
        return self._reactor.start(task, *args)

    def feed(self, rpc: Rpc, requests: AsyncIterable[Any] | Iterable[Any]) -> None:
        """Send what *requests* gives, in the background."""
        rpc.feeder = self._reactor.start(self._feed, rpc, requests)

    async def _feed(self, rpc: Rpc, requests: AsyncIterable[Any] | Iterable[Any]) -> None:
        serialize, outgoing = rpc.method.serialize, rpc.requests
        assert outgoing is not None  # a stream has them from the beginning

        async def send(request: Any) -> bool:
            return await outgoing.send(request if serialize is None else serialize(request))

        def failed(error: Exception) -> None:
            """Whatever the user's iterator raises ends the call, as in grpcio."""
            rpc.cause = error
            rpc.abandon(LOCALLY_CANCELLED)

        with reported(failed):
            await drive_any(requests, send)
            outgoing.end()

    def start(self, rpc: Rpc) -> None:
        """Send it now, keep it until a peer is ready, or let it fail."""
        subchannel = self._pick()
        if subchannel is not None:
            rpc.open_on(subchannel)
        elif rpc.wait_for_ready or not self._failing():
            self._waiting[rpc] = None
            self._connect()
        else:
            rpc.finish(Status(grpc.StatusCode.UNAVAILABLE, self._why_not()))

    def withdraw(self, rpc: Rpc) -> None:
        """It ended before it was sent."""
        self._waiting.pop(rpc, None)

    def ended(self, rpc: Rpc) -> None:
        """It has its status."""
        self._active.discard(rpc)
        if self._throttle is not None and rpc.status is not None and rpc.status.code is grpc.StatusCode.OK:
            self._throttle.record_success()
        if self._drained is not None and not self._active:
            self._drained.set()
        if self._waiting:
            self._send_waiting()  # where one call goes at a time, this one made room

    def retry(self, rpc: Rpc, status: Status) -> bool:
        """Start it again if its policy allows that after *status*."""
        config = rpc.method.config
        policy = None if config is None or not rpc.method.retries else config.retry
        if policy is None or self._closed or not policy.allows(rpc.attempts, status.code):
            return False
        if self._throttle is not None and not self._throttle.record_failure():
            return False
        pause = pushback_of(status.trailers)
        if pause is None:
            pause = policy.backoff(rpc.attempts, random.random())
        elif pause < 0:
            return False
        rpc.detach()
        self._reactor.start(self._retry_later, rpc, pause)
        return True

    async def _retry_later(self, rpc: Rpc, pause: float) -> None:
        with trio.move_on_after(pause):
            await rpc.wait_ended(cancels=False)  # whoever ends meanwhile is not kept for as long as a server likes
        rpc.restart()

    # --- connections ------------------------------------------------------------------------------------------------

    def _pick(self) -> Subchannel | None:
        subchannels = self._subchannels
        if self._options.lb_policy == "round_robin":
            count = len(subchannels)
            for step in range(count):
                subchannel = subchannels[(self._turn + step) % count]
                if subchannel.usable:
                    self._turn = (self._turn + step + 1) % count
                    return subchannel
            return None
        if self._chosen is None or not self._chosen.usable:
            # Whoever is there first stays, as in gRPC: another one that turns up later is no reason to move.
            self._chosen = next((each for each in subchannels if each.usable), None)
        return self._chosen

    def _connect(self) -> None:
        for subchannel in self._subchannels:
            if subchannel.state is State.IDLE:
                self._reactor.start(self._keep_connected, subchannel)
                # Before it has run: a second call must not start a second one.
                subchannel.state = State.CONNECTING

    async def _keep_connected(self, subchannel: Subchannel) -> None:
        try:
            await subchannel.run()
        finally:
            # It is over by cancellation only, and that may come from around the channel's block, which then has not
            # been left yet: calls in a shield there must not wait for a connection that nobody keeps.
            self._close_now()

    def _failing(self) -> bool:
        return all(each.state is State.TRANSIENT_FAILURE or each.going_away for each in self._subchannels)

    def _why_not(self) -> str:
        return "failed to connect: " + "; ".join(each.why_not() for each in self._subchannels)

    def state_changed(self, subchannel: Subchannel) -> None:
        """A subchannel's state is another one."""
        self._changed.set()
        self._changed = trio.Event()
        self._send_waiting()

    def _send_waiting(self) -> None:
        for rpc in list(self._waiting):
            subchannel = self._pick()
            if subchannel is not None:
                if self._waiting.pop(rpc, 0) is None:
                    rpc.open_on(subchannel)
            elif self._failing() and not rpc.wait_for_ready and self._waiting.pop(rpc, 0) is None:
                rpc.finish(Status(grpc.StatusCode.UNAVAILABLE, self._why_not()))

    def get_state(self, try_to_connect: bool = False) -> State:
        """The state of the best connection; with *try_to_connect*, an idle channel begins to connect."""
        if self._closed:
            return State.SHUTDOWN
        if try_to_connect and self._entered:
            self._connect()
        states = {each.state for each in self._subchannels}
        order = (State.READY, State.CONNECTING, State.IDLE, State.TRANSIENT_FAILURE)
        return next(state for state in order if state in states)

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        """Return when the state is another than *last_observed_state*; also when the channel is closed."""
        while self.get_state() is last_observed_state:
            await self._changed.wait()
        await trio.lowlevel.checkpoint()

    async def channel_ready(self) -> None:
        """Connect, and return when it is possible to make calls.

        Raises:
            grpc.aio.UsageError: the channel is not entered, or closed.
        """
        while True:
            self.check_open()
            if self.get_state(try_to_connect=True) is State.READY:
                return
            await self._changed.wait()


def _smaller(*limits: int | None) -> int:
    return min((limit for limit in limits if limit is not None), default=NO_LIMIT)


def insecure_channel(
    target: str | Iterable[str],
    options: Sequence[tuple[str, Any]] | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
) -> Channel:
    """A channel without authentication.

    Args:
        target: ZeroMQ endpoints (``tcp://host:port``, ``ipc://path``, ``inproc://name``) or gRPC's names
            (``host:port``, ``unix:path``); several of them are balanced per call.
        options: pairs of name and value, as in grpcio. Those that mean something here; others are passed over, with one
            warning where that changes safety:

            * bytes: ``grpc.max_receive_message_length`` (4 MiB), ``grpc.max_send_message_length`` (-1: no limit),
              ``grpc.absolute_max_metadata_size`` and ``grpc.max_metadata_size`` (16 KiB),
              ``grpc.per_rpc_retry_buffer_size`` (256 KiB), ``trio_mq_grpc.window`` (256 KiB),
              ``trio_mq_grpc.fragment_size`` (1 MiB);
            * milliseconds: ``grpc.keepalive_time_ms`` and ``grpc.keepalive_timeout_ms`` (20,000),
              ``grpc.initial_reconnect_backoff_ms`` and ``grpc.min_reconnect_backoff_ms`` (100),
              ``grpc.max_reconnect_backoff_ms`` (5,000);
            * ``grpc.service_config`` (JSON), ``grpc.enable_retries`` (1), ``grpc.lb_policy_name`` ("pick_first" or
              "round_robin"), ``grpc.primary_user_agent``, ``grpc.secondary_user_agent``, ``grpc.default_authority``;
            * ``trio_mq_grpc.brokered`` (False): there is a proxy on the way; ``trio_mq_grpc.strict_reqrep`` (False):
              the server is a REP; ``trio_mq_grpc.allow_call_credentials_on_plain`` (False): tokens may go over tcp.
        compression: of requests, where a call says nothing.
        interceptors: `grpc.aio` client interceptors, the first outermost.

    Raises:
        ValueError: the target cannot be meant, or an option has a value that it cannot have.
    """
    return Channel(target, options, compression, interceptors, None)


def secure_channel(
    target: str | Iterable[str],
    credentials: grpc.ChannelCredentials,
    options: Sequence[tuple[str, Any]] | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
) -> Channel:
    """`insecure_channel` with *credentials*: `PlainChannelCredentials`, alone or with call credentials.

    Raises:
        ValueError: as `insecure_channel`; or the credentials ask for TLS, which ZeroMQ does not speak.
    """
    return Channel(target, options, compression, interceptors, credentials)
