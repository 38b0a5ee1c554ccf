"""Cancellation: every method cancelled where it waits has done nothing or everything, and the socket goes on.

Ctrl-C is the other interruption that comes from outside: at whatever moment, it leaves as a plain KeyboardInterrupt.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_mq import Dealer, Options, Pair, Pub, Pull, Push, Rep, Req, Router, StateError, Sub, XPub

ONE = Options(send_hwm=1, receive_hwm=1, linger=0)
BRIEF = Options(linger=0)
WHERE = "inproc://here"


async def cancelled_while_waiting(function: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Call and await, and cancel when it waits; fail if it does not."""
    scope = trio.CancelScope()

    async def call() -> None:
        with scope:
            await function(*args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
    assert scope.cancelled_caught, "it did not wait"


def fill(push: Push | Dealer | Pair) -> int:
    """Send numbers until *push* would wait; how many."""
    sent = 0
    while True:
        try:
            push.send_nowait(b"%d" % sent)
        except trio.WouldBlock:
            return sent
        sent += 1


SENDERS: list[tuple[Any, Any]] = [(Push, Pull), (Dealer, Dealer), (Pair, Pair)]


@pytest.mark.parametrize(("sender", "receiver"), SENDERS, ids=lambda cls: cls.__name__)
async def test_a_cancelled_send_queued_nothing(sender: Any, receiver: Any, autojump_clock: MockClock) -> None:
    async with receiver(bind=WHERE, options=ONE) as pull, sender(connect=WHERE, options=ONE) as push:
        sent = fill(push)
        await cancelled_while_waiting(push.send, b"never")
        await cancelled_while_waiting(push.send_multipart, [b"never", b"ever"])
        assert [await pull.receive() for _ in range(sent)] == [b"%d" % number for number in range(sent)]
        await push.send(b"next")
        assert await pull.receive() == b"next"


async def test_a_send_that_was_served_before_the_cancellation_is_done(autojump_clock: MockClock) -> None:
    """Room comes first, the cancellation second, both before the task runs again: then the message was sent."""
    async with Pull(bind=WHERE, options=ONE) as pull, Push(connect=WHERE, options=ONE) as push:
        sent = fill(push)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(push.send, b"waited")
                await trio.testing.wait_all_tasks_blocked()
                got = [pull.receive_nowait() for _ in range(sent)]
                scope.cancel()
        assert got == [b"%d" % number for number in range(sent)]
        assert pull.receive_nowait() == b"waited"
        with pytest.raises(trio.WouldBlock):
            pull.receive_nowait()


async def test_of_several_waiting_senders_a_cancelled_one_leaves_the_line_and_the_others_keep_their_order(
    autojump_clock: MockClock,
) -> None:
    async with Pull(bind=WHERE, options=ONE) as pull, Push(connect=WHERE, options=ONE) as push:
        sent = fill(push)
        scopes = [trio.CancelScope() for _ in range(3)]

        async def send(number: int) -> None:
            with scopes[number]:
                await push.send(b"waiter %d" % number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(send, number)
                await trio.testing.wait_all_tasks_blocked()
            scopes[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
            got = [await pull.receive() for _ in range(sent + 2)]
        assert got[sent:] == [b"waiter 0", b"waiter 2"]


RECEIVERS: list[tuple[Any, Any, dict[str, Any]]] = [
    (Pull, Push, {}),
    (Dealer, Dealer, {}),
    (Pair, Pair, {}),
    (Sub, Pub, {"topics": b""}),
]


@pytest.mark.parametrize(("receiver", "sender", "more"), RECEIVERS, ids=lambda item: getattr(item, "__name__", ""))
@pytest.mark.parametrize("method", ["receive", "receive_multipart", "receive_many", "receive_message"])
async def test_a_cancelled_receive_took_nothing(
    receiver: Any, sender: Any, more: dict[str, Any], method: str, autojump_clock: MockClock
) -> None:
    async with receiver(bind=WHERE, **more) as pull, sender(connect=WHERE) as push:
        await (push.wait_subscribed() if sender is Pub else push.wait_connected())
        await cancelled_while_waiting(getattr(pull, method))
        await push.send(b"after")
        assert await pull.receive() == b"after"


async def test_a_receive_that_was_served_before_the_cancellation_has_its_message(autojump_clock: MockClock) -> None:
    got: list[bytes] = []
    async with Pull(bind=WHERE) as pull, Push(connect=WHERE) as push:

        async def receive() -> None:
            got.append(await pull.receive())

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                await push.send(b"1")
                scope.cancel()
        await push.send(b"2")
        rest = [await pull.receive() for _ in range(2 - len(got))]
        assert got + rest == [b"1", b"2"]


async def test_of_several_waiting_receivers_the_others_get_what_a_cancelled_one_did_not(
    autojump_clock: MockClock,
) -> None:
    async with Pull(bind=WHERE) as pull, Push(connect=WHERE) as push:
        got: list[bytes] = []
        scopes = [trio.CancelScope() for _ in range(3)]

        async def receive(number: int) -> None:
            with scopes[number]:
                got.append(await pull.receive())

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(receive, number)
            await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            await push.send(b"1")
            await push.send(b"2")
        assert sorted(got) == [b"1", b"2"]


@pytest.mark.parametrize("rounds", [50])
async def test_nothing_is_lost_or_doubled_when_receivers_are_cancelled_at_random(
    rounds: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(7)
    got: list[int] = []
    async with Pull(bind=WHERE, options=ONE) as pull, Push(connect=WHERE, options=ONE) as push:

        async def receive(seconds: float) -> None:
            with trio.move_on_after(seconds):
                while True:
                    got.append(int(await pull.receive()))
                    await trio.sleep(rng.random() / 10)

        async with trio.open_nursery() as nursery:

            async def receivers() -> None:
                while len(got) < rounds * 10:
                    async with trio.open_nursery() as workers:
                        for _ in range(3):
                            workers.start_soon(receive, rng.random())

            nursery.start_soon(receivers)
            for number in range(rounds * 10):
                await push.send(b"%d" % number)
    assert sorted(got) == list(range(rounds * 10))


async def test_nothing_is_lost_or_doubled_when_senders_are_cancelled_at_random(autojump_clock: MockClock) -> None:
    """A cancelled send says so by Cancelled; every other one is received, in the order it was sent in."""
    rng = random.Random(7)
    sent: list[int] = []
    got: list[int] = []
    async with Pull(bind=WHERE, options=ONE) as pull, Push(connect=WHERE, options=ONE) as push:
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                while True:
                    await trio.sleep(rng.random())
                    got.append(int(await pull.receive()))

            nursery.start_soon(receive)
            for number in range(300):
                with trio.move_on_after(rng.random()):
                    await push.send(b"%d" % number)
                    sent.append(number)
            while len(got) < len(sent):
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert got == sent
    assert 50 < len(sent) < 300


async def test_a_cancelled_send_many_queued_exactly_the_items_it_took(autojump_clock: MockClock) -> None:
    async with Pull(bind=WHERE, options=ONE) as pull, Push(connect=WHERE, options=ONE) as push:
        numbers = iter([b"%d" % number for number in range(10)])
        await cancelled_while_waiting(push.send_many, numbers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(push.send_many, numbers)  # go on with the rest
            assert [await pull.receive() for _ in range(10)] == [b"%d" % number for number in range(10)]


async def test_in_a_cancelled_scope_send_many_takes_nothing_and_receive_many_gives_nothing(
    autojump_clock: MockClock,
) -> None:
    async with Pull(bind=WHERE) as pull, Push(connect=WHERE) as push:
        await push.send(b"there")
        numbers = iter([b"1", b"2"])
        for call in (lambda: push.send_many(numbers), pull.receive_many):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert next(numbers) == b"1"
        assert await pull.receive_many() == [b"there"]


@pytest.mark.parametrize(("type_", "peer"), [(Push, Pull), (Dealer, Dealer), (Req, Rep)], ids=lambda cls: cls.__name__)
async def test_a_cancelled_wait_for_a_first_peer_changes_nothing(
    type_: Any, peer: Any, autojump_clock: MockClock
) -> None:
    async with type_(bind=WHERE, options=BRIEF) as socket:
        await cancelled_while_waiting(socket.send, b"nobody")
        await cancelled_while_waiting(socket.wait_connected)
        async with peer(connect=WHERE) as other:
            await socket.wait_connected()
            await socket.send(b"somebody")
            assert await other.receive() == b"somebody"


async def test_a_cancelled_iteration_can_be_taken_up_again(autojump_clock: MockClock) -> None:
    async with Pull(bind=WHERE) as pull, Push(connect=WHERE) as push:

        async def iterate(messages: Any) -> None:
            async for _ in messages:
                raise AssertionError("nothing was sent")

        for messages in (pull, pull.multiparts(), pull.messages()):
            await cancelled_while_waiting(iterate, messages)
        await push.send(b"after")
        async for message in pull:
            assert message == b"after"
            break


# ---- requests


async def test_the_late_reply_to_a_cancelled_request_reaches_nobody(autojump_clock: MockClock) -> None:
    async with Rep(bind=WHERE) as rep, Req(connect=WHERE) as req:
        scope = trio.CancelScope()

        async def ask() -> None:
            with scope:
                await req.request(b"cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            assert await rep.receive() == b"cancelled"
            scope.cancel()
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                await rep.send(b"late")
                assert await rep.receive() == b"next"
                await rep.send(b"in time")

            nursery.start_soon(answer)
            assert await req.request(b"next") == b"in time"


async def test_a_request_cancelled_before_it_left_is_never_sent(autojump_clock: MockClock) -> None:
    async with Req(connect=WHERE, options=BRIEF) as req:
        await cancelled_while_waiting(req.request, b"cancelled")
        async with Rep(bind=WHERE) as rep, trio.open_nursery() as nursery:

            async def answer() -> None:
                assert await rep.receive() == b"next"
                await rep.send(b"answer")

            nursery.start_soon(answer)
            assert await req.request(b"next") == b"answer"


@pytest.mark.parametrize("endpoint", [WHERE, "tcp://127.0.0.1:*"])
async def test_towards_a_router_without_ids_a_late_reply_reaches_nobody_either(endpoint: str) -> None:
    """The connection is closed and dialled again at once, so that nothing late can come over it."""
    with trio.fail_after(5):
        async with (
            Router(bind=endpoint, options=BRIEF) as router,
            Req(connect=router.last_endpoint, options=BRIEF) as req,
        ):
            scope = trio.CancelScope()

            async def ask() -> None:
                with scope:
                    await req.request(b"cancelled")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                old_id, *_ = await router.receive_multipart()
                scope.cancel()
            async with trio.open_nursery() as nursery:

                async def answer() -> None:
                    new_id, delimiter, body = await router.receive_multipart()
                    assert (delimiter, body) == (b"", b"next")
                    await router.send_multipart([old_id, b"", b"late"])
                    await router.send_multipart([new_id, b"", b"in time"])

                nursery.start_soon(answer)
                assert await req.request(b"next") == b"in time"


async def test_of_many_requests_at_once_the_cancelled_ones_disturb_nobody(autojump_clock: MockClock) -> None:
    rng = random.Random(7)
    answered: list[int] = []
    async with Rep(bind=WHERE) as rep, Req(connect=WHERE) as req, trio.open_nursery() as nursery:

        async def serve() -> None:
            async for request in rep.requests():
                nursery.start_soon(reply, request, rng.random())

        async def reply(request: Any, seconds: float) -> None:
            await trio.sleep(seconds)
            await request.reply(request.message)

        async def ask(number: int) -> None:
            with trio.move_on_after(rng.random()):
                assert await req.request(b"%d" % number) == b"%d" % number
                answered.append(number)

        nursery.start_soon(serve)
        async with trio.open_nursery() as askers:
            for number in range(200):
                askers.start_soon(ask, number)
        assert 20 < len(answered) < 180
        await trio.sleep(2)  # virtual: for the late replies to come
        assert await req.request(b"usable") == b"usable"
        nursery.cancel_scope.cancel()


async def test_a_cancelled_receive_of_a_reply_leaves_the_reply_due(autojump_clock: MockClock) -> None:
    async with Rep(bind=WHERE) as rep, Req(connect=WHERE) as req:
        await req.send(b"question")
        await cancelled_while_waiting(req.receive)
        with pytest.raises(StateError, match="receive"):
            await req.send(b"too early")
        assert await rep.receive() == b"question"
        await rep.send(b"answer")
        assert await req.receive() == b"answer"


async def test_a_cancelled_reply_can_be_repeated(autojump_clock: MockClock) -> None:
    async with Rep(bind=WHERE) as rep, Req(connect=WHERE) as req, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await req.request(b"question") == b"answer"

        nursery.start_soon(ask)
        async for request in rep.requests():
            with trio.CancelScope() as scope:
                scope.cancel()
                await request.reply(b"answer")
            if scope.cancelled_caught:
                await request.reply(b"answer")
            break


async def test_a_cancelled_wait_for_a_request_took_none(autojump_clock: MockClock) -> None:
    async with Rep(bind=WHERE) as rep, Req(connect=WHERE) as req:
        requests = rep.requests()
        await cancelled_while_waiting(anext, requests)
        await cancelled_while_waiting(rep.receive)
        await req.send(b"question")
        request = await anext(requests)
        assert request.message == b"question"
        await request.reply(b"answer")
        assert await req.receive() == b"answer"


# ---- routers and publishers that wait for one peer


@pytest.mark.parametrize(
    "options", [Options(overflow="block", send_hwm=1, linger=0), Options(router_mandatory=True, send_hwm=1, linger=0)]
)
async def test_a_cancelled_send_of_a_waiting_router_queued_nothing(options: Options, autojump_clock: MockClock) -> None:
    async with Router(bind=WHERE, options=options) as router:
        async with Dealer(connect=WHERE, options=Options(routing_id=b"X", receive_hwm=1)) as dealer:
            await router.wait_connected()
            for number in range(2):
                router.send_multipart_nowait([b"X", b"%d" % number])
            await cancelled_while_waiting(router.send_multipart, [b"X", b"never"])
            await cancelled_while_waiting(router.receive_multipart)
            assert [await dealer.receive() for _ in range(2)] == [b"0", b"1"]
            await router.send_multipart([b"X", b"next"])
            assert await dealer.receive() == b"next"


async def test_a_cancelled_wait_for_room_changes_nothing(autojump_clock: MockClock) -> None:
    async with Router(bind=WHERE) as router:
        async with Dealer(connect=WHERE, options=Options(routing_id=b"X")) as dealer:
            await router.wait_connected()
            await router.send_multipart([b"X", bytes(100)])
            await cancelled_while_waiting(router.wait_room, b"X", 10)
            assert len(await dealer.receive()) == 100
            await router.wait_room(b"X", 10)


async def test_a_cancelled_publication_that_waits_reached_nobody(autojump_clock: MockClock) -> None:
    async with XPub(bind=WHERE, options=Options(overflow="block", send_hwm=1, linger=0)) as xpub:
        async with Sub(connect=WHERE, topics=b"", options=ONE) as slow, Sub(connect=WHERE, topics=b"") as quick:
            await xpub.wait_subscribed(count=2)
            for number in range(2):
                xpub.send_nowait(b"%d" % number)
            await cancelled_while_waiting(xpub.send, b"never")
            assert [await quick.receive() for _ in range(2)] == [b"0", b"1"]
            assert [await slow.receive() for _ in range(2)] == [b"0", b"1"]
            await xpub.send(b"next")
            assert (await slow.receive(), await quick.receive()) == (b"next", b"next")


async def test_a_cancelled_wait_subscribed_changes_nothing(autojump_clock: MockClock) -> None:
    async with Pub(bind=WHERE) as pub, Sub(connect=WHERE) as sub:
        await cancelled_while_waiting(pub.wait_subscribed)
        await cancelled_while_waiting(pub.wait_subscribed, b"a", 2)
        sub.subscribe(b"a")
        await pub.wait_subscribed(b"a")


# ---- endpoints, closing, watching


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*", WHERE])
async def test_a_cancelled_bind_bound_nothing_or_all(endpoint: str) -> None:
    async with Pull() as pull:
        before = len(os.listdir("/proc/self/fd"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await pull.bind(endpoint)
        if scope.cancelled_caught:
            assert pull.endpoints == ()
            assert len(os.listdir("/proc/self/fd")) == before
            await pull.bind(endpoint)
        assert len(pull.endpoints) == 1


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*", WHERE])
async def test_a_cancelled_unbind_or_disconnect_is_done(endpoint: str) -> None:
    with trio.fail_after(5):
        async with Pull(bind=endpoint) as pull, Push(connect=pull.last_endpoint, options=BRIEF) as push:
            where = pull.last_endpoint or ""
            for call in (push.disconnect, pull.unbind):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await call(where)
            assert (pull.endpoints, push.endpoints) == ((), ())
            assert not pull.statistics().peers


async def test_a_cancelled_flush_changes_nothing(autojump_clock: MockClock) -> None:
    async with Push(connect=WHERE) as push:
        await push.send_many([b"1", b"2"])
        await cancelled_while_waiting(push.flush)
        async with Pull(bind=WHERE) as pull:
            await push.flush()
            assert await pull.receive_many() == [b"1", b"2"]


async def test_a_cancelled_watcher_misses_nothing(autojump_clock: MockClock) -> None:
    async with Pull(bind=WHERE) as pull, pull.monitor() as story:
        seen: list[str] = []

        async def watch() -> None:
            async for event in story:
                seen.append(type(event).__name__)  # noqa: PERF401 - what was seen before the cancellation counts

        with trio.move_on_after(1):
            await watch()
        async with Push(connect=WHERE):
            await pull.wait_connected()
        with trio.move_on_after(1):
            await watch()
        assert seen[0] == "Listening"
        assert "HandshakeSucceeded" in seen
        assert seen[-1] == "Disconnected"


async def test_a_cancelled_aclose_has_closed_at_once(autojump_clock: MockClock) -> None:
    async with Push(connect=WHERE, options=Options(linger=math.inf)) as push:
        await push.send(b"unsent")
        await cancelled_while_waiting(push.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await push.send(b"closed")


# ---- over the network, where messages may be half written


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*"])
async def test_a_cancelled_send_over_the_network_leaves_the_stream_whole(endpoint: str) -> None:
    rng = random.Random(7)
    sent: list[int] = []
    got: list[int] = []
    with trio.fail_after(20):
        async with Pull(bind=endpoint, options=Options(receive_hwm=2)) as pull:
            async with (
                Push(connect=pull.last_endpoint, options=Options(send_hwm=2)) as push,
                trio.open_nursery() as nursery,
            ):

                async def receive() -> None:
                    async for number, body in pull.multiparts():
                        assert body == number * 30_000
                        if number == b"end":
                            return
                        got.append(int(number))

                nursery.start_soon(receive)
                for number in range(400):
                    with trio.move_on_after(rng.random() * 0.002):
                        await push.send_multipart([b"%03d" % number, b"%03d" % number * 30_000])
                        sent.append(number)
                await push.send_multipart([b"end", b"end" * 30_000])
    assert got == sent


# ---- Ctrl-C

UNDER_LOAD = textwrap.dedent(
    """
    import os, signal, trio
    from trio_mq import Options, Pub, Pull, Push, Rep, Req, Sub

    async def load(after):
        brief = Options(linger=0)
        async with (
            Pull(bind=WHERE, options=brief) as pull, Push(connect=pull.last_endpoint, options=brief) as push,
            Rep(bind=WHERE2, options=brief) as rep, Req(connect=rep.last_endpoint, options=brief) as req,
            Pub(bind=WHERE3, options=brief) as pub, Sub(connect=pub.last_endpoint, topics=b"", options=brief) as sub,
            trio.open_nursery() as nursery,
        ):
            async def sends():
                while True:
                    await push.send(b"x" * 100)
            async def receives(socket):
                async for _ in socket:
                    pass
            async def answers():
                async for request in rep.requests():
                    await request.reply(request.message)
            async def asks():
                while True:
                    await req.request(b"?")
            async def publishes():
                while True:
                    await pub.send(b"news")
            for task in (sends, answers, asks, publishes):
                nursery.start_soon(task)
            nursery.start_soon(receives, pull)
            nursery.start_soon(receives, sub)
            # Now, and not before: an interrupt in a nursery's own `start_soon` leaves a coroutine that is never
            # awaited, which is the program's affair. A timer, not a thread: a busy loop may keep other threads from
            # the interpreter lock for seconds.
            signal.setitimer(signal.ITIMER_REAL, after)

    def only_keyboard_interrupts(exc):
        # The user's own nursery may wrap it; nothing else may be in it.
        if isinstance(exc, BaseExceptionGroup):
            return all(map(only_keyboard_interrupts, exc.exceptions))
        return isinstance(exc, KeyboardInterrupt)

    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))

    for after in MOMENTS:
        before = len(os.listdir("/proc/self/fd"))
        try:
            trio.run(load, after)
        except BaseException as exc:
            assert only_keyboard_interrupts(exc), repr(exc)
        else:
            raise AssertionError("the interrupt was swallowed")
        assert len(os.listdir("/proc/self/fd")) == before, "a file was left open"
    print("survived", len(MOMENTS))
    """
)


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:*", "inproc://load"])
def test_ctrl_c_at_any_moment_under_load_leaves_plainly_and_closes_everything(where: str) -> None:
    rng = random.Random(7)
    moments = [0.0005 + rng.random() * 0.04 for _ in range(100)]
    places = [where + ("" if where.endswith("*") else str(number)) for number in range(3)]
    program = f"MOMENTS = {moments}\nWHERE, WHERE2, WHERE3 = {places}\n{UNDER_LOAD}"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "survived 100\n", done.stderr[-3000:]
    for trouble in ("Traceback", "ResourceWarning", "never awaited"):
        assert trouble not in done.stderr


def test_ctrl_c_in_the_block_itself_is_a_plain_keyboard_interrupt() -> None:
    async def main() -> None:
        async with Pull(bind="tcp://127.0.0.1:*") as pull, Push(connect=pull.last_endpoint) as push:
            await push.send(b"hello")
            assert await pull.receive() == b"hello"
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    assert type(caught.value) is KeyboardInterrupt
    assert len(os.listdir("/proc/self/fd")) == before


def test_ctrl_c_while_lingering_ends_the_lingering() -> None:
    program = textwrap.dedent(
        """
        import trio, trio_mq, math
        async def main():
            async with trio_mq.Push(connect="inproc://nobody", options=trio_mq.Options(linger=math.inf)) as push:
                await push.send(b"unsent")
                print("lingering", flush=True)
        try:
            trio.run(main)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lingering\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert out == "interrupted\n", err
