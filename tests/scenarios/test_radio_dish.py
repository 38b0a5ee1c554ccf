"""RADIO and DISH (RFC 48; libzmq's test_radio_dish)."""

from __future__ import annotations

import pytest
import trio

from trio_mq import Dish, GroupMessage, Options, Radio, StateError, proxy

from .kit import EVERYWHERE, NETWORK, dropped, over, raw_peer, read_exactly, read_to_the_end, until, waiting

BRIEF = Options(linger=0)


async def arrived(dish: Dish, radio: Radio) -> list[GroupMessage]:
    """What *dish* got of all that was sent before: a sentinel follows it on the same connection."""
    dish.join(b"\xffend")
    await radio.wait_joined(b"\xffend")
    await radio.send(b"", group=b"\xffend")
    got = []
    while (message := await dish.receive()).group != b"\xffend":
        got.append(message)
    dish.leave(b"\xffend")
    await until(lambda: not radio.member_count(b"\xffend"))
    return got


@over(*EVERYWHERE)
async def test_a_member_gets_the_messages_of_its_groups(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio, Dish(connect=radio.last_endpoint, groups=[b"a", b"bc"]) as dish:
        await radio.wait_joined(b"bc")
        for group in (b"", b"a", b"ab", b"b", b"bc", b"bcd"):
            await radio.send(b"to " + group, group=group)
        assert await arrived(dish, radio) == [(b"a", b"to a"), (b"bc", b"to bc")]


@over(*EVERYWHERE)
async def test_either_end_may_bind(endpoint: str) -> None:
    async with Dish(bind=endpoint, groups=b"g") as dish, Radio(connect=dish.last_endpoint) as radio:
        await radio.wait_joined(b"g")
        await radio.send(b"x", group=b"g")
        assert await dish.receive() == (b"g", b"x")


@over(*EVERYWHERE)
async def test_several_radios_are_heard_and_several_dishes_hear(endpoint: str) -> None:
    async with Radio(bind=endpoint) as one, Dish(connect=one.last_endpoint, groups=b"g") as first:
        async with Dish(connect=one.last_endpoint, groups=[b"g", b"h"]) as second:
            await one.wait_joined(b"g", count=2)
            await one.send(b"1", group=b"g")
            await one.send(b"2", group=b"h")
            assert await arrived(first, one) == [(b"g", b"1")]
            assert await arrived(second, one) == [(b"g", b"1"), (b"h", b"2")]


@over(*EVERYWHERE)
async def test_groups_may_be_joined_and_left_at_any_time(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio, Dish(connect=radio.last_endpoint, groups=b"a") as dish:
        await radio.wait_joined(b"a")
        await radio.send(b"1", group=b"b")
        dish.join(b"b")
        await radio.wait_joined(b"b")
        await radio.send(b"2", group=b"b")
        assert await arrived(dish, radio) == [(b"b", b"2")]
        dish.leave(b"a")
        assert dish.groups == (b"b",)
        await until(lambda: not radio.member_count(b"a"))
        await radio.send(b"3", group=b"a")
        assert await arrived(dish, radio) == []


@over(*EVERYWHERE)
async def test_memberships_are_told_again_after_a_reconnect(endpoint: str) -> None:
    options = Options(reconnect_interval=0.01)
    async with Dish(groups=[b"a", b"b"], options=options) as dish:
        async with Radio(bind=endpoint) as radio:
            assert radio.last_endpoint is not None
            resolved = radio.last_endpoint
            dish.connect(resolved)
            await radio.wait_joined(b"b")
            dish.leave(b"a")
            await until(lambda: not radio.member_count(b"a"))
        await until(lambda: dish.statistics().endpoints[0].peers == 0)
        dish.join(b"c")
        async with Radio(bind=resolved) as radio:
            await radio.wait_joined(b"c")
            assert [radio.member_count(group) for group in (b"a", b"b", b"c")] == [0, 1, 1]


@over(*EVERYWHERE)
async def test_messages_of_every_form_are_the_same_messages(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio, Dish(connect=radio.last_endpoint, groups=[b"g", b""]) as dish:
        await radio.wait_joined(b"g")
        await radio.wait_joined(b"")
        await radio.send(bytearray(b"1"), group=b"g")
        radio.send_nowait(memoryview(b"2"), group=b"")
        await radio.send_multipart([b"g", b"3"])
        await radio.send_many([[b"g", b"4"], GroupMessage(b"", b"5")])
        assert radio.send_many_nowait([(b"g", b"6")]) == 1
        assert await dish.receive() == GroupMessage(b"g", b"1")
        group, body = await dish.receive()
        assert (group, body) == (b"", b"2")
        assert await dish.receive_multipart() == [b"g", b"3"]
        message = await dish.receive_message()
        assert (message.frames, message.peer.socket_type) == ((b"g", b"4"), "RADIO")
        await dish.wait_receivable()
        assert dish.receive_nowait() == (b"", b"5")
        assert await dish.receive_many() == [[b"g", b"6"]]
        with pytest.raises(trio.WouldBlock):
            dish.receive_nowait()


@over(*EVERYWHERE)
async def test_iteration_gives_messages_until_the_socket_closes(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio, Dish(connect=radio.last_endpoint, groups=b"g") as dish:
        await radio.wait_joined(b"g")
        await radio.send_many([[b"g", b"%d" % number] for number in range(3)])
        got = []
        async for message in dish:
            got.append(message.body)
            if len(got) == 3:
                await dish.aclose()
        assert got == [b"0", b"1", b"2"]


@over(*NETWORK)
async def test_a_slow_member_misses_messages_that_are_counted(endpoint: str) -> None:
    options = Options(send_hwm=10, linger=0)
    async with Radio(bind=endpoint, options=options) as radio:
        async with Dish(connect=radio.last_endpoint, groups=b"g", options=Options(receive_hwm=1)) as dish:
            await radio.wait_joined(b"g")
            while not dropped(radio, "hwm"):
                await radio.send(bytes(65536), group=b"g")
            assert (await dish.receive()).group == b"g"


@over(*EVERYWHERE)
async def test_one_that_blocks_loses_nothing(endpoint: str) -> None:
    options = Options(send_hwm=2, receive_hwm=2, overflow="block")
    count = 300
    async with Radio(bind=endpoint, options=options) as radio:
        async with Dish(connect=radio.last_endpoint, groups=b"g", options=Options(receive_hwm=2)) as dish:
            await radio.wait_joined(b"g")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(radio.send_many, [[b"g", b"%d" % number + bytes(5000)] for number in range(count)])
                for number in range(count):
                    assert (await dish.receive()).body[:-5000] == b"%d" % number
            assert radio.statistics().dropped == {}


@over(*EVERYWHERE)
async def test_a_radio_alone_never_waits(endpoint: str) -> None:
    async with Radio(bind=endpoint, options=Options(send_hwm=1)) as radio:
        assert radio.can_send()
        for _ in range(100):
            await radio.send(b"x", group=b"g")
        assert (radio.member_count(b"g"), radio.member_count()) == (0, 0)


@over(*EVERYWHERE)
async def test_a_proxy_passes_groups_on(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio, Dish(connect=radio.last_endpoint, groups=b"g") as front:
        async with Radio(bind="inproc://radio-dish-proxy") as back, trio.open_nursery() as nursery:
            nursery.start_soon(proxy, front, back)
            async with Dish(connect="inproc://radio-dish-proxy", groups=b"g") as dish:
                await radio.wait_joined(b"g")
                await back.wait_joined(b"g")
                await radio.send(b"x", group=b"g")
                assert await dish.receive() == (b"g", b"x")
            nursery.cancel_scope.cancel()


async def test_what_is_no_group_is_refused_at_the_call() -> None:
    async with Radio() as radio, Dish() as dish:
        for group in (b"x" * 256, b"a\0b"):
            with pytest.raises(ValueError, match="group"):
                await radio.send(b"", group=group)
            with pytest.raises(ValueError, match="group"):
                await radio.send_multipart([group, b""])
            with pytest.raises(ValueError, match="group"):
                dish.join(group)
        with pytest.raises(TypeError, match="group"):
            dish.join("text")  # type: ignore[arg-type]  # the mistake that is meant
        with pytest.raises(TypeError, match="encode"):
            await radio.send("text", group=b"g")  # type: ignore[arg-type]  # the same
        with pytest.raises(StateError, match="no member"):
            dish.leave(b"g")
        with pytest.raises(ValueError, match="two frames"):
            await radio.send_many([b"no group"])
        with pytest.raises(ValueError, match="two frames"):
            await radio.send_multipart([b"group", b"one", b"two"])


async def test_a_closed_dish_joins_nothing() -> None:
    dish = Dish(groups=b"a")
    async with dish:
        pass
    with pytest.raises(trio.ClosedResourceError):
        dish.join(b"b")
    with pytest.raises(trio.ClosedResourceError):
        dish.leave(b"a")


async def test_a_dish_without_a_group_warns_once(autojump_clock: trio.testing.MockClock) -> None:
    async with Dish() as dish:
        with pytest.warns(RuntimeWarning, match="no group"), trio.move_on_after(1):
            await dish.receive()
        with trio.move_on_after(1) as scope:
            await dish.receive()
        assert scope.cancelled_caught


# ---- peers made by hand


@over("tcp")
async def test_what_a_dish_may_not_receive_ends_the_connection_and_no_more(endpoint: str) -> None:
    async with Dish(bind=endpoint, groups=b"g") as dish:
        assert dish.last_endpoint is not None
        for wrong in (b"\x00\x01x", b"\x01\x01g\x01\x01a\x00\x01b", b"\x01\x03a\x00b\x00\x01x"):
            async with await raw_peer(dish.last_endpoint, "RADIO") as raw:
                await raw.send_all(b"\x01\x01g\x00\x04good" + wrong)
                assert await dish.receive() == (b"g", b"good")
                await read_to_the_end(raw)
        assert waiting(dish) == []
        assert dish.statistics().endpoints[0].failures == 3


@over("tcp")
async def test_what_is_no_group_is_joined_by_nobody(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio:
        assert radio.last_endpoint is not None
        async with await raw_peer(radio.last_endpoint, "DISH") as raw:
            await raw.send_all(b"\x04\x06\x04JOIN\x00")  # our own sign for every group
            await read_to_the_end(raw)
        assert radio.member_count() == 0


@over("tcp")
async def test_subscriptions_mean_nothing_to_a_radio_nor_messages_from_a_dish(endpoint: str) -> None:
    async with Radio(bind=endpoint) as radio:
        assert radio.last_endpoint is not None
        async with await raw_peer(radio.last_endpoint, "DISH") as raw:
            await raw.send_all(b"\x04\x0b\x09SUBSCRIBEg\x00\x02\x01g\x01\x01g\x00\x01x" + b"\x04\x06\x04JOINh")
            await radio.wait_joined(b"h")
            assert radio.member_count(b"g") == 0
            assert dropped(radio, "malformed") == 2
            await radio.send(b"x", group=b"h")
            assert await read_exactly(raw, 6) == b"\x01\x01h\x00\x01x"
