"""The servicer that gRPC's interop cases are run against.

Neutral to the loop: what it waits for is the call, and the sleep that it is given. So that a case which fails says
something about the transport, the same servicer and cases also run on grpc.aio (`interop/_on_grpc_aio.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from ._stubs import Stubs

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

Sleep = Callable[[float], Awaitable[object]]
WasCompressed = Callable[[Any], bool]


def interop_servicer(stubs: Stubs, sleep: Sleep, was_compressed: WasCompressed | None = None) -> Any:
    """A TestService as the interop descriptions want it.

    Args:
        stubs: whose base class and messages.
        sleep: waits for so many seconds.
        was_compressed: tells of a context whether the request read last came compressed; without it, no request is
            refused for that.
    """
    pb = stubs.interop

    async def begin(context: Any) -> None:
        """Echo the two metadata keys, each where it belongs."""
        sent = {key: value for key, value in context.invocation_metadata()}  # noqa: C416  # entries are named tuples, which dict() would take, too, but not everywhere
        if ECHO_TRAILING in sent:
            context.set_trailing_metadata(((ECHO_TRAILING, sent[ECHO_TRAILING]),))
        if ECHO_INITIAL in sent:
            await context.send_initial_metadata(((ECHO_INITIAL, sent[ECHO_INITIAL]),))

    async def check_compression(request: Any, context: Any) -> None:
        expected = request.expect_compressed.value
        if was_compressed is not None and request.HasField("expect_compressed") and expected > was_compressed(context):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected a compressed message")

    def ended(request: Any, context: Any) -> bool:
        """Whether the request asks for a status, which is set then."""
        if not request.HasField("response_status"):
            return False
        context.set_code(request.response_status.code)  # a number, as the wire has it
        context.set_details(request.response_status.message)
        return True

    def compress(wanted: Any, context: Any) -> None:
        if not wanted:
            context.disable_next_message_compression()

    def body(size: int) -> Any:
        return pb.Payload(type=pb.COMPRESSABLE, body=bytes(size))

    async def replies(request: Any, context: Any) -> AsyncIterator[Any]:
        for parameters in request.response_parameters:
            if parameters.interval_us:
                await sleep(parameters.interval_us / 1e6)
            if parameters.HasField("compressed"):
                compress(parameters.compressed.value, context)
            yield pb.StreamingOutputCallResponse(payload=body(parameters.size))

    class Servicer(stubs.interop_grpc.TestServiceServicer):  # type: ignore[misc, name-defined]  # its base is made at run time
        async def EmptyCall(self, request: Any, context: Any) -> Any:
            await begin(context)
            return type(request)()

        async def UnaryCall(self, request: Any, context: Any) -> Any:
            await check_compression(request, context)
            if request.HasField("response_compressed"):
                context.set_compression(grpc.Compression.Gzip)
                compress(request.response_compressed.value, context)
            await begin(context)
            ended(request, context)
            username = bearer(context) if request.fill_username else ""
            return pb.SimpleResponse(payload=body(request.response_size), username=username)

        async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
            if any(parameters.HasField("compressed") for parameters in request.response_parameters):
                context.set_compression(grpc.Compression.Gzip)
            await begin(context)
            async for reply in replies(request, context):
                yield reply
            ended(request, context)

        async def StreamingInputCall(self, requests: AsyncIterator[Any], context: Any) -> Any:
            await begin(context)
            total = 0
            async for request in requests:
                await check_compression(request, context)
                total += len(request.payload.body)
            return pb.StreamingInputCallResponse(aggregated_payload_size=total)

        async def FullDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await begin(context)
            async for request in requests:
                if ended(request, context):
                    return
                async for reply in replies(request, context):
                    yield reply

        async def HalfDuplexCall(self, _: AsyncIterator[Any], context: Any) -> None:
            """The other style: read all there is, then write."""
            await begin(context)
            requests = []
            while (request := await context.read()) is not grpc.aio.EOF:
                requests.append(request)
            for request in requests:
                async for reply in replies(request, context):
                    await context.write(reply)

    return Servicer()


def bearer(context: Any) -> str:
    """Who calls, according to a token that the tests take at its word."""
    credentials = [value for key, value in context.invocation_metadata() if key == "authorization"]
    return str(credentials[0]).removeprefix("Bearer ") if credentials else ""
