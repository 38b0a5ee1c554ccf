"""RADIO and DISH over udp, DGRAM: each datagram is a message, what is lost is counted where anybody knows of it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

import trio_mq
from trio_mq import Datagram, Dgram, Dish, EndpointError, GroupMessage, Options, Plain, Radio, StateError, events

from .kit import dropped, event_of, over, unread, until, waiting

LOOPBACK = "udp://127.0.0.1:*"
udp = over("udp")


@pytest.fixture
def endpoint() -> str:
    return LOOPBACK


def port_of(sock: Dish | Dgram) -> int:
    assert sock.last_endpoint is not None
    return int(sock.last_endpoint.rpartition(":")[2])


def address_of(dgram: Dgram) -> str:
    assert dgram.last_endpoint is not None
    return dgram.last_endpoint.removeprefix("udp://")


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """A plain socket that sends what no ZeroMQ would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


# ---- RADIO and DISH


@udp
async def test_a_connected_radio_sends_at_once(endpoint: str) -> None:
    async with Dish(bind=endpoint, groups=[b"a", b"b"]) as dish, Radio() as radio:
        assert dish.last_endpoint is not None
        radio.connect(dish.last_endpoint)
        assert (radio.member_count(b"a"), radio.member_count()) == (1, 1)
        radio.send_nowait(b"1", group=b"a")
        radio.send_nowait(b"2", group=b"c")
        await radio.send_many([[b"b", b""], [b"a", b"3"]])
        assert [await dish.receive() for _ in range(3)] == [(b"a", b"1"), (b"b", b""), (b"a", b"3")]
        await radio.wait_connected()
        await dish.wait_connected()


@udp
async def test_every_destination_gets_every_message(endpoint: str) -> None:
    async with Dish(bind=endpoint, groups=b"g") as one, Dish(bind=endpoint, groups=b"g") as two:
        assert one.last_endpoint is not None
        assert two.last_endpoint is not None
        async with Radio(connect=[one.last_endpoint, two.last_endpoint]) as radio:
            await radio.send(b"x", group=b"g")
            assert await one.receive() == await two.receive() == (b"g", b"x")
            await radio.disconnect(two.last_endpoint)
            await radio.send(b"y", group=b"g")
            assert await one.receive() == (b"g", b"y")
            assert waiting(two) == []


@udp
async def test_one_radio_sends_to_all_transports(endpoint: str) -> None:
    async with Radio(bind=["tcp://127.0.0.1:*", "inproc://all-transports"]) as radio:
        async with Dish(connect=radio.endpoints[:1], groups=b"g") as by_tcp:
            async with Dish(connect="inproc://all-transports", groups=b"g") as by_inproc:
                async with Dish(bind=endpoint, groups=b"g") as by_udp:
                    assert by_udp.last_endpoint is not None
                    radio.connect(by_udp.last_endpoint)
                    await radio.wait_joined(b"g", count=3)
                    await radio.send(b"x", group=b"g")
                    for dish in (by_tcp, by_inproc, by_udp):
                        assert await dish.receive() == (b"g", b"x")


@udp
async def test_a_group_reaches_all_who_have_joined_it_there(free_port: int) -> None:
    endpoint = f"udp://127.0.0.1;239.255.8.1:{free_port}"
    async with Dish(bind=endpoint, groups=b"g") as one, Dish(bind=endpoint, groups=b"g") as two:
        async with Radio(connect=endpoint) as radio:
            await radio.send(b"x", group=b"g")
            assert await one.receive() == await two.receive() == (b"g", b"x")
        assert one.last_endpoint == endpoint


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket hears all groups that its machine has joined")
@udp
async def test_another_group_at_the_same_port_is_not_heard(free_port: int) -> None:
    one, other = f"udp://127.0.0.1;239.255.8.2:{free_port}", f"udp://127.0.0.1;239.255.8.3:{free_port}"
    async with Dish(bind=one, groups=b"g") as dish, Dish(bind=other, groups=b"g"), Radio(connect=other) as radio:
        await radio.send(b"not for one", group=b"g")
        radio.connect(one)
        await radio.send(b"for both", group=b"g")
        assert await dish.receive() == (b"g", b"for both")
        assert waiting(dish) == []


@udp
async def test_what_is_sent_before_a_name_is_known_waits_for_it(stranger: socket.socket) -> None:
    port = stranger.getsockname()[1]

    class Resolver(trio.abc.HostnameResolver):
        known = trio.Event()

        async def getaddrinfo(self, host: Any, *args: Any) -> Any:
            await self.known.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    async with Radio(connect=f"udp://somewhere.test:{port}") as radio:
        await radio.send(b"early", group=b"g")
        assert radio.statistics().peers[0].queued_messages == 1
        assert radio.member_count(b"g") == 0
        Resolver.known.set()
        await radio.wait_joined(b"g")
        await radio.flush()
        assert stranger.recv(100) == b"\x01gearly"


@udp
async def test_an_unknown_name_is_looked_up_again(stranger: socket.socket) -> None:
    port = stranger.getsockname()[1]

    class Resolver(trio.abc.HostnameResolver):
        answers: Iterator[Any] = iter([None, [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]])

        async def getaddrinfo(self, host: Any, *args: Any) -> Any:
            await trio.lowlevel.checkpoint()
            answer = next(self.answers)
            if answer is None:
                raise socket.gaierror(socket.EAI_AGAIN, "not now")
            return answer

        async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    async with Radio(options=Options(reconnect_interval=0.01)) as radio, radio.monitor() as channel:
        radio.connect(f"udp://somewhere.test:{port}")
        assert isinstance((await event_of(channel, events.DialFailed)).error, socket.gaierror)
        assert (await event_of(channel, events.RetryIn)).seconds == 0.01
        await radio.wait_connected()


@udp
async def test_an_immediate_radio_queues_nothing_before_it_can_send(stranger: socket.socket) -> None:
    port = stranger.getsockname()[1]
    async with Radio(options=Options(immediate=True)) as radio:
        trio.socket.set_custom_hostname_resolver(Nowhere())
        radio.connect("udp://somewhere.test:5555")
        await radio.send(b"for nobody", group=b"g")
        assert radio.statistics().peers[0].queued_messages == 0
        radio.connect(f"udp://127.0.0.1:{port}")
        await radio.send(b"x", group=b"g")
        assert stranger.recv(100) == b"\x01gx"


class Nowhere(trio.abc.HostnameResolver):
    """Knows no name."""

    async def getaddrinfo(self, host: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "there is no such name")

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


def _explode(_: Exception | None) -> bool:
    raise RuntimeError("a bug of the program")


@udp
async def test_a_name_that_nobody_knows_can_be_let_go(endpoint: str) -> None:
    trio.socket.set_custom_hostname_resolver(Nowhere())
    async with Radio(options=Options(linger=0)) as radio, radio.monitor() as channel:
        radio.connect("udp://somewhere.test:5555")
        await radio.send(b"x", group=b"g")
        await event_of(channel, events.RetryIn)
        await radio.disconnect("udp://somewhere.test:5555")
        assert radio.endpoints == ()
        assert radio.statistics().dropped == {"disconnected": 1}


@pytest.mark.parametrize("retry", [False, _explode], ids=["never", "a function that raises"])
@udp
async def test_what_was_queued_for_a_name_that_is_given_up_is_counted(retry: Any) -> None:
    trio.socket.set_custom_hostname_resolver(Nowhere())
    async with Radio(connect="udp://somewhere.test:5555", options=Options(retry=retry)) as radio:
        await radio.send(b"x", group=b"g")
        await until(lambda: radio.statistics().endpoints[0].state == "failed")
        assert radio.statistics().dropped == {"disconnected": 1}


@udp
async def test_an_interface_that_is_not_there_is_told_and_is_no_error_of_connect(endpoint: str) -> None:
    async with Radio(options=Options(retry=False)) as radio, radio.monitor() as channel:
        radio.connect("udp://nosuchif0;239.255.8.5:5555")
        error = (await event_of(channel, events.DialFailed)).error
        assert isinstance(error, OSError)
        assert "nosuchif0" in str(error)
        await until(lambda: radio.statistics().endpoints[0].state == "failed")
        assert not radio.member_count()
        with pytest.raises(OSError, match="nosuchif0"):
            await _bind("udp://nosuchif0;239.255.8.5:5555")


async def _bind(endpoint: str, options: Options | None = None) -> None:
    async with Dish(options=options) as dish:
        await dish.bind(endpoint)


@udp
async def test_what_strangers_send_is_counted_and_the_next_message_comes(
    endpoint: str, stranger: socket.socket
) -> None:
    async with Dish(bind=endpoint, groups=b"g") as dish:
        target = ("127.0.0.1", port_of(dish))
        for wrong in (b"", b"\x05abc", b"\x01\x00body"):
            stranger.sendto(wrong, target)
        stranger.sendto(b"\x01g" + bytes(8191), target)
        stranger.sendto(b"\x01g" + bytes(60000), target)
        stranger.sendto(b"\x01gfine", target)
        assert await dish.receive() == (b"g", b"fine")
        assert dish.statistics().dropped == {"malformed": 3, "too-large": 2}


@udp
async def test_what_is_too_long_is_counted_and_not_sent(endpoint: str) -> None:
    async with Dish(bind=endpoint, groups=b"g") as dish, Radio(connect=dish.last_endpoint) as radio:
        await radio.send(bytes(8190), group=b"g")
        await radio.send(bytes(8191), group=b"g")
        await radio.send(b"", group=b"x" * 128)
        await radio.send(b"end", group=b"g")
        assert [len((await dish.receive()).body) for _ in range(2)] == [8190, 3]
        assert radio.statistics().dropped == {"too-large": 2}
        assert radio.statistics().peers[0].sent == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what it has dropped")
@udp
async def test_what_the_kernel_drops_is_counted(endpoint: str) -> None:
    small = Options(receive_hwm=5, receive_buffer=4096)
    async with Dish(bind=endpoint, groups=b"g", options=small) as dish, Radio(connect=dish.last_endpoint) as radio:
        for _ in range(200):
            await radio.send(bytes(1000), group=b"g")
        await until(lambda: unread(dish) == [5])
        received = 0
        with trio.move_on_after(0.2):
            while True:
                await dish.receive()
                received += 1
        # The count comes with the next datagram.
        await radio.send(b"end", group=b"g")
        assert (await dish.receive()).body == b"end"
        assert received + dropped(dish, "overrun") == 200
        assert dropped(dish, "overrun") > 0


@udp
async def test_groups_of_others_take_no_room(endpoint: str) -> None:
    async with Dish(bind=endpoint, groups=b"g", options=Options(receive_hwm=2)) as dish:
        async with Radio(connect=dish.last_endpoint) as radio:
            for _ in range(100):
                await radio.send(b"x", group=b"others'")
            await radio.send(b"y", group=b"g")
            await until(lambda: unread(dish) == [1])
            assert await dish.receive() == (b"g", b"y")


class Stubborn(socket.socket):
    """A socket to which the kernel says that it has no room, until it is told otherwise."""

    refuse = False

    def sendto(self, *args: Any) -> int:
        if Stubborn.refuse:
            raise BlockingIOError(errno.EAGAIN, "no room")
        return super().sendto(*args)


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> type[Stubborn]:
    """Every socket opened now can be told to refuse; a task that waits for room waits for `Stubborn.refuse` to end."""

    async def wait_writable(_: object) -> None:
        await until(lambda: not Stubborn.refuse)

    monkeypatch.setattr(socket, "socket", Stubborn)
    monkeypatch.setattr(trio.lowlevel, "wait_writable", wait_writable)
    Stubborn.refuse = True
    return Stubborn


@udp
async def test_what_the_kernel_has_no_room_for_waits_and_keeps_its_order(stubborn: type[Stubborn]) -> None:
    async with Dish(bind=LOOPBACK, groups=b"g") as dish, Radio(connect=dish.last_endpoint) as radio:
        for number in range(70):
            await radio.send(b"%d" % number, group=b"g")
        assert radio.statistics().peers[0].queued_messages == 70
        Stubborn.refuse = False
        await radio.flush()
        assert [(await dish.receive()).body for _ in range(70)] == [b"%d" % number for number in range(70)]
        assert radio.statistics().peers[0].sent == 70


@udp
async def test_beyond_the_mark_a_radio_drops_and_one_that_blocks_waits(stubborn: type[Stubborn]) -> None:
    async with Dish(bind=LOOPBACK, groups=b"g") as dish:
        assert dish.last_endpoint is not None
        async with Radio(connect=dish.last_endpoint, options=Options(send_hwm=3, linger=0)) as radio:
            for _ in range(5):
                await radio.send(b"x", group=b"g")
            assert radio.statistics().dropped == {"hwm": 2}
        blocking = Options(send_hwm=3, overflow="block")
        async with Radio(connect=dish.last_endpoint, options=blocking) as radio:
            for number in range(3):
                await radio.send(b"%d" % number, group=b"g")
            with pytest.raises(trio.WouldBlock):
                radio.send_nowait(b"3", group=b"g")
            Stubborn.refuse = False
            await radio.send(b"3", group=b"g")
            assert [(await dish.receive()).body for _ in range(4)] == [b"0", b"1", b"2", b"3"]


@udp
async def test_leaving_waits_for_the_kernel_as_long_as_linger_says(stubborn: type[Stubborn]) -> None:
    async with Dish(bind=LOOPBACK, groups=b"g") as dish, trio.open_nursery() as nursery:
        async with Radio(connect=dish.last_endpoint) as radio:
            await radio.send(b"x", group=b"g")

            async def relent() -> None:
                await until(lambda: "closing" in repr(radio))
                Stubborn.refuse = False

            nursery.start_soon(relent)
        assert await dish.receive() == (b"g", b"x")
        Stubborn.refuse = True
        async with Radio(connect=dish.last_endpoint, options=Options(linger=0)) as radio, radio.monitor() as channel:
            await radio.send(b"y", group=b"g")
            await radio.aclose()
            assert (await event_of(channel, events.Closed)).unsent == 1


@udp
async def test_no_descriptor_and_no_task_is_left_behind(endpoint: str) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    before, tasks = descriptors(), trio.lowlevel.current_statistics().tasks_living
    async with Dish(groups=b"g") as dish, Radio() as radio, Dgram() as dgram:
        for _ in range(3):
            resolved = await dish.bind(endpoint)
            radio.connect(resolved)
            address = await dgram.bind(endpoint)
            await radio.send(b"x", group=b"g")
            assert await dish.receive() == (b"g", b"x")
            await radio.disconnect(resolved)
            await dish.unbind(resolved)
            await dgram.unbind(address)
        assert descriptors() == before
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)


@udp
async def test_a_prepared_listener_of_udp_is_for_sockets_that_bind_there(endpoint: str) -> None:
    async with Dish(bind=trio_mq.listen(endpoint), groups=b"g") as dish, Radio(connect=dish.last_endpoint) as radio:
        await radio.send(b"x", group=b"g")
        assert await dish.receive() == (b"g", b"x")
        with pytest.raises(EndpointError, match="RADIO"):
            await radio.bind(trio_mq.listen(endpoint))


@udp
async def test_events_and_figures_name_the_endpoint(endpoint: str) -> None:
    async with Dish(groups=b"g") as dish, dish.monitor() as channel:
        resolved = await dish.bind(endpoint)
        assert (await event_of(channel, events.Listening)).endpoint == resolved
        assert (await event_of(channel, events.HandshakeSucceeded)).endpoint == resolved
        (figures,) = dish.statistics().endpoints
        assert (figures.endpoint, figures.state, figures.peers) == (resolved, "listening", 1)
        await dish.unbind(resolved)
        assert (await event_of(channel, events.Disconnected)).endpoint == resolved
        assert (await event_of(channel, events.Unbound)).endpoint == resolved


# ---- DGRAM


@udp
async def test_a_datagram_can_be_answered(endpoint: str) -> None:
    async with Dgram(bind=endpoint) as one, Dgram(bind=endpoint) as two:
        await one.send(b"question", address_of(two))
        body, address = await two.receive()
        assert (body, address) == (b"question", address_of(one))
        two.send_nowait(b"answer", address)
        assert await one.receive() == Datagram(b"answer", address_of(two))
        (peer,) = one.statistics().peers
        assert (peer.sent, peer.received) == (1, 1)


@udp
async def test_datagrams_of_every_size_and_form_are_the_same_datagrams(endpoint: str) -> None:
    async with Dgram(bind=endpoint) as one, Dgram(bind=endpoint) as two:
        target, source = address_of(two).encode(), address_of(one).encode()
        for size in (0, 1, 1472, 8192, 65507):
            await one.send(bytearray(size), address_of(two))
            assert await two.receive() == Datagram(bytes(size), address_of(one))
        await one.send_multipart([target, b"1"])
        await one.send_many([[target, b"2"], (target, b"3")])
        assert await two.receive_multipart() == [source, b"1"]
        assert (await two.receive_message()).frames == (source, b"2")
        await two.wait_receivable()
        assert await two.receive_many() == [[source, b"3"]]


@udp
async def test_iteration_over_datagrams_ends_with_the_socket(endpoint: str) -> None:
    async with Dgram(bind=endpoint) as one, Dgram(bind=endpoint) as two:
        await one.send(b"x", address_of(two))
        async for datagram in two:
            assert datagram.body == b"x"
            await two.aclose()


@udp
async def test_a_dgram_has_one_endpoint(endpoint: str) -> None:
    async with Dgram() as dgram:
        with pytest.raises(StateError, match="bind it"):
            await dgram.send(b"", "127.0.0.1:5555")
        assert not dgram.can_send()
        first = await dgram.bind(endpoint)
        with pytest.raises(StateError, match="unbind"):
            await dgram.bind(endpoint)
        await dgram.unbind(first)
        await dgram.bind(endpoint)
        assert dgram.can_send()


@udp
async def test_what_cannot_be_meant_as_a_datagram_is_refused_at_the_call(endpoint: str) -> None:
    async with Dgram(bind=endpoint) as dgram:
        for address in ("", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "localhost:5555", "127.0.0.1:+5", ":5555"):
            with pytest.raises(ValueError, match="goes to an address"):
                await dgram.send(b"", address)
        with pytest.raises(TypeError, match="address"):
            await dgram.send(b"", b"127.0.0.1:5555")  # type: ignore[arg-type]  # the mistake that is meant
        with pytest.raises(ValueError, match="65,507"):
            await dgram.send(bytes(65508), "127.0.0.1:5555")
        with pytest.raises(ValueError, match="two frames"):
            await dgram.send_many([b"x"])


@udp
async def test_a_datagram_of_another_family_is_counted(endpoint: str) -> None:
    async with Dgram(bind=endpoint) as dgram:
        await dgram.send(b"", "[::1]:5555")
        assert dgram.statistics().dropped == {"unreachable": 1}


@udp
async def test_a_dgram_waits_while_the_kernel_has_no_room(stubborn: type[Stubborn]) -> None:
    async with Dgram(bind=LOOPBACK, options=Options(send_hwm=2)) as one:
        Stubborn.refuse = False
        async with Dgram(bind=LOOPBACK) as two:
            Stubborn.refuse = True
            for number in range(2):
                await one.send(b"%d" % number, address_of(two))
            assert not one.can_send()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.send, b"2", address_of(two))
                await trio.testing.wait_all_tasks_blocked(0.001)
                Stubborn.refuse = False
            assert [(await two.receive()).body for _ in range(3)] == [b"0", b"1", b"2"]


@udp
async def test_both_families_meet_in_one_dgram(endpoint: str) -> None:
    try:
        async with Dgram(bind="udp://*:*", options=Options(ipv6=True)) as both, Dgram(bind=endpoint) as four:
            port = port_of(both)
            await four.send(b"x", f"127.0.0.1:{port}")
            datagram = await both.receive()
            assert datagram == Datagram(b"x", address_of(four))
            await both.send(b"y", datagram.address)
            assert (await four.receive()).body == b"y"
            await both.send(b"z", f"[::1]:{port}")
            assert await both.receive() == Datagram(b"z", f"[::1]:{port}")
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6: {exc}")


# ---- who may what


async def test_who_binds_and_who_connects_is_said_at_the_call() -> None:
    assert trio_mq.has("udp")
    for kind in (Dish, Dgram):
        with pytest.raises(EndpointError, match="connected by RADIO"):
            kind(connect="udp://127.0.0.1:5555")
    with pytest.raises(EndpointError, match="bound by DGRAM, DISH"):
        Radio(bind="udp://127.0.0.1:5555")
    with pytest.raises(EndpointError, match="carries DGRAM, DISH, RADIO, not PUB"):
        trio_mq.Pub(bind="udp://127.0.0.1:5555")
    with pytest.raises(EndpointError, match="binds udp://"):
        Dgram(bind="tcp://127.0.0.1:5555")


@pytest.mark.parametrize(
    ("kind", "endpoint", "rule"),
    [
        ("bind", "udp://127.0.0.1", "a port must follow"),
        ("bind", "udp://127.0.0.1;127.0.0.1:5555", "interface;group:port"),
        ("bind", "udp://239.1.1.1;239.1.1.2:5555", "no interface"),
        ("bind", "udp://239.1.1.1:*", "joined at a port"),
        ("bind", "udp://::1:5555", r"ipv6=True"),
        ("bind", "udp://lo;[ff02::1]:5555", r"ipv6=True"),
        ("bind", "udp://127.0.0.1;[ff02::1]:5555", "by its name"),
        ("bind", "udp://127.0.0.1:65536", "at most 65535"),
        ("connect", "udp://*:5555", r"\* is for binding"),
        ("connect", "udp://127.0.0.1:*", "a port is a number"),
        ("connect", "udp://127.0.0.1:0", "port 0"),
        ("connect", "udp://lo;127.0.0.1:5555", "interface;group:port"),
    ],
)
def test_an_endpoint_that_cannot_be_meant_is_refused(kind: str, endpoint: str, rule: str) -> None:
    with pytest.raises(EndpointError, match=rule):
        if kind == "bind":
            Dish(bind=endpoint)
        else:
            Radio(connect=endpoint)


async def test_options_that_ask_for_security_do_not_go_with_datagrams() -> None:
    with pytest.raises(EndpointError, match="security"):
        Radio(connect="udp://127.0.0.1:5555", options=Options(security=Plain("me", "secret")))


@udp
async def test_an_address_in_use_and_one_that_is_not_ours_are_errors_of_bind(endpoint: str) -> None:
    async with Dish(bind=endpoint) as dish:
        assert dish.last_endpoint is not None
        with pytest.raises(OSError, match="in use"):
            await _bind(dish.last_endpoint)
    with pytest.raises(OSError, match="neither an address nor"):
        await _bind("udp://somewhere.test:5555")


def test_group_messages_and_datagrams_are_plain_tuples() -> None:
    assert GroupMessage(b"g", b"x") == (b"g", b"x")
    assert Datagram(b"x", "127.0.0.1:5") == (b"x", "127.0.0.1:5")
