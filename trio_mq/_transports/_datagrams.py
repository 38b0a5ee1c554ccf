"""The two halves of a datagram endpoint: out of a mailbox into a socket, out of a socket into a mailbox.

A datagram costs one system call each way, so the sender makes it where the message is queued. Only when the kernel has
no room a task waits for some. The receiving task takes what is there, as far as the mailbox has room; beyond that the
kernel's buffer fills and it drops, which Linux counts for us.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from .._mailbox import Mailbox, nothing
from ._attachment import Owner, Party
from ._udp_sockets import SO_RXQ_OVFL

BATCH = 64
"""Datagrams between two looks at anything else: 64 of them are 0.2 ms of work."""

Encode: TypeAlias = Callable[[Any], "tuple[bytes, tuple[Any, ...]] | None"]
"""The datagram of a message, and where it goes; None if it is too long. Raises `OSError` if it cannot go there."""

Decode: TypeAlias = Callable[[bytes, Any], "list[bytes] | None"]
"""The message in a datagram from an address; None if there is none."""


class DatagramSender:
    """Sends what is queued in a mailbox."""

    def __init__(self, sock: socket.socket, owner: Owner, party: Party, outbound: Mailbox, encode: Encode) -> None:
        self._socket = sock
        self._owner = owner
        self._party = party
        self._outbound = outbound
        self._encode = encode
        self._busy = False
        self._left = trio.Event()
        self._task: trio.CancelScope | None = None
        outbound.on_item = outbound.on_full = self.send
        self.send()

    def send(self) -> None:
        """Send as much as the kernel takes now. Raises nothing: what cannot be sent is counted."""
        # Freed room lets others queue more, which brings us here from within; or the task is at it.
        if self._busy or not self._outbound.items:
            return
        self._busy = True
        if self._send_batch() and not self._outbound.items:
            self._finish()
        else:
            self._hand_over()

    def _finish(self) -> None:
        self._busy = False
        self._outbound.sleep()
        self._party.idle()

    def _send_batch(self) -> bool:
        """False if the kernel has no room for all of it."""
        batch = self._outbound.hold(BATCH)
        for sent, message in enumerate(batch):
            try:
                self._send_one(message)
            except BlockingIOError:
                self._outbound.restore(batch[sent:])
                return False
            except OSError as exc:
                self._party.unsent("too-large" if exc.errno == errno.EMSGSIZE else "unreachable", 1)
        self._outbound.release()
        return True

    def _send_one(self, message: Any) -> None:
        encoded = self._encode(message)
        if encoded is None:
            self._party.unsent("too-large", 1)
        else:
            self._socket.sendto(*encoded)

    def _hand_over(self) -> None:
        if self._task is None:
            self._task = self._owner.start(self._go_on)
        self._left.set()

    async def _go_on(self) -> None:  # noqa: ASYNC910  # a task of our own: nobody awaits it
        """The task that sends what was too much to be sent at once, by us or by the kernel."""
        try:
            while True:
                await self._left.wait()
                self._left = trio.Event()
                while self._outbound.items:
                    if self._socket.fileno() < 0:
                        return
                    await trio.lowlevel.wait_writable(self._socket)
                    self._send_batch()
                self._finish()
        except trio.ClosedResourceError:
            pass

    def close(self) -> None:
        """Send no more. The socket is closed by whoever opened it."""
        self._busy = True
        self._outbound.on_item = self._outbound.on_full = nothing
        if self._task is not None:
            self._task.cancel()


class DatagramReceiver:
    """Fills a mailbox with what comes.

    Args:
        limit: bytes that a datagram may have; a longer one is dropped and counted.
    """

    def __init__(
        self, sock: socket.socket, owner: Owner, party: Party, inbound: Mailbox, decode: Decode, limit: int
    ) -> None:
        self._socket = sock
        self._party = party
        self._inbound = inbound
        self._decode = decode
        self._limit = limit
        self._room = trio.Event()
        self._overrun: bytes = bytes(4)
        self._receive = self._receive_plainly
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            self._receive = self._receive_with_count
        inbound.on_room = self._go_on
        self._task = owner.start(self._run)

    def _go_on(self) -> None:
        self._room.set()

    async def _run(self) -> None:  # noqa: ASYNC910  # a task of our own: nobody awaits it
        """The task: receive until the socket is closed."""
        try:
            while self._socket.fileno() >= 0:  # it may be closed before this has run, or while others did
                if self._inbound.room() <= 0:
                    await self._wait_for_room()
                elif self._take():
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._socket)
        except trio.ClosedResourceError:
            pass

    async def _wait_for_room(self) -> None:
        self._room = trio.Event()
        self._inbound.full = True
        await self._room.wait()

    def _take(self) -> bool:
        """Take over what has come, as far as there is room; False if there is no more now."""
        messages: list[Any] = []
        more = True
        for _ in range(min(BATCH, self._inbound.room())):
            try:
                data, address = self._receive()
            except OSError:
                # Nothing there; or an error of a datagram that we sent, which is for nobody to know here.
                more = False
                break
            message = None if data is None else self._decode(data, address)
            if message is not None:
                messages.append(message)
            else:
                self._party.drop("malformed" if data is not None else "too-large", 1)
        if messages:
            accepted = self._party.accept(messages)
            if accepted:
                self._inbound.put_all(accepted)
        return more

    def _receive_plainly(self) -> tuple[bytes | None, Any]:
        data, address = self._socket.recvfrom(self._limit + 1)
        return (data if len(data) <= self._limit else None), address

    def _receive_with_count(self) -> tuple[bytes | None, Any]:
        data, ancillary, _, address = self._socket.recvmsg(self._limit + 1, 32)
        if ancillary:
            self._count_overrun(ancillary)
        return (data if len(data) <= self._limit else None), address

    def _count_overrun(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL and value != self._overrun:
                (before,), (now,) = struct.unpack("@I", self._overrun), struct.unpack("@I", value)
                self._overrun = value
                self._party.drop("overrun", (now - before) % (1 << 32))

    def close(self) -> None:
        """Receive no more. The socket is closed by whoever opened it."""
        self._inbound.on_room = nothing
        self._task.cancel()
