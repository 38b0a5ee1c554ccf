"""The socket as its sessions see it: a pattern, pipes, and who must hear of what happens to them.

Here the pure world (the pattern) and the live one (sessions, waiting tasks) meet. It holds no decision of either: what
to do with a message is the pattern's, what to do with a connection is the session's.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from threading import get_ident
from time import perf_counter
from typing import Any, ClassVar, Final

import trio
from trio.lowlevel import ParkingLot

from .._errors import StateError
from .._options import Options, checked_options
from .._patterns import Pattern, PipeFace
from .._pipe import Connection, Pipe
from ._address_book import AddressBook, Bindable, PreparedListener, Target, resolve
from ._monitor import Reporter
from ._party import PartyHost
from ._reactor import Reactor
from ._session import Session
from ._timers import Timers
from ._writer import Pace

_NO_LINGER = frozenset({"SUB", "XSUB"})


class Life(Enum):
    """Where a socket is in its life."""

    NEW = "not entered"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_OPEN: Final = Life.OPEN  # an attribute of an Enum costs more than all the rest of `_check_open`


class HomeSocket(trio.abc.AsyncResource):
    """The inner half of every socket."""

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
        checked_options(options).check_for(self.socket_type)
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
        if self._life is not _OPEN:
            if self._life is Life.NEW:
                raise StateError(f"this {type(self).__name__} is not open yet; enter the socket with async with")
            raise trio.ClosedResourceError(f"this {type(self).__name__} was closed")
        if get_ident() != self._thread:
            raise RuntimeError(
                f"this {type(self).__name__} belongs to another thread's event loop; use trio.from_thread"
            )

    def _intend_bind(self, endpoint: Bindable, options: Options) -> tuple[PreparedListener | Target, Options]:
        if isinstance(endpoint, PreparedListener):
            endpoint.check_for(self.socket_type)
            return endpoint, options
        return self._resolve(endpoint, options, binding=True), options

    def _resolve(self, endpoint: str, options: Options, *, binding: bool) -> Target:
        return resolve(endpoint, options, binding=binding, socket_type=self.socket_type)

    # Waiting.

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

    def _lingering(self, options: Options) -> float:
        if self.socket_type in _NO_LINGER and options.linger == Options.linger:
            return 0.0
        return options.linger

    async def _drain(self, pipes: list[Pipe], hosts: list[PartyHost], seconds: float) -> None:
        """Wait until the kernel has what is queued in *pipes* and *hosts* are done with it, at most so long."""
        if seconds <= 0.0:
            return
        with trio.move_on_after(seconds) as scope:
            while any(self._pipes[pipe].undelivered() for pipe in pipes if pipe in self._pipes):
                await self._watchers.park()
            for host in hosts:
                await host.drain(scope.deadline)

    def _disturb(self, error: type[trio.ClosedResourceError], text: str) -> None:
        """Wake every waiting call with an error; subclasses add theirs."""
        self._watchers.unpark_all()

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
        # What was queued may have been handed back, or be free to be asked again.
        self._writable(pipe)

    def retire(self, pipe: Pipe, stand_in: Pipe) -> None:
        """The connection of *pipe* is over; *stand_in* is the peer as it was. For sockets with messages in hand."""

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

    def _in_hand(self, pipe: Pipe) -> list[object]:
        """Messages of *pipe* that were taken from its queue and not received yet."""
        return []


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, PreparedListener)) else list(value)
