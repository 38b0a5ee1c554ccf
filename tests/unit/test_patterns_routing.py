"""DEALER, ROUTER and PAIR: who is meant, and what becomes of messages for nobody."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import length_hint

import pytest

from trio_mq._errors import HandshakeError, HostUnreachableError
from trio_mq._message import Payload, PeerJoined
from trio_mq._patterns import NOTHING, Dealer, Pair, Router
from trio_mq._pipe import Pipe

from ._pipes import Drops, new_pipe, notes


def new_router(
    drops: Drops | None = None,
    *,
    mandatory: bool = False,
    handover: bool = False,
    block: bool = False,
    probe: bool = False,
    first_id: int = 0,
) -> Router:
    return Router(drops or Drops(), first_id=first_id, mandatory=mandatory, handover=handover, block=block, probe=probe)


def join(router: Router, pipe: Pipe) -> Pipe:
    """*pipe* comes to *router* and shakes hands."""
    router.attached(pipe)
    pipe.inbound.on_item = lambda: router.readable(pipe)
    router.ready(pipe)
    return pipe


# --- ROUTER ----------------------------------------------------------------------------------------------------------


def test_messages_begin_with_the_routing_id_both_ways() -> None:
    router = new_router()
    pipe = join(router, new_pipe(routing_id=b"ann"))
    assert router.accept(pipe, [b"1", [b"2", b"3"]]) == [[b"ann", b"1"], [b"ann", b"2", b"3"]]
    assert router.send([b"ann", b"1"]) is None
    assert router.send([b"ann", b"2", b"3"]) is None
    assert pipe.outbound.waiting() == [b"1", [b"2", b"3"]]


@pytest.mark.parametrize("message", [b"1", [b"2", b"3"]])
def test_what_was_never_received_goes_back_as_it_came(message: Payload) -> None:
    router = new_router()
    pipe = join(router, new_pipe(routing_id=b"ann"))
    [received] = router.accept(pipe, [message])
    assert router.unrefine(received) == message


def test_events_among_messages_stay_as_they_are() -> None:
    router = new_router()
    pipe = join(router, new_pipe(routing_id=b"ann"))
    event = PeerJoined(pipe.peer)
    assert router.refine(pipe, [event]) == [event]
    assert router.unrefine(event) is event


def test_a_peer_without_an_id_gets_one_of_five_bytes_that_no_peer_can_choose() -> None:
    router = new_router(first_id=(1 << 32) - 2)
    a, b = join(router, new_pipe("a")), join(router, new_pipe("b"))
    assert a.peer.routing_id == b"\0\xff\xff\xff\xff"
    assert b.peer.routing_id == bytes(5)
    assert router.pipe_of(bytes(5)) is b


def test_the_id_given_to_connect_counts_before_and_after_the_handshake() -> None:
    router, pipe = new_router(mandatory=True), new_pipe(routing_id=b"what it calls itself")
    pipe.preset_id = b"server"
    router.attached(pipe)
    assert router.knows(b"server")
    router.send([b"server", b"early"])
    router.ready(pipe)
    assert pipe.peer.routing_id == b"server"
    assert not router.knows(b"what it calls itself")
    assert pipe.outbound.waiting() == [b"early"]


def test_a_message_for_nobody_is_counted_or_refused() -> None:
    drops = Drops()
    router = new_router(drops)
    assert router.send([b"nobody", b"1"]) is None
    assert drops.counts == {"unroutable": 1}
    assert drops.pipes == [None]
    router.mandatory = True
    with pytest.raises(HostUnreachableError) as caught:
        router.send([b"nobody", b"1"])
    assert caught.value.routing_id == b"nobody"


@pytest.mark.parametrize("message", [b"bare", [b"only an id"]])
def test_a_message_needs_an_id_and_a_frame(message: Payload) -> None:
    with pytest.raises(ValueError, match="routing id"):
        new_router().send(message)


def test_a_full_peer_loses_it_and_nobody_waits() -> None:
    drops = Drops()
    router = new_router(drops)
    pipe = join(router, new_pipe(routing_id=b"ann", hwm=1))
    for _ in range(2):
        assert router.send([b"ann", b"1"]) is None
    assert drops.counts == {"hwm": 1}
    assert drops.pipes == [pipe]
    assert not pipe.outbound.full


@pytest.mark.parametrize(("mandatory", "block"), [(True, False), (False, True)])
def test_a_router_that_waits_waits_for_that_peer_alone(mandatory: bool, block: bool) -> None:
    router = new_router(mandatory=mandatory, block=block)
    ann, bob = join(router, new_pipe(routing_id=b"ann", hwm=1)), join(router, new_pipe(routing_id=b"bob"))
    assert router.send([b"ann", b"1"]) is None
    assert router.send([b"ann", b"2"]) is ann
    assert ann.outbound.full
    assert router.gate([b"ann", b"2"]) is ann
    assert router.gate([b"bob", b"2"]) is bob
    assert router.gate([b"nobody", b"2"]) is None
    assert router.send([b"bob", b"1"]) is None


def test_a_second_owner_of_an_id_is_refused_and_the_first_keeps_it() -> None:
    router = new_router()
    first = join(router, new_pipe("a", routing_id=b"ann"))
    with pytest.raises(HandshakeError, match="ann"):
        join(router, new_pipe("b", routing_id=b"ann"))
    assert router.pipe_of(b"ann") is first


def test_a_refused_newcomer_takes_nothing_with_it_when_it_goes() -> None:
    router = new_router()
    first, second = join(router, new_pipe("a", routing_id=b"ann")), new_pipe("b", routing_id=b"ann")
    with pytest.raises(HandshakeError):
        join(router, second)
    router.detached(second)
    assert router.pipe_of(b"ann") is first


def test_handover_closes_the_first_owner_and_its_end_does_not_touch_the_second() -> None:
    router = new_router(handover=True)
    first = join(router, new_pipe("a", routing_id=b"ann"))
    second = join(router, new_pipe("b", routing_id=b"ann"))
    [error] = notes(first).closed
    assert isinstance(error, HandshakeError)
    router.detached(first)
    assert router.pipe_of(b"ann") is second


def test_a_peer_that_left_has_no_id() -> None:
    router = new_router()
    pipe = join(router, new_pipe(routing_id=b"ann"))
    router.detached(pipe)
    assert not router.knows(b"ann")
    router.mandatory = True
    with pytest.raises(HostUnreachableError):
        router.send([b"ann", b"1"])


def test_a_peer_that_comes_back_is_known_by_the_same_id() -> None:
    router = new_router()
    pipe = join(router, new_pipe(routing_id=b"ann"))
    router.lost(pipe)
    pipe.peer = replace(pipe.peer, connection=2)
    router.ready(pipe)
    assert router.pipe_of(b"ann") is pipe


@pytest.mark.parametrize("identities", [(b"", b""), (b"ann", b"bob")])
def test_a_peer_that_comes_back_leaves_no_second_id(identities: tuple[bytes, bytes]) -> None:
    router = new_router()
    pipe = join(router, new_pipe(routing_id=identities[0]))
    before = pipe.peer.routing_id
    router.lost(pipe)
    pipe.peer = new_pipe(routing_id=identities[1]).peer  # what a session knows after the next handshake
    router.ready(pipe)
    assert [routing_id for routing_id in {before, pipe.peer.routing_id} if router.knows(routing_id)] == [
        pipe.peer.routing_id
    ]
    router.detached(pipe)
    assert not router.knows(before)


@pytest.mark.parametrize(("socket_type", "kept"), [("REQ", False), ("DEALER", True)])
def test_what_was_queued_for_a_req_does_not_outlive_its_connection(socket_type: str, kept: bool) -> None:
    drops = Drops()
    router = new_router(drops)
    pipe = join(router, new_pipe(routing_id=b"ann", socket_type=socket_type))
    router.send([b"ann", b"", b"late answer"])
    router.lost(pipe)
    assert pipe.outbound.waiting() == ([[b"", b"late answer"]] if kept else [])
    assert drops.counts == ({} if kept else {"disconnected": 1})


def test_a_router_never_waits_before_it_knows_for_whom() -> None:
    assert new_router().can_send()


def test_a_router_hears_its_peers_in_turn() -> None:
    router = new_router()
    pipes = [join(router, new_pipe(name, routing_id=name.encode())) for name in "ab"]
    assert router.take(5) is NOTHING
    for pipe in pipes:
        pipe.inbound.put_all(router.accept(pipe, [b"1", b"2"]))
    assert router.can_receive()
    assert router.take(5).messages == [[b"a", b"1"], [b"b", b"1"], [b"a", b"2"], [b"b", b"2"]]


# --- DEALER ----------------------------------------------------------------------------------------------------------


def test_a_dealer_adds_and_removes_nothing() -> None:
    dealer, a, b = Dealer(), new_pipe("a"), new_pipe("b")
    for pipe in (a, b):
        dealer.attached(pipe)
        pipe.inbound.on_item = partial(dealer.readable, pipe)
        dealer.ready(pipe)
    for message in ([b"", b"1"], b"2"):
        assert dealer.send(message) is None
    assert (a.outbound.waiting(), b.outbound.waiting()) == ([[b"", b"1"]], [b"2"])
    assert dealer.accept(a, [[b"", b"1"]]) == [[b"", b"1"]]
    assert not dealer.can_receive()
    b.inbound.put(b"hello")
    assert dealer.can_receive()
    assert dealer.take(5).messages == [b"hello"]


@pytest.mark.parametrize("probe", [True, False])
def test_a_probe_is_an_empty_message_on_each_new_connection(probe: bool) -> None:
    expected = [b""] if probe else []
    dealer, pipe = Dealer(probe=probe), new_pipe()
    dealer.attached(pipe)
    dealer.ready(pipe)
    assert pipe.outbound.waiting() == expected
    pipe = join(new_router(probe=probe), new_pipe())
    assert pipe.outbound.waiting() == expected


# --- PAIR ------------------------------------------------------------------------------------------------------------


def test_a_pair_has_one_peer_at_a_time() -> None:
    pair, first, second = Pair(), new_pipe("a"), new_pipe("b")
    assert pair.send(b"0") is pair
    assert not pair.can_send()
    pair.attached(first)
    pair.ready(first)
    pair.attached(second)
    with pytest.raises(HandshakeError, match="PAIR"):
        pair.ready(second)
    assert pair.send(b"1") is None
    pair.detached(second)
    assert pair.send(b"2") is None
    assert first.outbound.waiting() == [b"1", b"2"]
    pair.detached(first)
    assert pair.send(b"3") is pair
    pair.ready(second)
    assert pair.send(b"3") is None


def test_a_full_pair_waits() -> None:
    pair, pipe = Pair(), new_pipe(hwm=1)
    pair.attached(pipe)
    assert pair.can_send()
    pair.send(b"1")
    assert not pair.can_send()
    assert pair.send(b"2") is pair


def test_a_pair_deals_turns_while_its_peer_is_awake_and_has_room() -> None:
    pair, pipe = Pair(), new_pipe(hwm=5, awake=True)
    assert length_hint(pair.turns(3)) == 0
    pair.attached(pipe)
    for turn in pair.turns(3):
        turn(b"x")
    assert pipe.outbound.waiting() == [b"x"] * 3
    assert length_hint(pair.turns(10)) == 2
    pipe.outbound.sleep()
    assert length_hint(pair.turns(10)) == 0
