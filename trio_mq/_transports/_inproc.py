"""inproc: two sockets of one event loop share their mailboxes. No task, no copy, no wire.

What one puts into its outbound mailbox is what the other finds in its inbound one; its mark is the sum of both ends'.
Names belong to the running loop and are shared by every library in it: ``inproc://<package>/<uuid>`` keeps them apart.
Connecting may come before binding, and a connected end waits for the name to be bound again when its peer goes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from .._endpoint import Endpoint
from .._errors import HandshakeError, SocketTypeMismatchError
from .._mailbox import Mailbox, combined_bytes, combined_mark, new_mailbox
from .._message import Peer
from .._options import Options
from ..zmtp import accepts
from ._attachment import Attachment, MessageTransport, Owner, Party


@dataclass(frozen=True)
class InprocAddress:
    """A name in the running loop."""

    name: str

    def __str__(self) -> str:
        return f"inproc://{self.name}"


class _Names:
    """Who is bound and who waits, in one loop."""

    def __init__(self) -> None:
        self.bound: dict[str, Binding] = {}
        self.waiting: dict[str, dict[Connecting, None]] = {}
        self.joints = 0


_names: trio.lowlevel.RunVar[_Names] = trio.lowlevel.RunVar("trio_mq inproc names")


def _names_here() -> _Names:
    try:
        return _names.get()
    except LookupError:
        names = _Names()
        _names.set(names)
        return names


class InprocTransport(MessageTransport):
    """``inproc://name``"""

    schemes = ("inproc",)

    def parse(self, endpoint: Endpoint, *, binding: bool) -> InprocAddress:
        return InprocAddress(endpoint.rest)

    def attach(
        self, address: InprocAddress, make_party: Callable[[], Party], *, binding: bool, owner: Owner
    ) -> Attachment:
        names = _names_here()
        return Binding(names, address, make_party) if binding else Connecting(names, address, make_party())


class Binding(Attachment):
    """A bound name, and the joints with those who connected to it."""

    def __init__(self, names: _Names, address: InprocAddress, make_party: Callable[[], Party]) -> None:
        self.endpoint = str(address)
        self._name = address.name
        if self._name in names.bound:
            raise OSError(errno.EADDRINUSE, f"{self.endpoint} : address already in use (bound in this event loop)")
        self._names = names
        self._make_party = make_party
        self._joints: set[Joint] = set()
        names.bound[self._name] = self
        for connecting in list(names.waiting.pop(self._name, {})):
            self.meet(connecting)

    def meet(self, connecting: Connecting) -> None:
        """Join *connecting* with a party of this end."""
        self._names.joints += 1
        joint = Joint(connecting, self._make_party(), self._joints, self._names.joints)
        self._joints.add(joint)
        joint.begin()

    def close(self) -> None:
        if self._names.bound.get(self._name) is self:
            del self._names.bound[self._name]
        for joint in list(self._joints):
            joint.end(None)


class Connecting(Attachment):
    """A connected end: joined, or waiting for the name to be bound."""

    def __init__(self, names: _Names, address: InprocAddress, party: Party) -> None:
        self.endpoint = str(address)
        self.party = party
        self.joint: Joint | None = None
        self._name = address.name
        self._names = names
        self._closed = False
        self.seek()

    def seek(self) -> None:
        """Join whoever is bound, now or as soon as somebody is."""
        if self._closed:
            return
        binding = self._names.bound.get(self._name)
        if binding is None:
            self._names.waiting.setdefault(self._name, {})[self] = None
        else:
            binding.meet(self)

    def close(self) -> None:
        self._closed = True
        waiting = self._names.waiting.get(self._name, {})
        waiting.pop(self, None)
        if not waiting:
            self._names.waiting.pop(self._name, None)
        if self.joint is not None:
            self.joint.end(None)


class Joint:
    """Two parties and the two mailboxes between them."""

    def __init__(self, connecting: Connecting, host: Party, siblings: set[Joint], number: int) -> None:
        self._connecting = connecting
        self._ends = (connecting.party, host)
        self._siblings = siblings
        self._number = number
        self._over = False
        connecting.joint = self

    def begin(self) -> None:
        """Hand both ends their mailboxes and start the exchange, or tell both why not."""
        guest, host = self._ends
        error = _mismatch(guest.socket_type, host.socket_type)
        if error is not None:
            self._refuse(error)
            return
        unread, unsent = guest.waiting()
        to_host, to_guest = _mailbox(guest.options, host.options), _mailbox(host.options, guest.options)
        guest.join(to_guest, to_host, End(self, host), self._peer(host), host.options)
        host.join(to_host, to_guest, End(self, guest), self._peer(guest), guest.options)
        if unread:
            to_guest.put_all(unread)
        try:
            host.begin()
            guest.begin()
        except HandshakeError as exc:
            self._refuse(exc)
            return
        if unsent:
            to_host.put_all(unsent)
        host.opened()
        guest.opened()

    def _peer(self, other: Party) -> Peer:
        endpoint = self._connecting.endpoint
        # Numbered, since a peer is told from others by its address.
        return Peer(endpoint, f"{endpoint}#{self._number}", other.routing_id, other.socket_type, None, other.properties)

    def _refuse(self, error: HandshakeError) -> None:
        """Neither end tries again: in one process nothing would be different the next time."""
        self._detach()
        for party in self._ends:
            party.failed(error)

    def _detach(self) -> None:
        self._over = True
        self._siblings.discard(self)
        self._connecting.joint = None

    def end(self, error: Exception | None, *, again: bool = True) -> None:
        """Part the ends; each keeps what it has received, and the connecting one looks for the name again."""
        if self._over:
            return
        self._detach()
        guest, host = self._ends
        lost_by_guest, lost_by_host = _unread(host), _unread(guest)
        guest.part(error, lost_by_guest)
        host.part(error, lost_by_host)
        if again:
            self._connecting.seek()


class End:
    """What one party's pipe can ask of the joint; *other* is the party at the far end."""

    def __init__(self, joint: Joint, other: Party) -> None:
        self._joint = joint
        self._other = other

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        self._other.subscription(topic, subscribe)

    def restart(self) -> None:
        self._joint.end(None)

    def looks(self) -> int:
        return 0  # what a peer in the same loop sends is here at once

    def look(self) -> bool:
        return False

    def looked(self, found: bool) -> None:
        pass

    def close(self, error: Exception | None) -> None:
        self._joint.end(error, again=False)


def _unread(party: Party) -> list[Any]:
    """What *party* has not received and never will."""
    return list(party.waiting()[0]) if party.closing else []


def _mismatch(guest: str, host: str) -> SocketTypeMismatchError | None:
    # libzmq does not look; a PUB that talks to a PULL is a mistake in one process, too (decision C11).
    if accepts(host, guest):
        return None
    return SocketTypeMismatchError(f"a {guest} connected to a {host}, and the two do not go together (RFC 28 to 31)")


def _mailbox(sender: Options, receiver: Options) -> Mailbox:
    return new_mailbox(
        combined_mark(sender.send_hwm, receiver.receive_hwm),
        combined_bytes(sender.send_hwm_bytes, receiver.receive_hwm_bytes),
        conflate=sender.conflate or receiver.conflate,
    )
