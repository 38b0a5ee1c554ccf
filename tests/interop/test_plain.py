"""PLAIN with libzmq (its ZAP authenticator, ours): both roles, good and bad credentials."""

from __future__ import annotations

import pytest
import trio

import trio_mq
from trio_mq import (
    AuthenticationError,
    AuthenticationRequest,
    HandshakeError,
    Identity,
    MechanismMismatchError,
    Options,
    Plain,
)
from trio_mq.events import HandshakeFailed

from ._cases import MULTIPART, EndpointOf
from ._dialogues import DIALOGUES
from ._ends import join, open_ours
from ._messages import Pattern
from ._process import DEADLINE, Peer
from ._raw import command, frame, greeting, raw_connect, ready
from ._watch import watching


async def everybody_called_admin(request: AuthenticationRequest) -> Identity | None:
    """An authenticator of ours: one user, one password, and a property for its messages."""
    if (request.username, request.password) == ("admin", "secret"):
        return Identity("user-1", {"X-Role": "administrator"})
    return None


CLIENT = Options(security=Plain("admin", "secret"), reconnect_interval=0.02)
SERVER = Options(security=Plain(server=True), authenticator=everybody_called_admin)
THEIR_CLIENT: dict[str, int | bytes] = {"PLAIN_USERNAME": b"admin", "PLAIN_PASSWORD": b"secret"}
THEIR_WRONG_CLIENT: dict[str, int | bytes] = {"PLAIN_USERNAME": b"admin", "PLAIN_PASSWORD": b"sesame"}
THEIR_SERVER: dict[str, int | bytes] = {"PLAIN_SERVER": 1}


@pytest.mark.parametrize("ours_binds", [True, False], ids=["bind", "connect"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_their_server_takes_our_good_credentials(
    ours_binds: bool, transport: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    await pyzmq.authenticate(admin="secret")
    theirs = await pyzmq.open("ROUTER", **THEIR_SERVER)
    async with open_ours("DEALER", CLIENT) as ours:
        binder, connecter = (ours, theirs) if ours_binds else (theirs, ours)
        await join(binder, connecter, endpoint_of(transport))
        await ours.wait_connected()
        await DIALOGUES["DEALER", "ROUTER"](ours, theirs, MULTIPART)


@pytest.mark.parametrize("ours_binds", [True, False], ids=["bind", "connect"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_our_server_takes_their_good_credentials_and_knows_who_it_is(
    ours_binds: bool, transport: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("DEALER", **THEIR_CLIENT)
    async with open_ours("ROUTER", SERVER) as ours:
        binder, connecter = (ours, theirs) if ours_binds else (theirs, ours)
        await join(binder, connecter, endpoint_of(transport))
        await DIALOGUES["DEALER", "ROUTER"](theirs, ours, MULTIPART)
        await theirs.send([b"who am I?"])
        assert isinstance(ours.socket, trio_mq.Router)
        with trio.fail_after(DEADLINE):
            message = await ours.socket.receive_message()
        assert message.user_id == "user-1"
        assert message.properties["X-Role"] == "administrator"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_their_server_refuses_our_bad_credentials_for_good(
    transport: str, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    """Libzmq 4.3.5 misspells this ERROR on the wire; it is understood all the same."""
    await pyzmq.authenticate(admin="secret")
    theirs = await pyzmq.open("ROUTER", **THEIR_SERVER)
    wrong = Options(security=Plain("admin", "sesame"), reconnect_interval=0.02)
    async with open_ours("DEALER", wrong) as ours, watching(ours) as watch:
        await ours.connect(await theirs.bind(endpoint_of(transport)))
        error = (await watch.next(HandshakeFailed)).error
        assert isinstance(error, AuthenticationError)
        assert error.status == "400"
        await theirs.wait_event("HANDSHAKE_FAILED_AUTH")
        with trio.fail_after(DEADLINE), pytest.raises(AuthenticationError):
            await ours.socket.wait_connected()
        assert [each.state for each in ours.socket.statistics().endpoints] == ["failed"]


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_our_server_refuses_their_bad_credentials_and_nobody_else(
    transport: str, pyzmq: Peer, endpoint_of: EndpointOf, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = await pyzmq.open("DEALER", **THEIR_CLIENT), await pyzmq.open("DEALER", **THEIR_WRONG_CLIENT)
    async with open_ours("ROUTER", SERVER) as ours, watching(ours) as watch:
        endpoint = await join(ours, good, endpoint_of(transport))
        await DIALOGUES["DEALER", "ROUTER"](good, ours, [Pattern(300)])
        await bad.connect(endpoint)
        failed = await watch.next(HandshakeFailed)
        assert isinstance(failed.error, AuthenticationError)
        assert failed.address
        assert "sesame" not in caplog.text + repr(failed), "a password got into a log"
        # To a libzmq up to 4.3.5 a correctly spelt ERROR is an unexpected command; to a later one, a refusal.
        await bad.wait_event("HANDSHAKE_FAILED_AUTH", "HANDSHAKE_FAILED_PROTOCOL")
        await DIALOGUES["DEALER", "ROUTER"](good, ours, [Pattern(300)])
        assert "DISCONNECTED" not in await good.events()


async def test_our_server_tells_a_refused_peer_before_it_closes(endpoint_of: EndpointOf) -> None:
    async with open_ours("ROUTER", SERVER) as ours:
        async with raw_connect(await ours.bind(endpoint_of("tcp"))) as peer:
            await peer.send(greeting(mechanism=b"PLAIN"))
            # 37/ZMTP and 24/PLAIN: the server says as-server = 1.
            assert (await peer.read(64))[12:33] == b"PLAIN".ljust(20, b"\0") + b"\1"
            hello = command(b"HELLO", b"\x05admin\x06sesame")
            # What follows without waiting for an answer is what a peer would try that hopes to slip in.
            await peer.send(hello, command(b"INITIATE", ready(b"DEALER")[8:]), frame(b"smuggled"))
            assert await peer.read_to_end() == command(b"ERROR", b"\x03400")
        assert ours.receive_nowait() is None


async def test_an_authenticator_that_fails_refuses_and_the_socket_goes_on(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    async def broken_for_strangers(request: AuthenticationRequest) -> str | None:
        return {"admin": "user-1"}[request.username]

    good = await pyzmq.open("DEALER", **THEIR_CLIENT)
    options = Options(security=Plain(server=True), authenticator=broken_for_strangers)
    async with open_ours("ROUTER", options) as ours, watching(ours) as watch:
        endpoint = await ours.bind(endpoint_of("tcp"))
        async with raw_connect(endpoint) as stranger:
            await stranger.send(greeting(mechanism=b"PLAIN"), command(b"HELLO", b"\x08stranger\x01x"))
            await stranger.read(64)
            # 27/ZAP: 500 is the status of an authenticator that is broken.
            assert await stranger.read_to_end() == command(b"ERROR", b"\x03500")
        error = (await watch.next(HandshakeFailed)).error
        assert isinstance(error, HandshakeError)
        assert "KeyError" in str(error)
        await good.connect(endpoint)
        await DIALOGUES["DEALER", "ROUTER"](good, ours, [Pattern(300)])


@pytest.mark.parametrize(
    ("our_options", "their_options"),
    [(CLIENT, {}), (Options(), THEIR_CLIENT), (Options(), THEIR_SERVER)],
    ids=["our-PLAIN-their-NULL", "our-NULL-their-PLAIN", "our-NULL-their-PLAIN-server"],
)
@pytest.mark.parametrize("ours_binds", [True, False], ids=["bind", "connect"])
async def test_different_mechanisms_do_not_meet_and_both_ends_say_so(
    our_options: Options, their_options: dict[str, int | bytes], ours_binds: bool, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    theirs = await pyzmq.open("ROUTER", **their_options)
    async with open_ours("DEALER", our_options) as ours, watching(ours) as watch:
        binder, connecter = (ours, theirs) if ours_binds else (theirs, ours)
        await join(binder, connecter, endpoint_of("tcp"))
        assert isinstance((await watch.next(HandshakeFailed)).error, MechanismMismatchError)
        await theirs.wait_event("HANDSHAKE_FAILED_PROTOCOL", "HANDSHAKE_FAILED_NO_DETAIL", "DISCONNECTED")


async def test_two_clients_end_in_a_failed_handshake(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    """Libzmq never sends as-server, so nobody can see it in the greeting; it must not hang for all that."""
    theirs = await pyzmq.open("DEALER", **THEIR_CLIENT)
    async with open_ours("DEALER", CLIENT) as ours, watching(ours) as watch:
        await theirs.connect(await ours.bind(endpoint_of("tcp")))
        assert isinstance((await watch.next(HandshakeFailed)).error, (HandshakeError, trio_mq.ProtocolError))
