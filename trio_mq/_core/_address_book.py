"""The address book of a socket: which endpoints are bound, which are connected, and how to let go of one.

It parses and resolves at the call, so that what cannot be meant is refused there, and starts acceptors and sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias, TypeVar

from .._endpoint import parse_endpoint
from .._errors import EndpointError, StateError
from .._events import BindFailed
from .._options import Options, checked_options
from .._transports import Listener, MessageTransport, StreamTransport, Transport, transport_for
from ._connecter import DialledSession
from ._listener import Acceptor
from ._party import PartyHost, PartySession
from ._session import Home, Session

Bound: TypeAlias = "Acceptor | PartyHost"
Dialled: TypeAlias = "DialledSession | PartySession"

_ONE_CONNECTION_EACH = frozenset({"DEALER", "SUB", "PUB", "REQ"})


@dataclass(frozen=True)
class Target:
    """An endpoint that was parsed and checked for one socket type."""

    given: str
    transport: Transport
    address: object
    options: Options


class PreparedListener:
    """An endpoint bound by `trio_mq.listen`, before any socket is entered; give it to a socket as ``bind=``.

    Attributes:
        endpoint: what peers connect to, with the real port or path.
    """

    def __init__(self, target: Target, listener: Listener | None) -> None:
        self.target = target
        self.listener = listener
        self._taken = False
        self.endpoint: str = str(target.address) if listener is None else listener.endpoint

    def __repr__(self) -> str:
        return f"<Listener {self.endpoint}>"

    def check_for(self, socket_type: str) -> None:
        """Raise `EndpointError` if sockets of this type cannot be bound there."""
        _check_admitted(self.target.given, self.target.transport, socket_type, binding=True)

    def take(self) -> Listener | None:
        """Hand over what listens, to one socket.

        Raises:
            StateError: a socket has it already, or it was closed.
        """
        if self._taken:
            raise StateError(f"the listener at {self.endpoint} was closed, or belongs to another socket already")
        self._taken = True
        return self.listener

    def close(self) -> None:
        """Stop listening: the port, or the path, is free. Connections that a socket has accepted from it go on, unlike
        with `unbind`. Twice is as good as once, and ``inproc`` has nothing to close.
        """
        if self.listener is not None:
            self.listener.close()
        self._taken = True


Bindable: TypeAlias = "str | PreparedListener"


def resolve(endpoint: str, options: Options, *, binding: bool, socket_type: str | None = None) -> Target:
    """*endpoint* as its transport understands it.

    Raises:
        EndpointError: it cannot be meant.
    """
    parsed = parse_endpoint(endpoint)
    transport = transport_for(parsed)
    if socket_type is not None:
        _check_admitted(endpoint, transport, socket_type, binding=binding)
    address = transport.parse(parsed, binding=binding)
    transport.check(address, options)
    return Target(endpoint, transport, address, options)


def _check_admitted(endpoint: str, transport: Transport, socket_type: str, *, binding: bool) -> None:
    refusal = transport.admits(socket_type, binding=binding)
    if refusal:
        raise EndpointError(endpoint, refusal)


def listen(endpoint: str, options: Options | None = None) -> PreparedListener:
    """Bind *endpoint* now, without a socket and without waiting; connections queue until a socket takes it over.

    The port is known before any socket is entered, even before ``trio.run``. Port 0 means ``*``. A host name is looked
    up on the spot, which blocks. ``inproc`` names are bound when the socket is entered.

    Args:
        endpoint: what to bind.
        options: backlog, buffers, ipv6 and the like. The socket's own options do the rest.

    Returns:
        A listener to pass as ``bind=``; close it if no socket takes it.

    Raises:
        EndpointError: *endpoint* cannot be meant.
        OSError: it is taken, or the system says no.
    """
    options = Options() if options is None else checked_options(options)
    target = resolve(endpoint, options, binding=True)
    if isinstance(target.transport, StreamTransport):
        try:
            return PreparedListener(target, target.transport.listen_now(target.address, target.options))
        except OSError as exc:
            _raise_naming(endpoint, exc)
    return PreparedListener(target, None)


def _raise_naming(endpoint: str, error: OSError) -> NoReturn:
    """Raise *error*, which the system raised, with *endpoint* in its text: a program may bind many."""
    if endpoint in str(error) or error.errno is None:
        raise error
    raise type(error)(error.errno, f"{endpoint}: {error.strerror}") from error


class AddressBook:
    """The endpoints of one socket."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._bound: list[tuple[str, Bound]] = []
        self._dialled: list[tuple[str, Dialled]] = []
        self.last_endpoint: str | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every bound and connected endpoint, resolved."""
        return tuple(each.endpoint for _, each in [*self._bound, *self._dialled])

    @property
    def bound(self) -> list[Bound]:
        return [bound for _, bound in self._bound]

    @property
    def hosts(self) -> list[PartyHost]:
        """What is bound over transports that carry messages themselves."""
        return [bound for bound in self.bound if isinstance(bound, PartyHost)]

    @property
    def dialled(self) -> list[Dialled]:
        return [session for _, session in self._dialled]

    def sessions(self) -> Iterator[Session]:
        """All of them, accepted and dialled."""
        for bound in self.bound:
            yield from list(bound.sessions)
        yield from self.dialled

    async def bind(self, target: Target) -> str:
        """Bind *target*; the resolved endpoint. Cancelled: nothing is bound."""
        transport = target.transport
        try:
            if isinstance(transport, StreamTransport):
                return self._serve(target.given, await transport.listen(target.address, target.options), target.options)
            assert isinstance(transport, MessageTransport)
            return self._host(target, transport)
        except OSError as exc:
            self._home.reporter.report(BindFailed(endpoint=target.given, error=exc))
            _raise_naming(target.given, exc)

    def _host(self, target: Target, transport: MessageTransport) -> str:
        return self._add(target.given, PartyHost(self._home, transport, target.address, target.options))

    async def adopt(self, prepared: PreparedListener, options: Options) -> str:
        """Serve what `listen` has bound."""
        listener = prepared.take()
        if listener is None:
            target = prepared.target
            return await self.bind(Target(target.given, target.transport, target.address, options))
        return self._serve(prepared.target.given, listener, options)

    def _serve(self, given: str, listener: Listener, options: Options) -> str:
        return self._add(given, Acceptor(self._home, listener, options))

    def _add(self, given: str, bound: Bound) -> str:
        self._bound.append((given, bound))
        bound.start()
        self.last_endpoint = bound.endpoint
        return bound.endpoint

    def connect(self, target: Target, routing_id: bytes) -> None:
        """Start a session with *target*."""
        endpoint = str(target.address)
        self.last_endpoint = target.given
        if self._home.socket_type in _ONE_CONNECTION_EACH and self._is_connected(endpoint):
            return
        transport = target.transport
        if isinstance(transport, MessageTransport) and transport.symmetric:
            self._host(target, transport)
        elif isinstance(transport, StreamTransport):
            dialled = DialledSession(self._home, endpoint, target.options, transport, target.address)
            self._dialled.append((target.given, dialled))
            dialled.start(routing_id)
        else:
            assert isinstance(transport, MessageTransport)
            party = PartySession(self._home, endpoint, target.options, lasting=True)
            self._dialled.append((target.given, party))
            party.start(transport, target.address, routing_id)

    def _is_connected(self, endpoint: str) -> bool:
        return any(each.endpoint == endpoint for each in [*self.dialled, *self._symmetric()])

    def _symmetric(self) -> list[PartyHost]:
        return [host for host in self.hosts if host.symmetric]

    def find_bound(self, endpoint: str) -> Bound:
        """What is bound at *endpoint*, given or resolved; raises `EndpointError`."""
        return _find(self._bound, endpoint, f"is not bound here; bound are {_listed(self.bound)}")

    def find_dialled(self, endpoint: str) -> Dialled | PartyHost:
        """What is connected to *endpoint*; raises `EndpointError`."""
        for given, bound in reversed(self._bound):
            if endpoint in (given, bound.endpoint) and isinstance(bound, PartyHost) and bound.symmetric:
                return bound
        return _find(self._dialled, endpoint, f"is not connected here; connected are {_listed(self.dialled)}")

    def remove(self, entry: Bound | Dialled) -> None:
        """Forget *entry*, which was let go."""
        self._bound = [pair for pair in self._bound if pair[1] is not entry]
        self._dialled = [pair for pair in self._dialled if pair[1] is not entry]

    def forget(self, session: Session) -> None:
        """An accepted session of a message transport has ended."""
        for bound in self.bound:
            if isinstance(bound, PartyHost) and isinstance(session, PartySession):
                bound.forget(session)

    def stop_listening(self) -> None:
        """Close every acceptor; their sessions go on."""
        for bound in self.bound:
            if isinstance(bound, Acceptor):
                bound.close()

    def close(self) -> None:
        """Let go of everything, now."""
        sessions = list(self.sessions())
        for bound in self.bound:
            bound.close()
        for session in sessions:
            session.close()


Entry = TypeVar("Entry", Acceptor | PartyHost, DialledSession | PartySession)


def _find(entries: list[tuple[str, Entry]], endpoint: str, rule: str) -> Entry:
    for given, entry in reversed(entries):
        if endpoint in (given, entry.endpoint):
            return entry
    raise EndpointError(endpoint, rule)


def _listed(entries: Iterable[Bound | Dialled]) -> str:
    return ", ".join(entry.endpoint for entry in entries) or "none"
