"""Any `trio.abc.Stream` as a `Link`: TLS, memory streams, tunnels, whatever a third party brings.

A stream can only be awaited, a link is asked without waiting, so there is a slot in between for each direction.
`wait_readable` fills the slot that `try_receive` empties; `try_send` fills the slot that `wait_writable` and `flush`
empty. That costs a copy and a turn of the loop which the socket links do not pay.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from ._abc import Link

SLOT = 65536


class StreamLink(Link):
    """*stream* as a `Link`, which owns it from now on.

    Its owner has to `aclose` it: `close` ends the waits and refuses further use, but a stream has no way of being
    closed without waiting.

    ``receive_some`` of *stream* must be cancel-safe, as that of trio's own streams is. ``send_all`` cannot be: a
    cancelled one has sent an unknown share. So a `wait_writable` or `flush` that is cancelled in the middle makes
    sending fail from then on, instead of sending some bytes twice or not at all.
    """

    __slots__ = ("_arrived", "_incoming", "_outgoing", "_stream", "_unsent", "local_address", "peer_address")

    def __init__(self, stream: trio.abc.Stream, *, peer_address: str = "", local_address: str = "") -> None:
        self._stream = stream
        self.peer_address: str = peer_address
        self.local_address: str = local_address
        self._arrived: bytes | None = None  # b"": the end of the stream, which stays
        self._unsent = b""
        self._incoming = _Direction()
        self._outgoing = _Direction()

    @property
    def unflushed(self) -> bool:
        return bool(self._unsent)

    def try_send(self, buffers: Sequence[bytes | memoryview]) -> int:
        self._outgoing.check()
        if self._unsent:
            return 0
        self._unsent = _first_bytes(buffers, SLOT)
        return len(self._unsent)

    def try_receive(self, limit: int) -> bytes | None:
        arrived = self._arrived
        if not arrived:
            self._incoming.check()
            return arrived
        self._incoming.check_open()  # open is enough: what came before the stream broke is still given
        self._arrived = arrived[limit:] or None
        return arrived[:limit]

    async def wait_writable(self) -> None:
        await self.flush()

    async def flush(self) -> None:
        with self._outgoing.waiting():
            await trio.lowlevel.checkpoint()
            if self._unsent:
                await self._send_all()

    async def _send_all(self) -> None:
        try:
            await self._stream.send_all(self._unsent)
        except trio.Cancelled as exc:
            self._outgoing.fail(exc)
            raise
        self._unsent = b""

    async def wait_readable(self) -> None:
        with self._incoming.waiting():
            if self._arrived is None:
                self._arrived = bytes(await self._stream.receive_some(SLOT))
            else:
                await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._incoming.close()
        self._outgoing.close()

    async def aclose(self) -> None:
        self.close()
        await trio.aclose_forcefully(self._stream)


class _Direction:
    """One direction of a stream: the wait that is going on in it, and why there will be no other."""

    __slots__ = ("_closed", "_failure", "_scope")

    def __init__(self) -> None:
        self._closed = False
        self._failure = ""
        self._scope: trio.CancelScope | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let `close` end what is awaited inside, and turn the stream's errors into ours.

        Raises:
            trio.ClosedResourceError: closed before or meanwhile.
            ConnectionResetError: the stream broke, before or now.
        """
        if self._closed:
            raise trio.ClosedResourceError("this link is closed")
        self.check()
        with trio.CancelScope() as self._scope:
            try:
                yield
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
                if not self._closed:
                    self.fail(exc)
                    raise self._error() from exc
        if self._closed:
            raise trio.ClosedResourceError("this link was closed meanwhile")

    def fail(self, reason: BaseException) -> None:
        """Nothing can be moved in this direction any more."""
        # Words, not the exception: raised again and again it would collect tracebacks and keep their frames alive.
        self._failure = f"{type(reason).__name__}: {reason}".rstrip(": ")

    def check(self) -> None:
        """Raise `OSError` if the direction has failed or is closed."""
        self.check_open()
        if self._failure:
            raise self._error()

    def check_open(self) -> None:
        """Raise `OSError` if the direction is closed."""
        if self._closed:
            raise OSError(errno.EBADF, "this link is closed")

    def _error(self) -> OSError:
        return ConnectionResetError(errno.ECONNRESET, f"the stream broke ({self._failure})")

    def close(self) -> None:
        """End the wait that is going on, and refuse another."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()


def _first_bytes(buffers: Sequence[bytes | memoryview], limit: int) -> bytes:
    if len(buffers) == 1:
        return bytes(buffers[0][:limit])
    taken = bytearray()
    for buffer in buffers:
        taken += buffer[: limit - len(taken)]
        if len(taken) == limit:
            break
    return bytes(taken)
