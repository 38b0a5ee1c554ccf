"""TMQ-RPC 1, level 1, whole and on plain pyzmq: methods of all four kinds, served by this program, called by `call`."""

import contextlib
import random
import struct
import sys
import time
from io import BytesIO
from typing import Any

import zmq

HEADER = struct.Struct(">BBHI8s")  # magic and version, type, flags, value, call id
CALL, DATA, RESET, CREDIT = 1, 2, 3, 4
HEAD, MSG, END, STATUS, OF_LEVEL_2 = 0x01, 0x02, 0x04, 0x08, 0x0FF0
CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, UNAVAILABLE = 1, 2, 4, 12, 14
VERSION_1, MODULUS, CHARGE, WINDOW = 0xA1, 1 << 32, 64, 262_144

DONE, NO_METHOD = (END | STATUS, [b""]), (END | STATUS, [b"\x08\x0c\x12\x11Method not found!"])
METHODS: dict[bytes, Any] = {  # what to answer (flags and frames) to the requests so far, and when no more will come
    b"/peer.Test/Join": lambda requests, ended: [(MSG | END | STATUS, [b"".join(requests), b""])] * ended,
    b"/peer.Test/Repeat": lambda requests, _: [(MSG, requests[0].split()[1:])] * int(requests[0].split()[0]) + [DONE],
    b"/peer.Test/Chat": lambda requests, ended: [(MSG, [requests.pop()]) for _ in requests[:]] + [DONE] * ended,
}


def read_varint(block: BytesIO) -> int:
    byte = block.read(1)[0]
    return byte if byte < 0x80 else byte & 0x7F | read_varint(block) << 7


def decode_status(data: bytes) -> tuple[int, str]:
    fields: dict[int, Any] = {0x08: 0, 0x12: b""}  # code and text; trailers, and what is newer, is not looked at
    block = BytesIO(data)
    while block.tell() < len(data):
        tag = read_varint(block)
        number = {1: 8, 5: 4}.get(tag & 7) or read_varint(block)
        fields[tag] = block.read(number) if tag & 7 else number
    return fields[0x08], fields[0x12].decode()


class Call:
    """One call, at either end: what has come, what waits for credit, and how it ended."""

    def __init__(self, socket: Any, envelope: list[bytes], call_id: bytes, window: int) -> None:
        self.socket, self.envelope, self.call_id = socket, envelope, call_id
        self.balance, self.window = WINDOW, window  # what may be sent; what may come before the first grant
        self.sequence = self.expected = self.taken = self.granted = self.heard = 0
        self.messages: list[bytes] = []
        self.waiting: list[tuple[int, list[bytes]]] = []
        self.status: tuple[int, str] | None = None

    def send(self, kind: int, flags: int, value: int, *frames: bytes) -> None:
        header = HEADER.pack(VERSION_1, kind, flags, value % MODULUS, self.call_id)
        self.socket.send_multipart([*self.envelope, header, *frames])

    def pump(self) -> None:
        """Send what credit allows. A message goes, however large, while the balance is above zero."""
        while not self.status and self.waiting and (self.balance > 0 or not self.waiting[0][0] & MSG):
            flags, frames = self.waiting.pop(0)
            self.send(CALL if flags & HEAD else DATA, flags, self.sequence, *frames)
            self.sequence += 1
            self.balance -= len(frames[-2 if flags & STATUS else -1]) + CHARGE if flags & MSG else 0
            self.status = decode_status(frames[-1]) if flags & STATUS else None

    def reset(self, code: int, text: str) -> None:
        self.status = code, text
        self.send(RESET, STATUS, 0, b"\x08%c\x12%c%b" % (code, len(text), text.encode()))

    def receive(self, unit: list[bytes]) -> None:
        """Take a unit of this call from the other side. RESET answers what breaks a rule."""
        version, kind, flags, value, _ = HEADER.unpack_from(unit[0])
        if kind == RESET:
            code, text = decode_status(unit[-1]) if flags & STATUS else (CANCELLED, "")
            self.status = code or UNKNOWN, text
        elif kind == CREDIT:
            if (more := (value - self.heard) % MODULUS) < MODULUS // 2:  # else it is an older one
                self.balance, self.heard = self.balance + more, value
        elif version != VERSION_1 or kind not in (CALL, DATA) or flags & OF_LEVEL_2:
            self.reset(UNIMPLEMENTED, "this peer knows version 1, level 1")
        elif value != self.expected:
            self.reset(UNAVAILABLE, "message lost in transport")
        else:
            self.expected = (value + 1) % MODULUS
            self.status = decode_status(unit[-1]) if flags & STATUS else None
            if flags & MSG:
                self.messages.append(unit[-2 if flags & STATUS else -1])
                self.taken += len(self.messages[-1]) + CHARGE
            if self.taken * 2 >= self.window and not flags & END:
                self.granted, self.taken = self.granted + self.taken, 0
                self.send(CREDIT, 0, self.granted)


def serve(endpoint: str) -> None:
    """Answer calls until the process is ended. The first line of output says where."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.SNDHWM, 0)  # a ROUTER drops what goes beyond the mark; what may wait is bounded by credit
    socket.bind(endpoint)
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    calls: dict[tuple[bytes, ...], tuple[Call, Any]] = {}
    while True:
        message = socket.recv_multipart(copy=False)
        frames = [frame.bytes for frame in message]
        begin = frames.index(b"", 1) + 1 if b"" in frames[1:-1] else 0
        envelope, unit = frames[:begin], frames[begin:]
        if not envelope or len(unit[0]) < HEADER.size or unit[0][0] >> 4 != 0xA:
            continue
        _, kind, flags, _, call_id = HEADER.unpack_from(unit[0])
        key = (*envelope, call_id)
        if kind == CALL and any(call_id) and len(unit) > 1 and key not in calls:
            calls[key] = Call(socket, envelope, call_id, WINDOW), METHODS.get(unit[1], lambda *_: [NO_METHOD])
            with contextlib.suppress(zmq.ZMQError, ValueError):  # what is announced, instead of the default
                calls[key][0].balance = int(str(message[0].get("X-TMQ-RPC")).partition(";w=")[2].partition(";")[0])
        if key in calls:
            call, method = calls[key]
            call.receive(unit)
            call.waiting += method(call.messages, bool(flags & END)) if kind in (CALL, DATA) else []
            call.pump()
            if call.status:
                del calls[key]


def call(
    target: str, name: str, *requests: str, seconds: float = 10, window: int = WINDOW, grant: bool = True, most: int = 0
) -> Call:
    """A call that has ended: by its status, after *seconds*, or cancelled because *most* replies have come."""
    epoch, deadline = random.randrange(1, MODULUS), time.monotonic() + seconds
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.METADATA, f"X-TMQ-RPC:1;e={epoch:08x};w={window}".encode())
        socket.setsockopt(zmq.LINGER, 1000)  # a RESET is the last thing that some calls send
        socket.connect(target)
        call = Call(socket, [b""], struct.pack(">II", epoch, 1), window if grant else MODULUS)
        units = [[request.encode()] for request in requests]
        units[0] = [name.encode(), b"", *units[0]]
        call.waiting = [(MSG | HEAD * (unit is units[0]) | END * (unit is units[-1]), unit) for unit in units]
        while not call.status:
            call.pump()
            if most and len(call.messages) >= most:
                call.reset(CANCELLED, "")
            elif socket.poll(max(0, int(1000 * (deadline - time.monotonic())))):
                call.receive(socket.recv_multipart()[1:])
            else:
                call.reset(DEADLINE_EXCEEDED, "")
        return call


if __name__ == "__main__":
    serve(sys.argv[1])
