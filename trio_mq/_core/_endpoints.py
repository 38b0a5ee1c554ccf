"""The endpoints of a socket: binding, connecting, and letting go."""

from __future__ import annotations

from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import StateError
from .._message import Peer
from .._options import Options, checked_options
from ._address_book import Bindable, PreparedListener, Target
from ._home import HomeSocket, Life
from ._listener import Acceptor
from ._party import PartyHost


class EndpointSocket(HomeSocket):
    """A socket that binds and connects."""

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

    async def _bind_intended(self, intended: tuple[PreparedListener | Target, Options]) -> str:
        what, options = intended
        if isinstance(what, PreparedListener):
            return await self._book.adopt(what, options)
        return await self._book.bind(what)

    def _for_endpoint(self, options: Options | None) -> Options:
        if options is None:
            return self._options
        checked_options(options).check_for(self.socket_type)
        return options

    @enable_ki_protection
    def connect(self, endpoint: str, *, options: Options | None = None) -> None:
        """Keep a connection to *endpoint*, from now on and across losses. Never blocks, never fails for the network.

        Before the socket is entered this records the intention. `wait_connected` waits for it, `monitor` and
        `statistics` tell how it goes. Connecting twice to one endpoint is one connection on DEALER, SUB, PUB and REQ
        (as with libzmq), two on the others.

        Args:
            endpoint: ``tcp://[source;]host:port``, ``ipc://path``, ``inproc://name``, or of multicast
                (``epgm://interface;group:port``), where connecting is the same as binding.
            options: instead of the socket's, for this endpoint.

        Raises:
            EndpointError: it cannot be meant.
            OSError: multicast alone opens its sockets at the call, and the system says no (`PermissionError`: ``pgm``
                without its privilege).
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
        sessions = list(dialled.sessions) if isinstance(dialled, PartyHost) else [dialled]
        await self._let_go(dialled, sessions, dialled.options)

    async def _let_go(self, entry: Any, sessions: list[Any], options: Options) -> None:
        try:
            hosts = [entry] if isinstance(entry, PartyHost) else []
            await self._drain([s.pipe for s in sessions if s.pipe is not None], hosts, self._lingering(options))
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
