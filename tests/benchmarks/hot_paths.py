"""The single tricks of the hot path, each with and without: `python -m tests.benchmarks.hot_paths`.

A trick in trio_mq names its row here, and goes when the row shows no difference any more. First the codec and what trio
itself costs on this machine, in nanoseconds; then whole runs of trio_mq against trio_mq with one setting changed, in
rounds as in the big table (so ratios are what counts, and ±10 % is noise).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import trio
import trio.testing

import trio_mq.zmtp
from trio_mq import _message

from . import _report
from ._compare import compare
from ._conduct import conduct
from ._outcome import Outcome
from ._scenario import Contestant, Quantity, Row, Scenario

_SMALL = Scenario(pattern="push-pull")
_KIBIBYTE = replace(_SMALL, size=1024)
_LARGE = replace(_SMALL, size=65536)
_ROUND_TRIP = Scenario(pattern="req-rep")
_NEVER = 1e9  # seconds; or a size that nothing reaches


def _setting(names: str, as_it_is: str, values: dict[str, float], scenarios: dict[str, Scenario]) -> list[Row]:
    """A row for each scenario: as it is, against settings *names* (module:NAME within trio_mq) at each of *values*."""
    rows = []
    for title, scenario in scenarios.items():
        quantity: Quantity = "p50" if scenario.pattern == "req-rep" else "rate"
        changed = {label: replace(scenario, settings=_settings(names, value)) for label, value in values.items()}
        short = names.rpartition(":")[2].strip("_").lower().replace("_", "-")
        rows.append(
            Row(
                name=f"{short}-{scenario.pattern}-{scenario.size}",
                title=f"{short}: {title}",
                contestants=tuple(_ours(label, each) for label, each in {as_it_is: scenario, **changed}.items()),
                quantity=quantity,
            )
        )
    return rows


def _settings(names: str, value: float) -> tuple[tuple[str, float], ...]:
    return tuple((f"trio_mq.{name}", value) for name in names.split())


def _ours(label: str, scenario: Scenario) -> Contestant:
    return Contestant(library="trio_mq", scenario=scenario, label=label)


def _eager_reads() -> Row:
    return Row(
        name="eager-reads",
        title="eager reads: REQ-REP p50",
        contestants=(_ours("on", _ROUND_TRIP), _ours("off", replace(_ROUND_TRIP, eager_reads=False))),
        quantity="p50",
    )


ROWS: tuple[Row, ...] = (
    _eager_reads(),
    *_setting("_core._eagerness:LOOKS", "5 looks", {"2 looks": 2, "10 looks": 10}, {"REQ-REP p50": _ROUND_TRIP}),
    *_setting(
        "_core._writer:WRITE_GAP",
        "inline after 50 µs",
        {"always inline": 0.0, "never inline": _NEVER},
        {"16 B one by one": _SMALL, "REQ-REP p50": _ROUND_TRIP},
    ),
    *_setting(
        "_core._writer:JOIN",
        "64 KiB a write",
        {"16 KiB a write": 1 << 14, "256 KiB a write": 1 << 18},
        {"16 B one by one": _SMALL, "1 KiB one by one": _KIBIBYTE},
    ),
    *_setting(
        "_core._writer:LARGE",
        "joined below 4 KiB",
        {"joined below 512 B": 512, "always joined": _NEVER},
        {"1 KiB one by one": _KIBIBYTE, "64 KiB one by one": _LARGE},
    ),
    *_setting(
        "_core._writer:YIELD_AFTER",
        "yields after 256 KiB",
        {"after 64 KiB": 1 << 16, "after 1 MiB": 1 << 20},
        {"16 B one by one": _SMALL, "64 KiB one by one": _LARGE},
    ),
    *_setting(
        "zmtp._frames:READ_SIZE",
        "reads of 64 KiB",
        {"of 16 KiB": 1 << 14, "of 128 KiB": 1 << 17},
        {"16 B one by one": _SMALL, "1 KiB one by one": _KIBIBYTE},
    ),
    *_setting(
        "_core._credit:MOST _core._receiving:MOST",
        "64 calls a credit",
        {"1 call": 1, "256 calls": 256},
        {"16 B one by one": _SMALL},
    ),
    *_setting(
        "_patterns._subscriptions:_CACHED_KEYS",
        "4,096 keys cached",
        {"one cached": 0},
        {"PUB→SUB, 10 topics in turn": Scenario(pattern="pub-sub", subscriptions=10, published=10)},
    ),
)


# --- nanoseconds ------------------------------------------------------------------------------------------------------

_BATCH = 2000
_TIMES = 25


def _nanoseconds(call: Callable[[], object], count: int) -> float:
    """What one of the *count* things takes that *call* does, at its best: noise only ever adds."""
    best = float("inf")
    for _ in range(_TIMES):
        before = time.perf_counter_ns()
        call()
        best = min(best, time.perf_counter_ns() - before)
    return best / count


def codec_figures() -> Iterator[tuple[str, float]]:
    """What encoding and decoding a frame costs."""
    for size in (16, 128, 1024):
        batch: list[_message.Payload] = [b"m" * size] * _BATCH
        data = trio_mq.zmtp.encode(batch)
        yield f"encode {size:,} B, a frame", _nanoseconds(partial(trio_mq.zmtp.encode, batch), _BATCH)
        yield f"decode {size:,} B, a frame", _nanoseconds(partial(_decode, data), _BATCH)
    pairs: list[_message.Payload] = [[b"address", b"m" * 16]] * _BATCH
    data = trio_mq.zmtp.encode(pairs)
    yield "encode two frames, a message", _nanoseconds(partial(trio_mq.zmtp.encode, pairs), _BATCH)
    yield "decode two frames, a message", _nanoseconds(partial(_decode, data), _BATCH)


def _decode(data: bytes) -> list[_message.Payload]:
    """As an engine does: as much as one read gives at a time."""
    decoder, out = trio_mq.zmtp.Decoder(), list[_message.Payload]()
    for start in range(0, len(data), 65536):
        decoder.feed(data[start : start + 65536])
        decoder.decode(_BATCH, out)
    return out


async def trio_figures() -> list[tuple[str, float]]:
    """What trio takes for the things a socket does now and then."""
    return [
        ("await of a coroutine that does nothing", await _awaited(_nothing)),
        ("checkpoint_if_cancelled", await _awaited(trio.lowlevel.checkpoint_if_cancelled)),
        ("checkpoint", await _awaited(trio.lowlevel.checkpoint)),
        ("hand-over to another task and back", await _hand_over()),
        ("perf_counter", _nanoseconds(_read_clocks, _BATCH)),
    ]


async def _awaited(function: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(_TIMES):
        before = time.perf_counter_ns()
        for _ in range(_BATCH):
            await function()
        best = min(best, time.perf_counter_ns() - before)
    return best / _BATCH


async def _hand_over() -> float:
    here, there = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()

    async def other() -> None:
        while True:
            await there.park()
            here.unpark()

    async def there_and_back() -> None:
        there.unpark()
        await here.park()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.testing.wait_all_tasks_blocked()
        taken = await _awaited(there_and_back)
        nursery.cancel_scope.cancel()
    return taken


async def _nothing() -> None:
    pass


def _read_clocks() -> None:
    clock = time.perf_counter
    for _ in range(_BATCH):
        clock()


# --- the command ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Print it all. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hot_paths", description="the hot path's tricks")
    parser.add_argument("--rows", action="append", metavar="TEXT", help="rows whose name has this; none of the figures")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="interleaved rounds a row (5)")
    parser.add_argument("--figures", action="store_true", help="only the nanoseconds")
    options = parser.parse_args(arguments)
    print(_report.render_machine(_report.machine(), options.pairs), end="\n\n")
    if not options.rows:
        for name, nanoseconds in [*codec_figures(), *trio.run(trio_figures)]:
            print(f"  {name:<42}{nanoseconds:>9,.0f} ns")
    if not options.figures:
        trio.run(_measure, [row for row in ROWS if _chosen(row, options.rows)], options.pairs)
    return 0


def _chosen(row: Row, texts: Sequence[str] | None) -> bool:
    return not texts or any(text in row.name for text in texts)


async def _measure(rows: Sequence[Row], rounds: int) -> None:
    print("\n" + _report.render_header(), flush=True)
    for row in rows:
        result = await compare(row, rounds=rounds, full=True, conduct=conduct, watch=_ignore)
        print(_report.render_row(result), end="\n\n", flush=True)


def _ignore(number: int, contestant: Contestant, outcome: Outcome | str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
