"""The table for people and the JSON for programs."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from . import _libraries
from ._conduct import choose_cores
from ._figures import RowResult, Spread, Verdict, missed_floors, ratios, spread, value, verdicts
from ._network import multicast_runs
from ._outcome import Datagrams, Outcome
from ._scenario import MARK, RECEIVE_BUFFER, Quantity

WIDTH = 110
_LABEL, _VALUE, _SPREAD, _CPU, _RATIO, _RATIO_SPREAD, _FLOOR, _TARGET = 23, 9, 21, 8, 8, 15, 14, 10

_QUIET = 0.7  # a load average that leaves the figures alone


# --- the machine ------------------------------------------------------------------------------------------------------


def machine(*, multicast: bool = False) -> dict[str, Any]:
    """What the figures depend on besides the code; with *multicast*, where its datagrams go, too."""
    cores = choose_cores()
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned": _pinned(cores),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: _libraries.version(name) or "absent" for name in _libraries.names()},
    }
    return {**facts, "multicast": multicast_runs()} if multicast else facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _pinned(cores: tuple[int, int] | None) -> str:
    if cores is None:
        return "not pinned: this system has no way"
    if cores[0] == cores[1]:
        return f"one core: both ends share core {cores[0]}"
    return f"sender or client on core {cores[0]}, receiver or server on core {cores[1]}; many processes on any"


def render_machine(facts: Mapping[str, Any], rounds: int) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [
        f"{facts['date']}  {facts['processor']}, {facts['cores']} cores, {facts['system']}, load {facts['load']}",
        f"{facts['python']}; {versions}",
        f"{facts['pinned']}; inproc in one process on one core; high-water marks {MARK:,}, PUB and SUB none",
        f"median (min .. max) of {rounds} interleaved rounds; CPU s/M: of both ends, per million messages or trips",
        "ratio: the first line's figure divided by this line's, round by round",
    ]
    if "multicast" in facts:
        lines.append(f"multicast: {facts['multicast']}")
    if facts["load"] > _QUIET:
        # The scheduler shares out a core by thread, so libraries with threads of their own suffer less from strangers.
        lines.append("others are at work on this machine, which favours libraries with I/O threads: trust nothing")
    if rounds < 9:
        lines.append("fewer than 9 rounds: good for a look, not for a verdict")
    return "\n".join(wrapped for line in lines for wrapped in textwrap.wrap(line, WIDTH))


def wrap(text: str) -> str:
    """*text* in lines that fit; the names of rows, which have hyphens, stay whole."""
    return "\n".join(textwrap.wrap(text, WIDTH, break_on_hyphens=False))


# --- rows -------------------------------------------------------------------------------------------------------------


def render_header() -> str:
    cells = ("", "median", "min .. max", "CPU s/M", "ratio", "min .. max", "floor", "target")
    return _line(*cells)


def render_row(result: RowResult) -> str:
    """The row's title, a line for each contestant, and what else there is to say."""
    judged = verdicts(result)
    lines = [result.row.title]
    for label, outcomes in result.outcomes.items():
        concerned = [verdict for verdict in judged if (verdict.bound.against or result.row.subject.label) == label]
        lines += _contestant_lines(result, label, outcomes, concerned)
    lines += _details(result)
    if result.row.note and any(verdict.kind == "target" and not verdict.met for verdict in judged):
        lines += textwrap.wrap(f"In the way: {result.row.note}", WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _contestant_lines(
    result: RowResult, label: str, outcomes: Sequence[Outcome], judged: Iterable[Verdict]
) -> list[str]:
    lines = []
    figure = spread(value(outcome, result.row.quantity) for outcome in outcomes)
    if figure is not None:
        cpu = spread(outcome.cpu_per_million for outcome in outcomes)
        ratio = None if label == result.row.subject.label else ratios(result, label)
        cells = {verdict.kind: _verdict_cell(verdict) for verdict in judged}
        lines.append(
            _line(
                label,
                _number(figure.median, result.row.quantity),
                _span(figure, result.row.quantity),
                _cpu(cpu.median) if cpu else "",
                f"× {_ratio(ratio.median)}" if ratio else "",
                f"{_ratio(ratio.low)} .. {_ratio(ratio.high)}" if ratio else "",
                cells.get("floor", ""),
                cells.get("target", ""),
            )
        )
    if label in result.failures:
        text = f"{label:<{_LABEL}}  {result.failures[label]}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * (_LABEL + 4))
    return lines


def _line(*cells: str) -> str:
    label, figure, span, cpu, ratio, ratio_span, floor, target = cells
    figures = f"{figure:>{_VALUE}}{span:>{_SPREAD}}{cpu:>{_CPU}}{ratio:>{_RATIO}}{ratio_span:>{_RATIO_SPREAD}}"
    return f"  {label:<{_LABEL}}{figures}{floor:>{_FLOOR}}{target:>{_TARGET}}".rstrip()


def _verdict_cell(verdict: Verdict) -> str:
    sign = "≥" if verdict.more_is_better else "≤"
    limit = f"{sign} {_limit(verdict)}"
    if verdict.met is None:
        return f"{limit} ?"
    if verdict.met:
        return f"{limit} met"
    if verdict.kind == "floor":
        return f"{limit} MISSED"
    return f"{limit} {verdict.nearness or 0.0:.0%}"


def _limit(verdict: Verdict) -> str:
    if verdict.bound.against is None and verdict.quantity == "memory":
        return f"{verdict.bound.limit / 1024:g}K"  # the unit in full would not fit beside its verdict
    if verdict.quantity == "datagrams":
        return f"{verdict.bound.limit / 1000:g}k dg"
    return f"{verdict.bound.limit:g}"


def _details(result: RowResult) -> Iterable[str]:
    """Lines under a row for what the columns have no room for."""
    scenario = result.row.subject.scenario
    ran = {label: outcomes for label, outcomes in result.outcomes.items() if outcomes}
    if not ran:
        return
    if result.row.quantity == "p50":
        yield _detail("p99 in µs", {label: f"{_median_p99(outcomes) * 1e6:,.0f}" for label, outcomes in ran.items()})
    if scenario.size >= 65536:
        yield _detail(
            "MB/s", {label: f"{_median_rate(outcomes) * scenario.size / 1e6:,.0f}" for label, outcomes in ran.items()}
        )
    if scenario.publishes:
        yield _detail("messages missing, all rounds", {label: _missing(outcomes) for label, outcomes in ran.items()})
    yield from _datagram_details(ran)
    short = {label: min(outcome.seconds for outcome in outcomes) for label, outcomes in ran.items()}
    # How long it takes to open calls is their own business: nothing is divided by it.
    if result.row.quantity != "memory" and any(seconds < 1 for seconds in short.values()):
        yield _detail("runs below 1 s", {label: f"{seconds:.2f} s" for label, seconds in short.items() if seconds < 1})


def _detail(name: str, figures: Mapping[str, str]) -> str:
    text = f"{name}: " + "; ".join(f"{label} {figure}" for label, figure in figures.items())
    return "\n".join(textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="        "))


def _missing(outcomes: Sequence[Outcome]) -> str:
    missing = sum(outcome.missing for outcome in outcomes)
    if not missing:
        return "0"
    received = sum(outcome.messages for outcome in outcomes)
    return f"{missing:,} ({received / (received + missing):.2%} delivered)"


def _datagram_details(ran: Mapping[str, Sequence[Outcome]]) -> Iterable[str]:
    told = {label: [each.datagrams for each in outcomes if each.datagrams] for label, outcomes in ran.items()}
    counted = {label: datagrams for label, datagrams in told.items() if datagrams}
    if counted:
        yield _detail("datagrams a second at the receivers", {k: _datagram_rate(v) for k, v in counted.items()})
        yield _detail("CPU per datagram at source and receiver", {k: _datagram_cpu(v) for k, v in counted.items()})
        sizes = {each.receive_buffer for datagrams in counted.values() for each in datagrams}
        granted = " or ".join("unknown" if size is None else f"{size >> 10:,} KiB" for size in sizes)
        yield f"    receive buffers granted, of {RECEIVE_BUFFER >> 10:,} KiB asked for: {granted}"


def _datagram_rate(counted: Sequence[Datagrams]) -> str:
    return f"{_median(each.rate for each in counted):,.0f}"


def _datagram_cpu(counted: Sequence[Datagrams]) -> str:
    source, receiver = _median(each.source_cpu for each in counted), _median(each.receiver_cpu for each in counted)
    return f"{source * 1e6:.1f} + {receiver * 1e6:.1f} µs"


def _median_p99(outcomes: Sequence[Outcome]) -> float:
    return _median(outcome.p99 for outcome in outcomes if outcome.p99 is not None)


def _median_rate(outcomes: Sequence[Outcome]) -> float:
    return _median(outcome.rate for outcome in outcomes)


def _median(values: Iterable[float]) -> float:
    figure = spread(values)
    return figure.median if figure else 0.0


def _span(figure: Spread, quantity: Quantity) -> str:
    return f"{_number(figure.low, quantity)} .. {_number(figure.high, quantity)}"


def _number(figure: float, quantity: Quantity) -> str:
    if quantity == "memory":
        return f"{figure / 1024:.1f} KiB"
    if quantity not in ("rate", "datagrams"):
        return _duration(figure)
    if figure >= 1e6:
        return f"{figure / 1e6:.2f} M"
    return f"{figure / 1e3:.1f} k" if figure >= 1e4 else f"{figure:,.0f}"


def _duration(seconds: float) -> str:
    if seconds >= 1e-2:
        return f"{seconds * 1e3:,.0f} ms"
    return f"{seconds * 1e6:,.0f} µs" if seconds >= 1e-4 else f"{seconds * 1e6:.3g} µs"


def _cpu(figure: float) -> str:
    return f"{figure:.2f}" if figure < 1000 else f"{figure:,.0f}"


def _ratio(figure: float) -> str:
    return f"{figure:.2f}" if figure < 10 else f"{figure:.1f}"


# --- the end ----------------------------------------------------------------------------------------------------------


def render_summary(results: Sequence[RowResult]) -> str:
    """How many floors were met, and which were not; how near the targets came."""
    judged = [verdict for result in results for verdict in verdicts(result)]
    floors = [verdict for verdict in judged if verdict.kind == "floor"]
    targets = [verdict for verdict in judged if verdict.kind == "target"]
    met, reached = (sum(verdict.met is True for verdict in each) for each in (floors, targets))
    lines = [f"Floors: {met} of {len(floors)} met. Targets: {reached} of {len(targets)} reached."]
    for row, verdict in missed_floors(results):
        sign = "at least" if verdict.more_is_better else "at most"
        lines.append(f"  MISSED {row.name}: {_reached(verdict)}, {sign} {_wanted(verdict)}")
    return "\n".join(lines)


def _reached(verdict: Verdict) -> str:
    if verdict.ratio is None:
        return "no figure"
    if verdict.bound.against is None:
        return _with_unit(verdict.ratio.median, verdict.quantity)
    return f"× {_ratio(verdict.ratio.median)}"


def _wanted(verdict: Verdict) -> str:
    if verdict.bound.against is None:
        return _with_unit(verdict.bound.limit, verdict.quantity)
    return f"{verdict.bound.limit:g} × {verdict.bound.against}"


def _with_unit(figure: float, quantity: Quantity) -> str:
    return _number(figure, quantity) + (" datagrams/s" if quantity == "datagrams" else "")


def as_json(results: Sequence[RowResult], facts: Mapping[str, Any], *, rounds: int, full: bool) -> dict[str, Any]:
    """Everything measured, run by run."""
    rows = [_row_as_json(result) for result in results]
    return {"machine": dict(facts), "rounds": rounds, "full": full, "rows": rows}


def _row_as_json(result: RowResult) -> dict[str, Any]:
    row = result.row
    return {
        "name": row.name,
        "title": row.title,
        "quantity": row.quantity,
        "note": row.note,
        "contestants": [
            {
                "label": label,
                "runs": [{**asdict(outcome), "rate": outcome.rate} for outcome in outcomes],
                "figure": _as_json(spread(value(outcome, row.quantity) for outcome in outcomes)),
                "cpu_per_million": _as_json(spread(outcome.cpu_per_million for outcome in outcomes)),
                "ratio": None if label == row.subject.label else _as_json(ratios(result, label)),
                "failure": result.failures.get(label),
            }
            for label, outcomes in result.outcomes.items()
        ],
        "bounds": [
            {
                "kind": verdict.kind,
                "against": verdict.bound.against,
                "quantity": verdict.quantity,
                "at_least" if verdict.more_is_better else "at_most": verdict.bound.limit,
                "ratio": _as_json(verdict.ratio),
                "met": verdict.met,
                "nearness": verdict.nearness,
            }
            for verdict in verdicts(result)
        ],
    }


def _as_json(figure: Spread | None) -> dict[str, float] | None:
    return asdict(figure) if figure else None
