"""A service in bytes, without a schema, for the suites of one-way, broadcast and events."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio

import trio_mq_grpc

SERVICE = "test.Work"
_numbers = itertools.count(1)


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def serve(**handlers: Callable[..., Any]) -> trio_mq_grpc.Server:
    """A server whose methods are these functions of ``(request, context)``, in bytes."""
    server = trio_mq_grpc.server()
    add_service(server, **handlers)
    return server


def add_service(server: trio_mq_grpc.Server, **handlers: Callable[..., Any]) -> None:
    methods: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_registered_method_handlers(SERVICE, methods)


def inproc() -> str:
    return f"inproc://feeds/{next(_numbers)}"


def numbered(count: int) -> Iterator[bytes]:
    return (b"%d" % number for number in range(count))


class Heard:
    """Keeps what a handler was given, in order."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.requests.append(request)
        return b""
