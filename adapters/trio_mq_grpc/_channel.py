"""The channel: a `grpc.aio.Channel` over ZeroMQ. What users hold: stubs are made of it, and calls run in its block.

It lives in a block: ``async with insecure_channel(...) as channel``. Stubs may be made before; calls may not.
Leaving the block cancels the calls that are under way. Which connection a call takes is its dispatcher's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
import trio
from grpc import ChannelConnectivity as State

from ._compression import name_of
from ._dispatcher import Dispatcher
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
from ._service_config import MethodConfig
from ._targets import connect_endpoints

Kind = TypeVar("Kind", bound=Multicallable)


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
        self._options = parse_channel_options(options)
        self._dispatcher = Dispatcher(
            f"channel to {target}",
            connect_endpoints(target),
            self._options,
            credentials,
            encoding=name_of(compression),
            interceptors=by_kind(interceptors),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.get_state().name}, {len(self._dispatcher.active)} calls>"

    # --- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._dispatcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._dispatcher.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # it waits for nobody

    async def serve(self, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Enter the channel until it is closed: ``channel = await nursery.start(insecure_channel(...).serve)``."""
        async with self:
            task_status.started(self)
            await self._dispatcher.closed.wait()

    async def close(self, grace: float | None = None) -> None:
        """Begin no more calls, wait up to *grace* seconds for those under way, then cancel them. Twice is fine.

        Cancelled while it waits, it cancels them at once; the shortest of several graces counts.

        Raises:
            ValueError: *grace* is negative.
        """
        await self._dispatcher.close_after(grace)

    # --- the connection ---------------------------------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> State:
        """The state of the best connection; with *try_to_connect*, an idle channel begins to connect."""
        return self._dispatcher.state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        """Return when the state is another than *last_observed_state*; also when the channel is closed."""
        while self.get_state() is last_observed_state:
            await self._dispatcher.wait_changed()
        await trio.lowlevel.checkpoint()

    async def channel_ready(self) -> None:
        """Connect, and return when it is possible to make calls.

        Raises:
            grpc.aio.UsageError: the channel is not entered, or closed.
        """
        while True:
            self._dispatcher.check_open()
            if self.get_state(try_to_connect=True) is State.READY:
                return
            await self._dispatcher.wait_changed()

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
            configure=self._configure,
        )
        return kind(self._dispatcher, method)

    def _configure(self, method: Method) -> None:
        options = self._options
        config = options.service_config.method(method.path)
        method.config = config if config != MethodConfig() else None
        method.retries, method.retry_buffer = options.enable_retries, options.retry_buffer_size
        method.max_request = _smaller(options.max_send_message_length, config.max_request)
        method.max_response = _smaller(options.max_receive_message_length, config.max_response)


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
        TypeError: they are no credentials of a channel.
    """
    if credentials is None:
        # What was forgotten, or not found, must not become a channel without any.
        raise TypeError("secure_channel wants credentials; without any it is insecure_channel")
    return Channel(target, options, compression, interceptors, credentials)
