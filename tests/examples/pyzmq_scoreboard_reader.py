"""A scoreboard reader as any ZeroMQ user would write it: pyzmq alone, nothing of trio_mq.

python pyzmq_scoreboard_reader.py SCOREBOARD: follow the scoreboard to its end, then print what was seen as JSON.
"""

import json
import sys

import zmq


def main(scoreboard_at: str) -> None:
    scoreboard = zmq.Context().socket(zmq.SUB)
    scoreboard.setsockopt(zmq.RCVTIMEO, 30_000)  # a gateway that was silent for half a minute is no more: zmq.Again
    scoreboard.setsockopt(zmq.SUBSCRIBE, b"scores")
    scoreboard.connect(scoreboard_at)
    seen, leader = 0, ""
    while True:
        topic, body = scoreboard.recv_multipart()
        if topic == b"scores.end":
            break
        seen += 1
        leader = next(iter(json.loads(body)), "")
    print(json.dumps({"seen": seen, "leader": leader}))


if __name__ == "__main__":
    main(sys.argv[1])
