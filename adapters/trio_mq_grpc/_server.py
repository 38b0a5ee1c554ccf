"""The server: ports, services, and its life from `server` to `Server.stop`.

Everything runs in the server's own reactor, between entering and leaving it::

    Reactor
      ├─ one task for each port (`Port.serve`), with its ROUTER and whatever drains to slow peers
      ├─ the wheel of deadlines
      ├─ the pool of workers, one for each running call
      └─ the one that stops it
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
import trio

import trio_mq

from ._any_port import AnyPort
from ._compression import name_of
from ._credentials import security_of
from ._deliveries import OnFailure
from ._errors import log
from ._feed_server import FeedServer
from ._gaps import OnGap
from ._grace import Grace, Started
from ._handlers import compile_method
from ._home import Home
from ._interceptors import MessageInterceptor
from ._oneway_port import OnewayPort
from ._options import OptionPairs, parse_server_options, positive
from ._port import Port
from ._service import Services, behaviour_of
from ._status import Status
from ._subscription import Subscription
from ._targets import bind_endpoint

_CANCELLING_ALL = Status(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls")
_FLUSH_WITHIN = 1.0
"""Seconds for the last statuses to leave and cancelled handlers to clean up, when `stop` was given less."""
_MOST_THREADS = 40


class Server(grpc.aio.Server):
    """Serves ordinary servicers over ZeroMQ; made by `server`.

    A server is entered, which starts it; leaving the block is ``stop(None)``::

        async with server:
            await server.wait_for_termination()

    or it runs in a nursery: ``await nursery.start(server.serve)``.

    Attributes:
        on_stop: functions that are called when it begins to stop, before callers are told; each once, however it ends.
    """

    def __init__(self, home: Home) -> None:
        self.on_stop: list[Callable[[], object]] = []
        self._home = home
        self._ports: list[AnyPort] = []
        self._reactor = trio_mq.Reactor("the gRPC server")
        self._block: AbstractAsyncContextManager[None] | None = None
        self._failure: RuntimeError | None = None
        self._grace = Grace()
        self._stopping = False
        self._told = False
        self._terminated = trio.Event()

    def __repr__(self) -> str:
        state = "stopped" if self._terminated.is_set() else "running" if self._block else "not started"
        return f"<Server: {', '.join(map(repr, self._ports))}; {state}, {self._home.pool.busy} calls>"

    # --- services and ports -----------------------------------------------------------------------------------------

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Serve what *generic_rpc_handlers* have, tried in order. Generated code calls this."""
        self._home.services.add_generic(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Serve *method_handlers*, by method name, before generic ones of the same path. Generated code calls this."""
        self._home.services.add_registered(service_name, method_handlers)

    def behaviours(self) -> dict[str, Callable[..., Any]]:
        """The functions that run, by path, as far as paths are known."""
        return {path: behaviour_of(handler) for path, handler in self._home.services.known().items()}

    def add_insecure_port(self, address: str) -> int:
        """Bind *address* now and return its port number; 1 for ipc and inproc, which have none.

        Args:
            address: a ZeroMQ endpoint, or ``host:port``, ``[::]:0``, ``unix:path`` as in gRPC.

        Raises:
            RuntimeError: it cannot be bound, or the server has started.
        """
        return self._add_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """`add_insecure_port`, whose callers have to show who they are; see `PlainServerCredentials`.

        Raises:
            RuntimeError: it cannot be bound, or the server has started.
            ValueError: the credentials ask for TLS.
        """
        return self._add_port(address, **security_of(server_credentials))

    def _add_port(self, address: str, **security: object) -> int:
        if self._block is not None:
            raise RuntimeError("ports are added before the server starts")
        try:
            port = Port(self._home, bind_endpoint(address), **security)
        except (OSError, ValueError, trio_mq.EndpointError) as exc:
            raise RuntimeError(f"failed to bind {address}: {exc}") from exc
        self._ports.append(port)
        return port.number

    def add_oneway_port(
        self,
        address: str | Iterable[str],
        *,
        bind: bool = True,
        concurrency: int = 64,
        on_failure: OnFailure | None = None,
        options: trio_mq.Options | None = None,
    ) -> int:
        """Take one-way work there (PULL) and return the port number; 1 where there is none.

        Handlers of unary-unary methods run as for calls; what they return is ignored. At most *concurrency* run at
        once, begun in the order in which the work came; beyond that nothing more is read, which makes those who push
        wait (`oneway_channel`). Work that has expired is dropped. Its place in `feeds` has the figures of all of it.

        Args:
            address: what to bind; with ``bind=False`` one or several to connect to.
            bind: whether this side is the stable one.
            concurrency: handlers at once.
            on_failure: told of each `Failure`; otherwise they are logged.
            options: how the socket behaves, in place of what `pull_options` gives.

        Raises:
            RuntimeError: it cannot be bound, or the server has started.
        """
        if self._block is not None:
            raise RuntimeError("ports are added before the server starts")
        try:
            port = OnewayPort(
                self._home, address, bind=bind, concurrency=concurrency, on_failure=on_failure, options=options
            )
        except (OSError, trio_mq.EndpointError) as exc:
            raise RuntimeError(f"failed to bind {address}: {exc}") from exc
        self._ports.append(port)
        return port.number

    def subscribe(
        self,
        target: str | Iterable[str],
        *,
        bind: bool = False,
        concurrency: int = 1,
        on_gap: OnGap | None = None,
        on_failure: OnFailure | None = None,
        options: trio_mq.Options | None = None,
    ) -> Subscription:
        """Take broadcast calls from there (SUB; DISH where it is ``udp://``).

        They are those of all services that are added until the server starts. Handlers run one at a time, in order,
        unless *concurrency* says otherwise.

        Args:
            target: one or several to connect to, or to bind.
            bind: whether this side is the stable one.
            concurrency: handlers at once.
            on_gap: told of each `Gap`; otherwise they are logged.
            on_failure: told of each `Failure`; otherwise they are logged.
            options: how the socket behaves, in place of what `feed_options` gives.

        Returns:
            The subscription, for its ``endpoints`` and ``statistics()``.

        Raises:
            ValueError: *target* cannot be meant.
            RuntimeError: the server has started.
        """
        if self._block is not None:
            raise RuntimeError("subscriptions are made before the server starts")
        subscription = Subscription(
            self._home,
            target,
            bind=bind,
            concurrency=concurrency,
            on_gap=on_gap,
            on_failure=on_failure,
            options=options,
        )
        self._ports.append(subscription)
        return subscription

    @property
    def feeds(self) -> tuple[FeedServer, ...]:
        """The one-way ports and subscriptions, in the order in which they were added; each has ``statistics()``."""
        return tuple(port for port in self._ports if isinstance(port, FeedServer))

    # --- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start it.

        Raises:
            grpc.aio.UsageError: it was entered or stopped before.
            RuntimeError: a port cannot be bound.
        """
        if self._block is not None or self._stopping:
            raise grpc.aio.UsageError("a server is entered once")
        self._block = self._reactor.run(self._leave)
        await self._block.__aenter__()
        try:
            self._reactor.start(self._home.wheel.run)
            await self._start(self._home.pool.serve)
            await self._start(self._home.threads.serve)
            for port in self._ports:
                await self._start(self._serve_port, port)
            if self._failure is not None:
                raise self._failure
        except BaseException:
            await self.__aexit__(*sys.exc_info())  # noqa: ASYNC102  # left by an error, the block waits for nobody
            raise
        return self

    async def _start(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run *task* in the background, and return when it says that it has started."""
        started = Started()
        self._reactor.start(partial(task, *args, task_status=started))
        await started.wait()

    async def _serve_port(self, port: AnyPort, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await port.serve(task_status=task_status)
        except (OSError, trio_mq.EndpointError) as exc:
            # Names of inproc are bound and interfaces of multicast looked up only here. Who enters is told.
            self._failure = RuntimeError(f"failed to serve {port.address}: {exc}")
            self._failure.__cause__ = exc
            task_status.started()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._block is not None
        try:
            await self._block.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # it waits for its own tasks only
        finally:
            self._close_now()

    async def _leave(self, normally: bool) -> None:
        if normally:
            await self.stop(None)

    def _close_now(self) -> None:
        self._stopping = self._home.stopping = True
        self._tell_hooks()
        for port in self._ports:
            port.close()
        self._reactor.stop()
        self._terminated.set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until it has stopped: ``await nursery.start(server.serve)``. Cancelled: it stops at once."""
        async with self:
            task_status.started()
            await self.wait_for_termination()

    async def start(self) -> None:
        """Nothing more: entering the server has started it.

        Raises:
            grpc.aio.UsageError: it was not entered, or has stopped.
        """
        if self._stopping:
            raise grpc.aio.UsageError("the server has stopped")
        if self._block is None:
            raise grpc.aio.UsageError("enter the server instead: async with server: ...")
        await trio.lowlevel.checkpoint()

    async def stop(self, grace: float | None) -> None:
        """Take no new calls, give those that run *grace* seconds (None: 0) to end, then cancel them.

        It does not listen any more from the beginning, so that another server may bind the same ports meanwhile.
        Returns when that is done. Of several calls the one that ends soonest decides. Cancelled: it stops all the same.
        """
        if self._block is None:
            self._close_now()
        if self._terminated.is_set():
            await trio.lowlevel.checkpoint()
            return
        self._grace.end_at(trio.current_time() + max(0.0, grace or 0.0))
        if not self._stopping:
            self._stopping = True
            self._reactor.start(self._stop)
        await self._terminated.wait()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # as in grpcio
        """Wait until it has stopped. True if *timeout* seconds were not enough."""
        with trio.move_on_after(math.inf if timeout is None else max(0.0, timeout)):
            await self._terminated.wait()
        return not self._terminated.is_set()

    async def _stop(self) -> None:
        """Stop, as gracefully as the time allows."""
        self._home.stopping = True
        self._tell_hooks()
        for port in self._ports:
            port.close()
            port.go_away()
        await self._grace.wait(self._wait_idle)
        for port in self._ports:
            port.end_calls(lambda call: call.end(_CANCELLING_ALL))
        with trio.move_on_at(max(self._grace.until, trio.current_time() + _FLUSH_WITHIN)):
            for port in self._ports:
                await port.flush()
            await self._home.pool.wait_idle()
        self._close_now()

    def _tell_hooks(self) -> None:
        if self._told or self._block is None:
            return
        self._told = True
        for function in self.on_stop:
            try:
                function()
            except Exception:  # noqa: BLE001  # the calls that run are no less entitled to their end
                log.exception("a function of on_stop failed")

    async def _wait_idle(self) -> None:
        for port in self._ports:
            await port.wait_idle()
        await self._home.pool.wait_idle()


def server(
    migration_thread_pool: Any = None,
    handlers: Sequence[grpc.GenericRpcHandler] | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor | MessageInterceptor] | None = None,
    options: OptionPairs = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: grpc.Compression | None = None,
) -> Server:
    """A server, as `grpc.aio.server` makes one.

    Args:
        migration_thread_pool: for plain functions; of a `concurrent.futures.ThreadPoolExecutor` its size is taken, a
            number is that size itself. 40 otherwise.
        handlers: generic handlers to begin with.
        interceptors: `grpc.aio.ServerInterceptor`, first is outermost; and `MessageInterceptor`.
        options: pairs of name and value, as in grpcio. Those that mean something here; others are passed over, with one
            warning where that changes safety:

            * bytes: ``grpc.max_receive_message_length`` (4 MiB), ``grpc.max_send_message_length`` (-1: no limit),
              ``grpc.absolute_max_metadata_size`` and ``grpc.max_metadata_size`` (16 KiB), ``trio_mq_grpc.window``
              (256 KiB), ``trio_mq_grpc.fragment_size`` (1 MiB), ``trio_mq_grpc.output_limit`` (16 MiB of answers that
              wait for one peer; beyond, nothing more is read of it);
            * milliseconds: ``grpc.keepalive_time_ms`` and ``grpc.keepalive_timeout_ms`` (20,000),
              ``trio_mq_grpc.max_timeout_ms`` (no limit): longer deadlines are shortened to it;
            * ``grpc.max_concurrent_streams``: calls of one peer at once (no limit),
              ``trio_mq_grpc.max_resets_per_second`` (1,000): a peer that cancels more is disconnected,
              ``trio_mq_grpc.hide_error_details`` (False): callers are told that a handler failed, not how.
        maximum_concurrent_rpcs: calls beyond are refused with RESOURCE_EXHAUSTED. None: any number; at least 1.
        compression: how replies are compressed unless a handler says otherwise.

    Raises:
        ValueError: an interceptor is none; an option, a number of calls or of threads is out of its range.
        TypeError: one of them does not fit.
    """
    if maximum_concurrent_rpcs is not None:
        positive("maximum_concurrent_rpcs", maximum_concurrent_rpcs)
    given = tuple(interceptors or ())
    for interceptor in given:
        if not isinstance(interceptor, (grpc.aio.ServerInterceptor, MessageInterceptor)):
            raise ValueError(f"an interceptor is a grpc.aio.ServerInterceptor or a MessageInterceptor: {interceptor!r}")  # noqa: TRY004  # as grpcio
    services = Services(compile_method, [each for each in given if isinstance(each, grpc.aio.ServerInterceptor)])
    home = Home(
        services,
        parse_server_options(options),
        most_calls=maximum_concurrent_rpcs,
        most_threads=_threads_in(migration_thread_pool),
        encoding=name_of(compression),
        watchers=tuple(each for each in given if isinstance(each, MessageInterceptor)),
    )
    made = Server(home)
    if handlers:
        made.add_generic_rpc_handlers(handlers)
    return made


def _threads_in(pool: Any) -> int:
    if pool is None:
        return _MOST_THREADS
    if hasattr(pool, "submit"):
        return int(getattr(pool, "_max_workers", _MOST_THREADS))
    return positive("migration_thread_pool", pool)
