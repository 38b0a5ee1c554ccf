"""Flow control: a reader that stops reading stops its own writer, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

from .._kit import ends, fails_with, ids_of, receipt, wait_until

CODE = grpc.StatusCode
WINDOW = 262_144
CHARGE = 64
"""What a message costs beside its bytes."""


class Producer:
    """Server streams that count what they were able to write."""

    def __init__(self, size: int, limit: int = 10**9) -> None:
        self.size = size
        self.limit = limit
        self.written = 0

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(self.limit):
            yield receipt(note=bytes(self.size)) if self.size else receipt()
            self.written += 1


async def place(request: Any, context: Any) -> Any:
    return receipt(id=request.id)


async def settled(count: Any) -> int:
    """The value of *count* once it no longer grows."""
    while True:
        before = int(count())
        for _ in range(5):
            await trio.testing.wait_all_tasks_blocked(0.01)
        if before == count() and before:
            return before


@pytest.mark.parametrize("size", [0, 100, 10_000, 100_000])
async def test_an_unread_stream_stops_its_writer_within_the_window(size: int, transport: str) -> None:
    producer = Producer(size)
    async with ends(transport=transport, Watch=producer.watch, Place=place) as both:
        call = both.stub.Watch(both.order())
        written = await settled(lambda: producer.written)
        # One message may go beyond, because any size has to pass; one more is in the generator's hands.
        assert written <= WINDOW // (size + CHARGE) + 3
        # ... and others still pass.
        assert (await both.stub.Place(both.order(id="other"))).id == "other"
        call.cancel()


@pytest.mark.parametrize("size", [0, 1000, 100_000])
async def test_a_writer_goes_on_when_its_reader_does(size: int) -> None:
    total = 2000 if size < 100_000 else 100
    producer = Producer(size, total)
    async with ends(Watch=producer.watch) as both:
        call = both.stub.Watch(both.order())
        await settled(lambda: producer.written)
        assert len(await ids_of(call)) == total
        assert await call.code() is CODE.OK


async def test_a_handler_that_does_not_read_stops_its_client() -> None:
    go_on = trio.Event()

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        await go_on.wait()
        return receipt(total=len(await ids_of(requests)))

    async with ends(Upload=upload, Place=place) as both, trio.open_nursery() as nursery:
        call = both.stub.Upload()
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(500):
                await call.write(both.order(note=bytes(10_000)))
                written += 1
            await call.done_writing()

        nursery.start_soon(write)
        assert await settled(lambda: written) <= WINDOW // 10_064 + 3
        assert (await both.stub.Place(both.order(id="other"))).id == "other"
        go_on.set()
        assert (await call).total == 500


async def test_an_iterator_of_requests_is_read_no_faster_than_the_handler_takes_them() -> None:
    go_on = trio.Event()
    taken = 0

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        await go_on.wait()
        return receipt(total=len(await ids_of(requests)))

    async with ends(Upload=upload) as both:

        async def endless() -> AsyncIterator[Any]:
            nonlocal taken
            for _ in range(500):
                taken += 1
                yield both.order(note=bytes(10_000))

        call = both.stub.Upload(endless())
        assert await settled(lambda: taken) <= WINDOW // 10_064 + 3
        go_on.set()
        assert (await call).total == 500


async def test_streams_that_nobody_reads_do_not_add_up_to_a_standstill() -> None:
    producer = Producer(10_000)
    async with ends(Watch=producer.watch, Place=place) as both:
        unread = [both.stub.Watch(both.order()) for _ in range(100)]
        await settled(lambda: producer.written)
        for each in "abc":
            assert (await both.stub.Place(both.order(id=each))).id == each
        assert (await unread[50].read()).note == bytes(10_000)
        for call in unread:
            call.cancel()


@pytest.mark.parametrize("size", [300_000, 1_000_000, 1_500_000, 4_000_000])
async def test_a_message_larger_than_the_window_passes_in_every_direction(size: int, transport: str) -> None:
    async def echo(request: Any, context: Any) -> Any:
        return receipt(note=request.note)

    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield receipt(note=request.note)

    note = bytes(range(256)) * (size // 256)
    async with ends(transport=transport, Place=echo, Haggle=haggle) as both:
        assert (await both.stub.Place(both.order(note=note))).note == note
        call = both.stub.Haggle(iter([both.order(note=note)] * 5))
        count = 0
        async for message in call:
            assert message.note == note
            count += 1
        assert count == 5


async def test_limits_of_size_can_be_lifted() -> None:
    options = [("grpc.max_receive_message_length", -1)]
    note = bytes(20_000_000)

    async def echo(request: Any, context: Any) -> Any:
        return receipt(note=request.note)

    async with ends(server={"options": options}, channel={"options": options}, Place=echo) as both:
        assert (await both.stub.Place(both.order(note=note))).note == note


async def test_limits_of_size_can_be_lowered() -> None:
    options = [("grpc.max_receive_message_length", 1000)]

    async def echo(request: Any, context: Any) -> Any:
        return receipt(note=bytes(request.quantity))

    async with ends(server={"options": options}, channel={"options": options}, Place=echo) as both:
        await both.stub.Place(both.order(quantity=900, note=bytes(900)))
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="1000"):
            await both.stub.Place(both.order(note=bytes(1100)))
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="1000"):
            await both.stub.Place(both.order(quantity=1100))


async def test_a_client_may_limit_what_it_sends() -> None:
    options = [("grpc.max_send_message_length", 1000)]
    async with ends(channel={"options": options}, Place=place) as both:
        await both.stub.Place(both.order(note=bytes(900)))
        with fails_with(CODE.RESOURCE_EXHAUSTED, details="1000"):
            await both.stub.Place(both.order(note=bytes(1100)))


async def test_small_calls_overtake_large_messages() -> None:
    """A large message goes in pieces, so that a small call does not wait for all of it."""
    done: list[str] = []

    async def echo(request: Any, context: Any) -> Any:
        return receipt(id=request.id, note=request.note)

    options = [("grpc.max_receive_message_length", -1)]
    async with ends(server={"options": options}, channel={"options": options}, Place=echo) as both:
        await both.stub.Place(both.order())  # connected
        for name, size in (("large", 60_000_000), ("small", 10)):
            call = both.stub.Place(both.order(id=name, note=bytes(size)))
            call.add_done_callback(lambda _, name=name: done.append(name))
        await wait_until(lambda: len(done) == 2, 20)
        assert done == ["small", "large"]


async def test_two_sides_that_both_write_and_read_do_not_block_each_other() -> None:
    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield receipt(note=request.note)

    async with ends(Haggle=haggle) as both:
        call = both.stub.Haggle()
        count = 0

        async def read() -> None:
            nonlocal count
            async for _ in call:
                count += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(500):
                await call.write(both.order(note=bytes(20_000)))
            await call.done_writing()
        assert count == 500


async def test_many_large_replies_at_once_all_arrive() -> None:
    async def large(request: Any, context: Any) -> Any:
        return receipt(note=bytes(314_159))

    async with ends(Place=large) as both:
        calls = [both.stub.Place(both.order()) for _ in range(200)]
        assert {len((await call).note) for call in calls} == {314_159}


async def test_a_cancelled_stream_leaves_the_room_of_the_others_alone() -> None:
    producer = Producer(50_000)
    async with ends(Watch=producer.watch, Place=place) as both:
        for _ in range(50):
            call = both.stub.Watch(both.order())
            await call.read()
            call.cancel()
        await wait_until(lambda: producer.written)
        last = both.stub.Watch(both.order())
        for _ in range(100):
            assert len((await last.read()).note) == 50_000
        last.cancel()
