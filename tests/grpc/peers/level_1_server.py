"""TMQ-RPC 1, level 1, on plain pyzmq: a server of all four kinds of methods.

    python -m tests.grpc.peers.level_1_server tcp://127.0.0.1:0

It takes any number of messages at once, because it announces a window without limit: so it never has to grant credit.
It obeys the client's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeAlias

import zmq

from .blocks import (
    CALL,
    CREDIT,
    DATA,
    END,
    HEAD,
    HEADER,
    MSG,
    MUST_UNDERSTAND,
    RESET,
    STATUS,
    UNAVAILABLE,
    UNIMPLEMENTED,
    VERSION_1,
    encode_status,
)
from .streams import MODULUS, NO_LIMIT, Envelope, Sender, announce, announced_window

# --- the methods: what follows from a request, and from the end of them -----------------------------------------------


def repeat(requests: list[bytes], ended: bool) -> Iterable[bytes]:
    """Server streaming: b"3 word" gives the word three times."""
    if not ended:
        return []
    count, word = requests[0].split(b" ", 1)
    return [word] * int(count)


def join(requests: list[bytes], ended: bool) -> Iterable[bytes]:
    """Client streaming: one reply, all requests in a row."""
    return [b"".join(requests)] if ended else []


def chat(requests: list[bytes], ended: bool) -> Iterable[bytes]:
    """Bidirectional: each request comes back at once."""
    return [] if ended else [requests.pop()]


METHODS = {b"/peer.Test/Repeat": repeat, b"/peer.Test/Join": join, b"/peer.Test/Chat": chat, b"/peer.Test/Echo": join}


# --- calls -----------------------------------------------------------------------------------------------------------


class Call:
    """A call that is being served."""

    def __init__(self, method: bytes, sender: Sender) -> None:
        self.sender = sender
        self._method = METHODS.get(method)
        self._requests: list[bytes] = []
        self._expected = 0
        if self._method is None:
            sender.last = (STATUS | END, [encode_status(UNIMPLEMENTED, "Method not found!")])

    def receive(self, magic: int, flags: int, sequence: int, payload: bytes) -> tuple[int, str] | None:
        """Take a CALL or DATA; the status when it breaks a rule."""
        if magic != VERSION_1 or flags & MUST_UNDERSTAND & ~(HEAD | MSG | END):
            return UNIMPLEMENTED, "this peer knows version 1, level 1"
        if sequence != self._expected:
            return UNAVAILABLE, "message lost in transport"
        self._expected = (sequence + 1) % MODULUS
        if self._method is not None and flags & MSG:
            self._requests.append(payload)
            self.sender.waiting.extend(self._method(self._requests, False))
        if self._method is not None and flags & END:
            self.sender.waiting.extend(self._method(self._requests, True))
            self.sender.last = (STATUS | END, [b""])
        return None


Calls: TypeAlias = dict[tuple[Envelope, int], Call]


def handle(calls: Calls, socket: zmq.Socket[bytes], window: int, envelope: Envelope, unit: list[bytes]) -> None:
    """One unit. Nothing is answered unless its call is known, or begins with it."""
    if len(unit[0]) < HEADER.size or unit[0][0] >> 4 != 0xA:
        return
    magic, kind, flags, value, call_id = HEADER.unpack_from(unit[0])
    key = (envelope, call_id)
    if kind == CALL and call_id and len(unit) > 1 and key not in calls:
        calls[key] = Call(unit[1], Sender(socket, envelope, call_id, window, sequence=0))
    if key not in calls:
        return
    sender = calls[key].sender
    if kind == RESET:
        del calls[key]
        return
    if kind == CREDIT:
        sender.credit(value)
    elif kind in (CALL, DATA) and (fault := calls[key].receive(magic, flags, value, unit[-1])):
        sender.send(RESET, STATUS, 0, encode_status(*fault))
        del calls[key]
        return
    if sender.pump():
        del calls[key]


def main(endpoint: str) -> None:
    """Serve until the process is ended. The first line of output says where."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.SNDHWM, 0)  # a ROUTER drops what goes beyond the mark; what may wait is bounded by credit
    announce(socket, epoch=0, window=NO_LIMIT)
    socket.bind(endpoint)
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    calls: Calls = {}
    while True:
        message = socket.recv_multipart(copy=False)
        frames = [frame.bytes for frame in message]
        if b"" in frames[1:-1]:
            begin = frames.index(b"", 1) + 1
            handle(calls, socket, announced_window(message[0]), tuple(frames[:begin]), frames[begin:])


if __name__ == "__main__":
    main(*sys.argv[1:])
