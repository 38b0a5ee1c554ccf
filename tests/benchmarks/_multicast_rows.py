"""The rows of multicast, with their floors: trio_mq beside libzmq on OpenPGM, and broadcasts to many processes.

A contestant names who publishes and who subscribes. Both libraries get 1 Gbit/s, 100 ms of window and 4 MiB of receive
buffer. Nobody waits for subscribers, so what they received is what counts. A publisher without a mark queues whatever
it has no time to send, so it has so many messages to send, and not so many seconds.

The libzmq of wheels has no OpenPGM; Debian's has. Where there is none the rows with it are left out.
"""

from __future__ import annotations

from dataclasses import replace

from ._scenario import Bound, Contestant, Row, Scenario, contestant

_OURS, _THEIRS = "trio_mq", "libzmq"

_FULL = Scenario(pattern="pub-sub", transport="epgm", size=1000, messages=120_000, batch=True)
_PACKED = replace(_FULL, size=100, messages=900_000)


def _pair(publisher: str, subscriber: str, scenario: Scenario, label: str | None = None) -> Contestant:
    label = label or f"{publisher} → {subscriber}"
    return Contestant(library=publisher, receiver=subscriber, scenario=scenario, label=label)


_REFERENCE = f"{_THEIRS} → {_THEIRS}"

_FLOORS = {
    1000: (Bound(against=_REFERENCE, limit=0.3), Bound(against=None, limit=20_000, quantity="datagrams")),
    100: (Bound(against=_REFERENCE, limit=0.5),),
}


def _sending(scenario: Scenario, what: str) -> Row:
    return Row(
        name=f"multicast-{scenario.size}-to-libzmq",
        title=f"PUB→SUB epgm {what}, ours to libzmq (send_many / receive_many; libzmq one by one)",
        contestants=(
            _pair(_OURS, _THEIRS, scenario),
            _pair(_THEIRS, _THEIRS, scenario),
            _pair(_OURS, _OURS, scenario),
        ),
        more=(_pair(_OURS, _OURS, replace(scenario, multicast_rate=None), f"{_OURS}, no rate limit"),),
        floors=_FLOORS[scenario.size],
        short=True,
    )


def _receiving(scenario: Scenario, what: str) -> Row:
    return Row(
        name=f"multicast-{scenario.size}-from-libzmq",
        title=f"PUB→SUB epgm {what}, libzmq to ours (receive_many; libzmq one by one)",
        contestants=(_pair(_THEIRS, _OURS, scenario), _pair(_THEIRS, _THEIRS, scenario)),
        floors=_FLOORS[scenario.size],
        short=True,
    )


# At a pace that eight processes can keep on two cores: those that lose datagrams would have less to do.
_PACED = replace(_FULL, messages=6_000, multicast_rate=40e6)

_RECEIVERS = Row(
    name="multicast-receivers",
    title="PUB→SUB epgm 1,000 B at 40 Mbit/s to 8 processes against one, CPU time a delivery takes at all ends",
    contestants=(
        contestant(_OURS, replace(_PACED, processes=8), "trio_mq, 8 receivers"),
        contestant(_OURS, _PACED, "trio_mq, 1 receiver"),
    ),
    quantity="cpu",
)

# --- broadcast --------------------------------------------------------------------------------------------------------

_EVENTS = Scenario(pattern="broadcast", size=100, processes=8)

_BROADCAST = Row(
    name="multicast-broadcast-8",
    title="an event of 100 B to 8 processes, deliveries a second (grpc.aio: 8 clients of a streaming method)",
    contestants=(
        contestant("trio_mq_grpc", replace(_EVENTS, transport="epgm"), "trio_mq_grpc, multicast"),
        contestant("trio_mq_grpc", _EVENTS, "trio_mq_grpc, tcp"),
        contestant("grpc.aio", replace(_EVENTS, pattern="server-stream")),
    ),
)

MULTICAST_ROWS: tuple[Row, ...] = (
    _sending(_FULL, "1,000 B"),
    _receiving(_FULL, "1,000 B"),
    _sending(_PACKED, "100 B"),
    _receiving(_PACKED, "100 B"),
    _RECEIVERS,
    _BROADCAST,
)
