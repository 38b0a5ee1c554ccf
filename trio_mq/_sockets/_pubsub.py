"""PUB, SUB, XPUB, XSUB (RFC 29)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .._core._address_book import Bindable
from .._core._receiving import FrameReceivingSocket
from .._core._sending import SendingSocket
from .._core._socket import Socket
from .._core._writer import Pace
from .._errors import StateError
from .._message import Payload, Peer, single_frame, whole_message
from .._options import Options
from .._patterns import Pattern, PipeFace
from .._patterns import Pub as PubPattern
from .._patterns import XPub as XPubPattern
from .._patterns import XSub as XSubPattern
from ..zmtp import encode_message


class _Publishing(SendingSocket):
    """What PUB and XPUB have in common."""

    pattern: PubPattern

    def _prepare(self) -> None:
        super()._prepare()
        self._pace = Pace()

    @property
    def encodes(self) -> bool:
        return True

    @property
    def pace(self) -> Pace | None:
        return self._pace

    def subscriber_count(self, topic: bytes | None = None) -> int:
        """Peers that would be sent a message whose first frame begins with *topic*; None: with any subscription."""
        return self.pattern.subscriber_count(topic)

    @property
    def topics_count(self) -> int:
        """Distinct topics that are subscribed to now (ZMQ_TOPICS_COUNT)."""
        return len(self.pattern.table)

    @enable_ki_protection
    async def wait_subscribed(self, topic: bytes | None = None, count: int = 1) -> None:
        """Wait until *count* peers would be sent a message whose first frame begins with *topic*.

        This ends the guess how long a subscriber takes to join. None: until they have any subscription at all.

        Raises:
            trio.ClosedResourceError: the socket was closed meanwhile.
            AuthenticationError: nothing is bound, and every connected endpoint has refused us for good.
        """
        await self._wait_until(lambda: self.subscriber_count(topic) >= count, self._final_refusal)

    def _subscriptions_changed(self) -> None:
        self.went_idle()


class Pub(_Publishing, trio.abc.SendChannel[bytes]):
    """Sends each message to every peer that subscribed to a prefix of its first frame.

    `send` never waits: nobody there means nobody gets it, and a peer whose queue is full (and whose kernel takes no
    more) misses the message, which is counted for it (``'hwm'``). ``Options(overflow="block")`` waits instead. All
    frames of a message arrive or none.
    """

    socket_type = "PUB"

    def _new_pattern(self, options: Options) -> Pattern:
        return PubPattern(
            self.drop,
            self._subscriptions_changed,
            encode_message,
            invert=options.invert_matching,
            block=options.overflow == "block",
        )


class XPub(_Publishing, FrameReceivingSocket, trio.abc.Channel[bytes]):
    """A PUB that also receives: subscriptions as ``01 topic``, cancellations as ``00 topic``, and what subscribers say.

    Only the first subscription and the last cancellation of a topic are told, unless ``xpub_verbose`` or
    ``xpub_verboser`` ask for more. With ``xpub_manual`` they are told and not applied; the program calls `subscribe`
    and `unsubscribe`.
    """

    socket_type = "XPUB"
    pattern: XPubPattern

    def _new_pattern(self, options: Options) -> Pattern:
        return XPubPattern(
            self.drop,
            self._subscriptions_changed,
            encode_message,
            invert=options.invert_matching,
            block=options.overflow == "block",
            verbose=options.xpub_verbose,
            verboser=options.xpub_verboser,
            manual=options.xpub_manual,
            welcome=options.xpub_welcome,
        )

    def _apply(self, options: Options) -> None:
        self.pattern.verbose = options.xpub_verbose
        self.pattern.verboser = options.xpub_verboser
        super()._apply(options)

    @enable_ki_protection
    def subscribe(self, topic: bytes, peer: Peer | None = None) -> None:
        """Subscribe *peer* to *topic* (``xpub_manual``).

        Args:
            topic: what its messages begin with.
            peer: who, from `receive_message`; None: who sent the message that was received last.

        Raises:
            StateError: the socket is not manual, or there is no such peer any more.
        """
        self.pattern.apply(self._manual_pipe(peer), topic, True)

    @enable_ki_protection
    def unsubscribe(self, topic: bytes, peer: Peer | None = None) -> None:
        """End the subscription of *peer* to *topic* (``xpub_manual``). Arguments and errors as `subscribe`."""
        self.pattern.apply(self._manual_pipe(peer), topic, False)

    def _manual_pipe(self, peer: Peer | None) -> PipeFace:
        self._check_open()
        if not self._options.xpub_manual:
            raise StateError("peers subscribe for themselves here; Options(xpub_manual=True) leaves it to the program")
        if peer is not None:
            return self._pipe_of(peer)
        if not self._batch_pipes:
            raise StateError("no message was received yet; say which peer is meant")
        return self._last_pipe()

    def _pipe_of(self, peer: Peer) -> PipeFace:
        for pipe in self._pipes:
            if pipe.peer == peer:
                return pipe
        raise StateError(f"{peer.address or peer.endpoint} is not connected")

    async def send(self, value: bytes | bytearray | memoryview, *, peer: Peer | None = None) -> None:
        """As on PUB. With *peer* the message goes to that one alone, whatever it subscribed to (a last-value cache).

        Raises:
            StateError: there is no such peer any more.
        """
        if peer is None:
            await super().send(value)
        else:
            await self._send_to(peer, single_frame(value))

    async def send_multipart(
        self, frames: Sequence[bytes | bytearray | memoryview], *, peer: Peer | None = None
    ) -> None:
        """As on PUB; *peer* as in `send`."""
        if peer is None:
            await super().send_multipart(frames)
        else:
            await self._send_to(peer, whole_message(frames))

    async def _send_to(self, peer: Peer, message: Payload) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        self.pattern.send_to(self._pipe_of(peer), message)


class _Subscribing(Socket):
    """What SUB and XSUB have in common."""

    pattern: XSubPattern

    def _subscribe(self, topic: bytes, subscribe: bool) -> None:
        if not isinstance(topic, bytes):
            raise TypeError(f"a topic is bytes, not {type(topic).__name__}")
        if self.closed:
            raise trio.ClosedResourceError(f"this {type(self).__name__} was closed")
        if subscribe:
            self.pattern.subscribe(topic)
        else:
            self.pattern.unsubscribe(topic)

    @enable_ki_protection
    def subscribe(self, topic: bytes) -> None:
        """Receive messages whose first frame begins with *topic*; ``b""`` for all. May be called before entering.

        Subscribing twice needs two `unsubscribe`. Publishers are told now and after every reconnect; never dropped.
        """
        self._subscribe(topic, True)

    @enable_ki_protection
    def unsubscribe(self, topic: bytes) -> None:
        """Undo one `subscribe`. Messages on their way may still come on an XSUB. Unknown topics: nothing happens."""
        self._subscribe(topic, False)


class Sub(_Subscribing, FrameReceivingSocket, trio.abc.ReceiveChannel[bytes]):
    """Receives what it subscribed to, from every publisher, hearing them in turn.

    Nothing is dropped here: when its queue is full it stops reading, and the publisher drops for it.

    Args:
        topics: what to subscribe to from the beginning: one topic, or an iterable of them. Default: none, as with
            libzmq; receiving without any warns once.
        bind, connect, options: as on every socket.
    """

    socket_type = "SUB"

    def __init__(
        self,
        *,
        bind: Bindable | Iterable[Bindable] | None = None,
        connect: str | Iterable[str] | None = None,
        topics: bytes | Iterable[bytes] = (),
        options: Options | None = None,
    ) -> None:
        super().__init__(bind=bind, connect=connect, options=options)
        self._warned = False
        for topic in [topics] if isinstance(topics, bytes) else topics:
            self.subscribe(topic)

    def _new_pattern(self, options: Options) -> Pattern:
        return XSubPattern(self.drop, encode_message, filtering=True, invert=options.invert_matching)

    async def _wait_for(self, take: Callable[[], Any]) -> Any:
        self._check_open()
        if not self._warned and not len(self.pattern.topics):
            self._warned = True
            warnings.warn(
                "this Sub has no topic and receives nothing; Sub(topics=b'') or subscribe(b'') is for everything",
                RuntimeWarning,
                stacklevel=3,
            )
        return await super()._wait_for(take)


class XSub(_Subscribing, SendingSocket, FrameReceivingSocket, trio.abc.Channel[bytes]):
    """A SUB that subscribes by sending: ``01 topic`` subscribes, ``00 topic`` cancels, the rest goes to publishers.

    It does not filter again what publishers send.
    """

    socket_type = "XSUB"

    def _new_pattern(self, options: Options) -> Pattern:
        return XSubPattern(self.drop, encode_message, invert=options.invert_matching)
