"""Errors that both sides raise."""

from __future__ import annotations

import grpc.aio
import trio


class CallEndedError(grpc.aio.UsageError, trio.ClosedResourceError):
    """Something was written to a call that has ended, or whose messages have."""
