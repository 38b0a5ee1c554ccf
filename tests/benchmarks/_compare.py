"""Runs a row: all contestants once a round, in an order that is reversed every second round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ._conduct import RunFailed
from ._figures import RowResult
from ._libraries import version
from ._outcome import Outcome
from ._scenario import Contestant, Row

# round, contestant, what came of it
Watch = Callable[[int, Contestant, Outcome | str], None]


async def compare(
    row: Row,
    *,
    rounds: int,
    full: bool,
    conduct: Callable[[Contestant], Awaitable[Outcome]],
    watch: Watch,
    installed: Callable[[str], str | None] = version,
) -> RowResult:
    """The outcomes of *rounds* rounds of *row*.

    A contestant whose run fails is not run again in this row; when that is the subject, the row is over.
    """
    field = row.field(full)
    outcomes: dict[str, list[Outcome]] = {contestant.label: [] for contestant in field}
    failures = {contestant.label: "absent" for contestant in field if None in map(installed, contestant.libraries)}
    for number in range(rounds):
        for contestant in field if number % 2 == 0 else reversed(field):
            # Rounds that nobody can be compared in would only take time.
            if row.subject.label in failures:
                break
            if contestant.label in failures:
                continue
            try:
                outcome = await conduct(contestant)
            except RunFailed as exc:
                failures[contestant.label] = str(exc)
                watch(number, contestant, f"failed: {exc}")
            else:
                outcomes[contestant.label].append(outcome)
                watch(number, contestant, outcome)
    return RowResult(row=row, outcomes=outcomes, failures=failures)
