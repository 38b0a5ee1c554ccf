"""TMQ-RPC 1, level 0, on plain pyzmq: unary calls answered by a ROUTER or a REP, and made by a REQ.

    python -m tests.grpc.peers.level_0 ROUTER tcp://127.0.0.1:0

A client on a DEALER is that of level 1. With REQ and REP, libzmq writes and takes off the envelope, and each call is
one message each way.
"""

import random
import struct
import sys
from collections.abc import Callable

import zmq

from .level_1 import (
    CALL,
    DATA,
    DEADLINE_EXCEEDED,
    END,
    HEAD,
    HEADER,
    MSG,
    RESET,
    STATUS,
    UNIMPLEMENTED,
    VERSION_1,
    decode_status,
)

OK, NOT_FOUND, INTERNAL = 0, 5, 13
MUST_UNDERSTAND = 0x0FFF
NO_CALL = bytes(8)


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


# --- the server ------------------------------------------------------------------------------------------------------


class RefusedError(Exception):
    """What a method raises to answer with a status: a code and a text."""


def fail(request: bytes) -> bytes:
    raise RefusedError(NOT_FOUND, f"there is no {request.decode()}")


METHODS: dict[bytes, Callable[[bytes], bytes]] = {b"/peer.Test/Echo": bytes, b"/peer.Test/Fail": fail}


def encode_status(code: int, text: str) -> bytes:
    return b"\x08" + varint(code) + b"\x12" + varint(len(text.encode())) + text.encode()


def answer(unit: list[bytes]) -> list[bytes] | None:
    """The unit that answers *unit*, or None where nothing may be answered."""
    if len(unit[0]) < HEADER.size:
        return None
    magic, kind, flags, _, call_id = HEADER.unpack_from(unit[0])
    if magic >> 4 != 0xA or kind != CALL or call_id == NO_CALL:
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


def serve(kind: str, endpoint: str) -> None:
    """Answer calls until the process is ended. The first line of output says where."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SocketType[kind])
    socket.bind(endpoint)
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    while True:
        frames = socket.recv_multipart()
        begin = 0
        if kind == "ROUTER":
            if b"" not in frames[1:-1]:
                continue  # no envelope
            begin = frames.index(b"", 1) + 1
        reply = answer(frames[begin:])
        if reply is None and kind == "REP":  # which has to answer, or the client would wait for ever
            reply = [HEADER.pack(VERSION_1, RESET, STATUS, 0, NO_CALL), encode_status(INTERNAL, "this is no call")]
        if reply is not None:
            socket.send_multipart([*frames[:begin], *reply])


# --- the client ------------------------------------------------------------------------------------------------------


def call(endpoint: str, method: str, request: str, seconds: float = 10) -> tuple[int, str, list[bytes]]:
    """Call *method* with a REQ: the code, the text, and the reply if there is one."""
    call_id = struct.pack(">II", random.randrange(1, 1 << 32), 1)
    header = HEADER.pack(VERSION_1, CALL, HEAD | MSG | END, 0, call_id)
    head = b"\x10" + varint(int(seconds * 1_000_000))  # Head{timeout_us = 2}
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send_multipart([header, method.encode(), head, request.encode()])
        if not socket.poll(int(seconds * 1000)):
            return DEADLINE_EXCEEDED, "", []
        unit = socket.recv_multipart()
    _, kind, flags, _, answered = HEADER.unpack(unit[0])
    # The id 0: the server found no call in what it got, and answers so that this socket is not stuck.
    if answered not in (call_id, NO_CALL) or kind not in (DATA, RESET) or not flags & STATUS:
        return INTERNAL, "an answer to another call", []
    code, text = decode_status(unit[-1])
    if code == OK and not flags & MSG:
        return INTERNAL, "OK without a reply", []
    return code, text, unit[-2:-1] if flags & MSG else []


if __name__ == "__main__":
    serve(*sys.argv[1:])
