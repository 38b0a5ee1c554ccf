"""A self-test for multicast: what works on this machine, and in words what does not.

It publishes to the group and listens to it, both here, with the loop-back of multicast on. That shows most of what goes
wrong before a network is involved: privileges, interfaces, ports, firewalls, buffers. What it cannot show is what
switches and routers do with the group.

The system is asked about its interfaces first: what does not come back through one that is down is no firewall's fault.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

import trio

from .._endpoint import parse_endpoint
from .._errors import EndpointError
from .._options import Options, checked_options
from .._pgm import EndpointFigures, PublisherFigures, Spmr, encode_packet
from .._transports import transport_for
from .._transports._multicast_address import MulticastAddress
from .._transports._multicast_interfaces import Interface, Link, find_interface, find_link, interface_name
from .._transports._multicast_sockets import RECEIVE_BUFFER, open_sending, port_is_taken
from ._pubsub import Pub, Sub

MESSAGES = 200
_SIZE = 923
_WITHIN = 3.0
_SLOW = 1e6
_LOOPBACK = "lo"

_NOTHING = (
    "Nothing that was published to {where} came back. Is the interface up? Does a firewall (nftables, iptables, "
    "firewalld) let multicast to this port in, and {igmp} out?"
)
_SOME = (
    "Of {sent} messages published to {where}, {received} came back in {within:g} seconds. Is this machine very busy, "
    "or multicast_rate very low?"
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
_DOWN = "The interface {name} is down. As root: ip link set {name} up"
_NO_CARRIER = (
    "The interface {name} is up but has no carrier, so nothing leaves it. Is the cable plugged in, and the other end "
    "up?"
)
_LOOPBACK_DOWN = (
    "The interface {name} is down, through which this machine talks to itself: requests of subscribers here do not "
    "reach publishers here, so nothing that they lose can be repaired. As root: ip link set {name} up"
)
_SMALL_MTU = (
    "The interface {name} takes packets of at most {mtu} bytes, and multicast_max_tpdu is {tpdu}: each full datagram "
    "goes out in fragments, and who loses one of them loses all. Take Options(multicast_max_tpdu={mtu})."
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
        endpoint: what is to be tested. Messages go to the group that it sends to; that one is heard, and those that it
            hears are joined.
        options: as publishers and subscribers will have them. What they say of the network counts (``multicast_...``
            and the buffers); ``multicast_loop`` is always on.

    Raises:
        EndpointError: *endpoint* cannot be meant, or is no multicast, or *options* ask for security.
        ValueError: ``multicast_max_tpdu`` is too small for IPv6.
    """
    chosen = _for_the_test(Options() if options is None else checked_options(options))
    parsed = parse_endpoint(endpoint)
    address = transport_for(parsed).parse(parsed, binding=True)
    if not isinstance(address, MulticastAddress):
        raise EndpointError(endpoint, "the self-test is for pgm:// and epgm://")
    transport_for(parsed).check(address, chosen)
    await trio.lowlevel.checkpoint()
    report = MulticastReport(endpoint)
    try:
        interface = find_interface(address.interface, address.target, address.port)
    except OSError as exc:
        # That it has no address, too, may come of its being down.
        return replace(report, problems=tuple(_about_down(_meant(address)) or [f"{exc.strerror or exc}."]))
    report = replace(report, interface=interface.address)
    link, loopback = find_link(interface_name(interface.index)), find_link(_LOOPBACK)
    if down := _about_down(link):
        return replace(report, problems=tuple(down))
    about_links = _about_links(link, loopback, chosen)
    try:
        async with Sub(connect=_heard(address), topics=b"trio_mq self-test", options=chosen) as sub:
            async with Pub(bind=endpoint, options=chosen) as pub:
                found = await _exchange(report, address, interface, pub, sub, repairable=not _is_down(loopback))
    except OSError as exc:
        return replace(report, problems=(_in_words(exc, address, interface), *about_links))
    return replace(found, problems=(*about_links, *found.problems))


def _for_the_test(options: Options) -> Options:
    """What *options* say of the network.

    What they say of messages is for others than those of the test: a limit, a rule by which only some are kept. And
    what is for publishers alone a subscriber would refuse.
    """
    return Options(
        multicast_rate=options.multicast_rate,
        multicast_recovery=options.multicast_recovery,
        multicast_max_tpdu=options.multicast_max_tpdu,
        multicast_hops=options.multicast_hops,
        multicast_loop=True,
        send_buffer=options.send_buffer,
        receive_buffer=options.receive_buffer,
        security=options.security,
        authenticator=options.authenticator,
        linger=0.0,
        send_hwm=None,
        receive_hwm=None,
    )


def _heard(address: MulticastAddress) -> str:
    """The endpoint that hears all groups of *address*, and what the test sends, which others may hear alone."""
    groups = dict.fromkeys((*address.groups, address.target))
    listed = ",".join(f"[{group}]" if address.is_ipv6 else group for group in groups)
    return f"{address.endpoint.scheme}://{address.interface};{listed}:{address.port}"


def _meant(address: MulticastAddress) -> Link | None:
    """The link that *address* names. An interface that is down may have lost its addresses, or not got them yet."""
    loopback = address.interface == "::1" or address.interface.startswith("127.")
    return find_link(_LOOPBACK if loopback else address.interface)


def _messages(rate: float | None) -> int:
    """How many messages there is time for at *rate*, with as much again for whatever else is slow."""
    return MESSAGES if rate is None else max(1, min(MESSAGES, int(rate / 8 * _WITHIN / 2 / (_SIZE + 100))))


async def _exchange(
    report: MulticastReport, address: MulticastAddress, interface: Interface, pub: Pub, sub: Sub, *, repairable: bool
) -> MulticastReport:
    received, sent = 0, _messages(pub.options.multicast_rate)
    with trio.move_on_after(_WITHIN):
        await trio.lowlevel.checkpoint()
        # The first ones may be gone before the kernel has joined the group.
        while not sub.statistics().peers:
            await pub.send(b"trio_mq self-test begins")
            await trio.sleep(0.05)
        for number in range(sent):
            await pub.send((b"trio_mq self-test %05d" % number).ljust(_SIZE, b"\0"))
        while received < sent:
            received += not (await sub.receive()).endswith(b"begins")
    # Without the loopback interface no request to ourselves can arrive, whatever a firewall does.
    asked = await _request_arrives(address, interface, pub) if repairable else True
    figures = sub.statistics().endpoints[0].multicast
    assert figures is not None
    problems = [*_about_messages(received, sent, address, interface), *_about_requests(asked, address, interface)]
    problems += _about_buffers(figures, sub.options)
    return replace(
        report,
        sent=sent,
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


def _is_down(link: Link | None) -> bool:
    return link is not None and not link.up


def _about_down(link: Link | None) -> list[str]:
    return [] if link is None or link.up else [_DOWN.format(name=link.name)]


def _about_links(link: Link | None, loopback: Link | None, options: Options) -> list[str]:
    """What is wrong with an interface that is up, and with the one for what stays in this machine."""
    problems = []
    if link is not None and not link.running:
        problems.append(_NO_CARRIER.format(name=link.name))
    if loopback is not None and _is_down(loopback):
        problems.append(_LOOPBACK_DOWN.format(name=loopback.name))
    if link is not None and link.mtu < options.multicast_max_tpdu:
        problems.append(_SMALL_MTU.format(name=link.name, mtu=link.mtu, tpdu=options.multicast_max_tpdu))
    return problems


def _about_messages(received: int, sent: int, address: MulticastAddress, interface: Interface) -> list[str]:
    where = f"{address.target} port {address.port} on the interface with {interface.address}"
    if not received:
        igmp = "MLD" if address.is_ipv6 else "IGMP"
        return [_NOTHING.format(where=where, igmp=igmp)]
    return [] if received == sent else [_SOME.format(where=where, sent=sent, received=received, within=_WITHIN)]


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
        text = port_is_taken(address.port, interface.address, address.target)
    else:
        text = error.strerror or str(error)
    return f"{text[:1].upper()}{text[1:]}."
