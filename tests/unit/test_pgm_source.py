"""A source of multicast, alone: what it sends when, and what it answers."""

from __future__ import annotations

import itertools
import math
import time

import pytest

from trio_mq._pgm import Data, Nak, Packet, Source, Spm, Spmr, parse_packet

from ._pgm_link import GROUP, PORT, SOURCE, settings_of
from ._pgm_vectors import capture

GSI = b"source"


def sent(source: Source, now: float) -> list[Packet]:
    """Everything that may be sent at the time *now*."""
    packets: list[Packet] = []
    while (datagram := source.next(now)) is not None:
        packet = parse_packet(datagram)
        assert packet is not None
        packets.append(packet)
    return packets


def started(**changes: object) -> Source:
    source = Source(settings_of(**changes), 0.0)
    sent(source, 0.0)
    return source


def nak(*numbers: int, **changes: object) -> Nak:
    return Nak(GSI, 40000, PORT, numbers, SOURCE, GROUP)._replace(**changes)  # type: ignore[arg-type]  # see settings_of


def numbers_of(packets: list[Packet], *, repair: bool) -> list[int]:
    return [packet.sequence for packet in packets if isinstance(packet, Data) and packet.repair == repair]


def test_it_begins_with_three_spms_of_an_empty_window_numbered_from_zero() -> None:
    packets = sent(Source(settings_of(), 0.0), 0.0)
    # From 2**31 on a fresh OpenPGM receiver would ignore them.
    assert packets == [Spm(GSI, 40000, PORT, number, 0, 0xFFFFFFFF, SOURCE) for number in range(3)]


def test_after_the_last_data_it_says_five_times_in_short_order_how_far_it_got() -> None:
    source = started()
    source.add([b"message"])
    sent(source, 10.0)
    now, times = 10.0, list[float]()
    while len(times) < 9:
        now = source.deadline(now)
        packets = sent(source, now)
        assert [type(packet) for packet in packets] == [Spm]
        times.append(round(now - 10.0, 3))
    assert times[:6] == [0.1, 0.2, 0.3, 0.4, 0.5, 1.8]
    assert times[-1] - times[-2] <= 10


def test_while_data_flows_an_spm_comes_every_half_second() -> None:
    source = started()
    now, times = 0.0, []
    while now < 5.0:
        source.add([b"message"])
        times += [now for packet in sent(source, now) if isinstance(packet, Spm)]
        now += 0.02
    assert len(times) >= 9
    assert all(later - earlier <= 0.53 for earlier, later in itertools.pairwise(times))


def test_a_request_is_confirmed_at_once_and_repaired() -> None:
    source = started()
    source.add([bytes(1000)] * 3)
    sent(source, 1.0)
    assert source.receive(nak(0, 2), 1.01) is None
    packets = sent(source, 1.01)
    assert packets[0] == nak(0, 2)._replace(confirmed=True)
    assert numbers_of(packets, repair=True) == [0, 2]


def test_captured_requests_are_confirmed_as_openpgm_does() -> None:
    packets = [parse_packet(each.packet) for each in capture("epgm_burst_loss_nak_list")]
    naks = [packet for packet in packets if isinstance(packet, Nak) and not packet.confirmed]
    confirmations = [packet for packet in packets if isinstance(packet, Nak) and packet.confirmed]
    first = naks[0]
    source = started(gsi=first.gsi, sport=first.sport, path=first.source, group=first.group)
    for number in range(16):
        source.add([b"%08d" % number])
        sent(source, 1.0)
    answers: list[Packet] = []
    for request in naks:
        assert source.receive(request, 2.0) is None
        answers += sent(source, 2.0)
    assert [answer for answer in answers if isinstance(answer, Nak)] == confirmations
    # OpenPGM asks for the first of each list again at once; it is repaired once.
    assert numbers_of(answers, repair=True) == [11, 12, 13, 14, 15]


def test_what_is_not_kept_is_confirmed_all_the_same_and_counted() -> None:
    source = started(packets=2)
    source.add([bytes(1416)] * 5)  # each fills a datagram
    sent(source, 1.0)
    source.receive(nak(0, 4, 9), 1.1)
    packets = sent(source, 1.1)
    assert any(isinstance(packet, Nak) for packet in packets)
    assert numbers_of(packets, repair=True) == [4]
    assert source.figures().naks_outside == 2


def test_a_number_is_repaired_once_in_twenty_milliseconds_however_often_it_is_asked_for() -> None:
    source = started()
    source.add([b"message"])
    sent(source, 1.0)
    repaired = []
    for step in range(100):
        now = 1.1 + step * 0.001
        source.receive(nak(0), now)
        repaired += numbers_of(sent(source, now), repair=True)
    assert 4 <= len(repaired) <= 6


def seconds_for_a_repair(queued: int) -> float:
    """CPU time to find what is to be repaired next, when *queued* numbers are."""
    source = started(largest=20, packets=queued)
    source.add([bytes(16)] * queued)
    sent(source, 1.0)
    for first in range(0, queued, 50):
        source.receive(nak(*range(first, first + 50)), 2.0)
    began = time.process_time()
    for number in range(queued):
        assert source._pop_repair() == number
    return (time.process_time() - began) / queued


def test_a_long_queue_of_repairs_costs_no_more_for_each_than_a_short_one() -> None:
    assert seconds_for_a_repair(100_000) <= 6 * seconds_for_a_repair(5_000)


@pytest.mark.parametrize(
    "changes",
    [{"gsi": b"others"}, {"sport": 1}, {"dport": 1}, {"source": GROUP}, {"group": SOURCE}, {"confirmed": True}],
)
def test_requests_meant_for_another_source_are_not_answered(changes: dict[str, object]) -> None:
    source = started()
    source.add([b"message"])
    sent(source, 1.0)
    assert source.receive(nak(0, **changes), 1.01) is not None
    assert sent(source, 1.01) == []


def test_spms_are_sent_on_request_but_not_a_hundred_in_a_burst() -> None:
    source = started()
    for step in range(100):
        source.receive(Spmr(GSI, 40000, PORT), 1.0 + step * 0.0001)
    assert 1 <= len(sent(source, 1.01)) <= 2


def test_a_storm_of_requests_does_not_become_a_storm_of_confirmations() -> None:
    source = started()
    source.add([bytes(1000)] * 1000)
    sent(source, 1.0)
    confirmations = 0
    for step in range(20_000):
        now = 2.0 + step * 0.0001
        source.receive(nak(step % 1000), now)
        confirmations += sum(isinstance(packet, Nak) for packet in sent(source, now))
    assert confirmations <= 500 * 2 + 100
    assert source.figures().naks == 20_000


def test_the_rate_holds_for_data_and_repairs_together() -> None:
    rate = 1_000_000.0
    source = started(rate=rate)
    source.add([bytes(1400)] * 3000)
    now, octets = 1.0, 0
    while now < 3.0:
        source.receive(nak(*range(0, source.window.lead, 7)[-50:] or (0,)), now)
        for packet in sent(source, now):
            octets += len(packet.payload) + 24 + 28 if isinstance(packet, Data) else 0
        now += 0.001
    assert 0.95 * rate * 2 <= octets <= rate * 2 + 0.01 * rate + 3000


def test_repairs_get_half_of_the_rate_at_most_while_there_is_data_and_all_of_it_when_there_is_none() -> None:
    source = started(rate=1_000_000.0)
    source.add([bytes(1400)] * 700)
    now, packets = 1.0, []
    while source.unsent:
        source.receive(nak(*range(min(50, source.window.lead + 1) or 1)), now)
        packets += sent(source, now)
        now += 0.001
    data, repairs = numbers_of(packets, repair=False), numbers_of(packets, repair=True)
    assert 0.35 <= len(repairs) / (len(data) + len(repairs)) <= 0.52
    began, repairs = now, []
    while now < began + 0.5:
        source.receive(nak(*range(60)), now)
        source.receive(nak(*range(60, 120)), now)
        repairs += numbers_of(sent(source, now), repair=True)
        now += 0.001
    assert len(repairs) * 1480 >= 0.9 * 0.5 * 1_000_000


def test_the_window_counts_datagrams_or_bytes() -> None:
    source = started(packets=10)
    source.add([bytes(1000)] * 30)
    sent(source, 1.0)
    assert (len(source.window), source.window.lead - source.window.trail) == (10, 9)
    source = started(packets=None, window_bytes=10_000)
    source.add([bytes(1000)] * 30)
    sent(source, 1.0)
    assert source.window.size <= 10_000
    assert len(source.window) >= 7


def test_the_trail_in_every_packet_is_what_is_still_kept() -> None:
    source = started(packets=3)
    source.add([bytes(1400)] * 6)
    data = [packet for packet in sent(source, 1.0) if isinstance(packet, Data)]
    assert [packet.trail for packet in data] == [0, 0, 0, 1, 2, 3]


def test_numbers_wrap() -> None:
    source = started(first=0xFFFFFFFD)
    source.add([bytes(1400)] * 6)
    packets = sent(source, 1.0)
    assert numbers_of(packets, repair=False) == [0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF, 0, 1, 2]
    source.receive(nak(0xFFFFFFFE, 1), 1.1)
    assert numbers_of(sent(source, 1.1), repair=True) == [0xFFFFFFFE, 1]


def test_its_end_is_told_three_times_and_then_it_still_repairs() -> None:
    source = started()
    source.add([b"message"])
    sent(source, 1.0)
    source.finish(1.05)
    packets = sent(source, 1.05)
    assert [packet.fin for packet in packets if isinstance(packet, Spm)] == [True] * 3
    assert source.finished_at() == 2.0
    source.receive(nak(0), 1.9)
    assert numbers_of(sent(source, 1.9), repair=True) == [0]
    assert source.finished_at() == pytest.approx(2.9)


def test_one_that_has_sent_nothing_need_not_stay() -> None:
    assert started().finished_at() == -math.inf


def test_it_asks_to_be_woken_no_earlier_than_there_is_something_to_do() -> None:
    source = started(rate=100_000.0)
    source.add([bytes(1400)] * 50)
    now = 0.0
    for _ in range(40):
        sent(source, now)
        now = source.deadline(now)
        assert sent(source, now) != []
