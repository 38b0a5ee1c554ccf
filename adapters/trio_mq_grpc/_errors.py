"""Errors that both sides raise, and where they are told of."""

from __future__ import annotations

import logging
from typing import Final

import grpc.aio
import trio

log: Final = logging.getLogger("trio_mq.grpc")


class CallEndedError(grpc.aio.UsageError, trio.ClosedResourceError):
    """Something was written to a call that has ended, or whose messages have."""
