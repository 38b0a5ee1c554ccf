"""gRPC's interop cases, each a coroutine function of its client's side.

From doc/interop-test-descriptions.md of grpc, those that mean something without HTTP/2 and without Google's cloud.
Neutral to the loop: nothing here waits for anything but calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from .._stubs import Stubs
from ..interop_service import ECHO_INITIAL, ECHO_TRAILING

LARGE_REQUEST = 271828
LARGE_REPLY = 314159
REQUEST_SIZES = (27182, 8, 1828, 45904)
REPLY_SIZES = (31415, 9, 2653, 58979)
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"

Case = Callable[[Stubs, Any], Awaitable[None]]
"""``case(stubs, channel)``"""

CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def service_stub(stubs: Stubs, channel: Any) -> Any:
    return stubs.interop_grpc.TestServiceStub(channel)


def payload(stubs: Stubs, size: int) -> Any:
    return stubs.interop.Payload(body=bytes(size))


def simple_request(stubs: Stubs, size: int = LARGE_REQUEST, reply: int = LARGE_REPLY, **fields: Any) -> Any:
    return stubs.interop.SimpleRequest(payload=payload(stubs, size), response_size=reply, **fields)


def output_request(stubs: Stubs, *sizes: int, size: int = 0, **fields: Any) -> Any:
    parameters = [stubs.interop.ResponseParameters(size=reply) for reply in sizes]
    body = payload(stubs, size)
    return stubs.interop.StreamingOutputCallRequest(response_parameters=parameters, payload=body, **fields)


async def ends_ok(call: Any) -> None:
    assert await call.code() is grpc.StatusCode.OK
    assert await call.details() == ""


async def ends(call: Any, code: grpc.StatusCode, details: str | None = None) -> None:
    assert await call.code() is code
    if details is not None:
        assert await call.details() == details


# --- unary -----------------------------------------------------------------------------------------------------------


@case
async def empty_unary(stubs: Stubs, channel: Any) -> None:
    from google.protobuf import empty_pb2

    call = service_stub(stubs, channel).EmptyCall(empty_pb2.Empty())
    assert await call == empty_pb2.Empty()
    await ends_ok(call)


@case
async def large_unary(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).UnaryCall(simple_request(stubs))
    assert (await call).payload.body == bytes(LARGE_REPLY)
    await ends_ok(call)


@case
async def concurrent_large_unary(stubs: Stubs, channel: Any) -> None:
    stub = service_stub(stubs, channel)
    calls = [stub.UnaryCall(simple_request(stubs)) for _ in range(200)]
    assert {len((await call).payload.body) for call in calls} == {LARGE_REPLY}


@case
async def rpc_soak(stubs: Stubs, channel: Any) -> None:
    stub = service_stub(stubs, channel)
    for _ in range(100):
        assert len((await stub.UnaryCall(simple_request(stubs), timeout=10)).payload.body) == LARGE_REPLY


# --- streams ---------------------------------------------------------------------------------------------------------


@case
async def client_streaming(stubs: Stubs, channel: Any) -> None:
    requests = [stubs.interop.StreamingInputCallRequest(payload=payload(stubs, size)) for size in REQUEST_SIZES]
    call = service_stub(stubs, channel).StreamingInputCall(iter(requests))
    assert (await call).aggregated_payload_size == 74922
    await ends_ok(call)


@case
async def client_streaming_by_write(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).StreamingInputCall()
    for size in REQUEST_SIZES:
        await call.write(stubs.interop.StreamingInputCallRequest(payload=payload(stubs, size)))
    await call.done_writing()
    assert (await call).aggregated_payload_size == 74922
    await ends_ok(call)


@case
async def server_streaming(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).StreamingOutputCall(output_request(stubs, *REPLY_SIZES))
    assert [len(reply.payload.body) async for reply in call] == list(REPLY_SIZES)
    await ends_ok(call)


@case
async def ping_pong(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).FullDuplexCall()
    for size, reply in zip(REQUEST_SIZES, REPLY_SIZES, strict=True):
        await call.write(output_request(stubs, reply, size=size))
        assert len((await call.read()).payload.body) == reply
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await ends_ok(call)


@case
async def empty_stream(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).FullDuplexCall()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await ends_ok(call)


@case
async def half_duplex(stubs: Stubs, channel: Any) -> None:
    requests = [output_request(stubs, reply, size=size) for size, reply in zip(REQUEST_SIZES, REPLY_SIZES, strict=True)]
    call = service_stub(stubs, channel).HalfDuplexCall(iter(requests))
    assert [len(reply.payload.body) async for reply in call] == list(REPLY_SIZES)
    await ends_ok(call)


# --- metadata and status ---------------------------------------------------------------------------------------------

SENT = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))


async def _echoed(call: Any) -> None:
    assert list(await call.initial_metadata()) == [SENT[0]]
    assert list(await call.trailing_metadata()) == [SENT[1]]
    await ends_ok(call)


@case
async def custom_metadata_unary(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).UnaryCall(simple_request(stubs), metadata=SENT)
    assert len((await call).payload.body) == LARGE_REPLY
    await _echoed(call)


@case
async def custom_metadata_duplex(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).FullDuplexCall(metadata=SENT)
    await call.write(output_request(stubs, LARGE_REPLY, size=LARGE_REQUEST))
    assert len((await call.read()).payload.body) == LARGE_REPLY
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await _echoed(call)


async def _status_comes_back(stubs: Stubs, channel: Any, text: str) -> None:
    wanted = stubs.interop.EchoStatus(code=2, message=text)
    stub = service_stub(stubs, channel)
    unary = stub.UnaryCall(stubs.interop.SimpleRequest(response_status=wanted))
    await ends(unary, grpc.StatusCode.UNKNOWN, text)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await unary
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNKNOWN, text)
    duplex = stub.FullDuplexCall()
    await duplex.write(stubs.interop.StreamingOutputCallRequest(response_status=wanted))
    await duplex.done_writing()
    await ends(duplex, grpc.StatusCode.UNKNOWN, text)


@case
async def status_code_and_message(stubs: Stubs, channel: Any) -> None:
    await _status_comes_back(stubs, channel, "test status message")


@case
async def special_status_message(stubs: Stubs, channel: Any) -> None:
    await _status_comes_back(stubs, channel, SPECIAL)


@case
async def unimplemented_method(stubs: Stubs, channel: Any) -> None:
    from google.protobuf import empty_pb2

    await ends(
        service_stub(stubs, channel).UnimplementedCall(empty_pb2.Empty()),
        grpc.StatusCode.UNIMPLEMENTED,
    )


@case
async def unimplemented_service(stubs: Stubs, channel: Any) -> None:
    from google.protobuf import empty_pb2

    stub = stubs.interop_grpc.UnimplementedServiceStub(channel)
    await ends(stub.UnimplementedCall(empty_pb2.Empty()), grpc.StatusCode.UNIMPLEMENTED)


# --- cancelling and deadlines ----------------------------------------------------------------------------------------


@case
async def cancel_after_begin(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).StreamingInputCall()
    assert call.cancel()
    await ends(call, grpc.StatusCode.CANCELLED)
    assert call.cancelled()


@case
async def cancel_after_first_response(stubs: Stubs, channel: Any) -> None:
    call = service_stub(stubs, channel).FullDuplexCall()
    await call.write(output_request(stubs, REPLY_SIZES[0], size=REQUEST_SIZES[0]))
    assert len((await call.read()).payload.body) == REPLY_SIZES[0]
    assert call.cancel()
    await ends(call, grpc.StatusCode.CANCELLED)
    assert call.cancelled()


@case
async def timeout_on_sleeping_server(stubs: Stubs, channel: Any) -> None:
    parameters = stubs.interop.ResponseParameters(size=1, interval_us=10**8)
    body = payload(stubs, 27182)
    request = stubs.interop.StreamingOutputCallRequest(response_parameters=[parameters], payload=body)
    call = service_stub(stubs, channel).FullDuplexCall(iter([request]), timeout=0.05)
    await ends(call, grpc.StatusCode.DEADLINE_EXCEEDED)


# --- compression of replies; that of requests needs a server that tells (test_compression.py) ------------------------


@case
async def server_compressed_unary(stubs: Stubs, channel: Any) -> None:
    for wanted in (True, False):
        request = simple_request(stubs, response_compressed=stubs.interop.BoolValue(value=wanted))
        call = service_stub(stubs, channel).UnaryCall(request)
        assert len((await call).payload.body) == LARGE_REPLY
        await ends_ok(call)


@case
async def server_compressed_streaming(stubs: Stubs, channel: Any) -> None:
    pb = stubs.interop
    wanted = [(31415, True), (92653, False)]
    parameters = [pb.ResponseParameters(size=size, compressed=pb.BoolValue(value=value)) for size, value in wanted]
    request = pb.StreamingOutputCallRequest(response_parameters=parameters)
    call = service_stub(stubs, channel).StreamingOutputCall(request)
    assert [len(reply.payload.body) async for reply in call] == [size for size, _ in wanted]
    await ends_ok(call)
