"""What every async test of the gRPC suites gets: a deadline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

TEST_DEADLINE = 30.0
"""Seconds after which a test has failed, whatever it waits for: a hang is a finding, not a stalled suite."""


def bound_tests(folder: Path, items: list[pytest.Item]) -> None:
    """Give every async test below *folder* its deadline."""
    for item in items:
        if isinstance(item, pytest.Function) and folder in item.path.parents and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        # Not `trio.fail_after`: calls inherit the deadlines of the scopes around them, and would all have this one.
        failure: BaseException | None = None
        expired = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_later, nursery.cancel_scope, expired)
            try:
                await test(*args, **kwargs)
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001  # raised behind the nursery, as it was, not in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if expired.is_set():
            raise trio.TooSlowError

    return bounded


async def _cancel_later(scope: trio.CancelScope, expired: trio.Event) -> None:
    # A clock that jumps does so to this time as soon as nothing else is due, so it must lie beyond all others.
    mocked = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    await trio.sleep(1e9 if mocked else TEST_DEADLINE)
    expired.set()
    scope.cancel()
