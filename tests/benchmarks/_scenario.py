"""What is measured, as values: a scenario is one run, a contestant is who runs it, a row is a comparison.

Nothing here knows how a run is carried out or printed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

SocketPattern: TypeAlias = Literal["push-pull", "req-rep", "pub-sub"]
CallPattern: TypeAlias = Literal["unary", "server-stream", "bidi", "open-calls", "broadcast"]
Pattern: TypeAlias = SocketPattern | CallPattern
Transport: TypeAlias = Literal["tcp", "ipc", "inproc", "epgm"]
Quantity: TypeAlias = Literal["rate", "datagrams", "p50", "time", "cpu", "memory"]

MARK = 1000  # messages; the high-water mark of both ends, except of PUB and SUB, which have none

# Of multicast, at both ends.
RECOVERY = 0.1  # seconds of that rate which a publisher keeps for repair
RECEIVE_BUFFER = 4 << 20  # bytes that the kernel is asked for


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run.

    Attributes:
        size: bytes of a message; of a call's payload.
        seconds: how long the sending end sends. The figure is the receiving end's, from its first message to its
            last, so a slow receiver behind a publisher without a mark is busy for longer.
        messages: how many it sends instead, in chunks, however long that takes.
        batch: `send_many` and `receive_many` instead of one by one.
        requests: `Req.request` and `Rep.requests` instead of send and receive.
        subscribers: SUB sockets, or channels with a stream each, all in one process.
        processes: how many such processes there are at the receiving end.
        subscriptions: topics of each subscriber, a power of ten; every message matches exactly one of them. None:
            the empty topic.
        published: to how many topics the publisher of such messages publishes in turn.
        idle_peers: further peers of the receiving end that are connected and silent.
        eager_reads: trio_mq's option of that name.
        in_flight: calls under way at once on one channel, each in a task or thread of its own.
        timeout, metadata: what every call is made with: seconds, and so many entries.
        plain: the servicer has plain `def` methods.
        interceptor: the end that has one, which does nothing.
        multicast_rate: bits a second that a publisher may send; None: no limit.
        settings: what `hot_paths` changes inside trio_mq to see what it is worth: (module:NAME, value) pairs.
    """

    pattern: Pattern
    transport: Transport = "tcp"
    size: int = 16
    seconds: float = 1.15
    messages: int | None = None
    batch: bool = False
    requests: bool = False
    subscribers: int = 1
    processes: int = 1
    subscriptions: int | None = None
    published: int = 100_000
    idle_peers: int = 0
    eager_reads: bool = True
    in_flight: int = 1
    timeout: float | None = None
    metadata: int = 0
    plain: bool = False
    interceptor: Literal["client", "server"] | None = None
    multicast_rate: float | None = 1e9
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def chunk(self) -> int:
        """How many messages are sent between two looks at the clock, and how many `send_many` gets at once."""
        return 256 if self.size <= 4096 else 16

    @property
    def publishes(self) -> bool:
        """Whether nobody waits for those who receive, so that they may miss something."""
        return self.pattern in ("pub-sub", "broadcast")

    @property
    def multicast(self) -> bool:
        return self.transport == "epgm"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A library in a scenario; *label* is its name within the row.

    Attributes:
        receiver: the library of the receiving end, where that is another one.
    """

    library: str
    scenario: Scenario
    label: str
    receiver: str | None = None

    @property
    def libraries(self) -> tuple[str, str]:
        """That of the sending and that of the receiving end."""
        return self.library, self.receiver or self.library


def contestant(library: str, scenario: Scenario, label: str | None = None) -> Contestant:
    """*library* under its own name, or under *label*."""
    return Contestant(library=library, scenario=scenario, label=label or library)


def beside(scenario: Scenario, *libraries: str) -> tuple[Contestant, ...]:
    """All *libraries* in one scenario."""
    return tuple(contestant(library, scenario) for library in libraries)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The ratio to contestant *against* that the subject must (floor) or wants to (target) reach.

    Against None, it is the subject's own figure that has to reach *limit*.

    Attributes:
        quantity: what it is about, when not what the row compares.
    """

    against: str | None
    limit: float
    quantity: Quantity | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A comparison of its first contestant, the subject, with the others.

    Attributes:
        quantity: what the ratio is of: messages or datagrams a second (more is better; a bound says "at least"), or the
            median round trip, the time or the CPU time a message takes or the bytes that a call takes (less is better;
            "at most").
        more: contestants that only the full set has.
        short: whether the row is in the short set.
        note: what stands between the subject and its targets; printed when one is missed.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    more: tuple[Contestant, ...] = ()
    quantity: Quantity = "rate"
    floors: tuple[Bound, ...] = ()
    targets: tuple[Bound, ...] = ()
    short: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        labels = [contestant.label for contestant in self.contestants + self.more]
        if len(set(labels)) < len(labels):
            raise ValueError(f"row {self.name}: two contestants have the same label: {labels}")
        known = {None, *(contestant.label for contestant in self.contestants[1:])}
        for bound in self.floors + self.targets:
            if bound.against not in known:
                raise ValueError(f"row {self.name}: a bound is against {bound.against!r}, which every run must include")

    @property
    def subject(self) -> Contestant:
        return self.contestants[0]

    def field(self, full: bool) -> tuple[Contestant, ...]:
        """Who runs: everybody in the full set, those with a bound or a reason in the short one."""
        return self.contestants + self.more if full else self.contestants


def can_pin() -> bool:
    """Whether this system lets a process choose its cores."""
    return sys.platform == "linux"
