"""What the demo shows: the game while it runs, redrawn in place on a terminal, and a summary at its end.

Text is made by plain functions; only `show` and `report` print.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections import Counter, deque
from collections.abc import Iterator

import trio

from .gateway import Gateway
from .ledger import Phase
from .scenario import Summary

BLOCKS = " ▁▂▃▄▅▆▇█"
REDRAW, LINE = 0.1, 1.0
WINDOW = 1.0


class Recent:
    """What happened in the last second, from totals that only grow."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Counter[str]]] = deque()

    def note(self, now: float, totals: Counter[str]) -> tuple[Counter[str], float]:
        """Take note of *totals* of *now*; the growth over the last second (or a little more), and how long that was."""
        self._samples.append((now, totals.copy()))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()
        then, before = self._samples[0]
        return totals - before, now - then


class LastWords(logging.Handler):
    """Keeps the newest lines of trio_mq's log, where printing them would spoil the picture."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=3)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def show(gateway: Gateway) -> None:
    """Show the game until cancelled: a picture on a terminal, a line now and then elsewhere."""
    recent, began = Recent(), trio.current_time()
    if sys.stdout.isatty():
        await _draw(gateway, recent, began)
    while True:
        now = trio.current_time()
        grown, seconds = recent.note(now, gateway.ledger.answered)
        print(line(gateway, now - began, _rate(grown, seconds)), flush=True)
        await trio.sleep(LINE)


async def _draw(gateway: Gateway, recent: Recent, began: float) -> None:
    log, height = LastWords(), 0
    logging.getLogger("trio_mq").addHandler(log)
    try:
        while True:
            now = trio.current_time()
            grown, seconds = recent.note(now, gateway.ledger.answered)
            lines = [
                *screen(gateway, now - began, grown, _rate(grown, seconds)),
                *(f"  log         {said}" for said in log.lines),
            ]
            print(redrawn(lines, height), end="", flush=True)
            height = len(lines)
            await trio.sleep(REDRAW)
    finally:
        logging.getLogger("trio_mq").removeHandler(log)


def _rate(grown: Counter[str], seconds: float) -> float:
    return grown.total() / seconds if seconds else 0.0


def redrawn(lines: list[str], height: int) -> str:
    """*lines* in place of the *height* lines printed before, none so long that it would wrap and spoil the count."""
    width = shutil.get_terminal_size().columns - 1
    up = f"\x1b[{height}F" if height else ""
    return up + "\x1b[J" + "".join(text[:width] + "\n" for text in lines)


def screen(gateway: Gateway, elapsed: float, grown: Counter[str], rate: float) -> Iterator[str]:
    """The picture of a moment."""
    ledger, roster, scoreboard = gateway.ledger, gateway.roster, gateway.scoreboard
    yield f"gateway {gateway.endpoints.requests}   {elapsed:4.1f} s   {current(gateway)}"
    yield f"  requests    {ledger.answered.total():7,} answered, {len(ledger.open):3} under way, {rate:5,.0f}/s"
    yield f"  servers     {len(roster.present):3}  [{bars(grown)}]  each one's share of the last second"
    leaders = ", ".join(f"{player} {points}" for player, points in scoreboard.points.most_common(3))
    yield f"  scoreboard  {scoreboard.published:3} updates   {leaders}"


def line(gateway: Gateway, elapsed: float, rate: float) -> str:
    """The same in one line, for output that is not a terminal."""
    return (
        f"{elapsed:5.1f} s  {current(gateway):32} {len(gateway.roster.present):3} servers"
        f"  {gateway.ledger.answered.total():7,} answered  {rate:6,.0f}/s"
    )


def current(gateway: Gateway) -> str:
    """The name of the phase the game is in."""
    return gateway.ledger.phases[-1].name if gateway.ledger.phases else "waiting for readers of the scoreboard"


def bars(shares: Counter[str]) -> str:
    """One character for each server, as high as its share."""
    most = max(shares.values(), default=0)
    return "".join(BLOCKS[round(shares[name] / most * (len(BLOCKS) - 1))] for name in sorted(shares))


def report(summary: Summary) -> None:
    """Print what came of the game."""
    print("\n" + "\n".join(conclusion(summary)))


def conclusion(summary: Summary) -> Iterator[str]:
    """The summary, line by line."""
    yield f"{'phase':33} seconds  requests       /s    one server's share: min  median  max"
    yield from map(row, summary.phases)
    yield ""
    answered = summary.answered.total()
    yield f"requests    {summary.asked:,} sent = {answered:,} answered + {summary.lost} lost"
    yield from losses(summary)
    yield from departures(summary)
    yield from participants(summary)


def row(phase: Phase) -> str:
    """One phase of the summary. Shares are only compared where the same servers were there all the time."""
    seconds = (phase.ended or phase.began) - phase.began
    text = f"{phase.name:33} {seconds:7.1f}  {phase.asked:8,}  {phase.asked / max(seconds, 0.001):7,.0f}"
    if phase.servers is None:
        return text
    least, median, most = phase.spread
    return f"{text}  {least:24}  {median:6g}  {most:3}"


def losses(summary: Summary) -> Iterator[str]:
    """Where the lost requests were."""
    queued = sum(summary.dropped.values())
    taken = summary.lost - queued - summary.lost_by_the_living
    yield f"            {summary.lost_by_the_living} of the lost were for servers that stayed"
    yield f"            {taken} were on the way to servers that went, or in their hands"
    yield f"            {queued} were still queued in the gateway for servers that went"
    for (server, reason), count in sorted(summary.dropped.items()):
        yield f"              {count} for {server}: {reason}"


def departures(summary: Summary) -> Iterator[str]:
    """Who went, and how."""
    for verb in ("left", "killed"):
        names = sorted(name for name, how in summary.gone.items() if how == verb)
        yield f"{verb:11} {', '.join(names)}"


def participants(summary: Summary) -> Iterator[str]:
    """What programs without trio_mq did, and what readers of the scoreboard saw."""
    plain = {name: count for name, count in summary.answered.items() if name.startswith("pyzmq")}
    for name, count in plain.items():
        yield f"{name:11} a plain pyzmq program, answered {count:,}"
    yield f"scoreboard  {summary.published} updates: " + "; ".join(
        f"a {seen['reader']} reader saw {seen['seen']} (leading: {seen['leader']})" for seen in summary.readers
    )
