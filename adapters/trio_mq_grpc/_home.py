"""What all calls of a server have in common."""

from __future__ import annotations

import math

from ._interceptors import MessageInterceptor
from ._options import ServerOptions
from ._service import Services
from ._threads import Threads
from ._wheel import Wheel
from ._workers import Pool


class Home:
    """The server, as its calls see it.

    Attributes:
        most_calls: how many may run at once; more are refused.
        most_calls_of_peer: how many of one peer.
        most_received: bytes a message may have.
        encoding: how replies are compressed unless a handler says otherwise; "" for not at all.
        watchers: what sees the messages of every call, first to last.
        threads: for plain functions.
        stopping: no new calls.
    """

    def __init__(
        self,
        services: Services,
        options: ServerOptions,
        *,
        most_calls: int | None = None,
        most_threads: int = 40,
        encoding: str = "",
        watchers: tuple[MessageInterceptor, ...] = (),
    ) -> None:
        self.services = services
        self.options = options
        self.pool: Pool = Pool()
        self.wheel: Wheel = Wheel()
        self.most_calls: float = _or_infinite(most_calls)
        self.most_calls_of_peer: float = _or_infinite(options.max_concurrent_streams)
        self.most_received: float = _or_infinite(options.max_receive_message_length)
        self.threads: Threads = Threads(most_threads, self.pool)
        self.encoding = encoding
        self.watchers = watchers
        self.stopping = False


def _or_infinite(limit: int | None) -> float:
    return math.inf if limit is None else limit
