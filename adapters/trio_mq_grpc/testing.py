"""For tests of programs that use services: a client and a server in one process, over inproc.

Nothing is resolved or sent over a wire, and time is trio's: under a `trio.testing.MockClock` deadlines, back-off and
timeouts happen when the test says so.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio
import trio
import trio.testing

from ._channel import Channel, insecure_channel
from ._interceptors import MessageInterceptor
from ._options import OptionPairs
from ._server import Server, server
from ._service import THREAD, style_of

__all__ = ["Servicer", "channel_for"]

Servicer: TypeAlias = "object | tuple[Callable[[Any, Any], object], object]"
"""A servicer whose class has a generated base, or a pair of a generated ``add_..._to_server`` and a servicer."""

_numbers = itertools.count(1)


@asynccontextmanager
async def channel_for(
    *servicers: Servicer,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    options: OptionPairs = None,
    server_interceptors: Sequence[grpc.aio.ServerInterceptor | MessageInterceptor] | None = None,
    server_options: OptionPairs = None,
) -> AsyncIterator[Channel]:
    """A channel to a server of its own that has *servicers*.

    ::

        async with channel_for(Greeter()) as channel:
            stub = GreeterStub(channel)

    Under a clock that jumps (``autojump_clock``) plain functions are refused as handlers: a thread takes no time of
    such a clock, which would jump over every deadline while the thread works.

    Args:
        servicers: each a servicer, whose ``add_<Base>_to_server`` is found beside its generated base, or a pair of such
            a function and a servicer.
        interceptors: of the channel.
        options: of the channel.
        server_interceptors: of the server.
        server_options: of the server.

    Raises:
        TypeError: a servicer has no generated base; or it has plain functions, and the clock jumps.
    """
    served = server(interceptors=server_interceptors, options=server_options)
    for each in servicers:
        add, servicer = each if isinstance(each, tuple) else (_adder(each), each)
        add(servicer, served)
    if _clock_jumps():
        _refuse_threads(served)
    endpoint = f"inproc://trio_mq_grpc.testing/{next(_numbers)}"
    served.add_insecure_port(endpoint)
    async with served, insecure_channel(endpoint, options=_pairs(options), interceptors=interceptors) as channel:
        yield channel


def _adder(servicer: object) -> Callable[[Any, Any], object]:
    """The generated function that adds *servicer* to a server.

    Raises:
        TypeError: none is found.
    """
    for base in type(servicer).__mro__:
        if base.__name__.endswith("Servicer"):
            module = sys.modules.get(base.__module__)
            add = getattr(module, f"add_{base.__name__}_to_server", None)
            if callable(add):
                found: Callable[[Any, Any], object] = add
                return found
    raise TypeError(f"{servicer!r} has no generated base class; pass a pair: (add_..._to_server, servicer)")


def _clock_jumps() -> bool:
    clock = trio.lowlevel.current_clock()
    return isinstance(clock, trio.testing.MockClock) and clock.autojump_threshold < float("inf")


def _refuse_threads(served: Server) -> None:
    for path, behaviour in served.behaviours().items():
        if style_of(behaviour) == THREAD:
            raise TypeError(f"{path} is a plain function, which would run in a thread, and under this clock time jumps")


def _pairs(options: OptionPairs) -> Sequence[tuple[str, Any]] | None:
    return None if options is None else tuple(options)
