"""A server's subscription: broadcast calls that reach its servicers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import trio

import trio_mq

from ._deliveries import Deliverer, DeliveryStatistics, OnFailure
from ._feed_server import FeedServer, largest_frame
from ._feeds import Intake, SubIntake, feed_options, open_intake
from ._gaps import Gap, OnGap, report_gap
from ._home import Home
from ._numbers import Missed
from ._published import Published
from ._workers import Worker


class Subscription(FeedServer):
    """Broadcast calls of all services of a server, one at a time and in order unless *concurrency* is raised."""

    def __init__(
        self,
        home: Home,
        target: str | Iterable[str],
        *,
        bind: bool,
        concurrency: int,
        on_gap: OnGap | None,
        on_failure: OnFailure | None,
        options: trio_mq.Options | None,
    ) -> None:
        super().__init__(home, Deliverer(home, on_failure, DeliveryStatistics()), concurrency)
        options = options or replace(feed_options(), max_message_size=largest_frame(home))
        target = target if isinstance(target, str) else tuple(target)
        self._intake: Intake = open_intake(target, bind=bind, options=options)
        self._address = target if isinstance(target, str) else ", ".join(target)
        self._on_gap = on_gap
        self._missed = Missed()

    def __repr__(self) -> str:
        return f"<Subscription {self.address}: {self.statistics()}>"

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self._address

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What it is bound or connected to, with real ports; empty until the server is entered."""
        return self._intake.socket.endpoints

    @property
    def socket(self) -> trio_mq.Socket:
        """The socket below, for its ``monitor()`` and its own ``statistics()``."""
        return self._intake.socket

    def close(self) -> None:
        """Nothing listens before it is served."""

    async def serve(  # noqa: ASYNC128  # `_run` says when
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve it until it is told to `go_away` and all is done that was begun; or until cancelled."""
        # Now, not when it was made: services may be added in between.
        for path in self._paths():
            self._intake.subscribe(path, b"")
        async with self._intake.socket as socket:
            await self._run(socket, self._intake.receive, self._handle, task_status)

    def _paths(self) -> list[bytes]:
        """What to subscribe to: the calls of each service; all there are, if a handler does not say which it takes."""
        services = self._home.services
        if isinstance(self._intake, SubIntake):
            return [f"/{name}/".encode() if name else b"/" for name in services.names()]
        return [path.encode() for path in services.known()]

    async def _handle(self, received: tuple[Sequence[bytes], trio_mq.Peer], worker: Worker) -> None:
        self._figures.received += 1
        message, sender = received
        try:
            call = self._intake.read(message)
            head = self._deliverer.read_head(call.head)
        except ValueError:
            self._figures.malformed += 1
            return
        missed = self._missed.before((call.epoch, call.path), call.numbers.of_type, restarts=False)
        if missed:
            await self._gap(call, missed)
        await self._deliverer.deliver(sender, call.path, head, call.payload, worker)

    async def _gap(self, call: Published, missed: int) -> None:
        self._figures.missed += missed
        path = call.path.decode(errors="replace")
        await report_gap(self._on_gap, Gap(path, call.key, missed, call.epoch, call.numbers.of_type))
