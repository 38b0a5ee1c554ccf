"""The command: `python -m tests.benchmarks`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import trio

from . import _libraries, _report
from ._compare import compare
from ._conduct import DEADLINE, conduct
from ._figures import RowResult, missed_floors
from ._multicast_rows import MULTICAST_ROWS
from ._outcome import Outcome
from ._rows import ROWS
from ._rpc_rows import RPC_ROWS
from ._scenario import Contestant, Row

_ALL = ROWS + RPC_ROWS + MULTICAST_ROWS
_RESULTS = Path(__file__).with_name("results") / "latest.json"
_RUN_SECONDS = 1.7  # what a run takes with its two interpreters, on average


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns the exit status: 1 when floors are to be checked and one was missed."""
    options = _parse(arguments)
    rows = _choose(options.rows, full=options.full)
    if options.list or not rows:
        print("\n".join(f"{row.name:<24} {row.title}" for row in rows) or f"no row is called {options.rows}")
        return 0 if rows else 2
    rows = _leave_out(rows)
    if not rows:
        return 2
    facts = _report.machine(multicast=any(row.subject.scenario.multicast for row in rows))
    print(_report.render_machine(facts, options.pairs))
    runs = sum(len(row.field(options.full)) for row in rows) * options.pairs
    kind = "the full set" if options.full else "the short set: rows with floors; --full for the rest"
    print(f"{len(rows)} rows, {runs} runs, about {max(1, round(runs * _RUN_SECONDS / 60))} min ({kind})\n", flush=True)
    results: list[RowResult] = []
    interrupted = False
    try:
        trio.run(partial(_measure, rows, results, options.pairs, options.full, options.deadline))
    except* KeyboardInterrupt:  # it may come out of a nursery
        interrupted = True
    finally:
        # What was measured is kept even when the rest was not.
        _write(options.json, _report.as_json(results, facts, rounds=options.pairs, full=options.full))
    if interrupted:
        print("interrupted", file=sys.stderr)
        return 130
    print(_report.render_summary(results))
    print(f"written to {options.json}")
    return 1 if options.check and missed_floors(results) else 0


async def _measure(rows: Sequence[Row], results: list[RowResult], rounds: int, full: bool, deadline: float) -> None:
    print(_report.render_header(), flush=True)
    for row in rows:
        watch = partial(_show_progress, row, rounds)
        one_run = partial(conduct, deadline=deadline)
        result = await compare(row, rounds=rounds, full=full, conduct=one_run, watch=watch)
        results.append(result)
        _clear_progress()
        print(_report.render_row(result), end="\n\n", flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="trio_mq's speed beside its peers")
    parser.add_argument("--full", action="store_true", help="every row and every library (an hour)")
    parser.add_argument("--rows", action="append", metavar="PATTERN", help="rows whose name has or matches this")
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="interleaved rounds a row (9)")
    parser.add_argument("--json", type=Path, default=_RESULTS, metavar="PATH", help="where the JSON goes")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a floor is missed")
    parser.add_argument("--deadline", type=float, default=DEADLINE, metavar="S", help="seconds a run may take")
    parser.add_argument("--list", action="store_true", help="only name the rows")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    return options


def _choose(patterns: Sequence[str] | None, *, full: bool) -> list[Row]:
    """The named rows, wherever they belong; without names, the short set or all."""
    if patterns:
        return [row for row in _ALL if any(pattern in row.name or fnmatch(row.name, pattern) for pattern in patterns)]
    return [row for row in _ALL if full or row.short]


def _leave_out(rows: Sequence[Row]) -> list[Row]:
    """Those that can run here; says which cannot, and why. Their floors are nobody's business then."""
    left_out: dict[str, list[str]] = {}
    for row in rows:
        if missing := _missing(row):
            left_out.setdefault(" and ".join(missing), []).append(row.name)
    for missing_modules, names in left_out.items():
        print(_report.wrap(f"left out, for want of {missing_modules}: {', '.join(names)}"))
    return [row for row in rows if not _missing(row)]


def _missing(row: Row) -> list[str]:
    sender, receiver = row.subject.libraries
    return list(dict.fromkeys(_libraries.missing(sender) + _libraries.missing(receiver)))


def _show_progress(row: Row, rounds: int, number: int, contestant: Contestant, outcome: Outcome | str) -> None:
    if not sys.stderr.isatty():
        return
    came = outcome if isinstance(outcome, str) else f"{outcome.rate:,.0f}/s"
    line = f"{time.strftime('%H:%M:%S')} {row.name} {number + 1}/{rounds} {contestant.label}: {came}"
    print(f"\r\x1b[K{line[: _report.WIDTH]}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
