"""One end of a multicast run, in a process of its own: ``python _multicast_end.py LIBRARY ROLE ENDPOINT COUNT SIZE``.

Both libraries get what the comparison is about: 1 Gbit/s, 100 ms of window, 4 MiB of receive buffer; ours also runs
without a rate (``trio_mq-unlimited``). Tells one JSON object: messages, seconds, CPU seconds, and what ours counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import asdict
from typing import Any

RATE, RECOVERY, BUFFER = 1_000_000_000, 0.1, 4 << 20


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def zmq_end(role: str, endpoint: str, count: int, size: int) -> None:
    import zmq

    context = zmq.Context()
    sock = context.socket(zmq.PUB if role == "pub" else zmq.SUB)
    sock.setsockopt(zmq.RATE, RATE // 1000)
    sock.setsockopt(zmq.RECOVERY_IVL, int(RECOVERY * 1000))
    sock.setsockopt(zmq.RCVBUF, BUFFER)
    sock.setsockopt(zmq.SNDHWM, 0)
    sock.setsockopt(zmq.RCVHWM, 0)
    if role == "sub":
        sock.setsockopt(zmq.SUBSCRIBE, b"")
    sock.connect(endpoint)
    say(ready=True)
    sys.stdin.readline()
    message = b"x" * size
    if role == "pub":
        began, used = time.perf_counter(), cpu()
        for _ in range(count):
            sock.send(message)
        say(messages=count, seconds=time.perf_counter() - began, cpu=cpu() - used)
        sys.stdin.readline()
    else:
        sock.setsockopt(zmq.RCVTIMEO, 10_000)
        received, began, used, ended = 0, 0.0, 0.0, 0.0
        try:
            while received < count:
                sock.recv()
                if not received:
                    began, used = time.perf_counter(), cpu()
                    sock.setsockopt(zmq.RCVTIMEO, 2_000)
                received += 1
                ended = time.perf_counter()
        except zmq.Again:
            pass
        say(messages=received, seconds=ended - began, cpu=cpu() - used)
    context.destroy(0)


def our_end(role: str, endpoint: str, count: int, size: int, *, limited: bool) -> None:
    import trio

    import trio_mq

    rate = float(RATE) if limited else None
    common: dict[str, Any] = {"multicast_rate": rate, "multicast_recovery": RECOVERY, "receive_buffer": BUFFER}

    async def pub() -> None:
        options = trio_mq.Options(send_hwm=None, **common)  # no mark on either side
        async with trio_mq.Pub(connect=endpoint, options=options) as socket:
            say(ready=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            began, used = time.perf_counter(), cpu()
            await socket.send_many([b"x" * size] * count)
            await socket.flush()
            seconds, used = time.perf_counter() - began, cpu() - used
            say(messages=count, seconds=seconds, cpu=used, figures=as_json(socket.statistics().peers[0].multicast))
            await trio.to_thread.run_sync(sys.stdin.readline)

    async def sub() -> None:
        async with trio_mq.Sub(connect=endpoint, topics=b"", options=trio_mq.Options(**common)) as socket:
            say(ready=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            received, began, used, ended, wait = 0, 0.0, 0.0, 0.0, 10.0
            while received < count:
                with trio.move_on_after(wait) as scope:
                    batch = await socket.receive_many()
                if scope.cancelled_caught:
                    break
                if not received:
                    began, used, wait = time.perf_counter(), cpu(), 2.0
                received += len(batch)
                ended = time.perf_counter()
            statistics = socket.statistics()
            say(
                messages=received,
                seconds=ended - began,
                cpu=cpu() - used,
                figures=as_json(statistics.peers[0].multicast) if statistics.peers else {},
                endpoint=as_json(statistics.endpoints[0].multicast),
            )

    trio.run(pub if role == "pub" else sub)


def as_json(figures: Any) -> dict[str, Any]:
    return asdict(figures)


if __name__ == "__main__":
    # OpenPGM, too, writes to the standard output whenever it likes; that must not end up within an answer.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, role, endpoint, count, size = sys.argv[1:]
    if library == "zmq":
        zmq_end(role, endpoint, int(count), int(size))
    else:
        our_end(role, endpoint, int(count), int(size), limited=library == "trio_mq")
