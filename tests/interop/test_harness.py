"""The judge is judged first: the harness carries libzmq talking to libzmq, and says so when it does not work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from ._cases import EndpointOf
from ._dialogues import DIALOGUES, FIRST_ROUTER, SECOND_ROUTER
from ._ends import join
from ._messages import Digest, Pattern, as_seen
from ._process import Peer, PeerCrashedError, PeerError, require
from ._raw import SIGNATURE, command, frame, greeting, message, raw_connect, raw_listen, ready
from ._relay import Relayed, relay_to


@pytest.mark.parametrize("pair", DIALOGUES, ids="-".join)
async def test_every_dialogue_works_between_two_libzmq_peers(
    pair: tuple[str, str], start_peer: Callable[[str], Peer], endpoint_of: EndpointOf
) -> None:
    names = (FIRST_ROUTER, SECOND_ROUTER) if pair == ("ROUTER", "ROUTER") else (b"", b"")
    first, second = [
        await start_peer("pyzmq").open(kind, **({"ROUTING_ID": name, "ROUTER_MANDATORY": 1} if name else {}))
        for kind, name in zip(pair, names, strict=True)
    ]
    await join(first, second, endpoint_of("tcp"))
    await DIALOGUES[pair](first, second, [Pattern(0), Pattern(300), b"x"])


async def test_a_long_frame_is_compared_by_its_digest(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    push, pull = await pyzmq.open("PUSH"), await pyzmq.open("PULL")
    await join(pull, push, endpoint_of("ipc"))
    await push.send([Pattern(65536, seed=1)])
    (frame,) = await pull.receive()
    assert isinstance(frame, Digest)
    assert [frame] == as_seen([Pattern(65536, seed=1)]) != as_seen([Pattern(65536, seed=2)])


async def test_a_failed_command_says_what_failed(pyzmq: Peer) -> None:
    push = await pyzmq.open("PUSH")
    with pytest.raises(PeerError, match="ZMQError: Protocol not supported"):
        await push.bind("carrier-pigeon://nowhere")
    assert pyzmq.usable


async def test_a_crashed_peer_shows_its_stderr(pyzmq: Peer) -> None:
    with pytest.raises(PeerCrashedError, match=r"AttributeError.*do_nonsense"):
        await pyzmq.call("nonsense")
    assert not pyzmq.usable


def test_the_bytes_of_a_raw_peer_are_those_of_the_specification() -> None:
    assert greeting().hex() == "ff00000000000000017f03014e554c4c" + "00" * 48
    assert ready(b"PUSH").hex() == "041a0552454144590b536f636b65742d547970650000000450555348"
    assert (
        ready(b"REQ", b"me").hex()
        == "04280552454144590b536f636b65742d5479706500000003524551084964656e74697479000000026d65"
    )
    assert command(b"PING", b"\x00\x0fctx").hex() == "040a0450494e47000f637478"
    assert message(b"a", b"b").hex() == "010161000162"
    assert frame(bytes(256)).hex() == "020000000000000100" + "00" * 256


async def test_a_raw_peer_is_understood_by_libzmq(pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open("ROUTER", ROUTING_ID=b"srv")
    endpoint = await theirs.bind(endpoint_of("tcp"))
    # Each with an id of its own: libzmq remembers one a little longer than its connection, and ignores the next owner.
    for minor, name in ((0, b"old"), (1, b"new")):
        async with raw_connect(endpoint) as peer:
            await peer.handshake(b"DEALER", name, minor=minor)
            await peer.send(message(b"", bytes(300)))
            assert await theirs.receive() == [name, b"", bytes(300)]
            await theirs.send([name, b"", b"answer"])
            assert await peer.read_message() == [b"", b"answer"]
    async with raw_connect(endpoint) as peer:
        assert await peer.handshake_2_0(5, b"me") == b"\x06\x00\x03srv"
        await peer.send(message(b"x", b"y"))
        assert await theirs.receive() == [b"me", b"x", b"y"]


async def test_a_raw_listener_is_understood_by_libzmq(pyzmq: Peer) -> None:
    theirs = await pyzmq.open("PUSH", RECONNECT_IVL=10)
    async with raw_listen() as listener:
        await theirs.connect(listener.endpoint)
        async with listener.accept() as peer:
            assert await peer.read(10) == SIGNATURE
            await peer.reset()
        async with listener.accept() as peer:
            await peer.handshake(b"PULL")
            await theirs.send([b"a", b"b"])
            assert await peer.read_message() == [b"a", b"b"]


@pytest.mark.parametrize("lose", [Relayed.finish, Relayed.reset, Relayed.silence])
async def test_a_relay_passes_on_and_loses_connections(
    lose: Callable[[Relayed], None], pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    pull = await pyzmq.open("PULL")
    push = await pyzmq.open("PUSH", HEARTBEAT_IVL=50, RECONNECT_IVL=10)
    async with relay_to(await pull.bind(endpoint_of("tcp"))) as relay:
        await push.connect(relay.endpoint)
        await push.send([b"before"])
        assert await pull.receive() == [b"before"]
        await relay.wait_seen(b"\x04PING", 2, from_connecter=True)
        lose(relay.connections[0])
        await push.wait_event("DISCONNECTED")
        await push.send([b"after"])
        assert await pull.receive() == [b"after"]
        assert len(relay.connections) == 2


async def test_a_frozen_peer_is_silent_until_it_thaws(pyzmq: Peer) -> None:
    await pyzmq.call("hello")
    pyzmq.freeze()
    async with trio.open_nursery() as nursery:
        answers: list[object] = []

        async def ask() -> None:
            answers.append(await pyzmq.call("hello"))

        nursery.start_soon(ask)
        with trio.move_on_after(0.05):
            await trio.sleep_forever()
        assert not answers
        pyzmq.thaw()
    assert answers


def test_a_missing_peer_is_a_visible_skip_and_a_failure_where_peers_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRIO_MQ_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="jeromq is not installed"):
        require("jeromq")
    monkeypatch.setenv("TRIO_MQ_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="jeromq is not installed"):
        require("jeromq")
