"""PAIR (RFC 31)."""

from __future__ import annotations

import trio

from .._core._receiving import FrameReceivingSocket
from .._core._sending import SendingSocket
from .._options import Options
from .._patterns import Pair as PairPattern
from .._patterns import Pattern


class Pair(SendingSocket, FrameReceivingSocket, trio.abc.Channel[bytes]):
    """Talks with exactly one peer, both ways at any time.

    `send` waits while there is no peer, or no room. A second peer is refused: its handshake fails here, visibly, and at
    a trio_mq peer, too. When the peer goes, the next one may come.
    """

    socket_type = "PAIR"

    def _new_pattern(self, options: Options) -> Pattern:
        return PairPattern()
