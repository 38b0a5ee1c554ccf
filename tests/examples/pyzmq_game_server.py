"""A game server as any ZeroMQ user would write it: pyzmq alone, nothing of trio_mq.

python pyzmq_game_server.py NAME REQUESTS RESULTS SECONDS: work on the requests of one endpoint, report to the other.
"""

import sys
import time

import zmq


def main(name: str, requests_at: str, results_at: str, seconds: float) -> None:
    context = zmq.Context()
    requests, results = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    requests.connect(requests_at)
    results.connect(results_at)
    requests.setsockopt(zmq.RCVTIMEO, 30_000)  # a gateway that was silent for half a minute is no more: zmq.Again
    while True:
        number, _player = requests.recv_multipart()
        time.sleep(seconds)
        results.send_multipart([name.encode(), number, b"%d" % (int(number) % 6 + 1)])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
