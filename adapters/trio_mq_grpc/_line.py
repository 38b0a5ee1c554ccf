"""Where the RPCs of a channel are at home that gets no replies: they wait in line until a courier takes them away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import trio
from grpc import ChannelConnectivity as State

import trio_mq

from ._method import NO_LIMIT
from ._rpc import Rpc
from ._rpc_home import RpcHome
from ._status import Status

_QUEUED: Final = Status(grpc.StatusCode.OK, "queued; no reply is expected")
_CLOSED: Final = Status(grpc.StatusCode.UNAVAILABLE, "the channel was closed")
_BURST: Final = 32
"""Calls that end at once before others get a turn."""


class Courier(ABC):
    """What takes the calls of a channel away."""

    socket: trio_mq.Socket

    @abstractmethod
    def send_nowait(self, rpc: Rpc) -> None:
        """Queue *rpc*, or raise `trio.WouldBlock`."""

    @abstractmethod
    async def wait_room(self) -> None:
        """Wait until it is worth to try again."""


class Line(RpcHome):
    """The RPCs that a courier takes away, in the order in which they began. Each ends when it is taken.

    Attributes:
        courier: takes them.
        waiting: RPCs that it has not taken, the oldest first.
    """

    # Of what else RPCs ask their home, nothing applies here.
    encoding = user_agent = authority = ""
    brokered = False
    window = 0
    fragment_size = max_metadata = NO_LIMIT

    def __init__(self, courier: Courier, name: str, interceptors: dict[str, tuple[Any, ...]]) -> None:
        super().__init__(name, name, interceptors)
        self.courier = courier
        self.waiting: dict[Rpc, None] = {}
        self._burst = _BURST
        self._draining = False

    def __repr__(self) -> str:
        return f"<Line: {self.state().name}, {len(self.waiting)} calls wait>"

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        async with super()._run(), self.courier.socket:
            try:
                yield
            finally:
                self.close()  # first, or calls would slip in while the socket lingers

    def state(self) -> State:
        """READY if anybody is at the other end."""
        if self._closing:
            return State.SHUTDOWN
        if not self._opened:
            return State.IDLE
        states = {peer.state for peer in self.courier.socket.statistics().peers}
        if "ready" in states:
            return State.READY
        return State.TRANSIENT_FAILURE if states & {"waiting", "failed"} else State.CONNECTING

    # --- RPCs -------------------------------------------------------------------------------------------------------

    def begin(self, rpc: Rpc, credentials: grpc.CallCredentials | None) -> None:
        """Begin *rpc*."""
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels, and for calls with replies")
        self.active.add(rpc)
        rpc.begin()

    def start(self, rpc: Rpc) -> None:
        """Queue it now, or let it wait in line."""
        if not self.waiting and self._send(rpc):
            return
        self.waiting[rpc] = None
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
            rpc.finish(_QUEUED)
        return True

    async def _drain(self) -> None:
        try:
            while self.waiting:
                rpc = next(iter(self.waiting))
                if not self._send(rpc):
                    await self.courier.wait_room()
        except trio.ClosedResourceError:
            for rpc in list(self.waiting):
                rpc.finish(_CLOSED)
        finally:
            self._draining = False

    def is_others_turn(self) -> bool:
        """Whether whoever awaits a call that has ended should yield once: a loop of them must not starve others."""
        self._burst = self._burst - 1 or _BURST
        return self._burst == _BURST

    def withdraw(self, rpc: Rpc) -> None:
        """It has ended."""
        self.waiting.pop(rpc, None)

    def why_waiting(self) -> str:
        """Nobody is there, or they are too slow."""
        return "everybody there has as much as they take" if self.state() is State.READY else "nobody is connected"

    def ended(self, rpc: Rpc) -> None:
        """It has its status."""
        self.active.discard(rpc)

    def retry(self, rpc: Rpc, status: Status) -> bool:
        """Nothing is done twice."""
        return False
