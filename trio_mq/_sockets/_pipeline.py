"""PUSH and PULL (RFC 30)."""

from __future__ import annotations

import trio

from .._core._receiving import FrameReceivingSocket
from .._core._sending import SendingSocket
from .._options import Options
from .._patterns import Pattern
from .._patterns import Pull as PullPattern
from .._patterns import Push as PushPattern


class Push(SendingSocket, trio.abc.SendChannel[bytes]):
    """Deals messages out to PULL peers, in strict rotation over those that have room.

    `send` waits while no peer has room. A bound PUSH without pullers has no queue to put work in, so it waits, too; a
    connecting one queues for its endpoint from `connect` on, up to the mark, unless ``Options(immediate=True)``. What
    is queued for a puller that came to us and went is dropped and counted (``'disconnected'``); what is queued for an
    endpoint that we dial is kept and goes out after the reconnect. Nothing is re-routed.
    """

    socket_type = "PUSH"

    def _new_pattern(self, options: Options) -> Pattern:
        return PushPattern(self.drop)


class Pull(FrameReceivingSocket, trio.abc.ReceiveChannel[bytes]):
    """Gathers messages from PUSH peers, hearing those that have something in turn."""

    socket_type = "PULL"

    def _new_pattern(self, options: Options) -> Pattern:
        return PullPattern()
