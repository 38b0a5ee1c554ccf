"""A source: the publisher's half of PGM (RFC 3208, section 5), as a state machine with the time as an argument.

Messages go in by `add`, packets of receivers by `receive`; `next` gives the next datagram that may be sent at a time,
and `deadline` says when to ask again. It keeps to the order of RFC 3208 (confirmations, SPMs, then data), gives repairs
at most half of the rate while there is data to send, and never sends what ends a libzmq peer: no fragments, no payload
without data, no offset beyond it, no first SPM sequence from 2**31 on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .._message import Payload
from ._figures import PublisherFigures
from ._packets import DATA_HEADER_SIZE, Nak, Packet, Spm, Spmr, encode_data, encode_packet
from ._rate import Bucket
from ._sequence import MASK, unwrapped
from ._stream import Packer
from ._transmit import TransmitWindow

HEARTBEATS: Final = (0.1, 0.1, 0.1, 0.1, 0.1, 1.3, 7.0, 16.0)
"""Seconds from the last data to the first SPM, from that to the second, and so on (as libzmq has them)."""

WHILE_SENDING: Final = 0.5
"""Seconds between SPMs while data flows. libzmq sends none for half a minute then, and a libzmq receiver that has lost
more than its window holds stays deaf until the next one."""

AMBIENT: Final = 8.0
"""Seconds between SPMs while nothing flows: for who comes late, and as a sign of life."""

LEAST_SPM_INTERVAL: Final = 0.01
"""Seconds between SPMs that receivers ask for."""

REPAIR_ONCE_IN: Final = 0.02
"""Seconds in which one number is repaired once, however often it is asked for. OpenPGM asks twice for the first of each
list, and a hundred receivers may ask before they hear of each other."""

REPAIRS_FOR: Final = 1.0
"""Seconds after the last data for which a source that ends goes on repairing."""

CONFIRMATIONS: Final = 500.0
"""NCFs a second at most. They are multicast and not under the rate limit: a storm of requests must not become one."""

_CONFIRMATIONS_AT_ONCE: Final = 100
_SHORT_QUEUE: Final = 64


@dataclass(frozen=True)
class SourceSettings:
    """What a source is told once.

    Attributes:
        gsi, sport, dport: its identity, and the port of the endpoint.
        path: the address to which receivers send requests, packed: ours.
        group: the group it sends to, packed.
        largest: bytes a payload may have, its offset among them.
        overhead: bytes that IP (and UDP) put before a packet; the rate counts them.
        rate: bytes a second; `math.inf` for no limit.
        packets: datagrams kept for repair; None: no limit.
        window_bytes: their bytes; None: no limit.
        first: the number of the first datagram.
    """

    gsi: bytes
    sport: int
    dport: int
    path: bytes
    group: bytes
    largest: int
    overhead: int
    rate: float
    packets: int | None
    window_bytes: int | None
    first: int = 0


class Source:
    """One session of a publisher."""

    def __init__(self, settings: SourceSettings, now: float) -> None:
        self.settings = settings
        self._ports = settings.sport, settings.dport
        self._full_size = settings.largest + DATA_HEADER_SIZE + settings.overhead
        self.window = TransmitWindow(settings.first, settings.packets, settings.window_bytes)
        self._packer = Packer(settings.largest)
        depth = max(2.0 * (settings.largest + settings.overhead + DATA_HEADER_SIZE), settings.rate * 0.01)
        self._bucket = Bucket(settings.rate, depth, now)
        self._repair_bucket = Bucket(settings.rate / 2, depth, now)
        self._confirmation_bucket = Bucket(CONFIRMATIONS, _CONFIRMATIONS_AT_ONCE, now)
        self._control: deque[bytes] = deque()
        self._repairs: deque[int] = deque()
        self._to_repair: set[int] = set()
        self._repair_is_next = True
        self._spm_sequence = 0
        self._beats = len(HEARTBEATS)
        self._next_beat = math.inf
        self._last_spm = self._last_data = now
        self._spm_latest = self._due = now + AMBIENT
        self._fin = False
        self._sent = self._sent_bytes = self._repaired = self._naks = self._naks_outside = 0
        for _ in range(3):
            self._send_spm(now)

    def __repr__(self) -> str:
        return f"<Source {self.session}: {self.window.trail}–{self.window.lead}, {len(self._repairs)} to repair>"

    @property
    def session(self) -> str:
        """Its identity, as text."""
        return f"{self.settings.gsi.hex()}.{self.settings.sport}"

    @property
    def unsent(self) -> bool:
        """Whether some of what was added has not been given out by `next`."""
        return bool(self._packer)

    def add(self, messages: Iterable[Payload]) -> None:
        """Messages to be sent."""
        self._packer.add(messages)

    def withdraw(self) -> int:
        """Forget what was added and not sent yet; how many messages that are."""
        return self._packer.clear()

    # What receivers say.

    def receive(self, packet: Packet, now: float) -> str | None:
        """Take note of *packet*, if it is for this source; otherwise say in one word why not."""
        settings = self.settings
        if not isinstance(packet, (Nak, Spmr)) or (packet.gsi, packet.sport) != (settings.gsi, settings.sport):
            return "unknown"
        if packet.dport != settings.dport:
            return "port"
        if isinstance(packet, Spmr):
            if now - self._last_spm >= LEAST_SPM_INTERVAL:
                self._send_spm(now)
            return None
        if packet.confirmed or (packet.source, packet.group) != (settings.path, settings.group):
            return "unknown"
        self._asked_for(packet, now)
        return None

    def _asked_for(self, nak: Nak, now: float) -> None:
        self._naks += 1
        if self._confirmation_bucket.level(now) >= 1:
            # Also where nothing of it can be repaired: so libzmq does, and others stop asking for the same.
            self._confirmation_bucket.take(1)
            self._control.append(encode_packet(nak._replace(confirmed=True)))
        for number in nak.sequences:
            sequence = unwrapped(number, self.window.lead)
            if sequence not in self.window:
                self._naks_outside += 1
            elif sequence not in self._to_repair and now - self.window.repaired_at(sequence) >= REPAIR_ONCE_IN:
                self._to_repair.add(sequence)
                self._repairs.append(sequence)

    # What is sent.

    def next(self, now: float) -> bytes | None:
        """The next datagram, to be sent at once; None if nothing may be, or is to be, sent at the time *now*."""
        if now >= self._due:
            self._beat(now)
        if self._control:
            return self._control.popleft()
        return (self._next_repair(now) if self._repairs else None) or self._next_data(now)

    def next_control(self) -> bytes | None:
        """The next datagram that is not data, if there is one; for last words."""
        return self._control.popleft() if self._control else None

    def _next_repair(self, now: float) -> bytes | None:
        if not self._repairs or self._bucket.level(now) < self._full_size:
            return None
        if self._packer and not (self._repair_is_next and self._repair_bucket.level(now) >= self._full_size):
            return None
        sequence = self._pop_repair()
        if sequence is None:
            return None
        self._repair_is_next = False
        self.window.repair(sequence, now)
        self._repaired += 1
        datagram = self._data_packet(sequence, repair=True)
        self._repair_bucket.take(len(datagram) + self.settings.overhead)
        return self._charged(datagram, now)

    def _pop_repair(self) -> int | None:
        """The oldest number to be repaired that is still kept."""
        repairs = self._repairs
        while repairs:
            # In a long queue the order in which they were asked for will do: it ascends, or nearly so.
            if len(repairs) < _SHORT_QUEUE:
                sequence = min(repairs)
                repairs.remove(sequence)
            else:
                sequence = repairs.popleft()
            self._to_repair.discard(sequence)
            if sequence in self.window:
                return sequence
        return None

    def _next_data(self, now: float) -> bytes | None:
        if not self._packer or self._bucket.level(now) < self._full_size:
            return None
        self._repair_is_next = True
        payload = self._packer.next()
        self._sent += 1
        self._sent_bytes += len(payload) - 2
        return self._charged(self._encoded(self.window.append(payload), payload, repair=False), now)

    def _data_packet(self, sequence: int, *, repair: bool) -> bytes:
        return self._encoded(sequence, self.window[sequence], repair=repair)

    def _encoded(self, sequence: int, payload: bytes, *, repair: bool) -> bytes:
        numbers = sequence & MASK, self.window.trail & MASK
        return encode_data(self.settings.gsi, self._ports, numbers, payload, repair=repair)

    def _charged(self, datagram: bytes, now: float) -> bytes:
        self._bucket.take(len(datagram) + self.settings.overhead)
        self._last_data = now
        self._restart_beats(now)
        return datagram

    def _send_spm(self, now: float) -> None:
        settings, window = self.settings, self.window
        numbers = self._spm_sequence & MASK, window.trail & MASK, window.lead & MASK
        spm = Spm(settings.gsi, settings.sport, settings.dport, *numbers, settings.path, self._fin)
        self._control.append(encode_packet(spm))
        self._spm_sequence += 1
        self._last_spm = now
        self._spm_latest = now + AMBIENT
        self._due = min(self._next_beat, self._spm_latest)

    # Time.

    def _restart_beats(self, now: float) -> None:
        """Data was sent: tell soon how far it got, and not too late while more and more is sent."""
        self._beats = 0
        self._next_beat = now + HEARTBEATS[0]
        self._spm_latest = self._last_spm + WHILE_SENDING
        self._due = min(self._next_beat, self._spm_latest)

    def _beat(self, now: float) -> None:
        if now >= self._next_beat:
            self._beats += 1
            self._next_beat = now + HEARTBEATS[self._beats] if self._beats < len(HEARTBEATS) else math.inf
        self._send_spm(now)

    def deadline(self, now: float) -> float:
        """When `next` may give something, if nothing is added or received before."""
        if self._control:
            return now
        due = self._due
        if self._packer or self._repairs:
            due = min(due, self._bucket.ready_at(self._full_size, now))
        return due

    # The end.

    def finish(self, now: float) -> None:
        """No more data: say so three times (OPT_FIN), and from now on with every SPM."""
        if not self._fin:
            self._fin = True
            for _ in range(3):
                self._send_spm(now)
            self._beats, self._next_beat = 0, now + HEARTBEATS[0]
            self._due = min(self._next_beat, self._spm_latest)

    def finished_at(self) -> float:
        """When a source that has no more data may go: receivers had time to ask for what they missed."""
        return self._last_data + REPAIRS_FOR if self._sent else -math.inf

    def figures(self) -> PublisherFigures:
        """What was counted so far."""
        settings, window = self.settings, self.window
        return PublisherFigures(
            session=self.session,
            sent=self._sent,
            sent_bytes=self._sent_bytes,
            repaired=self._repaired,
            naks=self._naks,
            naks_outside=self._naks_outside,
            window=len(window),
            window_bytes=window.size,
            window_limit=settings.packets,
            window_bytes_limit=settings.window_bytes,
            first=window.trail & MASK,
            last=window.lead & MASK,
        )
