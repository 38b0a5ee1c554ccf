"""What every socket has: a life, endpoints, peers, statistics, events. Sending and receiving are beside it.

The socket is where the pure world (its pattern) and the live one (sessions, waiting tasks) meet. It holds no decision
of either: what to do with a message is the pattern's, what to do with a connection is the session's.
"""

from __future__ import annotations

import random
import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from threading import get_ident
from time import perf_counter
from types import TracebackType
from typing import Any, ClassVar, Self

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from .._errors import StateError
from .._events import Closed
from .._message import Peer
from .._options import CHANGEABLE, Options
from .._patterns import Pattern, PipeFace
from .._pipe import Connection, Pipe
from ._address_book import AddressBook, Bindable, PreparedListener, Target, resolve
from ._engine import Pace
from ._listener import Acceptor
from ._monitor import EventChannel, Reporter
from ._party import PartyHost
from ._reactor import Reactor
from ._session import Session
from ._statistics import EndpointStatistics, PeerStatistics, SocketStatistics, State, absent_peer, peer_statistics
from ._timers import Timers

_NO_LINGER = frozenset({"SUB", "XSUB"})


class Life(Enum):
    """Where a socket is in its life."""

    NEW = "not entered"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Socket(trio.abc.AsyncResource):
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

    socket_type: ClassVar[str]
    """The ZMTP name of this type."""

    def __init__(
        self,
        *,
        bind: Bindable | Iterable[Bindable] | None = None,
        connect: str | Iterable[str] | None = None,
        options: Options | None = None,
    ) -> None:
        options = Options() if options is None else options
        options.check_for(self.socket_type)
        self._options = options
        self.clock: Callable[[], float] = perf_counter
        self._life = Life.NEW
        self._thread = 0
        self.reactor: Reactor = Reactor(self._name)
        self.reporter: Reporter = Reporter(self._name, self.reactor.start)
        self.timers: Timers = Timers(self.reactor.start)
        self._book = AddressBook(self)
        self._pipes: dict[Pipe, Session] = {}
        self._connected = 0
        self._only_connection: Connection | None = None
        self._drops: Counter[str] = Counter()
        self._watchers = ParkingLot()
        self._block: AbstractAsyncContextManager[None] | None = None
        self._prepare()
        self.pattern: Pattern = self._new_pattern(options)
        self._intended_binds = [self._intend_bind(each, options) for each in _listed(bind)]
        self._intended_connects = [(self._resolve(each, options, binding=False), b"") for each in _listed(connect)]

    def _prepare(self) -> None:
        """Lay out what a kind of socket needs besides; extended by those kinds, so that there is one constructor."""

    @abstractmethod
    def _new_pattern(self, options: Options) -> Pattern:
        """The pattern of this type of socket."""

    @property
    def _name(self) -> str:
        return f"{type(self).__name__} socket"

    def __repr__(self) -> str:
        life = getattr(self, "_life", Life.NEW)
        book = getattr(self, "_book", None)
        where = f" at {', '.join(book.endpoints)}" if book is not None and book.endpoints else ""
        return f"<{type(self).__name__} {life.value}{where}>"

    # Entering and leaving.

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        """Open the socket: bind in order, then connect. A bind that fails undoes those before and raises `OSError`."""
        if self._life is not Life.NEW:
            raise StateError(f"this {type(self).__name__} is {self._life.value}; a socket is entered once")
        self._block = self.reactor.run(self._leave)
        await self._block.__aenter__()
        self._thread = get_ident()
        self._life = Life.OPEN
        try:
            for intended in self._intended_binds:
                await self._bind_intended(intended)
            for target, routing_id in self._intended_connects:
                self._book.connect(target, routing_id)
            self._entered()
        except BaseException:
            await self.__aexit__(*sys.exc_info())  # noqa: ASYNC102  # left by an error, the block waits for nobody
            raise
        return self

    def _entered(self) -> None:
        """Something for subclasses to do on entry."""

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._block is not None
        try:
            await self._block.__aexit__(kind, value, traceback)  # noqa: ASYNC102  # waits for linger only, until cancelled
        finally:
            self._close_now()

    async def _leave(self, normally: bool) -> None:
        if normally and self._life is Life.OPEN:
            self._begin_closing()
            await self._linger()
        self._close_now()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close the socket: as leaving its block does, but from any task, and the block goes on.

        Returns when every background task and file descriptor is gone. When cancelled it closes at once. Tasks waiting
        in a call get `trio.ClosedResourceError`, iterations end. Calling it twice is fine.
        """
        if self._life is Life.NEW:
            self._life = Life.CLOSED
        if self._life is Life.OPEN:
            self._begin_closing()
            try:
                await self._linger()
            finally:
                self._close_now()
        elif self._life is Life.CLOSING:
            # Somebody else lingers; being cancelled here means: enough of that.
            try:
                await self.reactor.wait_stopped()
            finally:
                self._close_now()
        if self.reactor.running:
            with trio.CancelScope(shield=True):
                await self.reactor.wait_stopped()
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def serve(
        self,
        *,
        task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED,  # pyright: ignore[reportArgumentType]  # object is a supertype of every Self
    ) -> None:
        """Enter the socket and keep it open until closed or cancelled: ``push = await nursery.start(push.serve)``."""
        async with self:
            task_status.started(self)
            await self.reactor.wait_stopped()

    def _begin_closing(self) -> None:
        self._life = Life.CLOSING
        self._book.stop_listening()
        self._disturb(trio.ClosedResourceError, f"this {type(self).__name__} was closed")

    async def _linger(self) -> None:
        await self._drain(list(self._pipes), self._lingering(self._options))

    def _lingering(self, options: Options) -> float:
        if self.socket_type in _NO_LINGER and options.linger == Options.linger:
            return 0.0
        return options.linger

    async def _drain(self, pipes: list[Pipe], seconds: float) -> None:
        """Wait until the kernel has what is queued in *pipes*, at most so long."""
        if seconds <= 0.0:
            return
        with trio.move_on_after(seconds):
            while any(self._pipes[pipe].undelivered() for pipe in pipes if pipe in self._pipes):
                await self._watchers.park()

    def _close_now(self) -> None:
        """The end: nothing waits any more. Sync, so that it cannot be interrupted; twice is as good as once."""
        if self._life is Life.CLOSED:
            return
        self._life = Life.CLOSED
        unsent: Counter[str] = Counter()
        for session in self._pipes.values():
            unsent[session.endpoint] += session.undelivered()
        self._disturb(trio.ClosedResourceError, f"this {type(self).__name__} was closed")
        self._book.close()
        self.reactor.stop()
        unsent_by_endpoint = {endpoint: count for endpoint, count in unsent.items() if count}
        self.reporter.end(Closed(unsent=sum(unsent_by_endpoint.values()), unsent_by_endpoint=unsent_by_endpoint))

    def _disturb(self, error: type[trio.ClosedResourceError], text: str) -> None:
        """Wake every waiting call with an error; subclasses add theirs."""
        self._watchers.unpark_all()

    @property
    def closed(self) -> bool:
        """Whether the socket has closed."""
        return self._life is Life.CLOSED

    @property
    def closing(self) -> bool:
        """Whether the socket has closed or is about to, so that nothing is received any more."""
        return self._life in (Life.CLOSING, Life.CLOSED)

    def _check_open(self) -> None:
        """Raise unless the socket is open and this is its event loop."""
        if self._life is not Life.OPEN:
            if self._life is Life.NEW:
                raise StateError(f"this {type(self).__name__} is not open yet; enter the socket with async with")
            raise trio.ClosedResourceError(f"this {type(self).__name__} was closed")
        if get_ident() != self._thread:
            raise RuntimeError(
                f"this {type(self).__name__} belongs to another thread's event loop; use trio.from_thread"
            )

    # Endpoints.

    @enable_ki_protection
    async def bind(self, endpoint: Bindable, *, options: Options | None = None) -> str:
        """Listen at *endpoint* and return it resolved, with the real port or path. Cancelled: nothing was bound.

        Args:
            endpoint: ``tcp://host:port`` (``*`` for any), ``ipc://path``, ``inproc://name``, or a listener of
                `trio_mq.listen`.
            options: instead of the socket's, for connections that come to this endpoint.

        Raises:
            EndpointError: it cannot be meant.
            OSError: it is taken, or the system says no.
        """
        self._check_open()
        await trio.lowlevel.checkpoint()
        return await self._bind_intended(self._intend_bind(endpoint, self._for_endpoint(options)))

    def _intend_bind(self, endpoint: Bindable, options: Options) -> tuple[PreparedListener | Target, Options]:
        if isinstance(endpoint, PreparedListener):
            return endpoint, options
        return self._resolve(endpoint, options, binding=True), options

    async def _bind_intended(self, intended: tuple[PreparedListener | Target, Options]) -> str:
        what, options = intended
        if isinstance(what, PreparedListener):
            return await self._book.adopt(what, options)
        return await self._book.bind(what)

    def _resolve(self, endpoint: str, options: Options, *, binding: bool) -> Target:
        return resolve(endpoint, options, binding=binding, socket_type=self.socket_type)

    def _for_endpoint(self, options: Options | None) -> Options:
        if options is None:
            return self._options
        options.check_for(self.socket_type)
        return options

    @enable_ki_protection
    def connect(self, endpoint: str, *, options: Options | None = None) -> None:
        """Keep a connection to *endpoint*, from now on and across losses. Never blocks, never fails for the network.

        Before the socket is entered this records the intention. `wait_connected` waits for it, `monitor` and
        `statistics` tell how it goes. Connecting twice to one endpoint is one connection on DEALER, SUB, PUB and REQ
        (as with libzmq), two on the others.

        Args:
            endpoint: ``tcp://[source;]host:port``, ``ipc://path`` or ``inproc://name``.
            options: instead of the socket's, for this endpoint.

        Raises:
            EndpointError: it cannot be meant.
        """
        self._connect(endpoint, options, b"")

    def _connect(self, endpoint: str, options: Options | None, routing_id: bytes) -> None:
        target = self._resolve(endpoint, self._for_endpoint(options), binding=False)
        if self._life is Life.NEW:
            self._intended_connects.append((target, routing_id))
            return
        self._check_open()
        self._book.connect(target, routing_id)

    @enable_ki_protection
    async def unbind(self, endpoint: str) -> None:
        """Stop listening at *endpoint* and end the connections that came to it, after their linger. Cancelled: at once.

        Raises:
            EndpointError: it is not bound here, as given or resolved.
        """
        self._check_open()
        bound = self._book.find_bound(endpoint)
        if isinstance(bound, Acceptor):
            bound.close()
        await self._let_go(bound, list(bound.sessions), bound.options)

    @enable_ki_protection
    async def disconnect(self, endpoint: str) -> None:
        """End the connection to *endpoint* after its linger, and dial it no more. Cancelled: at once.

        Raises:
            EndpointError: it is not connected here, as given or resolved.
        """
        self._check_open()
        dialled = self._book.find_dialled(endpoint)
        await self._let_go(dialled, [dialled], dialled.options)

    async def _let_go(self, entry: Any, sessions: list[Any], options: Options) -> None:
        try:
            await self._drain([s.pipe for s in sessions if s.pipe is not None], self._lingering(options))
        finally:
            self._book.remove(entry)
            if isinstance(entry, PartyHost):
                entry.close()
            for session in sessions:
                session.close()
            with trio.CancelScope(shield=True):
                for session in sessions:
                    await session.ended.wait()
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def disconnect_peer(self, peer: Peer) -> None:
        """End the connection with *peer* now, whichever side made it. A dialled endpoint is dialled again.

        Raises:
            StateError: there is no such peer any more.
        """
        self._check_open()
        for pipe in self._pipes:
            if pipe.connection is not None and pipe.peer == peer:
                pipe.connection.close(None)
                await trio.lowlevel.checkpoint()
                return
        raise StateError(f"{peer.address or peer.endpoint} is not connected")

    @property
    def last_endpoint(self) -> str | None:
        """The endpoint bound or connected last, bound ones with the real port; None while there is none."""
        return self._book.last_endpoint

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every endpoint that is bound or connected, resolved."""
        return self._book.endpoints

    @property
    def options(self) -> Options:
        """How the socket behaves. Assigning a copy with another mark, linger or router/xpub switch acts at once.

        Raises:
            ValueError: on assignment, if a field differs that cannot change on an existing socket.
        """
        return self._options

    @options.setter
    def options(self, options: Options) -> None:
        options.check_for(self.socket_type)
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

    # Waiting and watching.

    @enable_ki_protection
    async def wait_connected(self, count: int = 1) -> None:
        """Wait until *count* peers are past their handshake. If cancelled, nothing has happened.

        Raises:
            trio.ClosedResourceError: the socket was closed meanwhile.
            AuthenticationError: nothing is bound, and every connected endpoint has refused us for good.
        """
        await self._wait_until(lambda: self._connected >= count, self._final_refusal)

    async def _wait_until(self, condition: Callable[[], bool], hopeless: Callable[[], Exception | None]) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint()
        self._check_open()
        while not condition():
            error = hopeless()
            if error is not None:
                raise error
            await self._watchers.park()
            self._check_open()

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
        return peer_statistics(pipe, session.state, session.last_error, self._in_hand(pipe))

    def _in_hand(self, pipe: Pipe) -> list[object]:
        """Messages of *pipe* that were taken from its queue and not received yet."""
        return []

    # What sessions ask of us.

    @property
    def encodes(self) -> bool:
        return False

    @property
    def pace(self) -> Pace | None:
        return None

    def attach(self, session: Session, pipe: Pipe) -> None:
        self.revoke_turns()
        self._pipes[pipe] = session
        self.pattern.attached(pipe)

    def detach(self, session: Session, pipe: Pipe) -> None:
        self.revoke_turns()
        self._pipes.pop(pipe, None)
        self.pattern.detached(pipe)
        self._gone(pipe)
        self._changed()

    def connected(self, pipe: Pipe) -> None:
        self._changed()
        self._writable(pipe)

    def disconnected(self, pipe: Pipe) -> None:
        self._changed()

    def _changed(self) -> None:
        """Peers or subscriptions are not what they were."""
        connections = [pipe.connection for pipe in self._pipes if pipe.connection is not None]
        self._connected = len(connections)
        self._only_connection = connections[0] if len(connections) == 1 else None
        self.went_idle()

    def went_idle(self) -> None:
        if self._watchers:
            self._watchers.unpark_all()

    def drop(self, pipe: PipeFace | None, reason: str, count: int) -> None:
        self._drops[reason] += count
        if pipe is not None:
            pipe.drops[reason] += count
        self.reporter.dropped(None if pipe is None else pipe.peer, reason, count)

    def hook(self, pipe: Pipe) -> None:
        pipe.inbound.on_item = partial(self._readable, pipe)
        pipe.outbound.on_room = partial(self._writable, pipe)
        pipe.outbound.on_fewer = self.went_idle
        if self.pattern.turns_need_readers:
            pipe.outbound.on_sleep = self.revoke_turns

    def forget(self, session: Session) -> None:
        self._book.forget(session)

    def revoke_turns(self) -> None:
        """Nothing may be appended to a mailbox unasked any more; for sockets that send."""

    def _readable(self, pipe: Pipe) -> None:
        self.pattern.readable(pipe)

    def _writable(self, pipe: Pipe) -> None:
        self.pattern.writable(pipe)

    def _gone(self, pipe: Pipe) -> None:
        """*pipe* was detached; for sockets where a call may wait for just that one."""

    def random_number(self) -> int:
        """Where the numbers of a pattern begin."""
        return random.getrandbits(32)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, PreparedListener)) else list(value)


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
    )
