"""What the system refuses to send of a multicast endpoint: counted, and told of once for each reason."""

from __future__ import annotations

import math
from typing import Final

from .._events import Connected, DialFailed
from ._attachment import Owner

WORKS_AFTER: Final = 0.5
"""Seconds without a refusal from which on sending works again. A firewall that drops some of what is sent refuses some,
and monitors would hear of nothing else."""

_REFUSED: Final = (
    "nothing can be sent to {whom} out of the interface with {host}: {reason}; if the interface was deleted and made "
    "anew, unbind (or disconnect) and bind (or connect) again"
)


class Refusals:
    """The refusals of one endpoint.

    Args:
        endpoint: whose they are.
        owner: hears of them.
        address: that of the peers, for the event when sending works again.
        host: the address of the interface.

    Attributes:
        last_error: why the system refuses what is sent; None: it does not.
        count: datagrams that it refused, in all.
    """

    def __init__(self, endpoint: str, owner: Owner, address: str, host: str) -> None:
        self._endpoint, self._owner, self._address, self._host = endpoint, owner, address, host
        self._at = -math.inf
        self.last_error: OSError | None = None
        self.count = 0

    def __repr__(self) -> str:
        return f"<Refusals of {self._endpoint}: {self.count}, now {self.last_error!r}>"

    def note(self, error: OSError, whom: str, now: float) -> None:
        """Count what was refused with *error* on its way to *whom*; tell of the first, and of another reason."""
        self.count += 1
        self._at = now
        if self.last_error is None or self.last_error.errno != error.errno:
            text = _REFUSED.format(whom=whom, host=self._host, reason=error.strerror or str(error))
            self.last_error = OSError(error.errno, text)
            self._owner.report(DialFailed(endpoint=self._endpoint, error=self.last_error))

    def note_success(self, now: float) -> None:
        """Something was sent. To be called while there is a `last_error`, for what goes well should cost nothing."""
        if self.last_error is not None and now - self._at >= WORKS_AFTER:
            self.last_error = None
            self._owner.report(Connected(endpoint=self._endpoint, address=self._address))
