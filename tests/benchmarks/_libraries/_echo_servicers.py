"""The servicers: ours and grpcio's servers run the same ones, unchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from .._echo.echo_pb2 import Message
from .._echo.echo_pb2_grpc import EchoServicer
from .._run import Run


class AsyncEcho(EchoServicer):
    """Runs on the event loop of whoever serves it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def Unary(self, request: Message, context: Any) -> Message:
        return request

    async def Stream(self, request: Message, context: Any) -> AsyncIterator[Message]:
        for chunk in self._run.chunks():
            for _ in chunk:
                yield request

    async def Bidi(self, request_iterator: Any, context: Any) -> AsyncIterator[Message]:
        self._run.call_opened()
        async for request in request_iterator:
            yield request


class PlainEcho(EchoServicer):
    """Runs in threads."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def Unary(self, request: Message, context: Any) -> Message:
        return request

    def Stream(self, request: Message, context: Any) -> Iterator[Message]:
        for chunk in self._run.chunks():
            for _ in chunk:
                yield request

    def Bidi(self, request_iterator: Any, context: Any) -> Iterator[Message]:
        yield from request_iterator


def servicer(run: Run) -> EchoServicer:
    """The one that the scenario asks for."""
    return PlainEcho(run) if run.scenario.plain else AsyncEcho(run)
