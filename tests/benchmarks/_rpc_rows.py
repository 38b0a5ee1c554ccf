"""The rows of trio_mq_grpc beside other gRPC libraries, with their floors and targets.

All of them call the service of `_echo` in two processes over tcp, ours and grpcio's with the same generated stubs and
the same servicers. Without grpcio there is nothing to compare and nothing of ours to run, so the rows are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ._scenario import Bound, Row, Scenario, beside, contestant

_OURS, _AIO, _THREADS, _GRPCLIB = "trio_mq_grpc", "grpc.aio", "grpcio threads", "grpclib"

_PAYLOAD = 16
_BUSY = Scenario(pattern="unary", size=_PAYLOAD, in_flight=64)
_ALONE = replace(_BUSY, in_flight=1)


def _bounds(**limits: float) -> tuple[Bound, ...]:
    """By the peer: `aio`, `threads` or `grpclib`."""
    peers = {"aio": _AIO, "threads": _THREADS, "grpclib": _GRPCLIB}
    return tuple(Bound(against=peers[name], limit=limit) for name, limit in limits.items())


# --- unary ------------------------------------------------------------------------------------------------------------

_UNARY = Row(
    name="rpc-unary-64",
    title="unary calls, 16 B, 64 in flight",
    contestants=beside(_BUSY, _OURS, _AIO, _THREADS, _GRPCLIB),
    floors=_bounds(aio=8, threads=8, grpclib=10),
    targets=_bounds(aio=15),
    short=True,
    note="a call is two messages, a task of its own at either end and protobuf's work, all of it in one interpreter",
)

_UNARY_TIMEOUT = Row(
    name="rpc-unary-64-timeout",
    title="unary calls, 16 B, 64 in flight, each with timeout=30",
    contestants=beside(replace(_BUSY, timeout=30.0), _OURS, _AIO),
    more=beside(replace(_BUSY, timeout=30.0), _THREADS, _GRPCLIB),
    floors=_bounds(aio=5),
    targets=_bounds(aio=8),
    short=True,
    note="a deadline is kept at both ends, and moved for every call",
)

_UNARY_METADATA = Row(
    name="rpc-unary-64-metadata",
    title="unary calls, 16 B, 64 in flight, each with three metadata entries",
    contestants=beside(replace(_BUSY, metadata=3), _OURS, _AIO),
    more=beside(replace(_BUSY, metadata=3), _THREADS, _GRPCLIB),
    floors=_bounds(aio=6),
    targets=_bounds(aio=10),
    short=True,
    note="entries are checked, encoded and decoded in Python for every call",
)

_UNARY_ALONE = Row(
    name="rpc-unary-1",
    title="unary calls, 16 B, one in flight, round trip p50",
    contestants=beside(_ALONE, _OURS, _AIO, _THREADS),
    more=beside(_ALONE, _GRPCLIB),
    quantity="p50",
    floors=_bounds(aio=0.45, threads=0.75),
    targets=_bounds(aio=0.3),
    short=True,
    note="two system calls each way, as in REQ-REP, and switches between the tasks at both ends",
)

_UNARY_LARGE = Row(
    name="rpc-unary-1048576",
    title="unary calls, 1 MiB, one in flight, calls a second",
    contestants=beside(replace(_ALONE, size=1 << 20), _OURS, _AIO),
    more=beside(replace(_ALONE, size=1 << 20), _THREADS, _GRPCLIB),
    floors=_bounds(aio=2),
    targets=_bounds(aio=3),
    short=True,
    note="protobuf copies the payload four times in a call, and the kernel four times more",
)

_PLAIN = Row(
    name="rpc-plain-servicer",
    title="unary calls, 16 B, 64 in flight, to a plain def servicer",
    contestants=beside(replace(_BUSY, plain=True), _OURS, _THREADS),
    more=beside(replace(_BUSY, plain=True), _AIO),
    floors=_bounds(threads=2),
    targets=_bounds(threads=3),
    short=True,
    note="each call visits a worker thread: two switches, and the interpreter's lock changes hands twice",
)


def _intercepted(end: Literal["client", "server"]) -> Row:
    with_one = replace(_BUSY, interceptor=end)
    return Row(
        name=f"rpc-{end}-interceptor",
        title=f"unary calls, 16 B, 64 in flight, through a {end} interceptor that does nothing",
        contestants=(
            contestant(_OURS, with_one),
            contestant(_OURS, _BUSY, f"{_OURS}, without"),
            contestant(_AIO, with_one),
        ),
        more=(contestant(_AIO, _BUSY, f"{_AIO}, without"),),
    )


# --- streams ----------------------------------------------------------------------------------------------------------

_STREAMED = Scenario(pattern="server-stream", size=_PAYLOAD)
_ECHOED = Scenario(pattern="bidi", size=_PAYLOAD)

_STREAM = Row(
    name="rpc-stream",
    title="server streaming, 16 B, messages a second",
    contestants=beside(_STREAMED, _OURS, _AIO, _GRPCLIB),
    more=beside(_STREAMED, _THREADS),
    floors=_bounds(aio=15, grpclib=5),
    targets=_bounds(aio=30),
    short=True,
    note="protobuf, one step of the handler's generator and one of the reader's for each message",
)

_STREAM_LARGE = Row(
    name="rpc-stream-65536",
    title="server streaming, 64 KiB, messages a second",
    contestants=beside(replace(_STREAMED, size=65536), _OURS, _AIO),
    more=beside(replace(_STREAMED, size=65536), _THREADS, _GRPCLIB),
)

_BIDI = Row(
    name="rpc-bidi",
    title="bidirectional streaming, 16 B, every message echoed, echoes a second",
    contestants=beside(_ECHOED, _OURS, _AIO),
    more=beside(_ECHOED, _THREADS, _GRPCLIB),
    floors=_bounds(aio=12),
    targets=_bounds(aio=25),
    short=True,
    note="two generators and two readers take a step for each echo",
)


# --- many receivers, many calls ---------------------------------------------------------------------------------------

_EVENTS = Scenario(pattern="broadcast", size=100, subscribers=8)

_BROADCAST = Row(
    name="rpc-broadcast-8",
    title="an event of 100 B to 8 subscribers, deliveries a second (grpc.aio: 8 clients of a streaming method)",
    contestants=(contestant(_OURS, _EVENTS), contestant(_AIO, replace(_EVENTS, pattern="server-stream"))),
    floors=_bounds(aio=3),
    targets=_bounds(aio=10),
    short=True,
    note="every delivery is parsed and handled by a servicer of its own, eight of them in one interpreter",
)

_MANY = Scenario(pattern="open-calls", size=_PAYLOAD, in_flight=10_000)

_OPEN_CALLS = Row(
    name="rpc-open-calls",
    title="10,000 bidirectional calls open on one channel, memory of each at the end where it takes more",
    contestants=beside(_MANY, _OURS),
    more=beside(_MANY, _AIO),
    quantity="memory",
    floors=(Bound(against=None, limit=12 * 1024),),
    targets=(Bound(against=None, limit=5 * 1024),),
    short=True,
    note="a task, a generator and a context for each call at the server",
)

RPC_ROWS: tuple[Row, ...] = (
    _UNARY,
    _UNARY_TIMEOUT,
    _UNARY_METADATA,
    _UNARY_ALONE,
    _STREAM,
    _BIDI,
    _UNARY_LARGE,
    _PLAIN,
    _intercepted("client"),
    _intercepted("server"),
    _STREAM_LARGE,
    _BROADCAST,
    _OPEN_CALLS,
)
