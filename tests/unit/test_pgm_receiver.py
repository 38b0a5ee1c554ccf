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

from ._pgm_link import GROUP, PORT, SOURCE
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
    assert waits == [0.1, 0.1, *[0.25] * 47]
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


def test_a_gap_of_a_thousand_is_asked_for_in_pieces() -> None:
    ear = Ear(window=5000)
    ear.hear(spm(0, 0, -1))
    ear.hear(data(2000))
    asked = ear.wait(0.09)  # until it asks for the first of them again
    numbers = [number for _, packet, _ in asked if isinstance(packet, Nak) for number in packet.sequences]
    assert sorted(numbers) == list(range(2000))
    times = sorted({round(at, 4) for at, _, _ in asked})
    assert len(times) == 2  # 16 lists of 63 each, then the rest
    assert max(sum(1 for at, _, _ in asked if round(at, 4) == time) for time in times) == 16


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


def test_forged_jumps_through_the_numbers_are_taken_fifty_times_a_second_at_most() -> None:
    ear = Ear(window=16384)
    ear.hear(spm(0, 0, -1))
    for number in range(1, 1001):
        ear.now += 0.001
        ear.hear(spm(number, 0, number * 16384))
    assert 900 <= ear.receiver.ignored["jump"] <= 960
    assert len(ear.session.window.requests) <= 16384


def test_after_a_jump_that_was_not_taken_the_next_packet_tells_the_same() -> None:
    ear = Ear(window=5000)
    ear.hear(data(0))
    ear.hear(data(0), OTHER)
    ear.hear(data(3000))
    ear.hear(data(3000), OTHER)
    ear.now += 0.02
    ear.hear(data(3001), OTHER)
    assert [session.window.lead for session in ear.receiver.sessions.values()] == [3000, 3001]


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
