"""What every socket has for its user: life, endpoints, options, figures, events. Sending, receiving are beside it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .._options import CHANGEABLE, Options, checked_options
from .._pipe import Pipe
from ._life import LivingSocket
from ._monitor import EventChannel
from ._party import PartyHost
from ._session import Session
from ._statistics import EndpointStatistics, PeerStatistics, SocketStatistics, State, absent_peer, peer_statistics


class Socket(LivingSocket):
    """Base of all sockets.

    A socket lives in a block: ``async with Push(connect=...) as push``. Inside it runs background tasks; outside there
    is nothing. Leaving the block normally waits up to ``options.linger`` seconds for queued messages, leaving it by an
    error or a cancellation does not. What the block raised comes out as it was.

    A socket is entered once, by one task; any task of the same event loop may use it then. Do not enter one inside an
    async generator that yields to foreign code: as with nurseries, nobody can say which task the block belongs to.

    Args:
        bind: endpoints to bind on entry, or listeners from `trio_mq.listen`; one or an iterable of them.
        connect: endpoints to connect on entry; one or an iterable of them.
        options: how the socket behaves.

    Raises:
        EndpointError: an endpoint cannot be meant.
        ValueError: an option that means nothing on this type of socket.
    """

    @property
    def options(self) -> Options:
        """How the socket behaves. Assigning a copy with another mark, linger or router/xpub switch acts at once.

        Raises:
            ValueError: on assignment, if a field differs that cannot change on an existing socket.
        """
        return self._options

    @options.setter
    def options(self, options: Options) -> None:
        checked_options(options).check_for(self.socket_type)
        fixed = self._options.changed_fields(options) - CHANGEABLE
        if fixed:
            raise ValueError(
                f"Options: {', '.join(sorted(fixed))} cannot change on an existing socket; "
                "pass options= to bind() or connect()"
            )
        self._options = options
        self.revoke_turns()
        for pipe, session in self._pipes.items():
            session.change_marks(pipe, options)
        self._apply(options)

    def _apply(self, options: Options) -> None:
        """Pass changed options on to the pattern; for subclasses."""

    @enable_ki_protection
    async def wait_connected(self, count: int = 1) -> None:
        """Wait until *count* peers are past their handshake. If cancelled, nothing has happened.

        Raises:
            trio.ClosedResourceError: the socket was closed meanwhile.
            AuthenticationError: nothing is bound, and every connected endpoint has refused us for good.
        """
        await self._wait_until(lambda: self._connected >= count, self._final_refusal)

    def _final_refusal(self) -> Exception | None:
        dialled = self._book.dialled
        if self._book.bound or not dialled or any(session.state != "failed" for session in dialled):
            return None
        return dialled[-1].last_error

    @enable_ki_protection
    async def flush(self) -> None:
        """Wait until the kernel has all that is queued now, or its peer is gone. Cancelled: nothing has changed."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        goals = {pipe: (pipe.connection, session.delivered(pipe)) for pipe, session in self._pipes.items()}
        for pipe, (connection, goal) in goals.items():
            while pipe in self._pipes and connection in (None, pipe.connection) and not goal():
                self._check_open()
                await self._watchers.park()

    def monitor(self) -> AbstractAsyncContextManager[EventChannel]:
        """What happens to endpoints, peers: ``async with socket.monitor() as events: async for event in events: ...``

        It begins with the last event of each endpoint and peer, so nothing is missed by coming late. A reader that is
        too slow loses the oldest of 1,000 and is told so (`Event.missed`). Ends when the socket has closed.
        """
        return self.reporter.monitor()

    def statistics(self) -> SocketStatistics:
        """Figures of this moment: queues, counters, drops by reason, errors; for each peer and each endpoint."""
        return SocketStatistics(
            peers=(
                *(self._peer_statistics(pipe, session) for pipe, session in self._pipes.items()),
                *(
                    absent_peer(each.endpoint, each.state, each.last_error)
                    for each in self._book.dialled
                    if not each.pipe
                ),
            ),
            endpoints=tuple(_endpoint_statistics(entry) for entry in [*self._book.bound, *self._book.dialled]),
            dropped=dict(self._drops),
        )

    def _peer_statistics(self, pipe: Pipe, session: Session) -> PeerStatistics:
        return peer_statistics(pipe, session.state, session.last_error, self._in_hand(pipe), session.figures())


def _endpoint_statistics(entry: Any) -> EndpointStatistics:
    sessions = list(entry.sessions) if hasattr(entry, "sessions") else [entry]
    state: State = "listening" if hasattr(entry, "sessions") else entry.state
    also = [] if sessions == [entry] else sessions
    return EndpointStatistics(
        endpoint=entry.endpoint,
        state=state,
        peers=sum(1 for session in sessions if session.state == "ready"),
        connections=entry.connections + sum(session.connections for session in also),
        failures=entry.failures + sum(session.failures for session in also),
        last_error=entry.last_error,
        multicast=entry.figures() if isinstance(entry, PartyHost) else None,
    )
