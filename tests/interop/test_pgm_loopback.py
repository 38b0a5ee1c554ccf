"""Multicast over the loopback interface with libzmq in another process: no privilege, no namespaces, and no loss.

Repair is not tested here: two libzmq-like programs of one host share a port, and the kernel deals requests among them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_mq import Options, Pub, Sub, XPub, XSub

from ._pgm_end import messages_of, told
from ._pgm_lab import End, pgm_python

_END = Path(__file__).with_name("_pgm_end.py")
SHAPES = [[0], [1], [2], [3], [253], [254], [255], [5, 0, 4], [300, 2_000], [1_000_000]]
PLAN: dict[str, Any] = {"shapes": SHAPES, "until": len(SHAPES), "recovery": 10.0, "silence": 3.0}
OPTIONS = Options(linger=0, multicast_recovery=10.0)


@pytest.fixture
def endpoint() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"epgm://127.0.0.1;239.192.78.1:{probe.getsockname()[1]}"


@pytest.fixture
def peers() -> Iterator[list[End]]:
    if pgm_python() is None:
        reason = "no pyzmq here is built on a libzmq with OpenPGM"
        if os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1":
            pytest.fail(f"TRIO_MQ_REQUIRE_PEERS=1 promises every peer, but {reason}")
        pytest.skip(reason)
    ends: list[End] = []
    yield ends
    for end in ends:
        end.close()


def start(ends: list[End], role: str, endpoint: str, **plan: Any) -> End:
    python = pgm_python()
    assert python is not None
    end = End([python, str(_END), "zmq", role, endpoint, json.dumps(plan)])
    ends.append(end)
    return end


@pytest.mark.parametrize("kind", [Pub, XPub])
async def test_libzmq_hears_what_we_publish(kind: type[Pub | XPub], endpoint: str, peers: list[End]) -> None:
    sub = start(peers, "sub", endpoint, **PLAN)
    sub.go_on()
    async with kind(connect=endpoint, options=OPTIONS) as pub:
        await trio.sleep(0.5)  # its I/O thread joins the group in its own time, and nothing tells when
        for frames in messages_of(PLAN):
            await pub.send_multipart(frames)
        heard = await trio.to_thread.run_sync(sub.read)
    assert heard["received"] == [told(frames) for frames in messages_of(PLAN)]


@pytest.mark.parametrize("kind", [Sub, XSub])
async def test_we_hear_what_libzmq_publishes(kind: type[Sub | XSub], endpoint: str, peers: list[End]) -> None:
    async with kind(connect=endpoint, options=OPTIONS) as sub:
        sub.subscribe(b"")
        pub = start(peers, "pub", endpoint, **PLAN)
        pub.go_on()
        received = list[str]()
        with trio.fail_after(20):
            await trio.lowlevel.checkpoint()
            while len(received) < len(SHAPES):
                received.append(told(await sub.receive_multipart()))
    assert received == [told(frames) for frames in messages_of(PLAN)]


async def test_both_share_a_port_on_one_host(endpoint: str, peers: list[End]) -> None:
    plan = {"count": 100, "size": 50, "until": 200, "recovery": 10.0, "silence": 3.0}
    theirs = start(peers, "sub", endpoint, **plan)
    theirs.go_on()
    async with (
        Sub(connect=endpoint, topics=b"", options=OPTIONS) as ours,
        Pub(bind=endpoint, options=OPTIONS) as our_pub,
    ):
        their_pub = start(peers, "pub", endpoint, **{**plan, "prefix": "z"})
        await trio.sleep(0.5)  # as above
        their_pub.go_on()
        for frames in messages_of(plan):
            await our_pub.send_multipart(frames)
        with trio.fail_after(20):
            received = [told(await ours.receive_multipart()) for _ in range(200)]
        heard = await trio.to_thread.run_sync(theirs.read)
    for listened in (received, heard["received"]):
        for prefix in ("", "z"):
            expected = [f"{prefix}{number:08d}" for number in range(100)]
            assert [each for each in listened if (each[0] == "z") == (prefix == "z")] == expected


async def test_packets_that_end_a_libzmq_subscriber_are_never_ours(endpoint: str, peers: list[End]) -> None:
    # Sizes round about those at which a datagram is full, where a byte too few or too many would show.
    plan = {"shapes": [[size] for size in range(1395, 1435)] * 2, "until": 80, "recovery": 10.0, "silence": 3.0}
    sub = start(peers, "sub", endpoint, **plan)
    sub.go_on()
    async with Pub(connect=endpoint, options=OPTIONS) as pub:
        await trio.sleep(0.5)  # as above
        for frames in messages_of(plan):
            await pub.send_multipart(frames)
            if len(frames[0]) % 2:
                await pub.flush()  # so that some begin a datagram, and some do not
        heard = await trio.to_thread.run_sync(sub.read)
    assert heard["received"] == [told(frames) for frames in messages_of(plan)]
