"""A port as its server sees it, whatever comes in there: calls, one-way work, broadcasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from ._served import ServedCall


class AnyPort(Protocol):
    """What a server's ports have in common, whatever comes in there.

    Attributes:
        address: where it is, for people.
    """

    @property
    def address(self) -> str: ...

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve it until cancelled."""

    def close(self) -> None:
        """Stop listening."""

    def go_away(self) -> None:
        """Take nothing new; tell those who can be told."""

    async def wait_idle(self) -> None:
        """Wait until all is done that was begun and is not in the pool."""

    def end_calls(self, end: Callable[[ServedCall], None]) -> None:
        """Apply *end* to every call."""

    async def flush(self) -> None:
        """Wait until the kernel has all that was sent."""
