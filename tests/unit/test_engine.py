"""The engine: between two mailboxes and a link that takes and gives what the test wants."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mq import zmtp
from trio_mq._core._engine import ENOUGH, TURNS_TO_CATCH_UP, Engine
from trio_mq._core._timers import Timers
from trio_mq._core._writer import BURST, GATHER, JOIN, LARGE, WRITE_GAP, YIELD_AFTER, Pace, Writing
from trio_mq._errors import RemoteProtocolError
from trio_mq._message import Payload
from trio_mq._patterns import Dealer, Pattern, PipeFace
from trio_mq._pipe import Pipe
from trio_mq._transports import Link
from trio_mq.zmtp import Heartbeat, encode_message

from ._pipes import new_pipe

IDLE, WOKEN, WRITING, DEAD = Writing.IDLE, Writing.WOKEN, Writing.WRITING, Writing.DEAD
PING = bytes.fromhex("04 07 04 50494e47 0000")
PONG = bytes.fromhex("04 05 04 504f4e47")


class FakeLink(Link):
    """A kernel that takes `takes` bytes more (None: any number), fails on demand, and gives what lies in `arrived`."""

    def __init__(self) -> None:
        self.peer_address = "fake://peer"
        self.local_address = "fake://here"
        self.takes: int | None = None
        self.failure: OSError | None = None
        self.writes: list[bytes] = []
        self.offered: list[Sequence[bytes | memoryview]] = []
        self.arrived: deque[bytes] = deque()
        self.reads = 0
        self.closed = False
        self.holding_back = False
        self.flushes = 0
        self._changed = trio.Event()

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)

    @property
    def unflushed(self) -> bool:
        return self.holding_back and self.flushes < len(self.writes)

    def _check(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, "this link is closed")
        if self.failure is not None:
            raise self.failure

    def try_send(self, buffers: Sequence[bytes | memoryview]) -> int:
        self._check()
        self.offered.append(buffers)
        data = b"".join(buffers)
        assert data, "there must be something to send"
        taken = data if self.takes is None else data[: self.takes]
        if self.takes is not None:
            self.takes -= len(taken)
        if taken:
            self.writes.append(taken)
        return len(taken)

    def try_receive(self, limit: int) -> bytes | None:
        self._check()
        self.reads += 1
        if not self.arrived:
            return None
        data = self.arrived.popleft()
        if len(data) > limit:
            self.arrived.appendleft(data[limit:])
        return data[:limit]

    async def _wait(self, ready: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not (self.closed or self.failure is not None or ready()):
            await self._changed.wait()
        if self.closed:
            raise trio.ClosedResourceError("this link was closed")

    async def wait_writable(self) -> None:
        await self._wait(lambda: self.takes != 0)

    async def wait_readable(self) -> None:
        await self._wait(lambda: bool(self.arrived))

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.flushes = len(self.writes)

    def close(self) -> None:
        self.closed = True
        self.change()

    # What the test does.

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def take(self, count: int | None) -> None:
        """Take *count* bytes (None: any number) from now on."""
        self.takes = count
        self.change()

    def fail(self) -> None:
        self.failure = ConnectionResetError(errno.ECONNRESET, "the peer is gone")

    def give(self, *data: bytes) -> None:
        """These bytes have arrived; empty: the end of the stream."""
        self.arrived.extend(data)
        self.change()


class Gatekeeper(Dealer):
    """A pattern that remembers subscriptions, and accepts what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: list[tuple[bytes, bool]] = []
        self.refused: bytes = b"refuse me"

    def accept(self, pipe: PipeFace, messages: list[Payload]) -> list[Payload]:
        return [message for message in messages if message != self.refused]

    def subscription(self, pipe: PipeFace, topic: bytes, subscribe: bool) -> None:
        self.subscriptions.append((topic, subscribe))


class FakeHost:
    """A socket with a clock that the test moves, and no idea of anything else."""

    def __init__(self, start: Callable[..., object]) -> None:
        self.keeper = Gatekeeper()
        self.pattern: Pattern = self.keeper
        self.timers = Timers(start)
        self.pace: Pace | None = None
        self.now = 1000.0
        self.idle = 0
        self.on_idle: Callable[[], None] = lambda: None

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.now

    def went_idle(self) -> None:
        self.idle += 1
        self.on_idle()


def shaken() -> zmtp.Connection:
    """A real connection past its handshake with another."""
    near = zmtp.Connection("DEALER", mechanism=zmtp.NullMechanism(), accepting=False, max_message_size=1 << 20)
    far = zmtp.Connection("DEALER", mechanism=zmtp.NullMechanism(), accepting=True)
    while near.peer is None or far.peer is None:
        for one, other in ((near, far), (far, near)):
            data = one.data_to_send()
            if data:
                other.receive(data)
    return near


class Bench:
    """An engine under test."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        hwm: int | None = 1000,
        heartbeat: Heartbeat | None = None,
        eager: bool = True,
        encoded: bool = False,
    ) -> None:
        self.host = FakeHost(nursery.start_soon)
        self.link = FakeLink()
        self.pipe: Pipe = new_pipe(hwm=hwm)
        self.pipe.outbound.encoded = encoded
        self.engine = Engine(self.host, self.link, shaken(), self.pipe, heartbeat or Heartbeat(), eager=eager)
        self.pipe.connection = self.engine
        self.pipe.inbound.on_item = lambda: self.host.keeper.readable(self.pipe)
        self._nursery = nursery

    @property
    def state(self) -> Writing:
        return self.engine._writer.state

    async def write(self) -> None:
        """Start the writing task, and let it come to rest."""
        self._nursery.start_soon(self.engine.writing)
        await wait_all_tasks_blocked()

    async def read(self) -> None:
        """Start the reading task, and let it come to rest."""
        self._nursery.start_soon(self.engine.reading)
        await wait_all_tasks_blocked()

    def put(self, *messages: Payload) -> None:
        for message in messages:
            assert self.pipe.outbound.put(message)

    def received(self) -> list[object]:
        return self.pipe.inbound.waiting()

    def pause(self) -> None:
        """Time goes by, so that nothing was written lately."""
        self.host.now += 2 * BURST * WRITE_GAP


@asynccontextmanager
async def a_bench(
    *,
    hwm: int | None = 1000,
    heartbeat: Heartbeat | None = None,
    eager: bool = True,
    encoded: bool = False,
) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(nursery, hwm=hwm, heartbeat=heartbeat, eager=eager, encoded=encoded)
        nursery.cancel_scope.cancel()


def wire(*messages: Payload) -> bytes:
    return b"".join(map(encode_message, messages))


# --- writing: the states ---------------------------------------------------------------------------------------------


async def test_what_was_queued_before_goes_out_together_when_the_writer_runs() -> None:
    async with a_bench() as bench:
        bench.put(b"1", [b"2", b"3"], b"4")
        assert bench.state is WOKEN
        assert bench.link.writes == []
        await bench.write()
        assert bench.link.writes == [wire(b"1", [b"2", b"3"], b"4")]
        assert bench.state is IDLE
        assert bench.host.idle == 1
        assert bench.pipe.outbound.asleep
        assert bench.pipe.outbound.passed == 3


async def test_the_first_message_after_a_pause_is_written_by_its_sender() -> None:
    async with a_bench() as bench:
        await bench.write()
        bench.pause()
        bench.put(b"1")
        assert bench.link.sent == wire(b"1")
        assert bench.state is IDLE
        assert bench.pipe.outbound.asleep, "so that the next one comes here as well"
        assert len(bench.pipe.outbound) == 0


async def test_in_a_stream_the_writer_is_woken_instead_and_joins_what_has_come() -> None:
    async with a_bench() as bench:
        await bench.write()
        bench.pause()
        bench.put(b"1")
        bench.host.now += WRITE_GAP / 2
        bench.put(b"2", b"3")
        assert bench.state is WOKEN
        assert bench.link.sent == wire(b"1")
        await wait_all_tasks_blocked()
        assert bench.link.writes[1:] == [wire(b"2", b"3")]
        assert bench.state is IDLE


async def test_the_first_message_of_the_next_burst_waits_for_the_others() -> None:
    async with a_bench() as bench:
        bench.put(b"1", b"2")
        await bench.write()
        bench.host.now += BURST * WRITE_GAP / 2
        bench.put(b"3")
        bench.put(b"4")
        assert bench.state is WOKEN
        await wait_all_tasks_blocked()
        assert bench.link.writes[1:] == [wire(b"3", b"4")]


async def test_behind_a_single_message_there_is_no_burst() -> None:
    async with a_bench() as bench:
        bench.put(b"1", b"2")
        await bench.write()
        bench.pause()
        bench.put(b"3")
        bench.host.now += 2 * WRITE_GAP
        bench.put(b"4")
        assert bench.link.writes[1:] == [wire(b"3"), wire(b"4")]


async def test_engines_that_write_copies_share_their_pace() -> None:
    async with a_bench() as one, a_bench() as other:
        pace = Pace()
        for bench in (one, other):
            bench.engine._writer._pace = pace
            await bench.write()
            bench.host.now = 2000.0
        one.put(b"1")
        other.put(b"1")
        assert one.link.sent == wire(b"1")
        assert other.state is WOKEN, "the stream to the first one is its stream"


async def test_a_host_with_a_pace_has_it_used() -> None:
    async with trio.open_nursery() as nursery:
        host, pace = FakeHost(nursery.start_soon), Pace()
        host.pace = pace
        engine = Engine(host, FakeLink(), shaken(), new_pipe(), Heartbeat(), eager=True)
        assert engine._writer._pace is pace


async def test_refused_bytes_are_the_writers_alone_until_the_kernel_takes_them() -> None:
    async with a_bench() as bench:
        await bench.write()
        bench.pause()
        bench.link.take(0)
        bench.put(b"1")
        assert bench.state is WRITING
        offered = len(bench.link.offered)
        bench.pause()
        bench.put(b"2")
        await wait_all_tasks_blocked()
        assert len(bench.link.offered) == offered, "nobody else may touch the link now"
        bench.link.take(None)
        await wait_all_tasks_blocked()
        assert bench.link.sent == wire(b"1", b"2")
        assert bench.state is IDLE


async def test_a_batch_counts_until_the_kernel_has_all_of_it() -> None:
    async with a_bench() as bench:
        bench.put(b"1", b"2", b"3")
        bench.link.takes = 4
        await bench.write()
        assert bench.link.sent == wire(b"1", b"2", b"3")[:4]
        assert len(bench.pipe.outbound) == 3
        assert bench.pipe.outbound.passed == 0
        assert not bench.engine.had_traffic
        assert bench.host.idle == 0
        bench.link.take(4)
        await wait_all_tasks_blocked()
        assert len(bench.pipe.outbound) == 3
        bench.link.take(None)
        await wait_all_tasks_blocked()
        assert bench.link.sent == wire(b"1", b"2", b"3")
        assert len(bench.pipe.outbound) == 0
        assert bench.engine.had_traffic


@pytest.mark.parametrize("size", [1, 3])
async def test_a_kernel_that_takes_little_at_a_time_gets_everything_in_order(size: int) -> None:
    messages: list[Payload] = [b"first", [bytes(LARGE), b"tail"], b"last"]
    async with a_bench() as bench:
        bench.put(*messages)
        bench.link.takes = 0
        await bench.write()
        while bench.pipe.outbound.held:
            bench.link.take(size * 500)
            await wait_all_tasks_blocked()
        assert bench.link.sent == wire(*messages)


async def test_a_queue_is_full_only_when_the_kernel_is() -> None:
    async with a_bench(hwm=2) as bench:
        bench.put(b"1", b"2", b"3")
        assert bench.link.sent == wire(b"1", b"2"), "written to make room, though the writer has not run yet"
        bench.put(b"4")
        bench.link.takes = 0
        assert not bench.pipe.outbound.put(b"5")
        assert bench.state is WRITING
        assert not bench.pipe.outbound.put(b"5")
        assert len(bench.link.offered) == 2


async def test_room_is_told_when_the_kernel_goes_on() -> None:
    async with a_bench(hwm=2) as bench:
        rooms: list[bool] = []
        bench.pipe.outbound.on_room = lambda: rooms.append(True)
        bench.link.takes = 0
        bench.put(b"1", b"2")
        assert not bench.pipe.outbound.put(b"3")
        await bench.write()
        assert rooms == []
        bench.link.take(None)
        await wait_all_tasks_blocked()
        assert rooms == [True]


async def test_who_sends_on_hearing_that_all_is_written_is_not_forgotten() -> None:
    async with a_bench() as bench:
        more = [b"2", b"3"]
        bench.host.on_idle = lambda: bench.put(*[more.pop(0)] if more else [])
        bench.put(b"1")
        await bench.write()
        assert bench.link.sent == wire(b"1", b"2", b"3")
        assert bench.state is IDLE


async def test_a_control_frame_sent_on_hearing_that_all_is_written_is_not_forgotten() -> None:
    async with a_bench() as bench:
        topics = [b"topic"]
        bench.host.on_idle = lambda: bench.engine.subscribe(topics.pop(), True) if topics else None
        bench.put(b"1")
        await bench.write()
        assert bench.link.sent == wire(b"1") + zmtp.encode_subscription(True, b"topic", False)
        assert bench.state is IDLE


async def test_what_a_link_holds_back_is_flushed_after_an_inline_write_too() -> None:
    async with a_bench() as bench:
        bench.link.holding_back = True
        bench.put(b"1")
        await bench.write()
        assert not bench.link.unflushed
        bench.pause()
        bench.put(b"2")
        await wait_all_tasks_blocked()
        assert not bench.link.unflushed


async def test_a_writer_that_is_never_refused_lets_others_run() -> None:
    async with a_bench(hwm=None) as bench:
        turns = 0
        done = trio.Event()

        async def count_turns() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await trio.lowlevel.checkpoint()

        messages = 64
        bench.pipe.outbound.put_all([bytes(JOIN)] * messages)
        bench.host.on_idle = done.set
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.engine.writing)
            nursery.start_soon(count_turns)
            await done.wait()
            bench.engine.end(None)
        assert bench.link.sent == wire(bytes(JOIN)) * messages
        assert turns >= messages * JOIN // (YIELD_AFTER + GATHER) - 1


# --- writing: what goes out together ---------------------------------------------------------------------------------


async def test_small_frames_are_joined_and_large_ones_go_where_they_lie() -> None:
    async with a_bench() as bench:
        large = bytes(LARGE)
        bench.put(b"1", b"2")
        await bench.write()
        assert len(bench.link.offered[0]) == 1
        bench.pause()
        bench.put(large)
        assert any(buffer is large for buffer in bench.link.offered[1])


async def test_one_write_has_a_limit_in_bytes_whatever_the_first_message_promised() -> None:
    async with a_bench() as bench:
        messages = [b"small", *[bytes(JOIN // 2)] * 40]
        bench.pipe.outbound.put_all(list(messages))
        await bench.write()
        assert len(bench.link.writes) > 5
        assert all(len(data) <= 2 * GATHER for data in bench.link.writes)
        assert bench.link.sent == wire(*messages)
        assert bench.pipe.outbound.passed == len(messages)


async def test_a_queue_of_wire_bytes_goes_out_as_it_is() -> None:
    large = wire(bytes(LARGE))
    async with a_bench(encoded=True) as bench:
        bench.put(wire(b"1"), wire([b"2", b"3"]))
        await bench.write()
        assert bench.link.writes == [wire(b"1", [b"2", b"3"])]
        bench.pause()
        bench.put(large)
        assert bench.link.offered[-1][0] is large


async def test_control_frames_go_ahead_of_messages_but_not_amidst_one() -> None:
    async with a_bench() as bench:
        bench.put(b"first", b"second")
        bench.link.takes = 3
        await bench.write()
        bench.pipe.outbound.put(b"third")
        bench.engine.subscribe(b"topic", True)
        bench.engine.subscribe(b"topic", False)
        bench.link.take(None)
        await wait_all_tasks_blocked()
        subscriptions = zmtp.encode_subscription(True, b"topic", False) + zmtp.encode_subscription(
            False, b"topic", False
        )
        assert bench.link.sent == wire(b"first", b"second") + subscriptions + wire(b"third")


async def test_a_control_frame_wakes_a_resting_writer() -> None:
    async with a_bench() as bench:
        await bench.write()
        bench.pause()
        bench.engine.subscribe(b"1", True)
        assert bench.link.sent == zmtp.encode_subscription(True, b"1", False)
        bench.engine.subscribe(b"2", True)
        assert bench.state is WOKEN
        await wait_all_tasks_blocked()
        assert bench.link.sent.endswith(zmtp.encode_subscription(True, b"2", False))


# --- writing: the end ------------------------------------------------------------------------------------------------


async def test_a_failing_write_never_raises_into_the_senders_call() -> None:
    async with a_bench() as bench:
        await bench.write()
        bench.pause()
        bench.link.fail()
        bench.put(b"1")
        assert bench.state is DEAD
        assert bench.engine.error is bench.link.failure
        assert not bench.link.closed, "what the peer said before it went may still be read"
        bench.put(b"2")
        bench.engine.give_back()
        assert bench.pipe.outbound.waiting() == [b"1", b"2"]
        assert bench.pipe.outbound.held == 0


async def test_a_full_queue_over_a_dead_link_is_full() -> None:
    async with a_bench(hwm=1) as bench:
        bench.put(b"1")
        bench.link.fail()
        assert not bench.pipe.outbound.put(b"2")
        assert bench.state is DEAD
        assert not bench.pipe.outbound.put(b"2")


async def test_the_writing_task_ends_without_a_word_when_its_write_fails() -> None:
    async with a_bench() as bench:
        bench.put(b"1")
        bench.link.fail()
        with trio.fail_after(5):
            await bench.engine.writing()
        assert bench.state is DEAD
        assert bench.engine.error is bench.link.failure


async def test_both_tasks_end_with_the_connection() -> None:
    async with a_bench() as bench, trio.open_nursery() as nursery:
        nursery.start_soon(bench.engine.writing)
        nursery.start_soon(bench.engine.reading)
        await wait_all_tasks_blocked()
        bench.engine.end(None)
        bench.engine.end(RemoteProtocolError("too late to be the reason"))
        assert bench.link.closed
        with trio.fail_after(5):
            await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 0
        assert bench.engine.error is None


async def test_a_writer_that_waits_for_the_kernel_ends_with_the_connection() -> None:
    async with a_bench() as bench, trio.open_nursery() as nursery:
        bench.link.takes = 0
        bench.put(b"1")
        nursery.start_soon(bench.engine.writing)
        await wait_all_tasks_blocked()
        assert bench.state is WRITING
        bench.engine.end(None)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 0


async def test_closing_and_restarting_end_it_and_say_so() -> None:
    async with a_bench() as bench:
        closed: list[bool] = []
        bench.engine.on_close = lambda: closed.append(True)
        error = RemoteProtocolError("enough")
        bench.engine.close(error)
        assert closed == [True]
        assert bench.engine.error is error
        assert not bench.engine.restarting
    async with a_bench() as bench:
        bench.engine.restart()
        assert bench.engine.restarting
        assert bench.link.closed


async def test_an_engine_that_gave_back_listens_to_its_mailboxes_no_more() -> None:
    async with a_bench(hwm=1) as bench:
        bench.engine.end(None)
        bench.engine.give_back()
        bench.put(b"1")
        assert not bench.pipe.outbound.put(b"2")
        assert bench.link.offered == []


payloads = st.one_of(
    st.binary(max_size=300), st.lists(st.binary(max_size=20), min_size=2, max_size=3), st.just(bytes(LARGE))
)


@given(messages=st.lists(payloads, min_size=1, max_size=8), share=st.floats(0, 1), encoded=st.booleans())
def test_what_the_kernel_did_not_wholly_take_comes_back_in_order(
    messages: list[Payload], share: float, encoded: bool
) -> None:
    async def lose() -> None:
        async with a_bench(encoded=encoded) as bench:
            items: list[Payload] = [wire(message) for message in messages] if encoded else messages
            bench.pipe.outbound.put_all(list(items))
            bench.link.takes = taken = int(share * len(wire(*messages)))
            await bench.write()
            late: Payload = wire(b"late") if encoded else b"late"
            bench.put(late)
            bench.engine.end(None)
            bench.engine.give_back()
            whole = 0
            while whole < len(messages) and len(wire(*messages[: whole + 1])) <= taken:
                whole += 1
            if whole == len(messages):
                # All of it went; a message that then found the kernel full comes back alone.
                assert bench.pipe.outbound.waiting() == [late]
            else:
                assert bench.pipe.outbound.waiting() == [*items[whole:], late]
            assert bench.pipe.outbound.passed == whole
            assert bench.pipe.outbound.held == 0

    trio.run(lose)


@pytest.mark.parametrize("encoded", [False, True])
async def test_a_message_that_the_kernel_took_to_its_last_byte_does_not_come_back(encoded: bool) -> None:
    async with a_bench(encoded=encoded) as bench:
        items: list[Payload] = [wire(each) for each in (b"1", b"2", b"3")] if encoded else [b"1", b"2", b"3"]
        bench.pipe.outbound.put_all(list(items))
        bench.link.takes = len(wire(b"1", b"2"))
        await bench.write()
        bench.engine.end(None)
        bench.engine.give_back()
        assert bench.pipe.outbound.waiting() == items[2:]


async def test_a_control_frame_that_was_under_way_gives_nothing_back() -> None:
    async with a_bench() as bench:
        bench.link.takes = 2
        bench.engine.subscribe(b"topic", True)
        await bench.write()
        bench.put(b"1")
        bench.engine.end(None)
        bench.engine.give_back()
        assert bench.pipe.outbound.waiting() == [b"1"]


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_messages_are_delivered_however_the_stream_is_cut() -> None:
    messages: list[Payload] = [b"1", [b"2", b""], bytes(300), b""]
    async with a_bench() as bench:
        await bench.read()
        for byte in wire(*messages):
            bench.link.give(bytes([byte]))
        await wait_all_tasks_blocked()
        assert bench.received() == messages
        assert bench.engine.had_traffic


async def test_what_came_with_the_handshake_is_delivered_at_once() -> None:
    async with a_bench() as bench:
        bench.engine._decoder.feed(wire(b"early"))
        await bench.read()
        assert bench.received() == [b"early"]
        assert bench.link.reads == 0


async def test_what_the_pattern_does_not_accept_is_counted_as_received_all_the_same() -> None:
    async with a_bench() as bench:
        await bench.read()
        bench.link.give(wire(b"1", bench.host.keeper.refused, b"2"))
        await wait_all_tasks_blocked()
        assert bench.received() == [b"1", b"2"]
        assert bench.pipe.received_before == 1


async def test_the_end_of_the_stream_between_messages_is_no_error() -> None:
    async with a_bench() as bench:
        bench.link.give(wire(b"1"), b"")
        with trio.fail_after(5):
            await bench.engine.reading()
        assert bench.engine.error is None
        assert bench.received() == [b"1"]
        assert bench.state is DEAD
        assert bench.link.closed


async def test_the_end_of_the_stream_within_a_message_is_one() -> None:
    async with a_bench() as bench:
        bench.link.give(wire(b"1", b"half")[:-1], b"")
        await bench.engine.reading()
        assert isinstance(bench.engine.error, RemoteProtocolError)
        assert bench.received() == [b"1"]


async def test_a_failing_read_ends_it() -> None:
    async with a_bench() as bench:
        bench.link.fail()
        await bench.engine.reading()
        assert bench.engine.error is bench.link.failure


async def test_a_breach_ends_it_and_what_was_whole_before_is_delivered() -> None:
    async with a_bench() as bench:
        bench.link.give(wire(b"1", [b"2", b"3"]) + b"\x05\x00" + wire(b"behind"))
        await bench.engine.reading()
        assert isinstance(bench.engine.error, RemoteProtocolError)
        assert bench.received() == [b"1", [b"2", b"3"]]
        assert bench.link.closed


async def test_a_breach_found_by_a_receiver_does_not_raise_into_its_call() -> None:
    async with a_bench(hwm=1) as bench:
        await bench.read()
        bench.link.give(wire(b"1", b"2") + b"\x05\x00")
        await wait_all_tasks_blocked()
        assert bench.pipe.inbound.take(1) == [b"1"]
        assert bench.pipe.inbound.take(1) == [b"2"]
        assert isinstance(bench.engine.error, RemoteProtocolError)


async def test_a_failed_write_lets_what_the_peer_said_last_be_read() -> None:
    async with a_bench() as bench:
        await bench.read()
        await bench.write()
        bench.link.give(wire(b"last words"), b"")
        bench.pause()
        bench.link.fail()
        bench.put(b"1")
        assert bench.state is DEAD
        failure, bench.link.failure = bench.link.failure, None
        await wait_all_tasks_blocked()
        assert bench.received() == [b"last words"]
        assert bench.engine.error is failure
        assert bench.link.closed


# --- reading: marks --------------------------------------------------------------------------------------------------


async def test_at_the_receive_mark_decoding_stops_and_so_does_reading() -> None:
    heartbeat = Heartbeat()
    async with a_bench(hwm=4, heartbeat=heartbeat) as bench:
        await bench.read()
        bench.link.give(wire(*[b"%d" % number for number in range(7)]))
        await wait_all_tasks_blocked()
        assert bench.received() == [b"0", b"1", b"2", b"3"]
        assert heartbeat.paused
        bench.link.give(wire(b"7"))
        reads = bench.link.reads
        await wait_all_tasks_blocked()
        assert bench.link.reads == reads


async def test_who_takes_messages_out_decodes_the_next_ones_on_the_spot() -> None:
    heartbeat = Heartbeat()
    async with a_bench(hwm=4, heartbeat=heartbeat) as bench:
        await bench.read()
        bench.link.give(wire(*[b"%d" % number for number in range(7)]))
        await wait_all_tasks_blocked()
        reads = bench.link.reads
        assert bench.pipe.inbound.take(2) == [b"0", b"1"]
        assert bench.received() == [b"2", b"3", b"4", b"5"]
        assert heartbeat.paused
        assert bench.link.reads == reads
        assert bench.pipe.inbound.take(4) == [b"2", b"3", b"4", b"5"]
        assert bench.received() == [b"6"]
        assert not heartbeat.paused
        bench.link.give(wire(b"7"))
        await wait_all_tasks_blocked()
        assert bench.received() == [b"6", b"7"], "and the reading task goes on"


@given(st.integers(1, 5), st.integers(0, 40), st.lists(st.integers(1, 4), max_size=60))
def test_under_any_mark_everything_arrives_once_and_in_order(mark: int, count: int, takes: list[int]) -> None:
    async def run() -> None:
        expected = [b"%d" % number for number in range(count)]
        got: list[bytes] = []
        async with a_bench(hwm=mark) as bench:
            await bench.read()
            bench.link.give(*filter(None, (wire(*expected[: count // 2]), wire(*expected[count // 2 :]))))
            for take in [*takes, *[1] * count]:
                await wait_all_tasks_blocked()
                assert len(bench.received()) <= mark
                got += bench.pipe.inbound.take(take)
        assert got == expected

    trio.run(run)


async def test_a_reader_lets_receivers_catch_up_but_does_not_wait_for_ever() -> None:
    async with a_bench(hwm=None) as bench:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while bench.link.reads < 2:
                turns += 1
                await trio.lowlevel.checkpoint()

        bench.link.give(wire(*[b"x"] * (ENOUGH + 1)), b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            nursery.start_soon(bench.engine.reading)
        assert TURNS_TO_CATCH_UP <= turns <= TURNS_TO_CATCH_UP + 4


# --- reading: looks --------------------------------------------------------------------------------------------------


async def test_a_look_takes_over_what_has_arrived_without_the_reading_task() -> None:
    async with a_bench() as bench:
        assert not bench.engine.look()
        bench.link.arrived.append(wire(b"1"))
        assert bench.engine.look()
        assert bench.received() == [b"1"]
        assert not bench.engine.look()


async def test_looks_are_as_many_as_have_helped() -> None:
    async with a_bench() as bench:
        assert bench.engine.looks() > 0
        bench.engine.looked(False)
        assert bench.engine.looks() == 0
        bench.engine.looked(True)
        assert bench.engine.looks() > 0
        bench.engine.end(None)
        assert bench.engine.looks() == 0
    async with a_bench(eager=False) as bench:
        assert bench.engine.looks() == 0


async def test_there_is_no_look_at_a_peer_with_a_full_mailbox_or_none() -> None:
    async with a_bench(hwm=1) as bench:
        bench.link.arrived.append(wire(b"1", b"2"))
        assert bench.engine.look()
        bench.link.arrived.append(wire(b"3"))
        reads = bench.link.reads
        assert not bench.engine.look()
        assert bench.link.reads == reads
    async with a_bench() as bench:
        bench.engine.end(None)
        assert not bench.engine.look()


async def test_the_end_is_read_only_when_everything_before_it_was_decoded() -> None:
    async with a_bench(hwm=2) as bench:
        await bench.read()
        bench.link.arrived.append(wire(b"1", b"2", b"3"))
        assert bench.engine.look(), "a receiver brings more than there is room for"
        bench.link.give(b"")
        await wait_all_tasks_blocked()
        assert bench.pipe.inbound.take(2) == [b"1", b"2"]
        await wait_all_tasks_blocked()
        assert bench.received() == [b"3"]
        assert bench.link.closed
        assert bench.engine.error is None


@pytest.mark.parametrize("how", ["it fails", "it ends"])
async def test_a_look_that_finds_the_end_does_not_raise(how: str) -> None:
    async with a_bench() as bench:
        if how == "it fails":
            bench.link.fail()
        else:
            bench.link.arrived.append(b"")
        assert not bench.engine.look()
        assert bench.link.closed
        assert bench.engine.error is bench.link.failure


async def test_a_look_beside_a_reading_task_leaves_it_waiting() -> None:
    async with a_bench() as bench:
        await bench.read()
        bench.link.arrived.append(wire(b"1"))
        assert bench.engine.look()
        bench.link.give(wire(b"2"))
        await wait_all_tasks_blocked()
        assert bench.received() == [b"1", b"2"]


# --- commands and time -----------------------------------------------------------------------------------------------


async def test_a_ping_is_answered_ahead_of_messages() -> None:
    async with a_bench() as bench:
        bench.put(b"1")
        bench.link.give(b"\x04\x0a\x04PING\x00\x00ctx")
        await bench.read()
        await bench.write()
        assert bench.link.sent == b"\x04\x08\x04PONGctx" + wire(b"1")


async def test_subscriptions_reach_the_pattern_and_unknown_commands_nobody() -> None:
    async with a_bench() as bench:
        await bench.read()
        bench.link.give(
            zmtp.encode_subscription(True, b"a", False)
            + wire(b"between")
            + b"\x04\x04\x03WOW"
            + zmtp.encode_subscription(False, b"a", False)
        )
        await wait_all_tasks_blocked()
        assert bench.host.keeper.subscriptions == [(b"a", True), (b"a", False)]
        assert bench.received() == [b"between"]
        assert not bench.link.closed


async def test_a_command_counts_as_no_message() -> None:
    async with a_bench(hwm=1) as bench:
        bench.link.give(PONG * 5)
        await bench.read()
        assert bench.received() == []
        assert not bench.engine.had_traffic


async def test_a_silent_peer_is_pinged_and_then_given_up(autojump_clock: MockClock) -> None:
    async with a_bench(heartbeat=Heartbeat(2.0, 1.0)) as bench:
        bench.host.timers.add(bench.engine)
        await bench.read()
        await bench.write()
        await trio.sleep(2.5)
        assert bench.link.sent == PING
        assert not bench.link.closed
        await trio.sleep(1.0)
        assert bench.link.closed
        assert isinstance(bench.engine.error, RemoteProtocolError)
        assert "heartbeat" in str(bench.engine.error)
        bench.engine.tick(trio.current_time() + 100)


async def test_a_peer_that_says_anything_is_kept(autojump_clock: MockClock) -> None:
    async with a_bench(heartbeat=Heartbeat(2.0, 1.0)) as bench:
        bench.host.timers.add(bench.engine)
        await bench.read()
        await bench.write()
        for _ in range(30):
            await trio.sleep(0.5)
            bench.link.give(wire(b"x"))
        assert not bench.link.closed


async def test_a_peer_we_do_not_read_from_is_not_given_up(autojump_clock: MockClock) -> None:
    async with a_bench(hwm=1, heartbeat=Heartbeat(2.0, 1.0)) as bench:
        bench.host.timers.add(bench.engine)
        await bench.read()
        await bench.write()
        bench.link.give(wire(b"1", b"2"))
        await trio.sleep(100)
        assert not bench.link.closed
        assert bench.link.sent.count(PING) >= 50, "it is told that we are there"


async def test_a_peer_that_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with a_bench(heartbeat=Heartbeat(2.0, 1.0)) as bench:
        bench.host.timers.add(bench.engine)
        bench.link.takes = 0
        bench.put(b"1")
        await bench.read()
        await bench.write()
        await trio.sleep(10)
        assert bench.link.closed
        bench.engine.give_back()
        assert bench.pipe.outbound.waiting() == [b"1"]


async def test_its_repr_shows_its_state() -> None:
    async with a_bench() as bench:
        assert repr(bench.engine) == "<Engine on <FakeLink fake://here – fake://peer>: woken>"


async def test_an_engine_that_ended_is_not_kept_alive_by_its_pipe() -> None:
    async with a_bench() as bench:
        bench.engine.end(None)
        bench.engine.give_back()
        for hook in (bench.pipe.outbound.on_item, bench.pipe.outbound.on_full, bench.pipe.inbound.on_room):
            assert getattr(hook, "__self__", None) not in (bench.engine, bench.engine._writer)
