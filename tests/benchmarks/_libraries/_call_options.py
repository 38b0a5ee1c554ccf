"""What each unary call of a run is made with; the same for every library."""

from __future__ import annotations

from typing import Any

from .._run import Run

_METADATA = (("x-request-id", "7d4f0b9c2a61"), ("x-tenant", "north"), ("x-attempt", "1"))


def call_options(run: Run) -> dict[str, Any]:
    """The keyword arguments."""
    options: dict[str, Any] = {}
    if run.scenario.timeout is not None:
        options["timeout"] = run.scenario.timeout
    if run.scenario.metadata:
        options["metadata"] = _METADATA[: run.scenario.metadata]
    return options
