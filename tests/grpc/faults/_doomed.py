"""A server and a client that are there to be killed.

python -m tests.grpc.faults._doomed server
python -m tests.grpc.faults._doomed client tcp://127.0.0.1:1234
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import trio

import trio_mq_grpc

from ..server._raw import service


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    number = 0
    while True:
        yield b"%d" % number
        number += 1


async def hang(request: bytes, context: Any) -> bytes:
    await trio.sleep_forever()
    return b""


async def large(request: bytes, context: Any) -> bytes:
    return bytes(3_000_000)


async def serve() -> None:
    server = trio_mq_grpc.server()
    server.add_generic_rpc_handlers(
        [service(unary_stream={"Count": count}, unary_unary={"Hang": hang, "Large": large})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    async with server:
        print(f"tcp://127.0.0.1:{port}", flush=True)
        await trio.sleep_forever()


async def upload(endpoint: str) -> None:
    async with trio_mq_grpc.insecure_channel(endpoint) as channel:
        call = channel.stream_unary("/test.Service/Upload")()
        while True:
            await call.write(bytes(10_000))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        trio.run(serve)
    else:
        trio.run(upload, sys.argv[2])
