"""The listening side of stream transports: accepts, and gives each connection a session of its own."""

from __future__ import annotations

import trio
from trio.lowlevel import enable_ki_protection

from .._events import Accepted, AcceptFailed, Listening, Unbound
from .._options import Options
from .._transports import ConnectionRefusedByFilter, Link, Listener
from ._session import Home, StreamSession

ACCEPT_PAUSE = 0.1
"""Seconds before accepting again when the system has no room for a connection (no file descriptor is left, say)."""


class AcceptedSession(StreamSession):
    """A session that lasts as long as the connection it was accepted with."""

    def __init__(self, home: Home, endpoint: str, options: Options, link: Link, place: trio.Semaphore) -> None:
        super().__init__(home, endpoint, options)
        self._link = link
        self._place = place
        self.state = "handshaking"

    @enable_ki_protection
    async def run(self) -> None:
        """The task: until the connection ends."""
        try:
            await self.converse(self._link, accepting=True, shaken=self._place.release)
        finally:
            self.state = "failed"
            self._link.close()
            self.ended.set()
            with trio.CancelScope(shield=True):
                await self._link.aclose()


class Acceptor:
    """Accepts connections at one endpoint until it is closed.

    At most ``max_handshakes`` connections are in their handshake at once, so that strangers who say nothing hold a
    bounded number of descriptors.
    """

    def __init__(self, home: Home, listener: Listener, options: Options) -> None:
        self._home = home
        self._listener = listener
        self.options = options
        self.endpoint = listener.endpoint
        self.sessions: dict[AcceptedSession, None] = {}
        self.connections = self.failures = 0
        self.last_error: Exception | None = None
        self._places = trio.Semaphore(options.max_handshakes)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Acceptor at {self.endpoint}: {len(self.sessions)} sessions>"

    def start(self) -> None:
        """Begin to accept, in the background."""
        self._home.reporter.report(Listening(endpoint=self.endpoint))
        self._home.reactor.start(self._run)

    def close(self) -> None:
        """Accept no more."""
        if not self._closed:
            self._closed = True
            self._listener.close()
            self._home.reporter.report(Unbound(endpoint=self.endpoint))

    @enable_ki_protection
    async def _run(self) -> None:
        try:
            while True:
                await self._places.acquire()
                try:
                    link = await self._accept()
                except BaseException:
                    self._places.release()
                    raise
                self._welcome(link)
        except trio.ClosedResourceError:
            pass
        finally:
            self.close()

    async def _accept(self) -> Link:
        while True:
            try:
                return await self._listener.accept()
            except ConnectionRefusedByFilter as exc:
                self._failed(exc, exc.address)
            except OSError as exc:
                self._failed(exc, "")
                await trio.sleep(ACCEPT_PAUSE)

    def _failed(self, error: Exception, address: str) -> None:
        self.failures += 1
        self.last_error = error
        self._home.reporter.report(AcceptFailed(endpoint=self.endpoint, error=error, address=address))

    def _welcome(self, link: Link) -> None:
        self._home.reporter.report(Accepted(endpoint=self.endpoint, address=link.peer_address))
        session = AcceptedSession(self._home, self.endpoint, self.options, link, self._places)
        self.sessions[session] = None
        session.scope = self._home.reactor.start(self._serve, session)
        if session.scope.cancel_called:
            link.close()

    async def _serve(self, session: AcceptedSession) -> None:
        try:
            await session.run()
        finally:
            del self.sessions[session]
            self.connections += session.connections
            self.failures += session.failures
            self.last_error = session.last_error or self.last_error
