"""Frames (37/ZMTP, "v2" framing): whole batches of messages to bytes, and bytes back to whole batches.

Everything else in the package speaks of messages; nothing but this module knows how they are cut into frames and
written down, so that a compiled twin may take its place one day. It knows no commands, only that a frame is one.

::

    frame = flags(1) size(1 or 8, big-endian) body(size)

The loops look plainer than they might. Every step in them is paid a million times a second, and each was measured
against its alternatives: `out.append(...)` is specialised by the interpreter where a bound `append` is not, slicing
`bytes` costs less than a `memoryview` for each frame, and running off the end of the buffer (IndexError) is cheaper
than asking before each frame whether it is near.
"""

from __future__ import annotations

from itertools import repeat
from typing import Final

from .._errors import RemoteProtocolError
from .._message import Payload

MORE: Final = 0x01
LONG: Final = 0x02
COMMAND: Final = 0x04

READ_SIZE: Final = 65536
"""What an engine asks the kernel for when nothing is known about what comes."""

LARGEST_READ: Final = 1024 * 1024
"""What it asks for at most, however much of a frame is missing."""

_LARGE: Final = READ_SIZE // 2
"""Frames from this size on are read on their own, header and body apart, so that the body need not be copied."""

_LONG_HEADER: Final = 9
_SMALL: Final = 4096  # below this, copying bytes costs less than keeping a view of them
_TOO_LONG: Final = 2**63  # 37/ZMTP: sizes are 63-bit

_SHORT: Final = [bytes((0, size)) for size in range(256)]
_SHORT_MORE: Final = [bytes((MORE, size)) for size in range(256)]


def encode(batch: list[Payload]) -> bytes:
    """The bytes of all messages in *batch*, one after another."""
    return b"".join(interleave(batch))


def interleave(batch: list[Payload]) -> list[bytes]:
    """The same bytes uncopied, as `sendmsg` takes them: header, body, header, body …"""
    out: list[bytes] = []
    for message in batch:
        if type(message) is bytes or isinstance(message, bytes):  # a type test alone takes half of isinstance's time
            size = len(message)
            out.append(_SHORT[size] if size < 256 else b"\x02" + size.to_bytes(8, "big"))
            out.append(message)
            continue
        for frame in message:
            size = len(frame)
            out.append(_SHORT_MORE[size] if size < 256 else b"\x03" + size.to_bytes(8, "big"))
            out.append(frame)
        out[-2] = _SHORT[size] if size < 256 else b"\x02" + size.to_bytes(8, "big")
    return out


def encode_message(message: Payload) -> bytes:
    """The bytes of one message."""
    if isinstance(message, bytes):
        size = len(message)
        return (_SHORT[size] if size < 256 else b"\x02" + size.to_bytes(8, "big")) + message
    return b"".join(interleave([message]))


def encode_command_frame(body: bytes) -> bytes:
    """The bytes of one command frame around *body*."""
    size = len(body)
    return (bytes((COMMAND, size)) if size < 256 else b"\x06" + size.to_bytes(8, "big")) + body


def decode_all(data: bytes) -> list[Payload]:
    """The messages in *data*, which `encode` made: what an unsent batch was. Commands among them are left out.

    Raises:
        ValueError: *data* does not end where a message does.
    """
    decoder, out = Decoder(), list[Payload]()
    decoder.feed(data)
    while decoder.decode(len(data), out) is not None:
        pass
    if not decoder.at_message_boundary:
        raise ValueError("the data ends within a message")
    return out


def parse_header(data: bytes | bytearray, position: int = 0) -> tuple[int, int, int] | None:
    """(flags, where the body starts, its size) of the frame at *position*; None while its header is incomplete.

    Raises:
        RemoteProtocolError: MORE and COMMAND together, or a size that is none.
    """
    available = len(data) - position
    if available < 2:
        return None
    flags = data[position]
    # Reserved bits are ignored, as libzmq does: "must be sent as zero" binds only the sender.
    if flags & COMMAND and flags & MORE:
        raise RemoteProtocolError("a command frame has the MORE flag set (37/ZMTP: commands are single frames)")
    if not flags & LONG:
        return flags, position + 2, data[position + 1]
    if available < 9:
        return None
    # A long size below 256 is wasteful, not wrong: libzmq takes it.
    size = int.from_bytes(data[position + 1 : position + 9], "big")
    if size >= _TOO_LONG:
        raise RemoteProtocolError(f"a frame claims {size} bytes (37/ZMTP: sizes are below 2**63)")
    return flags, position + 9, size


class Decoder:
    """Bytes in, whole messages out, as many in one call as there is room for.

    `feed` what was read, then call `decode` until it has nothing more; only then feed again. (Feeding earlier is
    correct, but copies what was left each time.)

    Memory grows with what has arrived, never with what a header promises.

    Args:
        max_message_size: bytes one frame may have, judged by its header before the body arrives. It is libzmq's
            limit, and like there it is about frames, in spite of its name.
        max_frames: frames one message may have.
    """

    __slots__ = (
        "_apart", "_chunks", "_data", "_flags", "_frames", "_joined", "_max_frames", "_max_size", "_missing",
        "_position", "_quick",
    )  # fmt: skip

    def __init__(self, max_message_size: int | None = None, max_frames: int | None = None) -> None:
        self._max_size = _TOO_LONG if max_message_size is None else max_message_size
        self._max_frames = max_frames
        # The quick loops do not look at the size of short frames, nor count the frames of bare messages.
        self._quick = self._max_size >= 255 and (max_frames is None or max_frames > 0)
        self._data = b""  # what was fed last; decoded up to _position, so that a small limit costs no re-slicing
        self._position = 0
        self._frames: list[bytes] = []  # of the message whose last frame has not been seen
        self._chunks: list[bytes | memoryview] = []  # of the frame whose body has not wholly arrived
        self._missing = 0  # bytes of that body
        self._apart = False  # whether it, or the frame before, is large enough to be read on its own
        self._flags = 0  # of that frame, and then of the joined one
        self._joined: bytes | None = None  # its body, once whole, until `decode` takes it

    def __repr__(self) -> str:
        return f"<Decoder {self.partial_bytes} bytes held, {self._missing} missing>"

    @property
    def wanted(self) -> int:
        """How many bytes the next read should ask for.

        The rest of a large frame and no more, then the header of the next, which is likely to be as large: its body
        then arrives in a `bytes` of its own (`tests.benchmarks`, row "64 KiB").
        """
        if not self._apart:
            return READ_SIZE
        return min(self._missing, LARGEST_READ) or _LONG_HEADER

    @property
    def at_message_boundary(self) -> bool:
        """Whether all that was fed has been given out as whole messages, so that the stream may end here."""
        return not (self._frames or self._missing or self._joined is not None) and self._position == len(self._data)

    @property
    def partial_bytes(self) -> int:
        """Bytes that were fed and are not given out yet."""
        held = len(self._data) - self._position + sum(map(len, self._chunks)) + sum(map(len, self._frames))
        return held + (0 if self._joined is None else len(self._joined))

    def feed(self, data: bytes) -> None:
        """Add what the peer sent next."""
        if self._missing:
            self._feed_body(data)
        elif self._position == len(self._data):
            self._data, self._position = data, 0
            self._apart = False
        else:
            self._data, self._position = self._data[self._position :] + data, 0

    def decode(self, limit: int, out: list[Payload]) -> bytes | None:
        """Append whole messages to *out* (bare `bytes` for one frame, a list for several), at most *limit* of them.

        Stops at a command, which may stand between two frames of one message, and returns its body; the next call
        goes on behind it. Otherwise returns None: *limit* messages were appended, or what was fed is used up.

        Raises:
            RemoteProtocolError: the peer broke a rule of framing or a limit. The messages before are in *out*;
                the connection is of no further use.
        """
        goal = len(out) + limit
        while len(out) < goal:
            if self._joined is not None:
                body, self._joined = self._joined, None
            elif self._position == len(self._data):
                self._data, self._position = b"", 0
                break
            else:
                if self._quick:
                    self._decode_runs(goal, out)
                    if len(out) == goal:
                        break
                frame = self._next_body()
                if frame is None:
                    break
                body = frame
            if self._flags & COMMAND:
                return body
            self._add_frame(body, out)
        return None

    def _decode_runs(self, goal: int, out: list[Payload]) -> None:
        """Most of the work: runs of ordinary frames. Whatever is special about a frame is left to `_next_body`."""
        if not self._frames:
            self._decode_bare(goal - len(out), out)
        if len(out) == goal or self._position == len(self._data):
            return
        if self._frames or self._data[self._position] & MORE:
            self._decode_long_messages(goal, out)

    def _decode_bare(self, limit: int, out: list[Payload]) -> None:
        """The one loop that counts: messages of one frame, until something else comes or the data ends."""
        data, position, end, longest = self._data, self._position, len(self._data), self._max_size
        try:
            for _ in repeat(None, limit):
                if not data[position]:
                    start = position + 2
                    stop = start + data[position + 1]
                elif data[position] == LONG:
                    start = position + 9
                    size = int.from_bytes(data[position + 1 : start], "big")
                    if size > longest:
                        break
                    stop = start + size
                else:
                    break
                if stop > end:
                    break
                out.append(data[start:stop])
                position = stop
        except IndexError:
            pass  # the data ends within a header
        self._position = position

    def _decode_long_messages(self, goal: int, out: list[Payload]) -> None:
        """The same for messages of several frames, begun or not, until a bare message, a command or the end."""
        data, position, end, longest = self._data, self._position, len(self._data), self._max_size
        frames, most = self._frames, self._max_frames or _TOO_LONG
        try:
            while True:
                while data[position] == MORE:
                    start = position + 2
                    stop = start + data[position + 1]
                    if stop > end:
                        break
                    frames.append(data[start:stop])
                    position = stop
                flags = data[position]
                if not flags:
                    start = position + 2
                    stop = start + data[position + 1]
                elif flags & LONG and flags < COMMAND:
                    start = position + _LONG_HEADER
                    size = int.from_bytes(data[position + 1 : start], "big")
                    if size > longest:
                        break
                    stop = start + size
                else:
                    break
                if stop > end or not (frames or flags & MORE):
                    break
                frames.append(data[start:stop])
                position = stop
                if flags & MORE:
                    continue
                if len(frames) > most:
                    break
                out.append(frames)
                frames = []
                if len(out) == goal:
                    break
        except IndexError:
            pass  # the data ends within a header
        self._frames = frames
        self._position = position
        if len(frames) > most:
            raise self._too_many_frames()

    def _too_many_frames(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"a message has more than the {self._max_frames} frames allowed here")

    def _add_frame(self, body: bytes, out: list[Payload]) -> None:
        frames = self._frames
        if self._max_frames is not None and len(frames) >= self._max_frames:
            raise self._too_many_frames()
        if self._flags & MORE:
            frames.append(body)
        elif frames:
            frames.append(body)
            out.append(frames)
            self._frames = []
        else:
            out.append(body)

    def _next_body(self) -> bytes | None:
        """The body of any frame, its flags in `_flags`; None, with what is left put in order, if it has not arrived."""
        data = self._data
        header = parse_header(data, self._position)
        if header is None:
            # Forget what is done with: an idle connection would hold a whole read of it.
            self._data, self._position = data[self._position :], 0
            return None
        self._flags, start, size = header
        if size > self._max_size:
            raise RemoteProtocolError(f"a frame of {size} bytes is longer than the {self._max_size} allowed here")
        stop = start + size
        if stop <= len(data):
            self._position = stop
            return data[start:stop]
        # The body is collected in pieces and joined once. Allocating it now would let nine bytes from anybody
        # reserve any amount of memory, and `rest + data` would copy a large body again at each read.
        self._missing = stop - len(data)
        self._apart = size >= _LARGE
        if start < len(data):
            self._chunks.append(data[start:] if len(data) - start < _SMALL else memoryview(data)[start:])
        self._data, self._position = b"", 0
        return None

    def _feed_body(self, data: bytes) -> None:
        chunks, missing = self._chunks, self._missing
        if len(data) < missing:
            self._missing = missing - len(data)
            if chunks and len(chunks[-1]) < _SMALL:
                # A peer that sends byte by byte would otherwise make us hold a `bytes` object for each.
                chunks[-1] = b"".join((chunks[-1], data))
            else:
                chunks.append(data)
            return
        if len(data) > missing:
            self._apart = False
        chunks.append(data if len(data) == missing else memoryview(data)[:missing])
        self._joined = b"".join(chunks)
        self._chunks, self._missing = [], 0
        self._data, self._position = data, missing
