"""Multicast beside pyzmq on OpenPGM: `python -m tests.benchmarks.multicast`.

Every pairing of publishers and subscribers, in interleaved rounds, between two network namespaces where root allows
them and over loopback where not. Rates are what subscribers received; a ratio is to pyzmq with itself on the same
machine. The kernel's grant of buffers is printed, since nothing else decides as much how many datagrams get lost.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from ..interop._pgm_lab import End, Lab, endpoints, has_namespaces, open_lab, pgm_python

_END = Path(__file__).with_name("_multicast_end.py")
_ROOT = Path(__file__).parents[2]
_PAIRINGS = [("zmq", "zmq"), ("trio_mq", "zmq"), ("zmq", "trio_mq"), ("trio_mq", "trio_mq")]
_UNLIMITED = ("trio_mq-unlimited", "trio_mq")
_ports = itertools.count(7001)


class Case(NamedTuple):
    """A row of the table."""

    publisher: str
    subscriber: str
    size: int
    messages: int
    subscribers: int = 1

    def __str__(self) -> str:
        many = f" ×{self.subscribers}" if self.subscribers > 1 else ""
        return f"{self.size:5} B  {self.publisher} → {self.subscriber}{many}"


class Outcome(NamedTuple):
    """What one run gave."""

    rate: float
    datagrams: float
    publisher_cpu: float
    subscriber_cpu: float
    received: float
    buffer: int


def _start(lab: Lab | None, side: str, library: str, role: str, endpoint: str, case: Case) -> End:
    python = pgm_python() if library == "zmq" else sys.executable
    assert python is not None
    inside = [] if lab is None else ["ip", "netns", "exec", side]
    arguments = [str(_END), library, role, endpoint, str(case.messages), str(case.size)]
    return End([*inside, "env", f"PYTHONPATH={_ROOT}", python, *arguments])


def run(case: Case, lab: Lab | None) -> Outcome:
    """Publish once."""
    port = next(_ports)
    left, right = endpoints("epgm", port=port) if lab is not None else [f"epgm://127.0.0.1;239.192.1.1:{port}"] * 2
    sides = (lab.left, lab.right) if lab is not None else ("", "")
    subs = [_start(lab, sides[1], case.subscriber, "sub", right, case) for _ in range(case.subscribers)]
    pub = _start(lab, sides[0], case.publisher, "pub", left, case)
    try:
        for sub in subs:
            sub.go_on()
        time.sleep(0.5)  # groups are joined in libzmq's own time
        pub.go_on()
        sent = pub.read()
        heard = [sub.read() for sub in subs]
    finally:
        for end in (pub, *subs):
            end.close()
    return _outcome(case, sent, heard)


def _outcome(case: Case, sent: dict[str, Any], heard: list[dict[str, Any]]) -> Outcome:
    slowest = min(heard, key=lambda each: each["messages"] / max(each["seconds"], 1e-9))
    seconds = max(slowest["seconds"], 1e-9)
    datagrams = sent.get("figures", {}).get("sent") or heard[0].get("figures", {}).get("received") or 0
    per = 1e6 / datagrams if datagrams else 0.0
    return Outcome(
        rate=slowest["messages"] / seconds,
        datagrams=datagrams * slowest["messages"] / case.messages / seconds,
        publisher_cpu=sent["cpu"] * per,
        subscriber_cpu=slowest["cpu"] * per,
        received=slowest["messages"] / case.messages,
        buffer=heard[0].get("endpoint", {}).get("receive_buffer", 0),
    )


def cases(*, full: bool) -> list[Case]:
    """The rows."""
    rows = [
        Case(publisher, subscriber, size, count)
        for size, count in ((1000, 60_000), (100, 200_000))
        for publisher, subscriber in [*_PAIRINGS, _UNLIMITED]
    ]
    if full:
        rows += [Case("trio_mq", "trio_mq", 1000, 20_000, subscribers=each) for each in (1, 8)]
    if pgm_python() is None:
        print("no pyzmq here is built on a libzmq with OpenPGM; only ours is measured")
        rows = [case for case in rows if "zmq" not in (case.publisher, case.subscriber)]
    return rows


def measure(rows: list[Case], rounds: int, lab: Lab | None) -> dict[Case, list[Outcome]]:
    """All rows, *rounds* times, in turn."""
    outcomes: dict[Case, list[Outcome]] = defaultdict(list)
    for number in range(rounds):
        for case in rows:
            print(f"\rround {number + 1} of {rounds}: {case}", end=" " * 30, file=sys.stderr, flush=True)
            outcomes[case].append(run(case, lab))
    print(file=sys.stderr)
    return outcomes


def show(outcomes: dict[Case, list[Outcome]]) -> None:
    """Print the table."""
    print(f"{'':38}{'msg/s':>9} {'(min–max)':>17} {'ratio':>6} {'dgram/s':>9} {'µs pub':>7} {'µs sub':>7} {'got':>6}")
    reference: dict[int, float] = {}
    for case, runs in outcomes.items():
        rates = [each.rate for each in runs]
        rate = statistics.median(rates)
        if (case.publisher, case.subscriber) == ("zmq", "zmq"):
            reference[case.size] = rate
        ratio = f"{rate / reference[case.size]:.2f}" if case.size in reference else ""
        columns = [statistics.median(column) for column in zip(*runs, strict=True)]
        span = f"{min(rates):,.0f}–{max(rates):,.0f}"
        print(
            f"{case!s:38}{rate:9,.0f} {span:>17} {ratio:>6} {columns[1]:9,.0f} {columns[2]:7.1f} {columns[3]:7.1f} "
            f"{columns[4]:6.1%}"
        )
    buffers = {each.buffer for runs in outcomes.values() for each in runs if each.buffer}
    print(f"The kernel granted receive buffers of {', '.join(f'{each:,}' for each in sorted(buffers))} bytes.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="also with 1 and 8 subscribers")
    arguments = parser.parse_args()
    rows = cases(full=arguments.full)
    reason = has_namespaces()
    if reason:
        print(f"over loopback, since {reason}")
        show(measure(rows, arguments.rounds, None))
    else:
        with open_lab() as lab:
            show(measure(rows, arguments.rounds, lab))


if __name__ == "__main__":
    main()
