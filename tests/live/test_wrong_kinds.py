"""Values of the wrong kind are refused where they are given, in words, and break nothing that runs."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import trio_mq
from trio_mq import Options, Pub, Pull, Push, Router, StateError
from trio_mq.events import DialFailed, Event

from ..scenarios.kit import dead_tcp_endpoint

EVERY_TYPE = ["Pair", "Req", "Rep", "Dealer", "Router", "Pub", "Sub", "XPub", "XSub", "Push", "Pull"]
LOOPBACK = "tcp://127.0.0.1:*"

WRONG: list[tuple[str, Any, str]] = [
    ("security", "plain", "Null"),
    ("security", None, "Null"),
    ("authenticator", "everybody", "async function"),
    ("retry", "yes", "function of the error"),
    ("retry", 5, "function of the error"),
    ("retry", None, "function of the error"),
    ("send_buffer", "64k", "whole number"),
    ("receive_buffer", 4096.5, "whole number"),
    ("use_fd", "3", "whole number"),
    ("immediate", "no", "True or False"),
    ("immediate", None, "True or False"),
    ("conflate", 1, "True or False"),
    ("peer_events", "all", "True or False"),
    ("eager_reads", 0, "True or False"),
    ("ipv6", "::1", "True or False"),
    ("req_correlate", "REP", "True, False or None"),
    ("tcp_keepalive", "on", "True, False or None"),
    ("xpub_welcome", "hi", "bytes"),
    ("routing_id", "name", "bytes"),
    ("properties", {"X-Number": 1}, "str"),
    ("properties", {"X-Bytes": b"value"}, "str"),
    ("linger", "1", "seconds"),
    ("heartbeat_interval", True, "seconds"),
    ("send_hwm", 1.5, "whole number"),
    ("receive_hwm", True, "whole number"),
    ("max_frames", "many", "whole number"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=repr)
def test_an_option_of_the_wrong_kind_is_a_type_error_that_names_it(name: str, value: object, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        Options(**{name: value})  # type: ignore[arg-type] # that is the point
    assert name.rstrip("s") in str(caught.value).replace("property", "properties")
    assert words in str(caught.value)


NOT_REFUSED_YET: list[tuple[str, Any]] = [
    ("accept_filter", "10.0.0.0/8"),
    ("accept_filter", (1,)),
    ("accept_filter", None),
    ("properties", ["X-Name"]),
    ("properties", None),
    ("properties", {1: "value"}),
]


@pytest.mark.parametrize(("name", "value"), NOT_REFUSED_YET, ids=repr)
def test_collections_of_the_wrong_kind_are_type_errors_too(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        Options(**{name: value})  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize("kind", EVERY_TYPE)
def test_options_that_are_none_are_refused_by_every_socket(kind: str) -> None:
    for wrong in ({}, {"linger": 1}, "linger=1", Options):
        with pytest.raises(TypeError, match="Options"):
            getattr(trio_mq, kind)(options=wrong)


@pytest.mark.parametrize("wrong", [{}, {"linger": 1}, "linger=1"], ids=repr)
async def test_options_that_are_none_are_refused_by_a_running_socket(wrong: Any, autojump_clock: MockClock) -> None:
    async with Pull(bind="inproc://here") as pull:
        with pytest.raises(TypeError, match="Options"):
            pull.options = wrong
        with pytest.raises(TypeError, match="Options"):
            pull.connect("inproc://there", options=wrong)
        with pytest.raises(TypeError, match="Options"):
            await pull.bind("inproc://there", options=wrong)
        assert pull.endpoints == ("inproc://here",)


@pytest.mark.parametrize("wrong", [{}, {"linger": 1}, "linger=1"], ids=repr)
def test_options_that_are_none_are_refused_by_listen(wrong: Any) -> None:
    with pytest.raises(TypeError, match="Options"):
        trio_mq.listen(LOOPBACK, wrong).close()


def test_peer_events_mean_nothing_where_nothing_is_received() -> None:
    for kind in ("Push", "Pub", "Sub", "XPub", "XSub", "Req", "Rep"):
        with pytest.raises(ValueError, match="peer_events means nothing on"):
            getattr(trio_mq, kind)(options=Options(peer_events=True))


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1.5, "2", b"3"])
async def test_a_limit_is_a_whole_number_and_a_wrong_one_costs_no_message(
    limit: Any, autojump_clock: MockClock
) -> None:
    async with Pull(bind="inproc://here") as pull, Push(connect="inproc://here") as push:
        with pytest.raises(TypeError, match="whole number"):
            await pull.receive_many(limit)
        await push.send(b"1")
        with pytest.raises(TypeError, match="whole number"):
            pull.receive_many_nowait(limit)
        assert await pull.receive_many() == [b"1"]


async def test_no_limit_means_the_usual_one(autojump_clock: MockClock) -> None:
    async with Pull(bind="inproc://here") as pull, Push(connect="inproc://here") as push:
        await push.send_many([b"1", b"2"])
        assert await pull.receive_many(None) == [b"1", b"2"]
        await push.send_many([b"3"])
        assert pull.receive_many_nowait(None) == [b"3"]
        for limit in (0, -1):
            with pytest.raises(ValueError, match="at least 1"):
                await pull.receive_many(limit)


async def test_the_routing_id_of_a_connect_is_bytes(autojump_clock: MockClock) -> None:
    async with Router(options=Options(linger=0)) as router:
        with pytest.raises(TypeError, match="bytes"):
            router.connect("inproc://there", routing_id="name")  # type: ignore[arg-type] # that is the point
        with pytest.raises(ValueError, match="zero byte"):
            router.connect("inproc://there", routing_id=b"\0name")
        assert router.endpoints == ()
        router.connect("inproc://there", routing_id=b"name")
        with pytest.raises(ValueError, match="belongs to another"):
            router.connect("inproc://elsewhere", routing_id=b"name")


async def test_send_many_refuses_a_multipart_message_where_only_the_newest_frame_is_kept(
    autojump_clock: MockClock,
) -> None:
    async with Pub(bind="inproc://here", options=Options(conflate=True, linger=0)) as pub:
        for first in ([], [b"first"]):
            messages: list[bytes | list[bytes]] = [*first, [b"a", b"b"]]
            with pytest.raises(ValueError, match="one frame"):
                await pub.send_many(messages)
            with pytest.raises(ValueError, match="one frame"):
                pub.send_many_nowait(messages)
        with pytest.raises(ValueError, match="one frame"):
            await pub.send_multipart([b"a", b"b"])


# --- listeners -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*", "inproc://prepared"])
async def test_a_listener_serves_one_socket(endpoint: str) -> None:
    with trio.fail_after(5):
        listener = trio_mq.listen(endpoint)
        async with Pull(bind=listener) as pull:
            with pytest.raises(StateError, match="belongs to another socket"):
                async with Pull(bind=listener):
                    pass
            # The one that has it is none the worse.
            async with Push(connect=listener.endpoint) as push:
                await push.send(b"still there")
                assert await pull.receive() == b"still there"


@pytest.mark.parametrize("endpoint", [LOOPBACK, "ipc://*", "inproc://prepared"])
async def test_a_listener_that_was_closed_serves_none(endpoint: str) -> None:
    listener = trio_mq.listen(endpoint)
    listener.close()
    listener.close()
    with pytest.raises(StateError, match="was closed"):
        async with Pull(bind=listener):
            pass


async def test_a_listener_is_not_given_back_by_a_socket_that_has_left() -> None:
    listener = trio_mq.listen(LOOPBACK)
    async with Pull(bind=listener):
        pass
    with pytest.raises(StateError):
        async with Pull(bind=listener):
            pass


# --- functions of the program ----------------------------------------------------------------------------------------


async def test_a_retry_function_that_raises_ends_its_endpoint_and_no_other() -> None:
    failure, dead = LookupError("the program's own"), dead_tcp_endpoint()

    def retry(error: Exception | None) -> bool:
        raise failure

    with trio.fail_after(5):
        async with Pull(bind=LOOPBACK) as pull, Push(options=Options(linger=0)) as push, push.monitor() as channel:
            push.connect(dead, options=Options(retry=retry))
            push.connect(pull.last_endpoint or "")
            told: list[Event] = []
            while not any(isinstance(event, DialFailed) and event.error is failure for event in told):
                told.append(await channel.receive())
            state = {each.endpoint: (each.state, each.last_error) for each in push.statistics().endpoints}
            assert state[dead] == ("failed", failure)
            await push.wait_connected()
            push.send_nowait(b"still there")
            assert await pull.receive() == b"still there"


def test_a_curve_keypair_says_that_it_is_not_available_yet() -> None:
    with pytest.raises(NotImplementedError, match="CURVE"):
        trio_mq.curve_keypair()
    assert not trio_mq.has("curve")
