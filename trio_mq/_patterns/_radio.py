"""RADIO and DISH (RFC 48): one to many, by group.

A group is matched whole, not by its beginning, and memberships are counted for each peer: who joined twice must leave
twice (unlike subscriptions, which are a set). A message is the group and the body, a list of two; that is also its form
on the wire of tcp and ipc.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final

from .._errors import RemoteProtocolError, StateError
from .._message import Payload, is_group
from ._distributor import Distributor
from ._face import NO_TURNS, Dropped, Pattern, PipeFace, Turns
from ._pipeline import Receiving

EVERY_GROUP: Final = b"\0"
"""What a peer is a member of that gets every message (a destination of datagrams); no group has a zero byte in it."""

NOT_A_RADIO_MESSAGE: Final = "a message of a RADIO has two frames, its group and its body"


class GroupTable:
    """Who is a member of what."""

    def __init__(self) -> None:
        self._members: dict[bytes, Counter[PipeFace]] = {}
        self._all: tuple[PipeFace, ...] = ()
        self._answers: dict[bytes, tuple[PipeFace, ...]] = {}

    def __len__(self) -> int:
        """The number of groups with members."""
        return len(self._members)

    def add(self, group: bytes, member: PipeFace) -> None:
        """*member* joins *group*, or once more."""
        self._members.setdefault(group, Counter())[member] += 1
        self._settle(group)

    def discard(self, group: bytes, member: PipeFace) -> bool:
        """One membership less; True if it was the last one of *member*. Nothing happens if it has none."""
        counts = self._members.get(group)
        if counts is None or member not in counts:
            return False
        counts[member] -= 1
        if counts[member]:
            return False
        self.forget(group, member)
        return True

    def forget(self, group: bytes, member: PipeFace) -> None:
        """*member* is no member of *group* any more, however often it has joined."""
        counts = self._members[group]
        del counts[member]
        if not counts:
            del self._members[group]
        self._settle(group)

    def _settle(self, group: bytes) -> None:
        if group == EVERY_GROUP:
            self._all = tuple(self._members.get(EVERY_GROUP, ()))
            self._answers = {each: self._answer(each) for each in self._members}
        elif group in self._members:
            self._answers[group] = self._answer(group)
        else:
            del self._answers[group]

    def _answer(self, group: bytes) -> tuple[PipeFace, ...]:
        return tuple(dict.fromkeys((*self._members[group], *self._all)))

    def groups(self) -> list[bytes]:
        """Those that have members; `EVERY_GROUP` among them if it has."""
        return list(self._members)

    def members(self, group: bytes) -> tuple[PipeFace, ...]:
        """Everyone who gets the messages of *group*, once each."""
        return self._answers.get(group, self._all)


class Radio(Pattern):
    """A distributor over a table of groups; what else a DISH sends is nothing to it.

    Args:
        changed: called after every change of memberships.
        encode: the wire bytes of a message, for pipes whose queue holds those.
        block: wait for every member to have room instead of dropping for those that have none.
    """

    turns_need_readers = False

    def __init__(
        self,
        dropped: Dropped,
        changed: Callable[[], None],
        encode: Callable[[Payload], bytes],
        *,
        block: bool = False,
    ) -> None:
        self.table: GroupTable = GroupTable()
        self._dropped = dropped
        self._changed = changed
        self._block = block
        self._distributor = Distributor(dropped, encode)

    def lost(self, pipe: PipeFace) -> None:
        self._forget(pipe)

    def detached(self, pipe: PipeFace) -> None:
        self._forget(pipe)

    def _forget(self, pipe: PipeFace) -> None:
        for group in pipe.subscriptions:
            self.table.forget(group, pipe)
        pipe.subscriptions.clear()
        self._changed()

    def subscription(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> None:
        if subscribe:
            pipe.subscriptions.add(topic)
            self.table.add(topic, pipe)
        elif self.table.discard(topic, pipe):
            pipe.subscriptions.discard(topic)
        self._changed()

    def member_count(self, group: bytes | None) -> int:
        """Connected peers that would be sent a message of *group*; None: that are members of any."""
        if group is not None:
            return sum(1 for pipe in self.table.members(group) if pipe.connection is not None)
        members = {pipe for each in self.table.groups() for pipe in self.table.members(each)}
        return sum(1 for pipe in members if pipe.connection is not None)

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Any]:
        self._dropped(pipe, "malformed", len(messages))
        return []

    def send(self, message: Payload) -> object | None:
        members = self.table.members(_group_of(message))
        if self._block and not all([pipe.outbound.has_room() for pipe in members]):
            return self
        self._distributor.distribute(message, members)
        return None

    def turns(self, quantum: int) -> Turns:
        return NO_TURNS if self._block else repeat(self.publish, quantum)

    def publish(self, message: Payload) -> None:
        """`send` on the hot path, where nobody can block it."""
        self._distributor.distribute(message, self.table.members(_group_of(message)))

    def can_send(self) -> bool:
        return True


def _group_of(message: Payload) -> bytes:
    if isinstance(message, bytes) or len(message) != 2:
        raise ValueError(f"{NOT_A_RADIO_MESSAGE}: send(body, group=...) or send_multipart([group, body])")
    return message[0]


class Dish(Receiving):
    """A fair queue, and memberships that are told to every RADIO, now and after each reconnect."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[bytes, None] = {}
        self._pipes: dict[PipeFace, None] = {}

    def attached(self, pipe: PipeFace) -> None:
        self._pipes[pipe] = None

    def detached(self, pipe: PipeFace) -> None:
        self._pipes.pop(pipe, None)

    def ready(self, pipe: PipeFace) -> None:
        assert pipe.connection is not None
        for group in self.groups:
            pipe.connection.subscribe(group, True)

    def join(self, group: bytes) -> None:
        """Receive messages of *group* from now on. Raises `StateError` if they are received already."""
        if group in self.groups:
            raise StateError(f"this Dish is a member of {group!r} already (as with libzmq, one joins once)")
        self.groups[group] = None
        self._tell(group, True)

    def leave(self, group: bytes) -> None:
        """Receive them no more. Raises `StateError` if they are not received."""
        if group not in self.groups:
            raise StateError(f"this Dish is no member of {group!r}")
        del self.groups[group]
        self._tell(group, False)

    def _tell(self, group: bytes, joins: bool) -> None:
        for pipe in list(self._pipes):
            if pipe.connection is not None:
                pipe.connection.subscribe(group, joins)

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Any]:
        # 48/RADIO-DISH: the group is matched again here. Datagrams come to every member, and leaving takes time.
        groups = self.groups
        for place, message in enumerate(messages):
            if isinstance(message, bytes) or len(message) != 2 or not is_group(message[0]):
                # What was whole before is received, wherever the kernel happened to cut the stream.
                pipe.inbound.put_all([good for good in messages[:place] if good[0] in groups])
                raise RemoteProtocolError(f"{NOT_A_RADIO_MESSAGE} (RFC 48)")
        return [message for message in messages if message[0] in groups]
