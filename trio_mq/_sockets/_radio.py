"""RADIO and DISH (RFC 48)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Self

import trio
from trio.lowlevel import enable_ki_protection

from .._core._address_book import Bindable
from .._core._receiving import ReceivingSocket
from .._core._sending import MultipartSendingSocket
from .._core._writer import Pace
from .._message import GroupMessage, Payload, checked_group, single_frame
from .._options import Options
from .._patterns import Dish as DishPattern
from .._patterns import Pattern
from .._patterns import Radio as RadioPattern
from ..zmtp import encode_message


class Radio(MultipartSendingSocket):
    """Sends each message to every peer that is a member of its group, and to every ``udp://`` endpoint.

    `send` never waits: nobody there means nobody gets it, and a peer whose queue is full (and whose kernel takes no
    more) misses the message, which is counted for it (``'hwm'``). ``Options(overflow="block")`` waits instead.

    Datagrams go to where ``connect("udp://...")`` says, whoever listens there; members pick out their groups. One that
    would have more than 8,192 bytes with its group is not sent and counted (``'too-large'``), as libzmq has it; and so
    is one whose group has more than 127 bytes, which would end every listening process with a libzmq up to 4.3.5.

    The calls for several frames have the group first, as queues and the wire do: ``send_multipart([group, body])``,
    ``send_many([[group, body], ...])``.
    """

    socket_type = "RADIO"
    pattern: RadioPattern

    def _prepare(self) -> None:
        super()._prepare()
        self._pace = Pace()

    def _new_pattern(self, options: Options) -> Pattern:
        return RadioPattern(self.drop, self.went_idle, encode_message, block=options.overflow == "block")

    @property
    def encodes(self) -> bool:
        return True

    @property
    def pace(self) -> Pace | None:
        return self._pace

    @enable_ki_protection
    async def send(self, value: bytes | bytearray | memoryview, *, group: bytes) -> None:
        """Queue a message for the members of *group*. If cancelled, it was not queued.

        Raises:
            TypeError: *value* is not a buffer of bytes, or *group* not `bytes`.
            ValueError: *group* has more than 255 bytes, or a zero byte.
            StateError: the socket is not entered yet.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        message: Payload = [checked_group(group), single_frame(value)]
        for turn in self._turns:
            turn(message)
            return  # noqa: ASYNC910  # checkpoints are amortised, see DESIGN.md
        await self._send(message)

    @enable_ki_protection
    def send_nowait(self, value: bytes | bytearray | memoryview, *, group: bytes) -> None:
        """`send`, or `trio.WouldBlock` if it would have to wait."""
        self._send_nowait([checked_group(group), single_frame(value)])

    def checked(self, message: Payload) -> Payload:
        if not isinstance(message, bytes):  # the pattern says what is wrong with one frame, or with three
            checked_group(message[0])
        return message

    def member_count(self, group: bytes | None = None) -> int:
        """Peers that would be sent a message of *group*, ``udp`` destinations among them; None: of any group."""
        return self.pattern.member_count(group)

    @enable_ki_protection
    async def wait_joined(self, group: bytes | None = None, count: int = 1) -> None:
        """Wait until *count* peers would be sent a message of *group*; None: until they have joined any.

        A ``udp`` destination counts from the moment it is connected: who listens there is not known.

        Raises:
            trio.ClosedResourceError: the socket was closed meanwhile.
            AuthenticationError: nothing is bound, and every connected endpoint has refused us for good.
        """
        await self._wait_until(lambda: self.member_count(group) >= count, self._final_refusal)


class Dish(ReceivingSocket):
    """Receives messages of the groups it has joined, from every RADIO, hearing them in turn.

    Over tcp, ipc and inproc nothing is dropped here: when its queue is full it stops reading, and the RADIO drops for
    it. Over ``udp`` the kernel drops then, which is counted where it tells (Linux; ``'overrun'``).

    Iteration gives `GroupMessage`; the calls for several frames give ``[group, body]``.

    Args:
        groups: what to join from the beginning: one group, or an iterable of them.
        bind, connect, options: as on every socket.
    """

    socket_type = "DISH"
    pattern: DishPattern

    def __init__(
        self,
        *,
        bind: Bindable | Iterable[Bindable] | None = None,
        connect: str | Iterable[str] | None = None,
        groups: bytes | Iterable[bytes] = (),
        options: Options | None = None,
    ) -> None:
        super().__init__(bind=bind, connect=connect, options=options)
        self._warned = False
        for group in [groups] if isinstance(groups, bytes) else groups:
            self.join(group)

    def _new_pattern(self, options: Options) -> Pattern:
        return DishPattern()

    @property
    def groups(self) -> tuple[bytes, ...]:
        """The groups it has joined, in the order in which it did."""
        return tuple(self.pattern.groups)

    @enable_ki_protection
    def join(self, group: bytes) -> None:
        """Receive messages of exactly *group*. May be called before entering. Told to every RADIO, now and later.

        Raises:
            StateError: it was joined already.
            TypeError, ValueError: as `Radio.send`.
            trio.ClosedResourceError: the socket was closed.
        """
        self._check_not_closed()
        self.pattern.join(checked_group(group))

    @enable_ki_protection
    def leave(self, group: bytes) -> None:
        """Receive messages of *group* no more; what has arrived of it already is still given out.

        Raises:
            StateError: it was not joined.
            TypeError, ValueError, trio.ClosedResourceError: as `join`.
        """
        self._check_not_closed()
        self.pattern.leave(checked_group(group))

    def _check_not_closed(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError(f"this {type(self).__name__} was closed")

    @enable_ki_protection
    async def receive(self) -> GroupMessage:
        """The next message with its group. If cancelled, none was taken.

        Raises:
            StateError: the socket is not entered yet.
            trio.ClosedResourceError: the socket was closed, before or meanwhile.
        """
        for message in self._ready:
            return GroupMessage._make(message)  # noqa: ASYNC910  # checkpoints are amortised, see DESIGN.md
        return GroupMessage._make(await self._receive())

    @enable_ki_protection
    def receive_nowait(self) -> GroupMessage:
        """`receive`, or `trio.WouldBlock` if there is no message."""
        return GroupMessage._make(self._receive_nowait())

    def __aiter__(self) -> Self:
        self._check_open()
        return self

    async def __anext__(self) -> GroupMessage:
        try:
            return await self.receive()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None

    async def _wait_for(self, take: Callable[[], Any]) -> Any:
        self._check_open()
        if not self._warned and not self.pattern.groups:
            self._warned = True
            warnings.warn(
                "this Dish has joined no group and receives nothing; Dish(groups=b'...') or join(b'...') before",
                RuntimeWarning,
                stacklevel=3,
            )
        return await super()._wait_for(take)
