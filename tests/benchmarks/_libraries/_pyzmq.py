"""pyzmq's blocking sockets over libzmq."""

from __future__ import annotations

import zmq

from ._blocking import Blocking

LIBRARY = Blocking(zmq, nothing_there=zmq.Again, no_mark=0)
