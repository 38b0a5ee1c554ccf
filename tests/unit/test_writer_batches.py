"""The writing half over a link that takes notes: what goes out in one write."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_mq._core._writer import GATHER, JOIN, Pace, Writer
from trio_mq._mailbox import new_mailbox
from trio_mq._message import size_of
from trio_mq._transports import Link
from trio_mq.zmtp import Heartbeat, encode_message

TINY = 10


class NotingLink(Link):
    """Takes everything, and remembers each write."""

    def __init__(self) -> None:
        self.writes: list[list[bytes]] = []

    def try_send(self, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        self.writes.append([bytes(buffer) for buffer in buffers])
        return sum(map(len, buffers))

    def try_receive(self, limit: int) -> bytes | None:
        return None

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        pass


def writes_of(messages: list[bytes | list[bytes]]) -> list[list[bytes]]:
    """The buffers of each single write until all *messages* are out."""
    link, outbound = NotingLink(), new_mailbox(None)
    writer = Writer(link, outbound, Heartbeat(), Pace(), lambda: 0.0, lambda: None)
    for message in messages:
        outbound.put(message)
    while outbound.items:
        writer.write_for_room()
    return link.writes


def test_a_tiny_message_is_not_joined_with_all_the_large_ones_behind_it() -> None:
    large: list[bytes | list[bytes]] = [[bytes(1 << 20), b"end"] for _ in range(50)]
    writes = writes_of([b"tiny", *large])
    assert max(sum(map(len, write)) for write in writes) < 2 << 20


def test_small_messages_go_out_together() -> None:
    assert len(writes_of([bytes(TINY)] * 1000)) == 1


def test_large_ones_are_handed_over_where_they_lie() -> None:
    body = bytes(1 << 20)
    assert [len(buffer) for buffer in writes_of([body])[0]] == [9, len(body)]


SIZES = st.sampled_from([0, TINY, 1000, 4095, 4096, JOIN - 1, JOIN, JOIN + 1, GATHER])
SHAPES = st.one_of(SIZES.map(bytes), st.lists(SIZES.map(bytes), min_size=2, max_size=3))


@given(st.lists(SHAPES, min_size=1, max_size=40))
def test_a_write_has_a_limit_in_bytes_or_is_one_message_and_nothing_is_lost(
    messages: list[bytes | list[bytes]],
) -> None:
    writes = writes_of(messages)
    limit = 2 * GATHER + max(map(size_of, messages)) + 1000
    assert max(sum(map(len, write)) for write in writes) <= limit
    assert b"".join(map(b"".join, writes)) == b"".join(map(encode_message, messages))
