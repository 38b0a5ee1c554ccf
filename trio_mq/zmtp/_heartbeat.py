"""Heartbeats: when to ask the peer for a sign of life, and when to stop believing in it. The time is an argument.

What the wire has (37/ZMTP): a PING asks for a PONG, and its ttl asks the peer to give up after so much silence from
us. What libzmq made of it and we keep: any byte from the peer is a sign of life, a PING starts one response timer,
and a ttl runs from the PING that brought it.

What we do differently: a peer is not dead because *we* do not listen. While the engine does not read (its pipe is
full), the peer's PINGs and PONGs lie unread behind messages. So our own verdicts stand still then, and we send PINGs
unasked, because any frame from us calms the peer, which cannot know that its own was not read.

::

    engine, at each read         heard()                       no clock: it is the hot path
    engine, when it stops or goes on reading                   .paused = True / False
    engine, when the kernel refuses bytes                      writing(True), each time
    engine, when it takes some again, and when it has all      wrote(), writing(False)
    engine, at a PING            peer_ttl(command.ttl, now)
    timer, at next_deadline      for action in tick(now): ...
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

from ._commands import Ping, encode_command

_CALMING: Final = 1.0  # a paused connection speaks at least so often, if its peer listens for it
_FASTEST: Final = 0.05  # and at most so often, whatever the peer asks for


@dataclass(frozen=True)
class SendPing:
    """Send this frame."""

    frame: bytes


@dataclass(frozen=True)
class Expired:
    """Close the connection: the peer is gone, and this is how we know."""

    reason: str


HeartbeatAction: TypeAlias = SendPing | Expired


class Heartbeat:
    """The heartbeats of one connection, from the end of its handshake.

    `next_deadline` follows from everything that is told; look at it again after `paused` or `peer_ttl`, and call
    `tick` at the latest when it has passed. Earlier or more frequent ticks do no harm.

    Args:
        interval: seconds between PINGs; None: none are sent, and only what the peer asks for is done.
        timeout: seconds without a sign of life after a PING; None: as *interval*.
        ttl: seconds of silence from us after which the peer shall give up; None: it is not told.
    """

    __slots__ = (
        "_blocked", "_heard", "_interval", "_last_ping", "_paused", "_peer_gap", "_peer_pinged", "_peer_pings",
        "_peer_ttl", "_ping", "_response_due", "_silence_due", "_stall_due", "_suspended", "_timeout", "_ttl_is_new",
        "_wrote",
    )  # fmt: skip

    def __init__(self, interval: float | None = None, timeout: float | None = None, ttl: float | None = None) -> None:
        self._interval = inf if interval is None else interval
        self._timeout = self._interval if timeout is None or interval is None else timeout
        self._ping = encode_command(Ping(ttl or 0.0))
        self._last_ping = -inf  # the first tick takes this for the beginning
        # What was told since the last tick.
        self._heard = self._wrote = self._ttl_is_new = False
        self._paused = False
        self._suspended = False  # paused at some time since the last tick
        self._blocked = False
        # What is known of the peer's own heartbeats.
        self._peer_pings = False
        self._peer_ttl = 0.0
        self._peer_gap = inf  # seconds between two of its PINGs
        self._peer_pinged: float | None = None
        # When to give up, for each of the three ways a peer can be gone.
        self._response_due = self._silence_due = self._stall_due = inf

    def __repr__(self) -> str:
        state = "paused" if self._paused else "blocked" if self._blocked else "running"
        return f"<Heartbeat {state}, next deadline {self.next_deadline}>"

    def heard(self) -> None:
        """The peer sent bytes, whole frames or not."""
        self._heard = True

    def wrote(self) -> None:
        """The kernel takes bytes for the peer again. If it refuses the rest, say so: ``writing(True)``."""
        self._wrote = True
        self._blocked = False

    def writing(self, blocked: bool) -> None:
        """Whether bytes for the peer wait because the kernel refuses them."""
        self._blocked = blocked

    def peer_ttl(self, seconds: float, now: float | None = None) -> None:
        """A PING of the peer came with this ttl (0: none).

        With *now* the time between its PINGs is learnt as well. libzmq tells no ttl by default, and yet gives up
        after one interval of its own; then this is all we have to know how often a paused connection must speak.
        """
        self._peer_pings = True
        self._peer_ttl, self._ttl_is_new = seconds, seconds > 0
        if now is not None:
            before, self._peer_pinged = self._peer_pinged, now
            if before is not None and now - before >= _FASTEST:  # those that lay unread come all at once
                self._peer_gap = now - before

    @property
    def paused(self) -> bool:
        """True while the engine does not read because there is no room for what it would read."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._suspended = True
        self._peer_pinged = None

    @property
    def next_deadline(self) -> float:
        """When `tick` is due: `math.inf` for never, `-math.inf` for as soon as possible."""
        if self._ttl_is_new:
            return -inf
        return min(self._ping_due(), self._response_due, self._silence_due, self._stall_due)

    def tick(self, now: float) -> list[HeartbeatAction]:
        """What is to be done at the time *now*. `Expired` comes alone, and is the last that need be listened to."""
        self._take_note(now)
        reason = self._verdict(now)
        if reason:
            return [Expired(reason)]
        if self._last_ping == -inf and not self._paused:
            self._last_ping = now
        if now < self._ping_due():
            return []
        self._last_ping = now
        # A PING that cannot be written is left out: bytes wait already, and the stall timer watches them.
        return [] if self._blocked else [self._send_ping(now)]

    def _ping_due(self) -> float:
        period = self._period()
        return inf if period == inf else self._last_ping + period

    def _period(self) -> float:
        """Seconds between two PINGs, as things are now."""
        if not self._paused:
            return self._interval
        if self._interval == inf and not self._peer_pings:
            return inf  # nobody listens for them
        ttl = self._peer_ttl / 3 if self._peer_ttl else inf
        return max(_FASTEST, min(self._interval, ttl, self._peer_gap / 2, _CALMING))

    def _send_ping(self, now: float) -> SendPing:
        if not self._paused and self._response_due == inf:
            self._response_due = now + self._timeout
        return SendPing(self._ping)

    def _take_note(self, now: float) -> None:
        """Move the deadlines by what was told since the last tick."""
        alive = self._heard or self._suspended
        if alive or self._blocked:
            self._response_due = inf
        if self._ttl_is_new or (self._suspended and self._silence_due < inf):
            self._silence_due = now + (self._peer_ttl or inf)
        elif self._heard:
            self._silence_due = inf  # as libzmq: the next PING starts it again
        if not self._blocked:
            self._stall_due = inf
        elif alive or self._wrote or self._stall_due == inf:
            self._stall_due = now + self._timeout
        self._heard = self._wrote = self._ttl_is_new = False
        self._suspended = self._paused

    def _verdict(self, now: float) -> str:
        if now >= self._response_due:
            return f"no sign of life within {self._timeout:g} s after a PING"
        if now >= self._silence_due:
            return f"silent for longer than the {self._peer_ttl:g} s it asked to be given"
        if now >= self._stall_due:
            return f"silent, and took no byte of what waits for it within {self._timeout:g} s"
        return ""
