"""The options of our ends for multicast, which are those that libzmq gets."""

from __future__ import annotations

from typing import Any

from .._run import Run
from .._scenario import RECEIVE_BUFFER, RECOVERY


def multicast_options(run: Run) -> dict[str, Any]:
    """For `trio_mq.Options`; nothing over other transports."""
    if not run.scenario.multicast:
        return {}
    return {
        "multicast_rate": run.scenario.multicast_rate,
        "multicast_recovery": RECOVERY,
        "receive_buffer": RECEIVE_BUFFER,
        "linger": 0.0,  # the farewells have arrived
    }
