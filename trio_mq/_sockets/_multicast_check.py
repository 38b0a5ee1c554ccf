"""A self-test for multicast: what works on this machine, and in words what does not.

It publishes to the group and listens to it, both here, with the loop-back of multicast on. That shows most of what goes
wrong before a network is involved: privileges, interfaces, ports, firewalls, buffers. What it cannot show is what
switches and routers do with the group.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

import trio

from .._endpoint import parse_endpoint
from .._errors import EndpointError
from .._options import Options
from .._pgm import EndpointFigures, PublisherFigures, Spmr, encode_packet
from .._transports import transport_for
from .._transports._multicast_address import MulticastAddress
from .._transports._multicast_interfaces import Interface, find_interface
from .._transports._multicast_sockets import RECEIVE_BUFFER, open_sending
from ._pubsub import Pub, Sub

MESSAGES = 200
_WITHIN = 3.0
_SLOW = 1e6

_NOTHING = (
    "Nothing that was published to {where} came back. Is the interface up? Does a firewall (nftables, iptables, "
    "firewalld) let multicast to this port in, and {igmp} out?"
)
_SOME = (
    f"Of {MESSAGES} messages published to {{where}}, {{received}} came back in {_WITHIN:g} seconds. Is this machine "
    "very busy, or multicast_rate very low?"
)
_NO_REQUESTS = (
    "Requests to {host} do not reach the publisher, so nothing that is lost can be repaired. A firewall has to let "
    "{what} in, and no other program of this machine may publish at the same address and port."
)
_SMALL_BUFFER = (
    "The kernel grants a receive buffer of {granted} bytes instead of {wanted}: a subscriber that does something else "
    "for {lasts:.0f} ms at {rate:g} Mbit/s loses datagrams, which have to be sent again. As root: "
    "sysctl -w net.core.rmem_max={wanted}"
)
_IN_USE = (
    "Port {port} of {host} or {group} belongs to a program that does not share it, or to one of another user (Linux "
    "shares ports among the programs of one user). Take another port."
)


@dataclass(frozen=True)
class MulticastReport:
    """What `check_multicast` found.

    Attributes:
        endpoint: what was tested.
        interface: our address on the interface that was used; empty if none was found.
        sent, received: messages published, and those that came back.
        receive_buffer: bytes that the kernel granted a subscriber.
        problems: what is wrong, and what to do about it, a sentence or two each.
    """

    endpoint: str
    interface: str = ""
    sent: int = 0
    received: int = 0
    receive_buffer: int = 0
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


async def check_multicast(endpoint: str, options: Options | None = None) -> MulticastReport:
    """Test *endpoint* (``epgm://eth0;239.192.1.1:5555``) by publishing to it and listening to it, here.

    Takes some seconds at most. Subscribers elsewhere hear the messages of the test; they begin with
    ``trio_mq self-test``.
    Cancelled: its sockets are closed.

    Args:
        endpoint: what is to be tested.
        options: as publishers and subscribers will have them; ``multicast_loop`` is always on.

    Raises:
        EndpointError: *endpoint* cannot be meant, or is no multicast.
    """
    parsed = parse_endpoint(endpoint)
    address = transport_for(parsed).parse(parsed, binding=True)
    if not isinstance(address, MulticastAddress):
        raise EndpointError(endpoint, "the self-test is for pgm:// and epgm://")
    await trio.lowlevel.checkpoint()
    report = MulticastReport(endpoint)
    try:
        interface = find_interface(address.interface, address.target, address.port)
    except OSError as exc:
        return replace(report, problems=(f"{exc.strerror or exc}.",))
    report = replace(report, interface=interface.address)
    chosen = replace(options or Options(), multicast_loop=True, linger=0.0, send_hwm=None, receive_hwm=None)
    try:
        async with Sub(connect=endpoint, topics=b"trio_mq self-test", options=chosen) as sub:
            async with Pub(bind=endpoint, options=chosen) as pub:
                return await _exchange(report, address, interface, pub, sub)
    except OSError as exc:
        return replace(report, problems=(_in_words(exc, address, interface),))


async def _exchange(
    report: MulticastReport, address: MulticastAddress, interface: Interface, pub: Pub, sub: Sub
) -> MulticastReport:
    received = 0
    with trio.move_on_after(_WITHIN):
        await trio.lowlevel.checkpoint()
        # The first ones may be gone before the kernel has joined the group.
        while not sub.statistics().peers:
            await pub.send(b"trio_mq self-test begins")
            await trio.sleep(0.05)
        for number in range(MESSAGES):
            await pub.send(b"trio_mq self-test %05d" % number + bytes(900))
        while received < MESSAGES:
            received += not (await sub.receive()).endswith(b"begins")
    asked = await _request_arrives(address, interface, pub)
    figures = sub.statistics().endpoints[0].multicast
    assert figures is not None
    problems = [*_about_messages(received, address, interface), *_about_requests(asked, address, interface)]
    problems += _about_buffers(figures, sub.options)
    return replace(
        report,
        sent=MESSAGES,
        received=received,
        receive_buffer=figures.receive_buffer,
        problems=tuple(problems),
    )


async def _request_arrives(address: MulticastAddress, interface: Interface, pub: Pub) -> bool:
    """Whether *pub* hears what a receiver asks of it, as it would if it missed something."""
    before = _datagrams(pub)
    await trio.lowlevel.checkpoint()
    if _ask(address, interface, pub):
        with trio.move_on_after(1.0):
            await trio.lowlevel.checkpoint()
            while _datagrams(pub) == before:  # noqa: ASYNC110  # nobody tells of a datagram
                await trio.sleep(0.01)
    return _datagrams(pub) > before


def _ask(address: MulticastAddress, interface: Interface, pub: Pub) -> bool:
    """Ask *pub* for an SPM, which it gives to anybody; whether the kernel lets us."""
    figures = pub.statistics().peers[0].multicast
    assert isinstance(figures, PublisherFigures)
    gsi, _, sport = figures.session.partition(".")
    request = encode_packet(Spmr(bytes.fromhex(gsi), int(sport), address.port))
    raw = address.endpoint.scheme == "pgm"
    try:
        with open_sending(interface, pub.options, hops=1, loop=True, raw=raw) as asking:
            asking.sendto(request, interface.sockaddr(interface.address, 0 if raw else address.port))
    except OSError:
        return False
    return True


def _datagrams(pub: Pub) -> int:
    figures = pub.statistics().endpoints[0].multicast
    return 0 if figures is None else figures.datagrams


def _about_messages(received: int, address: MulticastAddress, interface: Interface) -> list[str]:
    where = f"{address.target} port {address.port} on the interface with {interface.address}"
    if not received:
        igmp = "MLD" if address.is_ipv6 else "IGMP"
        return [_NOTHING.format(where=where, igmp=igmp)]
    return [] if received == MESSAGES else [_SOME.format(where=where, received=received)]


def _about_requests(asked: bool, address: MulticastAddress, interface: Interface) -> list[str]:
    what = "IP protocol 113" if address.endpoint.scheme == "pgm" else f"UDP to port {address.port}"
    return [] if asked else [_NO_REQUESTS.format(host=interface.address, what=what)]


def _about_buffers(figures: EndpointFigures, options: Options) -> list[str]:
    wanted, rate = options.receive_buffer or RECEIVE_BUFFER, options.multicast_rate
    if figures.receive_buffer >= wanted or rate is None or rate <= _SLOW:
        return []
    # The kernel charges about twice what comes.
    lasts = figures.receive_buffer / 2 / (rate / 8) * 1000
    return [_SMALL_BUFFER.format(granted=figures.receive_buffer, wanted=wanted, lasts=lasts, rate=rate / 1e6)]


def _in_words(error: OSError, address: MulticastAddress, interface: Interface) -> str:
    if error.errno == errno.EADDRINUSE:
        return _IN_USE.format(port=address.port, host=interface.address, group=address.target)
    return f"{error.strerror or error}."
