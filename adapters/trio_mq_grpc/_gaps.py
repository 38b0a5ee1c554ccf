"""Gaps: what was published and did not come, as a subscriber's hook is told of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from ._errors import log


@dataclass(frozen=True)
class Gap:
    """Something was published and did not come.

    Attributes:
        path: the method, ``/package.Service/Method``, or the type of event, ``/package.MessageName``.
        key: of the message behind the gap.
        missed: how many messages are missing.
        epoch: which publisher, and which life of it.
        sequence: the number of the message behind the gap.
    """

    path: str
    key: bytes
    missed: int
    epoch: int
    sequence: int


OnGap: TypeAlias = Callable[[Gap], "Awaitable[None] | None"]
"""Told of each gap, before the message behind it is handled; a function or an async one."""


async def report_gap(on_gap: OnGap | None, gap: Gap) -> None:
    """Tell *on_gap*, or the log. What the hook raises is logged."""
    if on_gap is None:
        log.warning("%d messages of %s were missed before number %d", gap.missed, gap.path, gap.sequence)
        return
    try:
        outcome = on_gap(gap)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:  # noqa: BLE001  # the user's, and nobody else must notice
        log.exception("the on_gap hook failed for %s", gap.path)
