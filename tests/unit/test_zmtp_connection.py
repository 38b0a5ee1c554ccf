"""Greeting and handshake: two ends joined by a fake link, one end against recorded and against hostile bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq import zmtp
from trio_mq._errors import (
    AuthenticationError,
    HandshakeError,
    LocalProtocolError,
    MechanismMismatchError,
    RemoteProtocolError,
    SocketTypeMismatchError,
    StateError,
    VersionMismatchError,
)
from trio_mq._message import Payload
from trio_mq.zmtp import (
    SOCKET_TYPES,
    AuthenticationNeeded,
    Connection,
    ConnectionEvent,
    HandshakeDone,
    Mechanism,
    NullMechanism,
    PeerInfo,
    PlainClient,
    PlainServer,
    accepts,
)

GREETING = bytes.fromhex("ff00000000000000007f03014e554c4c") + bytes(48)
GREETING_3_0 = bytes.fromhex("ff00000000000000007f03004e554c4c") + bytes(48)
GREETING_PLAIN = bytes.fromhex("ff00000000000000007f0301504c41494e") + bytes(47)
OPENING_2_0 = bytes.fromhex("ff00000000000000007f01")

# Section 13.2 of the wire reference: the READY of each type with an empty Identity.
READY = {
    "REQ": "04260552454144590b536f636b65742d5479706500000003524551084964656e7469747900000000",
    "REP": "04190552454144590b536f636b65742d5479706500000003524550",
    "DEALER": "04290552454144590b536f636b65742d54797065000000064445414c4552084964656e7469747900000000",
    "ROUTER": "04290552454144590b536f636b65742d5479706500000006524f55544552084964656e7469747900000000",
    "PUB": "04190552454144590b536f636b65742d5479706500000003505542",
    "SUB": "04190552454144590b536f636b65742d5479706500000003535542",
    "XPUB": "041a0552454144590b536f636b65742d547970650000000458505542",
    "XSUB": "041a0552454144590b536f636b65742d547970650000000458535542",
    "PUSH": "041a0552454144590b536f636b65742d547970650000000450555348",
    "PULL": "041a0552454144590b536f636b65742d547970650000000450554c4c",
    "PAIR": "041a0552454144590b536f636b65742d547970650000000450414952",
    "CLIENT": "041c0552454144590b536f636b65742d5479706500000006434c49454e54",
    "SERVER": "041c0552454144590b536f636b65742d5479706500000006534552564552",
    "RADIO": "041b0552454144590b536f636b65742d5479706500000005524144494f",
    "DISH": "041a0552454144590b536f636b65742d547970650000000444495348",
    "SCATTER": "041d0552454144590b536f636b65742d547970650000000753434154544552",
    "GATHER": "041c0552454144590b536f636b65742d5479706500000006474154484552",
    "PEER": "041a0552454144590b536f636b65742d547970650000000450454552",
    "CHANNEL": "041d0552454144590b536f636b65742d54797065000000074348414e4e454c",
}


def null(socket_type: str, *, accepting: bool = False, authenticate: bool = False, identity: bytes = b"") -> Connection:
    return Connection(
        socket_type, identity=identity, mechanism=NullMechanism(), accepting=accepting, authenticate=authenticate
    )


def plain_client(socket_type: str = "DEALER", username: bytes = b"admin", password: bytes = b"secret") -> Connection:
    return Connection(socket_type, mechanism=PlainClient(username, password), accepting=False)


def plain_server(socket_type: str = "ROUTER") -> Connection:
    return Connection(socket_type, mechanism=PlainServer(), accepting=True, authenticate=True)


Judge = Callable[[Connection, AuthenticationNeeded], list[ConnectionEvent]]


def welcome(connection: Connection, question: AuthenticationNeeded) -> list[ConnectionEvent]:
    return connection.authenticated(question.username or "anonymous")


def feed(connection: Connection, pieces: Iterable[bytes], judge: Judge = welcome) -> list[ConnectionEvent]:
    """All events from *pieces*; questions are answered at once, and traffic goes to the decoder."""
    found: list[ConnectionEvent] = []
    for piece in pieces:
        if connection.peer is not None:
            connection.decoder.feed(piece)
            continue
        events = connection.receive(piece)
        while events:
            event = events.pop(0)
            found.append(event)
            if isinstance(event, AuthenticationNeeded):
                events += judge(connection, event)
    return found


def join(one: Connection, other: Connection) -> tuple[list[ConnectionEvent], list[ConnectionEvent], list[bytes]]:
    """Both handshakes over a fake link: the events of each, and all that each sent."""
    events: dict[Connection, list[ConnectionEvent]] = {one: [], other: []}
    sent = {one: b"", other: b""}
    while any(data := {end: end.data_to_send() for end in (one, other)}.values()):
        for end, peer, piece in zip((one, other), (other, one), data, strict=True):
            sent[end] += piece
            events[peer] += feed(peer, [piece] if piece else [])
    return events[one], events[other], [sent[one], sent[other]]


def peer_of(events: list[ConnectionEvent]) -> PeerInfo:
    assert isinstance(events[-1], HandshakeDone)
    return events[-1].peer


# --- both ends are ours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair", [p for p in itertools.product(sorted(SOCKET_TYPES), repeat=2) if accepts(*p)], ids="-".join
)
def test_every_compatible_pair_shakes_hands(pair: tuple[str, str]) -> None:
    ours, theirs = pair
    connecting, accepting, _ = join(null(ours), null(theirs, accepting=True))
    assert peer_of(connecting) == PeerInfo((3, 1), theirs)
    assert peer_of(accepting) == PeerInfo((3, 1), ours)


@pytest.mark.parametrize(
    "pair", [("PUB", "PULL"), ("REQ", "REQ"), ("REP", "ROUTER"), ("PAIR", "DEALER"), ("SUB", "XSUB")]
)
def test_an_incompatible_pair_is_refused_by_both_with_an_error_command(pair: tuple[str, str]) -> None:
    one, other = null(pair[0]), null(pair[1], accepting=True)
    for end in (one, other):
        greeting = end.data_to_send()
        assert feed(end, [GREETING]) == []
        assert (greeting + end.data_to_send()).startswith(GREETING)
    for end, peer_type in ((one, pair[1]), (other, pair[0])):
        with pytest.raises(SocketTypeMismatchError, match=peer_type):
            end.receive(bytes.fromhex(READY[peer_type]))
        assert b"\x05ERROR" in end.data_to_send()
        assert isinstance(end.error, SocketTypeMismatchError)


def test_the_error_for_a_wrong_type_reaches_the_peer_as_a_reason() -> None:
    server, client = plain_server("PULL"), plain_client("SUB")
    with pytest.raises(SocketTypeMismatchError):
        join(client, server)
    with pytest.raises(HandshakeError, match="PULL does not talk to SUB") as caught:
        client.receive(server.data_to_send())
    assert not isinstance(caught.value, AuthenticationError)  # or the client would never try again


def test_identity_and_properties_reach_the_peer() -> None:
    dealer = Connection(
        "DEALER", identity=b"me", properties={"X-Colour": "blue"}, mechanism=NullMechanism(), accepting=False
    )
    _, accepting, _ = join(dealer, null("ROUTER", accepting=True))
    peer = peer_of(accepting)
    assert peer.identity == b"me"
    assert peer.properties == {"X-Colour": "blue"}


def test_only_req_dealer_and_router_tell_their_identity() -> None:
    for socket_type in SOCKET_TYPES:
        connection = null(socket_type, identity=b"me")
        connection.data_to_send()
        connection.receive(GREETING)
        assert (b"\x08Identity" in connection.data_to_send()) == (socket_type in {"REQ", "DEALER", "ROUTER"})


def test_plain_carries_the_question_to_the_authenticator_and_its_answer_to_the_peer_info() -> None:
    def judge(connection: Connection, question: AuthenticationNeeded) -> list[ConnectionEvent]:
        return connection.authenticated("user 7", {"X-Role": "admin"})

    client, server = plain_client(), plain_server()
    events = feed(server, [GREETING_PLAIN, bytes.fromhex("04130548454c4c4f0561646d696e06736563726574")], judge)
    assert events == [AuthenticationNeeded("PLAIN", "admin", "secret")]
    initiate = bytes.fromhex(
        "042c08494e4954494154450b536f636b65742d54797065000000064445414c4552084964656e7469747900000000"
    )
    peer = peer_of(server.receive(initiate))
    assert (peer.user_id, peer.properties, peer.socket_type) == ("user 7", {"X-Role": "admin"}, "DEALER")
    connecting, _, _ = join(client, plain_server())
    assert peer_of(connecting).user_id is None


def test_what_the_authenticator_says_wins_over_what_the_peer_says() -> None:
    client = Connection("DEALER", properties={"X-Role": "king"}, mechanism=PlainClient(b"a", b"b"), accepting=False)
    server = plain_server()
    server.receive(GREETING_PLAIN)
    client.receive(GREETING_PLAIN)
    server.receive(client.data_to_send()[64:])
    server.authenticated("a", {"X-Role": "guest"})
    client.receive(server.data_to_send()[64:])
    [done] = server.receive(client.data_to_send())
    assert isinstance(done, HandshakeDone)
    assert done.peer.properties == {"X-Role": "guest"}


# --- the specified conversations, byte for byte ------------------------------------------------------------------


@pytest.mark.parametrize(("socket_type", "ready"), READY.items())
def test_the_ready_of_each_type_is_that_of_the_specification(socket_type: str, ready: str) -> None:
    connection = null(socket_type)
    assert connection.data_to_send() == GREETING[:11]
    assert connection.receive(GREETING) == []
    assert connection.data_to_send() == GREETING[11:] + bytes.fromhex(ready)


def test_the_null_conversation_of_the_specification() -> None:
    dealer, router = null("DEALER"), null("ROUTER", accepting=True)
    _, _, (from_dealer, from_router) = join(dealer, router)
    assert from_dealer == GREETING + bytes.fromhex(READY["DEALER"])
    assert from_router == GREETING + bytes.fromhex(READY["ROUTER"])


def test_the_plain_conversation_of_the_specification() -> None:
    client, server = plain_client(), plain_server()
    _, _, (from_client, from_server) = join(client, server)
    assert from_client[:64] == GREETING_PLAIN
    assert from_client[64:].hex() == (
        "04130548454c4c4f0561646d696e06736563726574"
        "042c08494e4954494154450b536f636b65742d54797065000000064445414c4552084964656e7469747900000000"
    )
    assert from_server[:64] == GREETING_PLAIN[:32] + b"\1" + bytes(31)  # as-server, which RFC 24 asks for
    assert from_server[64:].hex() == "04080757454c434f4d45" + READY["ROUTER"]


def test_11_bytes_go_out_at_once_and_the_rest_when_the_version_is_known() -> None:
    connection = null("REQ")
    assert connection.data_to_send() == GREETING[:11]
    connection.receive(GREETING[:10])
    assert connection.data_to_send() == b""
    connection.receive(GREETING[10:11])
    assert connection.data_to_send() == GREETING[11:]
    assert connection.data_to_send() == b""


# --- every split of the stream gives the same events -------------------------------------------------------------

Outcome = tuple[list[ConnectionEvent], bytes, list[Payload]]


def outcome(connection: Connection, pieces: Iterable[bytes]) -> Outcome:
    """Events, all bytes sent, and the traffic."""
    events, sent, out = list[ConnectionEvent](), b"", list[Payload]()
    for piece in pieces:
        events += feed(connection, [piece])
        sent += connection.data_to_send()
        if connection.peer is not None:
            assert connection.decoder.decode(100, out) is None
    return events, sent, out


CONVERSATIONS: dict[str, tuple[Callable[[], Connection], bytes]] = {
    "null": (lambda: null("ROUTER"), GREETING + bytes.fromhex(READY["DEALER"]) + b"\x00\x05Hello"),
    "null, authenticated": (
        lambda: null("ROUTER", accepting=True, authenticate=True),
        GREETING + bytes.fromhex(READY["DEALER"]) + b"\x00\x05Hello",
    ),
    "3.0": (lambda: null("PUB"), GREETING_3_0 + bytes.fromhex(READY["SUB"]) + b"\x00\x02\x01A"),
    "2.0": (lambda: null("ROUTER"), OPENING_2_0 + bytes.fromhex("05 00 02 6d65 01 01 78 00 01 79")),
    "plain server": (
        plain_server,
        GREETING_PLAIN
        + bytes.fromhex("04130548454c4c4f0561646d696e06736563726574")
        + bytes.fromhex("042c08494e4954494154450b536f636b65742d54797065000000064445414c4552084964656e7469747900000000")
        + b"\x00\x05Hello",
    ),
    "plain client": (
        plain_client,
        GREETING_PLAIN + bytes.fromhex("04080757454c434f4d45" + READY["ROUTER"]) + b"\x00\x05Hello",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_split_of_a_conversation_gives_the_same_events(name: str) -> None:
    make, stream = CONVERSATIONS[name]
    whole = outcome(make(), [stream])
    assert isinstance(whole[0][-1], HandshakeDone)
    assert len(whole[2]) == 1
    for cut in range(1, len(stream)):
        assert outcome(make(), [stream[:cut], stream[cut:]]) == whole
    assert outcome(make(), (stream[i : i + 1] for i in range(len(stream)))) == whole


# --- versions ----------------------------------------------------------------------------------------------------


def test_a_3_0_peer_has_commands_but_wants_legacy_subscriptions_and_no_pings() -> None:
    connection = null("PUB")
    [done] = connection.receive(GREETING_3_0 + bytes.fromhex(READY["SUB"]))
    assert isinstance(done, HandshakeDone)
    assert done.peer.version == (3, 0)
    assert connection.legacy_subscriptions
    assert connection.has_commands
    assert not connection.heartbeats


def test_a_3_1_peer_has_everything() -> None:
    connection = null("PUB")
    connection.receive(GREETING + bytes.fromhex(READY["SUB"]))
    assert not connection.legacy_subscriptions
    assert connection.has_commands
    assert connection.heartbeats


def test_a_dish_is_not_pinged() -> None:
    connection = null("RADIO")
    connection.receive(GREETING + bytes.fromhex(READY["DISH"]))
    assert not connection.heartbeats


def test_a_2_0_peer_is_answered_in_2_0() -> None:
    connection = null("ROUTER", identity=b"srv")
    sent = connection.data_to_send()
    [done] = connection.receive(OPENING_2_0 + bytes.fromhex("05 00 02 6d65 01 01 78 00 01 79"))
    sent += connection.data_to_send()
    assert sent == bytes.fromhex("ff00000000000000007f 03 06 00 03 737276")
    assert isinstance(done, HandshakeDone)
    assert done.peer == PeerInfo((2, 0), "DEALER", b"me")
    assert connection.legacy_subscriptions
    assert not connection.has_commands
    assert not connection.heartbeats
    out: list[Payload] = []
    connection.decoder.decode(9, out)
    assert out == [[b"x", b"y"]]


def test_a_2_0_peer_of_a_type_without_identity_gets_an_empty_one() -> None:
    connection = null("PUSH", identity=b"srv")
    connection.data_to_send()
    connection.receive(OPENING_2_0)
    assert connection.data_to_send() == bytes.fromhex("08 0000")


def test_a_2_0_peer_of_a_wrong_type_is_refused_and_of_an_unknown_one_taken() -> None:
    connection = null("PUSH")
    connection.data_to_send()
    with pytest.raises(SocketTypeMismatchError, match="SUB"):
        connection.receive(OPENING_2_0 + b"\x02\x00\x00")
    assert connection.data_to_send() == b"\x08\x00\x00"  # no ERROR: 2.0 has no commands
    [done] = null("PUSH").receive(OPENING_2_0 + b"\x63\x00\x00")
    assert isinstance(done, HandshakeDone)
    assert done.peer.socket_type == ""


@pytest.mark.parametrize(
    "connection",
    [
        plain_client(),
        plain_server(),
        null("ROUTER", accepting=True, authenticate=True),
        null("DEALER", authenticate=True),
    ],
    ids=["plain client", "plain server", "authenticating listener", "authenticating connecter"],
)
def test_nobody_escapes_security_by_speaking_2_0(connection: Connection) -> None:
    connection.data_to_send()
    with pytest.raises(VersionMismatchError, match="no security"):
        connection.receive(OPENING_2_0)
    assert connection.data_to_send() == b""


def test_a_type_that_2_0_does_not_know_refuses_it() -> None:
    with pytest.raises(VersionMismatchError, match="CHANNEL"):
        null("CHANNEL").receive(OPENING_2_0)


@pytest.mark.parametrize("answer", [b"\x05\x01\x00", b"\x05\x04\x00", b"\x05\x02" + (256).to_bytes(8, "big")])
def test_a_2_0_peer_begins_with_one_short_frame(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        null("ROUTER").receive(OPENING_2_0 + answer)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\x03\x00me", b"\xff" + bytes(9), OPENING_2_0[:10] + b"\0"]
)
def test_older_peers_and_strangers_are_refused(first: bytes) -> None:
    with pytest.raises(VersionMismatchError):
        null("ROUTER").receive(first)


# --- mechanisms --------------------------------------------------------------------------------------------------


def test_another_mechanism_is_refused_by_both_names() -> None:
    with pytest.raises(MechanismMismatchError, match=r"'PLAIN'.*'NULL'"):
        null("ROUTER").receive(GREETING_PLAIN)
    with pytest.raises(MechanismMismatchError, match=r"'NULL'.*'PLAIN'"):
        plain_client().receive(GREETING)


@pytest.mark.parametrize("as_server", [0, 1, 7])
def test_the_role_a_peer_claims_is_not_looked_at(as_server: int) -> None:
    connection = null("PULL")
    greeting = GREETING[:32] + bytes((as_server,)) + bytes(31)
    assert connection.receive(greeting + bytes.fromhex(READY["PUSH"]))


def test_null_asks_about_accepted_peers_only() -> None:
    assert null("PULL", accepting=True, authenticate=True).receive(GREETING) == [AuthenticationNeeded("NULL")]
    assert null("PULL", accepting=False, authenticate=True).receive(GREETING) == []
    assert null("PULL", accepting=True, authenticate=False).receive(GREETING) == []


def test_null_holds_its_ready_back_until_the_peer_is_authenticated() -> None:
    connection = null("PULL", accepting=True, authenticate=True)
    connection.receive(GREETING + bytes.fromhex(READY["PUSH"]))
    assert connection.data_to_send() == GREETING
    [done] = connection.authenticated("somebody")
    assert connection.data_to_send() == bytes.fromhex(READY["PULL"])
    assert isinstance(done, HandshakeDone)
    assert done.peer.user_id == "somebody"


def test_two_plain_clients_and_two_plain_servers_get_nowhere() -> None:
    one, other = plain_client("DEALER"), plain_client("DEALER")
    with pytest.raises(RemoteProtocolError, match="WELCOME"):
        join(one, other)
    events, others, _ = join(plain_server(), plain_server())
    assert events == others == []


def test_nobody_gets_past_plain_without_its_hello() -> None:
    initiate = zmtp.encode_command(zmtp.Initiate({"Socket-Type": b"DEALER"}))
    with pytest.raises(RemoteProtocolError, match="HELLO was due"):
        plain_server().receive(GREETING_PLAIN + initiate)


def test_a_plain_client_takes_no_ready_before_its_welcome() -> None:
    with pytest.raises(RemoteProtocolError, match="WELCOME was due"):
        plain_client().receive(GREETING_PLAIN + bytes.fromhex(READY["ROUTER"]))


def test_nothing_the_peer_sends_answers_the_question_about_it() -> None:
    server = plain_server()
    hello = zmtp.encode_command(zmtp.Hello(b"admin", b"guess"))
    initiate = zmtp.encode_command(zmtp.Initiate({"Socket-Type": b"DEALER"}))
    assert server.receive(GREETING_PLAIN + hello + initiate) == [AuthenticationNeeded("PLAIN", "admin", "guess")]
    server.data_to_send()
    assert server.receive(initiate) == []
    assert server.data_to_send() == b""
    assert server.peer is None


def test_no_password_shows_in_an_error_a_repr_or_an_event() -> None:
    hello = bytes.fromhex("04130548454c4c4f0561646d696e06736563726574")
    server = plain_server()
    events = server.receive(GREETING_PLAIN + hello)
    server.authenticated("admin")
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(hello)
    assert "secret" not in f"{caught.value} {events} {server!r} {plain_client()!r}"


def test_credentials_that_are_not_utf_8_reach_the_authenticator() -> None:
    [question] = plain_server().receive(GREETING_PLAIN + zmtp.encode_command(zmtp.Hello(b"\xff", b"\xfe")))
    assert isinstance(question, AuthenticationNeeded)
    assert question.username
    assert question.password


# --- the authenticator's answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [plain_server, lambda: null("ROUTER", accepting=True, authenticate=True)])
@pytest.mark.parametrize(
    ("status", "told"), [("400", "040a054552524f5203343030"), ("500", "040a054552524f5203353030"), ("300", "")]
)
def test_a_refusal_is_told_unless_it_is_temporary(make: Callable[[], Connection], status: str, told: str) -> None:
    connection = make()
    greeting = GREETING_PLAIN + zmtp.encode_command(zmtp.Hello(b"a", b"b")) if "PLAIN" in repr(connection) else GREETING
    connection.receive(greeting)
    connection.data_to_send()
    connection.refuse(status)
    assert connection.data_to_send().hex() == told
    assert isinstance(connection.error, AuthenticationError)
    assert connection.error.status == status
    assert connection.receive(b"anything") == []
    assert connection.data_to_send() == b""


def test_an_answer_without_a_question_is_a_state_error() -> None:
    for connection in (null("PULL"), plain_server()):
        with pytest.raises(StateError):
            connection.authenticated("somebody")
        with pytest.raises(StateError):
            connection.refuse()


def test_a_refusal_has_a_status_of_zap() -> None:
    connection = null("PULL", accepting=True, authenticate=True)
    connection.receive(GREETING)
    with pytest.raises(ValueError, match="300, 400, 500"):
        connection.refuse("200")
    connection.refuse()


def test_what_comes_during_authentication_waits_its_turn_in_bounded_memory() -> None:
    connection = null("PULL", accepting=True, authenticate=True)
    ready = bytes.fromhex(READY["PUSH"])
    assert len(connection.receive(GREETING)) == 1
    assert connection.receive(ready + bytes(64 * 1024 - len(ready))) == []
    with pytest.raises(RemoteProtocolError, match="64 KiB"):
        connection.receive(b"\0")


@pytest.mark.parametrize("status", ["300", "400", "500"])
@pytest.mark.parametrize("name", ["05 4552524f52", "5e 52524f52"], ids=["ERROR", "misspelt"])
@pytest.mark.parametrize("client", ["NULL", "PLAIN"])
def test_an_error_with_a_zap_status_is_an_authentication_error(client: str, name: str, status: str) -> None:
    connection = null("DEALER") if client == "NULL" else plain_client()
    connection.receive(GREETING if client == "NULL" else GREETING_PLAIN)
    body = bytes.fromhex(name) + b"\3" + status.encode()
    with pytest.raises(AuthenticationError) as caught:
        connection.receive(bytes((4, len(body))) + body)
    assert caught.value.status == status


@pytest.mark.parametrize("reason", [b"", b"Go away", b"401", b"\xff"])
def test_an_error_with_another_reason_is_not_final(reason: bytes) -> None:
    connection = null("DEALER")
    connection.receive(GREETING)
    with pytest.raises(HandshakeError) as caught:
        connection.receive(zmtp.encode_command(zmtp.Error(reason)))
    assert type(caught.value) is HandshakeError


# --- rules the peer may break ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        b"\x00\x05Hello",
        b"\x01\x05Hello",
        b"\x04\x00",
        b"\x04\x05\x04PONG",
        zmtp.encode_command(zmtp.Welcome()),
        zmtp.encode_command(zmtp.Error(b"400"))[:-1] + b"40",
        b"\x04\x08\x05READYab",
        b"\x05" + bytes.fromhex(READY["PUSH"])[1:],
    ],
)
def test_whatever_is_not_the_awaited_command_ends_the_handshake(wire: bytes) -> None:
    connection = null("PULL")
    connection.receive(GREETING)
    with pytest.raises((RemoteProtocolError, HandshakeError)) as caught:
        connection.receive(wire)
    assert connection.error is caught.value
    assert connection.receive(bytes.fromhex(READY["PUSH"])) == []


def test_a_handshake_command_without_its_flag_is_taken_as_libzmq_takes_it() -> None:
    connection = null("PULL")
    assert connection.receive(GREETING + b"\0" + bytes.fromhex(READY["PUSH"])[1:])


def test_a_peer_that_hides_its_type_is_taken_as_libzmq_takes_it() -> None:
    [done] = null("PULL").receive(GREETING + zmtp.encode_command(zmtp.Ready({})))
    assert isinstance(done, HandshakeDone)
    assert done.peer.socket_type == ""


def test_a_type_nobody_knows_is_refused() -> None:
    with pytest.raises(SocketTypeMismatchError):
        null("PULL").receive(GREETING + zmtp.encode_command(zmtp.Ready({"Socket-Type": b"\xff" * 300})))


@pytest.mark.parametrize("size", [16 * 1024 + 1, 2**62])
def test_a_handshake_command_is_bounded_by_its_header(size: int) -> None:
    connection = null("PULL")
    connection.receive(GREETING)
    with pytest.raises(RemoteProtocolError, match="announced"):
        connection.receive(b"\x06" + size.to_bytes(8, "big"))


def test_the_limits_of_traffic_do_not_bind_the_handshake_and_the_other_way_round() -> None:
    connection = Connection("PULL", mechanism=NullMechanism(), accepting=True, max_message_size=5, max_frames=1)
    assert connection.receive(GREETING + bytes.fromhex(READY["PUSH"]) + b"\x00\x05Hello" + b"\x00\x06")
    out: list[Payload] = []
    with pytest.raises(RemoteProtocolError, match="longer"):
        connection.decoder.decode(9, out)
    assert out == [b"Hello"]
    connection = null("PULL")
    body = bytes(1024 * 1024)
    connection.receive(GREETING + bytes.fromhex(READY["PUSH"]) + zmtp.encode_message(body))
    out.clear()
    connection.decoder.decode(9, out)
    assert out == [body]


def test_a_router_refuses_an_identity_of_its_own_making() -> None:
    ready = zmtp.encode_command(zmtp.Ready({"Socket-Type": b"DEALER", "Identity": b"\0abcd"}))
    with pytest.raises(RemoteProtocolError, match="zero byte"):
        null("ROUTER").receive(GREETING + ready)
    with pytest.raises(RemoteProtocolError, match="zero byte"):
        null("ROUTER").receive(OPENING_2_0 + bytes.fromhex("05 00 02 0061"))
    assert null("DEALER").receive(GREETING + ready)


def test_an_identity_has_at_most_255_bytes() -> None:
    for size in (255, 256):
        connection = null("ROUTER")
        ready = zmtp.encode_command(zmtp.Ready({"Socket-Type": b"DEALER", "Identity": b"x" * size}))
        if size == 255:
            assert connection.receive(GREETING + ready)
        else:
            with pytest.raises(RemoteProtocolError, match="255"):
                connection.receive(GREETING + ready)


def test_properties_that_are_not_text_do_not_end_the_handshake() -> None:
    ready = zmtp.encode_command(zmtp.Ready({"socket-type": b"PUSH", "X-Raw": b"\xff", "Resource": b"/a"}))
    [done] = null("PULL").receive(GREETING + ready)
    assert isinstance(done, HandshakeDone)
    assert done.peer.socket_type == "PUSH"
    assert done.peer.properties == {"X-Raw": "\ufffd", "Resource": "/a"}


# --- what we may not do ------------------------------------------------------------------------------------------


def test_a_socket_type_without_a_handshake_is_refused_here() -> None:
    with pytest.raises(LocalProtocolError, match="STREAM"):
        null("STREAM")


def test_properties_must_fit_into_a_handshake() -> None:
    with pytest.raises(LocalProtocolError, match="16 KiB"):
        Connection("PULL", properties={"X-Long": "x" * 20_000}, mechanism=NullMechanism(), accepting=False)


def test_credentials_must_fit_into_a_hello() -> None:
    with pytest.raises(LocalProtocolError, match="255"):
        PlainClient(b"x" * 256, b"y")


def test_traffic_belongs_to_the_decoder() -> None:
    connection = null("PULL")
    with pytest.raises(StateError):
        _ = connection.decoder
    connection.receive(GREETING + bytes.fromhex(READY["PUSH"]))
    with pytest.raises(StateError):
        connection.receive(b"\0\0")


def test_a_mechanism_may_wrap_traffic() -> None:
    class Loud(NullMechanism):
        wraps_traffic = True

        def decoder(self, max_message_size: int | None, max_frames: int | None) -> zmtp.Decoder:
            return LoudDecoder(max_message_size, max_frames)

    class LoudDecoder(zmtp.Decoder):
        def feed(self, data: bytes) -> None:
            super().feed(data.upper())

    mechanism: Mechanism = Loud()
    connection = Connection("PULL", mechanism=mechanism, accepting=True)
    connection.receive(GREETING + bytes.fromhex(READY["PUSH"]) + b"\x00\x05Hello")
    out: list[Payload] = []
    connection.decoder.decode(9, out)
    assert out == [b"HELLO"]
    assert mechanism.encode([b"a"]) == b"\x00\x01a"
    assert connection.mechanism.wraps_traffic


# --- the end of the stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "heard", "said"),
    [
        (lambda: null("PULL"), b"", "before it sent anything"),
        (lambda: null("PULL"), GREETING[:10], "during the greeting"),
        (lambda: null("PULL"), GREETING[:20], "another mechanism than NULL"),
        (lambda: null("PULL"), GREETING, "READY was due"),
        (lambda: null("PULL"), GREETING, "this one is PULL"),
        (plain_client, GREETING_PLAIN, "WELCOME was due"),
        (plain_server, GREETING_PLAIN, "HELLO was due"),
        (lambda: null("PULL", accepting=True, authenticate=True), GREETING, "while it was being authenticated"),
        (lambda: null("PULL"), OPENING_2_0, "2.0 identity"),
    ],
)
def test_the_end_of_the_stream_says_at_which_stage_the_peer_left(
    make: Callable[[], Connection], heard: bytes, said: str
) -> None:
    connection = make()
    connection.receive(heard)
    error = connection.receive_eof()
    assert type(error) is HandshakeError
    assert said in str(error)
    assert connection.error is error


def test_the_texts_name_the_peer() -> None:
    connection = Connection("PULL", mechanism=NullMechanism(), accepting=True, peer_address="tcp://127.0.0.1:4711")
    assert "tcp://127.0.0.1:4711" in str(connection.receive_eof())
    assert "tcp://127.0.0.1:4711" in repr(connection)


# --- any bytes at all --------------------------------------------------------------------------------------------

MAKERS = [make for make, _ in CONVERSATIONS.values()]
STREAMS = [stream for _, stream in CONVERSATIONS.values()]


@given(st.sampled_from(MAKERS), st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(STREAMS)), max_size=6))
def test_any_bytes_give_events_or_an_error_of_the_tree(make: Callable[[], Connection], pieces: list[bytes]) -> None:
    connection, raised = make(), None
    try:
        feed(connection, pieces)
    except (RemoteProtocolError, HandshakeError) as error:
        raised = error
    assert connection.error is raised


@given(st.sampled_from(list(CONVERSATIONS)), st.integers(0, 200), st.integers(0, 255), st.integers(0, 200))
def test_one_wrong_byte_gives_events_or_an_error_and_the_same_for_every_cut(
    name: str, position: int, value: int, cut: int
) -> None:
    make, stream = CONVERSATIONS[name]
    position, cut = position % len(stream), cut % len(stream)
    stream = stream[:position] + bytes((value,)) + stream[position + 1 :]

    def result(*pieces: bytes) -> object:
        connection, events = make(), list[ConnectionEvent]()
        try:
            for piece in pieces:
                events += feed(connection, [piece])
        except (RemoteProtocolError, HandshakeError) as error:
            return type(error)
        return events, connection.stage

    assert result(stream) == result(stream[:cut], stream[cut:])
