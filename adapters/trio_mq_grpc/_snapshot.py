"""Snapshots: the state of something from an RPC, and then the events that change it, with no gap and no repeat.

The publisher counts its events, and says with the state which one is the next: its *position*. Whoever comes late
subscribes, asks for the state, drops the events that are contained in it, and goes on with the next one. When an event
is missing, the state is asked for again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import grpc.aio
import trio

from ._numbers import following, is_before
from ._published import path_of

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from ._event_stream import Event
    from ._events import EventSubscriber

M = TypeVar("M", bound="Message")
POSITION_KEY: Final = "trio-mq-grpc-position"
"""The key of the trailing metadata in which a snapshot says its position."""


class Position(NamedTuple):
    """Where the events of one type are.

    Attributes:
        path: the type, ``/package.MessageName``.
        epoch: which publisher, and which life of it.
        upcoming: the number of the next event.
    """

    path: str
    epoch: int
    upcoming: int

    @property
    def metadata(self) -> tuple[tuple[str, str]]:
        """For `context.set_trailing_metadata`, in the handler that returns the state.

        Nothing may be awaited between reading the state and this, or it would not be the state at this position.
        """
        return ((POSITION_KEY, f"{self.path} {self.epoch:08x} {self.upcoming}"),)


def position_in(metadata: Any, path: str) -> Position:
    """The position for *path* in the trailing metadata of a snapshot.

    Raises:
        grpc.aio.UsageError: there is none.
    """
    for key, value in metadata:
        if key == POSITION_KEY:
            said, epoch, upcoming = str(value).split(" ")
            if said == path:
                return Position(path, int(epoch, 16), int(upcoming))
    raise grpc.aio.UsageError(
        f"the snapshot does not say its position: context.set_trailing_metadata(publisher.position(...).metadata)"
        f" for {path}"
    )


Fetch: TypeAlias = Callable[[], Any]
"""Calls the RPC that returns the state: ``lambda: stub.GetBook(request)``."""


class Snapshot(NamedTuple):
    """The state, to be taken in place of all that was known before.

    Attributes:
        state: the response of the RPC.
        position: what it contains.
    """

    state: Any
    position: Position


def follow(subscriber: EventSubscriber, kind: type[M], fetch: Fetch, *, look_again_after: float = 1.0) -> Following[M]:
    """The state, and then the events of *kind* after it: no gap, no repeat.

    ::

        async for item in follow(subscriber, Tick, lambda: stub.GetBook(Empty())):
            match item:
                case Snapshot(state=book): ...      # take it in place of everything before
                case Event(message=tick): ...       # apply it

    First comes a `Snapshot`, then `Event` after `Event`, each with the next number. Where one is missing, and where the
    publisher was started again, a new `Snapshot` comes instead, which contains what was missed.

    Args:
        subscriber: of the one publisher of these events.
        kind: their class.
        fetch: begins a call whose response is the state and whose trailing metadata has `EventPublisher.position`; it
            raises what the call raises.
        look_again_after: seconds without an event after which the state is asked for once more: the last events before
            a silence may have been dropped, and nothing that follows shows it. `math.inf` for not.
    """
    return Following(subscriber, kind, fetch, look_again_after)


class Following(Generic[M]):
    """What `follow` gives. One task iterates over it."""

    def __init__(self, subscriber: EventSubscriber, kind: type[M], fetch: Fetch, look_again_after: float) -> None:
        self._stream = subscriber.events(kind)
        self._path = path_of(kind).decode()
        self._fetch = fetch
        self._look_again_after = look_again_after
        self._position: Position | None = None
        self._unsure = True
        self._held: Event[M] | None = None
        self._in_vain = 0

    def __repr__(self) -> str:
        return f"<Following of {self._path}: {self._position}>"

    async def aclose(self) -> None:
        """Receive no more."""
        await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[Snapshot | Event[M]]:
        return self

    async def __anext__(self) -> Snapshot | Event[M]:
        """The state or the next event. If cancelled, nothing was taken."""
        while True:
            if self._position is None:
                return await self._snapshot()
            if self._held is None:
                self._held = await self._receive()
            event, position = self._held, self._position
            if event is None:
                newer = await self._ask()
                self._unsure = False
                if newer.position != position:
                    return self._taken(newer)
            elif event.epoch == position.epoch and event.sequence == position.upcoming:
                self._held, self._in_vain, self._unsure = None, 0, True
                self._position = position._replace(upcoming=following(event.sequence))
                return event
            elif event.epoch == position.epoch and is_before(event.sequence, position.upcoming):
                self._held = None
            elif self._in_vain and event.epoch != position.epoch:
                self._held, self._in_vain = None, 0  # what was left of an earlier life of the publisher
            else:
                self._position = None

    async def _snapshot(self) -> Snapshot:
        with trio.move_on_after(self._look_again_after):
            # So that as little as possible slips in between. A publisher on multicast may be silent for longer.
            await self._stream.wait_connected()
        if self._held is not None:
            if self._in_vain:
                await trio.sleep(min(1.0, 0.05 * self._in_vain))  # whoever answers is behind the publisher
            self._in_vain += 1
        return self._taken(await self._ask())

    async def _ask(self) -> Snapshot:
        call = self._fetch()
        state = await call
        return Snapshot(state, position_in(await call.trailing_metadata(), self._path))

    def _taken(self, snapshot: Snapshot) -> Snapshot:
        self._position, self._unsure = snapshot.position, True
        return snapshot

    async def _receive(self) -> Event[M] | None:
        """The next event; None when it is time to look again."""
        if not self._unsure:
            return await anext(self._stream)  # it was looked at already, and nothing came since
        with trio.move_on_after(self._look_again_after):
            return await anext(self._stream)
        return None
