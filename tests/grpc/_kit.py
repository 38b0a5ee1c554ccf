"""What the suites of the gRPC adapter share: a server and a channel that belong together, servicers made of functions.

Everything goes through public names. A test gets its ends from `ends` (a real transport) or `deterministic` (inproc,
for tests that turn the clock).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
import trio

from ._stubs import Stubs, generators, load

SOON = 5.0
"""Seconds within which everything happens that needs no more than loopback."""

_numbers = itertools.count(1)


# --- stubs -----------------------------------------------------------------------------------------------------------


def usable_generators() -> tuple[str, ...]:
    """Those whose stubs the installed grpcio takes: since 1.66 they refuse one that is older than themselves."""
    ours = _numbered(grpc.__version__)
    return tuple(version for version in generators() if _numbered(version) < (1, 66) or _numbered(version) <= ours)


@cache
def newest_stubs() -> Stubs:
    return load(usable_generators()[-1])


def _numbered(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:3] if number.isdigit())


# --- ends ------------------------------------------------------------------------------------------------------------


class Ends:
    """A server that runs, and a channel to it."""

    def __init__(self, server: Any, channel: Any, target: str, stubs: Stubs) -> None:
        self.server = server
        self.channel = channel
        self.target = target
        self.stubs = stubs
        self.stub = stubs.orders_grpc.OrdersStub(channel)

    def order(self, **fields: Any) -> Any:
        return self.stubs.orders.Order(**fields)


def receipt(**fields: Any) -> Any:
    """A reply of the Orders service, for handlers."""
    return newest_stubs().orders.Receipt(**fields)


def orders_servicer(stubs: Stubs, **handlers: Any) -> Any:
    """A servicer of Orders with these functions of ``(request, context)`` as its methods; the rest is unimplemented."""
    methods = {name: staticmethod(handler) for name, handler in handlers.items()}
    return type("Servicer", (stubs.orders_grpc.OrdersServicer,), methods)()


def bind_address(transport: str) -> contextlib.AbstractContextManager[str]:
    """An address of *transport* to bind, used by nobody else."""
    return {"tcp": _tcp, "ipc": _ipc, "inproc": _inproc}[transport]()


@contextlib.contextmanager
def _tcp() -> Iterator[str]:
    yield "tcp://127.0.0.1:0"


@contextlib.contextmanager
def _ipc() -> Iterator[str]:
    # The path of an ipc endpoint may have some hundred bytes in all, which tmp_path with the test's name has not.
    with TemporaryDirectory(prefix="mq-") as folder:
        yield f"ipc://{folder}/socket"


@contextlib.contextmanager
def _inproc() -> Iterator[str]:
    yield f"inproc://grpc-tests/{next(_numbers)}"


@contextlib.asynccontextmanager
async def ends(
    *servicers: tuple[Callable[[Any, Any], None], Any],
    transport: str = "tcp",
    stubs: Stubs | None = None,
    server: dict[str, Any] | None = None,
    channel: dict[str, Any] | None = None,
    **handlers: Any,
) -> AsyncIterator[Ends]:
    """A server and a channel to it, over *transport*.

    Args:
        servicers: pairs of a generated ``add_..._to_server`` and a servicer.
        transport: tcp, ipc or inproc.
        stubs: made by which generator; the newest one by default.
        server: keyword arguments of `trio_mq_grpc.server`.
        channel: keyword arguments of `trio_mq_grpc.insecure_channel`.
        handlers: methods of an Orders servicer.
    """
    import trio_mq_grpc

    stubs = stubs or newest_stubs()
    with bind_address(transport) as address:
        running = trio_mq_grpc.server(**(server or {}))
        if handlers:
            stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, **handlers), running)
        for add, servicer in servicers:
            add(servicer, running)
        port = running.add_insecure_port(address)
        target = address.replace(":0", f":{port}") if transport == "tcp" else address
        async with running, trio_mq_grpc.insecure_channel(target, **(channel or {})) as opened:
            yield Ends(running, opened, target, stubs)


@contextlib.asynccontextmanager
async def deterministic(
    *servicers: tuple[Callable[[Any, Any], None], Any], stubs: Stubs | None = None, **handlers: Any
) -> AsyncIterator[Ends]:
    """The ends of `trio_mq_grpc.testing.channel_for`, for tests under a `trio.testing.MockClock`."""
    import trio_mq_grpc.testing

    stubs = stubs or newest_stubs()
    pairs = list(servicers)
    if handlers:
        pairs.append((stubs.orders_grpc.add_OrdersServicer_to_server, orders_servicer(stubs, **handlers)))
    async with trio_mq_grpc.testing.channel_for(*pairs) as channel:
        yield Ends(None, channel, "inproc", stubs)


# --- waiting and judging ---------------------------------------------------------------------------------------------


async def wait_until(condition: Callable[[], object], seconds: float = SOON) -> None:
    """Wait until *condition* holds, for things that no event tells."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)


@contextlib.contextmanager
def fails_with(
    *codes: grpc.StatusCode, details: str | None = None
) -> Iterator[pytest.ExceptionInfo[grpc.aio.AioRpcError]]:
    """Check that the block raises an `AioRpcError` of one of *codes*, with *details* as a part of its text."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        yield raised
    assert raised.value.code() in codes, raised.value
    if details is not None:
        assert details in str(raised.value.details())


async def ids_of(requests: Any) -> list[str]:
    """The ids of all messages of a stream, read to its end."""
    return [message.id async for message in requests]


def orders(stubs: Stubs, ids: Sequence[str]) -> list[Any]:
    return [stubs.orders.Order(id=each) for each in ids]
