"""What two ends of each pair of socket types say to each other, whoever plays which.

A dialogue carries one message each way where the pattern has two ways. It asserts what each end saw, so it is the
whole judgement on a pair, and it can be played again on the same connection with another message.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

import trio_mq

from ._ends import End, OurEnd
from ._messages import Frame, Pattern, as_seen, whole
from ._process import DEADLINE

Dialogue: TypeAlias = Callable[[End, End, Sequence[Frame]], Awaitable[None]]

OTHER_TOPIC = b"weather.rome"

_stations = itertools.count()

FIRST_ROUTER = b"first-router"
SECOND_ROUTER = b"second-router"


async def one_way(sender: End, receiver: End, message: Sequence[Frame]) -> None:
    """The message arrives as it was sent. Sent by a task of its own: 16 MiB need both ends at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send, message)
        assert await receiver.receive() == as_seen(message)


async def both_ways(first: End, second: End, message: Sequence[Frame]) -> None:
    await one_way(first, second, message)
    await one_way(second, first, reply_to(message))


async def req_router(req: End, router: End, message: Sequence[Frame]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(req.send, message)
        routing_id, *envelope_and_body = await router.receive()
    # 28/REQREP: "SHALL prefix the outgoing message with an empty delimiter frame". No id frame: a ROUTER's program
    # counts on this shape, and REQ adds one only where the peer is a REP.
    assert envelope_and_body == as_seen([b"", *message])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.send, [whole(routing_id), b"", *reply_to(message)])
        assert await req.receive() == as_seen(reply_to(message))


async def dealer_rep(dealer: End, rep: End, message: Sequence[Frame]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dealer.send, [b"hop", b"", *message])
        assert await rep.receive() == as_seen(message)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rep.send, reply_to(message))
        assert await dealer.receive() == as_seen([b"hop", b"", *reply_to(message)])


async def dealer_router(dealer: End, router: End, message: Sequence[Frame]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dealer.send, message)
        routing_id, *body = await router.receive()
    assert body == as_seen(message)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.send, [whole(routing_id), *reply_to(message)])
        assert await dealer.receive() == as_seen(reply_to(message))


async def router_router(first: End, second: End, message: Sequence[Frame]) -> None:
    """Both have a routing id of their own, as two ROUTERs need: the one in front says it first."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.send, [SECOND_ROUTER, *message])
        assert await second.receive() == as_seen([FIRST_ROUTER, *message])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.send, [FIRST_ROUTER, *reply_to(message)])
        assert await first.receive() == as_seen([SECOND_ROUTER, *reply_to(message)])


async def publish(publisher: End, subscriber: End, message: Sequence[Frame]) -> None:
    """Only what matches arrives; an XPUB sees the subscription come and go, and what an XSUB says besides."""
    # A topic of its own for each message: the cancellation of the one before may still be on its way.
    topic = b"weather.station-%06d" % next(_stations)
    await subscriber.subscribe(topic)
    await subscription_arrived(publisher, subscriber, topic)
    await publisher.send([OTHER_TOPIC, b"not for this subscriber"])
    await one_way(publisher, subscriber, [topic, *message])
    if publisher.kind == "XPUB" and subscriber.kind == "XSUB":
        # 29/PUBSUB lets an XSUB send messages of its own; only 00 and 01 in front make one a subscription.
        await one_way(subscriber, publisher, [b"\x02upstream", *message])
    await subscriber.unsubscribe(topic)
    if publisher.kind == "XPUB":
        assert await publisher.receive() == [b"\x00" + topic]


async def subscription_arrived(publisher: End, subscriber: End, topic: bytes) -> None:
    """Wait until *publisher* sends what matches *topic* to *subscriber*; both queues are empty afterwards."""
    if publisher.kind == "XPUB":
        assert await publisher.receive() == [b"\x01" + topic]
    elif isinstance(publisher, OurEnd) and isinstance(publisher.socket, trio_mq.Pub):
        with trio.fail_after(DEADLINE):
            await publisher.socket.wait_subscribed(topic)
    else:
        await _probe_until_received(publisher, subscriber, topic)


async def _probe_until_received(publisher: End, subscriber: End, topic: bytes) -> None:
    # Their PUB tells nobody about its subscribers: publish until something arrives, then throw the rest away.
    with trio.fail_after(DEADLINE):
        await publisher.send([topic, b"probe"])
        while await subscriber.receive_within(0.02) is None:
            await publisher.send([topic, b"probe"])
    await publisher.send([topic, b"last probe"])
    while await subscriber.receive() != [topic, b"last probe"]:
        pass


def reply_to(message: Sequence[Frame]) -> list[Frame]:
    """A message of the same shape with other content."""
    return [Pattern(frame.length, frame.seed + 1) if isinstance(frame, Pattern) else frame[::-1] for frame in message]


DIALOGUES: dict[tuple[str, str], Dialogue] = {
    ("PAIR", "PAIR"): both_ways,
    ("REQ", "REP"): both_ways,
    ("REQ", "ROUTER"): req_router,
    ("DEALER", "REP"): dealer_rep,
    ("DEALER", "DEALER"): both_ways,
    ("DEALER", "ROUTER"): dealer_router,
    ("ROUTER", "ROUTER"): router_router,
    ("PUB", "SUB"): publish,
    ("PUB", "XSUB"): publish,
    ("XPUB", "SUB"): publish,
    ("XPUB", "XSUB"): publish,
    ("PUSH", "PULL"): one_way,
}
"""Every pair of stable socket types that fit each other, by 23/ZMTP and 37/ZMTP."""
