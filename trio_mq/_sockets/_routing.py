"""DEALER and ROUTER (RFC 28)."""

from __future__ import annotations

from typing import Self

import trio
from trio.lowlevel import enable_ki_protection

from .._core._receiving import FrameReceivingSocket, ReceivingSocket
from .._core._sending import MultipartSendingSocket, SendingSocket
from .._errors import HostUnreachableError
from .._options import Options
from .._patterns import Dealer as DealerPattern
from .._patterns import Pattern, PipeFace
from .._patterns import Router as RouterPattern


class Dealer(SendingSocket, FrameReceivingSocket, trio.abc.Channel[bytes]):
    """Deals messages out to its peers in rotation, and hears them in turn; adds nothing, removes nothing.

    `send` waits while no peer has room, as PUSH does. Towards a REP the program sends the empty delimiter itself:
    ``send_multipart([b"", request])``.
    """

    socket_type = "DEALER"

    def _new_pattern(self, options: Options) -> Pattern:
        return DealerPattern(probe=options.probe_router)


class Router(MultipartSendingSocket, ReceivingSocket):
    """Talks with many peers, each by its routing id: the first frame of everything received and sent.

    A peer's id is its ZMTP Identity, or five bytes that begin with a zero byte. Messages for an id that nobody has, or
    whose queue is full, are dropped and counted (``'unroutable'``, ``'hwm'``). ``Options(router_mandatory=True)``
    raises `HostUnreachableError` and waits instead, ``overflow="block"`` waits for that peer alone. There are no
    one-frame calls: messages have two frames or more, and iteration gives lists.
    """

    socket_type = "ROUTER"
    pattern: RouterPattern

    def _new_pattern(self, options: Options) -> Pattern:
        return RouterPattern(
            self.drop,
            first_id=self.random_number(),
            mandatory=options.router_mandatory,
            handover=options.router_handover,
            block=options.overflow == "block",
            probe=options.probe_router,
        )

    def _apply(self, options: Options) -> None:
        self.pattern.mandatory = options.router_mandatory
        self.pattern.handover = options.router_handover
        super()._apply(options)

    @enable_ki_protection
    def connect(self, endpoint: str, *, options: Options | None = None, routing_id: bytes | None = None) -> None:
        """As on every socket; *routing_id* names the peer from now on, before it has said who it is.

        Raises:
            EndpointError: *endpoint* cannot be meant.
            ValueError: *routing_id* is in use, longer than 255 bytes, or begins with a zero byte.
        """
        if routing_id is not None:
            self._check_id(routing_id)
        self._connect(endpoint, options, routing_id or b"")

    def _check_id(self, routing_id: bytes) -> None:
        if not isinstance(routing_id, bytes):
            raise TypeError(f"a routing_id is bytes, not {type(routing_id).__name__}")
        if not 1 <= len(routing_id) <= 255 or routing_id[:1] == b"\0":
            raise ValueError("a routing_id has 1 to 255 bytes and does not begin with a zero byte")
        if self.pattern.knows(routing_id):
            raise ValueError(f"the routing id {routing_id!r} belongs to another peer already")

    def __aiter__(self) -> Self:
        self._check_open()
        return self

    async def __anext__(self) -> list[bytes]:
        try:
            return await self.receive_multipart()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None

    def peer_room(self, routing_id: bytes) -> int:
        """Bytes that wait to be sent to the peer with *routing_id*, with those being written.

        Raises:
            HostUnreachableError: nobody has it.
        """
        self._check_open()
        pipe = self.pattern.pipe_of(routing_id)
        if pipe is None:
            raise HostUnreachableError(routing_id)
        return pipe.outbound.size()

    @enable_ki_protection
    def pause_peer(self, routing_id: bytes) -> None:
        """Receive nothing more from the peer with *routing_id* until `resume_peer`, or until it has gone.

        What it sends waits up to the receive mark, then nothing more is read from its connection. Others are heard.

        Raises:
            HostUnreachableError: nobody has it.
        """
        self.pattern.pause(self._pipe_of(routing_id))

    @enable_ki_protection
    def resume_peer(self, routing_id: bytes) -> None:
        """Receive from that peer again.

        Raises:
            HostUnreachableError: nobody has it.
        """
        self.pattern.resume(self._pipe_of(routing_id))
        self._serve_receivers()

    def _pipe_of(self, routing_id: bytes) -> PipeFace:
        self._check_open()
        pipe = self.pattern.pipe_of(routing_id)
        if pipe is None:
            raise HostUnreachableError(routing_id)
        return pipe

    @enable_ki_protection
    async def wait_room(self, routing_id: bytes, below: int) -> None:
        """Wait until fewer than *below* bytes wait to be sent to the peer with *routing_id*.

        Raises:
            HostUnreachableError: nobody has it, or its peer went meanwhile.
            trio.ClosedResourceError: the socket was closed meanwhile.
        """

        def enough() -> bool:
            less = self.peer_room(routing_id) < max(1, below)
            pipe = self.pattern.pipe_of(routing_id)
            assert pipe is not None  # or peer_room had raised
            pipe.outbound.watched = pipe.outbound.watched or not less
            return less

        await self._wait_until(enough, lambda: None)
