"""`StreamLink`: what is special about a link over something that can only be awaited."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from trio_mq._transports import StreamLink
from trio_mq._transports._stream_link import SLOT

from ._transports import receive, receive_exactly, send_all


class BrokenStream(trio.abc.Stream):
    """Gives *first*, then breaks with *error*; sending breaks at once."""

    def __init__(self, error: Exception, first: bytes = b"") -> None:
        self.error = error
        self.first = first
        self.closed = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise self.error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.first:
            first, self.first = self.first, b""
            return first
        raise self.error

    async def aclose(self) -> None:
        self.closed = self.closed + 1
        await trio.lowlevel.checkpoint()


ERRORS = [trio.BrokenResourceError("gone"), trio.ClosedResourceError("closed by its owner"), OSError(5, "I/O error")]


@pytest.mark.parametrize("error", ERRORS)
async def test_a_stream_that_breaks_is_a_reset_connection_from_then_on(error: Exception) -> None:
    link = StreamLink(BrokenStream(error, first=b"before"))
    with pytest.raises(ConnectionResetError, match=r"the stream broke"):
        await send_all(link, b"x")
    with pytest.raises(ConnectionResetError):
        link.try_send([b"x"])
    assert await receive(link) == b"before"
    with pytest.raises(ConnectionResetError, match=type(error).__name__) as caught:
        await receive(link)
    assert caught.value.__cause__ is error
    assert caught.value.errno == errno.ECONNRESET
    with pytest.raises(ConnectionResetError):
        link.try_receive(1)
    for wait in (link.wait_readable, link.wait_writable, link.flush):
        with pytest.raises(ConnectionResetError):
            await wait()


async def test_what_had_arrived_before_the_stream_broke_is_still_given() -> None:
    link = StreamLink(BrokenStream(trio.BrokenResourceError(), first=b"abcdef"))
    await link.wait_readable()
    with pytest.raises(ConnectionResetError):
        await send_all(link, b"x")
    assert link.try_receive(3) == b"abc"
    assert link.try_receive(3) == b"def"


async def test_a_slot_takes_no_more_than_its_size_and_is_full_until_it_is_flushed() -> None:
    near, far = trio.testing.memory_stream_pair()
    link = StreamLink(near)
    unflushed = [link.unflushed]
    assert link.try_send([b"x" * 10, b"y" * SLOT]) == SLOT
    unflushed.append(link.unflushed)
    assert link.try_send([b"z"]) == 0
    await link.flush()
    unflushed.append(link.unflushed)
    assert unflushed == [False, True, False]
    assert link.try_send([b"z"]) == 1
    await link.flush()
    received = bytes(await far.receive_some())
    assert received == b"x" * 10 + b"y" * (SLOT - 10) + b"z"


async def test_nothing_is_sent_twice_after_a_cancelled_send(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    link = StreamLink(near)
    link.try_send([b"abc"])
    with trio.move_on_after(1) as scope:
        await link.flush()
    assert scope.cancelled_caught
    with pytest.raises(ConnectionResetError, match="Cancelled"):
        link.try_send([b"def"])
    with pytest.raises(ConnectionResetError, match="Cancelled"):
        await link.flush()
    await link.aclose()
    await far.aclose()


async def test_a_flush_cancelled_before_it_began_has_lost_nothing() -> None:
    near, far = trio.testing.memory_stream_pair()
    link = StreamLink(near)
    link.try_send([b"abc"])
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.flush()
    assert link.unflushed
    await link.flush()
    assert await receive_exactly(StreamLink(far), 3) == b"abc"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_aclose_closes_the_stream_once_and_for_all(cancelled: bool) -> None:
    stream = BrokenStream(OSError())
    link = StreamLink(stream)
    link.close()
    assert stream.closed == 0  # there is no way without waiting
    with trio.CancelScope() as scope:
        if cancelled:
            scope.cancel()
        await link.aclose()
    assert stream.closed == 1


async def test_the_stream_of_a_trio_socket_will_do() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    near = StreamLink(await trio.open_tcp_stream("127.0.0.1", port), peer_address="tunnel")
    far = StreamLink(await listeners[0].accept())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, near, b"x" * 1_000_000)
        assert await receive_exactly(far, 1_000_000) == b"x" * 1_000_000
    await near.aclose()
    assert await receive(far) == b""
    await far.aclose()
    await listeners[0].aclose()
