"""Multicast on a lossy link, under a clock that jumps: every message comes in order, or its loss is told."""

from __future__ import annotations

import os

import pytest

from trio_mq._message import Payload
from trio_mq._pgm import Data, parse_packet

from ._pgm_link import Ear, Link


def numbered(first: int, end: int, size: int) -> list[Payload]:
    return [b"%08d" % number + bytes(size - 8) for number in range(first, end)]


def numbers(ear: Ear) -> list[int]:
    return [int(message[:8]) for message in ear.messages if isinstance(message, bytes)]


def publish(link: Link, count: int, size: int, *, burst: int = 10, pause: float = 0.001) -> None:
    """Messages, in bursts, once everybody knows the source; then time to repair the last of them."""
    link.run(1.0)
    while not all(ear.receiver.sessions for ear in link.ears):
        link.run(8.0)
    for first in range(0, count, burst):
        link.source.add(numbered(first, min(first + burst, count), size))
        link.run(pause)
    link.run(30.0)


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.1, 0.2, 0.3])
def test_every_message_comes_in_order_whatever_is_lost_either_way(loss: float) -> None:
    link = Link(loss=loss, seed=int(loss * 100), first=0xFFFFF000, rate=5e6)
    publish(link, 20_000, 500)
    (ear,) = link.ears
    assert numbers(ear) == list(range(20_000))
    assert ear.gaps == []
    assert link.source.window.lead > 0xFFFFFFFF  # it has wrapped on the way
    assert (link.lost > 0.9 * loss * link.carried) if loss else (link.lost == 0)


def test_packets_that_overtake_each_other_or_come_twice_change_nothing() -> None:
    link = Link(loss=0.1, delay=(0.0, 0.02), duplicates=0.2, seed=3)
    publish(link, 10_000, 300)
    assert numbers(link.ears[0]) == list(range(10_000))


def test_an_outage_within_the_window_loses_nothing() -> None:
    link = Link(seed=4, rate=2e6)
    began = link.now + 2.0
    link.ears[0].deaf = lambda now: began <= now < began + 0.5
    publish(link, 10_000, 300, burst=3)
    assert numbers(link.ears[0]) == list(range(10_000))
    assert link.lost > 100


def test_an_outage_beyond_the_window_is_told_exactly_and_the_next_message_comes_within_a_second() -> None:
    link = Link(seed=5, packets=50)
    began = link.now + 2.0
    (ear,) = link.ears
    ear.deaf = lambda now: began <= now < began + 2.0
    publish(link, 6_000, 1000, burst=1, pause=0.001)
    received = numbers(ear)
    assert received == sorted(received)
    lost = [number for gap in ear.gaps for number in range(gap.first, gap.last + 1)]
    # A message of 1,000 bytes has most of a datagram to itself; some lie in two, and go with either.
    missing = sorted(set(range(6_000)) - set(received))
    packed = link.source.figures().sent / 6_000
    assert len(lost) * (1 / packed) == pytest.approx(len(missing), abs=3)
    assert lost == sorted(set(lost))
    assert len(missing) < 2_100


def test_half_of_the_window_in_one_burst_is_repaired() -> None:
    link = Link(seed=6, packets=400, rate=5e6)
    (ear,) = link.ears
    link.run(1.0)
    state = {"left": 200}

    def deaf(now: float) -> bool:
        state["left"] -= now > 1002.0
        return now > 1002.0 and state["left"] >= 0

    ear.deaf = deaf
    publish(link, 3_000, 1300, burst=1, pause=0.001)
    assert numbers(ear) == list(range(3_000))


def every_twentieth(datagram: bytes) -> bool:
    """Data that gets lost before it comes to anybody, as at a router."""
    packet = parse_packet(datagram)
    return isinstance(packet, Data) and not packet.repair and packet.sequence % 20 == 7


def test_fifty_receivers_that_miss_the_same_ask_little_more_than_one_does() -> None:
    load = {}
    for receivers in (1, 50):
        link = Link(receivers=receivers, seed=7, rate=5e6)
        link.swallows = every_twentieth
        publish(link, 2_000, 1300, burst=2, pause=0.002)
        for ear in link.ears:
            assert numbers(ear) == list(range(2_000))
        load[receivers] = link.naks_at_source
        # Each of the hundred is asked for, and sent again, once or little more.
        assert link.source.figures().repaired <= 130
    assert load[50] <= 2 * load[1]


def test_fifty_receivers_that_lose_different_packets_keep_the_source_bounded() -> None:
    link = Link(receivers=50, loss=0.01, seed=8, rate=5e6)
    publish(link, 2_000, 1300, burst=2, pause=0.002)
    for ear in link.ears:
        assert numbers(ear) == list(range(2_000))
    lost_somewhere = link.source.figures()
    # 1 - 0.99 ** 50 of 2,000 datagrams, 790, are lost by somebody; each costs a request and a repair, or little more.
    assert link.naks_at_source <= 1.5 * 790
    assert lost_somewhere.repaired <= 1.5 * 790


def test_a_late_joiner_gets_what_is_sent_from_then_on() -> None:
    link = Link(receivers=2, seed=9, rate=5e6)
    late = link.ears[1]
    joined = link.now + 2.0
    late.deaf = lambda now: now < joined
    link.run(1.0)
    for first in range(0, 5_000, 5):
        link.source.add(numbered(first, first + 5, 300))
        link.run(0.002)
    link.run(10.0)
    assert numbers(link.ears[0]) == list(range(5_000))
    received = numbers(late)
    assert 0 < received[0] < 4_990
    assert received == list(range(received[0], 5_000))


def test_the_end_is_heard_and_what_was_lost_before_it_is_repaired() -> None:
    for seed in range(20):
        link = Link(loss=0.3, seed=seed)
        link.run(1.0)
        while not link.ears[0].receiver.sessions:
            link.run(8.0)
        link.source.add(numbered(0, 50, 1300))
        link.run(0.01)
        link.source.finish(link.now)
        link.run(20.0)
        assert numbers(link.ears[0]) == list(range(50))
        assert [reason for _, reason in link.ears[0].receiver.ended] == ["it has ended"]


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.environ.get("TRIO_MQ_REQUIRE_PEERS") != "1", reason="takes minutes; .ci/run asks for it")
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.2, 0.3])
def test_half_a_million_datagrams_come_whatever_is_lost(loss: float) -> None:
    link = Link(loss=loss, seed=int(loss * 1000) + 1, first=0xFFFF0000, rate=20e6, packets=60_000, window=80_000)
    (ear,) = link.ears
    while not ear.receiver.sessions:
        link.run(9.0)
    count, expected = 500_000, 0
    for first in range(0, count, 10):
        link.source.add(numbered(first, first + 10, 1400))
        link.run(0.001)
        if len(ear.messages) > 10_000 or first + 10 == count:
            link.run(60.0 if first + 10 == count else 0.0)
            assert numbers(ear) == list(range(expected, expected + len(ear.messages)))
            expected += len(ear.messages)
            ear.messages.clear()
    assert expected == count
    assert ear.gaps == []
