"""A port for one-way work: a PULL, and as many handlers as it may run at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import trio

import trio_mq

from ._blocks import Head
from ._deliveries import Deliverer, DeliveryStatistics, OnFailure
from ._feed_server import FeedServer, largest_frame
from ._home import Home
from ._targets import bind_endpoint, connect_endpoints
from ._wire import CALL, HEAD, HEADER, HEADER_SIZE, LONGEST_METHOD, MAGIC, UNARY_CALL, Breach, check_flags, cut
from ._workers import Worker

_MOST_FRAMES = 64


class OnewayPort(FeedServer):
    """Work that is pushed to this server, at most *concurrency* pieces at once, begun in order.

    It receives a piece only when it has a handler for it, so what there is no time for waits with those who push, and
    makes them wait.

    Attributes:
        endpoint: what to connect to, with the real port; "" if it dials.
    """

    def __init__(
        self,
        home: Home,
        target: str | Iterable[str],
        *,
        bind: bool,
        concurrency: int,
        on_failure: OnFailure | None,
        options: trio_mq.Options | None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(home, Deliverer(home, on_failure, DeliveryStatistics()), concurrency)
        self._options = options or pull_options(home, self.concurrency)
        self._wall_clock = wall_clock
        self._listener: trio_mq.Listener | None = None
        self._targets: tuple[str, ...] = ()
        if bind:
            if not isinstance(target, str):
                raise TypeError(f"a port listens on one address, not {target!r}")
            self._listener = trio_mq.listen(bind_endpoint(target), self._options)
        else:
            self._targets = connect_endpoints(target)
        self.endpoint = "" if self._listener is None else self._listener.endpoint

    def __repr__(self) -> str:
        return f"<OnewayPort {self.address}: {self.statistics()}>"

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self.endpoint or ", ".join(self._targets)

    @property
    def number(self) -> int:
        """The port number; 1 where there is none."""
        number = self.endpoint.rpartition(":")[2]
        return int(number) if self.endpoint.startswith("tcp:") and number.isdigit() else 1

    def close(self) -> None:
        """Stop listening; the peers stay."""
        if self._listener is not None:
            self._listener.close()

    async def serve(  # noqa: ASYNC128  # `_run` says when
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve it until it is told to `go_away` and all is done that was begun; or until cancelled."""
        async with trio_mq.Pull(bind=self._listener, connect=self._targets, options=self._options) as pull:
            await self._run(pull, pull.receive_message, self._handle, task_status)

    async def _handle(self, message: trio_mq.Message, worker: Worker) -> None:
        self._figures.received += 1
        try:
            path, head, payload = self._read(list(message.frames))
        except ValueError:
            self._figures.malformed += 1
            return
        if head.expires_unix_us and head.expires_unix_us <= self._wall_clock() * 1e6:
            self._figures.expired += 1
            return
        await self._deliverer.deliver(message.peer, path, head, payload, worker)

    def _read(self, frames: list[bytes]) -> tuple[bytes, Head, bytes]:
        if len(frames[0]) != HEADER_SIZE:
            raise Breach("the header has another size")
        magic, kind, flags, _, _ = HEADER.unpack(frames[0])
        if magic != MAGIC or kind != CALL or flags & ~HEAD & 0xFFF != UNARY_CALL:
            raise Breach("this is no one-way call of version 1")
        check_flags(kind, flags)
        unit = cut(frames, kind, flags, first_piece=True)
        if len(unit.method) > LONGEST_METHOD:
            raise Breach("the method is too long")
        unit.method.decode()
        return unit.method, self._deliverer.read_head(unit.head), unit.payload


def pull_options(home: Home, concurrency: int) -> trio_mq.Options:
    """How a PULL of a port behaves: little is taken in ahead of the handlers."""
    return trio_mq.Options(
        receive_hwm=concurrency,
        linger=0,
        heartbeat_interval=20.0,
        max_message_size=largest_frame(home),
        max_frames=_MOST_FRAMES,
        ipv6=True,
    )
