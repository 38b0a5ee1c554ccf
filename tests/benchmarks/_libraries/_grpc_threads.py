"""grpcio's blocking API: a pool of threads serves, and as many threads call as there are calls in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from .._echo.echo_pb2 import Message
from .._echo.echo_pb2_grpc import EchoStub, add_EchoServicer_to_server
from .._run import Run
from ._call_options import call_options
from ._echo_servicers import PlainEcho

_WORKERS = 10  # as in grpcio's own examples


class _GrpcThreads:
    def launch(self, role: Callable[[Run], None], run: Run) -> None:
        role(run)

    def serve(self, run: Run) -> None:
        server = grpc.server(ThreadPoolExecutor(max_workers=_WORKERS))
        add_EchoServicer_to_server(PlainEcho(run), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        run.serving(f"127.0.0.1:{port}")
        run.wait_stop()
        server.stop(None).wait()

    def unary(self, run: Run) -> None:
        with grpc.insecure_channel(run.endpoint) as channel:
            _unary(EchoStub(channel), run)

    def stream(self, run: Run) -> None:
        with grpc.insecure_channel(run.endpoint) as channel:
            _count(EchoStub(channel).Stream(Message(payload=run.message)), run)

    def bidi(self, run: Run) -> None:
        def requests() -> Iterator[Message]:
            for chunk in run.chunks():
                for _ in chunk:
                    yield request

        request = Message(payload=run.message)
        with grpc.insecure_channel(run.endpoint) as channel:
            _count(EchoStub(channel).Bidi(requests()), run)


def _unary(stub: Any, run: Run) -> None:
    call, request, options = stub.Unary, Message(payload=run.message), call_options(run)
    if run.scenario.in_flight == 1:
        for _ in run.trips():
            call(request, **options)
        return

    def one_thread() -> None:
        for _ in run.calls():
            call(request, **options)

    for _ in run.warm_up():
        call(request, **options)
    with ThreadPoolExecutor(run.scenario.in_flight) as threads:
        for ended in [threads.submit(one_thread) for _ in range(run.scenario.in_flight)]:
            ended.result()
    run.calls_ended()


def _count(replies: Iterator[Message], run: Run) -> None:
    next(replies)
    run.begin()
    count = 0
    for _ in replies:
        count += 1
    run.end(count)


LIBRARY = _GrpcThreads()
