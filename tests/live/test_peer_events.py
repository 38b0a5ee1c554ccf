"""`Options(peer_events=True)`, properties and room: what a protocol above ROUTER and DEALER is told about its peers.

`PeerJoined` and `PeerLeft` come in their place among the messages; what was unsent comes back and goes nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_mq import Dealer, HostUnreachableError, Options, Pair, PeerJoined, PeerLeft, Pull, Push, Rep, Req, Router

EVENTS = Options(peer_events=True, linger=0)
BRIEF = Options(linger=0)
NETWORK = ["tcp://127.0.0.1:*", "ipc://*"]
EVERYWHERE = [*NETWORK, "inproc://here"]


def told(received: Any) -> Any:
    """An event by its name, a message as it is."""
    return type(received).__name__ if isinstance(received, PeerJoined | PeerLeft) else received


async def until(condition: Any) -> None:
    while not condition():
        await trio.sleep(0.002)


@pytest.mark.parametrize("endpoint", EVERYWHERE)
async def test_a_router_is_told_who_comes_and_goes_in_order_with_what_they_say(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=EVENTS) as router:
            async with Dealer(connect=router.last_endpoint, options=Options(routing_id=b"A")) as dealer:
                for number in range(3):
                    await dealer.send(b"%d" % number)
            story: list[Any] = []
            while len(story) < 5:
                story += await router.receive_many()
            assert [told(item) for item in story] == [
                "PeerJoined", [b"A", b"0"], [b"A", b"1"], [b"A", b"2"], "PeerLeft",
            ]  # fmt: skip
            joined, left = story[0], story[-1]
            assert joined.peer == left.peer
            assert joined.peer.routing_id == b"A"
            assert joined.peer.socket_type == "DEALER"
            assert left.reason
            assert left.unsent == ()


@pytest.mark.parametrize("endpoint", EVERYWHERE)
@pytest.mark.parametrize(("cls", "other"), [(Pull, Push), (Pair, Pair), (Dealer, Dealer)], ids=lambda cls: cls.__name__)
async def test_other_types_are_told_too(endpoint: str, cls: Any, other: Any) -> None:
    with trio.fail_after(5):
        async with cls(bind=endpoint, options=EVENTS) as socket:
            async with other(connect=socket.last_endpoint) as peer:
                await peer.send(b"hello")
            story: list[Any] = []
            while len(story) < 3:
                story += await socket.receive_many()
            assert [told(item) for item in story] == ["PeerJoined", b"hello", "PeerLeft"]


async def test_receive_calls_of_one_message_deliver_events_in_their_place(autojump_clock: MockClock) -> None:
    async with Pull(bind="inproc://here", options=EVENTS) as pull:
        async with Push(connect="inproc://here") as push:
            await push.send(b"1")
            await push.send_multipart([b"2", b"3"])
        first: Any = await pull.receive()
        assert isinstance(first, PeerJoined)
        assert await pull.receive() == b"1"
        assert await pull.receive_multipart() == [b"2", b"3"]
        last: Any = await pull.receive_multipart()
        assert isinstance(last, PeerLeft)


async def test_a_waiting_receiver_is_woken_by_an_event(autojump_clock: MockClock) -> None:
    got: list[Any] = []
    async with Pull(bind="inproc://here", options=EVENTS) as pull, trio.open_nursery() as nursery:

        async def receive() -> None:
            got.append(await pull.receive())
            got.append(await pull.receive())

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        async with Push(connect="inproc://here"):
            await pull.wait_connected()
            await trio.testing.wait_all_tasks_blocked()
    assert [told(item) for item in got] == ["PeerJoined", "PeerLeft"]


async def test_iterations_give_events_where_they_belong(autojump_clock: MockClock) -> None:
    iterations: list[Callable[[Pull], Any]] = [lambda pull: pull, lambda pull: pull.multiparts()]
    for iterate in iterations:
        async with Pull(bind="inproc://here", options=EVENTS) as pull:
            async with Push(connect="inproc://here") as push:
                await push.send(b"1")
            story: list[Any] = []
            async for item in iterate(pull):
                story.append(item)
                if isinstance(item, PeerLeft):
                    break
            assert [told(item) for item in story] == ["PeerJoined", story[1], "PeerLeft"]
            assert story[1] in (b"1", [b"1"])


@pytest.mark.parametrize("endpoint", NETWORK)
async def test_what_was_unsent_comes_back_and_goes_to_nobody_else(endpoint: str) -> None:
    """Over the network: the kernel had taken some whole; of the rest the router is told, in order."""
    body = bytes(100_000)
    options = Options(peer_events=True, send_hwm=None, linger=0)
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=options) as router:
            slow = Options(routing_id=b"A", receive_hwm=1, linger=0)
            async with Dealer(connect=router.last_endpoint, options=slow):
                joined: Any = (await router.receive_many())[0]
                assert isinstance(joined, PeerJoined)
                for number in range(200):
                    await router.send_multipart([b"A", b"%d" % number, body])
            left: Any = (await router.receive_many())[0]
            assert isinstance(left, PeerLeft)
            numbers = [int(frames[0]) for frames in left.unsent if isinstance(frames, list)]
            assert len(numbers) == len(left.unsent) > 0
            assert numbers == list(range(200 - len(numbers), 200)), "in order, up to the last"
            assert left.unsent[0] == [b"%d" % numbers[0], body]
            async with Dealer(connect=router.last_endpoint, options=Options(routing_id=b"A", linger=0)) as again:
                assert told((await router.receive_many())[0]) == "PeerJoined"
                await router.send_multipart([b"A", b"new"])
                assert await again.receive() == b"new"


async def test_inproc_hands_back_what_the_peer_had_not_received(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://here", options=EVENTS) as router:
        async with Dealer(connect="inproc://here", options=Options(routing_id=b"A")) as dealer:
            await router.wait_connected()
            for number in range(3):
                await router.send_multipart([b"A", b"%d" % number, b"x"])
            assert await dealer.receive_multipart() == [b"0", b"x"]
        story = await router.receive_many()
        assert [told(item) for item in story] == ["PeerJoined", "PeerLeft"]
        left: Any = story[-1]
        assert list(left.unsent) == [[b"1", b"x"], [b"2", b"x"]]


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://{}/socket"])
async def test_a_connecting_dealer_with_events_keeps_nothing_for_the_next_connection(
    endpoint: str, tmp_path: Path
) -> None:
    endpoint = endpoint.format(tmp_path)
    body = bytes(100_000)
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=Options(receive_hwm=1, linger=0)) as first:
            where = first.last_endpoint or ""
            options = Options(peer_events=True, send_hwm=None, reconnect_interval=0.01, linger=0)
            async with Dealer(connect=where, options=options) as dealer:
                assert told((await dealer.receive_many())[0]) == "PeerJoined"
                for number in range(200):
                    await dealer.send_multipart([b"%d" % number, body])
                await first.aclose()
                left: Any = (await dealer.receive_many())[0]
                assert isinstance(left, PeerLeft)
                assert [frames[0] for frames in left.unsent][-1:] == [b"199"]
                async with Router(bind=where, options=BRIEF) as second:
                    assert told((await dealer.receive_many())[0]) == "PeerJoined"
                    await dealer.send(b"new")
                    assert (await second.receive_multipart())[1:] == [b"new"]


@pytest.mark.parametrize("endpoint", NETWORK)
async def test_a_reconnection_under_the_same_name_is_one_leaving_and_one_joining(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=EVENTS) as router:
            for _ in range(3):
                async with Dealer(connect=router.last_endpoint, options=Options(routing_id=b"A")) as dealer:
                    await dealer.send(b"hello")
                    story: list[Any] = []
                    while len(story) < 2:
                        story += await router.receive_many()
                    assert [told(item) for item in story] == ["PeerJoined", [b"A", b"hello"]]
                assert told((await router.receive_many())[0]) == "PeerLeft"


@pytest.mark.parametrize("endpoint", NETWORK)
async def test_a_handover_is_the_old_one_leaving_before_the_new_one_speaks(endpoint: str) -> None:
    options = Options(peer_events=True, router_handover=True, linger=0)
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=options) as router:
            once = Options(routing_id=b"A", retry=False, linger=0)
            async with Dealer(connect=router.last_endpoint, options=once) as old:
                await old.send(b"old")
                story: list[Any] = []
                while len(story) < 2:
                    story += await router.receive_many()
                async with Dealer(connect=router.last_endpoint, options=once) as new:
                    await new.send(b"new")
                    while len(story) < 5:
                        story += await router.receive_many()
            names = [told(item) for item in story]
            assert names[:2] == ["PeerJoined", [b"A", b"old"]]
            assert names.index("PeerLeft") < names.index([b"A", b"new"]), "else the new one would seem to have left"


@pytest.mark.parametrize("endpoint", EVERYWHERE)
async def test_without_the_option_nobody_is_told(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Router(bind=endpoint) as router:
            for word in (b"1", b"2"):
                async with Dealer(connect=router.last_endpoint, options=Options(routing_id=b"A")) as dealer:
                    await dealer.send(word)
                    assert await router.receive_multipart() == [b"A", word]


@pytest.mark.parametrize("endpoint", EVERYWHERE)
async def test_two_peers_are_never_equal_so_that_they_can_be_told_apart_and_be_keys(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Pull(bind=endpoint, options=EVENTS) as pull:
            async with Push(connect=pull.last_endpoint), Push(connect=pull.last_endpoint):
                story: list[Any] = []
                while len(story) < 2:
                    story += await pull.receive_many()
            while len(story) < 4:
                story += await pull.receive_many()
        joined = {item.peer for item in story if isinstance(item, PeerJoined)}
        left = {item.peer for item in story if isinstance(item, PeerLeft)}
        assert len(joined) == 2
        assert joined == left


# ---- properties


@pytest.mark.parametrize("endpoint", EVERYWHERE)
async def test_properties_of_ones_own_are_seen_at_the_other_end(endpoint: str) -> None:
    with trio.fail_after(5):
        options = Options(peer_events=True, properties={"X-Epoch": "17", "X-Empty": ""}, linger=0)
        async with Router(bind=endpoint, options=options) as router:
            mine = Options(peer_events=True, properties={"X-Name": "worker 7"}, linger=0)
            async with Dealer(connect=router.last_endpoint, options=mine) as dealer:
                seen: Any = (await dealer.receive_many())[0]
                assert dict(seen.peer.properties) == {"X-Epoch": "17", "X-Empty": ""}
                await dealer.send(b"hello")
                joined: Any = (await router.receive_many(limit=1))[0]
                assert dict(joined.peer.properties) == {"X-Name": "worker 7"}
                message = await router.receive_message()
                assert dict(message.properties) == {"X-Name": "worker 7"}
                assert message.peer.socket_type == "DEALER"
                assert message.frames[1:] == (b"hello",)


@pytest.mark.parametrize("endpoint", EVERYWHERE)
async def test_a_request_knows_the_properties_of_its_peer(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Rep(bind=endpoint) as rep:
            async with Req(connect=rep.last_endpoint, options=Options(properties={"X-Name": "me"}, linger=0)) as req:
                await req.send(b"who am I?")
                async for request in rep.requests():
                    await request.reply(request.peer.properties["X-Name"].encode())
                    break
                assert await req.receive() == b"me"


# ---- room


async def test_peer_room_is_what_waits_for_that_peer_in_bytes(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://here") as router:
        async with (
            Dealer(connect="inproc://here", options=Options(routing_id=b"A")) as a,
            Dealer(connect="inproc://here", options=Options(routing_id=b"B")),
        ):
            await router.wait_connected(2)
            assert router.peer_room(b"A") == router.peer_room(b"B") == 0
            await router.send_multipart([b"A", bytes(100), bytes(50)])
            await router.send_multipart([b"A", bytes(7)])
            assert router.peer_room(b"A") == 157
            assert router.peer_room(b"B") == 0
            await a.receive_multipart()
            assert router.peer_room(b"A") <= 7, "what the peer took to hand out, a batch perhaps, waits no more"


async def test_wait_room_returns_when_less_waits(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://here") as router:
        async with Dealer(connect="inproc://here", options=Options(routing_id=b"A")) as dealer:
            await router.wait_connected()
            await router.wait_room(b"A", below=1)
            for _ in range(4):
                await router.send_multipart([b"A", bytes(100)])
            with trio.move_on_after(1) as scope:
                await router.wait_room(b"A", below=200)
            assert scope.cancelled_caught
            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: router.wait_room(b"A", below=200))
                    await trio.testing.wait_all_tasks_blocked()
                    for _ in range(3):
                        await dealer.receive()
            assert router.peer_room(b"A") < 200


@pytest.mark.parametrize("endpoint", NETWORK)
async def test_over_the_network_room_counts_what_the_kernel_has_not_taken(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=Options(send_hwm=None, linger=0)) as router:
            slow = Options(routing_id=b"A", receive_hwm=1)
            async with Dealer(connect=router.last_endpoint, options=slow) as dealer:
                await router.wait_connected()
                for _ in range(100):
                    await router.send_multipart([b"A", bytes(100_000)])
                assert 0 < router.peer_room(b"A") <= 10_000_000
                async with trio.open_nursery() as nursery:

                    async def read() -> None:
                        for _ in range(100):
                            await dealer.receive()

                    nursery.start_soon(read)
                    await router.wait_room(b"A", below=100_000)
                    assert router.peer_room(b"A") < 100_000


async def test_nobody_has_room_under_an_unknown_name(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://here") as router:
        with pytest.raises(HostUnreachableError) as caught:
            router.peer_room(b"unknown")
        assert caught.value.routing_id == b"unknown"
        with pytest.raises(HostUnreachableError):
            await router.wait_room(b"unknown", below=1)


async def test_a_peer_that_leaves_ends_the_wait_for_its_room(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://here") as router:
        async with Dealer(connect="inproc://here", options=Options(routing_id=b"A")) as dealer:
            await router.wait_connected()
            await router.send_multipart([b"A", bytes(100)])

            async def wait() -> None:
                with trio.fail_after(5), pytest.raises(HostUnreachableError):
                    await router.wait_room(b"A", below=1)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await dealer.aclose()


# ---- overflow="block"


async def test_a_blocking_router_waits_for_a_full_peer_and_for_that_one_alone(autojump_clock: MockClock) -> None:
    options = Options(overflow="block", send_hwm=1, linger=0)
    async with Router(bind="inproc://here", options=options) as router:
        async with (
            Dealer(connect="inproc://here", options=Options(routing_id=b"stuck", receive_hwm=1)) as stuck,
            Dealer(connect="inproc://here", options=Options(routing_id=b"quick", receive_hwm=1)) as quick,
        ):
            await router.wait_connected(2)
            for number in range(2):
                await router.send_multipart([b"stuck", b"%d" % number])
            with pytest.raises(trio.WouldBlock):
                router.send_multipart_nowait([b"stuck", b"no room"])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(router.send_multipart, [b"stuck", b"waits"])
                await trio.testing.wait_all_tasks_blocked()
                for number in range(20):
                    await router.send_multipart([b"quick", b"%d" % number])
                    assert await quick.receive() == b"%d" % number
                assert [await stuck.receive() for _ in range(3)] == [b"0", b"1", b"waits"]
            assert not router.statistics().dropped


async def test_senders_that_wait_for_one_peer_are_served_in_order(autojump_clock: MockClock) -> None:
    options = Options(overflow="block", send_hwm=1, linger=0)
    async with Router(bind="inproc://here", options=options) as router:
        async with Dealer(connect="inproc://here", options=Options(routing_id=b"A", receive_hwm=1)) as dealer:
            await router.wait_connected()
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(router.send_multipart, [b"A", b"%d" % number])
                    await trio.testing.wait_all_tasks_blocked()
                assert [await dealer.receive() for _ in range(10)] == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("mandatory", [False, True])
async def test_a_sender_that_waits_for_a_peer_that_leaves_is_not_left_waiting(
    mandatory: bool, autojump_clock: MockClock
) -> None:
    options = Options(overflow="block", router_mandatory=mandatory, send_hwm=1, linger=0)
    async with Router(bind="inproc://here", options=options) as router:
        async with Dealer(connect="inproc://here", options=Options(routing_id=b"A", receive_hwm=1)) as dealer:
            await router.wait_connected()
            for _ in range(2):
                await router.send_multipart([b"A", b"fills"])
            outcomes: list[str] = []
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    try:
                        await router.send_multipart([b"A", b"waits"])
                        outcomes.append("dropped")
                    except HostUnreachableError:
                        outcomes.append("unreachable")

                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                await dealer.aclose()
            assert outcomes == ["unreachable" if mandatory else "dropped"]
            if not mandatory:
                assert router.statistics().dropped.get("unroutable", 0) >= 1


@pytest.mark.parametrize("endpoint", NETWORK)
async def test_a_blocking_router_loses_nothing_over_the_network(endpoint: str) -> None:
    options = Options(overflow="block", send_hwm=2, linger=0)
    with trio.fail_after(10):
        async with Router(bind=endpoint, options=options) as router:
            slow = Options(routing_id=b"A", receive_hwm=2)
            async with Dealer(connect=router.last_endpoint, options=slow) as dealer, trio.open_nursery() as nursery:
                await router.wait_connected()

                async def send() -> None:
                    for number in range(300):
                        await router.send_multipart([b"A", b"%d" % number, bytes(50_000)])

                nursery.start_soon(send)
                for number in range(300):
                    assert (await dealer.receive_multipart())[0] == b"%d" % number


# ---- disconnect_peer, can_send, can_receive


@pytest.mark.parametrize("endpoint", EVERYWHERE)
async def test_a_peer_can_be_sent_away_by_its_name(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Router(bind=endpoint, options=EVENTS) as router:
            once = Options(routing_id=b"A", retry=False, linger=0)
            async with Dealer(connect=router.last_endpoint, options=once) as dealer:
                joined: Any = (await router.receive_many())[0]
                ended = router.disconnect_peer(joined.peer)
                if inspect.isawaitable(ended):
                    await ended
                left: Any = (await router.receive_many())[0]
                assert isinstance(left, PeerLeft)
                assert left.peer == joined.peer
                await until(lambda: [peer.state for peer in dealer.statistics().peers] != ["ready"])


async def test_can_send_and_can_receive_say_what_would_not_wait(autojump_clock: MockClock) -> None:
    async with Pull(bind="inproc://here", options=Options(receive_hwm=1)) as pull:
        assert not pull.can_receive()
        async with Push(connect="inproc://here", options=Options(send_hwm=1, linger=0)) as push:
            await pull.wait_connected()
            assert push.can_send()
            for number in range(2):
                push.send_nowait(b"%d" % number)
            assert not push.can_send()
            assert pull.can_receive()
            assert [pull.receive_nowait() for _ in range(2)] == [b"0", b"1"]
            assert not pull.can_receive()
            assert push.can_send()
