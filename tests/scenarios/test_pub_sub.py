"""PUB and SUB (RFC 29; libzmq's test_pubsub, test_pub_invert_matching, test_pubsub_topics_count, test_xpub_topic)."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from trio_mq import Options, Pub, Sub, XPub, XSub

from .kit import EVERYWHERE, dropped, over, take, unread, until

BRIEF = Options(linger=0)
INVERTED = Options(invert_matching=True, linger=0)


async def arrived(sub: Sub, pub: Pub | XPub) -> list[list[bytes]]:
    """What *sub* got of all that was published before: a sentinel follows it on the same connection."""
    sub.subscribe(b"\xffend")
    await pub.wait_subscribed(b"\xffend")
    await pub.send(b"\xffend")
    got = []
    while (frames := await sub.receive_multipart()) != [b"\xffend"]:
        got.append(frames)
    sub.unsubscribe(b"\xffend")
    return got


@over(*EVERYWHERE)
async def test_a_subscriber_gets_what_begins_with_one_of_its_topics(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint, topics=[b"a", b"bc"]) as sub:
        await pub.wait_subscribed(b"bc")
        for body in (b"", b"a", b"ab", b"b", b"bc", b"bcd", b"ca"):
            await pub.send(body)
        assert await arrived(sub, pub) == [[b"a"], [b"ab"], [b"bc"], [b"bcd"]]


@over(*EVERYWHERE)
async def test_the_empty_topic_is_every_message(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint, topics=b"") as sub:
        await pub.wait_subscribed()
        messages = [[b""], [b"x"], [b"", b"y"]]
        for frames in messages:
            await pub.send_multipart(frames)
        assert await take(sub, 3) == messages


@over(*EVERYWHERE)
async def test_no_topic_is_no_message(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint) as sub:
        await pub.wait_connected()
        await pub.send(b"")
        await pub.send(b"anything")
        assert await arrived(sub, pub) == []


@over(*EVERYWHERE)
async def test_topics_that_overlap_deliver_a_message_once(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint, topics=[b"", b"a", b"ab"]) as sub:
        await pub.wait_subscribed(b"ab")
        await pub.send(b"abc")
        assert await arrived(sub, pub) == [[b"abc"]]


@over(*EVERYWHERE)
async def test_only_the_first_frame_is_matched(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint, topics=b"topic") as sub:
        await pub.wait_subscribed(b"topic")
        await pub.send_multipart([b"other", b"topic"])
        await pub.send_multipart([b"topic", b"other"])
        await pub.send_multipart([b"top", b"ic"])
        assert await arrived(sub, pub) == [[b"topic", b"other"]]


@over(*EVERYWHERE)
async def test_a_late_subscription_begins_with_what_follows_it(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint, topics=b"early") as sub:
        await pub.wait_subscribed(b"early")
        await pub.send(b"late: missed")
        sub.subscribe(b"late")
        await pub.wait_subscribed(b"late")
        await pub.send(b"late: seen")
        assert await sub.receive() == b"late: seen"
        sub.unsubscribe(b"late")
        await until(lambda: pub.subscriber_count(b"late") == 0)
        await pub.send(b"late: missed again")
        await pub.send(b"early: seen")
        assert await sub.receive() == b"early: seen"


@over(*EVERYWHERE)
async def test_subscribing_twice_needs_unsubscribing_twice(endpoint: str) -> None:
    async with XPub(bind=endpoint) as xpub, Sub(connect=xpub.last_endpoint) as sub:
        sub.subscribe(b"A")
        sub.subscribe(b"A")
        assert await xpub.receive() == b"\1A"
        sub.unsubscribe(b"A")
        sub.subscribe(b"B")
        assert await xpub.receive() == b"\1B"
        assert xpub.subscriber_count(b"A") == 1
        await xpub.send(b"A still")
        assert await sub.receive() == b"A still"
        sub.unsubscribe(b"A")
        assert await xpub.receive() == b"\0A"
        await xpub.send(b"A no more")
        await xpub.send(b"B")
        assert await sub.receive() == b"B"


@over(*EVERYWHERE)
async def test_unsubscribing_what_was_never_subscribed_changes_nothing(endpoint: str) -> None:
    async with XPub(bind=endpoint, options=Options(xpub_verboser=True)) as xpub, Sub(connect=xpub.last_endpoint) as sub:
        sub.unsubscribe(b"A")
        sub.subscribe(b"B")
        assert await xpub.receive() == b"\1B"
        sub.unsubscribe(b"A")
        sub.unsubscribe(b"B")
        assert await xpub.receive() == b"\0B"


@over(*EVERYWHERE)
async def test_a_subscriber_need_not_be_entered_to_choose_its_topics(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub:
        sub = Sub(topics=[b"a", b"b"])
        sub.subscribe(b"c")
        sub.unsubscribe(b"a")
        sub.connect(pub.last_endpoint or "")
        async with sub:
            await pub.wait_subscribed(b"c")
            for body in (b"a", b"b", b"c"):
                await pub.send(body)
            assert await arrived(sub, pub) == [[b"b"], [b"c"]]


@over(*EVERYWHERE)
async def test_what_is_published_for_nobody_is_dropped_without_waiting(endpoint: str) -> None:
    async with Pub(bind=endpoint) as pub:
        for _ in range(5):
            await pub.send(b"nobody listens")
        async with Sub(connect=pub.last_endpoint, topics=b"") as sub:
            await pub.wait_subscribed()
            await pub.send(b"somebody does")
            assert await sub.receive() == b"somebody does"
        assert dropped(pub, "hwm") == 0


@over(*EVERYWHERE)
async def test_every_subscriber_gets_its_own_copy(endpoint: str) -> None:
    async with AsyncExitStack() as stack:
        pub = await stack.enter_async_context(Pub(bind=endpoint))
        subs = [await stack.enter_async_context(Sub(connect=pub.last_endpoint, topics=b"")) for _ in range(8)]
        await pub.wait_subscribed(count=8)
        messages = [[b"%d" % number, b"x" * number] for number in range(200)]
        await pub.send_many(messages)
        for sub in subs:
            assert await take(sub, 200) == messages


@over(*EVERYWHERE)
async def test_a_connecting_publisher_reaches_bound_subscribers(endpoint: str) -> None:
    async with Sub(bind=endpoint, topics=b"a") as sub, Pub(connect=sub.last_endpoint) as pub:
        await pub.wait_subscribed(b"a")
        await pub.send(b"a1")
        assert await sub.receive() == b"a1"


@over(*EVERYWHERE)
async def test_a_subscriber_hears_several_publishers(endpoint: str, new_endpoint: object) -> None:
    assert callable(new_endpoint)
    async with Pub(bind=endpoint) as one, Pub(bind=new_endpoint()) as two:
        async with Sub(connect=[*one.endpoints, *two.endpoints], topics=b"") as sub:
            await one.wait_subscribed()
            await two.wait_subscribed()
            await one.send(b"one")
            await two.send(b"two")
            assert {await sub.receive(), await sub.receive()} == {b"one", b"two"}


@over(*EVERYWHERE)
async def test_a_cancelled_topic_disturbs_no_message_of_another(endpoint: str, new_endpoint: object) -> None:
    """Its own unread messages may come or not; on inproc, one queue of two shrinks while a batch is taken of both."""
    assert callable(new_endpoint)
    async with Pub(bind=endpoint) as one, Pub(bind=new_endpoint()) as two:
        async with Sub(connect=[*one.endpoints, *two.endpoints], topics=[b"a", b"b"]) as sub:
            await one.wait_subscribed(b"b")
            await two.wait_subscribed(b"b")
            await one.send_many([b"a1", b"a2", b"b1"])
            await two.send_many([b"b2", b"b3", b"b4"])
            await until(lambda: sorted(unread(sub)) == [3, 3])
            sub.unsubscribe(b"a")
            await until(lambda: one.subscriber_count(b"a") == two.subscriber_count(b"a") == 0)
            await one.send(b"a3")
            await one.send(b"b5")
            got: list[bytes] = []
            while len([message for message in got if message[:1] == b"b"]) < 5:
                got += [message for message in await sub.receive_many() if isinstance(message, bytes)]
            assert b"a3" not in got
            assert [message for message in got if message in (b"b1", b"b5")] == [b"b1", b"b5"]
            assert [message for message in got if message in (b"b2", b"b3", b"b4")] == [b"b2", b"b3", b"b4"]


@over("tcp", "ipc")
async def test_subscriptions_are_renewed_after_a_reconnection(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=BRIEF) as first:
        where = first.last_endpoint or ""
        async with Sub(connect=where, topics=[b"a", b"b"]) as sub:
            await first.wait_subscribed(b"b")
            sub.subscribe(b"a")
            sub.unsubscribe(b"b")
            await until(lambda: first.subscriber_count(b"b") == 0)
            await first.aclose()
            sub.subscribe(b"c")
            async with Pub(bind=where, options=BRIEF) as second:
                await second.wait_subscribed(b"c")
                assert (second.subscriber_count(b"a"), second.subscriber_count(b"b")) == (1, 0)
                await second.send(b"a again")
                assert await sub.receive() == b"a again"


@over(*EVERYWHERE)
async def test_inverted_matching_gives_what_begins_with_none_of_the_topics(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=INVERTED) as pub:
        one = Sub(connect=pub.last_endpoint, topics=b"prefix1", options=INVERTED)
        two = Sub(connect=pub.last_endpoint, topics=b"p2", options=INVERTED)
        async with one, two:
            await until(lambda: pub.topics_count == 2)
            await pub.send(b"prefix1")
            await pub.send(b"p2")
            await pub.send(b"neither")
            assert await take(one, 2) == [[b"p2"], [b"neither"]]
            assert await take(two, 2) == [[b"prefix1"], [b"neither"]]


@over(*EVERYWHERE)
@pytest.mark.parametrize(
    "topics",
    [[b"prefix1", b"prefix2", b"prefix3"], [b"a", b"ab", b"abc", b"xyz", b"xy", b"x"]],
    ids=["independent", "nested"],
)
async def test_a_publisher_counts_its_topics(endpoint: str, topics: list[bytes]) -> None:
    async with Pub(bind=endpoint) as pub:
        async with Sub(connect=pub.last_endpoint, topics=topics) as sub, Sub(connect=pub.last_endpoint, topics=topics):
            await pub.wait_subscribed(topics[-1], count=2)
            await until(lambda: pub.topics_count == len(topics))
            sub.unsubscribe(topics[0])
            sub.subscribe(b"marker")
            await pub.wait_subscribed(b"marker")
            assert pub.topics_count == len(topics) + 1, "the other subscriber still has the topic"
        await until(lambda: pub.topics_count == 0)


@over(*EVERYWHERE)
@pytest.mark.parametrize("size", [0, 245, 246, 248, 249, 254, 255, 256, 5000])
async def test_topics_of_any_length_come_and_go(endpoint: str, size: int) -> None:
    topic = bytes(number % 251 for number in range(size))
    async with XPub(bind=endpoint) as xpub, Sub(connect=xpub.last_endpoint) as sub:
        sub.subscribe(topic)
        assert await xpub.receive() == b"\1" + topic
        await xpub.send_multipart([topic + b"!", b"body"])
        assert await sub.receive_multipart() == [topic + b"!", b"body"]
        sub.unsubscribe(topic)
        assert await xpub.receive() == b"\0" + topic


@over(*EVERYWHERE)
async def test_subscriptions_pass_upstream_through_an_intermediary(endpoint: str, new_endpoint: object) -> None:
    assert callable(new_endpoint)
    async with XPub(bind=endpoint) as xpub, XSub(bind=new_endpoint()) as xsub:
        async with Pub(connect=xsub.last_endpoint) as pub, Sub(connect=xpub.last_endpoint, topics=b"") as sub:
            await xsub.send(await xpub.receive())
            await pub.wait_subscribed()
            await pub.send_multipart([b"", b"body"])
            await xpub.send_multipart(await xsub.receive_multipart())
            assert await sub.receive_multipart() == [b"", b"body"]


@over(*EVERYWHERE)
async def test_a_subscriber_of_ten_thousand_topics_gets_the_right_ones(endpoint: str) -> None:
    topics = [b"topic %d." % number for number in range(10_000)]
    async with Pub(bind=endpoint) as pub, Sub(connect=pub.last_endpoint, topics=topics) as sub:
        await until(lambda: pub.topics_count == 10_000)
        await pub.send(b"topic 10000.")
        await pub.send(b"topic 9999.")
        assert await sub.receive() == b"topic 9999."
