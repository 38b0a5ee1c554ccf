"""RADIO and DISH over tcp and ipc, with libzmq's draft sockets at the other end, and with pyomq's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import trio

from trio_mq import Dish, GroupMessage, Options, Radio

from ._messages import Frame, Pattern, as_seen, built
from ._process import DEADLINE, Peer, PeerError, PeerSocket
from ._raw import MORE, frame, raw_connect, raw_listen

GROUPS = (b"", b"g", b"Movies", b"x" * 255)
SIZES = (0, 1, 254, 255, 256, 257, 65536, 2**20)
EndpointOf = Callable[[str], str]


@pytest.fixture
def drafts(start_peer: Callable[[str], Peer]) -> Peer:
    """A process whose libzmq has draft sockets."""
    return start_peer("drafts")


async def until_heard(theirs: PeerSocket, dish: Dish, group: bytes, text: bytes) -> None:
    """Let *theirs* say *text* until *dish* hears it: nobody is told when a JOIN has arrived there."""
    with trio.fail_after(DEADLINE):
        while True:
            await theirs.send_to(group, text)
            with trio.move_on_after(0.05):
                assert await dish.receive() == (group, text)
                break
    await theirs.send_to(group, b"the end of " + text)
    with trio.fail_after(DEADLINE):
        while await dish.receive() != (group, b"the end of " + text):
            pass


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("we_bind", [True, False])
async def test_our_radio_reaches_the_members_of_a_group(
    drafts: Peer, endpoint_of: EndpointOf, transport: str, we_bind: bool
) -> None:
    theirs = await drafts.open("DISH")
    for group in GROUPS:
        await theirs.join(group)
    async with Radio() as radio:
        if we_bind:
            await theirs.connect(await radio.bind(endpoint_of(transport)))
        else:
            radio.connect(await theirs.bind(endpoint_of(transport)))
        for group in GROUPS:
            await radio.wait_joined(group)
        bodies: list[Frame] = [Pattern(size) for size in SIZES]
        for group in GROUPS:
            for body in bodies:
                await radio.send(b"for others", group=b"not " + group[:100])
                await radio.send(built(body), group=group)
                assert await theirs.receive_of() == as_seen([group, body])


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("we_bind", [True, False])
async def test_our_dish_is_a_member_at_their_radio(
    drafts: Peer, endpoint_of: EndpointOf, transport: str, we_bind: bool
) -> None:
    theirs = await drafts.open("RADIO")
    async with Dish(groups=GROUPS) as dish:
        if we_bind:
            await theirs.connect(await dish.bind(endpoint_of(transport)))
        else:
            dish.connect(await theirs.bind(endpoint_of(transport)))
        for group in GROUPS:
            await until_heard(theirs, dish, group, b"hello")
            for size in SIZES:
                body = Pattern(size)
                await theirs.send_to(b"not " + group[:100], b"for others")
                await theirs.send_to(group, body)
                with trio.fail_after(DEADLINE):
                    assert await dish.receive() == GroupMessage(group, built(body))


async def test_groups_are_left_and_joined_while_connected(drafts: Peer) -> None:
    theirs = await drafts.open("DISH")
    async with Radio(bind="tcp://127.0.0.1:*") as radio:
        assert radio.last_endpoint is not None
        await theirs.connect(radio.last_endpoint)
        await theirs.join(b"a")
        await radio.wait_joined(b"a")
        await theirs.join(b"b")
        await radio.wait_joined(b"b")
        await theirs.leave(b"a")
        with trio.fail_after(DEADLINE):
            while radio.member_count(b"a"):
                await trio.sleep(0.002)
        await radio.send(b"nobody's", group=b"a")
        await radio.send(b"theirs", group=b"b")
        assert await theirs.receive_of() == [b"b", b"theirs"]


async def test_a_dish_joins_again_when_their_radio_comes_back(drafts: Peer) -> None:
    first = await drafts.open("RADIO")
    endpoint = await first.bind("tcp://127.0.0.1:*")
    async with Dish(connect=endpoint, groups=b"g", options=Options(reconnect_interval=0.02)) as dish:
        await until_heard(first, dish, b"g", b"one")
        await first.close()
        second = await drafts.open("RADIO")
        while True:
            with contextlib.suppress(PeerError):  # closing takes libzmq a while
                await second.bind(endpoint)
                break
        await until_heard(second, dish, b"g", b"two")


async def test_a_radio_with_heartbeats_does_not_ping_a_dish_which_would_hang_up(drafts: Peer) -> None:
    theirs = await drafts.open("DISH")
    await theirs.join(b"g")
    options = Options(heartbeat_interval=0.05, heartbeat_timeout=0.1)
    async with Radio(bind="tcp://127.0.0.1:*", options=options) as radio:
        assert radio.last_endpoint is not None
        await theirs.connect(radio.last_endpoint)
        await radio.wait_joined(b"g")
        for _ in range(10):
            await radio.send(b"still there", group=b"g")
            assert await theirs.receive_of() == [b"g", b"still there"]
            await trio.sleep(0.02)  # longer in all than libzmq would take to hang up on a PING
        assert radio.statistics().endpoints[0].connections == 1


async def test_their_bytes_for_joining_and_leaving_are_ours(drafts: Peer) -> None:
    async with raw_listen() as listener:
        theirs = await drafts.open("DISH")
        await theirs.join(b"Movies")
        await theirs.connect(listener.endpoint)
        async with listener.accept() as raw:
            await raw.handshake(b"RADIO")
            said = [await raw.read_frame()]
            await theirs.join(b"x" * 255)
            said.append(await raw.read_frame())
            await theirs.leave(b"Movies")
            said.append(await raw.read_frame())
    async with raw_listen() as listener:
        async with Dish(connect=listener.endpoint, groups=b"Movies") as dish, listener.accept() as raw:
            await raw.handshake(b"RADIO")
            ours = [await raw.read_frame()]
            dish.join(b"x" * 255)
            ours.append(await raw.read_frame())
            dish.leave(b"Movies")
            ours.append(await raw.read_frame())
    assert ours == said
    assert ours[0] == (4, b"\x04JOINMovies")


async def test_their_bytes_for_a_message_are_ours(drafts: Peer) -> None:
    sent = [(b"Movies", b"Godfather"), (b"", b""), (b"x" * 255, b"y" * 300)]
    theirs = await drafts.open("RADIO")
    endpoint = await theirs.bind("tcp://127.0.0.1:*")
    joined = b"".join(frame(b"\x04JOIN" + group, 4) for group, _ in sent)
    size = sum(len(frame(group, MORE) + frame(body)) for group, body in sent)
    async with raw_connect(endpoint) as raw:
        await raw.handshake(b"DISH")
        await raw.send(joined)
        await theirs.wait_connected()
        for group, body in sent:
            await theirs.send_to(group, body)
        said = await raw.read(size)
    async with Radio(bind="tcp://127.0.0.1:*") as radio:
        assert radio.last_endpoint is not None
        async with raw_connect(radio.last_endpoint) as raw:
            await raw.handshake(b"DISH")
            await raw.send(joined)
            await radio.wait_joined(sent[-1][0])
            await radio.send_many(sent)
            assert await raw.read(size) == said


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_pyomq_is_a_member_too(pyomq: Peer, endpoint_of: EndpointOf, transport: str) -> None:
    theirs = await pyomq.open("DISH")
    await theirs.join(b"g")
    async with Radio() as radio:
        await theirs.connect(await radio.bind(endpoint_of(transport)))
        await radio.wait_joined(b"g")
        await radio.send(b"for others", group=b"h")
        for size in SIZES:
            await radio.send(built(Pattern(size)), group=b"g")
            assert await theirs.receive() == as_seen([b"g", Pattern(size)])


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_pyomq_is_heard_too(pyomq: Peer, endpoint_of: EndpointOf, transport: str) -> None:
    theirs = await pyomq.open("RADIO")
    async with Dish(groups=b"g") as dish:
        dish.connect(await theirs.bind(endpoint_of(transport)))
        await dish.wait_connected()
        with trio.fail_after(DEADLINE):
            while True:  # it tells nobody when it has taken a JOIN to heart
                await theirs.send([b"g", b"first"])
                with trio.move_on_after(0.05):
                    assert await dish.receive() == (b"g", b"first")
                    break
            for size in SIZES:
                await theirs.send([b"g", Pattern(size)])
                while (heard := await dish.receive()) == (b"g", b"first"):
                    pass
                assert heard == (b"g", built(Pattern(size)))
