"""pyomq's blocking sockets over omq.rs."""

from __future__ import annotations

import pyomq

from ._blocking import Blocking

# As seen with 0.21: `recv(NOBLOCK)` raises a plain ZMQError("internal error") where pyzmq raises Again, and a mark of 0
# still drops; one that is never reached does not.
LIBRARY = Blocking(pyomq, nothing_there=pyomq.ZMQError, no_mark=100_000_000)
