"""A receiver: the subscriber's half of PGM (RFC 3208, section 6), for all the sources that send to an endpoint.

Datagrams go into `receive`; what there is to send comes out of `advance`, to be called when `deadline` has come; who
is gone is in `ended`, to be emptied by whoever calls. The messages of a source are taken from its `Session`, one
datagram's worth at a time, so that whoever has no room for them leaves them there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from ._allowance import Allowance
from ._packets import Data, Nak, PacketError, Spm, Spmr, parse_packet
from ._sequence import MASK
from ._session import STARTED_AGAIN, Key, ReceiverSettings, Request, Session


class Receiver:
    """The sources heard on one endpoint.

    Attributes:
        sessions: those that are known.
        ended: those that went, and why.
        ignored: datagrams thrown away, by reason.
        datagrams: datagrams received, in all.

    Args:
        settings: limits, and the port.
        uniform: a function like `random.uniform`.
    """

    def __init__(self, settings: ReceiverSettings, uniform: Callable[[float, float], float]) -> None:
        self._settings = settings
        self._uniform = uniform
        self.sessions: dict[Key, Session] = {}
        self.ended: list[tuple[Session, str]] = []
        self.ignored: Counter[str] = Counter()
        self.datagrams = 0
        self._allowance = Allowance(self.sessions)

    def receive(self, datagram: bytes, origin: bytes, group: bytes, now: float) -> Session | None:
        """A datagram came, from *origin* to *group* (packed addresses): the session it belongs to, if it has one."""
        self.datagrams += 1
        try:
            packet = parse_packet(datagram)
        except PacketError as exc:
            self.ignored[str(exc)] += 1
            return None
        if packet is None:
            return None
        if packet.dport != self._settings.dport:
            self.ignored["port"] += 1
            return None
        if type(packet) is not Data and (
            isinstance(packet, Spmr) or (isinstance(packet, Nak) and not packet.confirmed)
        ):
            self._overhear(packet, now)
            return None
        # A tuple equals a Key of the same, and is made in half the time.
        key: Any = (origin, packet.gsi, packet.sport)
        session = self.sessions.get(key)
        if session is None:
            session = self._open(packet, origin, group, now)
            if session is None:
                return None
        reason = self._pass_on(session, packet, now)
        session.heard_at = now
        if reason is None:
            return session
        if reason == STARTED_AGAIN:
            self.forget(session, reason)
            return self._open(packet, origin, group, now)
        self.ignored[reason] += 1
        return session

    def _pass_on(self, session: Session, packet: Data | Spm | Nak, now: float) -> str | None:
        if isinstance(packet, Data):
            if session.window.size and self.waiting() + len(packet.payload) > self._settings.max_waiting:
                return "memory"
            return session.data(packet, now)
        if isinstance(packet, Spm):
            return session.spm(packet, now)
        session.confirmation(packet, now)
        return None

    def waiting(self) -> int:
        """Bytes that came and were not taken yet, and what it costs to keep them."""
        return sum([session.window.size for session in self.sessions.values()])

    def _overhear(self, packet: Spmr | Nak, now: float) -> None:
        """What others ask for: one request for an SPM is enough."""
        if isinstance(packet, Spmr):
            for session in self.sessions.values():
                if (session.key.gsi, session.key.sport) == (packet.gsi, packet.sport):
                    session.asked_for_spm(now)
        else:
            self.ignored["unknown"] += 1

    def _open(self, packet: Data | Spm | Nak, origin: bytes, group: bytes, now: float) -> Session | None:
        # A repair may be old, and what has ended does not begin: neither opens a session.
        if isinstance(packet, Data) and not packet.repair:
            first = packet.sequence
        elif isinstance(packet, Spm) and not packet.fin and ((packet.lead + 1 - packet.trail) & MASK) < 0x7FFFFFFF:
            first = (packet.lead + 1) & MASK
        else:
            self.ignored["unknown"] += 1
            return None
        if len(self.sessions) >= self._settings.max_sessions:
            self.ignored["sessions"] += 1
            self.forget(min(self.sessions.values(), key=lambda each: each.heard_at), "too many others came")
        session = Session(
            Key(origin, packet.gsi, packet.sport), group, first, self._settings, self._uniform, self._allowance, now
        )
        self.sessions[session.key] = session
        return session

    def forget(self, session: Session, reason: str) -> None:
        """*session* is over."""
        if self.sessions.pop(session.key, None) is not None:
            self.ended.append((session, reason))

    def advance(self, now: float) -> list[Request]:
        """What is to be sent at the time *now*; sources that are over end."""
        out: list[Request] = []
        for session in list(self.sessions.values()):
            if session.deadline() > now:
                continue
            out += session.advance(now)
            reason = session.over(now)
            if reason is not None:
                self.forget(session, reason)
        return out

    def deadline(self) -> float:
        """When to call `advance` next."""
        return min([session.deadline() for session in self.sessions.values()], default=math.inf)
