"""The two ways of publishing: PUB-SUB, and RADIO-DISH where an endpoint is ``udp://``.

An *outlet* publishes and numbers what it publishes, an *intake* receives it. Each is one socket. They know paths, keys
and bytes, and neither message classes nor calls.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import trio

import trio_mq

from ._numbers import Numbering
from ._published import Published, body_of, frames_of, from_body, from_frames, header_of, topic_of
from ._targets import bind_endpoint, connect_endpoints

_MOST_FRAMES = 16
_BURST = 32
"""Messages that are published before others get a turn."""


class Outlet(ABC):
    """Publishes, and numbers what it publishes.

    Attributes:
        socket: to be entered by whoever uses it.
        epoch: which publisher this is, and which life of it.
    """

    socket: trio_mq.Pub | trio_mq.Radio

    def __init__(self) -> None:
        self.epoch: int = secrets.randbits(32)
        self._numbering = Numbering()
        self._burst = _BURST

    async def publish(self, path: bytes, key: bytes, head: bytes | None, payload: bytes) -> None:
        """Publish one message. If cancelled, it was not published, and took no number."""
        self._burst -= 1
        if self._burst <= 0:
            await trio.lowlevel.checkpoint()
            self._burst = _BURST
        while True:
            try:
                return self.publish_nowait(path, key, head, payload)
            except trio.WouldBlock:
                await self.wait_room()

    def publish_nowait(self, path: bytes, key: bytes, head: bytes | None, payload: bytes) -> None:
        """`publish`, or `trio.WouldBlock` where the socket waits for slow subscribers (``overflow="block"``)."""
        topic = topic_of(path, key)
        numbers = self._numbering.upcoming(path, topic)
        self._send_nowait(path, topic, key, header_of(self.epoch, numbers, head), head, payload)
        self._numbering.taken(path, topic, numbers)

    def upcoming(self, path: bytes) -> int:
        """The number of the next message of *path*."""
        return self._numbering.upcoming_of_type(path)

    async def wait_room(self) -> None:
        """Wait until what was published so far has left, which makes room."""
        await self.socket.flush()

    @abstractmethod
    def _send_nowait(
        self, path: bytes, topic: bytes, key: bytes, header: bytes, head: bytes | None, payload: bytes
    ) -> None: ...

    @abstractmethod
    async def wait_subscribed(self, path: bytes, key: bytes, count: int) -> None:
        """Wait until *count* peers would be sent it."""

    @abstractmethod
    def subscriber_count(self, path: bytes, key: bytes) -> int:
        """How many peers would be sent it."""


class PubOutlet(Outlet):
    """Publishes over PUB."""

    socket: trio_mq.Pub

    def __init__(self, socket: trio_mq.Pub) -> None:
        super().__init__()
        self.socket = socket

    def _send_nowait(
        self, path: bytes, topic: bytes, key: bytes, header: bytes, head: bytes | None, payload: bytes
    ) -> None:
        self.socket.send_multipart_nowait(frames_of(topic, header, head, payload))

    async def wait_subscribed(self, path: bytes, key: bytes, count: int) -> None:
        """Wait until *count* peers would be sent it."""
        await self.socket.wait_subscribed(topic_of(path, key), count)

    def subscriber_count(self, path: bytes, key: bytes) -> int:
        """How many peers would be sent it."""
        return self.socket.subscriber_count(topic_of(path, key))


class RadioOutlet(Outlet):
    """Publishes over RADIO. The key is not in the group, so it does not count for who would be sent something."""

    socket: trio_mq.Radio

    def __init__(self, socket: trio_mq.Radio) -> None:
        super().__init__()
        self.socket = socket

    def _send_nowait(
        self, path: bytes, topic: bytes, key: bytes, header: bytes, head: bytes | None, payload: bytes
    ) -> None:
        self.socket.send_nowait(body_of(key, header, head, payload), group=path)

    async def wait_subscribed(self, path: bytes, key: bytes, count: int) -> None:
        """Wait until *count* peers would be sent it."""
        await self.socket.wait_joined(path, count)

    def subscriber_count(self, path: bytes, key: bytes) -> int:
        """How many peers would be sent it."""
        return self.socket.member_count(path)


class SubIntake:
    """Receives over SUB."""

    def __init__(self, socket: trio_mq.Sub) -> None:
        self.socket = socket

    def subscribe(self, path: bytes, key: bytes) -> None:
        """Receive what is published there; with an empty key all of the path."""
        self.socket.subscribe(path if path.endswith(b"/") else topic_of(path, key))

    async def receive(self) -> tuple[Sequence[bytes], trio_mq.Peer]:
        """The next message, to be given to `read`, and who sent it."""
        message = await self.socket.receive_message()
        return message.frames, message.peer

    async def receive_many(self, limit: int) -> list[Any]:
        """Up to *limit* messages that are there, at least one, to be given to `read`."""
        return await self.socket.receive_many(limit)

    def read(self, message: Any) -> Published:
        """What *message* says.

        Raises:
            Breach: nothing by these rules.
        """
        return from_frames((message,) if isinstance(message, bytes) else message)


class DishIntake:
    """Receives over DISH."""

    def __init__(self, socket: trio_mq.Dish) -> None:
        self.socket = socket

    def subscribe(self, path: bytes, key: bytes) -> None:
        """Receive what is published there, whatever the key.

        Raises:
            ValueError: it is no single method or message type; a DISH cannot join all that begin with something.
        """
        if path.endswith(b"/"):
            raise ValueError(f"a DISH joins single methods; those of {path.decode()!r} are not known")
        if path not in self.socket.groups:
            self.socket.join(path)

    async def receive(self) -> tuple[Sequence[bytes], trio_mq.Peer]:
        """The next message, to be given to `read`, and who sent it."""
        message = await self.socket.receive_message()
        return message.frames, message.peer

    async def receive_many(self, limit: int) -> list[Any]:
        """Up to *limit* messages that are there, at least one, to be given to `read`."""
        return await self.socket.receive_many(limit)

    def read(self, message: Any) -> Published:
        """What *message* says.

        Raises:
            Breach: nothing by these rules.
        """
        group, body = message
        return from_body(group, body)


Intake: TypeAlias = "SubIntake | DishIntake"
Target: TypeAlias = "str | Iterable[str]"


def open_outlet(target: Target, *, bind: bool, options: trio_mq.Options | None) -> Outlet:
    """What publishes at *target*; its socket is to be entered. To ``udp://`` one publishes by connecting, always.

    Raises:
        ValueError, TypeError: *target* cannot be meant, or mixes ``udp://`` with others.
    """
    targets, datagrams = _targets(target)
    bound, dialled = _places(targets, bind and not datagrams)
    options = options or feed_options()
    if datagrams:
        return RadioOutlet(trio_mq.Radio(bind=bound, connect=dialled, options=options))
    return PubOutlet(trio_mq.Pub(bind=bound, connect=dialled, options=options))


def open_intake(target: Target, *, bind: bool, options: trio_mq.Options | None) -> Intake:
    """What receives at *target*, without any topics yet; its socket is to be entered. ``udp://`` is bound, always.

    Raises:
        ValueError, TypeError: as `open_outlet`.
    """
    targets, datagrams = _targets(target)
    bound, dialled = _places(targets, bind or datagrams)
    options = options or feed_options()
    if datagrams:
        return DishIntake(trio_mq.Dish(bind=bound, connect=dialled, options=options))
    return SubIntake(trio_mq.Sub(bind=bound, connect=dialled, options=options))


def _targets(target: Target) -> tuple[tuple[str, ...], bool]:
    """The single targets, and whether they are datagrams."""
    targets = (target,) if isinstance(target, str) else tuple(target)
    datagrams = {each.startswith("udp://") for each in targets}
    if len(datagrams) > 1:
        raise ValueError(f"udp:// and other endpoints need publishers and subscribers of their own: {targets}")
    return targets, True in datagrams


def _places(targets: tuple[str, ...], bind: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to bind, and what to connect to."""
    return (tuple(map(bind_endpoint, targets)), ()) if bind else ((), connect_endpoints(targets))


def feed_options() -> trio_mq.Options:
    """How sockets of feeds behave: a publisher that comes back is found within a second."""
    return trio_mq.Options(reconnect_interval_max=1.0, heartbeat_interval=20.0, max_frames=_MOST_FRAMES)
