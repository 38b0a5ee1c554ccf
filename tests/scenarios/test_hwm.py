"""High-water marks: what a queue holds, who waits, who drops (libzmq's test_hwm, test_hwm_pubsub, test_sockopt_hwm)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from trio_mq import Options, Pub, Pull, Push, Sub
from trio_mq.events import Closed

from .kit import NETWORK, dropped, event_of, over, unread, until, waiting

LIMIT = 10_000


def fill(push: Push) -> int:
    """Send until *push* would have to wait; how many it took, `LIMIT` when it never does."""
    for count in range(LIMIT):
        try:
            push.send_nowait(b"")
        except trio.WouldBlock:
            return count
    return LIMIT


MARKS = [(1, 1, 2), (10, 5, 15), (1000, 1000, 2000), (None, None, LIMIT), (1, None, LIMIT), (None, 1, LIMIT)]


@pytest.mark.parametrize(("send_hwm", "receive_hwm", "room"), MARKS)
@over("inproc")
async def test_inproc_holds_the_marks_of_both_ends_together(
    endpoint: str, send_hwm: int | None, receive_hwm: int | None, room: int
) -> None:
    async with Pull(bind=endpoint, options=Options(receive_hwm=receive_hwm)) as pull:
        async with Push(connect=endpoint, options=Options(send_hwm=send_hwm)) as push:
            assert fill(push) == room
            assert len(waiting(pull)) == room
            push.send_nowait(b"one more")
            assert waiting(pull) == [[b"one more"]]


@pytest.mark.parametrize(("send_hwm", "receive_hwm", "room"), MARKS)
@over("inproc")
async def test_inproc_holds_the_same_when_it_connects_first(
    endpoint: str, send_hwm: int | None, receive_hwm: int | None, room: int
) -> None:
    async with Push(connect=endpoint, options=Options(send_hwm=send_hwm)) as push:
        async with Pull(bind=endpoint, options=Options(receive_hwm=receive_hwm)) as pull:
            assert fill(push) == room
            assert len(waiting(pull)) == room


@over("inproc")
async def test_until_somebody_binds_inproc_holds_what_the_sender_allows(endpoint: str) -> None:
    async with Push(connect=endpoint, options=Options(send_hwm=7)) as push:
        assert fill(push) == 7
        async with Pull(bind=endpoint, options=Options(receive_hwm=3)) as pull:
            await push.wait_connected()
            assert fill(push) == 3
            assert len(waiting(pull)) == 10


@over("inproc")
async def test_a_leaving_sender_gives_its_unbound_endpoint_the_linger_to_appear(endpoint: str) -> None:
    async with Pull() as pull, trio.open_nursery() as nursery:

        async def send_and_leave() -> None:
            async with Push(connect=endpoint, options=Options(linger=10)) as push:
                await push.send(b"wait for me")

        nursery.start_soon(send_and_leave)
        await trio.testing.wait_all_tasks_blocked()
        await pull.bind(endpoint)
        assert await pull.receive() == b"wait for me"


@over("inproc")
async def test_what_nobody_came_for_is_named_when_the_linger_ends(
    endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    push = Push(connect=endpoint, options=Options(linger=1))
    async with push, push.monitor() as happenings:
        await push.send_many([b"lost"] * 3)
        await push.aclose()
        assert (await event_of(happenings, Closed)).unsent == 3
    assert any("3" in record.getMessage() and endpoint in record.getMessage() for record in caplog.records)


@over("inproc")
async def test_raising_a_mark_of_an_open_socket_makes_room_at_once(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=Options(receive_hwm=1)) as pull:
        async with Push(connect=endpoint, options=Options(send_hwm=1, linger=0)) as push:
            assert fill(push) == 2
            push.options = replace(push.options, send_hwm=5)
            assert fill(push) == 4
            push.options = replace(push.options, send_hwm=1)
            assert fill(push) == 0
            assert len(waiting(pull)) == 6


@over("inproc")
async def test_an_option_that_cannot_change_under_way_is_refused_by_name(endpoint: str) -> None:
    async with Push(bind=endpoint) as push:
        with pytest.raises(ValueError, match="conflate"):
            push.options = replace(push.options, conflate=True)


@over(*NETWORK)
async def test_a_sender_waits_when_everything_up_to_the_receiver_is_full_and_nothing_is_lost(endpoint: str) -> None:
    body = bytes(200_000)
    async with Pull(bind=endpoint, options=Options(receive_hwm=2)) as pull:
        async with Push(connect=pull.last_endpoint, options=Options(send_hwm=2)) as push:
            await push.wait_connected()
            await until(lambda: not push.can_send() or push.send_nowait(body) is not None)
            sent = sum(peer.sent + peer.queued_messages for peer in push.statistics().peers)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(push.send, b"the last")
                got = 0
                while await pull.receive() != b"the last":
                    got += 1
            assert 4 <= got <= sent


@over(*NETWORK)
async def test_a_receiver_at_its_mark_stops_reading_and_drops_nothing(endpoint: str) -> None:
    async with Pull(bind=endpoint, options=Options(receive_hwm=3)) as pull:
        async with Push(connect=pull.last_endpoint) as push:
            await push.send_many([b"%d" % number for number in range(500)])
            await push.flush()
            await until(lambda: unread(pull) == [3])
            assert [await pull.receive() for _ in range(500)] == [b"%d" % number for number in range(500)]
            assert not pull.statistics().dropped


@over("inproc")
async def test_a_publisher_drops_for_the_slow_alone_and_counts_each(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=Options(send_hwm=10)) as pub:
        slow = Sub(connect=endpoint, topics=b"", options=Options(receive_hwm=10))
        quick = Sub(connect=endpoint, topics=b"", options=Options(receive_hwm=1000))
        async with slow, quick:
            await pub.wait_subscribed(count=2)
            for number in range(100):
                pub.send_nowait(b"%d" % number)
            assert waiting(slow) == [[b"%d" % number] for number in range(20)]
            assert waiting(quick) == [[b"%d" % number] for number in range(100)]
            assert dropped(pub, "hwm") == 80
            pub.send_nowait(b"again")
            assert (waiting(slow), waiting(quick)) == ([[b"again"]], [[b"again"]])


@over(*NETWORK)
async def test_a_publisher_drops_only_when_the_kernel_takes_no_more(endpoint: str) -> None:
    async with Pub(bind=endpoint, options=Options(send_hwm=10)) as pub:
        async with Sub(connect=pub.last_endpoint, topics=b"") as sub:
            await pub.wait_subscribed()
            for number in range(800):
                await pub.send(b"%d" % number)
            assert [await sub.receive() for _ in range(800)] == [b"%d" % number for number in range(800)]
            assert dropped(pub, "hwm") == 0


@over("inproc")
async def test_a_mark_in_bytes_admits_one_message_of_any_size_above_it(endpoint: str) -> None:
    options = Options(send_hwm=None, send_hwm_bytes=100, receive_hwm=None, receive_hwm_bytes=100, linger=0)
    async with Push(connect=endpoint, options=options) as push:
        push.send_nowait(bytes(1000))
        with pytest.raises(trio.WouldBlock):
            push.send_nowait(b"")
