"""Reconnecting (libzmq's test_reconnect_options, test_reconnect_ivl): when, how often, how long, and what is kept."""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_mq import Options, Pub, Pull, Push, Sub
from trio_mq.events import (
    Connected,
    DialFailed,
    Dialling,
    Disconnected,
    Event,
    HandshakeFailed,
    HandshakeSucceeded,
    RetryIn,
)

from .kit import GREETING, NETWORK, event_of, over, raw_address, read_exactly, ready, ready_peers, until, waiting

BRIEF = Options(linger=0)


async def kinds_up_to(channel: trio.abc.ReceiveChannel[Event], last: type[Event]) -> list[str]:
    """The names of the kinds of events up to and including the first of kind *last*."""
    kinds = []
    async for event in channel:
        kinds.append(type(event).__name__)
        if isinstance(event, last):
            break
    return kinds


@over(*NETWORK)
async def test_a_connection_tells_its_story_from_the_first_dial_to_the_next(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=BRIEF) as pub:
        async with (
            Sub(options=Options(reconnect_interval=60, reconnect_interval_max=60)) as sub,
            sub.monitor() as story,
        ):
            sub.connect(pub.last_endpoint or "")
            assert await kinds_up_to(story, HandshakeSucceeded) == ["Dialling", "Connected", "HandshakeSucceeded"]
            await pub.aclose()
            assert await kinds_up_to(story, RetryIn) == ["Disconnected", "RetryIn"]


@over(*NETWORK)
async def test_a_lost_peer_is_found_again_when_it_comes_back(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=BRIEF) as pub:
        where = pub.last_endpoint or ""
        async with Sub(options=Options(reconnect_interval=0.01)) as sub, sub.monitor() as story:
            sub.connect(where)
            await event_of(story, HandshakeSucceeded)
            await pub.aclose()
            await event_of(story, Disconnected)
            async with Pub(bind=where, options=BRIEF):
                kinds = await kinds_up_to(story, HandshakeSucceeded)
                assert kinds[0] == "RetryIn"
                assert kinds[-3:] == ["Dialling", "Connected", "HandshakeSucceeded"]


@over(*NETWORK)
async def test_the_start_order_of_the_two_ends_is_irrelevant(endpoint: str) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    async with Push(connect=where, options=Options(reconnect_interval=0.01)) as push, push.monitor() as story:
        await push.send(b"early")
        failed = await event_of(story, DialFailed)
        assert isinstance(failed.error, OSError)
        assert failed.endpoint == where
        async with Pull(bind=where) as pull:
            assert await pull.receive() == b"early"


@over("tcp")
async def test_the_wait_doubles_up_to_its_maximum_and_is_jittered_over_its_length(endpoint: str) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    options = Options(reconnect_interval=0.01, reconnect_interval_max=0.04)
    waits: list[float] = []
    async with Push(options=options) as push, push.monitor() as story:
        push.connect(where)
        for attempt in range(1, 16):
            retry = await event_of(story, RetryIn)
            assert retry.attempt == attempt
            waits.append(retry.seconds)
    assert all(0 <= wait <= 0.01 for wait in waits[:1])
    assert all(0 <= wait <= 0.02 for wait in waits[:2])
    assert all(0 <= wait <= 0.04 for wait in waits)
    assert len(set(waits)) > 5, "without jitter a thousand peers come back in the same moment"


@over("tcp")
async def test_the_first_traffic_lets_the_waiting_begin_again_from_its_start(endpoint: str) -> None:
    async with Push(bind=endpoint, options=BRIEF) as first:
        where = first.last_endpoint or ""
    async with (
        Pull(options=Options(reconnect_interval=0.01, reconnect_interval_max=0.02)) as pull,
        pull.monitor() as story,
    ):
        pull.connect(where)
        while (await event_of(story, RetryIn)).attempt < 3:
            pass
        async with Push(bind=where, options=BRIEF) as push:
            await push.send(b"traffic")
            assert await pull.receive() == b"traffic"
        await event_of(story, Disconnected)
        assert (await event_of(story, RetryIn)).attempt == 1


@over(*NETWORK)
async def test_without_retry_one_failure_is_the_end_of_it(endpoint: str) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    async with Push(options=Options(retry=False, linger=0)) as push, push.monitor() as story:
        push.connect(where)
        await event_of(story, DialFailed)
        await until(lambda: [each.state for each in push.statistics().endpoints] == ["failed"])
        assert isinstance(push.statistics().endpoints[0].last_error, OSError)
        async with Pull(bind=where), Push(connect=where) as other:
            await other.wait_connected()
            assert ready_peers(push) == 0


@over(*NETWORK)
async def test_retry_may_depend_on_what_went_wrong(endpoint: str) -> None:
    asked: list[Exception | None] = []

    def only_after_a_loss(error: Exception | None) -> bool:
        asked.append(error)
        return not isinstance(error, ConnectionRefusedError | FileNotFoundError)

    async with Pull(bind=endpoint, options=BRIEF) as pull:
        options = Options(retry=only_after_a_loss, reconnect_interval=0.01, linger=0)
        async with Push(options=options) as push, push.monitor() as story:
            push.connect(pull.last_endpoint or "")
            await push.wait_connected()
            await pull.aclose()
            await event_of(story, Disconnected)
            await event_of(story, RetryIn)
            await event_of(story, DialFailed)
            await until(lambda: [each.state for each in push.statistics().endpoints] == ["failed"])
        assert isinstance(asked[-1], OSError)


@over("tcp")
async def test_a_peer_that_says_nothing_fails_its_handshake_in_time_and_is_dialled_again(endpoint: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:

        async def say_nothing(stream: trio.SocketStream) -> None:
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, say_nothing, listeners)
        options = Options(handshake_interval=0.05, reconnect_interval=0.01, linger=0)
        async with Sub(options=options) as sub, sub.monitor() as story:
            sub.connect(f"tcp://127.0.0.1:{port}")
            for _ in range(2):
                await event_of(story, Dialling)
                await event_of(story, Connected)
                await event_of(story, HandshakeFailed)
                await event_of(story, RetryIn)
        nursery.cancel_scope.cancel()


@over(*NETWORK)
async def test_disconnecting_ends_the_dialling(endpoint: str, new_endpoint: Callable[[], str]) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    async with Push(options=Options(reconnect_interval=0.01, linger=0)) as push, push.monitor() as story:
        push.connect(where)
        await event_of(story, RetryIn)
        await push.disconnect(where)
        assert push.endpoints == ()
        async with Pull(bind=where) as pull, Push(connect=where) as other:
            await other.send(b"other")
            assert await pull.receive() == b"other"
            assert ready_peers(pull) == 1
            assert waiting(pull) == []


@over("tcp")
async def test_the_queue_outlives_a_reset_connection_and_keeps_its_order(endpoint: str) -> None:
    """A raw peer takes some messages and resets; what the kernel had not taken arrives at the next, in order."""
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    host, port = raw_address(where)
    async with Push(connect=where, options=Options(send_hwm=None, reconnect_interval=0.01)) as push:
        listeners = await trio.open_tcp_listeners(port, host=host)
        stream = await listeners[0].accept()
        await listeners[0].aclose()
        await stream.send_all(GREETING + ready("PULL"))
        await read_exactly(stream, len(GREETING))
        await push.wait_connected()
        body = bytes(100_000)
        for number in range(200):
            await push.send_multipart([b"%d" % number, body])
        await stream.aclose()
        async with Pull(bind=where) as pull:
            first = int((await pull.receive_multipart())[0])
            rest = [int((await pull.receive_multipart())[0]) for _ in range(first + 1, 200)]
            assert rest == list(range(first + 1, 200))
            assert first > 0, "the kernel must have had some of it, or the test shows nothing"


@over("tcp", "ipc")
async def test_leaving_while_dialling_does_not_wait_for_the_next_attempt(endpoint: str) -> None:
    async with Pull(bind=endpoint) as reserved:
        where = reserved.last_endpoint or ""
    options = Options(reconnect_interval=60, reconnect_interval_max=60)
    with trio.fail_after(1):
        async with Push(connect=where, options=options) as push, push.monitor() as story:
            await event_of(story, DialFailed)


@over(*NETWORK)
async def test_after_a_connection_with_traffic_pauses_begin_anew_and_grow_again(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=BRIEF) as pull:
        async with Push(options=Options(reconnect_interval=0.001, linger=0)) as push, push.monitor() as story:
            push.connect(pull.last_endpoint or "")
            await push.send(b"traffic")
            assert await pull.receive() == b"traffic"
            await pull.aclose()
            assert [(await event_of(story, RetryIn)).attempt for _ in range(4)] == [1, 2, 3, 4]
