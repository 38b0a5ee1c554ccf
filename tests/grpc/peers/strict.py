"""TMQ-RPC 1, level 0, on the two strictest sockets: a REP server and a REQ client.

    python -m tests.grpc.peers.strict serve tcp://127.0.0.1:0
    python -m tests.grpc.peers.strict call tcp://127.0.0.1:5555 /peer.Test/Echo hello

libzmq writes and takes off the envelope here, so these see units only. Each call is one message each way.
"""

from __future__ import annotations

import json
import sys
import time

import zmq

from .blocks import DEADLINE_EXCEEDED, HEADER, INTERNAL, RESET, STATUS, VERSION_1, encode_status, milliseconds_to
from .level_0 import Outcome, answer, first_call_id, outcome, request


def serve(endpoint: str) -> None:
    """Answer calls until the process is ended, every one, or the client would wait for ever."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
    socket.bind(endpoint)
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    while True:
        reply = answer(socket.recv_multipart())
        if reply is None:
            reply = [HEADER.pack(VERSION_1, RESET, STATUS, 0, 0), encode_status(INTERNAL, "this is no call")]
        socket.send_multipart(reply)


def call(socket: zmq.Socket[bytes], method: str, payload: bytes, seconds: float = 5.0) -> Outcome:
    """Call *method* on a connected REQ. After a deadline the socket cannot be used again."""
    call_id, deadline = first_call_id(), time.monotonic() + seconds
    socket.send_multipart(request(call_id, method, payload, seconds))
    if not socket.poll(milliseconds_to(deadline)):
        return Outcome(DEADLINE_EXCEEDED, "", None)
    unit = socket.recv_multipart()
    # Call id 0: the server found no call in what it got, and answers so that this socket is not stuck.
    return outcome(unit, call_id) or outcome(unit, 0) or Outcome(INTERNAL, "an answer to another call", None)


def main(command: str, endpoint: str, *arguments: str) -> None:
    if command == "serve":
        serve(endpoint)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    code, text, reply = call(socket, arguments[0], arguments[1].encode())
    print(json.dumps({"code": code, "text": text, "reply": None if reply is None else reply.decode()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
