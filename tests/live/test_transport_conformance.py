"""The contract of `Link` and `Listener`, which every transport that gives byte streams has to keep."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest
import trio

from trio_mq._endpoint import parse_endpoint
from trio_mq._options import Options
from trio_mq._transports import Link, _registry, register_transport, transport_for

from ._transports import (
    Ends,
    HallTransport,
    address_of,
    connect,
    connected,
    fill,
    listen,
    open_descriptors,
    receive,
    receive_exactly,
    receive_to_the_end,
    send_all,
)

_numbers = count()

ENDPOINTS = ["tcp", "ipc", "abstract", "hall", "step"]


@pytest.fixture(autouse=True)
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third party's transport, registered by the public door and forgotten afterwards."""
    monkeypatch.setattr(_registry, "_transports", dict(_registry._transports))
    register_transport(HallTransport())


@pytest.fixture(params=ENDPOINTS)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Something to bind that nobody else has."""
    if request.param == "tcp":
        return "tcp://127.0.0.1:*"
    if request.param == "ipc":
        return f"ipc://{tmp_path}/link"
    if request.param == "abstract":
        if sys.platform != "linux":
            pytest.skip("abstract names exist on Linux only")
        return f"ipc://@trio-mq-conformance-{os.getpid()}-{next(_numbers)}"
    return f"{request.param}://conformance"


@pytest.fixture
async def ends(endpoint: str) -> AsyncIterator[Ends]:
    async with connected(endpoint) as found:
        yield found


async def in_the_background(nursery: trio.Nursery, wait: Callable[[], Awaitable[object]]) -> list[BaseException | None]:
    """Start *wait* and let it block; how it ended will be the list's one item: an exception, or None."""
    outcome: list[BaseException | None] = []

    async def run() -> None:
        try:
            await wait()
        except (trio.ClosedResourceError, OSError) as exc:
            outcome.append(exc)
        else:
            outcome.append(None)

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    return outcome


# ---- bytes


async def test_what_one_end_sends_the_other_receives(ends: Ends) -> None:
    for sender, receiver in ((ends.near, ends.far), (ends.far, ends.near)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, sender, b"over there")
            assert await receive_exactly(receiver, 10) == b"over there"


async def test_several_buffers_of_both_kinds_arrive_in_order(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, b"one", memoryview(b"-two-")[1:-1], b"", b"three")
        assert await receive_exactly(ends.far, 11) == b"onetwothree"


async def test_more_buffers_than_the_system_takes_at_once_arrive_whole(ends: Ends) -> None:
    buffers = [b"%05d" % number for number in range(5000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, *buffers)
        assert await receive_exactly(ends.far, 25_000) == b"".join(buffers)


async def test_big_buffers_are_taken_piece_by_piece_and_arrive_whole(ends: Ends) -> None:
    big = os.urandom(1 << 20) * 4
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, big, big)
        assert await receive_exactly(ends.far, 2 * len(big)) == big + big


async def test_both_directions_carry_at_once(ends: Ends) -> None:
    big = os.urandom(1 << 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, big)
        nursery.start_soon(send_all, ends.far, big[::-1])
        assert await receive_exactly(ends.far, len(big)) == big
        assert await receive_exactly(ends.near, len(big)) == big[::-1]


async def test_receiving_from_a_silent_peer_gives_none(ends: Ends) -> None:
    assert ends.far.try_receive(100) is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, b"x")
        assert await receive(ends.far) == b"x"
    assert ends.far.try_receive(100) is None


async def test_no_more_than_the_limit_is_received_and_the_rest_stays(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, b"abcdefg")
        assert await receive_exactly(ends.far, 1) == b"a"
        await ends.far.wait_readable()
        assert ends.far.try_receive(4) == b"bcde"
        assert await receive(ends.far) == b"fg"


async def test_the_end_of_the_stream_is_empty_bytes_after_all_that_was_sent_and_stays(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, b"last words")
        assert await receive_exactly(ends.far, 10) == b"last words"
    await ends.near.aclose()
    await ends.far.wait_readable()
    assert ends.far.try_receive(100) == b""
    await ends.far.wait_readable()
    assert ends.far.try_receive(100) == b""


async def test_a_full_link_takes_nothing_until_the_peer_has_read(ends: Ends) -> None:
    total = fill(ends.near)
    assert total > 0
    assert ends.near.try_send([b"x"]) == 0
    async with trio.open_nursery() as nursery:
        room = await in_the_background(nursery, ends.near.wait_writable)
        if not ends.listener.endpoint.startswith("hall"):  # memory streams hold any amount
            assert room == []
        await receive_exactly(ends.far, total)
    assert room == [None]
    assert ends.near.try_send([b"x"]) == 1


async def test_waiting_for_room_in_an_empty_link_ends_at_once(ends: Ends) -> None:
    await ends.near.wait_writable()
    assert ends.near.try_send([b"x"]) == 1


async def test_after_flush_nothing_is_left_in_this_process(ends: Ends) -> None:
    assert ends.near.try_send([b"abc", b"def"]) == 6
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.flush)
        assert await receive_exactly(ends.far, 6) == b"abcdef"
    assert not ends.near.unflushed
    await ends.near.flush()  # nothing to flush


# ---- cancellation


async def test_a_cancelled_wait_for_bytes_loses_none(ends: Ends) -> None:
    received = bytearray()

    async def receive_impatiently() -> None:
        while len(received) < 20_000:
            with trio.CancelScope() as scope:
                scope.cancel()
                await ends.far.wait_readable()
            with trio.move_on_after(0.0001):
                await ends.far.wait_readable()
            received.extend(ends.far.try_receive(7) or b"")

    data = os.urandom(20_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive_impatiently)
        for start in range(0, len(data), 100):
            await send_all(ends.near, data[start : start + 100])
    assert bytes(received) == data


async def test_a_cancelled_wait_for_room_loses_nothing_or_fails_the_link(ends: Ends) -> None:
    total = fill(ends.near)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.near.wait_writable)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    failed = False
    async with trio.open_nursery() as nursery:

        async def go_on() -> None:
            nonlocal failed
            try:
                await send_all(ends.near, b"the end")
            except OSError:
                failed = True
            ends.near.close()
            await ends.near.aclose()

        nursery.start_soon(go_on)
        received = await receive_to_the_end(ends.far)
    if failed:
        assert ends.listener.endpoint.startswith("step"), "a kernel socket has no reason to fail"
        assert received == b"x" * len(received)
    else:
        assert received == b"x" * total + b"the end"


async def test_waits_are_checkpoints(ends: Ends) -> None:
    for wait in (ends.near.wait_writable, ends.near.flush, ends.near.wait_readable, ends.listener.accept):
        with trio.CancelScope() as scope:
            scope.cancel()
            await wait()
        assert scope.cancelled_caught


# ---- closing


async def test_closing_wakes_the_reader_and_the_writer(ends: Ends) -> None:
    fill(ends.near)
    async with trio.open_nursery() as nursery:
        reader = await in_the_background(nursery, ends.near.wait_readable)
        writer = await in_the_background(nursery, ends.near.wait_writable)
        ends.near.close()
    assert [type(exc) for exc in reader] == [trio.ClosedResourceError]
    if ends.listener.endpoint.startswith("hall"):
        assert writer == [None]  # it had room, and ended before
    else:
        assert [type(exc) for exc in writer] == [trio.ClosedResourceError]


async def test_a_closed_link_refuses_everything_but_closing(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, b"unread")
        await ends.far.wait_readable()
        ends.far.close()
        nursery.cancel_scope.cancel()
    ends.far.close()
    for wait in (ends.far.wait_readable, ends.far.wait_writable, ends.far.flush):
        with pytest.raises(trio.ClosedResourceError):
            await wait()
    with pytest.raises(OSError, match=r".+"):
        ends.far.try_send([b"x"])
    with pytest.raises(OSError, match=r".+"):
        ends.far.try_receive(1)
    await ends.far.aclose()
    await ends.far.aclose()


async def test_closing_in_a_cancelled_scope_closes_all_the_same(ends: Ends) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await ends.near.aclose()
    assert await receive(ends.far) == b""


async def test_sending_to_a_peer_that_is_gone_is_an_os_error(ends: Ends) -> None:
    await ends.far.aclose()
    with pytest.raises(OSError, match=r".+"):
        while True:
            if not ends.near.try_send([b"x" * 1000]):
                await ends.near.wait_writable()
    with pytest.raises(OSError, match=r".+"):
        ends.near.try_send([b"x"])


async def test_nothing_stays_open(endpoint: str) -> None:
    async def several_connections() -> None:
        for _ in range(3):
            async with connected(endpoint) as ends:
                fill(ends.near)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ends.near.wait_readable)
                    nursery.start_soon(ends.near.wait_writable)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()

    await several_connections()  # whatever is opened once and for all is open now
    before = open_descriptors()
    await several_connections()
    assert open_descriptors() == before


# ---- listeners


async def test_connections_are_accepted_in_the_order_they_came(endpoint: str) -> None:
    listener = await listen(endpoint)
    links: list[Link] = []
    try:
        for number in range(5):
            links.append(await connect(listener.endpoint))
            links[-1].try_send([b"%d" % number])
        accepted = [await listener.accept() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(link.flush)
            assert [await receive(link) for link in accepted] == [b"0", b"1", b"2", b"3", b"4"]
        links += accepted
    finally:
        listener.close()
        for link in links:
            await link.aclose()


async def test_a_cancelled_accept_took_no_connection(endpoint: str) -> None:
    listener = await listen(endpoint)
    with trio.move_on_after(0):
        await listener.accept()
    async with trio.open_nursery() as nursery:
        near = await connect(listener.endpoint)
        with trio.CancelScope() as scope:
            scope.cancel()
            await listener.accept()
        far = await listener.accept()
        nursery.start_soon(send_all, near, b"still here")
        assert await receive_exactly(far, 10) == b"still here"
    listener.close()
    await near.aclose()
    await far.aclose()


async def test_closing_a_listener_wakes_who_accepts_and_refuses_newcomers(endpoint: str) -> None:
    listener = await listen(endpoint)
    async with trio.open_nursery() as nursery:
        accepting = await in_the_background(nursery, listener.accept)
        listener.close()
    assert [type(exc) for exc in accepting] == [trio.ClosedResourceError]
    listener.close()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    with pytest.raises(OSError, match=r".+"):
        await connect(listener.endpoint)


async def test_accepted_links_outlive_their_listener(ends: Ends) -> None:
    ends.listener.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, ends.near, b"still here")
        assert await receive_exactly(ends.far, 10) == b"still here"


async def test_an_endpoint_in_use_is_an_os_error_and_stays_with_its_owner(ends: Ends) -> None:
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await listen(ends.listener.endpoint)
    near = await connect(ends.listener.endpoint)
    far = await ends.listener.accept()
    await near.aclose()
    assert await receive(far) == b""
    await far.aclose()


async def test_an_endpoint_can_be_bound_again_at_once_after_closing(ends: Ends) -> None:
    ends.listener.close()
    again = await listen(ends.listener.endpoint)
    assert again.endpoint == ends.listener.endpoint
    again.close()


async def test_connecting_where_nobody_listens_is_an_os_error_and_leaves_nothing_open(endpoint: str) -> None:
    listener = await listen(endpoint)
    listener.close()
    with contextlib.suppress(OSError):
        await connect(listener.endpoint)
    before = open_descriptors()
    with pytest.raises(OSError, match=r".+"):
        await connect(listener.endpoint)
    assert open_descriptors() == before


async def test_a_resolved_endpoint_is_one_that_can_be_connected_to(ends: Ends) -> None:
    resolved = ends.listener.endpoint
    transport, address = address_of(resolved, binding=False)
    assert str(address) == resolved
    assert transport is transport_for(parse_endpoint(resolved))
    assert hash(address) == hash(transport.parse(parse_endpoint(resolved), binding=False))
    link = await transport.connect(address, Options())
    await link.aclose()


async def test_reprs_show_both_ends(ends: Ends) -> None:
    assert ends.listener.endpoint in repr(ends.listener)
    assert ends.listener.endpoint in repr(ends.far)
    assert ends.near.peer_address in repr(ends.near)
    await ends.near.aclose()
    assert ends.near.peer_address in repr(ends.near)


async def test_options_of_an_endpoint_reach_its_sockets(endpoint: str) -> None:
    async with connected(endpoint, Options(send_buffer=50_000, receive_buffer=60_000, backlog=3)) as ends:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, ends.near, b"small buffers do")
            assert await receive_exactly(ends.far, 16) == b"small buffers do"
