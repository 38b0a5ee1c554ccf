"""A publisher's end of a group: out of its mailbox, through a `Source`, into the kernel.

Sending is sync: the task only waits, for messages, for the rate, for requests or for the kernel. So whoever finds the
queue full can have it emptied on the spot, as far as rate and kernel allow, before a message counts as dropped.
"""

from __future__ import annotations

import errno
import math
import os
import random
import socket
from collections.abc import Callable
from typing import Final

import trio

from .._message import Peer
from .._options import Options
from .._pgm import DATA_HEADER_SIZE, EndpointFigures, Packet, PublisherFigures, Source, SourceSettings
from ._attachment import Attachment, Owner, Party
from ._multicast_address import MulticastAddress
from ._multicast_interfaces import Interface, find_interface
from ._multicast_sockets import connect_to_group, granted, is_full, open_sending
from ._pgm_alarm import Alarm
from ._pgm_refusals import Refusals
from ._pgm_upstream import Upstream, join_upstream, leave_upstream
from ._socket_link import close_socket

UNLIMITED_WINDOW: Final = 64 * 1024 * 1024
"""Bytes kept for repair where there is no rate to say how much is sent in a time."""

BATCH: Final = 128
"""Messages taken out of the queue at once. What they fill only in part goes out so, and they count as waiting until all
of them are sent."""

BURST: Final = 64
"""Datagrams between two looks at anything else."""

AT_ONCE_AFTER: Final = 0.0005
"""Seconds without a datagram from which on the next message is sent where it is queued, by its sender."""

_RESERVED: Final = 20
"""Bytes that libzmq leaves free in a packet, for an option that it never sends. So our packets are as long as its."""


def window_packets(options: Options) -> int | None:
    """Datagrams kept for repair, reckoned as libzmq does; None without a rate."""
    if options.multicast_rate is None:
        return None
    return max(1, int(options.multicast_rate / 8 * options.multicast_recovery / options.multicast_max_tpdu))


def header_size(family: int, *, raw: bool) -> int:
    """Bytes before a PGM packet: IP's, and UDP's."""
    return (40 if family == socket.AF_INET6 else 20) + (0 if raw else 8)


def _settings(address: MulticastAddress, interface: Interface, options: Options, *, raw: bool) -> SourceSettings:
    sport = random.randrange(1, 65535)
    overhead = header_size(interface.family, raw=raw)
    packets = window_packets(options)
    return SourceSettings(
        gsi=os.urandom(6),
        sport=sport if sport != address.port else 65535,  # RFC 3208: the two ports differ
        dport=address.port,
        path=interface.packed,
        group=socket.inet_pton(interface.family, address.target),
        largest=options.multicast_max_tpdu - overhead - DATA_HEADER_SIZE - _RESERVED,
        overhead=overhead,
        rate=math.inf if options.multicast_rate is None else options.multicast_rate / 8,
        packets=packets,
        window_bytes=UNLIMITED_WINDOW if packets is None else None,
    )


class Group:
    """The only peer of a publisher, as its pipe sees it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        """Nothing is said upstream."""

    def restart(self) -> None:
        """There is nothing to dial."""

    def looks(self) -> int:
        return 0

    def look(self) -> bool:
        return False

    def looked(self, found: bool) -> None:
        pass

    def close(self, error: Exception | None) -> None:
        self._publisher.close(error)

    def figures(self) -> PublisherFigures:
        return self._publisher.source.figures()


class Publisher(Attachment):
    """A PUB or XPUB at a group.

    Attributes:
        source: the session it publishes.
    """

    def __init__(self, address: MulticastAddress, make_party: Callable[[], Party], owner: Owner, *, raw: bool) -> None:
        options = owner.options
        self.endpoint = str(address)
        self._make_party = make_party
        self._owner = owner
        self._interface = interface = find_interface(address.interface, address.target, address.port)
        self._settings = settings = _settings(address, interface, options, raw=raw)
        self._session = (settings.gsi, settings.sport)
        self._peer = Peer(self.endpoint, f"{address.endpoint.scheme}://{_host_port(address)}", socket_type="SUB")
        hops, loop = options.multicast_hops, options.multicast_loop
        self._socket = open_sending(interface, options, hops=hops, loop=loop, raw=raw)
        try:
            connect_to_group(self._socket, interface, address.target, 0 if raw else address.port)
            self._upstream = self._join_upstream(address.port, raw=raw)
        except BaseException:
            close_socket(self._socket)
            raise
        self.source = Source(settings, trio.current_time())
        self._alarm = Alarm()
        self._unsent: bytes | None = None
        self._pumping = self._blocked = self._closed = False
        self._last_sent = -math.inf
        self._refusals = Refusals(self.endpoint, owner, self._peer.address, interface.address)
        self._scopes: list[trio.CancelScope] = []

    def _join_upstream(self, port: int, *, raw: bool) -> Upstream:
        try:
            return join_upstream(self._interface, port, self._session, self, raw=raw)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            raise OSError(exc.errno, f"{self.endpoint}: {exc.strerror}") from exc

    def __repr__(self) -> str:
        return f"<Publisher {self.endpoint}: {self.source!r}>"

    def start(self) -> None:
        options = self._owner.options
        self._party = party = self._make_party()
        _, self._outbound = party.open(Group(self), self._peer)
        if options.multicast_rate is not None:
            self._outbound.full_reason = "rate"
        self._outbound.on_item = self._wake
        self._outbound.on_full = self._make_room
        # Nobody can subscribe over multicast, so everything is sent.
        if not options.invert_matching:
            party.subscription(b"", True)
        party.begin()
        party.opened()
        self._scopes = [self._owner.start(self._send), self._owner.start(self._upstream.serve)]

    # Sending.

    def hear(self, packet: Packet) -> None:
        """A receiver asks for something."""
        reason = self.source.receive(packet, trio.current_time())
        if reason is None:
            self._alarm.ring()
        else:
            self._upstream.ignored[reason] += 1

    def _wake(self) -> None:
        """There is something to send. After a pause at once, else by the task, which joins what has come by then."""
        now = trio.current_time()
        at_once = now - self._last_sent > AT_ONCE_AFTER
        if not at_once or self._pump() or self._blocked or self.source.deadline(now) < self._alarm.set_for:
            self._alarm.ring()

    def _make_room(self) -> None:
        """The queue is full: send what rate and kernel allow at this moment."""
        self._pump()

    async def _send(self) -> None:
        """The task: until the endpoint is closed."""
        await trio.lowlevel.checkpoint()
        try:
            while not self._closed:
                if self._pump():
                    await trio.lowlevel.checkpoint()
                elif self._blocked:
                    await self._wait_for_kernel()
                else:
                    await self._alarm.sleep_until(self.source.deadline(trio.current_time()))
        except trio.ClosedResourceError:
            pass

    async def _wait_for_kernel(self) -> None:
        # ENOBUFS is a full queue of the interface. Nobody tells when it has room again, so there is a limit to waiting.
        with trio.move_on_after(0.01):
            await trio.lowlevel.wait_writable(self._socket)
        self._blocked = False

    def _pump(self) -> bool:
        """Send what may be sent now, at most a burst of it; True if there is more."""
        if self._pumping or self._closed or self._blocked:
            return False
        self._pumping = True
        try:
            now = trio.current_time()
            for _ in range(BURST):
                datagram = self._unsent or self.source.next(now)
                if datagram is not None:
                    if not self._sent(datagram, now):
                        return False
                elif not self._refill():
                    return False
            return True
        finally:
            self._pumping = False
            # Once a burst, for what goes well every time should cost a datagram nothing.
            if self._refusals.last_error is not None:
                self._refusals.note_success(self._last_sent)

    def _sent(self, datagram: bytes, now: float) -> bool:
        """Give *datagram* to the kernel; False if it has no room."""
        self._unsent = None
        try:
            self._socket.send(datagram)
        except OSError as exc:
            if is_full(exc):
                self._unsent, self._blocked = datagram, True
                return False
            # No route, no link: lost like any other, and repaired if the network comes back in time.
            self._refusals.note(exc, self._peer.address, now)
        self._last_sent = now
        return True

    def _refill(self) -> bool:
        """Everything that was taken has been sent: take more; False if there is nothing."""
        if self.source.unsent:
            return False  # the rate does not allow it yet
        outbound = self._outbound
        if outbound.batch:
            outbound.release()
        if outbound.items:
            self.source.add(outbound.hold(BATCH))
            return True
        if not outbound.asleep:
            outbound.sleep()
            self._party.idle()
        return False

    # The end.

    async def drain(self, deadline: float) -> None:
        """Say that nothing more comes, and stay for those who miss something, a second from the last data on."""
        self.source.finish(trio.current_time())
        self._alarm.ring()
        while (until := min(deadline, self.source.finished_at())) > trio.current_time():  # noqa: ASYNC110  # repairs put it off
            await trio.sleep_until(until)
        await trio.lowlevel.checkpoint()

    def close(self, error: Exception | None = None) -> None:
        if self._closed:
            return
        self._last_words()
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        close_socket(self._socket)
        leave_upstream(self._upstream, self._session)
        if self._scopes:
            self._party.part(error, [])

    def _last_words(self) -> None:
        """Tell receivers that this was all, as far as the kernel takes it without waiting."""
        self.source.withdraw()
        now = trio.current_time()
        self.source.finish(now)
        while (datagram := self.source.next_control()) is not None:
            if not self._sent(datagram, now):
                return

    @property
    def last_error(self) -> OSError | None:
        return self._refusals.last_error

    def figures(self) -> EndpointFigures:
        """What the sockets were granted, and what came that was of no use."""
        return EndpointFigures(
            send_buffer=granted(self._socket, socket.SO_SNDBUF),
            receive_buffer=granted(self._upstream.socket, socket.SO_RCVBUF),
            datagrams=self._upstream.datagrams,
            ignored=dict(self._upstream.ignored),
            refused=self._refusals.count,
        )


def _host_port(address: MulticastAddress) -> str:
    return f"[{address.target}]:{address.port}" if address.is_ipv6 else f"{address.target}:{address.port}"
