"""TMQ-RPC 1, level 0, on plain pyzmq: a server and a client of unary calls.

python -m tests.grpc.peers.level_0 serve tcp://127.0.0.1:0
python -m tests.grpc.peers.level_0 call tcp://127.0.0.1:5555 /peer.Test/Echo hello
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import zmq

from .blocks import (
    CALL,
    CANCELLED,
    DATA,
    DEADLINE_EXCEEDED,
    END,
    HEAD,
    HEADER,
    INTERNAL,
    MSG,
    MUST_UNDERSTAND,
    NOT_FOUND,
    OK,
    RESET,
    STATUS,
    UNIMPLEMENTED,
    UNKNOWN,
    VERSION_1,
    decode_status,
    encode_head,
    encode_status,
    milliseconds_to,
)

# --- the server ------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """What a method raises to answer with a status: a code and a text."""


def fail(request: bytes) -> bytes:
    raise RefusedError(NOT_FOUND, f"there is no {request.decode()}")


METHODS: dict[bytes, Callable[[bytes], bytes]] = {b"/peer.Test/Echo": bytes, b"/peer.Test/Fail": fail}


def answer(unit: list[bytes]) -> list[bytes] | None:
    """The unit that answers *unit*, or None where nothing may be answered."""
    if len(unit[0]) < HEADER.size:
        return None
    magic, kind, flags, _, call_id = HEADER.unpack_from(unit[0])
    if magic >> 4 != 0xA or kind != CALL or call_id == 0:
        return None  # RESET of a call that is answered, and what only higher levels send
    try:
        if magic != VERSION_1 or flags & MUST_UNDERSTAND & ~(HEAD | MSG | END):
            raise RefusedError(UNIMPLEMENTED, "this peer knows version 1")
        if not (flags & MSG and flags & END):
            raise RefusedError(UNIMPLEMENTED, "this peer knows unary calls only")
        if len(unit) != 3 + bool(flags & HEAD):
            raise RefusedError(INTERNAL, "wrong number of frames")
        if unit[1] not in METHODS:
            raise RefusedError(UNIMPLEMENTED, "Method not found!")
        reply = METHODS[unit[1]](unit[-1])
    except RefusedError as exc:
        return [HEADER.pack(VERSION_1, DATA, STATUS | END, 0, call_id), encode_status(*exc.args)]
    return [HEADER.pack(VERSION_1, DATA, MSG | STATUS | END, 0, call_id), reply, b""]


def serve(endpoint: str) -> None:
    """Answer calls until the process is ended. The first line of output says where."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.bind(endpoint)
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    while True:
        frames = socket.recv_multipart()
        if b"" not in frames[1:-1]:
            continue  # no envelope
        begin = frames.index(b"", 1) + 1
        reply = answer(frames[begin:])
        if reply:
            socket.send_multipart([*frames[:begin], *reply])


# --- the client ------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How a call ended, and with which reply."""

    code: int
    text: str
    reply: bytes | None


def first_call_id() -> int:
    return random.randrange(1, 1 << 32) << 32 | 1


def request(call_id: int, method: str, payload: bytes, seconds: float) -> list[bytes]:
    """The unit of a unary call with a deadline."""
    header = HEADER.pack(VERSION_1, CALL, HEAD | MSG | END, 0, call_id)
    return [header, method.encode(), encode_head(seconds), payload]


def outcome(unit: list[bytes], call_id: int) -> Outcome | None:
    """How the call ended, if *unit* is the end of it."""
    magic, kind, flags, _, answered = HEADER.unpack(unit[0])
    if magic != VERSION_1 or answered != call_id or not (kind == RESET or (kind == DATA and flags & END)):
        return None  # a late answer, or initial metadata
    code, text = decode_status(unit[-1]) if flags & STATUS else (CANCELLED, "")
    if kind == RESET:
        return Outcome(code or UNKNOWN, text, None)
    reply = unit[-2] if flags & MSG else None
    return Outcome(INTERNAL, "OK without a reply", None) if code == OK and reply is None else Outcome(code, text, reply)


def call(socket: zmq.Socket[bytes], method: str, payload: bytes, seconds: float = 5.0) -> Outcome:
    """Call *method* on a connected DEALER, which must have no other call under way."""
    call_id, deadline = first_call_id(), time.monotonic() + seconds
    socket.send_multipart([b"", *request(call_id, method, payload, seconds)])
    while socket.poll(milliseconds_to(deadline)):
        found = outcome(socket.recv_multipart()[1:], call_id)
        if found:
            return found
    return Outcome(DEADLINE_EXCEEDED, "", None)


def main(command: str, endpoint: str, *arguments: str) -> None:
    if command == "serve":
        serve(endpoint)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    code, text, reply = call(socket, arguments[0], arguments[1].encode())
    print(json.dumps({"code": code, "text": text, "reply": None if reply is None else reply.decode()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
