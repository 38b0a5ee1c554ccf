"""libzmq with OpenPGM, through whichever pyzmq was built on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from .._run import Run
from .._scenario import MARK, RECEIVE_BUFFER, RECOVERY, Scenario
from ._blocking import Blocking


class _LibZMQ(Blocking):
    """pyzmq's loops, and the options of multicast."""

    def __init__(self) -> None:
        super().__init__(zmq, nothing_there=zmq.Again, no_mark=0)
        self._scenario = Scenario(pattern="pub-sub")

    def launch(self, role: Callable[[Run], None], run: Run) -> None:
        self._scenario = run.scenario
        super().launch(role, run)

    @contextmanager
    def _socket(self, context: Any, kind: int, mark: int = MARK) -> Iterator[Any]:
        rate = self._scenario.multicast_rate
        if rate is None:
            raise ValueError("libzmq has no multicast without a rate")
        with super()._socket(context, kind, mark) as socket:
            socket.rate = int(rate / 1000)
            socket.recovery_ivl = int(RECOVERY * 1000)
            socket.rcvbuf = RECEIVE_BUFFER
            yield socket
            socket.linger = 0  # the farewells have arrived


LIBRARY = _LibZMQ()
