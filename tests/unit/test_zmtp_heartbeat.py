"""Heartbeats: a silent peer is found out in time, and nobody is given up because we ourselves did not listen."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq.zmtp import Expired, Heartbeat, SendPing

PING = SendPing(bytes.fromhex("04070450494e470000"))


def run(heartbeat: Heartbeat, start: float, stop: float) -> list[tuple[float, str]]:
    """Tick at each deadline from *start* to *stop*; what came of it, and when. Ends at `Expired`."""
    found: list[tuple[float, str]] = []
    now = start
    while now <= stop:
        for action in heartbeat.tick(now):
            if isinstance(action, Expired):
                return [*found, (now, "expired")]
            found.append((now, "ping"))
        assert heartbeat.next_deadline > now, "a deadline must lie ahead after a tick"
        now = heartbeat.next_deadline
    return found


def test_without_an_interval_nothing_is_ever_due() -> None:
    heartbeat = Heartbeat()
    assert heartbeat.next_deadline == inf
    assert heartbeat.tick(0.0) == []
    assert heartbeat.tick(1e9) == []
    assert heartbeat.next_deadline == inf
    heartbeat.paused = True
    heartbeat.writing(True)
    assert heartbeat.next_deadline == inf
    assert heartbeat.tick(2e9) == []


def test_the_first_ping_comes_one_interval_after_the_first_tick() -> None:
    heartbeat = Heartbeat(2.0)
    assert heartbeat.next_deadline == -inf
    assert heartbeat.tick(100.0) == []
    assert heartbeat.next_deadline == 102.0
    assert heartbeat.tick(101.9) == []
    assert heartbeat.tick(102.0) == [PING]


def test_the_ping_carries_our_ttl() -> None:
    heartbeat = Heartbeat(1.0, ttl=1.5)
    heartbeat.tick(0.0)
    assert heartbeat.tick(1.0) == [SendPing(bytes.fromhex("04070450494e47000f"))]


def test_a_peer_that_is_heard_is_pinged_for_ever() -> None:
    heartbeat = Heartbeat(1.0)
    for second in range(100):
        heartbeat.heard()
        assert heartbeat.tick(float(second)) == ([PING] if second else [])


def test_a_silent_peer_expires_a_timeout_after_the_ping() -> None:
    assert run(Heartbeat(2.0, timeout=0.5), 0.0, 100.0) == [(2.0, "ping"), (2.5, "expired")]
    assert run(Heartbeat(2.0, timeout=5.0), 0.0, 100.0) == [
        (2.0, "ping"),
        (4.0, "ping"),
        (6.0, "ping"),
        (7.0, "expired"),
    ]
    assert run(Heartbeat(2.0), 0.0, 100.0)[-1] == (4.0, "expired")


def test_the_reason_says_how_long_it_was_silent() -> None:
    heartbeat = Heartbeat(2.0, timeout=0.5)
    run(heartbeat, 0.0, 2.0)
    [expired] = heartbeat.tick(2.5)
    assert isinstance(expired, Expired)
    assert "0.5 s" in expired.reason


def test_any_bytes_after_the_ping_are_a_sign_of_life() -> None:
    heartbeat = Heartbeat(2.0, timeout=1.0)
    run(heartbeat, 0.0, 2.0)
    heartbeat.heard()
    assert run(heartbeat, 3.0, 100.0) == [(4.0, "ping"), (5.0, "expired")]


def test_bytes_before_the_ping_are_none() -> None:
    heartbeat = Heartbeat(2.0, timeout=1.0)
    heartbeat.tick(0.0)
    heartbeat.heard()
    assert run(heartbeat, 2.0, 100.0) == [(2.0, "ping"), (3.0, "expired")]


def test_the_peers_ttl_runs_from_its_ping() -> None:
    heartbeat = Heartbeat()
    heartbeat.heard()
    heartbeat.peer_ttl(3.0)
    assert heartbeat.next_deadline == -inf
    assert run(heartbeat, 10.0, 100.0) == [(13.0, "expired")]


def test_bytes_after_it_stop_the_peers_ttl_until_its_next_ping() -> None:
    heartbeat = Heartbeat()
    heartbeat.peer_ttl(3.0)
    heartbeat.tick(10.0)
    heartbeat.heard()
    assert run(heartbeat, 12.0, 100.0) == []
    assert heartbeat.next_deadline == inf
    heartbeat.peer_ttl(3.0)
    assert run(heartbeat, 50.0, 100.0) == [(53.0, "expired")]


def test_a_ping_without_a_ttl_starts_nothing() -> None:
    heartbeat = Heartbeat()
    heartbeat.peer_ttl(0.0)
    assert heartbeat.next_deadline == inf
    assert run(heartbeat, 0.0, 100.0) == []


def test_a_ping_without_a_ttl_takes_an_earlier_one_back_even_while_paused() -> None:
    heartbeat = Heartbeat()
    heartbeat.paused = True
    heartbeat.peer_ttl(2.0)
    heartbeat.tick(0.0)
    heartbeat.peer_ttl(0.0)
    assert "expired" not in {action for _, action in run(heartbeat, 1.0, 10.0)}


def test_while_paused_nobody_expires() -> None:
    heartbeat = Heartbeat(2.0, timeout=0.5)
    run(heartbeat, 0.0, 2.0)
    heartbeat.peer_ttl(1.0)
    heartbeat.tick(2.1)
    heartbeat.paused = True
    assert "expired" not in {action for _, action in run(heartbeat, 2.2, 1000.0)}


def test_a_pause_between_two_ticks_suspends_the_verdict() -> None:
    heartbeat = Heartbeat(2.0, timeout=0.5)
    assert run(heartbeat, 0.0, 2.0) == [(2.0, "ping")]
    heartbeat.paused = True
    heartbeat.paused = False
    assert heartbeat.tick(2.5) == []  # the answer may lie unread
    assert run(heartbeat, 4.0, 100.0) == [(4.0, "ping"), (4.5, "expired")]


def test_after_a_pause_silence_counts_from_the_start_again() -> None:
    heartbeat = Heartbeat()
    heartbeat.peer_ttl(3.0)
    heartbeat.tick(0.0)
    heartbeat.paused = True
    run(heartbeat, 1.0, 50.0)
    heartbeat.paused = False
    assert run(heartbeat, 50.0, 100.0) == [(53.0, "expired")]


@pytest.mark.parametrize(
    ("interval", "ttl", "period"),
    [(0.5, 0.0, 0.5), (30.0, 0.0, 1.0), (30.0, 1.5, 0.5), (None, 1.5, 0.5), (None, 0.0, 1.0), (0.5, 60.0, 0.5)],
)
def test_while_paused_the_peer_is_calmed_often_enough(interval: float | None, ttl: float, period: float) -> None:
    heartbeat = Heartbeat(interval)
    heartbeat.peer_ttl(ttl)
    heartbeat.tick(0.0)
    heartbeat.paused = True
    pings = [at for at, action in run(heartbeat, 0.1, 10.0) if action == "ping"]
    assert pings[0] <= period
    assert [b - a for a, b in itertools.pairwise(pings)] == pytest.approx([period] * (len(pings) - 1))


def test_while_paused_a_peer_that_tells_no_ttl_is_calmed_twice_in_its_own_interval() -> None:
    heartbeat = Heartbeat()
    for at in (0.0, 0.2, 0.4):
        heartbeat.peer_ttl(0.0, now=at)
    heartbeat.tick(0.4)
    heartbeat.paused = True
    assert [at for at, _ in run(heartbeat, 0.4, 0.75)] == pytest.approx([0.5, 0.6, 0.7])


def test_pings_that_lay_unread_say_nothing_about_the_peers_interval() -> None:
    heartbeat = Heartbeat()
    heartbeat.peer_ttl(0.0, now=0.0)
    heartbeat.peer_ttl(0.0, now=1.0)
    heartbeat.paused = True
    heartbeat.paused = False
    for _ in range(3):
        heartbeat.peer_ttl(0.0, now=9.0)
    heartbeat.tick(9.0)
    heartbeat.paused = True
    assert heartbeat.next_deadline == pytest.approx(9.5)


def test_no_peer_can_make_us_ping_without_end() -> None:
    heartbeat = Heartbeat()
    heartbeat.peer_ttl(0.1)
    heartbeat.tick(0.0)
    heartbeat.paused = True
    assert len(run(heartbeat, 0.0, 1.0)) <= 21


def test_a_ping_that_could_not_be_written_is_left_out() -> None:
    heartbeat = Heartbeat(1.0, timeout=10.0)
    heartbeat.tick(0.0)
    heartbeat.writing(True)
    assert run(heartbeat, 1.0, 5.0) == []
    heartbeat.writing(False)
    assert run(heartbeat, 6.0, 6.0) == [(6.0, "ping")]


def test_a_peer_that_takes_nothing_and_says_nothing_expires() -> None:
    heartbeat = Heartbeat(1.0, timeout=3.0)
    heartbeat.tick(0.0)
    heartbeat.writing(True)
    assert run(heartbeat, 1.0, 100.0) == [(4.0, "expired")]
    [expired] = heartbeat.tick(5.0)
    assert isinstance(expired, Expired)
    assert "took no byte" in expired.reason


@pytest.mark.parametrize("sign", [Heartbeat.wrote, Heartbeat.heard])
def test_progress_in_either_direction_is_life(sign: Callable[[Heartbeat], None]) -> None:
    heartbeat = Heartbeat(1.0, timeout=3.0)
    heartbeat.tick(0.0)
    heartbeat.writing(True)
    for second in range(1, 30):
        sign(heartbeat)
        heartbeat.writing(True)  # but not for all that waits
        assert heartbeat.tick(float(second)) == []
    assert run(heartbeat, 30.0, 100.0) == [(32.0, "expired")]


def test_a_kernel_that_takes_bytes_again_is_not_blocked_until_it_refuses_again() -> None:
    heartbeat = Heartbeat(1.0, timeout=3.0)
    heartbeat.tick(0.0)
    heartbeat.writing(True)
    heartbeat.wrote()
    assert heartbeat.tick(1.0) == [PING]


def test_two_ends_that_both_wait_for_room_leave_each_other_alone() -> None:
    heartbeat = Heartbeat(1.0, timeout=3.0)
    heartbeat.writing(True)
    heartbeat.paused = True
    assert run(heartbeat, 0.0, 100.0) == []


@given(
    st.sampled_from([None, 0.3, 5.0]),
    st.lists(
        st.one_of(
            st.floats(0.0, 10.0),
            st.sampled_from(["heard", "wrote", "blocked", "free", "paused", "reading", "ttl", "no ttl"]),
        ),
        max_size=60,
    ),
)
def test_a_deadline_always_lies_ahead_and_a_live_peer_is_never_given_up(
    interval: float | None, story: list[float | str]
) -> None:
    heartbeat, now = Heartbeat(interval), 0.0
    for step in story:
        match step:
            case "heard":
                heartbeat.heard()
            case "wrote":
                heartbeat.wrote()
            case "blocked" | "free":
                heartbeat.writing(step == "blocked")
            case "paused" | "reading":
                heartbeat.paused = step == "paused"
            case "ttl" | "no ttl":
                heartbeat.peer_ttl(2.0 if step == "ttl" else 0.0, now)
            case float():
                end = now + step
                while heartbeat.next_deadline <= end:
                    now = max(now, heartbeat.next_deadline)
                    heartbeat.heard()
                    assert not any(isinstance(action, Expired) for action in heartbeat.tick(now))
                    assert heartbeat.next_deadline > now
                now = end
