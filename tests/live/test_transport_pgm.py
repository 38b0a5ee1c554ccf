"""Multicast over the loopback interface: our sockets among themselves, and strangers that forge packets.

Loss between real hosts is the business of tests/interop; here a forger sends exactly what a test wants to be heard.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

import trio_mq
from trio_mq import EndpointError, Options, Pub, Sub, XPub, XSub
from trio_mq._pgm import Data, Nak, Packet, Spm, Spmr, encode_packet, encode_v1, parse_packet
from trio_mq._pgm._packets import checksum
from trio_mq._transports import _multicast_sockets, _pgm_publisher, _pgm_refusals, _pgm_subscriber
from trio_mq.events import Connected, DataLost, DialFailed, Disconnected, HandshakeSucceeded

LOCAL = "127.0.0.1"
GROUP = "239.192.77.1"
AT_ONCE = Options(linger=0)
GSI = b"forger"
IP_RECVTTL = 12  # Linux


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOCAL, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def endpoint(port: int) -> str:
    return f"epgm://{LOCAL};{GROUP}:{port}"


def may_open_raw() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 113).close()
    except PermissionError:
        return False
    return True


AGAIN = "TRIO_MQ_TESTS_AGAIN"
"""Set where a test runs for the second time, in a process that has what it needs, or has not what it does without."""

_PREPARE = 'ip link set lo up && ip -6 route add local ff15::/16 dev lo && exec "$@"'
_OWN_NETWORKS = [
    ["unshare", *flags, "sh", "-c", _PREPARE, "sh"] for flags in (["--net", "--user", "--map-root-user"], ["--net"])
]
_OPEN_RAW = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 113)"


async def passes_elsewhere(test: str, reason: str) -> None:
    """Check that *test*, which cannot run here because of *reason*, passes in a network of its own, where we are root.

    Where there can be none it is skipped, or fails if ``TRIO_MQ_REQUIRE_PEERS=1`` promises everything.
    """
    assert AGAIN not in os.environ, reason
    for enter in _OWN_NETWORKS:
        if await _can_run([*enter, sys.executable, "-c", _OPEN_RAW]):
            await passes_after(enter, test)
            return
    reason += ", and there can be no network namespace that has it"
    if os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1":
        pytest.fail(f"TRIO_MQ_REQUIRE_PEERS=1 promises every peer, but {reason}")
    pytest.skip(reason)


async def _can_run(command: list[str]) -> bool:
    try:
        return (await trio.run_process(command, capture_stderr=True, check=False)).returncode == 0
    except OSError:
        return False


async def passes_after(enter: list[str], test: str) -> None:
    """Check that *test* passes in a process that the command *enter* begins."""
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    ended = await trio.run_process(
        [*enter, *pytest_],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, AGAIN: "1"},
    )
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-3000:]
    assert b"1 passed" in ended.stdout


@asynccontextmanager
async def joined(endpoint: str, pub: Options = AT_ONCE, sub: Options = AT_ONCE) -> AsyncIterator[tuple[Pub, Sub]]:
    """A publisher and a subscriber that have heard of each other."""
    async with Sub(connect=endpoint, topics=b"", options=sub) as sub_, Pub(bind=endpoint, options=pub) as pub_:
        with trio.fail_after(10):
            await sub_.wait_connected()
        yield pub_, sub_


class Forger:
    """Somebody on the network who sends whatever it likes, and hears what is asked of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((LOCAL, port))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOCAL))
        self._socket.setblocking(False)

    def say(self, packet: Packet | bytes, host: str = GROUP) -> None:
        raw = packet if isinstance(packet, bytes) else encode_packet(packet)
        self._socket.sendto(raw, (host, self.port))

    def data(self, number: int, payload: bytes | None = None, *, trail: int = 0) -> None:
        stream = b"\0\0" + encode_v1(b"%d" % number) if payload is None else payload
        self.say(Data(GSI, 40000, self.port, number, trail, stream))

    def spm(self, number: int, trail: int, lead: int, *, fin: bool = False) -> None:
        self.say(Spm(GSI, 40000, self.port, number, trail, lead & 0xFFFFFFFF, socket.inet_aton(LOCAL), fin=fin))

    async def asked(self) -> Packet:
        """What it is asked next."""
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(self._socket)
        packet = parse_packet(self._socket.recv(2048))
        assert packet is not None
        return packet

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def forger(port: int) -> Iterator[Forger]:
    forger = Forger(port)
    yield forger
    forger.close()


async def next_of(events: trio_mq.EventChannel, kind: type[Any] | tuple[type[Any], ...]) -> Any:
    with trio.fail_after(5):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("the socket was closed")


async def received(sub: Sub | XSub, count: int) -> list[list[bytes]]:
    messages = list[list[bytes]]()
    with trio.fail_after(20):
        await trio.lowlevel.checkpoint()
        while len(messages) < count:
            messages.append(await sub.receive_multipart())
    return messages


# ---- messages


SHAPES = [[0], [1], [2], [3], [253], [254], [255], [1_000_000], [5, 0, 4], [300, 2_000], [1426], [1427]]


@pytest.mark.parametrize("scheme", ["epgm", "pgm"])
@pytest.mark.parametrize("where", [f"{LOCAL};{GROUP}", "lo;239.192.77.2", "127.0.0.0/8;239.192.77.3", "[ff15::77]"])
async def test_messages_of_every_shape_arrive_in_order(
    scheme: str, where: str, port: int, request: pytest.FixtureRequest
) -> None:
    if scheme == "pgm" and not may_open_raw():
        await passes_elsewhere(request.node.nodeid, "pgm:// needs CAP_NET_RAW")
        return
    if "::" in where and not _has_ipv6():
        await passes_elsewhere(request.node.nodeid, "this machine has no interface with IPv6 multicast")
        return
    messages = [[bytes((65 + place,)) * size for place, size in enumerate(sizes)] for sizes in SHAPES]
    async with joined(f"{scheme}://{where}:{port}") as (pub, sub):
        for message in messages:
            await pub.send_multipart(message)
        assert await received(sub, len(messages)) == messages


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("ff15::77", 1))
    except OSError:
        return False
    return True


async def test_small_messages_share_datagrams(endpoint: str) -> None:
    async with joined(endpoint) as (pub, sub):
        await pub.send_many([b"%03d" % number + bytes(97) for number in range(900)])
        assert [frames[0][:3] for frames in await received(sub, 900)] == [b"%03d" % number for number in range(900)]
        figures = pub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.PublisherFigures)
        assert figures.sent < 120


async def test_subscriptions_filter_where_they_are_made(endpoint: str) -> None:
    async with joined(endpoint) as (pub, sub), Sub(connect=endpoint, topics=b"b", options=AT_ONCE) as other:
        await pub.send(b"a0")
        await received(sub, 1)
        with trio.fail_after(5):
            await other.wait_connected()
        for message in (b"a1", b"b1", b"a2", b"b2"):
            await pub.send(message)
        assert await received(other, 2) == [[b"b1"], [b"b2"]]
        assert len(await received(sub, 4)) == 4


async def test_an_xpub_is_told_that_everything_is_wanted_and_an_xsub_has_no_way_upstream(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=AT_ONCE) as xpub, XSub(connect=endpoint, options=AT_ONCE) as xsub:
        assert await xpub.receive() == b"\x01"
        await xsub.send(b"\x01")
        with trio.fail_after(5):
            await xsub.wait_connected()
            await xpub.send(b"message")
            assert await xsub.receive() == b"message"
        await xsub.send(b"to whom?")
        assert xsub.statistics().dropped == {"unroutable": 1}


async def test_an_xsub_gets_what_it_has_not_subscribed_to(endpoint: str) -> None:
    async with XSub(connect=endpoint, options=AT_ONCE) as xsub, Pub(bind=endpoint, options=AT_ONCE) as pub:
        xsub.subscribe(b"a")
        with trio.fail_after(5):
            await xsub.wait_connected()
        for message in (b"a1", b"b1", b"a2"):
            await pub.send(message)
        assert await received(xsub, 3) == [[b"a1"], [b"b1"], [b"a2"]]


async def test_inverted_matching_is_done_by_the_receiver(endpoint: str) -> None:
    inverted = Options(linger=0, invert_matching=True)
    async with Sub(connect=endpoint, topics=b"a", options=inverted) as sub, Pub(bind=endpoint, options=inverted) as pub:
        with trio.fail_after(5):
            await sub.wait_connected()
        await pub.send(b"a")
        await pub.send(b"b")
        assert await received(sub, 1) == [[b"b"]]


async def test_messages_say_which_publisher_they_come_from(endpoint: str) -> None:
    async with joined(endpoint) as (first, sub), Pub(bind=endpoint, options=AT_ONCE) as second:
        with trio.fail_after(5):
            await sub.wait_connected(2)
        peers = {}
        for pub in (first, second):
            await pub.send(b"message")
            with trio.fail_after(5):
                message = await sub.receive_message()
            figures = pub.statistics().peers[0].multicast
            assert isinstance(figures, trio_mq.PublisherFigures)
            peers[pub] = message.peer
            assert message.peer.address == f"epgm://{LOCAL}#{figures.session}"
        assert len(set(peers.values())) == 2


async def test_several_groups_are_heard_and_another_is_sent_to(port: int) -> None:
    both = f"epgm://{LOCAL};239.192.77.4,239.192.77.5;239.192.77.6:{port}"
    async with Sub(connect=both, topics=b"", options=AT_ONCE) as sub:
        for group in ("239.192.77.4", "239.192.77.5"):
            async with Pub(bind=f"epgm://{LOCAL};{group}:{port}", options=AT_ONCE) as pub:
                await pub.send(group.encode())
                assert await received(sub, 1) == [[group.encode()]]
    async with (
        Sub(connect=f"epgm://{LOCAL};239.192.77.6:{port}", topics=b"", options=AT_ONCE) as sub,
        Pub(bind=both, options=AT_ONCE) as pub,
    ):
        await pub.send(b"to the third")
        assert await received(sub, 1) == [[b"to the third"]]


async def test_a_group_on_the_same_port_is_another_group(endpoint: str, port: int) -> None:
    async with (
        joined(endpoint) as (pub, sub),
        Pub(bind=f"epgm://{LOCAL};239.192.77.9:{port}", options=AT_ONCE) as other,
    ):
        await other.send(b"not for us")
        await pub.send(b"for us")
        assert await received(sub, 1) == [[b"for us"]]
        assert len(sub.statistics().peers) == 1


# ---- repair and loss


async def test_what_is_lost_is_asked_for_and_repaired(port: int, endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub:
        forger.spm(0, 0, -1)
        forger.data(0)
        forger.data(3)
        nak = await forger.asked()
        assert nak == Nak(GSI, 40000, port, (1, 2), socket.inet_aton(LOCAL), socket.inet_aton(GROUP))
        forger.say(nak._replace(confirmed=True))
        for number in (1, 2):
            forger.say(Data(GSI, 40000, port, number, 0, b"\0\0" + encode_v1(b"%d" % number), repair=True))
        assert await received(sub, 4) == [[b"0"], [b"1"], [b"2"], [b"3"]]
        figures = sub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.SubscriberFigures)
        assert (figures.received, figures.repaired, figures.lost, figures.naks) == (4, 2, 0, 1)


async def test_a_publisher_repairs_what_it_is_asked_for(port: int, endpoint: str) -> None:
    async with joined(endpoint) as (pub, sub):
        await pub.send(b"message")
        await received(sub, 1)
        figures = pub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.PublisherFigures)
        gsi, _, sport = figures.session.partition(".")
        nak = Nak(bytes.fromhex(gsi), int(sport), port, (0,), socket.inet_aton(LOCAL), socket.inet_aton(GROUP))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(encode_packet(nak), (LOCAL, port))
        with trio.fail_after(5):
            while not figures.repaired:
                await trio.sleep(0.01)
                figures = pub.statistics().peers[0].multicast
                assert isinstance(figures, trio_mq.PublisherFigures)
        assert figures.naks == 1


async def test_a_loss_is_an_event_with_its_range_and_half_a_message_is_counted(endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub, sub.monitor() as events:
        forger.data(0)
        whole = encode_v1([b"half", b"other half"])
        forger.data(1, b"\0\0" + whole[:6])
        forger.data(9, trail=5)
        lost = await next_of(events, DataLost)
        assert (lost.first, lost.last, lost.count) == (2, 4, 3)
        assert lost.peer.address.startswith(f"epgm://{LOCAL}#{GSI.hex()}")
        forger.data(10, trail=9)
        assert await received(sub, 3) == [[b"0"], [b"9"], [b"10"]]
        assert sub.statistics().dropped == {"lost": 1}
        figures = sub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.SubscriberFigures)
        assert figures.lost == 7


async def test_who_is_heard_without_an_spm_is_asked_where_it_is(port: int, endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE):
        forger.data(5)
        assert await forger.asked() == Spmr(GSI, 40000, port)


async def test_a_subscriber_hears_of_the_beginning_and_the_end_of_a_publisher(endpoint: str) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub, sub.monitor() as events:
        async with Pub(bind=endpoint) as pub:
            seen = await next_of(events, HandshakeSucceeded)
            await pub.send(b"last words")
        gone = await next_of(events, Disconnected)
        assert (gone.peer, gone.error) == (seen.peer, None)
        assert await received(sub, 1) == [[b"last words"]]
        assert sub.statistics().peers == ()


async def test_leaving_sends_what_is_queued_within_linger_and_stays_a_second_for_repairs(
    endpoint: str,
) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub:
        async with Pub(bind=endpoint, options=Options(multicast_rate=1e6)) as pub:
            with trio.fail_after(5):
                await sub.wait_connected()
            for number in range(40):
                await pub.send(b"%02d" % number + bytes(1400))
            began = trio.current_time()
        assert 1.0 <= trio.current_time() - began <= 3.0
        assert [frames[0][:2] for frames in await received(sub, 40)] == [b"%02d" % number for number in range(40)]


async def test_without_linger_what_the_rate_held_back_is_dropped_and_counted(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=Options(linger=0, multicast_rate=1e5)) as pub:
        async with pub.monitor() as events:
            for _ in range(100):
                await pub.send(bytes(1400))
            await pub.aclose()
            closed = await next_of(events, trio_mq.events.Closed)
    assert 80 <= closed.unsent <= 100


# ---- rate


async def test_a_publisher_that_is_held_back_by_its_rate_drops_and_says_so(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=Options(linger=0, multicast_rate=1e6, send_hwm=100)) as pub:
        await pub.send_many([bytes(1400)] * 1000)
        dropped = pub.statistics().dropped
        assert set(dropped) == {"rate"}
        assert 800 <= dropped["rate"] <= 900


async def test_a_publisher_that_blocks_is_slowed_to_its_rate_and_loses_nothing(endpoint: str) -> None:
    async with joined(endpoint, Options(linger=0, multicast_rate=8e6, send_hwm=10, overflow="block")) as (pub, sub):
        began = trio.current_time()
        for number in range(500):
            await pub.send(b"%03d" % number + bytes(1397))
        # 500 of 1,480 bytes at 1 MB/s, less what lies in the queue and the bucket.
        assert trio.current_time() - began >= 0.65
        assert [frames[0][:3] for frames in await received(sub, 500)] == [b"%03d" % number for number in range(500)]
        assert pub.statistics().dropped == {}


async def test_a_full_subscriber_stops_reading_and_loses_nothing(endpoint: str) -> None:
    async with joined(endpoint, Options(linger=0, overflow="block"), Options(receive_hwm=10)) as (pub, sub):
        for number in range(300):
            await pub.send(b"%03d" % number + bytes(1000))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert sub.statistics().peers[0].unread_messages <= 12
        assert [frames[0][:3] for frames in await received(sub, 300)] == [b"%03d" % number for number in range(300)]


# ---- sharing


async def test_publishers_of_a_program_share_the_socket_for_requests_and_hand_it_on(port: int, endpoint: str) -> None:
    async with trio.open_nursery() as nursery:
        first = await nursery.start(Pub(bind=endpoint, options=AT_ONCE).serve)
        second = await nursery.start(Pub(bind=f"epgm://{LOCAL};239.192.77.8:{port}", options=AT_ONCE).serve)
        await second.send(b"message")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await first.aclose()  # who read for both
        figures = second.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.PublisherFigures)
        gsi, _, sport = figures.session.partition(".")
        nak = Nak(bytes.fromhex(gsi), int(sport), port, (0,), socket.inet_aton(LOCAL), socket.inet_aton("239.192.77.8"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(encode_packet(nak), (LOCAL, port))
        with trio.fail_after(5):
            while not second.statistics().peers[0].multicast.repaired:
                await trio.sleep(0.01)
        await second.aclose()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
async def test_every_descriptor_is_closed_whatever_ends_a_socket(endpoint: str) -> None:
    await trio.lowlevel.checkpoint()
    before = descriptors()
    async with joined(endpoint) as (pub, _):
        await pub.send(b"message")
        assert descriptors() > before
    assert descriptors() == before
    with pytest.raises(ZeroDivisionError):
        async with joined(endpoint):
            raise ZeroDivisionError
    assert descriptors() == before
    with trio.move_on_after(0.01):
        async with joined(endpoint):
            await trio.sleep_forever()
    assert descriptors() == before
    async with Sub(topics=b"", options=AT_ONCE) as sub:
        sub.connect(endpoint)
        await sub.disconnect(endpoint)
        assert descriptors() == before
        assert sub.endpoints == ()


async def test_connecting_twice_is_one_connection_and_disconnecting_ends_it(endpoint: str) -> None:
    async with joined(endpoint) as (pub, sub):
        sub.connect(endpoint)
        assert list(sub.endpoints) == [endpoint]
        await pub.send(b"once")
        assert await received(sub, 1) == [[b"once"]]
        await sub.disconnect(endpoint)
        await pub.send(b"to nobody")
        assert sub.endpoints == ()
        assert sub.statistics().peers == ()


async def test_a_cancelled_send_or_receive_leaves_everything_as_it_was(endpoint: str) -> None:
    async with joined(endpoint, Options(linger=0, multicast_rate=1e6, send_hwm=1, overflow="block")) as (pub, sub):
        with trio.move_on_after(0.02) as scope:
            await sub.receive()
        assert scope.cancelled_caught
        sent = 0
        while sent < 60:
            with trio.move_on_after(0.003) as scope:
                await pub.send(b"%02d" % sent + bytes(1400))
            sent += not scope.cancelled_caught
        assert [frames[0][:2] for frames in await received(sub, 60)] == [b"%02d" % number for number in range(60)]


# ---- what the system says


WITHOUT_CAP_NET_RAW = """
import ctypes, os, sys
# PR_CAPBSET_DROP, CAP_NET_RAW: what is executed next cannot have it, root or not.
if ctypes.CDLL(None, use_errno=True).prctl(24, 13, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "CAP_NET_RAW cannot be dropped")
os.execv(sys.argv[1], sys.argv[1:])
"""


async def test_pgm_without_the_privilege_is_a_permission_error_with_a_remedy(
    port: int, request: pytest.FixtureRequest
) -> None:
    if may_open_raw():
        assert AGAIN not in os.environ, "the privilege was dropped, and is there all the same"
        await passes_after([sys.executable, "-c", WITHOUT_CAP_NET_RAW], request.node.nodeid)
        return
    for kind in (Pub, Sub):
        with pytest.raises(PermissionError, match="CAP_NET_RAW"):
            async with kind(connect=f"pgm://{LOCAL};{GROUP}:{port}"):
                raise AssertionError("not reached")
    async with Sub(topics=b"") as sub:
        with pytest.raises(PermissionError, match="epgm"):
            sub.connect(f"pgm://{LOCAL};{GROUP}:{port}")
        with pytest.raises(PermissionError, match="epgm"):
            await sub.bind(f"pgm://{LOCAL};{GROUP}:{port}")
        assert sub.endpoints == ()
    report = await trio_mq.check_multicast(f"pgm://{LOCAL};{GROUP}:{port}")
    (problem,) = report.problems
    assert "CAP_NET_RAW" in problem


class Refusing(socket.socket):
    """A socket of which the system refuses what is sent, as long as it has a reason."""

    reason: int | None = None

    def send(self, *data: Any) -> int:
        self._refuse()
        return super().send(*data)

    def sendto(self, *data: Any) -> int:
        self._refuse()
        return super().sendto(*data)

    def _refuse(self) -> None:
        if self.reason is not None:
            raise OSError(self.reason, os.strerror(self.reason))


def refusing_in(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[Refusing]:
    """The sockets with which *module* sends, in the order in which they are opened from now on."""
    opened: list[Refusing] = []

    def open_sending(*what: Any, **options: Any) -> Refusing:
        opened.append(Refusing(fileno=_multicast_sockets.open_sending(*what, **options).detach()))
        return opened[-1]

    monkeypatch.setattr(module, "open_sending", open_sending)
    return opened


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[Refusing]:
    """The sockets of publishers."""
    return refusing_in(_pgm_publisher, monkeypatch)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> list[Refusing]:
    """The sockets with which subscribers ask for what they miss."""
    return refusing_in(_pgm_subscriber, monkeypatch)


async def test_a_publisher_that_is_refused_tells_of_each_reason_once_and_when_it_works_again(
    endpoint: str, refusing: list[Refusing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pgm_refusals, "WORKS_AFTER", 0.05)
    async with joined(endpoint) as (pub, sub), pub.monitor() as events:
        for reason in (errno.ENETUNREACH, errno.ENODEV):
            refusing[0].reason = reason
            for _ in range(50):
                await pub.send(bytes(1400))
            failed = await next_of(events, (DialFailed, Connected))
            assert isinstance(failed, DialFailed)
            assert failed.endpoint == endpoint
            assert isinstance(failed.error, OSError)
            assert failed.error.errno == reason
            for said in (LOCAL, GROUP, os.strerror(reason)):
                assert said in str(failed.error)
            (figures,) = pub.statistics().endpoints
            assert figures.last_error is failed.error
            assert figures.multicast is not None
            assert figures.multicast.refused >= 1
        refusing[0].reason = None
        with trio.fail_after(5):
            while sub.statistics().peers[0].unread_messages == 0:
                await pub.send(b"works")
                await trio.sleep(0.01)
        # Had there been another refusal told, it would come first.
        works = await next_of(events, (DialFailed, Connected))
        assert isinstance(works, Connected)
        assert pub.statistics().endpoints[0].last_error is None
        assert (works.endpoint, works.address) == (endpoint, f"epgm://{endpoint.partition(';')[2]}")
        async with pub.monitor() as late:
            assert isinstance(await next_of(late, (DialFailed, Connected)), Connected)


async def test_a_subscriber_whose_requests_are_refused_tells_of_it_and_when_they_go_out_again(
    endpoint: str, refusing: list[Refusing], asking: list[Refusing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pgm_refusals, "WORKS_AFTER", 0.0)
    async with joined(endpoint) as (pub, sub), sub.monitor() as events:
        asking[0].reason = errno.EHOSTUNREACH
        refusing[0].reason = errno.ENETUNREACH  # so that the next message must be asked for
        await pub.send(b"lost on the way")
        await trio.testing.wait_all_tasks_blocked(0.01)
        refusing[0].reason = None
        await pub.send(b"late")
        failed = await next_of(events, (DialFailed, Connected))
        assert isinstance(failed, DialFailed)
        assert isinstance(failed.error, OSError)
        assert failed.error.errno == errno.EHOSTUNREACH
        assert LOCAL in str(failed.error)
        (figures,) = sub.statistics().endpoints
        assert figures.last_error is failed.error
        assert figures.multicast is not None
        assert figures.multicast.refused >= 1
        asking[0].reason = None
        with trio.fail_after(5):
            assert [await sub.receive(), await sub.receive()] == [b"lost on the way", b"late"]
        assert isinstance(await next_of(events, (DialFailed, Connected)), Connected)
        assert sub.statistics().endpoints[0].last_error is None


async def test_a_publisher_of_which_a_firewall_refuses_some_is_no_flood_of_events(
    endpoint: str, refusing: list[Refusing]
) -> None:
    async with joined(endpoint) as (pub, _), pub.monitor() as events:
        for number in range(200):
            refusing[0].reason = errno.EPERM if number % 2 else None
            await pub.send(bytes(1400))
            await trio.lowlevel.checkpoint()
        await pub.aclose()
        told = [event async for event in events if isinstance(event, (DialFailed, Connected))]
    assert [type(event) for event in told] == [DialFailed]


@pytest.mark.parametrize(("kind", "taken"), [(Sub, GROUP), (Pub, LOCAL)])
async def test_a_port_that_others_do_not_share_is_an_os_error_that_names_endpoint_and_reason(
    kind: type[Sub | Pub], taken: str, port: int, endpoint: str
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", port))  # without SO_REUSEPORT
        with pytest.raises(OSError, match="does not share") as raised:
            async with kind(bind=endpoint):
                raise AssertionError("not reached")
    text = str(raised.value)
    assert endpoint in text
    assert f"port {port} of {taken}" in text
    assert raised.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("nosuch0;239.192.1.1", "nosuch0"),
        ("203.0.113.77;239.192.1.1", "203.0.113.77"),
        ("198.51.100.0/24;239.192.1.1", "198.51.100.0/24"),
    ],
)
async def test_an_interface_that_is_not_there_is_an_os_error_that_names_it(where: str, text: str, port: int) -> None:
    async with Sub(topics=b"") as sub:
        with pytest.raises(OSError, match=text):
            await sub.bind(f"epgm://{where}:{port}")


async def test_what_the_kernel_granted_shows_in_the_statistics(endpoint: str) -> None:
    buffers = Options(linger=0, receive_buffer=100_000, send_buffer=50_000)
    async with joined(endpoint, buffers, buffers) as (pub, sub):
        for socket_ in (pub, sub):
            figures = socket_.statistics().endpoints[0].multicast
            assert isinstance(figures, trio_mq.EndpointFigures)
            assert figures.send_buffer == 50_000
        assert sub.statistics().endpoints[0].multicast.receive_buffer == 100_000  # type: ignore[union-attr]  # see above


@pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVTTL has another number elsewhere")
@pytest.mark.parametrize("hops", [1, 3])
async def test_packets_go_as_far_as_they_may_and_no_farther(hops: int, port: int, endpoint: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ear.bind((GROUP, port))
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(LOCAL))
        ear.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        async with Pub(bind=endpoint, options=Options(linger=0, multicast_hops=hops)):
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(ear)
            _, ancillary, *_ = ear.recvmsg(2048, 64)
        assert int.from_bytes(ancillary[0][2][:4], sys.byteorder) == hops


async def test_a_conflating_pair_of_sockets_keeps_the_newest(endpoint: str) -> None:
    newest = Options(linger=0, conflate=True, multicast_rate=1e5)
    async with joined(endpoint, newest, newest) as (pub, sub):
        for number in range(200):
            await pub.send(b"%03d" % number + bytes(1397))
        seen = list[bytes]()
        with trio.fail_after(10):
            while not seen or seen[-1] != b"199":
                seen.append((await sub.receive())[:3])
        assert seen == sorted(seen)
        assert len(seen) < 100


def test_options_that_ask_for_security_are_refused(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="no security"):
        Pub(bind=endpoint, options=Options(security=trio_mq.Plain("me", "secret")))


async def test_an_endpoint_that_was_prepared_is_bound_on_entry_and_only_by_what_fits(endpoint: str) -> None:
    prepared = trio_mq.listen(endpoint)
    assert prepared.endpoint == endpoint
    async with Pub(bind=prepared, options=AT_ONCE) as pub:
        assert pub.endpoints == (endpoint,)
    async with trio_mq.Push() as push:
        with pytest.raises(EndpointError, match="carries PUB"):
            await push.bind(trio_mq.listen(endpoint))


def test_the_schemes_are_known() -> None:
    assert trio_mq.has("epgm")
    assert trio_mq.has("pgm")


# ---- strangers


def fragment(port: int) -> bytes:
    """Data with the option that says that it is a piece of something larger, its checksum right."""
    raw = bytearray(encode_packet(Data(GSI, 1, port, 0, 0, b"\0\0\1\0")))
    raw[5] = 1  # there are options
    raw[6:8] = bytes(2)
    raw[24:24] = b"\0\4\0\x14" + b"\x81\x10\0\0" + struct.pack("!III", 0, 0, 8)
    struct.pack_into("!H", raw, 6, checksum(raw))
    return bytes(raw)


async def test_packets_that_break_rules_are_counted_and_disturb_nobody(
    port: int, endpoint: str, forger: Forger
) -> None:
    async with joined(endpoint) as (pub, sub):
        hostile = [
            b"",
            b"x" * 15,
            bytes(2000),
            encode_packet(Data(GSI, 1, port, 0, 0, b"\0\0\1\0"))[:-1] + b"\7",
            encode_packet(Data(GSI, 1, port + 1 if port < 65535 else 1, 0, 0, b"\0\0\1\0")),
            encode_packet(Data(GSI, 1, port, 0, 1, b"\0\0\1\0")),
            encode_packet(Nak(GSI, 1, port, tuple(range(63)), b"\1\2\3\4", b"\1\2\3\4")),
            fragment(port),
        ]
        for raw in hostile * 100:
            forger.say(raw)
            forger.say(raw, LOCAL)
            await trio.lowlevel.checkpoint()
        for number in range(100):
            forger.data(number, b"\0\x40\2\0x")  # an offset beyond the end
        await pub.send(b"undisturbed")
        assert await received(sub, 1) == [[b"undisturbed"]]
        with trio.fail_after(5):
            while sub.statistics().dropped.get("malformed") != 100:
                await trio.sleep(0.01)
        ignored = dict(sub.statistics().endpoints[0].multicast.ignored)  # type: ignore[union-attr]  # it is multicast
        assert set(ignored) >= {"truncated", "checksum", "port", "range", "fragment"}
        assert ignored["fragment"] == 100
        assert sum(ignored.values()) >= 500


async def test_payloads_that_end_a_libzmq_subscriber_are_survived(endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub:
        for number, payload in enumerate(
            [b"", b"\0", b"\0\x40\2\0x", b"\xff\xff", b"\0\0\0\0", b"\0\0\xff\x7f" + b"\xff" * 9]
        ):
            forger.data(number, payload)
        forger.data(6)
        forger.data(20, trail=20)
        assert (await received(sub, 1))[0] in ([b"6"], [b"20"])


async def test_payloads_that_cannot_be_are_counted_each_with_the_message_it_cut(endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub:
        for number, payload in enumerate([b"", b"\0", b"\0\x40\2\0x", b"\0\0\5\0x", b"\0\x40yyy"]):
            forger.data(number, payload)
        forger.data(5)
        assert await received(sub, 1) == [[b"5"]]
        assert sub.statistics().dropped == {"malformed": 4}


async def test_half_a_message_of_a_publisher_that_ends_is_counted(endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub, sub.monitor() as events:
        forger.data(0)
        forger.data(1, b"\0\0" + encode_v1([b"half", b"other half"])[:6])
        forger.spm(0, 0, 1, fin=True)
        await next_of(events, Disconnected)
        assert await received(sub, 1) == [[b"0"]]
        assert sub.statistics().dropped == {"lost": 1}


async def test_forged_sources_that_miss_a_thousand_each_do_not_occupy_a_subscriber(
    port: int, endpoint: str, forger: Forger
) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub:
        began = trio.current_time()
        for number in range(250):
            for sequence in (0, 1000):
                forger.say(Data(b"%06d" % number, 1, port, sequence, 0, b"\0\0" + encode_v1(b"x")))
            assert await received(sub, 1) == [[b"x"]]
        forger.data(0)
        forger.data(2)
        asked = await forger.asked()
        while not (isinstance(asked, Nak) and asked.gsi == GSI):
            asked = await forger.asked()
        forger.data(1)
        assert await received(sub, 3) == [[b"0"], [b"1"], [b"2"]]
        figures = [peer.multicast for peer in sub.statistics().peers]
        naks = sum(each.naks for each in figures if isinstance(each, trio_mq.SubscriberFigures))
        assert 50 <= naks <= 550 * (trio.current_time() - began) + 50


async def test_a_flood_of_publishers_does_not_grow_without_end(port: int, endpoint: str, forger: Forger) -> None:
    async with joined(endpoint) as (_, sub):
        for number in range(1000):
            forger.say(Data(b"%06d" % number, 1, port, 0, 0, b"\0\0\5\0flood"))
            if not number % 50:
                await trio.sleep(0.001)
        with trio.fail_after(10):
            while sub.statistics().endpoints[0].multicast.datagrams < 1000:  # type: ignore[union-attr]  # it is multicast
                await trio.sleep(0.01)
        assert len(sub.statistics().peers) <= 256


async def test_a_window_as_wide_as_numbers_go_costs_nothing(endpoint: str, forger: Forger) -> None:
    async with Sub(connect=endpoint, topics=b"", options=AT_ONCE) as sub, sub.monitor() as events:
        forger.spm(0, 0, -1)
        forger.spm(1, 0, 0x7FFFFFF0)
        lost = await next_of(events, DataLost)
        assert lost.first == 0
        assert lost.count > 0x7FFF0000
        figures = sub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.SubscriberFigures)
        assert figures.missing <= figures.window_limit


async def test_a_storm_of_forged_requests_leaves_a_publisher_at_work(port: int, endpoint: str) -> None:
    async with joined(endpoint) as (pub, sub):
        await pub.send(bytes(1000))
        await received(sub, 1)
        figures = pub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.PublisherFigures)
        gsi, _, sport = figures.session.partition(".")
        own = socket.inet_aton(LOCAL), socket.inet_aton(GROUP)
        nak = encode_packet(Nak(bytes.fromhex(gsi), int(sport), port, tuple(range(63)), *own))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.setblocking(False)
            for step in range(3000):
                asker.sendto(nak, (LOCAL, port))
                if not step % 30:
                    await pub.send(b"%05d" % step)
                    await trio.lowlevel.checkpoint()
        assert len(await received(sub, 100)) == 100
        figures = pub.statistics().peers[0].multicast
        assert isinstance(figures, trio_mq.PublisherFigures)
        assert figures.repaired < 1000
        assert math.isfinite(figures.naks)
