"""XPUB and XSUB (libzmq's test_xpub_verbose, _manual, _nodrop, _welcome_msg, test_xsub_verbose)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from trio_mq import Options, Pub, StateError, Sub, XPub, XSub

from .kit import EVERYWHERE, dropped, over, until, waiting


@over(*EVERYWHERE)
async def test_a_topic_is_reported_when_the_first_comes_and_when_the_last_goes(endpoint: str) -> None:
    async with XPub(bind=endpoint) as xpub:
        async with Sub(connect=xpub.last_endpoint) as one, Sub(connect=xpub.last_endpoint) as two:
            one.subscribe(b"A")
            assert await xpub.receive() == b"\1A"
            two.subscribe(b"A")
            await xpub.wait_subscribed(b"A", count=2)
            one.unsubscribe(b"A")
            await until(lambda: xpub.subscriber_count(b"A") == 1)
            two.unsubscribe(b"A")
            assert await xpub.receive() == b"\0A"
            assert waiting(xpub) == []


@over(*EVERYWHERE)
async def test_a_subscriber_that_leaves_takes_its_topics_back(endpoint: str) -> None:
    async with XPub(bind=endpoint) as xpub:
        async with Sub(connect=xpub.last_endpoint, topics=[b"A", b"B"]):
            assert {await xpub.receive(), await xpub.receive()} == {b"\1A", b"\1B"}
        assert {await xpub.receive(), await xpub.receive()} == {b"\0A", b"\0B"}
        assert xpub.subscriber_count() == 0


@over(*EVERYWHERE)
async def test_verbose_reports_every_subscription_and_only_the_last_cancellation(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_verbose=True)) as xpub:
        async with Sub(connect=xpub.last_endpoint) as one, Sub(connect=xpub.last_endpoint) as two:
            for sub in (one, two, one):
                sub.subscribe(b"A")
                assert await xpub.receive() == b"\1A"
            one.unsubscribe(b"A")
            one.unsubscribe(b"A")
            await until(lambda: xpub.subscriber_count(b"A") == 1)
            two.unsubscribe(b"A")
            assert await xpub.receive() == b"\0A"
            assert waiting(xpub) == []


@over(*EVERYWHERE)
async def test_verboser_reports_every_cancellation_too(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_verboser=True)) as xpub:
        async with Sub(connect=xpub.last_endpoint) as one, Sub(connect=xpub.last_endpoint) as two:
            for sub in (one, two):
                sub.subscribe(b"A")
                assert await xpub.receive() == b"\1A"
            await xpub.send(b"A")
            assert (await one.receive(), await two.receive()) == (b"A", b"A")
            for sub in (one, two):
                sub.unsubscribe(b"A")
                assert await xpub.receive() == b"\0A"


@over(*EVERYWHERE)
async def test_verbosity_can_change_while_the_socket_is_open(endpoint: str) -> None:
    async with XPub(bind=endpoint) as xpub, Sub(connect=xpub.last_endpoint, topics=b"A") as sub:
        assert await xpub.receive() == b"\1A"
        sub.subscribe(b"A")
        sub.subscribe(b"B")
        assert await xpub.receive() == b"\1B", "the duplicate of A is not reported"
        xpub.options = replace(xpub.options, xpub_verbose=True)
        sub.subscribe(b"A")
        assert await xpub.receive() == b"\1A"
        for body in (b"A", b"B"):
            await xpub.send(body)
            assert await sub.receive() == body


@over(*EVERYWHERE)
async def test_manual_applies_what_the_program_chooses_instead(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_manual=True)) as xpub, XSub(connect=xpub.last_endpoint) as xsub:
        await xsub.send(b"\1A")
        assert await xpub.receive() == b"\1A"
        xpub.subscribe(b"B")
        await xpub.send(b"A")
        await xpub.send(b"B")
        assert await xsub.receive() == b"B"


@over(*EVERYWHERE)
async def test_manual_applies_to_the_peer_whose_message_was_received_last(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_manual=True)) as xpub:
        async with XSub(connect=xpub.last_endpoint) as one, XSub(connect=xpub.last_endpoint) as two:
            await one.send(b"\1one")
            assert await xpub.receive() == b"\1one"
            xpub.subscribe(b"first")
            await two.send(b"\1two")
            assert await xpub.receive() == b"\1two"
            xpub.subscribe(b"second")
            await xpub.send(b"first")
            await xpub.send(b"second")
            assert (await one.receive(), await two.receive()) == (b"first", b"second")


@over(*EVERYWHERE)
async def test_manual_can_name_the_peer(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_manual=True)) as xpub:
        async with XSub(connect=xpub.last_endpoint) as one, XSub(connect=xpub.last_endpoint) as two:
            peers = []
            for number, xsub in enumerate((one, two)):
                await xsub.send(b"\1%d" % number)
                message = await xpub.receive_message()
                assert message.frames == (b"\1%d" % number,)
                peers.append(message.peer)
            xpub.subscribe(b"first", peer=peers[0])
            xpub.subscribe(b"second", peer=peers[1])
            await xpub.send(b"second")
            await xpub.send(b"first")
            assert (await one.receive(), await two.receive()) == (b"first", b"second")
            xpub.unsubscribe(b"first", peer=peers[0])
            xpub.subscribe(b"end", peer=peers[0])
            await xpub.send(b"first")
            await xpub.send(b"end")
            assert await one.receive() == b"end"
            assert waiting(two) == []


@over(*EVERYWHERE)
async def test_manual_reports_what_a_leaving_peer_had_asked_for_not_what_it_was_given(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_manual=True)) as xpub:
        async with XSub(connect=xpub.last_endpoint) as xsub:
            for topic in (b"A", b"B"):
                await xsub.send(b"\1" + topic)
                assert await xpub.receive() == b"\1" + topic
                xpub.subscribe(b"X" + topic)
            await xsub.send(b"\0A")
            assert await xpub.receive() == b"\0A"
            xpub.unsubscribe(b"XA")
            await xpub.send(b"XA")
            await xpub.send(b"XB")
            assert await xsub.receive() == b"XB"
        assert await xpub.receive() == b"\0B"
        async with XSub(connect=xpub.last_endpoint) as xsub:
            await xsub.send(b"\1C")
            assert await xpub.receive() == b"\1C"
            xpub.subscribe(b"XC")
            await xpub.send(b"XB")
            await xpub.send(b"XC")
            assert await xsub.receive() == b"XC", "what was given to the one who left is gone with it"


@over(*EVERYWHERE)
async def test_manual_needs_no_hurry_between_two_subscribers(endpoint: str, new_endpoint: object) -> None:
    assert callable(new_endpoint)
    async with XSub(bind=endpoint) as front, XPub(bind=new_endpoint(), options=Options(xpub_manual=True)) as back:
        async with (
            Pub(connect=front.last_endpoint) as pub,
            Sub(connect=back.last_endpoint, topics=b"1") as one,
            Sub(connect=back.last_endpoint, topics=b"2") as two,
        ):
            for _ in range(2):
                subscription = await back.receive()
                back.subscribe(subscription[1:])
                await front.send(subscription)
            await pub.wait_subscribed(b"1")
            await pub.wait_subscribed(b"2")
            for topic in (b"1", b"2"):
                await pub.send_multipart([topic, b"X"])
                await back.send_multipart(await front.receive_multipart())
            assert await one.receive_multipart() == [b"1", b"X"]
            assert await two.receive_multipart() == [b"2", b"X"]


@over("inproc")
async def test_only_a_manual_xpub_has_subscriptions_of_its_own(endpoint: str) -> None:
    async with XPub(bind=endpoint) as xpub, Sub(connect=endpoint, topics=b"A"):
        assert await xpub.receive() == b"\1A"
        with pytest.raises(StateError, match="xpub_manual"):
            xpub.subscribe(b"B")


@over("inproc")
async def test_with_block_a_publisher_waits_for_the_slow_and_loses_nothing(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(send_hwm=20, overflow="block", linger=0)) as xpub:
        slow = Sub(connect=endpoint, topics=b"", options=Options(receive_hwm=10))
        quick = Sub(connect=endpoint, topics=b"")
        async with slow, quick:
            await xpub.wait_subscribed(count=2)
            sent = 0
            while True:
                try:
                    xpub.send_nowait(b"%d" % sent)
                except trio.WouldBlock:
                    break
                sent += 1
            assert sent == 30
            async with trio.open_nursery() as nursery:
                nursery.start_soon(xpub.send, b"waited")
                await trio.testing.wait_all_tasks_blocked()
                assert len(waiting(quick)) == 30, "a message goes to all of its subscribers or to none"
                assert waiting(slow)[:30] == [[b"%d" % number] for number in range(30)]
            assert (await quick.receive(), len(waiting(quick))) == (b"waited", 0)
            assert dropped(xpub, "hwm") == 0


@over(*EVERYWHERE)
async def test_with_block_everything_arrives_whatever_the_marks(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=Options(send_hwm=1, overflow="block")) as pub:
        async with Sub(connect=pub.last_endpoint, topics=b"", options=Options(receive_hwm=1)) as sub:
            await pub.wait_subscribed()
            async with trio.open_nursery() as nursery:

                async def publish() -> None:
                    for number in range(300):
                        await pub.send(b"%d" % number)

                nursery.start_soon(publish)
                assert [await sub.receive() for _ in range(300)] == [b"%d" % number for number in range(300)]


@over(*EVERYWHERE)
async def test_the_welcome_greets_every_new_subscriber_that_wants_it(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_welcome=b"W")) as xpub:
        async with Sub(connect=xpub.last_endpoint, topics=b"W") as one:
            assert await xpub.receive() == b"\1W"
            assert await one.receive() == b"W"
            async with (
                Sub(connect=xpub.last_endpoint, topics=b"W") as two,
                Sub(connect=xpub.last_endpoint, topics=b"X") as three,
            ):
                assert await two.receive() == b"W"
                await xpub.wait_subscribed(b"X")
                await xpub.send(b"X")
                assert await three.receive() == b"X"
                assert waiting(one) == []


@over(*EVERYWHERE)
async def test_what_is_no_subscription_passes_from_xsub_to_xpub_as_a_message(endpoint: str) -> None:
    async with XPub(bind=endpoint) as xpub, XSub(connect=xpub.last_endpoint) as xsub:
        await xpub.wait_connected()
        await xsub.wait_connected()
        messages = [[b"\2A"], [b""], [b"ABC", b"\0BC"], [b"ABC", b"\1BC"]]
        for frames in messages:
            await xsub.send_multipart(frames)
        assert [await xpub.receive_multipart() for _ in messages] == messages
        assert xpub.subscriber_count() == 0


@over(*EVERYWHERE)
async def test_an_xsub_does_not_filter_what_it_is_sent(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_manual=True)) as xpub, XSub(connect=xpub.last_endpoint) as xsub:
        await xsub.send(b"\1A")
        assert await xpub.receive() == b"\1A"
        xpub.subscribe(b"")
        await xpub.send(b"anything")
        assert await xsub.receive() == b"anything"
