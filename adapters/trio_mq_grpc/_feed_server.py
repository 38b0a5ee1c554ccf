"""What ports for one-way work and subscriptions have in common: how they are run, and how they end.

They have the face that a server's ports have (`serve`, `close`, `go_away`, `end_calls`), so a server keeps them in one
list with those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeAlias

import trio

import trio_mq

from ._crew import Crew
from ._deliveries import Deliverer, DeliveryStatistics, check_concurrency
from ._home import Home
from ._served import ServedCall
from ._workers import Worker

_TAKE_IN_FOR: Final = 0.25
"""Seconds for it, at most."""
_QUIET_TURNS: Final = 3
"""Turns of the event loop in which nothing came, after which nothing is there."""

Socket: TypeAlias = "trio_mq.Pull | trio_mq.Sub | trio_mq.Dish"


class FeedServer(ABC):
    """Receives, and hands what it receives to servicers, until it is told to go away.

    Attributes:
        concurrency: handlers that run at once, at most.
    """

    def __init__(self, home: Home, deliverer: Deliverer, concurrency: int) -> None:
        self._home = home
        self._deliverer = deliverer
        self.concurrency: int = check_concurrency(concurrency)
        self._figures = deliverer.figures
        self._leaving = trio.Event()
        self._ended = False
        self._idle = trio.Event()
        self._idle.set()

    def statistics(self) -> DeliveryStatistics:
        """What became of what was received until now."""
        return self._figures.snapshot()

    @abstractmethod
    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve it until it is told to `go_away` and all is done that was begun; or until cancelled."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening, if it was never served."""

    async def _run(
        self,
        socket: Socket,
        receive: Callable[[], Awaitable[Any]],
        handle: Callable[[Any, Worker], Awaitable[None]],
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Let a crew *handle* what *receive* takes from *socket*."""

        def receive_unless_done() -> Awaitable[Any]:
            if self._leaving.is_set() and (self._ended or not socket.can_receive()):
                raise trio.ClosedResourceError("nothing more is received")
            return receive()

        crew = Crew(self.concurrency, receive_unless_done, handle, self._deliverer.settle)
        self._idle = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(crew.run)
                task_status.started()
                await self._leaving.wait()
                await _let_go(socket)
                if not socket.can_receive():
                    await socket.aclose()  # or those who wait in it would not look up
        finally:
            if not socket.closed:
                self._figures.unread += _unread(socket)
            self._idle.set()

    def go_away(self) -> None:
        """Let nothing more come; what is here already is handled."""
        self._leaving.set()

    async def wait_idle(self) -> None:
        """Wait until all that is here is handled; `go_away` first."""
        await self._idle.wait()

    def end_calls(self, end: Callable[[ServedCall], None]) -> None:
        """Apply *end* to everything that is being handled; what is not, stays unread."""
        self._ended = True
        self._deliverer.end_calls(end)

    async def flush(self) -> None:
        """Wait until failures have been reported; there is nothing to send."""
        await self.wait_idle()


async def _let_go(socket: Socket) -> None:
    """Let nothing more come in; what has been received stays."""
    await _take_in(socket)
    for endpoint in socket.endpoints:
        try:
            await socket.unbind(endpoint)
        except trio_mq.EndpointError:
            await socket.disconnect(endpoint)


async def _take_in(socket: Socket) -> None:
    """Receive what has reached this machine, whatever the mark: with the connections all of it would be gone.

    What those who send have queued follows, as they find room; it is as welcome, for so long.
    """
    socket.options = replace(socket.options, receive_hwm=None)
    count, quiet = -1, 0
    with trio.move_on_after(_TAKE_IN_FOR):
        while quiet < _QUIET_TURNS:
            before, count = count, sum(peer.unread_messages for peer in socket.statistics().peers)
            quiet = quiet + 1 if count == before else 0
            await trio.lowlevel.checkpoint()


def _unread(socket: Socket) -> int:
    """How many messages *socket* has that nobody will take."""
    count = 0
    while socket.can_receive():
        count += len(socket.receive_many_nowait())
    return count


def largest_frame(home: Home) -> int | None:
    """Bytes of a frame that ends its connection: not what is too large, which fails alone, but what is absurd."""
    limit = home.options.max_receive_message_length
    return None if limit is None else max(4 * limit, 1 << 20)
