"""Sessions over transports that carry messages themselves: no link, no engine.

Over inproc two parties share their mailboxes and there is no task either; over multicast and UDP the transport empties
and fills them, in tasks that it starts here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from .._events import Dialling, Event, HandshakeFailed, Listening, Unbound
from .._mailbox import Mailbox, combined_mark, nothing
from .._message import Payload, Peer
from .._options import Options
from .._pipe import Connection, Pipe
from .._transports import Attachment, MessageTransport, RemoteConnection
from ._session import Home, Session, connection_numbers


class EndpointOwner:
    """A socket, as the transport of one of its endpoints sees it."""

    def __init__(self, home: Home, options: Options) -> None:
        self._home = home
        self.options = options

    @property
    def socket_type(self) -> str:
        return self._home.socket_type

    def start(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        return self._home.reactor.start(task, *args)

    def report(self, event: Event) -> None:
        self._home.reporter.report(event)

    def drop(self, reason: str, count: int) -> None:
        self._home.drop(None, reason, count)


class PartySession(Session):
    """One end of a relationship that a message transport made; a `Party` for it."""

    def __init__(self, home: Home, endpoint: str, options: Options, *, lasting: bool) -> None:
        super().__init__(home, endpoint, options)
        self._lasting = lasting and not options.immediate
        self._routing_id = b""
        self._peer_options: Options | None = None
        self._remote: RemoteConnection | None = None
        self.attachment: Attachment | None = None

    def start(self, transport: MessageTransport, address: Any, routing_id: bytes) -> None:
        """Connect; the peer may come now or later."""
        self._routing_id = routing_id
        if self._lasting:
            self.home.connected(self.open_pipe(routing_id=routing_id))
        self.home.reporter.report(Dialling(endpoint=self.endpoint))
        owner = EndpointOwner(self.home, self.options)
        self.attachment = transport.attach(address, lambda: self, binding=False, owner=owner)
        self.attachment.start()

    def undelivered(self) -> int:
        # What a joined peer has not received yet is the peer's: in one process there is nothing to wait for.
        joined = self._remote is None and self.pipe is not None and self.pipe.connection is not None
        return 0 if joined else super().undelivered()

    def delivered(self, pipe: Pipe) -> Callable[[], bool]:
        return (lambda: not self.undelivered()) if self._remote is None else super().delivered(pipe)

    def figures(self) -> Any:
        return None if self._remote is None else self._remote.figures()

    def change_marks(self, pipe: Pipe, options: Options) -> None:
        self.options = replace(self.options, send_hwm=options.send_hwm, receive_hwm=options.receive_hwm)
        theirs = self._peer_options
        if theirs is None:
            super().change_marks(pipe, options)
        else:
            pipe.inbound.set_mark(combined_mark(theirs.send_hwm, options.receive_hwm))
            pipe.outbound.set_mark(combined_mark(options.send_hwm, theirs.receive_hwm))

    def close(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self._lasting = False
            if self.attachment is not None:
                self.attachment.close()
            elif self.pipe is not None and self.pipe.connection is not None:
                self.pipe.connection.close(None)
            if self.pipe is not None:
                self.drop_pipe(self.pipe, "closed" if self.home.closed else "disconnected")

    # The Party.

    @property
    def socket_type(self) -> str:
        return self.home.socket_type

    @property
    def routing_id(self) -> bytes:
        return self.options.routing_id

    @property
    def properties(self) -> Mapping[str, str]:
        return self.options.properties

    @property
    def closing(self) -> bool:
        return self.home.closing

    def waiting(self) -> tuple[list[Any], list[Any]]:
        return ([], []) if self.pipe is None else (self.pipe.inbound.waiting(), self.pipe.outbound.waiting())

    def join(self, inbound: Mailbox, outbound: Mailbox, connection: Connection, peer: Peer, options: Options) -> None:
        pipe = self.pipe
        if pipe is None:
            pipe = self.open_pipe((inbound, outbound), self._routing_id)
        else:
            self.home.revoke_turns()
            pipe.take_inbound(inbound)
            pipe.take_outbound(outbound)
            self.home.hook(pipe)
        inbound.refine = partial(self.home.pattern.refine, pipe)
        pipe.peer = replace(peer, connection=next(connection_numbers))
        pipe.connection = connection
        self._peer_options = options

    def open(self, connection: RemoteConnection, peer: Peer) -> tuple[Mailbox, Mailbox]:
        pipe = self.pipe or self.open_pipe(routing_id=self._routing_id)
        pipe.peer = replace(peer, connection=next(connection_numbers))
        pipe.connection = self._remote = connection
        return pipe.inbound, pipe.outbound

    def accept(self, messages: list[Payload]) -> list[Any]:
        pipe = self.pipe
        if pipe is None:
            return []
        accepted = self.home.pattern.accept(pipe, messages)
        pipe.received_before += len(messages) - len(accepted)
        return accepted

    def drop(self, reason: str, count: int) -> None:
        self.home.drop(self.pipe, reason, count)

    def unsent(self, reason: str, count: int) -> None:
        if self.pipe is not None:
            self.pipe.sent_before -= count  # they have passed through the mailbox all the same
        self.home.drop(self.pipe, reason, count)

    def idle(self) -> None:
        self.home.went_idle()

    def begin(self) -> None:
        assert self.pipe is not None
        self.welcome(self.pipe)

    def opened(self) -> None:
        if self.pipe is not None:
            self.announce(self.pipe)

    def subscription(self, topic: bytes, subscribe: bool) -> None:
        if self.pipe is not None:
            self.home.pattern.subscription(self.pipe, topic, subscribe)

    def part(self, error: Exception | None, unread: list[Any]) -> None:
        pipe = self.pipe
        if pipe is None:
            return
        self._take_mailboxes_back()
        if self.options.peer_events:
            pipe.outbound.put_all(unread)  # to be handed back
        elif unread:
            self.home.drop(pipe, "disconnected", len(unread))
        self.state = "dialling"
        self.lose(pipe, error, "the peer left", keep=self._lasting)
        if not self._lasting:
            self.ended.set()
            self.home.forget(self)

    def failed(self, error: Exception) -> None:
        self.state, self.last_error = "failed", error
        self.failures += 1
        if self.pipe is not None:
            if self.pipe.connection is not None:
                self._take_mailboxes_back()
            self.pipe.connection = None
            self.drop_pipe(self.pipe, "disconnected")
        self.home.reporter.report(HandshakeFailed(endpoint=self.endpoint, error=error))
        if self.attachment is None:
            self.home.forget(self)

    def _take_mailboxes_back(self) -> None:
        """Keep what has been received; what was sent is the peer's, and new messages wait in a mailbox of our own."""
        pipe = self.pipe
        assert pipe is not None
        self._peer_options = None
        self.home.revoke_turns()
        if self._remote is not None:
            # They are our own already; only whoever emptied and filled them is gone.
            self._remote = None
            pipe.inbound.on_room = pipe.outbound.on_item = pipe.outbound.on_full = nothing
            return
        _, outbound = self.new_mailboxes()
        pipe.inbound.on_room = nothing
        pipe.take_outbound(outbound)
        self.home.hook(pipe)


class PartyHost:
    """A bound endpoint of a message transport, and the sessions that came of it."""

    def __init__(self, home: Home, transport: MessageTransport, address: Any, options: Options) -> None:
        self._home = home
        self.options = options
        self.endpoint = str(address)
        self.sessions: dict[PartySession, None] = {}
        self.connections = self.failures = 0
        self._last_error: Exception | None = None
        owner = EndpointOwner(home, options)
        self._attachment = transport.attach(address, self._make_party, binding=True, owner=owner)
        self.endpoint = self._attachment.endpoint
        self.symmetric: bool = transport.symmetric

    def start(self) -> None:
        """It is bound already; say so."""
        self._home.reporter.report(Listening(endpoint=self.endpoint))
        self._attachment.start()

    @property
    def last_error(self) -> Exception | None:
        """What is wrong with the endpoint now; else why the last of its sessions ended."""
        return self._attachment.last_error or self._last_error

    def _make_party(self) -> PartySession:
        session = PartySession(self._home, self.endpoint, self.options, lasting=False)
        self.sessions[session] = None
        return session

    def forget(self, session: PartySession) -> None:
        """*session* has ended."""
        if self.sessions.pop(session, self) is None:
            self.connections += session.connections
            self.failures += session.failures
            self._last_error = session.last_error or self._last_error

    async def drain(self, deadline: float) -> None:
        """Wait for what must outlive empty queues, at most until *deadline*. Cancelled: it is given up."""
        await self._attachment.drain(deadline)

    def figures(self) -> Any:
        """What the transport counts of this endpoint, or None."""
        return self._attachment.figures()

    def close(self) -> None:
        self._attachment.close()
        self._home.reporter.report(Unbound(endpoint=self.endpoint))
