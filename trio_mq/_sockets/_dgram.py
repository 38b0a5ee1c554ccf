"""DGRAM: plain UDP datagrams (a draft type of libzmq; no RFC)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import trio
from trio.lowlevel import enable_ki_protection

from .._core._address_book import Target
from .._core._receiving import ReceivingSocket
from .._core._sending import MultipartSendingSocket
from .._errors import EndpointError, StateError
from .._message import Datagram, Payload, single_frame
from .._options import Options
from .._patterns import Dgram as DgramPattern
from .._patterns import Pattern
from .._transports import LARGEST_PAYLOAD, split_address


class Dgram(MultipartSendingSocket, ReceivingSocket):
    """Sends and receives UDP datagrams as they are, to and from anybody; bound to one ``udp://`` endpoint.

    `send` gives a datagram to the kernel at once and waits while that has no room (`send_hwm` datagrams may wait). It
    is not known whether it arrives. What cannot be sent there is counted (``'unreachable'``), and so is what the kernel
    dropped because nobody received it in time (Linux; ``'overrun'``). libzmq's DGRAM cuts off what has more than 8,192
    bytes.

    The calls for several frames have the address first: ``send_multipart([b"127.0.0.1:5555", body])``.
    """

    socket_type = "DGRAM"

    def _new_pattern(self, options: Options) -> Pattern:
        return DgramPattern()

    def _resolve(self, endpoint: str, options: Options, *, binding: bool) -> Target:
        target = super()._resolve(endpoint, options, binding=binding)
        if target.transport.socket_types is None:  # those take every type that has a handshake; this one has none
            raise EndpointError(endpoint, "a DGRAM has datagrams, and no connections; it binds udp://")
        return target

    async def _bind_intended(self, intended: tuple[Any, Options]) -> str:
        if self._book.bound:
            raise StateError(f"this Dgram has its endpoint, {self._book.bound[0].endpoint}; unbind that first")
        return await super()._bind_intended(intended)

    @enable_ki_protection
    async def send(self, value: bytes | bytearray | memoryview, address: str) -> None:
        """Send a datagram to *address*. If cancelled, it was not sent.

        Args:
            value: the datagram, at most 65,507 bytes.
            address: ``"127.0.0.1:5555"`` or ``"[::1]:5555"``: numeric, as in `Datagram`.

        Raises:
            TypeError: *value* is not a buffer of bytes, or *address* not a `str`.
            ValueError: *value* is too long, or *address* is none.
            StateError: the socket is not entered yet, or not bound.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        await self._send(_message(value, address))

    @enable_ki_protection
    def send_nowait(self, value: bytes | bytearray | memoryview, address: str) -> None:
        """`send`, or `trio.WouldBlock` if it would have to wait."""
        self._send_nowait(_message(value, address))

    def checked(self, message: Payload) -> Payload:
        if isinstance(message, bytes) or len(message) != 2:
            raise ValueError("a message of a DGRAM has two frames, an address and a datagram")
        split_address(message[0].rstrip(b"\0").decode("ascii", "replace"))
        if len(message[1]) > LARGEST_PAYLOAD:
            raise ValueError(f"a datagram has at most {LARGEST_PAYLOAD:,} bytes, not {len(message[1]):,}")
        return message

    @enable_ki_protection
    async def send_many(self, messages: Iterable[bytes | Sequence[bytes]]) -> None:
        """Send many datagrams: an iterable of ``[address, datagram]``, both `bytes`. As `send` otherwise."""
        await super().send_many(messages)

    @enable_ki_protection
    async def receive(self) -> Datagram:
        """The next datagram, and where it came from. If cancelled, none was taken.

        Raises:
            StateError: the socket is not entered yet.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        for message in self._ready:
            return _datagram(message)  # noqa: ASYNC910  # checkpoints are amortised, see DESIGN.md
        return _datagram(await self._receive())

    @enable_ki_protection
    def receive_nowait(self) -> Datagram:
        """`receive`, or `trio.WouldBlock` if there is none."""
        return _datagram(self._receive_nowait())

    def __aiter__(self) -> Self:
        self._check_open()
        return self

    async def __anext__(self) -> Datagram:
        try:
            return await self.receive()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None


def _message(value: object, address: object) -> Payload:
    if not isinstance(address, str):
        raise TypeError(f"an address is a str such as '127.0.0.1:5555', not {type(address).__name__}")
    return [address.encode(), single_frame(value)]


def _datagram(message: list[bytes]) -> Datagram:
    return Datagram(message[1], message[0].decode())
