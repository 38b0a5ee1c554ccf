"""The session: one relationship with one peer, and its pipe.

`Session` is what all have in common: a pipe that is attached to the socket's pattern, and a peer that comes and goes.
`StreamSession` carries it over links: handshake, engine, and what becomes of the queue when the connection is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, ClassVar, Protocol

import trio

from .._errors import HandshakeError, MQError
from .._events import Disconnected, HandshakeFailed, HandshakeSucceeded
from .._mailbox import Mailbox, new_mailbox
from .._message import Payload, Peer, PeerJoined, PeerLeft
from .._options import Options
from .._patterns import Pattern, PipeFace
from .._pipe import Pipe
from .._transports import Link
from ..zmtp import Heartbeat, PeerInfo, decode_all
from ._engine import Engine
from ._handshake import Handshake, new_connection
from ._monitor import Reporter
from ._reactor import Reactor
from ._statistics import State
from ._timers import Timers
from ._writer import Pace

connection_numbers = count(1)
"""Numbers for `Peer.connection`."""


class Home(Protocol):
    """The socket, as its sessions see it."""

    pattern: Pattern
    reactor: Reactor
    reporter: Reporter
    timers: Timers
    socket_type: ClassVar[str]

    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def closing(self) -> bool: ...
    @property
    def encodes(self) -> bool:
        """Whether queues to peers over streams hold wire bytes."""
        ...

    @property
    def pace(self) -> Pace | None: ...
    def went_idle(self) -> None: ...
    def attach(self, session: Session, pipe: Pipe) -> None: ...
    def detach(self, session: Session, pipe: Pipe) -> None: ...
    def connected(self, pipe: Pipe) -> None: ...
    def disconnected(self, pipe: Pipe) -> None: ...
    def drop(self, pipe: PipeFace | None, reason: str, count: int) -> None: ...
    def hook(self, pipe: Pipe) -> None: ...
    def revoke_turns(self) -> None: ...
    def retire(self, pipe: Pipe, stand_in: Pipe) -> None: ...
    def forget(self, session: Session) -> None: ...


class Session:
    """What every session has.

    Attributes:
        endpoint: the endpoint of ours it belongs to.
        state, last_error: for statistics.
        connections, failures: how often a peer came, how often that failed.
        scope: cancels the task it runs in, if it has one.
        ended: set when it is over for good.
    """

    def __init__(self, home: Home, endpoint: str, options: Options) -> None:
        self.home = home
        self.endpoint = endpoint
        self.options: Options = options
        self.pipe: Pipe | None = None
        self.state: State = "dialling"
        self.last_error: Exception | None = None
        self.connections: int = 0
        self.failures: int = 0
        self.scope: trio.CancelScope | None = None
        self.ended: trio.Event = trio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint}: {self.state}>"

    def close(self) -> None:
        """End it now."""
        if self.scope is not None:
            self.scope.cancel()

    def open_pipe(self, mailboxes: tuple[Mailbox, Mailbox] | None = None, routing_id: bytes = b"") -> Pipe:
        """A pipe with these mailboxes (None: with its own), attached to the pattern; nobody was told of it yet."""
        inbound, outbound = mailboxes or self.new_mailboxes()
        pipe = Pipe(inbound, outbound, Peer(self.endpoint))
        pipe.preset_id = routing_id
        self.home.hook(pipe)
        self.attach(pipe)
        return pipe

    def attach(self, pipe: Pipe) -> None:
        """Let the socket have *pipe* (again)."""
        self.pipe = pipe
        self.home.attach(self, pipe)

    def new_mailboxes(self) -> tuple[Mailbox, Mailbox]:
        """An inbound and an outbound mailbox with the marks of our own options."""
        options = self.options
        inbound = new_mailbox(options.receive_hwm, options.receive_hwm_bytes, conflate=options.conflate)
        outbound = new_mailbox(options.send_hwm, options.send_hwm_bytes, conflate=options.conflate)
        return inbound, outbound

    def undelivered(self) -> int:
        """Messages that wait to be sent and have not reached the kernel."""
        return 0 if self.pipe is None else len(self.pipe.outbound)

    def figures(self) -> Any:
        """What the transport counts of this relationship, if it counts something; None otherwise."""
        return None

    def delivered(self, pipe: Pipe) -> Callable[[], bool]:
        """A function that says whether everything queued now has reached the kernel."""
        outbound = pipe.outbound
        goal = outbound.passed + len(outbound)
        return lambda: outbound.passed >= goal

    def change_marks(self, pipe: Pipe, options: Options) -> None:
        """The socket's marks have changed; endpoints with options of their own keep theirs."""
        self.options = replace(self.options, send_hwm=options.send_hwm, receive_hwm=options.receive_hwm)
        pipe.inbound.set_mark(options.receive_hwm)
        pipe.outbound.set_mark(options.send_hwm)

    def welcome(self, pipe: Pipe) -> None:
        """Let the pattern have the peer of *pipe*; raises `HandshakeError` if it does not want it."""
        self.home.pattern.ready(pipe)
        if self.options.peer_events:
            self._put_event(pipe, PeerJoined(pipe.peer))

    def announce(self, pipe: Pipe) -> None:
        """The peer of *pipe* is ready: tell everybody, and serve those who waited for one."""
        self.state, self.last_error = "ready", None
        self.connections += 1
        self.home.reporter.report(HandshakeSucceeded(endpoint=self.endpoint, peer=pipe.peer))
        self.home.connected(pipe)

    def lose(self, pipe: Pipe, error: Exception | None, reason: str, *, keep: bool) -> None:
        """The peer of *pipe* is gone. *keep*: the pipe waits for another."""
        peer = pipe.peer
        self.last_error = error
        unsent: list[Payload] = []
        if self.options.peer_events:
            unsent = self._take_back(pipe)
            self._put_event(pipe, PeerLeft(peer, reason, tuple(unsent)))
        self.home.retire(pipe, pipe.end_connection())
        if keep:
            self.home.pattern.lost(pipe)
        self.home.reporter.report(Disconnected(endpoint=self.endpoint, peer=peer, error=error))
        if keep:
            pipe.peer = replace(peer, address="", connection=0)
            self.home.disconnected(pipe)
        else:
            self.drop_pipe(pipe, "closed" if self.home.closing else "disconnected")

    def _put_event(self, pipe: Pipe, event: PeerJoined | PeerLeft) -> None:
        pipe.received_before -= 1  # an event is not a message
        pipe.inbound.put_all([event])

    def _take_back(self, pipe: Pipe) -> list[Payload]:
        items = pipe.outbound.clear()
        return decode_all(b"".join(items)) if pipe.outbound.encoded else items

    def drop_pipe(self, pipe: Pipe, reason: str) -> None:
        """*pipe* is over; what waits in it to be sent is dropped for *reason*."""
        lost = len(pipe.outbound)
        if lost:
            self.home.drop(pipe, reason, lost)
        self.home.detach(self, pipe)
        pipe.outbound.clear()
        self.pipe = None


class StreamSession(Session):
    """A session over links."""

    def new_mailboxes(self) -> tuple[Mailbox, Mailbox]:
        inbound, outbound = super().new_mailboxes()
        outbound.encoded = self.home.encodes
        return inbound, outbound

    async def converse(self, link: Link, *, accepting: bool, shaken: Callable[[], None]) -> Exception | None:
        """Handshake and traffic over *link*, until either ends; returns why. *shaken* is called after the handshake."""
        self.state = "handshaking"
        connection = new_connection(self.home.socket_type, self.options, link, accepting=accepting)
        try:
            info = await Handshake(connection, link, self.options, self.endpoint).run()
        except (MQError, OSError) as exc:
            return self._handshake_failed(link, exc)
        finally:
            shaken()
        pipe = self.pipe or self.open_pipe()
        options = self.options
        heartbeat = Heartbeat(options.heartbeat_interval, options.heartbeat_timeout, options.heartbeat_ttl)
        if not connection.heartbeats:
            heartbeat = Heartbeat()
        engine = Engine(self.home, link, connection, pipe, heartbeat, eager=options.eager_reads)
        pipe.peer = self._peer(link, info)
        pipe.connection = engine
        try:
            self.welcome(pipe)
        except HandshakeError as exc:
            return self._refuse(engine, link, exc)
        self.announce(pipe)
        engine.on_close = partial(self._let_go, engine)
        self.home.reactor.start(engine.writing)
        self.home.timers.add(engine)
        try:
            await engine.reading()
        finally:
            self._let_go(engine)
        return engine.error

    def _let_go(self, engine: Engine) -> None:
        """The connection is over; also called at once when the program or the pattern ends it."""
        pipe = engine.pipe
        if pipe.connection is engine:
            self.home.timers.remove(engine)
            engine.end(None)
            engine.give_back()
            self._lost(engine)

    def _lost(self, engine: Engine) -> None:
        reason = "the peer closed the connection" if engine.error is None else str(engine.error) or repr(engine.error)
        if engine.error is not None:
            self.failures += 1
        self.traffic = engine.had_traffic
        self.restarting = engine.restarting
        self.lose(engine.pipe, engine.error, reason, keep=self.persistent and not self.home.closed)

    traffic = False
    restarting = False

    @property
    def persistent(self) -> bool:
        """Whether the pipe outlives its connection."""
        return False

    def _peer(self, link: Link, info: PeerInfo) -> Peer:
        return Peer(
            endpoint=self.endpoint,
            address=link.peer_address,
            routing_id=info.identity,
            socket_type=info.socket_type,
            user_id=info.user_id,
            properties=info.properties,
            connection=next(connection_numbers),
        )

    def _handshake_failed(self, link: Link, error: Exception) -> Exception:
        self.last_error = error
        self.failures += 1
        self.home.reporter.report(HandshakeFailed(endpoint=self.endpoint, error=error, address=link.peer_address))
        return error

    def _refuse(self, engine: Engine, link: Link, error: HandshakeError) -> Exception:
        pipe = engine.pipe
        pipe.connection = None
        engine.end(error)
        engine.give_back()
        if not self.persistent:
            self.drop_pipe(pipe, "disconnected")
        return self._handshake_failed(link, error)
