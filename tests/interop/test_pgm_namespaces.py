"""Multicast between two hosts (namespaces on a cable that loses packets): ours and libzmq's, in every pairing."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ._pgm_end import messages_of, told
from ._pgm_lab import GROUP4, LEFT4, Lab, endpoints, has_namespaces, inside, open_lab, pgm_python

OURS, THEIRS = "trio_mq", "zmq"
PAIRINGS = [(OURS, OURS), (OURS, THEIRS), (THEIRS, OURS)]
SHAPES = [[0], [1], [2], [3], [253], [254], [255], [5, 0, 4], [300, 2_000], [1_000_000]]
_ports = itertools.count(5600)


def _unless(promised: bool, reason: str) -> None:
    """Skip because of *reason*; where the environment has promised that it cannot be, fail."""
    if promised:
        pytest.fail(f"TRIO_MQ_REQUIRE_PEERS=1 promises every peer, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    reason = has_namespaces()
    if reason:
        _unless(os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1", reason)
    with open_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def _one_after_the_other(lab: Lab) -> Iterator[None]:
    lab.drop()
    yield
    for end in lab.ends:
        end.close()
    lab.ends.clear()


@pytest.fixture(params=PAIRINGS, ids="-to-".join)
def pairing(request: pytest.FixtureRequest) -> tuple[str, str]:
    if THEIRS in request.param and pgm_python() is None:
        _unless(os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1", "no pyzmq here is built on a libzmq with OpenPGM")
    publisher, subscriber = request.param
    return publisher, subscriber


schemes = pytest.mark.parametrize("scheme", ["epgm", "pgm"])


def plan(**changes: Any) -> dict[str, Any]:
    # 10 Mbit/s and 10 s are what repairs by libzmq, one for each packet that reaches it, need to keep up.
    return {"rate": 10e6, "recovery": 10.0, "silence": 1.5, **changes}


def some(count: int, **changes: Any) -> dict[str, Any]:
    return plan(count=count, size=400, pause=0.002, until=count, silence=5.0, **changes)


def numbers(count: int, first: int = 0) -> list[str]:
    return [f"{number:08d}" for number in range(first, first + count)]


def assert_nothing_lost(heard: dict[str, Any], expected: list[str]) -> None:
    assert heard["received"] == expected
    assert heard.get("losses", []) == []


# ---- messages


@schemes
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_messages_of_every_shape_are_equal(lab: Lab, pairing: tuple[str, str], scheme: str, ipv6: bool) -> None:
    shapes = plan(shapes=SHAPES, until=len(SHAPES))
    heard = lab.converse(scheme, *pairing, shapes, ipv6=ipv6, port=next(_ports))
    assert_nothing_lost(heard, [told(frames) for frames in messages_of(shapes)])


# ---- loss


# The fifth byte of a PGM packet is its type: 4 is data sent for the first time.
EVERY_FIFTH = {
    "epgm": f"ip daddr {GROUP4} @th,96,8 4 numgen inc mod 5 == 3",
    "pgm": f"ip daddr {GROUP4} @th,32,8 4 numgen inc mod 5 == 3",
}
BURST = {
    "epgm": f"ip daddr {GROUP4} @th,96,8 4 numgen inc mod 1000000 < 3300",
    "pgm": f"ip daddr {GROUP4} @th,32,8 4 numgen inc mod 1000000 < 3300",
}


@schemes
def test_a_fifth_of_everything_lost_at_random_loses_no_message(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    lab.drop(f"ip daddr {GROUP4} numgen random mod 100 < 20")
    heard = lab.converse(scheme, *pairing, some(600), port=next(_ports))
    missed = 600 - len(heard["received"])
    # The very first ones may be lost before anybody knows that there is a publisher.
    assert_nothing_lost(heard, numbers(600 - missed, missed))
    assert missed <= 3


@schemes
def test_every_fifth_datagram_of_data_lost_loses_no_message(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    lab.drop(EVERY_FIFTH[scheme])
    assert_nothing_lost(lab.converse(scheme, *pairing, some(500), port=next(_ports)), numbers(500))


@schemes
def test_a_burst_of_half_the_window_lost_loses_no_message(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    # 20 Mbit/s for 4 s are 6,666 datagrams.
    what = plan(count=6000, size=1300, pause=0.0004, until=6000, silence=8.0, rate=20e6, recovery=4.0)
    sub, pub = start(lab, scheme, pairing, what)
    sub.go_on()
    time.sleep(0.3)
    threading.Timer(0.5, lambda: lab.drop(BURST[scheme])).start()
    pub.go_on()
    heard = sub.read()
    assert_nothing_lost(heard, numbers(6000))
    if pairing[1] == OURS:
        assert heard["figures"][0]["repaired"] >= 3000


@pytest.mark.parametrize("pair", PAIRINGS, ids="-to-".join)
@schemes
def test_packets_that_overtake_each_other_or_come_twice_change_nothing(pair: tuple[str, str], scheme: str) -> None:
    if THEIRS in pair and pgm_python() is None:
        _unless(os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1", "no pyzmq here is built on a libzmq with OpenPGM")
    with open_lab(relay=(0.2, 0.2)) as lab:
        heard = lab.converse(scheme, *pair, some(600), port=next(_ports))
    assert_nothing_lost(heard, numbers(600))
    if pair[1] == OURS:
        assert heard["figures"][0]["duplicates"] > 50


# ---- outages


def start(lab: Lab, scheme: str, pairing: tuple[str, str], what: dict[str, Any]) -> tuple[Any, Any]:
    left, right = endpoints(scheme, port=next(_ports))
    sub = lab.start(lab.right, pairing[1], "sub", right, **what)
    return sub, lab.start(lab.left, pairing[0], "pub", left, **what)


def with_outage(
    lab: Lab, scheme: str, pairing: tuple[str, str], what: dict[str, Any], *, after: float, seconds: float
) -> dict[str, Any]:
    sub, pub = start(lab, scheme, pairing, what)
    sub.go_on()
    time.sleep(0.3)
    pub.go_on()
    time.sleep(after)
    lab.drop(f"ip daddr {GROUP4}")
    time.sleep(seconds)
    lab.drop()
    heard: dict[str, Any] = sub.read()
    return heard


@schemes
def test_an_outage_of_half_a_second_within_the_window_loses_nothing(
    lab: Lab, pairing: tuple[str, str], scheme: str
) -> None:
    heard = with_outage(lab, scheme, pairing, some(800), after=0.5, seconds=0.5)
    assert_nothing_lost(heard, numbers(800))


@schemes
def test_after_an_outage_beyond_the_window_delivery_goes_on_and_ours_tells_exactly_what_was_lost(
    lab: Lab, pairing: tuple[str, str], scheme: str
) -> None:
    # A window of 50 datagrams, one message in each, 250 a second.
    what = plan(count=900, size=200, pause=0.004, silence=2.5, rate=1.2e6, recovery=0.5)
    heard = with_outage(lab, scheme, pairing, what, after=1.0, seconds=1.2)
    received = [int(each) for each in heard["received"]]
    assert received == sorted(received)
    assert received[-1] == 899
    missing = sorted(set(range(900)) - set(received))
    assert 150 <= len(missing) <= 450
    times = heard["times"]
    gap, at = max((later - earlier, place) for place, (earlier, later) in enumerate(itertools.pairwise(times)))
    assert gap <= 1.2 + 1.0, f"silent for {gap} s after message {received[at]}"
    if pairing[1] == OURS:
        told_lost = [number for _, first, last, _ in heard["losses"] for number in range(first, last + 1)]
        assert told_lost == missing
        assert sum(count for *_, count in heard["losses"]) == len(missing)


# ---- who comes and goes


@schemes
def test_a_late_joiner_gets_everything_from_then_on(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    left, right = endpoints(scheme, port=next(_ports))
    what = plan(count=1000, size=200, pause=0.002, silence=2.0)
    pub = lab.start(lab.left, pairing[0], "pub", left, **what)
    pub.go_on()
    time.sleep(0.8)
    lab.drop(EVERY_FIFTH[scheme])
    sub = lab.start(lab.right, pairing[1], "sub", right, **what)
    sub.go_on()
    heard = sub.read()
    received = [int(each) for each in heard["received"]]
    assert 0 < received[0] < 800
    if pairing[1] == THEIRS:
        # libzmq gives up at once what it misses before an SPM has told it whom to ask, which it asks for after 25 ms.
        received = received[50:]
    assert received == list(range(received[0], 1000))


@schemes
def test_a_publisher_that_starts_again_is_heard_again(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    left, right = endpoints(scheme, port=next(_ports))
    what = plan(count=50, size=100, pause=0.002, silence=4.0)
    sub = lab.start(lab.right, pairing[1], "sub", right, **what)
    sub.go_on()
    for life in range(2):
        pub = lab.start(lab.left, pairing[0], "pub", left, **{**what, "prefix": "ab"[life]})
        time.sleep(0.3)
        pub.go_on()
        assert pub.read() == {"sent": True}
        time.sleep(0.5)
        pub.kill()
    heard = sub.read()
    assert heard["received"] == [f"{life}{number}" for life in "ab" for number in numbers(50)]
    if pairing[1] == OURS:
        assert len(heard["sources"]) == 2


@schemes
def test_publishers_of_one_host_are_kept_apart_even_with_the_same_gsi(
    lab: Lab, pairing: tuple[str, str], scheme: str
) -> None:
    left, right = endpoints(scheme, port=next(_ports))
    what = plan(count=300, size=700, pause=0.002, silence=2.0)
    sub = lab.start(lab.right, pairing[1], "sub", right, **what)
    pubs = [lab.start(lab.left, pairing[0], "pub", left, **{**what, "prefix": prefix}) for prefix in "abc"]
    sub.go_on()
    time.sleep(0.3)
    for pub in pubs:
        pub.go_on()
    heard = sub.read()
    for prefix in "abc":
        assert [each for each in heard["received"] if each[0] == prefix] == [prefix + each for each in numbers(300)]
    if pairing[1] == OURS:
        assert len(heard["sources"]) == 3
        assert all(source.startswith(f"{scheme}://{LEFT4}#") for source in heard["sources"])
        if pairing[0] == THEIRS:
            assert len({source.partition("#")[2].partition(".")[0] for source in heard["sources"]}) == 1


@schemes
def test_several_subscribers_get_everything_each(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    left, right = endpoints(scheme, port=next(_ports))
    what = some(300)
    lab.drop(EVERY_FIFTH[scheme])
    subs = [lab.start(lab.right, pairing[1], "sub", right, **what) for _ in range(3)]
    pub = lab.start(lab.left, pairing[0], "pub", left, **what)
    for sub in subs:
        sub.go_on()
    time.sleep(0.3)
    pub.go_on()
    for sub in subs:
        assert_nothing_lost(sub.read(), numbers(300))


@schemes
def test_a_subscription_filters_what_comes(lab: Lab, pairing: tuple[str, str], scheme: str) -> None:
    what = plan(count=200, size=100, topic="#0000001", silence=1.0)
    heard = lab.converse(scheme, *pairing, what, port=next(_ports))
    assert heard["received"] == numbers(10, 10)


# ---- interfaces that come and go


@pytest.fixture
def room(lab: Lab) -> Iterator[Lab]:
    """A lab of one's own, whose interfaces may be changed; *lab* says whether there can be one."""
    with open_lab() as room:
        yield room


def run_on_the_left(room: Lab, script: str) -> Any:
    """What *script* prints as JSON; ``ip(...)`` in it changes the interfaces of its side."""
    begin = "import json, subprocess, trio, trio_mq\n"
    begin += "def ip(*what): subprocess.run(['ip', *what], check=True)\n"
    command = [*inside(room.left), sys.executable, "-c", begin + script]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout)


INTERFACE_GOES = f"""
ENDPOINT = "epgm://v0;{GROUP4}:5599"
told = []

async def publish(pub, until):
    with trio.fail_after(10):
        while not until():
            await pub.send(bytes(1000))
            await trio.sleep(0.01)

async def hear(sub):
    with trio.fail_after(10):
        await sub.receive()

async def watch(pub):
    async with pub.monitor() as events:
        async for event in events:
            if isinstance(event, (trio_mq.events.DialFailed, trio_mq.events.Connected)):
                told.append([type(event).__name__, getattr(getattr(event, "error", None), "errno", 0)])

async def main():
    at_once = trio_mq.Options(linger=0)
    async with (
        trio_mq.Sub(connect=ENDPOINT, topics=b"", options=at_once) as sub,
        trio_mq.Pub(bind=ENDPOINT, options=at_once) as pub,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch, pub)
        await publish(pub, lambda: sub.statistics().peers and sub.statistics().peers[0].unread_messages)
        ip("link", "set", "v0", "down")
        await publish(pub, lambda: len(told) == 1)
        ip("link", "set", "v0", "up")
        await publish(pub, lambda: len(told) == 2)
        ip("link", "delete", "v0")
        await publish(pub, lambda: len(told) == 3)
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ip("addr", "add", "{LEFT4}/24", "dev", "v0")
        ip("link", "set", "v1", "up")
        ip("link", "set", "v0", "up")
        await pub.unbind(ENDPOINT)
        await sub.disconnect(ENDPOINT)
        await pub.bind(ENDPOINT)
        sub.connect(ENDPOINT)
        await publish(pub, lambda: sub.statistics().peers and sub.statistics().peers[0].unread_messages)
        nursery.cancel_scope.cancel()
    print(json.dumps(told))

trio.run(main)
"""


def test_a_publisher_says_when_its_interface_goes_and_comes_and_is_bound_again_to_a_new_one(room: Lab) -> None:
    down, up, *deleted = run_on_the_left(room, INTERFACE_GOES)
    assert (down[0], up) == ("DialFailed", ["Connected", 0])
    # With a new one of that name the reason may be another, and it goes on.
    assert {event for event, _ in deleted} == {"DialFailed"}
    assert len({reason for _, reason in deleted}) == len(deleted) in (1, 2)


def problems(room: Lab, interface: str, *changes: str, group: str = GROUP4) -> list[str]:
    """What the self-test says when *changes* (of `ip`) were made, but for what a kernel grants."""
    script = "".join(f"ip(*{change.split()!r})\n" for change in changes)
    script += f"report = trio.run(trio_mq.check_multicast, 'epgm://{interface};{group}:5598')\n"
    script += "print(json.dumps(report.problems))"
    return [text for text in run_on_the_left(room, script) if "rmem_max" not in text]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], []),
        (["link set v0 down"], ["The interface v0 is down."]),
        (["link set lo down"], ["The interface lo is down,"]),
        (["link set v0 mtu 1400"], ["The interface v0 takes packets of at most 1400 bytes"]),
    ],
    ids=lambda what: str(what)[2:-2] or "nothing",
)
@pytest.mark.parametrize("group", [GROUP4, "[ff15::7]"], ids=["ipv4", "ipv6"])
def test_the_self_test_names_what_is_wrong_with_an_interface(
    room: Lab, group: str, changes: list[str], expected: list[str]
) -> None:
    found = problems(room, "v0", *changes, group=group)
    assert len(found) == len(expected), found
    assert all(text.startswith(beginning) for text, beginning in zip(found, expected, strict=True)), found


def test_the_self_test_notices_that_an_interface_has_no_carrier(room: Lab) -> None:
    subprocess.run([*inside(room.right), "ip", "link", "set", "v0", "down"], check=True)
    deadline = time.monotonic() + 10.0
    # The kernel notices within a second or two, and nothing tells when.
    while not any("v0 is up but has no carrier" in text for text in problems(room, "v0")):
        assert time.monotonic() < deadline


def test_the_remedy_for_ipv6_over_loopback_is_one(room: Lab) -> None:
    (problem,) = problems(room, "lo", group="[ff15::7]")
    remedy = problem.partition("as root: ip ")[2].removesuffix(".")
    assert problems(room, "lo", remedy, group="[ff15::7]") == []
