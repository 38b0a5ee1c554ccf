"""TMQ-RPC 1, level 1, on plain pyzmq: a client of all four kinds of methods.

    python -m tests.grpc.peers.level_1_client tcp://127.0.0.1:5555 /peer.Test/Chat hello world

It grants credit as it takes messages, and obeys the server's.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence

import zmq

from .blocks import (
    CALL,
    CANCELLED,
    CREDIT,
    DATA,
    DEADLINE_EXCEEDED,
    END,
    HEAD,
    HEADER,
    MSG,
    RESET,
    STATUS,
    UNAVAILABLE,
    UNKNOWN,
    decode_status,
    encode_head,
    encode_status,
    milliseconds_to,
)
from .streams import CHARGE, DEFAULT_WINDOW, MODULUS, Sender, announce


class Call:
    """A call under way on a connected DEALER.

    Attributes:
        replies: the messages that came.
        code: the status, None while the call is open.
        text: the status's text.
    """

    def __init__(self, socket: zmq.Socket[bytes], call_id: int, method: str, seconds: float, window: int) -> None:
        self._socket, self._call_id, self._window = socket, call_id, window
        self._deadline = time.monotonic() + seconds
        self._expected = self._taken = self._granted = 0
        self.replies: list[bytes] = []
        self.code: int | None = None
        self.text = ""
        # Until the first message comes back libzmq does not show what the server announced.
        self._sender = Sender(socket, (b"",), call_id, DEFAULT_WINDOW, sequence=1)
        self._sender.send(CALL, HEAD, 0, method.encode(), encode_head(seconds))

    def run(self, requests: Sequence[bytes], cancel_after: int | None, grant: bool) -> None:
        """Send the requests and read the replies, to the end."""
        self._sender.waiting.extend(requests)
        self._sender.last = (END, [])
        while self._is_open():
            self._sender.pump()
            if not self._socket.poll(milliseconds_to(self._deadline)):
                self._end(DEADLINE_EXCEEDED, "", reset=True)
            else:
                self._receive(self._socket.recv_multipart(copy=False), grant)
            if self._is_open() and len(self.replies) == cancel_after:
                self._end(CANCELLED, "", reset=True)

    def _is_open(self) -> bool:
        return self.code is None

    def _receive(self, message: list[zmq.Frame], grant: bool) -> None:
        _, header, *frames = [frame.bytes for frame in message]
        _, kind, flags, value, call_id = HEADER.unpack(header)
        if call_id != self._call_id:
            return  # of a call that is over
        if kind == CREDIT:
            self._sender.credit(value)
        elif kind == RESET:
            code, text = decode_status(frames[-1]) if flags & STATUS else (CANCELLED, "")
            self._end(code or UNKNOWN, text)
        elif kind == DATA and value != self._expected:
            self._end(UNAVAILABLE, "message lost in transport", reset=True)
        elif kind == DATA:
            self._data(flags, frames, grant)

    def _data(self, flags: int, frames: list[bytes], grant: bool) -> None:
        self._expected = (self._expected + 1) % MODULUS
        if flags & MSG:
            payload = frames[1 if flags & HEAD else 0]
            self.replies.append(payload)
            self._taken += len(payload) + CHARGE
        if flags & END:
            self._end(*decode_status(frames[-1]))
        elif grant and self._taken * 2 >= self._window:
            self._granted, self._taken = self._granted + self._taken, 0
            self._sender.send(CREDIT, 0, self._granted)

    def _end(self, code: int, text: str, reset: bool = False) -> None:
        self.code, self.text = code, text
        if reset and code == UNAVAILABLE:
            self._sender.send(RESET, STATUS, 0, encode_status(code, text))
        elif reset:
            self._sender.send(RESET, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("method")
    parser.add_argument("request", nargs="*")
    parser.add_argument("--seconds", type=float, default=10.0, help="the deadline of the call")
    parser.add_argument("--window", type=int, default=DEFAULT_WINDOW, help="announced for what the server sends")
    parser.add_argument("--cancel-after", type=int, metavar="REPLIES")
    parser.add_argument("--no-credit", action="store_true", help="grant nothing, as a reader that has stopped")
    options = parser.parse_args()
    epoch = random.randrange(1, MODULUS)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 1000)  # a RESET is the last thing that some calls send
    announce(socket, epoch, options.window)
    socket.connect(options.endpoint)
    call = Call(socket, epoch << 32 | 1, options.method, options.seconds, options.window)
    call.run([request.encode() for request in options.request], options.cancel_after, not options.no_credit)
    replies = [reply.decode() for reply in call.replies]
    print(json.dumps({"code": call.code, "text": call.text, "replies": replies}))
    socket.close()
    zmq.Context.instance().term()


if __name__ == "__main__":
    main()
