"""REQ and REP: envelopes, and replies that reach nobody but who asked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._errors import PeerLostError, RemoteProtocolError
from trio_mq._message import Payload
from trio_mq._patterns import Exchange, Rep, Req
from trio_mq._patterns._envelope import close_envelope, open_envelope
from trio_mq._pipe import Pipe

from ._pipes import Drops, new_pipe, notes

# --- envelopes -------------------------------------------------------------------------------------------------------

frames = st.binary(min_size=1, max_size=5)
bodies = st.one_of(st.binary(max_size=5), st.lists(st.binary(max_size=5), min_size=2, max_size=4))


@given(st.lists(frames, max_size=4), bodies)
def test_an_envelope_that_was_closed_opens_to_the_same(envelope: list[bytes], body: Payload) -> None:
    assert open_envelope(close_envelope(envelope, body)) == (envelope, body)


@pytest.mark.parametrize("message", [b"", b"body", [b"a", b"b"], [b"a", b""]])
def test_what_has_no_delimiter_or_nothing_behind_it_does_not_open(message: Payload) -> None:
    assert open_envelope(message) is None


def test_the_first_empty_frame_is_the_delimiter() -> None:
    assert open_envelope([b"id", b"", b"", b"x"]) == ([b"id"], [b"", b"x"])
    assert open_envelope([b"", b""]) == ([], b"")


# --- REQ -------------------------------------------------------------------------------------------------------------


class Asker:
    """A REQ, and the exchanges it finished."""

    def __init__(self, *, correlate: bool | None = None, probe: bool = False, first_number: int = 6) -> None:
        self.drops = Drops()
        self.finished: list[Exchange] = []
        self.req = Req(self.drops, self.finished.append, correlate=correlate, first_number=first_number, probe=probe)

    def peer(self, name: str = "peer", *, socket_type: str = "REP", hwm: int = 10, connected: bool = True) -> Pipe:
        pipe = new_pipe(name, socket_type=socket_type, hwm=hwm, connected=connected)
        self.req.attached(pipe)
        pipe.outbound.on_room = lambda: self.req.writable(pipe)
        if connected:
            self.req.ready(pipe)
        return pipe

    def begin(self, body: Payload) -> Exchange:
        exchange = self.req.begin(body)
        assert exchange is not None
        return exchange


def test_requests_to_a_rep_are_numbered_and_many_may_be_open() -> None:
    asker = Asker()
    pipe = asker.peer()
    first, second = asker.begin(b"1"), asker.begin([b"2", b"3"])
    assert pipe.outbound.waiting() == [[b"\0\0\0\7", b"", b"1"], [b"\0\0\0\x08", b"", b"2", b"3"]]
    assert asker.req.accept(pipe, [[b"\0\0\0\x08", b"", b"to 2"]]) == []
    assert (first.done, second.reply) == (False, b"to 2")
    asker.req.accept(pipe, [[b"\0\0\0\7", b"", b"to", b"1"]])
    assert first.reply == [b"to", b"1"]
    assert asker.finished == [second, first]


def test_numbers_go_round() -> None:
    asker = Asker(first_number=(1 << 32) - 1)
    asker.peer()
    assert asker.begin(b"x").number == bytes(4)


def test_requests_to_others_carry_no_number_and_go_one_at_a_time() -> None:
    asker = Asker()
    pipe = asker.peer(socket_type="ROUTER")
    exchange = asker.begin(b"1")
    assert pipe.outbound.waiting() == [[b"", b"1"]]
    assert asker.req.begin(b"2") is None
    assert not asker.req.can_send()
    asker.req.writable(pipe)
    assert asker.req.begin(b"2") is None, "room is not what it waits for"
    asker.req.accept(pipe, [[b"", b"reply"]])
    assert exchange.reply == b"reply"
    assert asker.req.begin(b"2") is not None


@pytest.mark.parametrize(("correlate", "socket_type", "numbered"), [(True, "ROUTER", True), (False, "REP", False)])
def test_the_option_decides_over_what_the_peer_is(correlate: bool, socket_type: str, numbered: bool) -> None:
    asker = Asker(correlate=correlate)
    asker.peer(socket_type=socket_type)
    assert (asker.begin(b"1").number is not None) == numbered


def test_requests_go_to_peers_in_turn() -> None:
    asker = Asker()
    a, b = asker.peer("a"), asker.peer("b", socket_type="ROUTER")
    pipes = [asker.begin(b"%d" % number).pipe for number in range(4)]
    assert pipes == [a, b, a, a], "the second has one under way"


def test_without_a_peer_or_room_there_is_no_request() -> None:
    asker = Asker()
    assert asker.req.begin(b"1") is None
    pipe = asker.peer(hwm=1)
    asker.begin(b"1")
    assert asker.req.begin(b"2") is None
    pipe.outbound.take(1)
    assert asker.req.begin(b"2") is not None


@pytest.mark.parametrize(
    "message", [b"bare", [b"no", b"delimiter"], [b"", b""][:1], [b"12345", b"", b"x"], [b"1234", b"5678", b"", b"x"]]
)
def test_a_reply_of_another_shape_ends_the_connection(message: Payload) -> None:
    asker = Asker()
    pipe = asker.peer()
    exchange = asker.begin(b"1")
    with pytest.raises(RemoteProtocolError, match="RFC 28"):
        asker.req.accept(pipe, [message])
    assert not exchange.done


def test_a_reply_nobody_waits_for_is_counted() -> None:
    asker = Asker()
    pipe, other = asker.peer(), asker.peer("other")
    exchange = asker.begin(b"1")
    assert exchange.number is not None
    asker.req.accept(pipe, [[b"", b"no such"], [b"9999", b"", b"no such"]])
    asker.req.accept(other, [[exchange.number, b"", b"from the wrong peer"]])
    assert not exchange.done
    asker.req.accept(pipe, [[exchange.number, b"", b"1"], [exchange.number, b"", b"again"]])
    assert exchange.reply == b"1"
    assert asker.drops.counts == {"late-reply": 4}


def test_an_abandoned_numbered_request_gets_no_reply_and_disturbs_no_other() -> None:
    asker = Asker()
    pipe = asker.peer()
    first, second = asker.begin(b"1"), asker.begin(b"2")
    pipe.outbound.take(2)
    asker.req.abandon(first)
    assert first.number is not None
    assert second.number is not None
    asker.req.accept(pipe, [[first.number, b"", b"late"], [second.number, b"", b"2"]])
    assert asker.finished == [second]
    assert asker.drops.counts == {"late-reply": 1}
    assert notes(pipe).restarts == 0


def test_an_abandoned_request_that_was_not_sent_yet_is_taken_back() -> None:
    asker = Asker()
    pipe = asker.peer(socket_type="ROUTER")
    exchange = asker.begin(b"1")
    asker.req.abandon(exchange)
    assert pipe.outbound.waiting() == []
    assert notes(pipe).restarts == 0
    assert asker.req.begin(b"2") is not None


def test_abandoning_a_request_without_a_number_breaks_the_connection() -> None:
    asker = Asker()
    pipe = asker.peer(socket_type="ROUTER")
    exchange = asker.begin(b"1")
    pipe.outbound.take(1)
    asker.req.abandon(exchange)
    assert notes(pipe).restarts == 1


def test_abandoning_what_is_done_is_nothing() -> None:
    asker = Asker()
    pipe = asker.peer(socket_type="ROUTER")
    exchange = asker.begin(b"1")
    pipe.outbound.take(1)
    asker.req.accept(pipe, [[b"", b"reply"]])
    asker.req.abandon(exchange)
    assert notes(pipe).restarts == 0


def test_a_lost_connection_fails_what_was_sent_and_keeps_what_was_not() -> None:
    asker = Asker()
    pipe = asker.peer()
    sent, waiting = asker.begin(b"1"), asker.begin(b"2")
    pipe.outbound.take(1)
    pipe.connection = None
    asker.req.lost(pipe)
    assert isinstance(sent.error, PeerLostError)
    assert sent.error.peer == pipe.peer
    assert sent.done
    assert not waiting.done
    assert asker.finished == [sent]


def test_a_peer_gone_for_good_fails_everything() -> None:
    asker = Asker()
    pipe, other = asker.peer(), asker.peer("other")
    mine, others, waiting = asker.begin(b"1"), asker.begin(b"2"), asker.begin(b"3")
    assert others.pipe is other
    asker.req.detached(pipe)
    assert asker.finished == [mine, waiting]
    assert not others.done
    assert [asker.begin(b"more").pipe for _ in range(2)] == [other, other]


def test_a_request_that_waits_is_not_begun_with_a_peer_that_is_just_leaving() -> None:
    asker = Asker()
    pipe = asker.peer(socket_type="ROUTER")
    begun: list[Exchange | None] = []
    # What the socket does: whoever waits for a peer is served when an exchange ends.
    asker.req._finished = lambda _: begun.append(asker.req.begin(b"2"))
    asker.begin(b"1")
    asker.req.detached(pipe)
    assert begun == [None]


def test_a_request_before_the_peer_is_known_goes_without_a_number() -> None:
    asker = Asker()
    pipe = asker.peer(connected=False, socket_type="")
    first = asker.begin(b"1")
    assert pipe.outbound.waiting() == [[b"", b"1"]]
    assert asker.req.begin(b"2") is None
    connected = new_pipe(socket_type="REP")
    pipe.connection, pipe.peer = connected.connection, connected.peer
    asker.req.ready(pipe)
    second = asker.begin(b"2")
    assert second.number is not None
    asker.req.accept(pipe, [[second.number, b"", b"to 2"], [b"", b"to 1"]])
    assert (first.reply, second.reply) == (b"to 1", b"to 2")


def test_two_requests_without_a_number_are_never_open_at_one_peer() -> None:
    asker = Asker()
    pipe = asker.peer(connected=False, socket_type="")
    asker.begin(b"1")
    known = new_pipe(socket_type="REP")
    pipe.connection, pipe.peer = known.connection, known.peer
    asker.req.ready(pipe)
    pipe.connection = None
    asker.req.lost(pipe)
    assert asker.req.begin(b"2") is None


def test_a_probe_goes_ahead_of_requests() -> None:
    asker = Asker(probe=True)
    pipe = asker.peer()
    asker.begin(b"1")
    assert pipe.outbound.waiting()[0] == b""


# --- REP -------------------------------------------------------------------------------------------------------------


def rep_with(*pipes: Pipe) -> tuple[Rep, Drops]:
    drops = Drops()
    rep = Rep(drops)
    for pipe in pipes:
        pipe.inbound.on_item = partial(rep.readable, pipe)
    return rep, drops


def test_a_request_is_its_body_and_the_reply_finds_the_whole_way_back() -> None:
    pipe = new_pipe()
    rep, _ = rep_with(pipe)
    pipe.inbound.put_all([[b"far", b"near", b"", b"question"]])
    request = rep.next_request()
    assert request is not None
    assert (request.pipe, request.envelope, request.body) == (pipe, [b"far", b"near"], b"question")
    assert rep.next_request() is None
    rep.reply(request, [b"an", b"swer"])
    assert pipe.outbound.waiting() == [[b"far", b"near", b"", b"an", b"swer"]]


def test_requests_are_heard_in_turn_and_what_is_none_is_counted() -> None:
    a, b = new_pipe("a"), new_pipe("b")
    rep, drops = rep_with(a, b)
    a.inbound.put_all([b"no request", [b"", b"1"], [b"", b"3"]])
    b.inbound.put_all([[b"", b"2"], [b"x", b"y"]])
    asked = []
    while (request := rep.next_request()) is not None:
        asked.append((request.pipe, request.body))
    assert asked == [(b, b"2"), (a, b"1"), (a, b"3")]
    assert drops.counts == {"malformed": 2}


def test_a_reply_to_who_is_gone_is_dropped() -> None:
    pipe = new_pipe()
    rep, drops = rep_with(pipe)
    pipe.inbound.put_all([[b"", b"1"]])
    request = rep.next_request()
    assert request is not None
    pipe.connection = None
    rep.reply(request, b"reply")
    assert drops.counts == {"no-peer": 1}
    assert pipe.outbound.waiting() == []


def test_a_reply_does_not_go_to_whoever_took_the_place_of_who_asked() -> None:
    pipe = new_pipe()
    rep, drops = rep_with(pipe)
    pipe.inbound.put_all([[b"", b"1"]])
    request = rep.next_request()
    assert request is not None
    pipe.peer = replace(pipe.peer, connection=2)
    rep.reply(request, b"reply")
    assert drops.counts == {"no-peer": 1}
    assert pipe.outbound.waiting() == []


def test_a_reply_that_finds_a_full_queue_is_dropped_and_nobody_waits() -> None:
    pipe = new_pipe(hwm=1)
    rep, drops = rep_with(pipe)
    pipe.outbound.put(b"full")
    pipe.inbound.put_all([[b"", b"1"]])
    request = rep.next_request()
    assert request is not None
    rep.reply(request, b"reply")
    assert drops.counts == {"hwm": 1}
    assert not pipe.outbound.full
