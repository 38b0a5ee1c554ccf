"""Where the RPCs of a channel are at home, from the stub's call to the status.

It owns the connections and picks one for each attempt, keeps what waits for a peer, and makes another attempt where a
policy says so. It knows nothing of stubs and messages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import trio
from grpc import ChannelConnectivity as State

import trio_mq

from ._compression import SUPPORTED
from ._credentials import CredentialsError, call_metadata, call_plugins, is_private, security_of
from ._options import ChannelOptions
from ._rpc import Rpc
from ._rpc_home import RpcHome
from ._service_config import pushback_of
from ._status import Status
from ._subchannel import Subchannel, socket_options
from ._wire import PROPERTY, Announcement


class Dispatcher(RpcHome):
    """The connections of a channel, and the RPCs on them. RPCs and what begins them read its attributes for each call.

    Attributes:
        window: bytes of a stream that may come before they are taken.
        fragment_size: bytes above which a message is sent in pieces.
        user_agent, authority: what servers are told; "" for nothing.
        max_metadata: bytes that metadata may have.
        encoding: how requests are compressed unless a call says otherwise; "" for not at all.
        brokered: there is a proxy on the way.
        subchannels: one for each endpoint.
        waiting: RPCs that no peer is ready for, the oldest first.
    """

    def __init__(
        self,
        name: str,
        endpoints: Sequence[str],
        options: ChannelOptions,
        credentials: grpc.ChannelCredentials | None,
        *,
        encoding: str,
        interceptors: dict[str, tuple[Any, ...]],
    ) -> None:
        super().__init__(name, "insecure_channel(...)", interceptors)
        self._options = options
        self._plugins = call_plugins(credentials) if credentials is not None else ()
        self._secure = credentials is not None and (
            options.allow_call_credentials_on_plain or all(map(is_private, endpoints))
        )
        self._security = security_of(credentials)
        self.window: int = options.window
        self.fragment_size: int = options.fragment_size
        self.user_agent: str = " ".join(filter(None, options.user_agent))
        self.authority: str = options.authority
        self.max_metadata: int = options.max_metadata_size
        self.encoding = encoding
        self.brokered: bool = options.brokered
        self.subchannels: list[Subchannel] = [self._subchannel(endpoint) for endpoint in endpoints]
        self._turn = 0
        self._chosen: Subchannel | None = None
        self.waiting: dict[Rpc, None] = {}
        self._throttle = options.service_config.make_throttle()
        self._sending = False
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Dispatcher: {self.state().name}, {len(self.active)} calls, {len(self.waiting)} of them wait>"

    def _subchannel(self, endpoint: str) -> Subchannel:
        options = self._options
        return Subchannel(
            self,
            endpoint,
            self._socket_options,
            Announcement(0, options.window, options.max_receive_message_length, SUPPORTED, not options.brokered),
            cancels=not options.brokered,
            one_at_a_time=options.strict_reqrep,
        )

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

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel the calls and give up the connections. Twice is fine."""
        super().close()
        for subchannel in self.subchannels:
            subchannel.stop()
        self._reactor.stop()

    # --- RPCs -------------------------------------------------------------------------------------------------------

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
        self.active.add(rpc)
        if not plugins:
            rpc.begin()
        elif rpc.prepare():
            self._reactor.start(self._begin_with_credentials, rpc, plugins)

    async def _begin_with_credentials(self, rpc: Rpc, plugins: tuple[Any, ...]) -> None:
        authority = self.authority or self.subchannels[0].endpoint.partition("://")[2]
        try:
            rpc.entries += await call_metadata(plugins, authority, rpc.method.path)
        except CredentialsError as exc:
            rpc.cause = exc
            rpc.abandon(Status(grpc.StatusCode.UNAUTHENTICATED, str(exc)))
        if rpc.status is None:
            self.start(rpc)

    def start(self, rpc: Rpc) -> None:
        """Send it now, keep it until a peer is ready, or let it fail."""
        subchannel = self._pick()
        if subchannel is not None:
            rpc.open_on(subchannel)
        elif rpc.wait_for_ready or not self._failing():
            self.waiting[rpc] = None
            self._connect()
        else:
            rpc.finish(Status(grpc.StatusCode.UNAVAILABLE, f"failed to connect: {self._why_not()}"))

    def withdraw(self, rpc: Rpc) -> None:
        """It ended before it was sent."""
        self.waiting.pop(rpc, None)

    def why_waiting(self) -> str:
        """Why there is no connection."""
        return "" if any(each.usable for each in self.subchannels) else self._why_not()

    def ended(self, rpc: Rpc) -> None:
        """It has its status."""
        self.active.discard(rpc)
        if self._throttle is not None and rpc.ended_well:
            self._throttle.record_success()
        if self.waiting and self._options.strict_reqrep:
            self._send_waiting()  # where one call goes at a time, this one made room

    def retry(self, rpc: Rpc, status: Status) -> bool:
        """Start it again if its policy allows that after *status*."""
        config = rpc.method.config
        policy = None if config is None or not rpc.method.retries else config.retry
        if policy is None or self._closing or not policy.allows(rpc.attempts, status.code):
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
            await rpc.wait_ended()  # whoever ends meanwhile is not kept for as long as a server likes
        rpc.restart()

    # --- connections ------------------------------------------------------------------------------------------------

    def _pick(self) -> Subchannel | None:
        subchannels = self.subchannels
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
        for subchannel in self.subchannels:
            if subchannel.state is State.IDLE:
                self._reactor.start(self._keep_connected, subchannel)
                # Before it has run: a second call must not start a second one.
                subchannel.begin()

    def replace(self, subchannel: Subchannel) -> None:
        """Dial its endpoint anew: its server stops, and another one may listen there already."""
        self.subchannels[self.subchannels.index(subchannel)] = self._subchannel(subchannel.endpoint)
        self._connect()

    async def _keep_connected(self, subchannel: Subchannel) -> None:
        try:
            await subchannel.run()
        except BaseException:
            # By cancellation, and that may come from around the channel's block, which then has not
            # been left yet: calls in a shield there must not wait for a connection that nobody keeps.
            self.close()
            raise

    def _failing(self) -> bool:
        return all(each.state is State.TRANSIENT_FAILURE or each.going_away for each in self.subchannels)

    def _why_not(self) -> str:
        return "; ".join(each.why_not() for each in self.subchannels)

    def _send_waiting(self) -> None:
        if self._sending:
            return  # a call that ends in here makes room for those that are looked at next
        self._sending = True
        try:
            self._send_what_can_go()
        finally:
            self._sending = False

    def _send_what_can_go(self) -> None:
        for rpc in list(self.waiting):
            subchannel = self._pick()
            if subchannel is not None:
                if self.waiting.pop(rpc, 0) is None:
                    rpc.open_on(subchannel)
            elif not self._failing():
                break
            elif not rpc.wait_for_ready and self.waiting.pop(rpc, 0) is None:
                rpc.finish(Status(grpc.StatusCode.UNAVAILABLE, f"failed to connect: {self._why_not()}"))

    def state_changed(self, subchannel: Subchannel) -> None:
        """A subchannel's state is another one."""
        self._changed.set()
        self._changed = trio.Event()
        self._send_waiting()

    async def wait_changed(self) -> None:
        """Wait until the state of a subchannel is another one."""
        await self._changed.wait()

    def state(self, try_to_connect: bool = False) -> State:
        """The state of the best connection; with *try_to_connect*, begin to connect where there is none."""
        if self._closing:
            return State.SHUTDOWN
        if try_to_connect and self._opened:
            self._connect()
        states = {each.state for each in self.subchannels}
        order = (State.READY, State.CONNECTING, State.IDLE, State.TRANSIENT_FAILURE)
        return next(state for state in order if state in states)
