"""A subscriber's end of a group: out of the kernel, through a `Receiver`, into a mailbox for each publisher.

What a mailbox has no room for stays with the receiver, and nothing more is read from the kernel until there is room: as
on every transport, nothing is dropped here. If it takes too long the kernel's buffer overflows, which PGM repairs as
long as publishers still have what is missing.
"""

from __future__ import annotations

import errno
import functools
import random
import socket
from collections.abc import Callable
from typing import Final

import trio

from .._events import DataLost
from .._mailbox import Mailbox
from .._message import Peer
from .._options import Options
from .._pgm import MASK, EndpointFigures, Gap, Receiver, ReceiverSettings, Request, Session, SubscriberFigures
from ._attachment import Attachment, Owner, Party
from ._multicast_address import MulticastAddress
from ._multicast_interfaces import find_interface
from ._multicast_sockets import granted, is_full, open_hearing, open_sending
from ._pgm_alarm import Alarm
from ._pgm_backlog import Backlog
from ._pgm_publisher import UNLIMITED_WINDOW, window_packets
from ._pgm_refusals import Refusals
from ._socket_link import close_socket

BATCH: Final = 64
"""Datagrams between two looks at anything else."""

LEAST_SLEEP: Final = 0.001
"""Seconds between two looks at what is due."""

LEAST_WINDOW: Final = 16384
"""Datagrams of one publisher that may be waited for, at least. A window smaller than the publisher's gives up what
could be had, and a larger one costs nothing until something is lost."""


def _settings(address: MulticastAddress, options: Options) -> ReceiverSettings:
    packets = window_packets(options)
    window = max(LEAST_WINDOW, packets or UNLIMITED_WINDOW // 1024)
    return ReceiverSettings(
        dport=address.port,
        window=window,
        max_message_size=options.max_message_size,
        max_frames=options.max_frames,
        max_waiting=max(UNLIMITED_WINDOW, (packets or 0) * options.multicast_max_tpdu),
    )


class Hearing:
    """One publisher, as its pipe sees it: its session, and the party and the mailbox that its messages are for."""

    def __init__(self, subscriber: Subscriber, session: Session, party: Party) -> None:
        self._subscriber = subscriber
        self._session = session
        self._broken = self._malformed = 0
        self.party = party
        self.inbound: Mailbox = Mailbox(None)

    def begin(self, peer: Peer) -> None:
        """The publisher was heard for the first time."""
        self.peer = peer
        self.inbound, self._outbound = self.party.open(self, peer)
        self.inbound.on_room = self._deliver_more
        self._outbound.on_item = self._refuse
        self.party.begin()
        self.party.opened()

    def deliver(self) -> bool:
        """Take what the session has, as far as the mailbox has room; False if it has none."""
        session, inbound = self._session, self.inbound
        while session.window.ready:
            if inbound.room() <= 0:
                inbound.full = True
                return False
            taken = session.take()
            if isinstance(taken, Gap):
                self._subscriber.lost(self.peer, taken)
            elif taken:
                accepted = self.party.accept(taken)
                if accepted:
                    inbound.put_all(accepted)
            self._count_drops()
        return True

    def _count_drops(self) -> None:
        unpacker = self._session.unpacker
        if unpacker.broken > self._broken:
            self.party.drop("lost", unpacker.broken - self._broken)
            self._broken = unpacker.broken
        if unpacker.malformed > self._malformed:
            self.party.drop("malformed", unpacker.malformed - self._malformed)
            self._malformed = unpacker.malformed

    def end(self, error: Exception | None) -> None:
        """The publisher is gone: what is half here will never be whole."""
        self._session.unpacker.reset()
        self._count_drops()
        self.party.part(error, [])

    def _deliver_more(self) -> None:
        self._subscriber.deliver_more(self)

    def _refuse(self) -> None:
        """An XSUB sends something, and there is no way upstream for it."""
        self.party.drop("unroutable", len(self._outbound.take(len(self._outbound))))
        self._outbound.sleep()

    # The connection.

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        """Publishers send everything; the pattern filters."""

    def restart(self) -> None:
        """There is nothing to dial."""

    def looks(self) -> int:
        return 0

    def look(self) -> bool:
        return False

    def looked(self, found: bool) -> None:
        pass

    def close(self, error: Exception | None) -> None:
        self._subscriber.part(self._session, error)

    def figures(self) -> SubscriberFigures:
        return self._session.figures()


class Subscriber(Attachment):
    """A SUB or XSUB at one or several groups."""

    def __init__(self, address: MulticastAddress, make_party: Callable[[], Party], owner: Owner, *, raw: bool) -> None:
        options = owner.options
        self.endpoint = str(address)
        self._scheme = address.endpoint.scheme
        self._make_party = make_party
        self._owner = owner
        self._interface = interface = find_interface(address.interface, address.target, address.port)
        self._port = 0 if raw else address.port
        self._backlog = Backlog(headers=raw and interface.family == socket.AF_INET)
        self._advance_at = 0.0
        self._receiver = Receiver(_settings(address, options), random.uniform)
        self._hearings: dict[Session, Hearing] = {}
        self._stuffed: dict[Hearing, None] = {}
        self._room = trio.Event()
        self._alarm = Alarm()
        self._refusals = Refusals(self.endpoint, owner, self.endpoint, interface.address)
        self._scopes: list[trio.CancelScope] = []
        self._closed = False
        self._sockets: list[tuple[socket.socket, bytes]] = []
        try:
            # As far as the next router, and that is as far as a request for an SPM has to be heard by others.
            self._asking = open_sending(interface, options, hops=1, loop=True, raw=raw)
            self._open_groups(address, options, raw=raw)
        except BaseException:
            self._close_sockets()
            raise

    def __repr__(self) -> str:
        return f"<Subscriber {self.endpoint}: {len(self._hearings)} publishers>"

    def _open_groups(self, address: MulticastAddress, options: Options, *, raw: bool) -> None:
        for group in dict.fromkeys(address.groups):
            sock = open_hearing(self._interface, group, address.port, options, raw=raw)
            self._sockets.append((sock, socket.inet_pton(self._interface.family, group)))

    def start(self) -> None:
        self._scopes = [self._owner.start(self._keep_time)]
        self._scopes += [self._owner.start(self._listen, sock, group) for sock, group in self._sockets]

    # Reading.

    async def _listen(self, sock: socket.socket, group: bytes) -> None:
        """A task for each group: until the endpoint is closed."""
        await trio.lowlevel.checkpoint()
        try:
            while not self._closed:
                if self._stuffed:
                    await self._room.wait()
                elif self._backlog:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(sock)
                if not self._closed:
                    self._backlog.take_from(sock, group, trio.current_time())
                    self._work()
        except trio.ClosedResourceError:
            pass

    def _work(self) -> None:
        """Work on a batch of what has come, as far as there is room for messages."""
        receiver = self._receiver
        for _ in range(min(BATCH, len(self._backlog))):
            if self._stuffed:
                break
            at, datagram, host, group = self._backlog.pop()
            session = receiver.receive(datagram, _packed(self._interface.family, host), group, at)
            if session is not None:
                self._deliver(session)
            if self._backlog and at >= self._advance_at:
                self._advance(at)
        if receiver.ended:
            self._part_ended()
        if receiver.deadline() < self._alarm.set_for:
            self._alarm.ring()

    def _deliver(self, session: Session) -> None:
        if session.window.ready or session not in self._hearings:
            hearing = self._hearings.get(session) or self._hear(session)
            if not hearing.deliver():
                if not self._stuffed:
                    self._room = trio.Event()
                self._stuffed[hearing] = None

    def _hear(self, session: Session) -> Hearing:
        self._part_ended()  # it may be there in place of another
        hearing = self._hearings[session] = Hearing(self, session, self._make_party())
        host = socket.inet_ntop(self._interface.family, session.key.origin)
        host = f"[{host}]" if ":" in host else host
        address = f"{self._scheme}://{host}#{session.key.gsi.hex()}.{session.key.sport}"
        hearing.begin(Peer(self.endpoint, address, socket_type="PUB"))
        return hearing

    def deliver_more(self, hearing: Hearing) -> None:
        """There is room again in the mailbox of *hearing*."""
        if hearing in self._stuffed and hearing.deliver():
            self._stuffed.pop(hearing, None)
            if not self._stuffed:
                self._room.set()

    def lost(self, peer: Peer, gap: Gap) -> None:
        """Datagrams of *peer* will never come."""
        first, last = gap.first & MASK, gap.last & MASK
        count = gap.last - gap.first + 1
        self._owner.report(DataLost(endpoint=self.endpoint, peer=peer, first=first, last=last, count=count))

    # Time.

    async def _keep_time(self) -> None:
        """The task that asks for what is missing: until the endpoint is closed."""
        await trio.lowlevel.checkpoint()
        while not self._closed:
            # While there is a backlog time goes by what came, or it would be asked for what lies there.
            if not self._backlog:
                self._advance(trio.current_time())
            await self._alarm.sleep_until(max(self._receiver.deadline(), trio.current_time() + LEAST_SLEEP))

    def _advance(self, now: float) -> None:
        """Ask for what is due at the time *now*, and deliver what stands behind what is given up."""
        for request in self._receiver.advance(now):
            self._ask(request, now)
        for session in list(self._hearings):
            if session.window.ready and self._hearings[session] not in self._stuffed:
                self._deliver(session)
        self._part_ended()
        self._advance_at = now + LEAST_SLEEP

    def _ask(self, request: Request, now: float) -> None:
        packed = request.group if request.address is None else request.address
        host = socket.inet_ntop(self._interface.family, packed)
        try:
            self._asking.sendto(request.datagram, self._interface.sockaddr(host, self._port))
        except OSError as exc:
            # As good as lost, and asked again in time; but if it goes on, data is lost of which this is the cause.
            if not is_full(exc):
                self._refusals.note(exc, host, now)
        else:
            self._refusals.note_success(now)

    # The end.

    def _part_ended(self) -> None:
        ended = self._receiver.ended[:]
        self._receiver.ended.clear()
        for session, reason in ended:
            self._let_go(session, None if session.fin else TimeoutError(errno.ETIMEDOUT, reason))

    def part(self, session: Session, error: Exception | None) -> None:
        """The program wants to hear no more of *session*. If it says more it is a new one."""
        self._receiver.sessions.pop(session.key, None)
        self._let_go(session, error)

    def _let_go(self, session: Session, error: Exception | None) -> None:
        hearing = self._hearings.pop(session, None)
        if hearing is not None:
            self._stuffed.pop(hearing, None)
            if not self._stuffed:
                self._room.set()
            hearing.end(error)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._room.set()
        for scope in self._scopes:
            scope.cancel()
        self._close_sockets()
        for session in list(self._hearings):
            self._let_go(session, None)

    def _close_sockets(self) -> None:
        for sock, _ in self._sockets:
            close_socket(sock)
        if hasattr(self, "_asking"):
            close_socket(self._asking)

    @property
    def last_error(self) -> OSError | None:
        return self._refusals.last_error

    def figures(self) -> EndpointFigures:
        """What the sockets were granted, and what came that was of no use."""
        return EndpointFigures(
            send_buffer=granted(self._asking, socket.SO_SNDBUF),
            receive_buffer=granted(self._sockets[0][0], socket.SO_RCVBUF),
            datagrams=self._receiver.datagrams,
            ignored=dict(self._receiver.ignored),
            refused=self._refusals.count,
        )


@functools.lru_cache(maxsize=1024)
def _packed(family: int, host: str) -> bytes:
    return socket.inet_pton(family, host.partition("%")[0])
