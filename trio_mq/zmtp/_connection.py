"""The beginning of a connection: greeting and handshake as one state machine, without I/O.

Bytes from the peer go in by `Connection.receive`, events come out of it; bytes for the peer come out of
`data_to_send`. A question to an authenticator is an event, its answer a call. There is no clock: whoever drives the
connection also bounds its time. When the handshake is done the connection steps aside and leaves a `Decoder`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from .._errors import (
    AuthenticationError,
    HandshakeError,
    LocalProtocolError,
    MechanismMismatchError,
    MQError,
    RemoteProtocolError,
    SocketTypeMismatchError,
    StateError,
    VersionMismatchError,
)
from .._message import NO_PROPERTIES
from ._commands import Error, encode_command, is_error, parse_command
from ._events import AuthenticationNeeded, ConnectionEvent, HandshakeDone, PeerInfo
from ._frames import MORE, Decoder, parse_header
from ._greeting import (
    GREETING_SIZE,
    OPENING,
    Dialect,
    encode_answer_2_0,
    encode_rest,
    parse_answer_2_0,
    parse_dialect,
    parse_greeting,
)
from ._mechanisms import Mechanism
from ._mechanisms._abc import Ask, Finish, Meet, Send, Step
from ._metadata import IDENTITY, SOCKET_TYPE, encode_metadata
from ._socket_types import IDENTIFIED, SOCKET_TYPES, accepts, partners, type_with_number

LONGEST_COMMAND: Final = 16 * 1024
"""Bytes one command of a handshake may have. Nothing legal exceeds a few KiB, and nobody is authenticated yet."""

LONGEST_WAIT: Final = 64 * 1024
"""Bytes a peer may send while it is being authenticated. It owes us nothing before our answer."""

ZAP_STATUSES: Final = {
    "300": "try again later",
    "400": "these credentials are not accepted",
    "500": "its authenticator failed",
}
"""Why peers are refused (27/ZAP), and what that means."""


class _State(Enum):
    OPENING = "the greeting"
    GREETING = "the rest of the greeting"
    OLD_IDENTITY = "the ZMTP 2.0 identity"
    HANDSHAKE = "the handshake"
    DECIDING = "authentication"
    DONE = "traffic"
    FAILED = "nothing"


class Connection:
    """Greeting and handshake with one peer.

    After construction and after each `receive`, `authenticated` or `refuse`, also one that raised, send what
    `data_to_send` gives. An error is final: send that, then close.

    Args:
        socket_type: ours.
        identity: ours; told to the peer by REQ, DEALER and ROUTER only.
        properties: further READY properties (``X-…``).
        mechanism: the security mechanism, an instance for this connection alone.
        accepting: whether the peer came to us. Only then is an authenticator asked with NULL.
        authenticate: whether there is an authenticator. ZMTP 2.0 peers, who cannot be asked anything, are then
            refused.
        peer_address: for error texts.
        max_message_size, max_frames: limits of `decoder`. The handshake has its own.

    Raises:
        LocalProtocolError: what we say of ourselves does not fit into a handshake.
    """

    def __init__(
        self,
        socket_type: str,
        *,
        identity: bytes = b"",
        properties: Mapping[str, str] = NO_PROPERTIES,
        mechanism: Mechanism,
        accepting: bool,
        authenticate: bool = False,
        peer_address: str = "",
        max_message_size: int | None = None,
        max_frames: int | None = None,
    ) -> None:
        if socket_type not in SOCKET_TYPES:
            raise LocalProtocolError(f"{socket_type!r} is not a ZMTP socket type")
        self.mechanism = mechanism
        self._socket_type = socket_type
        self._identity = identity if socket_type in IDENTIFIED else b""
        self._metadata = self._introduce(properties)
        self._ask = authenticate and accepting
        self._may_be_old = mechanism.name == "NULL" and not authenticate
        self._who = peer_address or "the peer"
        self._limits = (max_message_size, max_frames)
        self._state = _State.OPENING
        self._version: tuple[int, int] = (3, 1)
        self._user_id: str | None = None
        self._granted: Mapping[str, str] = NO_PROPERTIES
        self._received = bytearray()
        self._to_send = bytearray(OPENING)
        self._peer: PeerInfo | None = None
        self._decoder: Decoder | None = None
        self.error: MQError | None = None
        """What ended the handshake, if something did."""

    def __repr__(self) -> str:
        return f"<Connection {self._socket_type} {self.mechanism.name} with {self._who}: {self.stage}>"

    @property
    def stage(self) -> str:
        """What the connection waits for, in words for an error text: ``"the greeting"``, ``"READY"`` …"""
        return self.mechanism.awaited if self._state is _State.HANDSHAKE else self._state.value

    @property
    def peer(self) -> PeerInfo | None:
        """The peer, once the handshake is done."""
        return self._peer

    @property
    def decoder(self) -> Decoder:
        """What reads the traffic; it was fed what came behind the handshake.

        Raises:
            StateError: the handshake is not done.
        """
        if self._decoder is None:
            raise StateError("there is no traffic before HandshakeDone")
        return self._decoder

    @property
    def legacy_subscriptions(self) -> bool:
        """Whether the peer (below 3.1) knows subscriptions only as messages."""
        return self._version < (3, 1)

    @property
    def groups(self) -> bool:
        """Whether subscriptions are memberships of groups on this connection: JOIN and LEAVE (RADIO and DISH)."""
        return self._socket_type in ("RADIO", "DISH")

    @property
    def has_commands(self) -> bool:
        """Whether the peer knows commands (from 3.0)."""
        return self._version >= (3, 0)

    @property
    def heartbeats(self) -> bool:
        """Whether PING may be sent to the peer: from 3.1, and never to a DISH, which hangs up on one."""
        return self._version >= (3, 1) and (self._peer is None or self._peer.socket_type != "DISH")

    def data_to_send(self) -> bytes:
        """What must go out now; each byte is given once."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def receive(self, data: bytes) -> list[ConnectionEvent]:
        """Go on with what the peer sent.

        Raises:
            VersionMismatchError, MechanismMismatchError, SocketTypeMismatchError: there is no common ground.
            AuthenticationError: the peer refused our credentials.
            HandshakeError: it gave up for another reason, which is in the text.
            RemoteProtocolError: it broke a rule.
            StateError: the handshake is done; traffic belongs to `decoder`.

        After an error or a refusal the peer's bytes are ignored.
        """
        if self._state is _State.DONE:
            raise StateError("the handshake is done; feed connection.decoder")
        if self._state is _State.FAILED:
            return []
        self._received += data
        return self._advance()

    def receive_eof(self) -> HandshakeError:
        """The error that says what it means that the peer closed the connection now, before `HandshakeDone`."""
        error = HandshakeError(f"{self._who} closed the connection {self._explain_eof()}")
        self._fail(error)
        return error

    def authenticated(
        self, user_id: str | None, properties: Mapping[str, str] = NO_PROPERTIES
    ) -> list[ConnectionEvent]:
        """Answer `AuthenticationNeeded`: the peer is welcome, and called *user_id*. Goes on as `receive` does."""
        self._check_deciding()
        self._user_id, self._granted = user_id, properties
        self._state = _State.HANDSHAKE
        return self._advance(self.mechanism.authenticated())

    def refuse(self, status: str = "400") -> None:
        """Answer `AuthenticationNeeded`: no.

        Args:
            status: as ZAP (RFC 27) has it. 400 and 500 are told to the peer; 300, "try again", is said by closing.
        """
        self._check_deciding()
        if status not in ZAP_STATUSES:
            raise ValueError(f"a refusal has one of the statuses {', '.join(sorted(ZAP_STATUSES))}, not {status!r}")
        if status != "300":
            self._to_send += encode_command(Error(status.encode()))
        self._fail(AuthenticationError(f"{self._who} was refused with status {status}", status))

    # The state machine. Each state is a method that takes what it needs from _received and returns whether it did.

    def _advance(self, steps: Iterable[Step] = ()) -> list[ConnectionEvent]:
        events: list[ConnectionEvent] = []
        try:
            self._carry_out(steps, events)
            while self._take_turn(events):
                pass
        except (HandshakeError, RemoteProtocolError) as error:
            self._fail(error)
            raise
        return events

    def _take_turn(self, events: list[ConnectionEvent]) -> bool:
        match self._state:
            case _State.OPENING:
                return self._open()
            case _State.GREETING:
                return self._greet(events)
            case _State.OLD_IDENTITY:
                return self._meet_old(events)
            case _State.HANDSHAKE:
                return self._shake_hands(events)
            case _State.DECIDING if len(self._received) > LONGEST_WAIT:
                raise RemoteProtocolError(f"{self._who} sent more than 64 KiB without waiting for authentication")
        return False

    def _open(self) -> bool:
        dialect = parse_dialect(self._received)
        if dialect is None:
            return False
        if dialect is Dialect.ZMTP_3:
            self._to_send += encode_rest(self.mechanism.name, self.mechanism.as_server)
            self._state = _State.GREETING
            return True
        if not self._may_be_old:
            # 23/ZMTP: a peer that wants security must not fall back to a version without it.
            raise VersionMismatchError(f"{self._who} speaks ZMTP 2.0, which has no security; this socket asks for it")
        self._to_send += encode_answer_2_0(self._socket_type, self._identity)
        self._version, self._state = (2, 0), _State.OLD_IDENTITY
        return True

    def _greet(self, events: list[ConnectionEvent]) -> bool:
        greeting = parse_greeting(self._received)
        if greeting is None:
            return False
        del self._received[:GREETING_SIZE]
        if greeting.mechanism != self.mechanism.name:
            raise MechanismMismatchError(
                f"{self._who} speaks the mechanism {greeting.mechanism!r}, this socket {self.mechanism.name!r}"
            )
        self._version, self._state = greeting.version, _State.HANDSHAKE
        self._carry_out(self.mechanism.start(self._metadata, self._ask), events)
        return True

    def _meet_old(self, events: list[ConnectionEvent]) -> bool:
        answer = parse_answer_2_0(self._received)
        if answer is None:
            return False
        number, identity, used = answer
        del self._received[:used]
        # libzmq does not look at the number. A PUB that talks to a PULL is no better for being old, so we do.
        self._meet(type_with_number(number), identity, NO_PROPERTIES)
        self._finish(events)
        return True

    def _shake_hands(self, events: list[ConnectionEvent]) -> bool:
        body = self._next_command()
        if body is None:
            return False
        if is_error(body):
            raise self._explain_error(body)
        self._carry_out(self.mechanism.receive(body), events)
        return True

    def _next_command(self) -> bytes | None:
        header = parse_header(self._received)
        if header is None:
            return None
        flags, start, size = header
        # The COMMAND flag is not asked for: libzmq does not, and what is not a command will not parse as one.
        if flags & MORE:
            raise RemoteProtocolError(f"{self._who} sent a message where {self.stage} was due")
        if size > LONGEST_COMMAND:
            raise RemoteProtocolError(f"{self._who} announced {size} bytes where {self.stage} was due")
        stop = start + size
        if stop > len(self._received):
            return None
        body = bytes(self._received[start:stop])
        del self._received[:stop]
        return body

    # What the mechanism asks for.

    def _carry_out(self, steps: Iterable[Step], events: list[ConnectionEvent]) -> None:
        for step in steps:
            match step:
                case Send(frame):
                    self._to_send += frame
                case Ask(username, password):
                    self._state = _State.DECIDING
                    events.append(AuthenticationNeeded(self.mechanism.name, username, password))
                case Meet(metadata):
                    self._meet_with_metadata(metadata)
                case Finish():
                    self._finish(events)

    def _meet_with_metadata(self, metadata: Mapping[str, bytes]) -> None:
        socket_type = metadata.get(SOCKET_TYPE, b"").decode("ascii", "backslashreplace")
        others = {
            name: value.decode(errors="replace")
            for name, value in metadata.items()
            if name not in (SOCKET_TYPE, IDENTITY)
        }
        self._meet(socket_type, metadata.get(IDENTITY, b""), others)

    def _meet(self, socket_type: str, identity: bytes, properties: Mapping[str, str]) -> None:
        """Judge the peer by what it says of itself. One that hides its type is taken, as libzmq does."""
        if socket_type and not accepts(self._socket_type, socket_type):
            raise self._mismatch(socket_type)
        if len(identity) > 255:
            raise RemoteProtocolError(f"{self._who} has an Identity of {len(identity)} bytes; 255 are allowed")
        if self._socket_type == "ROUTER" and identity[:1] == b"\0":
            # 28/REQREP: such ids are the ROUTER's own; a peer could take over a nameless one's place.
            raise RemoteProtocolError(f"{self._who} has an Identity that begins with a zero byte: {identity!r}")
        self._peer = PeerInfo(self._version, socket_type, identity, {**properties, **self._granted}, self._user_id)

    def _mismatch(self, socket_type: str) -> SocketTypeMismatchError:
        # 37/ZMTP: "the peer SHALL ... send ERROR" and close. libzmq closes without a word. A 2.0 peer knows no ERROR.
        if self.has_commands:
            self._to_send += encode_command(Error(f"{self._socket_type} does not talk to {socket_type}".encode()[:255]))
        return SocketTypeMismatchError(
            f"{self._who} is a {socket_type}; a {self._socket_type} talks to {' or '.join(partners(self._socket_type))}"
        )

    def _finish(self, events: list[ConnectionEvent]) -> None:
        assert self._peer is not None  # a mechanism meets the peer before it finishes
        self._state = _State.DONE
        self._decoder = self.mechanism.decoder(*self._limits)
        self._decoder.feed(bytes(self._received))
        self._received.clear()
        events.append(HandshakeDone(self._peer))

    # Words.

    def _introduce(self, properties: Mapping[str, str]) -> bytes:
        ours = {SOCKET_TYPE: self._socket_type.encode()}
        if self._socket_type in IDENTIFIED:
            ours[IDENTITY] = self._identity
        metadata = encode_metadata(ours | {name: text.encode() for name, text in properties.items()})
        if len(metadata) > LONGEST_COMMAND - 9:
            raise LocalProtocolError(f"the properties have {len(metadata)} bytes; a handshake takes less than 16 KiB")
        return metadata

    def _explain_error(self, body: bytes) -> HandshakeError:
        command = parse_command(body)
        assert isinstance(command, Error)
        reason = command.reason.decode("ascii", "backslashreplace")
        if reason in ZAP_STATUSES:
            meaning = f"status {reason}: {ZAP_STATUSES[reason]}"
            return AuthenticationError(f"{self._who} refused this socket with {meaning}", reason)
        return HandshakeError(f"{self._who} ended the handshake: {reason or 'it gave no reason'}")

    def _explain_eof(self) -> str:
        match self._state:
            case _State.OPENING if not self._received:
                return "before it sent anything"
            case _State.OPENING | _State.GREETING:
                return (
                    f"during the greeting; libzmq does this when it speaks another mechanism than "
                    f"{self.mechanism.name}, or an old version"
                )
            case _State.HANDSHAKE:
                return (
                    f"when {self.stage} was due; libzmq does this when the socket types do not go together "
                    f"(this one is {self._socket_type}) and when nobody answers its authentication request"
                )
            case _State.DECIDING:
                return "while it was being authenticated"
        return f"when {self.stage} was due"

    def _check_deciding(self) -> None:
        if self._state is not _State.DECIDING:
            raise StateError("nobody asked whether the peer is welcome: there was no AuthenticationNeeded")

    def _fail(self, error: HandshakeError | RemoteProtocolError) -> None:
        self.error = self.error or error  # what comes after the first is its echo
        self._state = _State.FAILED
        self._received.clear()
