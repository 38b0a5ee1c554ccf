"""The scoreboard: points of the players, published over PUB-SUB a few times a second, and how one follows it.

    python -m tests.examples.scoreboard ENDPOINT

follows the one at ENDPOINT to its end and prints what was seen as JSON, as `pyzmq_scoreboard_reader.py` does.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import trio

import trio_mq

INTERVAL, SILENCE = 0.1, 30.0
UPDATE, END = b"scores", b"scores.end"


class Scoreboard:
    """Who has how many points, and how often that was published."""

    def __init__(self, pub: trio_mq.Pub) -> None:
        self._pub = pub
        self.points: Counter[str] = Counter()
        self.published = 0

    async def wait_readers(self, count: int) -> None:
        """Return when *count* readers would see the next update: no update is published to nobody."""
        await self._pub.wait_subscribed(UPDATE, count)

    async def publish(self) -> None:
        """Publish the best players every `INTERVAL` seconds until cancelled."""
        while True:
            await self._pub.send_multipart([UPDATE, json.dumps(dict(self.points.most_common(5))).encode()])
            self.published += 1
            await trio.sleep(INTERVAL)

    async def end(self) -> None:
        """Tell the readers that there are no more updates."""
        await self._pub.send_multipart([END, b""])


async def follow(endpoint: str) -> dict[str, object]:
    """Read the scoreboard at *endpoint* to its end; how many updates were seen and who was leading.

    Raises:
        trio.TooSlowError: nothing was heard for half a minute, so whoever published it is no more.
    """
    seen, leader = 0, ""
    async with trio_mq.Sub(connect=endpoint, topics=UPDATE) as sub:
        with trio.fail_after(SILENCE) as patience:
            async for topic, body in sub.multiparts():
                if topic == END:
                    break
                patience.deadline = trio.current_time() + SILENCE
                seen += 1
                leader = next(iter(json.loads(body)), "")
    return {"seen": seen, "leader": leader}


if __name__ == "__main__":
    print(json.dumps(trio.run(follow, sys.argv[1])))
