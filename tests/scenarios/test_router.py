"""ROUTER (RFC 28; libzmq's test_spec_router, test_router_mandatory, _mandatory_hwm, _handover, test_probe_router,
test_connect_rid): addressing peers by routing id, and what happens when nobody has it, or two do.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from trio_mq import Dealer, HostUnreachableError, Options, Req, Router
from trio_mq.events import Disconnected, HandshakeFailed

from .kit import EVERYWHERE, dropped, event_of, over, ready_peers, take, unread, until, waiting

BRIEF = Options(linger=0)
MANDATORY = Options(router_mandatory=True, linger=0)


def named(routing_id: bytes) -> Options:
    return Options(routing_id=routing_id, linger=0)


@over(*EVERYWHERE)
async def test_router_receives_from_its_peers_in_turns_and_says_from_whom(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        router = await stack.enter_async_context(Router(bind=endpoint))
        names = [b"A", b"B", b"C", b"D", b"E"]
        dealers = [
            await stack.enter_async_context(Dealer(connect=router.last_endpoint, options=named(name))) for name in names
        ]
        for _ in range(2):
            await dealers[0].send(b"M")
            assert await router.receive_multipart() == [b"A", b"M"]
        for dealer in dealers:
            await dealer.send_many([b"M", b"M"])
        await until(lambda: sorted(unread(router)) == [2] * 5)
        for _ in range(2):
            assert sorted(await take(router, 5)) == [[name, b"M"] for name in names]


@over(*EVERYWHERE)
async def test_peers_without_a_name_get_ids_of_five_bytes_that_differ(endpoint: str) -> None:
    async with Router(bind=endpoint) as router:
        async with Dealer(connect=router.last_endpoint) as one, Dealer(connect=router.last_endpoint) as two:
            await one.send(b"one")
            await two.send(b"two")
            by_body = {body: routing_id for routing_id, body in await take(router, 2)}
            assert by_body[b"one"] != by_body[b"two"]
            assert all(len(routing_id) == 5 and routing_id[0] == 0 for routing_id in by_body.values())
            await router.send_multipart([by_body[b"two"], b"to two"])
            await router.send_multipart([by_body[b"one"], b"to one"])
            assert (await one.receive(), await two.receive()) == (b"to one", b"to two")


@over(*EVERYWHERE)
async def test_a_message_for_an_unknown_id_is_dropped_and_counted(endpoint: str) -> None:
    async with Router(bind=endpoint) as router, Dealer(connect=router.last_endpoint, options=named(b"X")) as dealer:
        await router.wait_connected()
        await router.send_multipart([b"UNKNOWN", b"DATA"])
        await router.send_multipart([b"X", b"known"])
        assert await dealer.receive() == b"known"
        assert dropped(router, "unroutable") == 1


@over(*EVERYWHERE)
async def test_a_mandatory_router_says_that_nobody_has_the_id(endpoint: str) -> None:
    async with Router(bind=endpoint, options=MANDATORY) as router:
        with pytest.raises(HostUnreachableError) as caught:
            await router.send_multipart([b"UNKNOWN", b"DATA"])
        assert caught.value.routing_id == b"UNKNOWN"
        with pytest.raises(HostUnreachableError):
            router.send_multipart_nowait([b"UNKNOWN", b"DATA"])
        async with Dealer(connect=router.last_endpoint, options=named(b"X")) as dealer:
            await dealer.send(b"Hello")
            assert await router.receive_multipart() == [b"X", b"Hello"]
            await router.send_multipart([b"X", b"Hello"])
            assert await dealer.receive() == b"Hello"
        await until(lambda: not router.statistics().peers)
        with pytest.raises(HostUnreachableError):
            await router.send_multipart([b"X", b"gone"])


@over(*EVERYWHERE)
async def test_a_peer_that_comes_back_under_its_name_gets_nothing_old(endpoint: str) -> None:
    async with Router(bind=endpoint, options=MANDATORY) as router:
        async with Dealer(connect=router.last_endpoint, options=named(b"B")):
            await router.wait_connected()
            await router.send_multipart([b"B", b"never read"])
        await until(lambda: ready_peers(router) == 0)
        async with Dealer(connect=router.last_endpoint, options=named(b"B")) as dealer:
            await router.wait_connected()
            await router.send_multipart([b"B", b"new"])
            assert await dealer.receive() == b"new"


@over(*EVERYWHERE)
async def test_a_mandatory_router_waits_for_a_full_peer_instead_of_dropping(endpoint: str) -> None:
    options = Options(router_mandatory=True, send_hwm=1, linger=0)
    body = bytes(1 << 20)
    async with Router(bind=endpoint, options=options) as router:
        slow = Options(routing_id=b"X", receive_hwm=1, linger=0)
        async with Dealer(connect=router.last_endpoint, options=slow) as dealer:
            await router.wait_connected()
            sent = 0
            with pytest.raises(trio.WouldBlock):
                for sent in range(100):  # noqa: B007 - how far it came is asserted below
                    router.send_multipart_nowait([b"X", body])
            assert 1 <= sent < 50
            async with trio.open_nursery() as nursery:
                nursery.start_soon(router.send_multipart, [b"X", b"last"])
                got = 0
                while await dealer.receive() != b"last":
                    got += 1
            assert got >= sent
            assert dropped(router, "hwm") == 0


@over("inproc")
async def test_a_plain_router_drops_for_a_full_peer_and_counts(endpoint: str) -> None:
    async with Router(bind=endpoint, options=Options(send_hwm=2, linger=0)) as router:
        slow = Options(routing_id=b"X", receive_hwm=1, linger=0)
        async with Dealer(connect=endpoint, options=slow) as dealer:
            await router.wait_connected()
            for number in range(10):
                await router.send_multipart([b"X", b"%d" % number])
            assert waiting(dealer) == [[b"0"], [b"1"], [b"2"]]
            assert dropped(router, "hwm") == 7


@over(*EVERYWHERE)
async def test_with_handover_a_newcomer_takes_the_name(endpoint: str) -> None:
    async with Router(bind=endpoint, options=Options(router_handover=True, linger=0)) as router:
        once = Options(routing_id=b"X", retry=False, linger=0)
        async with Dealer(connect=router.last_endpoint, options=once) as first:
            await first.send(b"first")
            assert await router.receive_multipart() == [b"X", b"first"]
            async with Dealer(connect=router.last_endpoint, options=once) as second:
                await second.send(b"second")
                assert await router.receive_multipart() == [b"X", b"second"]
                await router.send_multipart([b"X", b"to the newcomer"])
                assert await second.receive() == b"to the newcomer"
                await until(lambda: ready_peers(first) == 0)
                assert waiting(first) == []


@over(*EVERYWHERE)
async def test_without_handover_the_second_owner_of_a_name_is_refused_and_both_ends_are_told(endpoint: str) -> None:
    async with Router(bind=endpoint, options=BRIEF) as router:
        async with Dealer(connect=router.last_endpoint, options=named(b"X")) as first:
            await first.send(b"first")
            assert await router.receive_multipart() == [b"X", b"first"]
            once = Options(routing_id=b"X", retry=False, linger=0)
            async with router.monitor() as at_router, Dealer(options=once) as second, second.monitor() as at_second:
                second.connect(router.last_endpoint or "")
                refusal = await event_of(at_router, HandshakeFailed)
                assert "X" in str(refusal.error)
                async for event in at_second:
                    if isinstance(event, HandshakeFailed | Disconnected):
                        break
                await router.send_multipart([b"X", b"still yours"])
                assert await first.receive() == b"still yours"
                await first.send(b"I can still be heard")
                assert await router.receive_multipart() == [b"X", b"I can still be heard"]


@over(*EVERYWHERE)
@pytest.mark.parametrize("prober", [Dealer, Router, Req], ids=lambda cls: cls.__name__)
async def test_a_probe_introduces_its_sender_to_the_router(endpoint: str, prober: type[Dealer | Router | Req]) -> None:
    options = Options(routing_id=b"X", probe_router=True, linger=0)
    async with Router(bind=endpoint) as router, prober(connect=router.last_endpoint, options=options) as guest:
        assert await router.receive_multipart() == [b"X", b""]
        if isinstance(guest, Req):
            return
        await router.send_multipart([b"X", b"Hello"])
        got = await guest.receive_multipart()
        assert got[-1] == b"Hello"
        if isinstance(guest, Router):
            assert len(got[0]) == 5


@over(*EVERYWHERE)
@pytest.mark.parametrize("own_names", [False, True], ids=["unnamed", "named"])
async def test_a_routing_id_given_to_connect_names_the_other_end_at_once(endpoint: str, own_names: bool) -> None:
    binder = named(b"X") if own_names else BRIEF
    dialler = named(b"Y") if own_names else BRIEF
    async with Router(bind=endpoint, options=binder) as bound, Router(options=dialler) as guest:
        guest.connect(bound.last_endpoint or "", routing_id=b"chosen")
        await guest.send_multipart([b"chosen", b"hi"])  # before the handshake can have happened
        routing_id, body = await bound.receive_multipart()
        assert body == b"hi"
        assert routing_id == b"Y" if own_names else routing_id[0] == 0
        await bound.send_multipart([routing_id, b"ok"])
        assert await guest.receive_multipart() == [b"chosen", b"ok"]


@over(*EVERYWHERE)
async def test_a_routing_id_in_use_cannot_be_given_to_connect(endpoint: str) -> None:
    async with Router(bind=endpoint) as bound, Router(options=BRIEF) as guest:
        guest.connect(bound.last_endpoint or "", routing_id=b"chosen")
        with pytest.raises(ValueError, match="chosen"):
            guest.connect(bound.last_endpoint or "", routing_id=b"chosen")
        await guest.send_multipart([b"chosen", b"hi"])
        assert (await bound.receive_multipart())[1] == b"hi"


@over(*EVERYWHERE)
async def test_a_router_that_is_connected_to_can_connect_on_by_name(endpoint: str, new_endpoint: object) -> None:
    assert callable(new_endpoint)
    async with AsyncExitStack() as stack:
        x = await stack.enter_async_context(Router(bind=endpoint, options=named(b"X")))
        z = await stack.enter_async_context(Router(bind=new_endpoint(), options=named(b"Z")))
        y = await stack.enter_async_context(Router(options=named(b"Y")))
        y.connect(x.last_endpoint or "", routing_id=b"X")
        await y.send_multipart([b"X", b"hi 1"])
        await until(lambda: sum(unread(x)) == 1)
        x.connect(z.last_endpoint or "", routing_id=b"Z")
        await x.send_multipart([b"Z", b"hi 2"])
        assert await z.receive_multipart() == [b"X", b"hi 2"]
        assert waiting(y) == []


@over(*EVERYWHERE)
async def test_a_disconnected_peer_is_told_to_go_and_only_that_one(endpoint: str) -> None:
    async with Router(bind=endpoint, options=MANDATORY) as router, AsyncExitStack() as stack:
        for name in (b"stays", b"goes"):
            once = Options(routing_id=name, retry=False, linger=0)
            dealer = await stack.enter_async_context(Dealer(connect=router.last_endpoint, options=once))
            await dealer.send(b"hello")
        peers = {}
        for _ in range(2):
            message = await router.receive_message()
            peers[message.peer.routing_id] = message.peer
        await router.disconnect_peer(peers[b"goes"])
        with pytest.raises(HostUnreachableError):
            await router.send_multipart([b"goes", b"?"])
        await router.send_multipart([b"stays", b"!"])


async def test_a_paused_peer_is_not_heard_and_slows_down_while_others_are(autojump_clock: MockClock) -> None:
    options = Options(receive_hwm=4)
    async with Router(bind="inproc://pause", options=options) as router:
        mute = Dealer(connect="inproc://pause", options=Options(routing_id=b"mute", send_hwm=4))
        heard = Dealer(connect="inproc://pause", options=Options(routing_id=b"heard", send_hwm=4))
        async with mute, heard:
            await router.wait_connected(2)
            router.pause_peer(b"mute")
            with trio.move_on_after(1) as waiting:
                for number in range(100):
                    await mute.send(b"%d" % number)
            assert waiting.cancelled_caught
            await heard.send(b"loud")
            assert await router.receive_multipart() == [b"heard", b"loud"]
            assert not router.can_receive()
            router.resume_peer(b"mute")
            assert [await router.receive_multipart() for _ in range(3)] == [[b"mute", b"%d" % n] for n in range(3)]


async def test_whoever_waits_receives_when_a_peer_is_heard_again(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://pause") as router:
        async with Dealer(connect="inproc://pause", options=Options(routing_id=b"mute")) as mute:
            await router.wait_connected()
            router.pause_peer(b"mute")
            await mute.send(b"kept")
            async with trio.open_nursery() as nursery:

                async def resume_later() -> None:
                    await trio.sleep(1)
                    router.resume_peer(b"mute")

                nursery.start_soon(resume_later)
                with trio.fail_after(5):
                    assert await router.receive_multipart() == [b"mute", b"kept"]


async def test_what_a_paused_peer_sent_is_heard_once_it_has_gone(autojump_clock: MockClock) -> None:
    async with Router(bind="inproc://pause") as router:
        async with Dealer(connect="inproc://pause", options=Options(routing_id=b"mute")) as mute:
            await router.wait_connected()
            router.pause_peer(b"mute")
            await mute.send(b"last words")
        with trio.fail_after(5):
            assert await router.receive_multipart() == [b"mute", b"last words"]
        with pytest.raises(HostUnreachableError):
            router.pause_peer(b"mute")
