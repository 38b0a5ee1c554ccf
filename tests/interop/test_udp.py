"""RADIO, DISH and DGRAM over udp, with libzmq at the other end, and with plain sockets that tell the bytes.

RADIO and DISH need a libzmq built with draft sockets. DGRAM is there in every build of libzmq, undocumented.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from trio_mq import Datagram, Dgram, Dish, GroupMessage, Options, Radio

from ._messages import Frame, Pattern, as_seen, built, whole
from ._process import DEADLINE, Peer, PeerSocket

BRIEF = 0.05
GROUPS = (b"", b"g", b"Movies", b"x" * 255)
SAFE_GROUPS = (b"", b"g", b"Movies", b"x" * 127)
"""With a longer one a DISH of libzmq up to 4.3.5 aborts."""
WAYS = ["127.0.0.1", "127.0.0.1;239.255.9.1", "[::1]", "[ff11::9:1]"]
IPV6 = Options(ipv6=True)


def sizes(group: bytes) -> tuple[int, ...]:
    """Of bodies up to the largest that a datagram of *group* can have."""
    return (0, 1, 255, 256, 1472, 8191 - len(group))


@pytest.fixture
def drafts(start_peer: Callable[[str], Peer]) -> Peer:
    """A process whose libzmq has draft sockets."""
    return start_peer("drafts")


@pytest.fixture(params=WAYS)
def endpoint(request: pytest.FixtureRequest) -> str:
    """An endpoint that can be bound and connected, unicast or multicast."""
    way = str(request.param)
    if way.startswith("[ff11"):  # a group that never leaves this machine
        way = f"{interface_with_ipv6_groups()};{way}"
    try:
        with socket.socket(socket.AF_INET6 if "::" in way else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1" if way == "[::1]" else "", 0))
            return f"udp://{way}:{probe.getsockname()[1]}"
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6: {exc}")


def interface_with_ipv6_groups() -> str:
    for index, name in socket.if_nameindex():
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            probe.sendto(b"", ("ff11::9:1", 9))
            return name
    pytest.skip("this machine has no interface for IPv6 multicast")


async def until_heard(dish: PeerSocket, radio: Radio) -> None:
    """Return when *dish* hears: libzmq binds some time after bind() has returned."""
    with trio.fail_after(DEADLINE):
        while await dish.peer.call("receive_of", socket=dish._number, seconds=BRIEF) is None:
            await radio.send(b"hello", group=b"g")


@pytest.mark.parametrize("group", SAFE_GROUPS)
async def test_their_dish_hears_our_radio(drafts: Peer, endpoint: str, group: bytes) -> None:
    theirs = await drafts.open("DISH", IPV6=int("::" in endpoint))
    for each in SAFE_GROUPS:
        await theirs.join(each)
    await theirs.bind(endpoint)
    async with Radio(connect=endpoint, options=IPV6) as radio:
        await until_heard(theirs, radio)
        for size in sizes(group):
            await radio.send(b"for nobody", group=b"not " + group[:100])
            await radio.send(built(Pattern(size)), group=group)
            heard = await theirs.receive_of()
            while heard == [b"g", b"hello"]:
                heard = await theirs.receive_of()
            assert heard == as_seen([group, Pattern(size)])


@pytest.mark.parametrize("group", GROUPS)
async def test_our_dish_hears_their_radio(drafts: Peer, endpoint: str, group: bytes) -> None:
    theirs = await drafts.open("RADIO", IPV6=int("::" in endpoint))
    async with Dish(bind=endpoint, groups=group, options=IPV6) as dish:
        await theirs.connect(endpoint)
        for size in sizes(group):
            await theirs.send_to(b"not " + group[:200], b"for others")
            await theirs.send_to(group, Pattern(size))
            with trio.fail_after(DEADLINE):
                assert await dish.receive() == GroupMessage(group, built(Pattern(size)))


async def test_what_is_too_long_for_a_datagram_is_sent_by_neither(drafts: Peer) -> None:
    theirs = await drafts.open("RADIO")
    async with Dish(bind="udp://127.0.0.1:*", groups=b"g") as dish:
        assert dish.last_endpoint is not None
        await theirs.connect(dish.last_endpoint)
        async with Radio(connect=dish.last_endpoint) as radio:
            await theirs.send_to(b"g", Pattern(8191))
            await theirs.send_to(b"g", b"theirs")
            with trio.fail_after(DEADLINE):
                assert await dish.receive() == (b"g", b"theirs")
            await radio.send(built(Pattern(8191)), group=b"g")
            await radio.send(b"ours", group=b"g")
            with trio.fail_after(DEADLINE):
                assert await dish.receive() == (b"g", b"ours")
            assert radio.statistics().dropped == {"too-large": 1}


@pytest.mark.parametrize("endpoint", ["127.0.0.1;239.255.9.2", "[ff11::9:2]"], indirect=True)
async def test_ours_and_theirs_listen_to_one_group_together(drafts: Peer, endpoint: str) -> None:
    their_dish = await drafts.open("DISH", IPV6=int("::" in endpoint))
    await their_dish.join(b"g")
    await their_dish.bind(endpoint)
    async with (
        Dish(bind=endpoint, groups=b"g", options=IPV6) as one,
        Dish(bind=endpoint, groups=b"g", options=IPV6) as two,
        Radio(connect=endpoint, options=IPV6) as radio,
    ):
        await until_heard(their_dish, radio)
        await radio.send(b"to all", group=b"g")
        for dish in (one, two):
            with trio.fail_after(DEADLINE):
                while await dish.receive() != (b"g", b"to all"):
                    pass
        while await their_dish.receive_of() != [b"g", b"to all"]:
            pass


async def test_no_group_is_sent_that_ends_their_process(drafts: Peer, endpoint: str) -> None:
    theirs = await drafts.open("DISH", IPV6=int("::" in endpoint))
    await theirs.join(b"g")
    await theirs.bind(endpoint)
    async with Radio(connect=endpoint, options=IPV6) as radio:
        await until_heard(theirs, radio)
        await radio.send(b"", group=b"x" * 128)
        await radio.send(b"alive", group=b"g")
        while await theirs.receive_of() != [b"g", b"alive"]:
            pass
        assert radio.statistics().dropped == {"too-large": 1}


@asynccontextmanager
async def plain_socket(host: str = "127.0.0.1") -> AsyncIterator[tuple[trio.socket.SocketType, str]]:
    """A plain socket, and the address it is bound to."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((host, 0))
        yield sock, f"{host}:{sock.getsockname()[1]}"


async def heard(sock: trio.socket.SocketType, count: int) -> list[bytes]:
    datagrams: list[bytes] = []
    while len(datagrams) < count:
        with trio.fail_after(DEADLINE):
            datagrams.append(await sock.recv(65536))
    return datagrams


MESSAGES: Sequence[tuple[bytes, Frame]] = [
    (b"Movies", b"Godfather"),
    (b"", b""),
    (b"g", b""),
    (b"x" * 127, Pattern(8064)),
]


async def test_their_bytes_of_a_radio_are_ours(drafts: Peer) -> None:
    theirs = await drafts.open("RADIO")
    async with plain_socket() as (sock, address), Radio(connect=f"udp://{address}") as radio:
        await theirs.connect(f"udp://{address}")
        for group, body in MESSAGES:
            await theirs.send_to(group, body)
        said = await heard(sock, len(MESSAGES))
        await radio.send_many([(group, built(body)) for group, body in MESSAGES])
        assert await heard(sock, len(MESSAGES)) == said
    assert said[0].hex() == "064d6f76696573476f64666174686572"


# ---- DGRAM


async def until_answered(theirs: PeerSocket, dgram: Dgram, address: str) -> str:
    """What *theirs* calls *dgram*, once it is bound."""
    with trio.fail_after(DEADLINE):
        while True:
            await dgram.send(b"hello", address)
            message = await theirs.receive_within(BRIEF)
            if message is not None:
                assert message[1] == b"hello"
                return whole(message[0]).decode()


@asynccontextmanager
async def both_bound(pyzmq: Peer) -> AsyncIterator[tuple[Dgram, PeerSocket, str, str]]:
    """A DGRAM of ours and one of theirs, the address of ours as they say it, and theirs as we say it."""
    theirs = await pyzmq.open("DGRAM")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        their_address = f"127.0.0.1:{probe.getsockname()[1]}"
    await theirs.bind(f"udp://{their_address}")
    async with Dgram(bind="udp://127.0.0.1:*") as dgram:
        yield dgram, theirs, await until_answered(theirs, dgram, their_address), their_address


async def test_a_dgram_talks_to_theirs_both_ways(pyzmq: Peer) -> None:
    async with both_bound(pyzmq) as (dgram, theirs, our_address, their_address):
        assert dgram.last_endpoint == f"udp://{our_address.rstrip(chr(0))}"
        for size in (0, 1, 255, 1472, 8192):
            await dgram.send(built(Pattern(size)), their_address)
            received = await theirs.receive()
            while received[1:] == [b"hello"]:
                received = await theirs.receive()
            assert received == as_seen([our_address.encode(), Pattern(size)])
            await theirs.send([our_address.encode(), Pattern(size)])
            with trio.fail_after(DEADLINE):
                assert await dgram.receive() == Datagram(built(Pattern(size)), their_address)


async def test_their_form_of_an_address_can_be_sent_to(pyzmq: Peer) -> None:
    async with both_bound(pyzmq) as (dgram, theirs, our_address, their_address):
        assert our_address.endswith("\0")  # libzmq's
        await dgram.send_multipart([their_address.encode() + b"\0", b"with a zero byte"])
        received = await theirs.receive()
        while received[1:] == [b"hello"]:
            received = await theirs.receive()
        assert received[1:] == [b"with a zero byte"]


async def test_a_dgram_hears_a_group_and_sends_to_it(pyzmq: Peer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    theirs = await pyzmq.open("DGRAM")
    endpoint = f"udp://127.0.0.1;239.255.9.3:{port}"
    async with Dgram(bind=endpoint) as dgram:
        await theirs.bind(endpoint)
        await until_answered(theirs, dgram, f"239.255.9.3:{port}")
        with trio.fail_after(DEADLINE):
            assert (await dgram.receive()).body == b"hello"  # its own: multicast comes back unless told otherwise
