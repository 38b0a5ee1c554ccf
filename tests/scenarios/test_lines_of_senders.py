"""Those who wait for room stand in one line, whichever call they wait in: nobody overtakes, nobody is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_mq import Dealer, HostUnreachableError, Options, Pull, Push, Router, proxy

from .kit import EVERYWHERE, dropped, over, take, until, waiting

NARROW = Options(send_hwm=1, linger=0)
BRIEF = Options(linger=0)


@asynccontextmanager
async def full(endpoint: str) -> AsyncIterator[tuple[Push, Pull, trio.Nursery]]:
    """A PUSH that must wait for its only PULL, which has the message b"fill" to receive, and a nursery for senders."""
    async with Pull(bind=endpoint, options=Options(receive_hwm=1)) as pull:
        async with Push(connect=endpoint, options=NARROW) as push:
            push.send_nowait(b"fill")
            push.send_nowait(b"fill")
            assert not push.can_send()
            async with trio.open_nursery() as nursery:
                yield push, pull, nursery
                nursery.cancel_scope.cancel()


async def stand(nursery: trio.Nursery, call: Callable[..., Any], *arguments: object) -> None:
    """Start *call* and let it take its place in line."""
    nursery.start_soon(call, *arguments)
    await wait_all_tasks_blocked()


async def rest(pull: Pull, count: int) -> list[bytes]:
    """The next *count* messages behind those that filled the queue."""
    assert await take(pull, 2) == [[b"fill"]] * 2
    return [await pull.receive() for _ in range(count)]


# --- send beside send_many -------------------------------------------------------------------------------------------


@over("inproc")
async def test_a_send_behind_a_send_many_that_has_nothing_left_is_served(endpoint: str) -> None:
    async with full(endpoint) as (push, pull, nursery):
        await stand(nursery, push.send_many, iter(()))
        await stand(nursery, push.send, b"B")
        assert await rest(pull, 1) == [b"B"]


@over("inproc")
async def test_a_send_behind_a_send_many_goes_after_its_first_message_and_before_the_rest(endpoint: str) -> None:
    async with full(endpoint) as (push, pull, nursery):
        await stand(nursery, push.send_many, [b"A0", b"A1", b"A2"])
        await stand(nursery, push.send, b"B")
        got = await rest(pull, 4)
        assert [message for message in got if message != b"B"] == [b"A0", b"A1", b"A2"]
        assert got.index(b"A0") < got.index(b"B") < got.index(b"A2")


@over("inproc")
async def test_those_who_wait_are_served_in_the_order_in_which_they_came(endpoint: str) -> None:
    async with full(endpoint) as (push, pull, nursery):
        await stand(nursery, push.send, b"0")
        await stand(nursery, push.send_many, [b"1"])
        await stand(nursery, push.send_multipart, [b"2", b"two"])
        await stand(nursery, push.send_many, [[b"3", b"three"]])
        await stand(nursery, push.send, b"4")
        assert await take(pull, 7) == [[b"fill"]] * 2 + [
            [b"0"],
            [b"1"],
            [b"2", b"two"],
            [b"3", b"three"],
            [b"4"],
        ]


@over("inproc")
async def test_nobody_who_does_not_wait_goes_before_one_who_does(endpoint: str) -> None:
    async with full(endpoint) as (push, pull, nursery):
        await stand(nursery, push.send, b"first")
        assert push.send_many_nowait([b"pushy"]) == 0
        with pytest.raises(trio.WouldBlock):
            push.send_nowait(b"pushy")
        assert await rest(pull, 1) == [b"first"]
        assert waiting(pull) == []


@pytest.mark.parametrize("call", ["send", "send_multipart", "send_many"])
@over("inproc")
async def test_a_cancelled_waiter_lets_the_next_one_go(endpoint: str, call: str) -> None:
    taken: list[bytes] = []

    def messages() -> Iterator[bytes]:
        taken.append(b"cancelled")
        yield b"cancelled"

    argument = {"send": b"cancelled", "send_multipart": [b"cancelled"], "send_many": messages()}[call]
    async with full(endpoint) as (push, pull, nursery):
        scope = trio.CancelScope()

        async def wait_in_vain() -> None:
            with scope:
                await getattr(push, call)(argument)

        await stand(nursery, wait_in_vain)
        await stand(nursery, push.send, b"next")
        scope.cancel()
        assert await rest(pull, 1) == [b"next"]
        await wait_all_tasks_blocked()
        assert waiting(pull) == []
        assert taken == []
        assert push.can_send()


@over("inproc")
async def test_all_who_wait_get_in_when_many_places_become_free_at_once(endpoint: str) -> None:
    async with Push(connect=endpoint, options=NARROW) as push, trio.open_nursery() as nursery:
        push.send_nowait(b"fill")
        for number in range(10):
            await stand(nursery, push.send, b"%d" % number)
        async with Pull(bind=endpoint, options=Options(receive_hwm=100)) as pull:
            await wait_all_tasks_blocked()
            assert waiting(pull) == [[b"fill"], *([b"%d" % number] for number in range(10))]


# --- the iterator of a send_many -------------------------------------------------------------------------------------


def failing(*messages: bytes) -> Iterator[bytes]:
    yield from messages
    raise LookupError("the program's own")


@over("inproc")
async def test_an_iterator_that_fails_while_its_call_waits_fails_that_call_alone(endpoint: str) -> None:
    failures: list[Exception] = []
    async with full(endpoint) as (push, pull, nursery):

        async def send() -> None:
            try:
                await push.send_many(failing(b"A"))
            except LookupError as exc:
                failures.append(exc)

        await stand(nursery, send)
        await stand(nursery, push.send, b"B")
        # Whoever makes room runs the iterator; it must not see what is none of its business.
        assert sorted(await rest(pull, 2)) == [b"A", b"B"]
        await wait_all_tasks_blocked()
        assert [str(each) for each in failures] == ["the program's own"]
        await push.send(b"and on")
        assert await pull.receive() == b"and on"


@over("inproc")
async def test_messages_before_the_failure_of_an_iterator_were_queued(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=endpoint, options=BRIEF) as push:
        with pytest.raises(LookupError):
            await push.send_many(failing(b"1", b"2"))
        with pytest.raises(LookupError):
            push.send_many_nowait(failing(b"3"))
        with pytest.raises(TypeError):
            await push.send_many([b"4", "five"])  # type: ignore[list-item] # that is the point
        assert waiting(pull) == [[b"1"], [b"2"], [b"3"], [b"4"]]


@over("inproc")
async def test_a_failed_send_many_leaves_no_free_sends_behind(endpoint: str) -> None:
    async with Pull(bind=endpoint), Push(connect=endpoint, options=BRIEF) as push:
        with pytest.raises(LookupError):
            await push.send_many(failing(b"1"))
        count = 0
        with trio.CancelScope() as scope:
            scope.cancel()
            while count < 1000:
                await push.send(b"more")
                count += 1
        assert scope.cancelled_caught
        assert count <= 64


@over("inproc")
async def test_an_iterator_may_receive_at_the_other_end(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=endpoint, options=BRIEF) as push:
        got: list[list[bytes]] = []

        def messages() -> Iterator[bytes]:
            yield b"0"
            yield b"1"
            got.extend(waiting(pull))
            yield b"2"

        await push.send_many(messages())
        # With what it took the mailbox had fallen asleep, and the third has to wake it.
        got.append([await pull.receive()])
        assert got == [[b"0"], [b"1"], [b"2"]]


@over("inproc")
async def test_an_iterator_may_send_on_the_same_socket(endpoint: str) -> None:
    async with Pull(bind=endpoint) as pull, Push(connect=endpoint, options=BRIEF) as push:

        def messages() -> Iterator[bytes]:
            yield b"0"
            push.send_nowait(b"1")
            yield b"2"
            assert push.send_many_nowait([b"3", b"4"]) == 2
            yield b"5"

        await push.send_many(messages())
        assert waiting(pull) == [[b"%d" % number] for number in range(6)]


# --- ROUTER: a line for each peer ------------------------------------------------------------------------------------


@over(*EVERYWHERE)
async def test_send_many_of_a_router_without_peers_drops_and_returns(endpoint: str) -> None:
    async with Router(bind=endpoint, options=BRIEF) as router:
        await router.send_many([[b"nobody", b"1"], [b"nobody", b"2"]])
        assert router.send_many_nowait([[b"nobody", b"3"]]) == 1
        assert dropped(router, "unroutable") == 3


@over(*EVERYWHERE)
async def test_send_many_of_a_mandatory_router_says_that_nobody_has_the_id(endpoint: str) -> None:
    async with Router(bind=endpoint, options=Options(router_mandatory=True, linger=0)) as router:
        with pytest.raises(HostUnreachableError):
            await router.send_many([[b"nobody", b"1"]])
        with pytest.raises(HostUnreachableError):
            router.send_many_nowait([[b"nobody", b"1"]])


STRICT = [Options(overflow="block", send_hwm=1, linger=0), Options(router_mandatory=True, send_hwm=1, linger=0)]


def named(routing_id: bytes) -> Options:
    return Options(routing_id=routing_id, receive_hwm=1, linger=0)


@pytest.mark.parametrize("options", STRICT, ids=["block", "mandatory"])
@over("inproc")
async def test_one_peer_without_room_holds_up_no_message_for_another(endpoint: str, options: Options) -> None:
    async with (
        Router(bind=endpoint, options=options) as router,
        Dealer(connect=endpoint, options=named(b"A")) as slow,
        Dealer(connect=endpoint, options=named(b"B")) as quick,
        trio.open_nursery() as nursery,
    ):
        await stand(nursery, router.send_many, [[b"A", b"%d" % number] for number in range(4)])
        await stand(nursery, router.send_multipart, [b"A", b"4"])
        await router.send_multipart([b"B", b"0"])
        await router.send_many([[b"B", b"1"]])
        assert await take(quick, 2) == [[b"0"], [b"1"]]
        assert router.send_many_nowait([[b"B", b"2"]]) == 1
        assert await quick.receive() == b"2"
        assert sorted([await slow.receive() for _ in range(5)]) == [b"%d" % number for number in range(5)]


@pytest.mark.parametrize("options", STRICT, ids=["block", "mandatory"])
@over("inproc")
async def test_who_waits_for_a_peer_goes_on_waiting_for_the_one_that_takes_over_its_id(
    endpoint: str, options: Options
) -> None:
    async with Router(bind=endpoint, options=replace(options, router_handover=True)) as router:
        async with Dealer(connect=endpoint, options=named(b"A")), trio.open_nursery() as nursery:
            router.send_multipart_nowait([b"A", b"for the first"])
            router.send_multipart_nowait([b"A", b"for the first"])
            await stand(nursery, router.send_multipart, [b"A", b"0"])
            await stand(nursery, router.send_multipart, [b"A", b"1"])
            async with Dealer(connect=endpoint, options=named(b"A")) as newcomer:
                assert await take(newcomer, 2) == [[b"0"], [b"1"]]


@pytest.mark.parametrize("options", STRICT, ids=["block", "mandatory"])
@over("inproc")
async def test_who_waits_for_a_peer_that_goes_is_told_or_let_go(endpoint: str, options: Options) -> None:
    async with Router(bind=endpoint, options=options) as router:
        outcomes: list[str] = []

        async def send() -> None:
            try:
                await router.send_multipart([b"A", b"waits"])
            except HostUnreachableError:
                outcomes.append("unreachable")
            else:
                outcomes.append("let go")

        async with trio.open_nursery() as nursery:
            async with Dealer(connect=endpoint, options=named(b"A")):
                router.send_multipart_nowait([b"A", b"1"])
                router.send_multipart_nowait([b"A", b"2"])
                await stand(nursery, send)
                assert outcomes == []
        assert outcomes == ["unreachable" if options.router_mandatory else "let go"]


@over("inproc")
async def test_each_of_several_who_wait_for_room_is_woken_at_its_own_level(endpoint: str) -> None:
    async with (
        Router(bind=endpoint, options=Options(send_hwm=None, linger=0)) as router,
        Dealer(connect=endpoint, options=named(b"A")) as dealer,
        trio.open_nursery() as nursery,
    ):
        for _ in range(10):
            router.send_multipart_nowait([b"A", bytes(100)])
        woken: dict[int, int] = {}

        async def wait(below: int) -> None:
            await router.wait_room(b"A", below)
            woken[below] = router.peer_room(b"A")

        for below in (150, 850, 450):
            await stand(nursery, wait, below)
        while router.peer_room(b"A"):
            await dealer.receive()
            await wait_all_tasks_blocked()
        assert woken == {150: 100, 850: 800, 450: 400}


@over("tcp")
async def test_over_a_wire_everyone_who_waits_for_room_is_woken(endpoint: str) -> None:
    narrow = Options(routing_id=b"A", receive_hwm=4, receive_buffer=4096, linger=0)
    async with (
        Router(bind=endpoint, options=Options(send_hwm=None, linger=0, send_buffer=4096)) as router,
        Dealer(connect=router.last_endpoint, options=narrow) as dealer,
    ):
        await router.wait_connected()
        for _ in range(1000):
            router.send_multipart_nowait([b"A", bytes(1000)])
        async with trio.open_nursery() as nursery:
            for below in (100_000, 300_000, 500_000):
                await stand(nursery, router.wait_room, b"A", below)
            while nursery.child_tasks:
                await dealer.receive()
        assert router.peer_room(b"A") < 100_000


# --- the proxy -------------------------------------------------------------------------------------------------------


@over("inproc")
async def test_a_sender_beside_a_proxy_into_the_same_socket_is_served(
    endpoint: str, new_endpoint: Callable[[], str]
) -> None:
    front_endpoint = new_endpoint()
    async with (
        Pull(bind=front_endpoint) as front,
        Push(connect=front_endpoint, options=BRIEF) as source,
        full(endpoint) as (back, sink, nursery),
    ):
        await source.send(b"via the proxy")
        await stand(nursery, proxy, front, back)
        await stand(nursery, back.send, b"direct")
        assert sorted(await rest(sink, 2)) == [b"direct", b"via the proxy"]
        await source.send(b"and on")
        assert await sink.receive() == b"and on"


@over("inproc")
async def test_a_proxy_that_is_cancelled_while_it_waits_beside_a_sender_has_taken_nothing(
    endpoint: str, new_endpoint: Callable[[], str]
) -> None:
    front_endpoint = new_endpoint()
    async with (
        Pull(bind=front_endpoint) as front,
        Push(connect=front_endpoint, options=BRIEF) as source,
        full(endpoint) as (back, sink, nursery),
    ):
        await source.send(b"kept")
        scope = trio.CancelScope()

        async def pass_on() -> None:
            with scope:
                await proxy(front, back)

        await stand(nursery, pass_on)
        await stand(nursery, back.send, b"direct")
        scope.cancel()
        await wait_all_tasks_blocked()
        assert waiting(front) == [[b"kept"]]
        assert await rest(sink, 1) == [b"direct"]
        await until(back.can_send)
