"""`Run`: what a library is given to send and receive, and what is measured while it does.

Every library loops over the same three generators, so none pays for a clock, a comparison or a counter that another
does not. Within a chunk the loop is the library's own: a `for`, and one call to send or receive.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import statistics
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from itertools import cycle

from ._datagrams import count_datagrams, granted_buffer
from ._scenario import Scenario

# What a publisher sends before and after the traffic. A subscriber takes HELLO as a topic first, then its topics, then
# READY: commands are handled in order, so who gets READY has all its topics at the publisher. One byte each, because
# a longer topic could make the matching of all the others dearer.
HELLO, READY, END = b"~", b"!", b"!end"
GREETINGS = frozenset({HELLO, READY})
PAUSE = 0.005  # seconds between two greetings

_WARM_UP = 100  # round trips before the measured ones


class Control:
    """Lines from and to the command that started this process: ours on a copy of stdout, its on stdin."""

    def __init__(self) -> None:
        # Libraries that print must not be taken for us.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._rest = b""

    def tell(self, event: str, **values: object) -> None:
        os.write(self._out, json.dumps({"event": event, **values}).encode() + b"\n")

    def wait_line(self) -> str:
        """The next line; blocks the thread, so only before an event loop runs. `EOFError` when nobody writes."""
        while b"\n" not in self._rest:
            self._fill()
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def has_line(self) -> bool:
        """Whether a line has come, without waiting; it stays."""
        if b"\n" not in self._rest and select.select([0], [], [], 0)[0]:
            self._fill()
        return b"\n" in self._rest

    def _fill(self) -> None:
        data = os.read(0, 65536)
        if not data:
            raise EOFError("the benchmark command has gone")
        self._rest += data


class Run:
    """One process's share of one run.

    Attributes:
        endpoint: what to bind or to connect to.
        message, last: what is sent, and what is sent at the very end; of one size.
        newest: the message a receiving library took last.
    """

    def __init__(self, scenario: Scenario, endpoint: str, control: Control) -> None:
        self.scenario = scenario
        self.endpoint = endpoint
        self.message = b"m" * scenario.size
        self.last = b"l" * scenario.size
        self.newest = b""
        self._control = control
        self._ready = self._ended = self._sent = self._received = 0
        self._latencies: list[int] = []
        self._calls: list[int] = []
        self._opened = 0
        self._memory_before = 0
        self._memory: float | None = None
        self._cpu_before: float | None = None
        self._cpu: float | None = None
        self._datagrams_before: tuple[int, int] | None = None
        self._datagrams: tuple[int, int] | None = None
        self._receive_buffer: int | None = None
        self._began = self._finished = 0.0

    def announce(self, endpoint: str | bytes) -> None:
        """Tell the other end, through the command, where we are bound."""
        self._control.tell("bound", endpoint=endpoint if isinstance(endpoint, str) else endpoint.decode())

    # --- sending ------------------------------------------------------------------------------------------------------

    def chunks(self) -> Iterator[list[bytes]]:
        """The messages to send, in lists, until the time is up or there are enough.

        The very last one is `last`, except for a publisher.
        """
        self._start_cpu()
        if self.scenario.transport == "inproc":
            # Two tasks of one loop: a sender that has no need to wait might be done before the receiver begins.
            self.begin()
        bodies = self._bodies()
        yield next(bodies)  # connecting is part of the first one, so the time counts from here
        self._sent += self.scenario.chunk
        until = time.perf_counter() + self.scenario.seconds
        while self._has_more(until):
            chunk = next(bodies)
            yield chunk
            self._sent += len(chunk)
        if self.scenario.publishes:
            return  # the farewells say that it is over, and `last` would match no topic
        chunk = [*next(bodies)[:-1], self.last]
        yield chunk
        self._sent += len(chunk)

    def _has_more(self, until: float) -> bool:
        messages = self.scenario.messages
        return time.perf_counter() < until if messages is None else self._sent < messages

    def _bodies(self) -> Iterator[list[bytes]]:
        count = self.scenario.chunk
        if self.scenario.subscriptions is None:
            return cycle([[self.message] * count])
        topics = _topics(100_000)[:: 100_000 // self.scenario.published]
        messages = [topic.ljust(self.scenario.size, b".") for topic in topics]
        messages *= -(-count // len(messages))
        return cycle([messages[start : start + count] for start in range(0, len(messages) - count + 1, count)])

    # --- receiving ----------------------------------------------------------------------------------------------------

    def arrivals(self) -> Iterator[range]:
        """How often to receive; after each, the library puts the message it received last into `newest`."""
        yield range(1)
        self.begin()
        yield range(self.scenario.chunk - 1)
        count = self.scenario.chunk - 1
        while self.newest != self.last:
            yield range(self.scenario.chunk)
            count += self.scenario.chunk
        self.end(count)

    def begin(self) -> None:
        """The first message is here: clocks start. Later calls change nothing."""
        if not self._began:
            self._start_cpu()
            self._began = time.perf_counter()

    def end(self, count: int) -> None:
        """The last message is here, the *count*-th after the one that began."""
        self._finished = time.perf_counter()
        self._received = count
        self._stop_cpu()

    # --- round trips --------------------------------------------------------------------------------------------------

    def trips(self) -> Iterator[bytes]:
        """The request of each round trip; what happens until the next one is asked for is one latency."""
        clock, message, append = time.perf_counter_ns, self.message, self._latencies.append
        for _ in range(_WARM_UP):
            yield message
        self.begin()
        before = clock()
        until = before + self.scenario.seconds * 1e9
        while before < until:
            yield message
            now = clock()
            append(now - before)
            before = now
        self.end(len(self._latencies))
        yield self.last

    # --- calls --------------------------------------------------------------------------------------------------------

    def warm_up(self) -> range:
        """How many calls to make, one after the other, before the measured ones."""
        return range(_WARM_UP)

    def calls(self) -> Iterator[None]:
        """The calls of one of the tasks or threads that are to call at the same time."""
        clock, count = time.perf_counter, 0
        self.begin()
        until = self._began + self.scenario.seconds
        while clock() < until:
            yield
            count += 1
        self._calls.append(count)  # one atomic step: there may be threads

    def calls_ended(self) -> None:
        """All the tasks or threads are done."""
        self.end(sum(self._calls))

    def call_opened(self) -> None:
        """One more call is open at this end. The first is for what is made once; the others are measured together."""
        self._opened += 1
        if self._opened == 1:
            self._memory_before = _memory()
        elif self._opened == 1 + self.scenario.in_flight:
            self._memory = (_memory() - self._memory_before) / self.scenario.in_flight

    def serving(self, endpoint: str) -> None:
        """The server is bound, and there is no traffic yet."""
        self.announce(endpoint)
        self._start_cpu()

    def wait_stop(self) -> None:
        """Until the client has all it wants. Blocks the thread, so beside an event loop it needs one of its own."""
        self._control.wait_line()
        self._stop_cpu()

    # --- publishing ---------------------------------------------------------------------------------------------------

    @cached_property
    def topics(self) -> list[bytes]:
        """What each subscriber subscribes to, besides HELLO and READY."""
        return [b""] if self.scenario.subscriptions is None else _topics(self.scenario.subscriptions)

    def greetings(self) -> Iterator[bytes]:
        """What to publish, with a PAUSE after each, until all subscribers have all their subscriptions."""
        while not self._control.has_line():
            yield HELLO
            yield READY
        self._control.wait_line()

    def farewells(self) -> Iterator[bytes]:
        """What to publish, with a PAUSE after each, until all subscribers know that this was it."""
        while not self._control.has_line():
            yield END
        self._control.wait_line()

    def subscriber_ready(self) -> None:
        self._ready += 1
        if self._ready == self.scenario.subscribers:
            self._control.tell("ready")

    def subscriber_ended(self, count: int) -> None:
        """One subscriber met END after *count* messages; the last one to say so ends the run."""
        self._received += count
        self._ended += 1
        if self._ended == self.scenario.subscribers:
            self.end(self._received)

    # --- results ------------------------------------------------------------------------------------------------------

    def result(self) -> dict[str, object]:
        """Everything measured here; called when the library has closed its sockets."""
        self._stop_cpu()
        latencies = sorted(self._latencies)
        return {
            "sent": self._sent,
            "messages": self._received,
            "began": self._began,
            "ended": self._finished,
            "cpu": self._cpu,
            "p50": statistics.median(latencies) / 1e9 if latencies else None,
            "p99": latencies[len(latencies) * 99 // 100] / 1e9 if latencies else None,
            "memory": self._memory,
            "datagrams": self._datagrams,
            "receive_buffer": self._receive_buffer,
        }

    def _start_cpu(self) -> None:
        if self._cpu_before is None:
            if self.scenario.multicast:
                self._datagrams_before = count_datagrams()
            self._cpu_before = _cpu_seconds()

    def _stop_cpu(self) -> None:
        # A receiving end stops with its last message; a sending one when it is closed, because what it has queued is
        # still to be written after its last call.
        if self._cpu is None and self._cpu_before is not None:
            self._cpu = _cpu_seconds() - self._cpu_before
            if self._datagrams_before is not None and (counted := count_datagrams()) is not None:
                (sent_before, received_before), (sent, received) = self._datagrams_before, counted
                self._datagrams = sent - sent_before, received - received_before
                self._receive_buffer = granted_buffer()


def _topics(count: int) -> list[bytes]:
    """*count* topics, a power of ten, of which each message matches exactly one."""
    width = len(str(count)) - 1
    return [b"%0*d" % (width, number) for number in range(count)]


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory() -> int:
    """Bytes of this process that are in memory, with nothing in it that only waits to be collected."""
    gc.collect()
    try:
        with open("/proc/self/statm", encoding="ascii") as fields:
            return int(fields.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        # Elsewhere there is only the highest it ever was, which serves for a heap that grows. macOS counts bytes.
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest if sys.platform == "darwin" else highest * 1024
