"""Ordinary gRPC at the other end of the line, which everybody will try on the first day: refused, with a reason."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
import trio

import trio_mq_grpc

from .._kit import ends, fails_with, receipt

CODE = grpc.StatusCode

SERVER = """
import grpc, sys
from concurrent import futures
server = grpc.server(futures.ThreadPoolExecutor(1))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
"""

CLIENT = """
import grpc, sys
channel = grpc.insecure_channel(sys.argv[1])
try:
    channel.unary_unary("/shop.v1.Orders/Place")(b"", timeout=5)
except grpc.RpcError as error:
    print(error.code().name)
"""


@pytest.fixture
def ordinary_server() -> Iterator[int]:
    """The port of a grpcio server, in a process of its own."""
    program = [sys.executable, "-c", SERVER]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


async def test_a_server_that_speaks_http_2_is_named(ordinary_server: int) -> None:
    async with trio_mq_grpc.insecure_channel(f"127.0.0.1:{ordinary_server}") as channel:
        with trio.fail_after(10):
            with fails_with(CODE.UNAVAILABLE, details="HTTP/2"):
                await channel.unary_unary("/shop.v1.Orders/Place")(b"")


async def test_a_client_that_speaks_http_2_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def place(request: object, context: object) -> object:
        return receipt()

    with caplog.at_level(logging.WARNING):
        async with ends(Place=place) as both:
            program = [sys.executable, "-c", CLIENT, both.target.removeprefix("tcp://")]
            ran = await trio.run_process(program, capture_stdout=True, check=False)
            assert ran.stdout.split() in ([b"UNAVAILABLE"], [b"DEADLINE_EXCEEDED"])
            assert await both.stub.Place(both.order()) == receipt()  # nobody else noticed
    assert any("HTTP/2" in record.getMessage() for record in caplog.records)
