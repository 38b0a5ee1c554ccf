"""The connecting side of stream transports: dial, back off, dial again, with one pipe across all of it."""

from __future__ import annotations

import random
from collections.abc import Callable

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import AuthenticationError
from .._events import Connected, DialFailed, Dialling, RetryIn
from .._mailbox import Mailbox, nothing
from .._options import Options
from .._pipe import Pipe
from .._transports import Link, StreamTransport
from ._session import Home, StreamSession

LEAST_WAIT = 0.001


class Backoff:
    """How long to wait before the next attempt: doubling up to a maximum, jittered over the full length.

    Args:
        first: the length of the first wait.
        maximum: the longest.
        uniform: a function like `random.uniform`.
    """

    def __init__(self, first: float, maximum: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._first = first
        self._maximum = max(first, maximum)
        self._uniform = uniform
        self.attempt = 0

    def next(self) -> float:
        """Seconds to wait now."""
        length = min(self._maximum, self._first * 2.0 ** min(self.attempt, 32))
        self.attempt += 1
        return max(LEAST_WAIT, self._uniform(0.0, length))

    def reset(self) -> None:
        """There was traffic: the next trouble is a new one."""
        self.attempt = 0


class DialledSession(StreamSession):
    """A session with an endpoint that we connect to, for as long as the program wants it.

    Its pipe exists from the beginning and keeps what is queued across reconnects, unless ``immediate`` asks for queues
    to connected peers only: then the socket has it while there is a connection, and what was to be sent goes with that.
    What was received stays in it, always, so that messages of the next connection come behind those of the last.
    """

    def __init__(
        self, home: Home, endpoint: str, options: Options, transport: StreamTransport[object], address: object
    ) -> None:
        super().__init__(home, endpoint, options)
        self._transport = transport
        self._address = address
        self._backoff = Backoff(options.reconnect_interval, options.reconnect_interval_max)
        self._detached: Pipe | None = None

    @property
    def persistent(self) -> bool:
        return not self.options.immediate

    def start(self, routing_id: bytes) -> None:
        """Begin to dial, in the background."""
        self._routing_id = routing_id
        if self.persistent:
            self.home.connected(self.open_pipe())
        self.scope = self.home.reactor.start(self.run)

    def open_pipe(self, mailboxes: tuple[Mailbox, Mailbox] | None = None, routing_id: bytes = b"") -> Pipe:
        if self._detached is None:
            return super().open_pipe(mailboxes, routing_id or self._routing_id)
        pipe, self._detached = self._detached, None
        self.attach(pipe)
        return pipe

    def drop_pipe(self, pipe: Pipe, reason: str) -> None:
        super().drop_pipe(pipe, reason)
        self._detached = pipe

    @enable_ki_protection
    async def run(self) -> None:
        """The task: until cancelled, or until trying again is pointless."""
        try:
            while True:
                error = await self._attempt()
                if self._is_final(error):
                    self.state = "failed"
                    return
                if not self.restarting:
                    await self._wait()
                self.restarting = False
        finally:
            if self.pipe is not None:
                self.drop_pipe(self.pipe, "closed" if self.home.closed else "disconnected")
            self.ended.set()

    def _is_final(self, error: Exception | None) -> bool:
        # Decision C13: the peer's ERROR 400 means that these credentials will never do. Nothing else is final.
        if isinstance(error, AuthenticationError) and error.status == "400":
            return True
        if self.restarting:
            return False
        try:
            return not self.options.should_retry(error)
        except Exception as exc:  # noqa: BLE001  # the program's function, not ours: its failure is this endpoint's end
            self.last_error = exc
            self.home.reporter.report(DialFailed(endpoint=self.endpoint, error=exc))
            return True

    async def _wait(self) -> None:
        if self.traffic:
            self._backoff.reset()
            self.traffic = False
        seconds = self._backoff.next()
        self.state = "waiting"
        self.home.reporter.report(RetryIn(endpoint=self.endpoint, seconds=seconds, attempt=self._backoff.attempt))
        await trio.sleep(seconds)

    async def _attempt(self) -> Exception | None:
        """One connection, from dialling to its end; returns why it ended."""
        self.state = "dialling"
        self.home.reporter.report(Dialling(endpoint=self.endpoint))
        try:
            link = await self._dial()
        except OSError as exc:
            self.last_error = exc
            self.failures += 1
            self.home.reporter.report(DialFailed(endpoint=self.endpoint, error=exc))
            return exc
        try:
            self.home.reporter.report(Connected(endpoint=self.endpoint, address=link.peer_address))
            return await self.converse(link, accepting=False, shaken=nothing)
        finally:
            link.close()
            with trio.CancelScope(shield=True):
                await link.aclose()

    async def _dial(self) -> Link:
        limit = self.options.connect_timeout
        with trio.move_on_after(float("inf") if limit is None else limit):
            return await self._transport.connect(self._address, self.options)
        raise TimeoutError(f"{self.endpoint}: no connection within {limit:g} s")
