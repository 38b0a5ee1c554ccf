"""PUB, SUB, XPUB, XSUB (RFC 29): one to many, by subscription."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

from .._message import Payload
from ._distributor import Distributor
from ._face import NO_TURNS, Batch, Dropped, Pattern, PipeFace, Turns
from ._pipeline import Receiving
from ._subscriptions import SubscriptionTable, TopicFilter

SUBSCRIBE, CANCEL = b"\x01", b"\x00"


class Pub(Pattern):
    """A distributor over a table of subscriptions; what else subscribers send is nothing to it.

    Args:
        changed: called after every change of subscriptions.
        encode: the wire bytes of a message, for pipes whose queue holds those.
    """

    turns_need_readers = False

    def __init__(
        self,
        dropped: Dropped,
        changed: Callable[[], None],
        encode: Callable[[Payload], bytes],
        *,
        invert: bool = False,
        block: bool = False,
    ) -> None:
        self.table: SubscriptionTable[PipeFace] = SubscriptionTable()
        self._pipes: dict[PipeFace, None] = {}
        self._changed = changed
        self._invert = invert
        self._block = block
        self._distributor = Distributor(dropped, encode)

    def attached(self, pipe: PipeFace) -> None:
        self._pipes[pipe] = None

    def lost(self, pipe: PipeFace) -> None:
        self._forget_subscriptions(pipe)

    def detached(self, pipe: PipeFace) -> None:
        self._forget_subscriptions(pipe)
        self.table.forget(pipe)
        self._pipes.pop(pipe, None)
        self._changed()

    def _forget_subscriptions(self, pipe: PipeFace) -> None:
        for topic in pipe.subscriptions:
            self.table.discard(topic, pipe)
        pipe.subscriptions.clear()
        pipe.requested.clear()
        self._changed()

    def subscription(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> None:
        self.apply(pipe, topic, subscribe)

    def apply(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> bool:
        """Change the table; True if *topic* became subscribed, or is no more, or was not."""
        if subscribe:
            pipe.subscriptions.add(topic)
            news = self.table.add(topic, pipe)
        else:
            pipe.subscriptions.discard(topic)
            news = self.table.discard(topic, pipe)
        self._changed()
        return news

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Any]:
        for message in messages:
            # ZMTP 3.0 and older: a subscription is a message that begins with 01 or 00.
            if isinstance(message, bytes) and message[:1] in (SUBSCRIBE, CANCEL):
                self.subscription(pipe, message[1:], message[:1] == SUBSCRIBE)
        return []

    def recipients(self, first_frame: bytes) -> tuple[PipeFace, ...]:
        """The pipes that get a message which begins with *first_frame*."""
        matched = self.table.match(first_frame)
        if not self._invert:
            return matched
        excepted = set(matched)
        return tuple(pipe for pipe in self._pipes if pipe not in excepted)

    def subscriber_count(self, topic: bytes | None) -> int:
        """Peers that would be sent a message whose first frame begins with *topic*; None: with any subscription."""
        if topic is None:
            return sum(1 for pipe in self._pipes if pipe.subscriptions and pipe.connection is not None)
        return sum(1 for pipe in self.recipients(topic) if pipe.connection is not None)

    def send(self, message: Payload) -> object | None:
        recipients = self.recipients(message if isinstance(message, bytes) else message[0])
        if self._block and not all([pipe.outbound.has_room() for pipe in recipients]):
            return self
        self._distributor.distribute(message, recipients)
        return None

    def turns(self, quantum: int) -> Turns:
        return NO_TURNS if self._block else repeat(self.publish, quantum)

    def publish(self, message: Payload) -> None:
        """`send` on the hot path, where nobody can block it."""
        if type(message) is bytes and not self._invert:
            self._distributor.distribute_frame(message, self.table.match(message))
        else:
            self.send(message)

    def send_to(self, pipe: PipeFace, message: Payload) -> None:
        """Queue *message* for *pipe* alone, whatever it subscribed to."""
        self._distributor.distribute(message, (pipe,))

    def can_send(self) -> bool:
        return True


class XPub(Pub):
    """A PUB whose program receives the subscriptions, as messages ``01 topic`` and ``00 topic``.

    Args:
        verbose: report every subscription, not only the first of a topic; *verboser*: and every cancellation.
        manual: report everything and apply nothing; the program applies what it likes.
        welcome: a message queued to each new subscriber first.
    """

    def __init__(
        self,
        dropped: Dropped,
        changed: Callable[[], None],
        encode: Callable[[Payload], bytes],
        *,
        invert: bool = False,
        block: bool = False,
        verbose: bool = False,
        verboser: bool = False,
        manual: bool = False,
        welcome: bytes | None = None,
    ) -> None:
        super().__init__(dropped, changed, encode, invert=invert, block=block)
        self._incoming = Receiving()
        self.verbose = verbose
        self.verboser = verboser
        self._manual = manual
        self._welcome = welcome

    def ready(self, pipe: PipeFace) -> None:
        if self._welcome is not None:
            self._distributor.distribute(self._welcome, (pipe,))

    def subscription(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> None:
        pipe.inbound.put_all(self._notices(pipe, topic, subscribe))

    def _notices(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> list[bytes]:
        """What the program is told of it, in libzmq's form whatever the form on the wire."""
        if self._manual:
            (pipe.requested.add if subscribe else pipe.requested.discard)(topic)
            news = True
        else:
            news = self.apply(pipe, topic, subscribe)
        news = news or self.verboser or (subscribe and self.verbose)
        return [(SUBSCRIBE if subscribe else CANCEL) + topic] if news else []

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Any]:
        accepted: list[Any] = []
        for message in messages:
            if isinstance(message, bytes) and message[:1] in (SUBSCRIBE, CANCEL):
                accepted += self._notices(pipe, message[1:], message[:1] == SUBSCRIBE)
            else:
                accepted.append(message)
        return accepted

    def refine(self, pipe: PipeFace, messages: list[Any]) -> list[Any]:
        # Without a wire subscriptions never come as messages; those that look so are our own notices.
        return messages

    def _forget_subscriptions(self, pipe: PipeFace) -> None:
        topics = pipe.requested if self._manual else list(pipe.subscriptions)
        notices = [CANCEL + topic for topic in topics if self._end_is_told(pipe, topic)]
        super()._forget_subscriptions(pipe)
        if notices:
            pipe.inbound.put_all(notices)

    def _end_is_told(self, pipe: PipeFace, topic: bytes) -> bool:
        """End the subscription of *pipe*, which is gone; True if the program hears of it."""
        return self._manual or self.table.discard(topic, pipe) or self.verboser

    def readable(self, pipe: PipeFace) -> None:
        self._incoming.readable(pipe)

    def take(self, limit: int) -> Batch:
        return self._incoming.take(limit)

    def can_receive(self) -> bool:
        return self._incoming.can_receive()


class XSub(Receiving):
    """A fair queue, and subscriptions that are told to every publisher, now and after each reconnect.

    Args:
        filtering: whether what arrives is filtered again (SUB does, XSUB does not).
    """

    def __init__(
        self, dropped: Dropped, encode: Callable[[Payload], bytes], *, filtering: bool = False, invert: bool = False
    ) -> None:
        super().__init__()
        self.topics: TopicFilter = TopicFilter(invert=invert)
        self._filtering = filtering
        self._pipes: dict[PipeFace, None] = {}
        self._distributor = Distributor(dropped, encode)

    def attached(self, pipe: PipeFace) -> None:
        self._pipes[pipe] = None

    def detached(self, pipe: PipeFace) -> None:
        self._pipes.pop(pipe, None)

    def ready(self, pipe: PipeFace) -> None:
        assert pipe.connection is not None
        for topic in self.topics.topics:
            pipe.connection.subscribe(topic, True)

    def subscribe(self, topic: bytes) -> None:
        """One more subscription; each is told to every publisher."""
        self.topics.add(topic)
        self._tell(topic, True)

    def unsubscribe(self, topic: bytes) -> None:
        """One less; the last one is told to every publisher. Unknown topics change nothing, as with libzmq."""
        if self.topics.discard(topic):
            self._tell(topic, False)

    def _tell(self, topic: bytes, subscribe: bool) -> None:
        for pipe in list(self._pipes):
            if pipe.connection is not None:
                pipe.connection.subscribe(topic, subscribe)

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Any]:
        return self.topics.filter(messages) if self._filtering else messages

    def send(self, message: Payload) -> object | None:
        if isinstance(message, bytes) and message[:1] == SUBSCRIBE:
            self.subscribe(message[1:])
        elif isinstance(message, bytes) and message[:1] == CANCEL:
            self.unsubscribe(message[1:])
        else:
            self._distributor.distribute(message, tuple(pipe for pipe in self._pipes if pipe.connection is not None))
        return None

    def can_send(self) -> bool:
        return True
