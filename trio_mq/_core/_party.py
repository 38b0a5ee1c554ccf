"""Sessions over transports that carry messages themselves (inproc): no link, no engine, no task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from .._events import Dialling, HandshakeFailed, Listening, Unbound
from .._mailbox import Mailbox, combined_mark, nothing
from .._message import Peer
from .._options import Options
from .._pipe import Connection, Pipe
from .._transports import Attachment, MessageTransport
from ._session import Home, Session, connection_numbers


class PartySession(Session):
    """One end of a relationship that a message transport made; a `Party` for it."""

    def __init__(self, home: Home, endpoint: str, options: Options, *, lasting: bool) -> None:
        super().__init__(home, endpoint, options)
        self._lasting = lasting and not options.immediate
        self._routing_id = b""
        self._peer_options: Options | None = None
        self.attachment: Attachment | None = None

    def start(self, transport: MessageTransport, address: Any, routing_id: bytes) -> None:
        """Connect; the peer may come now or later."""
        self._routing_id = routing_id
        if self._lasting:
            self.home.connected(self.open_pipe(routing_id=routing_id))
        self.home.reporter.report(Dialling(endpoint=self.endpoint))
        self.attachment = transport.attach(address, lambda: self, binding=False)

    def undelivered(self) -> int:
        # What a joined peer has not received yet is the peer's: in one process there is nothing to wait for.
        return super().undelivered() if self.pipe is not None and self.pipe.connection is None else 0

    def delivered(self, pipe: Pipe) -> Callable[[], bool]:
        return lambda: not self.undelivered()

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
        self.last_error: Exception | None = None
        self._attachment = transport.attach(address, self._make_party, binding=True)
        self.endpoint = self._attachment.endpoint

    def start(self) -> None:
        """It is bound already; say so."""
        self._home.reporter.report(Listening(endpoint=self.endpoint))

    def _make_party(self) -> PartySession:
        session = PartySession(self._home, self.endpoint, self.options, lasting=False)
        self.sessions[session] = None
        return session

    def forget(self, session: PartySession) -> None:
        """*session* has ended."""
        if self.sessions.pop(session, self) is None:
            self.connections += session.connections
            self.failures += session.failures
            self.last_error = session.last_error or self.last_error

    def close(self) -> None:
        self._attachment.close()
        self._home.reporter.report(Unbound(endpoint=self.endpoint))
