"""Where a scenario runs: an endpoint to bind, of the transport that `kit.over` asked for, and the clock that fits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.abc
import trio.testing


@pytest.fixture
def new_endpoint(transport: str, tmp_path: Path) -> Callable[[], str]:
    """Makes endpoints to bind, a different one at each call."""
    numbers = itertools.count()
    templates = {
        "tcp": "tcp://127.0.0.1:*",
        "ipc": f"ipc://{tmp_path}/{{}}",
        "inproc": f"inproc://{tmp_path.name}/{{}}",
    }
    return lambda: templates[transport].format(next(numbers))


@pytest.fixture
def endpoint(new_endpoint: Callable[[], str]) -> str:
    """An endpoint to bind."""
    return new_endpoint()


@pytest.fixture
def clock(transport: str) -> trio.abc.Clock | None:
    """A jumping clock for inproc, where no kernel is involved; None means the real one."""
    return trio.testing.MockClock(autojump_threshold=0) if transport == "inproc" else None
