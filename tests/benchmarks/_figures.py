"""From the outcomes of a row's rounds to figures and verdicts. Pure: nothing is run or printed here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ._outcome import Outcome
from ._scenario import Bound, Quantity, Row

Kind: TypeAlias = Literal["floor", "target"]


@dataclass(frozen=True)
class Spread:
    """A figure: the median, with the least and the greatest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What a row's rounds gave.

    Attributes:
        outcomes: by label, one a round, in order. Who failed in a round did not run again and has fewer.
        failures: by label, why there are no more outcomes.
    """

    row: Row
    outcomes: Mapping[str, Sequence[Outcome]]
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a row's subject stands to one of its bounds; *ratio* is None when one of the two has no figure.

    For a bound against nobody it is the subject's figure.
    """

    kind: Kind
    bound: Bound
    quantity: Quantity
    ratio: Spread | None

    @property
    def more_is_better(self) -> bool:
        return self.quantity in ("rate", "datagrams")

    @property
    def nearness(self) -> float | None:
        """1.0 and more: reached; 0.65: 65 % of the way, measured as a factor."""
        if self.ratio is None:
            return None
        return self.ratio.median / self.bound.limit if self.more_is_better else self.bound.limit / self.ratio.median

    @property
    def met(self) -> bool | None:
        """None: nobody knows."""
        # Compared as they are, not by `nearness`: a ratio equal to its bound must not fail by a rounding error.
        if self.ratio is None:
            return None
        return self.ratio.median >= self.bound.limit if self.more_is_better else self.ratio.median <= self.bound.limit


def spread(values: Iterable[float]) -> Spread | None:
    """None of nothing."""
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def value(outcome: Outcome, quantity: Quantity) -> float:
    """What a row compares or bounds: messages or datagrams a second, seconds, or bytes."""
    if quantity == "rate":
        return outcome.rate
    if quantity == "datagrams":
        if outcome.datagrams is None:
            raise ValueError("only multicast has datagrams, and not every kernel counts them")
        return outcome.datagrams.rate
    if quantity == "time":
        return 1 / outcome.rate
    if quantity == "cpu":
        return outcome.cpu_seconds / outcome.messages
    if quantity == "memory":
        if outcome.memory is None:
            raise ValueError("only open calls have a memory")
        return outcome.memory
    if outcome.p50 is None:
        raise ValueError("only round trips have a p50")
    return outcome.p50


def ratios(result: RowResult, against: str, quantity: Quantity | None = None) -> Spread | None:
    """The subject's *quantity* (the row's) divided by that of *against*, once for each round in which both ran."""
    quantity = quantity or result.row.quantity
    ours, theirs = result.outcomes.get(result.row.subject.label, ()), result.outcomes.get(against, ())
    return spread(value(a, quantity) / value(b, quantity) for a, b in zip(ours, theirs, strict=False))


def verdicts(result: RowResult) -> list[Verdict]:
    """One for each bound of the row, floors first.

    One has no ratio when the subject or the other failed in any round: half a measurement is none.
    """
    floors = [_verdict(result, "floor", bound) for bound in result.row.floors]
    return floors + [_verdict(result, "target", bound) for bound in result.row.targets]


def _verdict(result: RowResult, kind: Kind, bound: Bound) -> Verdict:
    incomplete = {result.row.subject.label, bound.against} & result.failures.keys()
    quantity = bound.quantity or result.row.quantity
    ratio = None if incomplete else _compared(result, bound.against, quantity)
    return Verdict(kind=kind, bound=bound, quantity=quantity, ratio=ratio)


def _compared(result: RowResult, against: str | None, quantity: Quantity) -> Spread | None:
    if against is not None:
        return ratios(result, against, quantity)
    ours = result.outcomes.get(result.row.subject.label, ())
    if quantity == "datagrams" and any(outcome.datagrams is None for outcome in ours):
        return None
    return spread(value(outcome, quantity) for outcome in ours)


def missed_floors(results: Iterable[RowResult]) -> list[tuple[Row, Verdict]]:
    """Every floor that was not reached, or could not be judged: silence is not a pass."""
    return [
        (result.row, verdict)
        for result in results
        for verdict in verdicts(result)
        if verdict.kind == "floor" and verdict.met is not True
    ]
