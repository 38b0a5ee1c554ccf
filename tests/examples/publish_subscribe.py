"""PUB-SUB: a weather station that begins to speak once it is heard, and listeners that pick their topics.

    python -m tests.examples.publish_subscribe

runs both ends.
"""

from __future__ import annotations

import trio

import trio_mq

REPORTS = ("berlin 21 degrees", "bergen 9 degrees, rain", "lima 17 degrees", "berlin 22 degrees")


async def listen(endpoint: str, topic: str) -> None:
    """Print every report that begins with *topic*, until one says that it was the last."""
    async with trio_mq.Sub(connect=endpoint, topics=[topic.encode(), b"end"]) as sub:
        async for report in sub:
            if report == b"end":
                break
            print(f"{topic + '*':8} heard: {report.decode()}")


async def main() -> None:
    async with trio_mq.Pub() as pub, trio.open_nursery() as nursery:
        endpoint = await pub.bind("tcp://127.0.0.1:*")
        for topic in ("berlin", "be", ""):
            nursery.start_soon(listen, endpoint, topic)
        # A PUB drops what nobody has subscribed to yet. Other bindings sleep here and hope; this waits until they have.
        await pub.wait_subscribed(b"berlin", count=3)
        for report in REPORTS:
            await pub.send(report.encode())
        await pub.send(b"end")


if __name__ == "__main__":
    trio.run(main)
