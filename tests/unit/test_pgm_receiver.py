"""A receiver of multicast, alone: what it delivers, what it asks for and when, and what it forgets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._message import Payload
from trio_mq._pgm import (
    Data,
    Gap,
    Key,
    Nak,
    Packet,
    Receiver,
    ReceiverSettings,
    Session,
    Spm,
    Spmr,
    encode_packet,
    encode_v1,
    parse_packet,
)

from ._pgm_link import GROUP, PORT, SOURCE, Link
from ._pgm_vectors import Captured, capture, synthetic

GSI = b"source"
OTHER = bytes((10, 0, 0, 9))


class Ear:
    """A receiver with a clock, whose random numbers are always the largest possible."""

    def __init__(self, window: int = 1000, **settings: object) -> None:
        wanted = ReceiverSettings(dport=PORT, window=window, **settings)  # type: ignore[arg-type]  # a test names fields as it likes
        self.receiver = Receiver(wanted, lambda low, high: high)
        self.now = 100.0
        self.messages: list[Payload] = []
        self.gaps: list[tuple[int, int]] = []

    def hear(self, packet: Packet | bytes, origin: bytes = SOURCE) -> Session | None:
        raw = packet if isinstance(packet, bytes) else encode_packet(packet)
        session = self.receiver.receive(raw, origin, GROUP, self.now)
        self.take()
        return session

    def take(self) -> None:
        for session in self.receiver.sessions.values():
            while session.window.ready:
                taken = session.take()
                if isinstance(taken, Gap):
                    self.gaps.append((taken.first, taken.last))
                else:
                    self.messages += taken

    def wait(self, seconds: float) -> list[tuple[float, Packet, bytes | None]]:
        """What is asked within *seconds*, when, and whom."""
        until, asked = self.now + seconds, []
        while (deadline := self.receiver.deadline()) <= until:
            self.now = max(self.now, deadline)
            for request in self.receiver.advance(self.now):
                packet = parse_packet(request.datagram)
                assert packet is not None
                asked.append((self.now, packet, request.address))
            self.take()
        self.now = until
        return asked

    def naks(self, seconds: float) -> list[tuple[int, ...]]:
        return [packet.sequences for _, packet, _ in self.wait(seconds) if isinstance(packet, Nak)]

    @property
    def session(self) -> Session:
        (session,) = self.receiver.sessions.values()
        return session


def data(number: int, trail: int = 0, *, repair: bool = False, text: bytes | None = None, gsi: bytes = GSI) -> Data:
    payload = b"\0\0" + encode_v1(b"%d" % number if text is None else text)
    return Data(gsi, 40000, PORT, number, trail, payload, repair)


def spm(number: int, trail: int, lead: int, **changes: object) -> Spm:
    packet = Spm(GSI, 40000, PORT, number, trail, lead & 0xFFFFFFFF, SOURCE)
    return packet._replace(**changes)  # type: ignore[arg-type]  # see above


def confirmation(*numbers: int) -> Nak:
    return Nak(GSI, 40000, PORT, numbers, SOURCE, GROUP, confirmed=True)


# ---- captures


def replay(packets: list[Captured], *dropped: int) -> Ear:
    """Everything a receiver's host was sent, but for the ODATA it dropped."""
    ear = Ear()
    for each in packets:
        packet = parse_packet(each.packet)
        lost = isinstance(packet, Data) and not packet.repair and packet.sequence in dropped
        upstream = isinstance(packet, Spmr) or (isinstance(packet, Nak) and not packet.confirmed)
        if not lost and not upstream:
            ear.now = 100.0 + each.time
            ear.receiver.advance(ear.now)
            ear.receiver.receive(each.packet, each.source, each.destination, ear.now)
            ear.take()
    return ear


@pytest.mark.parametrize(
    ("name", "count", "dropped"),
    [
        ("epgm_batch", 12, ()),
        ("epgm_single_losses", 12, (3, 8)),
        ("epgm_burst_loss_nak_list", 16, (11, 12, 13, 14, 15)),
        ("epgm_ipv6_loss", 4, (1,)),
        ("pgm_raw_ip_losses", 5, (1, 4)),
    ],
)
def test_captured_losses_are_repaired_by_the_captured_repairs(name: str, count: int, dropped: tuple[int, ...]) -> None:
    ear = replay(capture(name), *dropped)
    assert ear.messages == [b"%08d" % number + b"x" * 12 for number in range(count)]
    assert ear.gaps == []
    assert ear.session.figures().repaired == len(dropped)
    assert ear.receiver.ignored == {}


def test_a_captured_late_joiner_begins_where_it_came_in() -> None:
    ear = replay(capture("epgm_late_join_spmr"))
    assert isinstance(ear.messages[0], bytes)
    assert ear.messages[0][:8] == b"00000010"


def test_our_request_for_a_captured_burst_is_the_captured_one() -> None:
    packets = capture("epgm_burst_loss_nak_list")
    parsed = [parse_packet(each.packet) for each in packets]
    theirs = next(packet for packet in parsed if isinstance(packet, Nak) and not packet.confirmed)
    # Up to the SPM that tells of the end, and no further.
    ear = replay(packets[: parsed.index(theirs)], 11, 12, 13, 14, 15)
    (_, ours, address), *_ = ear.wait(0.06)
    assert ours == theirs
    assert address == theirs.source


# ---- beginning


def test_the_first_datagram_of_data_opens_a_session_and_is_delivered() -> None:
    ear = Ear()
    ear.hear(data(7, trail=3))
    assert ear.messages == [b"7"]
    assert ear.naks(1.0) == []  # what was sent before is nobody's business here


def test_an_spm_opens_a_session_behind_what_was_sent() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, 6))
    ear.hear(data(6))
    ear.hear(data(8))
    assert ear.messages == []
    assert ear.naks(0.06) == [(7,)]


@pytest.mark.parametrize(
    "packet", [data(7, repair=True), confirmation(7), spm(1, 0, 5, fin=True), spm(1, 0, 0x80000000)]
)
def test_repairs_confirmations_and_ends_open_nothing(packet: Packet) -> None:
    ear = Ear()
    ear.hear(packet)
    assert ear.receiver.sessions == {}
    assert ear.receiver.ignored == {"unknown": 1}


def test_who_is_heard_but_has_not_said_where_it_is_is_asked_once() -> None:
    ear = Ear()
    ear.hear(data(7))
    asked = ear.wait(10.0)
    assert [(packet, address) for _, packet, address in asked] == [
        (Spmr(GSI, 40000, PORT), None),
        (Spmr(GSI, 40000, PORT), SOURCE),
    ]
    assert asked[0][0] - 100.0 <= 0.05


def test_nobody_asks_who_has_heard_somebody_else_ask_or_the_answer() -> None:
    for heard in (Spmr(GSI, 40000, PORT), spm(1, 0, 7)):
        ear = Ear()
        ear.hear(data(7))
        ear.hear(heard, OTHER if isinstance(heard, Spmr) else SOURCE)
        assert ear.wait(0.5) == []


def test_sources_are_told_apart_by_address_too_since_every_libzmq_publisher_has_the_same_gsi() -> None:
    ear = Ear()
    for number in range(3):
        ear.hear(data(number, text=b"a%d" % number))
        ear.hear(data(number, text=b"b%d" % number), OTHER)
    assert set(ear.receiver.sessions) == {Key(SOURCE, GSI, 40000), Key(OTHER, GSI, 40000)}
    assert ear.messages == [b"a0", b"b0", b"a1", b"b1", b"a2", b"b2"]


# ---- missing numbers


def test_a_gap_is_asked_for_within_fifty_milliseconds_in_one_request() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(0))
    ear.hear(data(5))
    ((at, packet, address),) = ear.wait(0.1)
    assert isinstance(packet, Nak)
    assert packet == Nak(GSI, 40000, PORT, (1, 2, 3, 4), SOURCE, GROUP)
    assert address == SOURCE
    assert at - 100.0 <= 0.05


def test_packets_that_overtook_each_other_are_not_asked_for() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    for number in (0, 2, 1, 5, 4, 3):
        ear.hear(data(number))
        ear.now += 0.01
    assert ear.messages == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert ear.naks(5.0) == []


def test_a_confirmation_for_somebody_else_keeps_us_from_asking() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(1))
    ear.hear(confirmation(0))
    assert ear.naks(0.049) == []
    ear.hear(data(0, repair=True))
    assert ear.messages == [b"0", b"1"]
    assert ear.naks(5.0) == []


def test_without_a_confirmation_it_asks_again_and_gives_up_after_fifty_times() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(1))
    asked = ear.wait(60.0)
    assert len(asked) == 50
    times = [at for at, _, _ in asked]
    waits = [round(later - earlier, 2) for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([0.1, 0.1, *[0.25] * 47], abs=0.011)
    assert ear.gaps == [(0, 0)]
    assert ear.messages == [b"1"]


def test_a_confirmed_number_that_does_not_come_is_asked_for_twice_in_short_order_and_then_slowly() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(1))
    times = []
    for _ in range(5):
        while not (asked := ear.wait(0.01)):
            pass
        times.append(asked[0][0])
        ear.hear(confirmation(0))
    waits = [round(later - earlier, 2) for earlier, later in itertools.pairwise(times)]
    # A libzmq source sends one repair for each packet that comes; so asking soon makes it go on.
    assert waits[0] <= 0.12
    assert waits[1] <= 0.12
    assert 0.2 <= waits[2] <= 0.27


def test_a_source_that_repairs_slowly_is_asked_again_with_each_repair_that_comes() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(60))
    assert ear.naks(0.06) == [tuple(range(60))]
    ear.hear(confirmation(*range(60)))
    assert len(ear.naks(0.11)) == 1  # it took its time
    ear.hear(confirmation(*range(60)))
    for number in range(20):
        ear.hear(data(number, repair=True))
        assert ear.naks(0.0015) == [(number + 1,)]
        ear.hear(confirmation(number + 1))


def test_a_number_is_not_given_up_while_its_source_repairs_others() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(200))
    for number in range(199, 0, -1):
        for sequences in ear.naks(0.3):
            ear.hear(confirmation(*sequences))
        ear.hear(data(number, repair=True))
    assert ear.gaps == []
    ear.hear(data(0, repair=True))
    assert len(ear.messages) == 201


def test_a_gap_of_thousands_is_asked_for_in_pieces_as_long_as_its_source_answers() -> None:
    ear = Ear(window=5000)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(2000))
    assert ear.naks(0.05) == [tuple(range(63))]
    for number in range(16):
        ear.hear(data(number, repair=True))
    asked = ear.wait(0.04)  # until it asks for the first of them again
    numbers = [number for _, packet, _ in asked if isinstance(packet, Nak) for number in packet.sequences]
    assert sorted(numbers) == list(range(63, 2000))
    times = [round(at, 4) for at, packet, _ in asked if isinstance(packet, Nak)]
    assert sorted(times.count(time) for time in set(times)) == [15, 16]
    assert max(times) - min(times) == pytest.approx(0.01)


def test_each_answer_is_good_for_four_requests_and_then_a_source_has_to_answer_again() -> None:
    ear = Ear(window=5000)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(2000))
    assert len(ear.naks(0.05)) == 1
    ear.hear(confirmation(0))
    assert len(ear.naks(0.02)) == 4


def test_a_confirmation_of_numbers_never_sent_promises_nothing() -> None:
    ear = Ear()
    ear.hear(data(0))
    ear.hear(confirmation(5, 0x7FFFFFFF))
    assert ear.session.window.lead == 0
    assert ear.naks(1.0) == []


# ---- loss


def test_what_the_source_keeps_no_longer_is_lost_and_told_as_one_range() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(0))
    ear.hear(data(10, trail=8))
    assert ear.gaps == [(1, 7)]
    assert ear.naks(0.06) == [(8, 9)]
    ear.hear(data(8, trail=8, repair=True))
    ear.hear(data(9, trail=8, repair=True))
    assert ear.messages == [b"0", b"8", b"9", b"10"]
    assert ear.session.figures().lost == 7


def test_a_gap_larger_than_the_window_is_given_up_at_its_old_end_and_the_rest_is_asked_for() -> None:
    ear = Ear(window=10)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(0))
    ear.hear(data(100))
    # OpenPGM would wait here for the next SPM, deaf to everything.
    assert ear.gaps == [(1, 90)]
    assert ear.naks(0.06) == [tuple(range(91, 100))]


def test_an_spm_far_ahead_gives_up_what_does_not_fit_the_window() -> None:
    ear = Ear(window=10)
    ear.hear(spm(0, 0, -1))
    ear.hear(spm(1, 0, 0x40000000))
    assert ear.gaps == [(0, 0x40000000 - 10)]
    assert len(ear.session.window.requests) == 10


def test_an_spm_that_keeps_nothing_tells_what_was_lost() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.hear(data(0))
    ear.hear(spm(1, 50, 49))
    assert ear.gaps == [(1, 49)]
    ear.hear(data(50, trail=50))
    assert ear.messages == [b"0", b"50"]


def test_repairs_that_come_too_late_are_duplicates() -> None:
    ear = Ear()
    ear.hear(data(0))
    ear.hear(data(0, repair=True))
    ear.hear(data(5, trail=5))
    ear.hear(data(3, repair=True))
    assert ear.messages == [b"0", b"5"]
    assert ear.session.figures().duplicates == 2


def test_a_message_whose_other_half_was_lost_is_dropped_and_the_next_is_whole() -> None:
    ear = Ear()
    whole = encode_v1([b"part1", b"part2"])
    ear.hear(data(0)._replace(payload=b"\0\0" + whole[:7]))
    ear.hear(data(2, trail=2)._replace(payload=b"\0\0" + encode_v1(b"next")))
    assert ear.messages == [b"next"]
    assert ear.session.unpacker.broken == 1


def test_numbers_wrap() -> None:
    ear = Ear()
    numbers = [(0xFFFFFFFC + step) & 0xFFFFFFFF for step in range(8)]
    for number in numbers[:3] + numbers[5:]:
        ear.hear(data(number, trail=0xFFFFFFFC))
    ear.hear(spm(0, 0xFFFFFFFC, numbers[-1]))
    assert ear.naks(0.06) == [(0xFFFFFFFF, 0)]
    ear.hear(data(0, trail=0xFFFFFFFC, repair=True))
    ear.hear(data(0xFFFFFFFF, trail=0xFFFFFFFC, repair=True))
    assert ear.messages == [b"%d" % number for number in numbers]


# ---- ends


def test_a_source_that_has_ended_is_asked_for_what_is_missing_and_forgotten_when_nothing_is() -> None:
    ear = Ear()
    ear.hear(data(0))
    ear.hear(spm(1, 0, 2, fin=True))
    assert ear.naks(0.06) == [(1, 2)]
    ear.wait(3.0)
    assert ear.receiver.ended == []
    ear.hear(data(1, repair=True))
    ear.hear(data(2, repair=True))
    ear.wait(1.1)
    ((session, reason),) = ear.receiver.ended
    assert session.fin
    assert reason == "it has ended"
    assert ear.messages == [b"0", b"1", b"2"]
    ear.hear(spm(2, 0, 2, fin=True))
    assert ear.receiver.sessions == {}


def test_a_source_that_is_silent_for_five_minutes_is_forgotten() -> None:
    ear = Ear()
    ear.hear(spm(0, 0, -1))
    ear.wait(299.0)
    assert ear.receiver.ended == []
    ear.wait(2.0)
    assert len(ear.receiver.ended) == 1


def test_a_publisher_that_starts_again_is_another_session() -> None:
    ear = Ear()
    ear.hear(data(5, text=b"old"))
    ear.hear(data(0, text=b"new")._replace(sport=40001))
    assert ear.messages == [b"old", b"new"]
    assert len(ear.receiver.sessions) == 2


def lived(count: int = 20) -> Ear:
    """Who has heard *count* datagrams of a publisher."""
    ear = Ear()
    for number in range(3):
        ear.hear(spm(number, 0, -1))
    for number in range(count):
        ear.hear(data(number, text=b"old"))
    ear.messages.clear()
    return ear


def test_a_publisher_that_starts_again_with_the_same_identity_is_heard_from_its_beginning() -> None:
    ear = lived()
    ear.wait(5.0)
    for number in range(3):
        ear.hear(spm(number, 0, -1))
    for number in range(3):
        ear.hear(data(number))
    assert ear.messages == [b"0", b"1", b"2"]
    assert [reason for _, reason in ear.receiver.ended] == ["it has started again"]


def test_even_if_its_first_words_are_lost_and_it_has_gone_on_at_once() -> None:
    ear = lived()
    for number in range(19):
        ear.hear(data(number))
        ear.hear(spm(number, 0, number))
        ear.wait(0.4)
    assert ear.messages[0] == b"4"
    assert ear.messages == [b"%d" % number for number in range(4, 19)]


def test_spms_that_were_overtaken_end_nothing() -> None:
    ear = lived()
    for number in range(10):
        ear.hear(spm(number, 0, number))
        ear.wait(0.09)
    assert ear.receiver.ended == []


@pytest.mark.parametrize("word", [data(20), spm(50, 0, 19)])
def test_old_spms_end_nothing_while_their_publisher_says_something_newer(word: Data | Spm) -> None:
    ear = lived()
    for step in range(10):
        ear.wait(3.0)
        ear.hear(spm(step, 0, step))
        ear.hear(spm(step, 0, step))
        ear.hear(word._replace(sequence=word.sequence + step))
    assert ear.receiver.ended == []


def test_an_old_end_or_window_that_cannot_be_ends_nothing() -> None:
    ear = lived()
    ear.wait(5.0)
    for number in range(5):
        ear.hear(spm(number, 0, -1, fin=True))
        ear.hear(spm(number, 5, 0))
    assert [reason for _, reason in ear.receiver.ended] != ["it has started again"]


# ---- hostile packets


def test_what_is_no_packet_is_counted_by_reason() -> None:
    ear = Ear()
    ear.hear(b"")
    ear.hear(encode_packet(data(0))[:-1])
    ear.hear(synthetic("fragment_0"))
    ear.hear(data(0)._replace(dport=1))
    ear.hear(data(0, trail=1))
    assert ear.receiver.ignored == {"truncated": 1, "checksum": 1, "fragment": 1, "port": 1, "range": 1}
    assert ear.receiver.datagrams == 5


@pytest.mark.parametrize("name", ["offset_past_end", "one_byte_tsdu", "empty_tsdu"])
def test_payloads_that_end_a_libzmq_subscriber_are_survived(name: str) -> None:
    ear = Ear()
    bad = parse_packet(synthetic(name))
    assert isinstance(bad, Data)
    ear.hear(bad)
    ear.hear(data(bad.sequence + 1, gsi=bad.gsi))
    assert ear.messages == [b"%d" % (bad.sequence + 1)]


def test_a_first_spm_from_the_upper_half_is_taken() -> None:
    ear = Ear()
    ear.hear(spm(0x80000005, 0, -1))
    ear.hear(data(1))
    assert ear.naks(0.06) == [(0,)]


def test_an_spm_that_names_a_group_as_its_address_does_not_make_us_flood_it() -> None:
    ear = Ear()
    for number, path in enumerate((GROUP, bytes(4), bytes((255, 255, 255, 255)), bytes(16))):
        ear.hear(spm(number, 0, -1, path=path))
    ear.hear(data(1))
    assert [address for _, _, address in ear.wait(0.1)] == [SOURCE]


def test_one_source_more_than_may_be_known_makes_the_quietest_go() -> None:
    ear = Ear(max_sessions=10)
    for number in range(30):
        ear.hear(data(0, gsi=b"%06d" % number))
        ear.now += 0.001
    assert len(ear.receiver.sessions) == 10
    assert ear.receiver.ignored == {"sessions": 20}
    assert [session.key.gsi for session, _ in ear.receiver.ended] == [b"%06d" % number for number in range(20)]


def test_what_waits_out_of_order_has_a_limit_in_bytes() -> None:
    ear = Ear(max_waiting=10_000)
    ear.hear(spm(0, 0, -1))
    for number in range(1, 100):
        ear.hear(data(number, text=bytes(1000)))
    assert ear.receiver.waiting() <= 11_500
    assert ear.receiver.ignored["memory"] >= 85


def test_forged_jumps_through_the_numbers_cost_nothing() -> None:
    ear = Ear(window=16384)
    ear.hear(spm(0, 0, -1))
    for number in range(1, 1001):
        ear.now += 0.001
        ear.hear(spm(number, 0, number * 16384))
    requests = ear.session.window.requests
    assert len(requests) == 16384
    assert len(requests._cohort_of) == 0
    assert len(requests._later._ranges) <= 2


def test_a_source_that_does_not_answer_is_asked_fifty_times_however_much_is_missing() -> None:
    ear = Ear(window=16384)
    ear.hear(spm(0, 0, -1, path=OTHER))
    ear.hear(data(16000))
    naks = [at for at, packet, address in ear.wait(60.0) if isinstance(packet, Nak) and address == OTHER]
    assert len(naks) == 50
    assert max(sum(start <= at < start + 1 for at in naks) for start in naks) <= 7
    assert ear.gaps == [(0, 15999)]
    assert ear.messages == [b"16000"]


def test_when_it_does_answer_after_a_while_nothing_is_given_up() -> None:
    link = Link(seed=10, window=16384, packets=16384)
    source, (ear,) = link.source, link.ears
    link.run(1.0)
    source.add([b"%08d" % number + bytes(1408) for number in range(5000)])
    ear.deaf = lambda now: now < 1006.0
    link.run(0.1)
    source.add([b"%08d" % 5000])
    ear.deaf = lambda now: 1001.5 <= now < 1006.0
    link.run(30.0)
    assert len(ear.messages) == 5001
    assert ear.gaps == []


def forge(ear: Ear, sources: int, jump: int) -> None:
    """Sources from all over, each of which seems to have sent *jump* datagrams that nobody heard."""
    for number in range(sources):
        ear.hear(spm(0, 0, -1, gsi=b"%06d" % number, path=OTHER), OTHER)
        for step in range(0, jump, 50) if jump <= 200 else [jump]:
            ear.hear(data(step + 49, gsi=b"%06d" % number), OTHER)


@pytest.mark.parametrize("jump", [200, 1000, 16000])
def test_hundreds_of_forged_sources_together_get_few_requests(jump: int) -> None:
    ear = Ear(window=16384)
    forge(ear, 256, jump)
    for _ in range(5):
        asked = ear.wait(1.0)
        assert 100 <= sum(isinstance(packet, Nak) for _, packet, _ in asked) <= 530
        assert sum(isinstance(packet, Spmr) for _, packet, _ in asked) <= 2 * 270
        assert len({round(at, 4) for at, _, _ in asked}) <= 400  # waking up costs as much as asking
        requests = [session.window.requests for session in ear.receiver.sessions.values()]
        assert sum(len(each._cohort_of) for each in requests) <= 65536 + 256 * 63


def test_forged_answers_get_no_more_than_all_sources_together_may_have() -> None:
    ear = Ear(window=16384)
    forge(ear, 100, 16000)
    began, naks = ear.now, 0
    while ear.now < began + 2.0:
        for _, packet, _ in ear.wait(0.005):
            if isinstance(packet, Nak):
                naks += 1
                ear.hear(packet._replace(confirmed=True), OTHER)
    assert naks <= 2 * 2500 + 80
    requests = [session.window.requests for session in ear.receiver.sessions.values()]
    assert sum(len(each._cohort_of) for each in requests) <= 65536 + 100 * 63


def test_forged_sources_that_come_and_go_do_not_keep_others_from_being_asked() -> None:
    ear = Ear(window=16384, max_sessions=20)
    for _ in range(2000):
        forge(ear, 1, 1000)
        ear.receiver.forget(next(iter(ear.receiver.sessions.values())), "forged")
        ear.now += 0.0005
        ear.receiver.advance(ear.now)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(1))
    assert ear.naks(1.5) != []


def test_who_answers_is_asked_in_time_whatever_is_forged() -> None:
    ear = Ear(window=16384)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(1))
    assert ear.naks(0.05) == [(0,)]
    ear.hear(data(0, repair=True))
    forge(ear, 255, 16000)
    ear.wait(2.0)
    ear.hear(data(3))
    asked = [(at - ear.now, packet) for at, packet, _ in ear.wait(0.06)]
    assert [packet.sequences for _, packet in asked if isinstance(packet, Nak) and packet.gsi == GSI] == [(2,)]


def test_who_was_never_asked_before_is_asked_within_a_second_whatever_is_forged() -> None:
    ear = Ear(window=16384)
    forge(ear, 255, 16000)
    ear.wait(2.0)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(1))
    asked = [packet for _, packet, _ in ear.wait(1.0)]
    assert (0,) in [packet.sequences for packet in asked if isinstance(packet, Nak) and packet.gsi == GSI]


def test_all_messages_come_at_twenty_percent_loss_among_hundreds_of_forged_sources() -> None:
    link = Link(loss=0.2, seed=11, rate=5e6)
    (ear,) = link.ears
    for number in range(250):
        for packet in (spm(0, 0, -1, gsi=b"%06d" % number), spm(1, 0, 9000, gsi=b"%06d" % number)):
            ear.receiver.receive(encode_packet(packet), OTHER, GROUP, link.now)
    link.run(9.0)
    for first in range(0, 5000, 10):
        link.source.add([b"%08d" % number + bytes(500) for number in range(first, first + 10)])
        link.run(0.001)
    link.run(30.0)
    assert [int(message[:8]) for message in ear.messages if isinstance(message, bytes)] == list(range(5000))


def test_small_datagrams_that_wait_count_for_what_they_cost() -> None:
    ear = Ear(max_waiting=10_000)
    ear.hear(spm(0, 0, -1))
    for number in range(1, 1000):
        ear.hear(data(number, text=b""))
    assert len(ear.session.window) <= 40
    assert ear.receiver.ignored["memory"] >= 950


def test_jumps_of_many_sources_at_once_are_all_taken() -> None:
    ear = Ear(window=5000)
    for origin in (SOURCE, OTHER):
        ear.hear(data(0), origin)
        ear.hear(data(3000), origin)
    assert [session.window.lead for session in ear.receiver.sessions.values()] == [3000, 3000]


def test_confirmations_and_requests_from_anybody_leave_no_trace() -> None:
    ear = Ear()
    ear.hear(data(0))
    for number in range(1000):
        ear.hear(confirmation(number))
        ear.hear(confirmation(number)._replace(confirmed=False))
    assert len(ear.session.window.requests) == 0
    assert len(ear.session.window.requests._queue) == 0


@given(
    st.lists(
        st.one_of(
            st.builds(
                data, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), repair=st.booleans(), text=st.just(b"x")
            ),
            st.builds(spm, st.integers(0, 50), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
            st.builds(spm, st.integers(0, 50), st.integers(0, 40), st.integers(0, 40), fin=st.booleans()),
            st.builds(data, st.integers(0, 40), st.integers(0, 40), text=st.just(b"x")),
            st.builds(confirmation, st.integers(0, 0xFFFFFFFF), st.integers(0, 40)),
        ),
        max_size=30,
    )
)
def test_whatever_comes_the_windows_stay_within_their_limits(packets: list[Packet]) -> None:
    ear = Ear(window=20)
    for packet in packets:
        ear.hear(packet)
        ear.wait(0.03)
        for session in ear.receiver.sessions.values():
            window = session.window
            assert len(window) <= 20
            assert len(window.requests) <= 20
            assert window.lead - window.next < 20
