"""The ZeroMQ stream inside PGM: ZMTP/1.0 frames (RFC 13), cut into datagrams as libzmq does, and put together again.

::

    payload = offset(2) stream
    frame   = size(1) flags(1) body  |  FF size(8) flags(1) body        size counts flags and body

The offset says where the first message that begins in a datagram begins, FFFF that none does. It lets a reader that
joined late, or lost something, find its place again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from .._message import Payload

_NOWHERE: Final = 0xFFFF
_MORE: Final = 1
_LONGEST_SHORT: Final = 253
_SMALL: Final = 4096


def encode_v1(message: Payload) -> bytes:
    """The ZMTP/1.0 bytes of one message."""
    if isinstance(message, bytes):
        return _header(len(message), 0) + message
    last = len(message) - 1
    return b"".join(
        [part for place, frame in enumerate(message) for part in (_header(len(frame), place != last), frame)]
    )


def _header(size: int, more: int) -> bytes:
    if size <= _LONGEST_SHORT:
        return bytes((size + 1, more))
    return b"\xff" + (size + 1).to_bytes(8, "big") + bytes((more,))


class Packer:
    """Messages in, payloads of datagrams out, each as full as can be without waiting for more.

    Args:
        largest: bytes a payload may have, its offset among them.
    """

    def __init__(self, largest: int) -> None:
        self._room = largest - 2
        self._waiting: deque[bytes] = deque()
        self._current = b""
        self._position = 0

    def __bool__(self) -> bool:
        """Whether there is something to be sent."""
        return bool(self._waiting or self._position < len(self._current))

    def add(self, messages: Iterable[Payload]) -> None:
        """Queue *messages*."""
        self._waiting.extend(map(encode_v1, messages))

    def clear(self) -> int:
        """Forget what was not sent; how many messages that are, one that was begun among them."""
        count = len(self._waiting) + (self._position < len(self._current))
        self._waiting.clear()
        self._current = b""
        self._position = 0
        return count

    def next(self) -> bytes:
        """The next payload; there must be something to send."""
        parts: list[bytes] = [b""]
        room, offset = self._room, _NOWHERE
        left = len(self._current) - self._position
        if left:
            room -= self._cut(parts, room)
        waiting = self._waiting
        while waiting and room:
            if offset == _NOWHERE:
                offset = self._room - room
            whole = waiting.popleft()
            if len(whole) <= room:
                parts.append(whole)
                room -= len(whole)
            else:
                self._current, self._position = whole, 0
                self._cut(parts, room)
                break
        parts[0] = offset.to_bytes(2, "big")
        return b"".join(parts)

    def _cut(self, parts: list[bytes], room: int) -> int:
        """Append up to *room* bytes of the message that was begun; how many."""
        start, end = self._position, min(self._position + room, len(self._current))
        parts.append(self._current[start:end])
        self._position = end
        if end == len(self._current):
            self._current, self._position = b"", 0
        return end - start


class Unpacker:
    """Payloads of one source in, in order, whole messages out.

    Attributes:
        malformed: payloads at which the stream was broken or a limit exceeded, each with the message it was in.
        broken: messages that were thrown away because their other half was lost.

    Args:
        max_message_size: bytes a frame may have; a longer one makes it skip to the next message.
        max_frames: frames a message may have.
    """

    def __init__(self, max_message_size: int | None = None, max_frames: int | None = None) -> None:
        self._max_size = 1 << 63 if max_message_size is None else max_message_size
        self._max_frames = max_frames or 1 << 63
        self.joined = False
        self.malformed = 0
        self.broken = 0
        self._rest = b""  # bytes of a header, or of a short body, that are not enough yet
        self._frames: list[bytes] = []
        self._chunks: list[bytes] = []
        self._missing = 0
        self._more = 0

    def reset(self) -> None:
        """Something was lost: what was begun cannot be finished, and the next message has to be found."""
        self.joined = False
        if self._frames or self._chunks or self._rest:
            self.broken += 1
        self._frames, self._chunks, self._rest, self._missing = [], [], b"", 0

    def feed(self, payload: bytes) -> list[Payload]:
        """The messages that *payload* completes."""
        out: list[Payload] = []
        try:
            offset = payload[0] << 8 | payload[1]
            if self.joined:
                if offset > len(payload) - 2 and offset != _NOWHERE:
                    raise ValueError("an offset beyond what there is")
                self._decode(payload[2:], out)
            elif offset != _NOWHERE:
                # An offset may point at the very end: a message ended there and the next has not begun.
                if offset > len(payload) - 2:
                    raise ValueError("an offset beyond what there is")
                self.joined = True
                self._decode(payload[2 + offset :], out)
        except (ValueError, IndexError):
            self.malformed += 1
            self._frames, self._chunks, self._rest, self._missing = [], [], b"", 0
            self.joined = False
        return out

    def _decode(self, data: bytes, out: list[Payload]) -> None:
        position = 0
        if self._missing:
            position = self._fill(data, out)
        elif self._rest:
            data, self._rest = self._rest + data, b""
        end = len(data)
        while position + 2 <= end:
            size = data[position]
            if size != 0xFF:
                start = position + 2
                flags = data[position + 1]
            else:
                start = position + 10
                if start > end:
                    break
                size = int.from_bytes(data[position + 1 : position + 9], "big")
                flags = data[position + 9]
            if not size or size - 1 > self._max_size:
                raise ValueError("a frame of no size, or of too large a one")
            stop = start + size - 1
            if stop > end:
                self._begin(data[start:], stop - end, flags)
                return
            self._add(data[start:stop], flags & _MORE, out)
            position = stop
        self._rest = data[position:]

    def _begin(self, chunk: bytes, missing: int, flags: int) -> None:
        """A frame begins whose end has not come: it is collected in pieces, so that memory grows with what came."""
        self._chunks, self._missing, self._more = [chunk], missing, flags & _MORE

    def _fill(self, data: bytes, out: list[Payload]) -> int:
        """Complete the frame that was begun; where the rest of *data* begins."""
        taken = min(self._missing, len(data))
        self._chunks.append(data[:taken])
        self._missing -= taken
        if not self._missing:
            body, self._chunks = b"".join(self._chunks), []
            self._add(body, self._more, out)
        return taken

    def _add(self, body: bytes, more: int, out: list[Payload]) -> None:
        frames = self._frames
        if len(frames) >= self._max_frames:
            raise ValueError("a message of too many frames")
        if more:
            frames.append(body)
        elif frames:
            frames.append(body)
            out.append(frames)
            self._frames = []
        else:
            out.append(body)
