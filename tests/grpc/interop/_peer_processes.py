"""The servers of `tests.grpc.peers` as processes, and the same methods served by our own server."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import trio
import zmq

ROOT = Path(__file__).resolve().parents[3]


@contextlib.asynccontextmanager
async def serving(module: str, *arguments: str) -> AsyncIterator[str]:
    """A peer's server runs; the value is its endpoint."""
    command = [sys.executable, "-m", f"tests.grpc.peers.{module}", *arguments, "tcp://127.0.0.1:0"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        line = b""
        while not line.endswith(b"\n"):
            data = await process.stdout.receive_some()
            assert data, f"{module} has ended"
            line += data
        yield line.decode().strip()
    finally:
        process.kill()
        await process.stdout.aclose()
        with trio.CancelScope(shield=True):
            await process.wait()


@contextlib.contextmanager
def proxy(backend_endpoint: str | None = None) -> Iterator[tuple[str, str]]:
    """Libzmq's own ROUTER-DEALER proxy in a thread; the values are the endpoints of its two sides.

    Args:
        backend_endpoint: where to connect the backend; None binds it, for servers that connect.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    control = context.socket(zmq.PAIR)
    control.bind("inproc://control")
    for socket in (frontend, backend):
        socket.setsockopt(zmq.LINGER, 0)
        if socket is frontend or backend_endpoint is None:
            socket.bind("tcp://127.0.0.1:0")
    if backend_endpoint is not None:
        backend.connect(backend_endpoint)
    thread = Thread(target=_forward, args=(context, frontend, backend))
    thread.start()
    try:
        yield str(frontend.getsockopt_string(zmq.LAST_ENDPOINT)), str(backend.getsockopt_string(zmq.LAST_ENDPOINT))
    finally:
        control.send(b"TERMINATE")
        thread.join()
        for socket in (frontend, backend, control):
            socket.close()
        context.term()


def _forward(context: zmq.Context[zmq.Socket[bytes]], frontend: zmq.Socket[bytes], backend: zmq.Socket[bytes]) -> None:
    with context.socket(zmq.PAIR) as control:
        control.connect("inproc://control")
        zmq.proxy_steerable(frontend, backend, None, control)


class Methods:
    """The methods of ``/peer.Test``, with bytes as messages, for our own server.

    Attributes:
        cancelled: set when a handler of Repeat was cancelled.
    """

    def __init__(self) -> None:
        self.cancelled = trio.Event()

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def early(self, request: bytes, context: Any) -> bytes:
        """Initial metadata goes out before the reply."""
        await context.send_initial_metadata((("early", "yes"),))
        return request

    async def fail(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.decode()}", (("tried", "twice"),))
        raise AssertionError("abort returns")

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        count, word = request.split(b" ", 1)
        try:
            for _ in range(int(count)):
                yield word
        except trio.Cancelled:
            self.cancelled.set()
            raise

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    def handler(self) -> grpc.GenericRpcHandler:
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Early": grpc.unary_unary_rpc_method_handler(self.early),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }
        return grpc.method_handlers_generic_handler("peer.Test", methods)
