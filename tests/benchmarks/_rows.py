"""The rows of the sockets, with their floors and targets.

Those of the calls are in `_rpc_rows`, those of multicast in `_multicast_rows`.

A floor is missed when the median ratio is on the wrong side of it, and the command then fails under ``--check``. A
target is reported with how near the subject came; the row's note says what stands in the way.
"""

from __future__ import annotations

from dataclasses import replace

from ._scenario import Bound, Row, Scenario, Transport, beside, contestant

SIZES = {16: "16 B", 128: "128 B", 1024: "1 KiB", 65536: "64 KiB", 1 << 20: "1 MiB"}

_PEERS = ("pyzmq", "pyomq", "zmq.asyncio", "zmq-anyio")


# --- PUSH→PULL --------------------------------------------------------------------------------------------------------

# Floors and targets against pyzmq by size, over tcp. 16 B has more of them, below.
_PUSH_FLOORS = {1024: 0.8, 65536: 1.4, 1 << 20: 1.4}
_PUSH_TARGETS = {1024: 1.0, 65536: 2.0, 1 << 20: 2.0}
_PUSH_NOTES = {
    1024: "",
    65536: "one copy in the kernel on either side and the work on a packet, as in a bare loop; the rest is Python",
    1 << 20: "the same, and waking the other core: runs of one library differ by a factor of three here",
}


def _pipeline(transport: Transport, size: int) -> Row:
    scenario = Scenario(pattern="push-pull", transport=transport, size=size)
    carries = transport == "tcp" and size in _PUSH_FLOORS
    return Row(
        name=f"push-pull-{transport}-{size}",
        title=f"PUSH→PULL {transport} {SIZES[size]}, one by one",
        contestants=beside(scenario, "trio_mq", "pyzmq"),
        more=beside(scenario, *_PEERS[1:]),
        floors=(Bound(against="pyzmq", limit=_PUSH_FLOORS[size]),) if carries else (),
        targets=(Bound(against="pyzmq", limit=_PUSH_TARGETS[size]),) if carries else (),
        note=_PUSH_NOTES[size] if carries else "",
        short=carries,
    )


def _smallest_pipeline() -> Row:
    return replace(
        _pipeline("tcp", 16),
        contestants=beside(Scenario(pattern="push-pull"), "trio_mq", *_PEERS),
        more=(),
        floors=(
            Bound(against="pyzmq", limit=1.0),
            Bound(against="zmq.asyncio", limit=15.0),
            Bound(against="zmq-anyio", limit=80.0),
        ),
        targets=(Bound(against="pyzmq", limit=2.0), Bound(against="pyomq", limit=1.0)),
        short=True,
        note="an await costs 100 ns and decoding a frame 140 ns of some 400; a compiled codec would save most of that",
    )


def _batches(transport: Transport, size: int) -> Row:
    scenario = Scenario(pattern="push-pull", transport=transport, size=size)
    carries = transport == "tcp" and size == 16
    return Row(
        name=f"batch-{transport}-{size}",
        title=f"PUSH→PULL {transport} {SIZES[size]}, send_many / receive_many (pyzmq one by one)",
        contestants=(
            contestant("trio_mq", replace(scenario, batch=True), "trio_mq in batches"),
            contestant("pyzmq", scenario),
        ),
        more=(contestant("trio_mq", scenario),),
        floors=(Bound(against="pyzmq", limit=2.0),) if carries else (),
        targets=(Bound(against="pyzmq", limit=4.0),) if carries else (),
        short=carries,
        note="",
    )


# --- REQ-REP ----------------------------------------------------------------------------------------------------------

_ROUND_TRIP = Scenario(pattern="req-rep")

_REQ_REP = Row(
    name="req-rep-tcp-16",
    title="REQ-REP tcp 16 B, round trip p50",
    contestants=beside(_ROUND_TRIP, "trio_mq", "pyzmq", "bare trio", "zmq.asyncio", "pyomq"),
    more=(
        contestant("trio_mq", replace(_ROUND_TRIP, requests=True), "trio_mq request()"),
        contestant("zmq-anyio", _ROUND_TRIP),
    ),
    quantity="p50",
    floors=(
        Bound(against="pyzmq", limit=1.2),
        Bound(against="bare trio", limit=1.3),
        Bound(against="zmq.asyncio", limit=0.6),
    ),
    targets=(Bound(against="pyzmq", limit=0.6),),
    short=True,
    note="two system calls of about 15 µs each way; what is left is Python",
)


# --- PUB→SUB ----------------------------------------------------------------------------------------------------------

# A publisher without a mark never waits, so a slow subscriber has its backlog to eat after the publisher is done: the
# slow two publish for so many seconds (by subscribers) and still receive for more than one.
_SLOW_SECONDS = {"zmq.asyncio": {1: 0.75, 8: 0.1}, "zmq-anyio": {1: 1.15, 8: 0.2}}


def _fan_out(subscribers: int) -> Row:
    scenario = Scenario(pattern="pub-sub", subscribers=subscribers)
    slow = tuple(
        contestant(library, replace(scenario, seconds=seconds[subscribers]))
        for library, seconds in _SLOW_SECONDS.items()
    )
    return Row(
        name=f"pub-sub-{subscribers}",
        title=f"PUB→SUB tcp 16 B, {subscribers} subscriber{'s' if subscribers > 1 else ''}, messages received in all",
        contestants=beside(scenario, "trio_mq", "pyzmq"),
        more=(contestant("pyomq", scenario), *slow),
        floors=(Bound(against="pyzmq", limit=0.6),),
        targets=(Bound(against="pyzmq", limit=1.0),),
        short=True,
        note="each subscriber is a decoder in one interpreter; libzmq's I/O threads share that work",
    )


def _subscriptions() -> Row:
    # The traffic goes round 100,000 topics in both cases: 10 short subscriptions that match a tenth of it each, or one
    # for every topic. Here not only the number of subscriptions differs but also how many are used, so it has a target;
    # the floor is on the row below, where the same traffic meets 10 or 100,000.
    few = Scenario(pattern="pub-sub", subscriptions=10)
    many = replace(few, subscriptions=100_000)
    return Row(
        name="pub-sub-subscriptions",
        title="PUB→SUB tcp 16 B to 100,000 topics in turn, time a message takes with 100,000 subscriptions against 10",
        contestants=(
            contestant("trio_mq", many, "trio_mq, 100,000 topics"),
            contestant("trio_mq", few, "trio_mq, 10 topics"),
        ),
        more=(contestant("pyzmq", many, "pyzmq, 100,000 topics"), contestant("pyzmq", few, "pyzmq, 10 topics")),
        quantity="time",
        targets=(Bound(against="trio_mq, 10 topics", limit=1.2),),
        short=True,
        note="each message brings a topic not seen for 100,000 messages: a new key to hash, and a look-up outside the "
        "processor's cache, once in the publisher and once in the subscriber",
    )


def _subscriptions_in_use() -> Row:
    few = Scenario(pattern="pub-sub", subscriptions=10, published=10)
    many = replace(few, subscriptions=100_000)
    return Row(
        name="pub-sub-subscriptions-10",
        title="PUB→SUB tcp 16 B to 10 topics in turn, time a message takes with 100,000 subscriptions against 10",
        contestants=(
            contestant("trio_mq", many, "trio_mq, 100,000 topics"),
            contestant("trio_mq", few, "trio_mq, 10 topics"),
        ),
        more=(contestant("pyzmq", many, "pyzmq, 100,000 topics"), contestant("pyzmq", few, "pyzmq, 10 topics")),
        quantity="time",
        floors=(Bound(against="trio_mq, 10 topics", limit=1.2),),
        short=True,
    )


# --- one active peer among many ---------------------------------------------------------------------------------------


def _crowd() -> Row:
    alone = Scenario(pattern="push-pull")
    crowd = replace(alone, idle_peers=1999)
    return Row(
        name="one-active-peer",
        title="PUSH→PULL tcp 16 B, one active peer among 2,000 against one alone",
        contestants=(contestant("trio_mq", crowd, "trio_mq, of 2,000"), contestant("trio_mq", alone, "trio_mq, alone")),
        more=(
            contestant("trio_mq", replace(alone, idle_peers=99), "trio_mq, of 100"),
            contestant("pyzmq", crowd, "pyzmq, of 2,000"),
            contestant("pyzmq", alone, "pyzmq, alone"),
        ),
        floors=(Bound(against="trio_mq, alone", limit=0.9),),
        short=True,
        note="",
    )


_TRANSPORTS: tuple[Transport, ...] = ("tcp", "ipc", "inproc")

ROWS: tuple[Row, ...] = (
    _smallest_pipeline(),
    *(_pipeline("tcp", size) for size in SIZES if size != 16),
    *(_pipeline(transport, size) for transport in _TRANSPORTS[1:] for size in SIZES),
    *(_batches(transport, size) for transport in _TRANSPORTS for size in SIZES),
    _REQ_REP,
    _fan_out(1),
    _fan_out(8),
    _subscriptions(),
    _subscriptions_in_use(),
    _crowd(),
)
