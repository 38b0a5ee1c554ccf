"""One peer of a server: its calls, what waits to be sent to it, and how much of the server it may use.

A peer is a connection, not a routing id: whoever comes later under the same id has none of its calls. Behind one
connection there may be a proxy with many callers; their envelopes are part of the key by which a call is known.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import grpc
import trio

import trio_mq

from ._blocks import decode_head, encode_goaway, encode_status
from ._compression import SUPPORTED, UnknownEncoding
from ._errors import log
from ._home import Home
from ._incoming import fault
from ._metadata import Metadatum, as_invocation_metadata
from ._outbox import Frames, Outbox
from ._served import CANCELLED, LOST, PEER_LOST, UNARY_ONLY, ServedCall
from ._service import CallDetails, Method
from ._status import Status, code_number, status_of_exception
from ._targets import peer_name
from ._wire import (
    CALL,
    COMPRESSED,
    DATA,
    END,
    GOAWAY,
    HEAD,
    LEVEL_0,
    LONGEST_METHOD,
    MAGIC,
    NOT_PROCESSED,
    PING,
    PONG,
    PROPERTY,
    RESET,
    STATUS,
    UNARY_CALL,
    Announcement,
    Breach,
    check_flags,
    pack,
    read_announcement,
)

Key: TypeAlias = Hashable
"""A call among those of its peer: its id, with its envelope before it if it has one."""

_MOST_PONGS: Final = 10
"""Per second; more would let a peer use us as an amplifier."""
_MOST_TIMEOUT_US: Final = 10 * 365 * 86400 * 1_000_000
"""Longer is as good as none."""
_NOT_FOUND: Final = Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
_TOO_MANY: Final = Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
_STOPPING: Final = Status(grpc.StatusCode.UNAVAILABLE, "the server is stopping", (), True)
_STALE: Final = Status(grpc.StatusCode.UNAVAILABLE, "the call is of an earlier connection", (), True)
_ANONYMOUS: Final = "tmq-rpc/1"
"""The user agent of callers that do not say theirs; gRPC servers show one always."""
_SAME_EPOCH: Final = 256
"""The upper half of a call id is the epoch, and grows by one in 40 hours of hard work."""


class Peer:
    """Whoever is at the other end of one connection.

    Attributes:
        name: as `ServicerContext.peer` gives it.
        calls: those that have not ended, by their key.
        running: calls whose handlers run, with those that were cancelled and have not ended yet.
        strict: it is a REQ: it gets exactly one message for each of its own.
        held: what came while too much waited to be sent, to be looked at later;
            *releasing* while that happens.
        most_sent: bytes that a message to it may have.
        cut_above: larger messages to it do not simply go out: they are cut into *fragment_size*, or refused.
        last_call_id: of the last call that was accepted.
    """

    def __init__(
        self,
        home: Home,
        identity: trio_mq.Peer,
        send_nowait: Callable[[Frames], None],
        on_blocked: Callable[[Peer], None],
    ) -> None:
        self.home = home
        self.identity = identity
        self.name: str = peer_name(identity.address or identity.endpoint)
        self.user_id: str | None = identity.user_id
        self.strict: bool = identity.socket_type == "REQ"
        self.announcement: Announcement = (
            LEVEL_0 if self.strict else read_announcement(identity.properties.get(PROPERTY))
        )
        self.prefix: Frames = [identity.routing_id, b""]
        self.calls: dict[Key, ServedCall] = {}
        self.running: int = 0
        self.last_call_id: int = 0
        self.outbox: Outbox = Outbox(send_nowait, lambda _: on_blocked(self))
        self.most_sent: float = _least(home.options.max_send_message_length, self.announcement.max_message)
        self.cut_above: float = min(self.most_sent, _cut_above(home) if self.announcement.fragments else math.inf)
        self.held: deque[Frames] = deque()
        self.releasing = False
        self.fragment_size: int = home.options.fragment_size
        self._drained = trio.lowlevel.ParkingLot()
        self._second = -math.inf
        self._pongs = 0
        self._resets = 0
        self._most_open = 0

    def __repr__(self) -> str:
        return f"<Peer {self.name}: {len(self.calls)} calls, {self.running} running>"

    # --- what calls ask ---------------------------------------------------------------------------------------------

    def announcement_for(self, call: ServedCall) -> Announcement:
        """What the caller said of itself; nothing, if this peer is a proxy that only passes its messages on."""
        return self.announcement if call.prefix is self.prefix else LEVEL_0

    def details_of(self, call: ServedCall) -> CallDetails:
        """What handlers and interceptors are told of *call*."""
        head = call.head
        metadata = [*as_invocation_metadata(head.metadata), Metadatum("user-agent", head.user_agent or _ANONYMOUS)]
        if head.attempts:
            metadata.append(Metadatum("grpc-previous-rpc-attempts", str(head.attempts)))
        return CallDetails(call.path.decode(), tuple(metadata))

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """How the connection is secured, and by whom it was made."""
        found = {
            "transport_security_type": [b"null" if self.user_id is None else b"plain"],
            "security_level": [b"TSI_SECURITY_NONE"],
            "routing_id": [self.identity.routing_id],
        }
        if self.user_id is not None:
            found["zap_user_id"] = [self.user_id.encode()]
        return found

    async def wait_drained(self) -> None:
        """Wait until nothing waits to be sent, or the peer is gone."""
        await self._drained.park()

    async def drain(self, wait_room: Callable[[], Awaitable[object]]) -> None:
        """Send what waits, as there is room."""
        try:
            await self.outbox.drain(wait_room)
        except (trio_mq.HostUnreachableError, trio.ClosedResourceError):
            self.outbox.clear()
        finally:
            self._drained.unpark_all()

    # --- calls ------------------------------------------------------------------------------------------------------

    def on_call(self, key: Key, flags: int, seq: int, call_id: int, frames: Frames, at: int) -> None:
        """A CALL, whose header is ``frames[at]``."""
        prefix = self.prefix if at == 2 else frames[:at]
        path = frames[at + 1] if len(frames) > at + 1 else b""
        home = self.home
        refused = self._refusal(call_id, path, enveloped=at != 2)
        method = home.services.methods.get(path)
        if refused is not None or key in self.calls or method is None or home.services.dynamic:
            method = self._unusual(key, prefix, call_id, path, refused)
            if method is None:
                return
        call = ServedCall(self, key, call_id, prefix, path)
        if method is not DYNAMIC:
            call.method = method
        if flags == UNARY_CALL and not seq and len(frames) == at + 3 and not call.takes_stream:
            payload = frames[at + 2]
            if len(payload) <= home.most_received:
                call.payload = payload
                self._start(call)
                return
        self._open(call, flags, seq, frames, at)

    def _refusal(self, call_id: int, path: bytes, *, enveloped: bool) -> Status | None:
        """Why a call is not begun, whatever else is in it."""
        home = self.home
        if home.stopping:
            return _STOPPING
        if self.announcement.epoch and not enveloped and not self._is_of_this_epoch(call_id):
            return _STALE
        if home.pool.busy >= home.most_calls or self.running >= home.most_calls_of_peer:
            return _TOO_MANY
        if len(path) > LONGEST_METHOD:
            return Status(grpc.StatusCode.INTERNAL, f"a method has at most {LONGEST_METHOD} bytes, not {len(path)}")
        return None

    def _is_of_this_epoch(self, call_id: int) -> bool:
        return ((call_id >> 32) - self.announcement.epoch) & 0xFFFFFFFF < _SAME_EPOCH

    def _unusual(self, key: Key, prefix: Frames, call_id: int, path: bytes, refused: Status | None) -> Method | None:
        """The method of a call whose path is not known yet, `DYNAMIC` for one that only a task can find out."""
        if key in self.calls:
            self.calls[key].end(LOST)
        elif refused is not None:
            self.refuse(prefix, call_id, refused)
        elif self.home.services.dynamic:
            dynamic: Method = DYNAMIC
            return dynamic
        else:
            return self._found(prefix, call_id, path)
        return None

    def _found(self, prefix: Frames, call_id: int, path: bytes) -> Method | None:
        """The method at *path*; None if the call was refused for want of it."""
        try:
            method = self.home.services.find(path)
        except UnicodeDecodeError:
            method = None
        except Exception as exc:  # noqa: BLE001  # what looks for it is the user's
            log.exception("no handler could be made for %s", path.decode(errors="replace"))
            hide = self.home.options.hide_error_details
            self.refuse(prefix, call_id, status_of_exception(exc, hide_details=hide))
            return None
        if method is None:
            self.refuse(prefix, call_id, _NOT_FOUND)
        return method

    def _open(self, call: ServedCall, flags: int, seq: int, frames: Frames, at: int) -> None:
        """Begin a call that is not a plain unary one."""
        try:
            check_flags(CALL, flags)
            if flags & HEAD:
                call.head = decode_head(frames[at + 2], self.home.options.max_metadata_size)
            whole = flags & ~HEAD == UNARY_CALL and not seq and len(frames) == at + 3 + (flags & HEAD)
            if whole and not call.takes_stream and len(frames[-1]) <= self.home.most_received:
                call.payload = frames[-1]
            else:
                call.open(flags, seq, frames[at:])
        except IndexError:
            self.reset(call.prefix, call.call_id, fault(Breach("a frame is missing")))
        except ValueError as exc:
            self.reset(call.prefix, call.call_id, fault(exc))
        else:
            refused = self._late_refusal(call, flags)
            if refused is not None:
                self.refuse(call.prefix, call.call_id, refused)
            else:
                self._start(call)

    def _late_refusal(self, call: ServedCall, flags: int) -> Status | None:
        """Why a call is not begun, now that it is taken apart."""
        if self.strict and (flags & ~(HEAD | COMPRESSED) != UNARY_CALL or call.streams_responses):
            return UNARY_ONLY
        encoding = call.head.encoding
        if encoding and encoding not in SUPPORTED:
            return fault(UnknownEncoding(encoding))
        return None

    def _start(self, call: ServedCall) -> None:
        if self.strict and call.streams_responses:
            self.refuse(call.prefix, call.call_id, UNARY_ONLY)
            return
        home = self.home
        if home.encoding:
            call.answer.compress_with(home.encoding)
        timeout = call.head.timeout_us
        if timeout is not None or home.options.max_timeout is not None:
            self._set_deadline(call, timeout)
        self.calls[call.key] = call
        self.running += 1
        if call.call_id > self.last_call_id and call.prefix is self.prefix:
            self.last_call_id = call.call_id
        home.pool.run(call)

    def _set_deadline(self, call: ServedCall, timeout_us: int | None) -> None:
        longest = self.home.options.max_timeout
        seconds = math.inf if longest is None else longest
        if timeout_us is not None and timeout_us <= _MOST_TIMEOUT_US:
            seconds = min(seconds, timeout_us / 1e6)
        if seconds < math.inf:
            call.set_deadline(seconds)

    # --- answers that no call gives ---------------------------------------------------------------------------------

    def refuse(self, prefix: Frames, call_id: int, status: Status) -> None:
        """Answer a CALL that is not run."""
        flags = STATUS | END | (NOT_PROCESSED if status.not_processed else 0)
        block = encode_status(code_number(status.code), status.details)
        self.outbox.send((call_id,), [*prefix, pack(DATA, flags, 0, call_id), block])

    def reset(self, prefix: Frames, call_id: int, status: Status) -> None:
        """Answer something that breaks a rule."""
        block = encode_status(code_number(status.code), status.details)
        self.outbox.send((call_id,), [*prefix, pack(RESET, STATUS, 0, call_id), block])

    def on_garbage(self, frames: Frames, at: int) -> None:
        """Something that is no unit. A REQ, also one behind a proxy, waits for an answer, so it gets one."""
        if self.strict or at > 2:
            end = at or (frames.index(b"", 1) + 1 if b"" in frames[1:] else len(frames))
            self.reset(frames[:end], 0, Status(grpc.StatusCode.INTERNAL, "this is no message of TMQ-RPC 1"))

    def on_stray(self, magic: int, kind: int, value: int, call_id: int, frames: Frames, at: int) -> bool:
        """A unit of no call that is known, or not of our version; False if it was dropped."""
        prefix = frames[:at]
        if magic != MAGIC and kind == CALL:
            text = f"version {magic & 15} of TMQ-RPC is not spoken here, version 1 is"
            self.refuse(prefix, call_id, Status(grpc.StatusCode.UNIMPLEMENTED, text))
        elif magic == MAGIC and kind == PING and not call_id:
            self._on_ping(value, prefix)
        elif self.strict:
            self.reset(prefix, call_id, Status(grpc.StatusCode.INTERNAL, "a REQ socket can make unary calls only"))
        else:
            return False
        return True

    def _on_ping(self, value: int, prefix: Frames) -> None:
        self._tick()
        self._pongs += 1
        if self._pongs <= _MOST_PONGS or self.strict:
            self.outbox.send_control("pong", [*prefix, pack(PONG, 0, value, 0)])

    def _tick(self) -> None:
        now = trio.current_time()
        if now - self._second >= 1:
            self._second, self._pongs, self._resets, self._most_open = now, 0, 0, 0

    def go_away(self) -> None:
        """Tell it that no more calls are taken. A REQ has not asked, so it cannot be told."""
        if not self.strict:
            frames = [*self.prefix, pack(GOAWAY, 0, 0, 0), encode_goaway(self.last_call_id, "the server is stopping")]
            self.outbox.send_control("goaway", frames)

    # --- its end, and its limits ------------------------------------------------------------------------------------

    def on_reset(self, call: ServedCall, frames: Frames, at: int) -> bool:
        """The caller has given *call* up; False if that happens too often.

        All that are open may be given up at once, as when a scope around them is cancelled. What costs a server more
        than its caller is to begin calls and give them up, again and again.
        """
        open_calls = len(self.calls)
        call.vanish(CANCELLED)
        if self.strict:
            self.reset(frames[:at], call.call_id, CANCELLED)
        self._tick()
        self._resets += 1
        self._most_open = max(self._most_open, open_calls)
        return self._resets <= self.home.options.max_resets_per_second + self._most_open

    @property
    def holding(self) -> bool:
        """Whether too much waits to be sent to it, so that nothing new is begun for it."""
        return self.outbox.waiting_bytes > self.home.options.output_limit or (bool(self.held) and not self.releasing)

    def lost(self) -> None:
        """The connection is over."""
        self.held.clear()
        self.outbox.clear()
        for call in list(self.calls.values()):
            call.vanish(PEER_LOST)
        self._drained.unpark_all()


DYNAMIC: Final[Any] = object()
"""Stands for a method that only the interceptors can name."""


def _least(*limits: int | None) -> float:
    return min((limit for limit in limits if limit is not None), default=math.inf)


def _cut_above(home: Home) -> float:
    # A last piece of less than an eighth is not worth it: a message with 1 MiB in it has a few bytes around that.
    size = home.options.fragment_size
    return size + size // 8
