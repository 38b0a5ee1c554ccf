"""One end of a multicast conversation in a process of its own: a publisher or a subscriber, ours or libzmq's.

``python _pgm_end.py LIBRARY ROLE ENDPOINT PLAN`` with the plan as JSON. A subscriber tells what it received, and what
it was told of losses, as one JSON object when it has heard nothing for a while; ours tells its statistics, too.

A message is told as the text of its number if it is numbered, else as the SHA-256 of its frames.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

Plan = dict[str, Any]


def messages_of(plan: Plan) -> Iterator[list[bytes]]:
    """The messages to publish: shapes (lists of sizes), or so many numbered ones."""
    for number, sizes in enumerate(plan.get("shapes", [])):
        yield [bytes((65 + (number + place) % 26,)) * size for place, size in enumerate(sizes)]
    for number in range(plan.get("first", 0), plan.get("first", 0) + plan.get("count", 0)):
        yield [numbered(number, plan.get("size", 8), plan.get("prefix", ""))]


def numbered(number: int, size: int, prefix: str = "") -> bytes:
    text = f"#{prefix}{number:08d}#".encode()
    return text + b"." * (size - len(text))


def told(frames: list[bytes]) -> str:
    """A message in few characters."""
    if len(frames) == 1 and frames[0][:1] == b"#":
        return frames[0].split(b"#")[1].decode()
    whole = hashlib.sha256()
    for frame in frames:
        whole.update(len(frame).to_bytes(8, "big") + frame)
    return f"{len(frames)}:{sum(map(len, frames))}:{whole.hexdigest()[:16]}"


def as_json(figures: Any) -> dict[str, Any]:
    return asdict(figures)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


# ---- libzmq


def zmq_end(role: str, endpoint: str, plan: Plan) -> None:
    import zmq

    context = zmq.Context()
    sock = context.socket(zmq.PUB if role == "pub" else zmq.SUB)
    sock.setsockopt(zmq.RATE, int(plan.get("rate", 40e6)) // 1000)
    sock.setsockopt(zmq.RECOVERY_IVL, int(plan.get("recovery", 2.0) * 1000))
    sock.setsockopt(zmq.SNDHWM, 0)
    sock.setsockopt(zmq.RCVHWM, 0)
    sock.setsockopt(zmq.RCVBUF, 4 << 20)
    if role == "pub":
        sock.connect(endpoint)
        say(ready=True)
        sys.stdin.readline()
        for frames in messages_of(plan):
            sock.send_multipart(frames)
            pause(plan)
        say(sent=True)
        # It repairs nothing once it is closed.
        sys.stdin.readline()
    else:
        sock.setsockopt(zmq.SUBSCRIBE, plan.get("topic", "").encode())
        sock.connect(endpoint)
        say(ready=True)
        sys.stdin.readline()
        received, times, began = list[str](), list[float](), time.monotonic()
        sock.setsockopt(zmq.RCVTIMEO, int(plan.get("first_within", 10) * 1000))
        try:
            while len(received) < plan.get("until", 1 << 60):
                received.append(told(sock.recv_multipart()))
                times.append(round(time.monotonic() - began, 3))
                sock.setsockopt(zmq.RCVTIMEO, int(plan.get("silence", 2) * 1000))
        except zmq.Again:
            pass
        say(received=received, times=times)
    context.destroy(0)


# ---- ours


def our_end(role: str, endpoint: str, plan: Plan) -> None:
    import trio

    import trio_mq

    rate = plan.get("rate", 40e6)
    options = trio_mq.Options(
        multicast_rate=rate, multicast_recovery=plan.get("recovery", 2.0), send_hwm=None, receive_hwm=None
    )

    async def pub() -> None:
        async with trio_mq.Pub(connect=endpoint, options=options) as socket:
            say(ready=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            for frames in messages_of(plan):
                await socket.send_multipart(frames)
                if plan.get("pause"):
                    await trio.sleep(plan["pause"])
            say(sent=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            say(figures=as_json(socket.statistics().peers[0].multicast))

    async def listen(socket: trio_mq.Sub, events: list[Any]) -> None:
        async with socket.monitor() as monitor:
            async for event in monitor:
                # Appended one by one: what was told must be there when this task is cancelled.
                if isinstance(event, trio_mq.events.DataLost):
                    events.append(  # noqa: PERF401  # extend would keep them until the monitor ends
                        [event.peer.address, event.first, event.last, event.count]
                    )

    async def sub() -> None:
        topic = plan.get("topic", "").encode()
        received, times, losses, sources = list[str](), list[float](), list[Any](), list[str]()
        async with (
            trio_mq.Sub(connect=endpoint, topics=topic, options=options) as socket,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(listen, socket, losses)
            say(ready=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            began = time.monotonic()
            wait = plan.get("first_within", 10)
            while len(received) < plan.get("until", 1 << 60):
                with trio.move_on_after(wait) as scope:
                    message = await socket.receive_message()
                if scope.cancelled_caught:
                    break
                received.append(told(list(message.frames)))
                times.append(round(time.monotonic() - began, 3))
                if message.peer.address not in sources:
                    sources.append(message.peer.address)
                wait = plan.get("silence", 2)
            statistics = socket.statistics()
            nursery.cancel_scope.cancel()
        say(
            received=received,
            times=times,
            losses=losses,
            sources=sources,
            dropped=dict(statistics.dropped),
            figures=[as_json(peer.multicast) for peer in statistics.peers],
            endpoint=as_json(statistics.endpoints[0].multicast),
        )

    trio.run(pub if role == "pub" else sub)


def pause(plan: Plan) -> None:
    if plan.get("pause"):
        time.sleep(plan["pause"])


if __name__ == "__main__":
    # OpenPGM, too, writes to the standard output whenever it likes; that must not end up within an answer.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, role, endpoint, plan = sys.argv[1:]
    (our_end if library == "trio_mq" else zmq_end)(role, endpoint, json.loads(plan))
