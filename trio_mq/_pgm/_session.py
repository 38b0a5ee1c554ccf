"""What a receiver knows of one source: its window, its stream, when to ask it for what, whether it is still there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from .._message import Payload
from ._allowance import Allowance
from ._figures import SubscriberFigures
from ._packets import Data, Nak, Spm, Spmr, encode_packet
from ._sequence import MASK, ahead, unwrapped
from ._stream import Unpacker
from ._window import Gap, ReceiveWindow

SILENCE: Final = 300.0
"""Seconds without a word after which a source is forgotten."""

AFTER_FIN: Final = 1.0
"""Seconds for which a source that has ended is still asked for what is missing, at least."""

SPM_WANTED_WITHIN: Final = (0.005, 0.05)
"""Seconds, from and to, after which a source is asked where it is, if it has not said so: a random time, for one of
many receivers to be first."""
SPM_WANTED_AGAIN: Final = (0.8, 1.2)

NUDGE_PAUSE: Final = 0.001
"""Seconds between requests that do nothing but keep a slow source going."""

PAST_SPMS: Final = 3
"""SPMs of another life, as many as a publisher begins with, that end a session."""
PAST_FOR: Final = 1.0
"""Seconds for which nothing of this life was heard meanwhile, before the first of them or since. Nothing that was
overtaken on its way is overtaken by so much."""

STARTED_AGAIN: Final = "it has started again"

_FARTHEST: Final = 0x7FFFFFFF
_NO_WINDOW: Final = (0, 0x80000000)  # RFC 3208, section 8.1: "no window information"


@dataclass(frozen=True)
class ReceiverSettings:
    """What a receiver is told once.

    Attributes:
        dport: the port of the endpoint.
        window: datagrams of one source that may be waited for.
        max_message_size, max_frames: of a message, as in `Unpacker`.
        max_sessions: sources known at a time; beyond it the one that was silent longest is forgotten.
        max_waiting: bytes of all sources that may wait for missing datagrams.
    """

    dport: int
    window: int
    max_message_size: int | None = None
    max_frames: int | None = None
    max_sessions: int = 256
    max_waiting: int = 64 * 1024 * 1024


class Key(NamedTuple):
    """What tells sources apart. Their address too: every libzmq publisher draws the same GSI."""

    origin: bytes
    gsi: bytes
    sport: int


class Request(NamedTuple):
    """A datagram to be sent upstream, to *address*; None: to the *group*, as far as the next router."""

    datagram: bytes
    address: bytes | None
    group: bytes


class Session:
    """One source, as heard.

    Attributes:
        key, group: who it is, and where it sends to.
        heard_at: when it said something last.
        fin: it has said that nothing more comes.
    """

    def __init__(
        self,
        key: Key,
        group: bytes,
        first: int,
        settings: ReceiverSettings,
        uniform: Callable[[float, float], float],
        allowance: Allowance,
        now: float,
    ) -> None:
        self.key = key
        self.group = group
        self.window = ReceiveWindow(first, settings.window, uniform, allowance)
        self.unpacker = Unpacker(settings.max_message_size, settings.max_frames)
        self.heard_at = now
        self.fin = False
        self._dport = settings.dport
        self._limit = settings.window
        self._uniform = uniform
        self._allowance = allowance
        # Its own address is where requests go until an SPM says so: the same, but behind a PGM router.
        self._path = key.origin
        self._spm_sequence: int | None = None
        self._past_spms = 0
        self._past_since = (0.0, 0)
        self._spm_wanted_at = self._turn_for_spm(now, SPM_WANTED_WITHIN)
        self._nudge_at = math.inf
        self._nudged_at = -math.inf
        self._over_at = math.inf
        self._received = self._received_bytes = self._repaired = self._lost = self._duplicates = self._naks = 0

    def __repr__(self) -> str:
        return f"<Session {self.key.gsi.hex()}.{self.key.sport}: {self.window.next}–{self.window.lead}>"

    # What it says.

    def data(self, packet: Data, now: float) -> str | None:
        """Data came; in one word why it is ignored, or None."""
        window = self.window
        kept = (packet.sequence - packet.trail) & MASK
        if kept >= _FARTHEST:
            return "range"
        number = unwrapped(packet.sequence, window.lead)
        window.advance(number - kept)
        missed = window.add(number, packet.payload, now)
        if missed is None:
            self._duplicates += 1
            return None
        self._received += 1
        self._received_bytes += max(0, len(packet.payload) - 2)
        self._repaired += missed
        if missed and window.requests.slow:
            self._nudge_at = max(now, self._nudged_at + NUDGE_PAUSE)
        if self._spm_sequence is None and self._spm_wanted_at == math.inf and window.requests:
            self._spm_wanted_at = self._turn_for_spm(now, SPM_WANTED_WITHIN)
        return None

    def spm(self, packet: Spm, now: float) -> str | None:
        """It said what it keeps and has sent; in a few words why that is ignored, or None."""
        if self._is_of_another_life(packet, now):
            return STARTED_AGAIN
        if self._spm_sequence is not None and ahead(packet.sequence, self._spm_sequence) < 0:
            return None  # a newer one has overtaken it
        self._spm_sequence = packet.sequence
        self._spm_wanted_at = math.inf
        if _is_host(packet.path, len(self.key.origin)):
            self._path = packet.path
        if packet.fin and not self.fin:
            self.fin = True
            self._over_at = now + AFTER_FIN
        if (packet.trail, packet.lead) == _NO_WINDOW:
            return None
        kept = (packet.lead + 1 - packet.trail) & MASK
        if kept >= _FARTHEST:
            return "range"
        lead = unwrapped(packet.lead, self.window.lead)
        self.window.advance(lead + 1 - kept)
        self.window.extend(lead, now)
        return None

    def _is_of_another_life(self, packet: Spm, now: float) -> bool:
        """Whether the publisher is gone and another one has its identity, or it has begun its numbers again.

        Every libzmq publisher draws the same GSI, so one of 65,536 that start again has the port it had, too. Its
        numbers are old news here until they pass those of its former life. An SPM that is as old may have been
        overtaken, or be forged; the publisher itself, if it is there, says something newer meanwhile.
        """
        is_past = ahead(packet.lead, (self.window.next - 1) & MASK) < 0
        if not is_past or packet.fin or (packet.lead + 1 - packet.trail) & MASK >= _FARTHEST:
            self._past_spms = 0
            return False
        if not self._past_spms or self._past_since[1] != self._received:
            was_quiet = now - self.heard_at >= PAST_FOR
            self._past_spms, self._past_since = 0, (self.heard_at if was_quiet else now, self._received)
        self._past_spms += 1
        return self._past_spms >= PAST_SPMS and now - self._past_since[0] >= PAST_FOR

    def confirmation(self, packet: Nak, now: float) -> None:
        """It has been asked for something. What it has not sent yet, as far as we know, it did not promise either."""
        lead = self.window.lead
        self.window.requests.confirmed([unwrapped(number, lead) for number in packet.sequences], now)

    def asked_for_spm(self, now: float) -> None:
        """Somebody else has asked it where it is."""
        if self._spm_wanted_at < math.inf:
            self._spm_wanted_at = now + self._uniform(*SPM_WANTED_AGAIN)

    # What it is asked, and when.

    def advance(self, now: float) -> list[Request]:
        """What is to be sent at the time *now*."""
        out: list[Request] = []
        if now >= self._spm_wanted_at:
            out += self._ask_for_spm(now)
        out += [self._ask_for(numbers) for numbers in self.window.requests.due(now)]
        if now >= self._nudge_at:
            self._nudge_at, self._nudged_at = math.inf, now
            number = self.window.requests.nudge()
            if number is not None and self._allowance.answering.take_at_once(now):
                out.append(self._ask_for([number]))
        return out

    def _turn_for_spm(self, now: float, within: tuple[float, float]) -> float:
        """When it is to be asked where it is; never, if too many are to be."""
        turn = self._allowance.spms.take(now + self._uniform(*within))
        return math.inf if turn is None else turn

    def _ask_for(self, numbers: list[int]) -> Request:
        sequences = tuple(number & MASK for number in numbers)
        self._naks += 1
        nak = Nak(self.key.gsi, self.key.sport, self._dport, sequences, self._path, self.group)
        return Request(encode_packet(nak), self._path, self.group)

    def _ask_for_spm(self, now: float) -> list[Request]:
        # Asked once whatever happens, and again while there is something to be repaired.
        self._spm_wanted_at = self._turn_for_spm(now, SPM_WANTED_AGAIN) if self.window.requests else math.inf
        datagram = encode_packet(Spmr(self.key.gsi, self.key.sport, self._dport))
        return [Request(datagram, None, self.group), Request(datagram, self.key.origin, self.group)]

    def deadline(self) -> float:
        """When `advance`, or `over`, has something to say next."""
        others = min(self._spm_wanted_at, self._nudge_at, self._over_at, self.heard_at + SILENCE)
        return min(others, self.window.requests.deadline())

    def over(self, now: float) -> str | None:
        """Why it may be forgotten now, or None."""
        if now >= self.heard_at + SILENCE:
            return f"nothing was heard of it for {SILENCE:g} seconds"
        if now >= self._over_at:
            if not self.window.requests and not self.window.ready:
                return "it has ended"
            self._over_at = now + AFTER_FIN
        return None

    # What is delivered.

    def take(self) -> list[Payload] | Gap:
        """The messages that the next datagram completes, maybe none, or what was lost. Only while ``window.ready``."""
        taken = self.window.take()
        if isinstance(taken, Gap):
            self._lost += taken.last - taken.first + 1
            self.unpacker.reset()
            return taken
        return self.unpacker.feed(taken)

    def figures(self) -> SubscriberFigures:
        """What was counted so far."""
        window = self.window
        return SubscriberFigures(
            session=f"{self.key.gsi.hex()}.{self.key.sport}",
            received=self._received,
            received_bytes=self._received_bytes,
            repaired=self._repaired,
            lost=self._lost,
            duplicates=self._duplicates,
            naks=self._naks,
            missing=len(window.requests),
            waiting=len(window),
            window_limit=self._limit,
            malformed=self.unpacker.malformed,
            next=window.next & MASK,
            last=window.lead & MASK,
        )


def _is_host(address: bytes, size: int) -> bool:
    """Whether requests may go to *address*: a host's, of this family. A forged SPM must not have us flood a group."""
    if len(address) != size or not any(address):
        return False
    return address[0] != 0xFF if size == 16 else address[0] < 224
