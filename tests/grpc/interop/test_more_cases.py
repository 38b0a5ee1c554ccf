"""Interop cases that need more than a stub: credentials, tiny fragments, thousands of calls, two servers.

Partly from gRPC's descriptions (per_rpc_creds, the cases of its HTTP/2 suite that have a meaning here), partly from the
list of what those descriptions still want.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import trio

import trio_mq_grpc

from .._kit import bind_address, deterministic, ends, fails_with, newest_stubs, wait_until
from ..interop_service import interop_servicer
from ._cases import CASES, LARGE_REPLY, service_stub, simple_request

CODE = grpc.StatusCode


def service() -> Any:
    stubs = newest_stubs()
    return stubs.interop_grpc.add_TestServiceServicer_to_server, interop_servicer(stubs, trio.sleep)


class Token(grpc.AuthMetadataPlugin):
    """A plug-in as an OAuth library is one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[Any] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.seen.append((context.service_url, context.method_name))
        callback((("authorization", f"Bearer {self.name}"),), None)


async def test_per_rpc_creds() -> None:
    token = Token("ada")
    credentials = grpc.metadata_call_credentials(token)
    with bind_address("ipc") as address:
        server = trio_mq_grpc.server()
        add, servicer = service()
        add(servicer, server)
        server.add_secure_port(address, trio_mq_grpc.PlainServerCredentials({"shop": "secret"}))
        plain = trio_mq_grpc.PlainChannelCredentials("shop", "secret")
        async with server, trio_mq_grpc.secure_channel(address, plain) as channel:
            stub = service_stub(newest_stubs(), channel)
            request = newest_stubs().interop.SimpleRequest(fill_username=True)
            assert (await stub.UnaryCall(request, credentials=credentials)).username == "ada"
            # ... of that call only
            assert (await stub.UnaryCall(request)).username == ""
    ((url, method),) = token.seen
    assert url.endswith("/grpc.testing.TestService")
    assert method == "UnaryCall"


@pytest.mark.parametrize("size", [700, 10_000])
@pytest.mark.parametrize("name", ["large_unary", "ping_pong", "client_streaming", "server_streaming"])
async def test_fragments_of_any_size_make_the_same_messages(name: str, size: int) -> None:
    options = [("trio_mq_grpc.fragment_size", size)]
    async with ends(service(), server={"options": options}, channel={"options": options}) as both:
        await CASES[name](newest_stubs(), both.channel)


async def test_concurrent_large_unary_a_thousand_times() -> None:
    stubs = newest_stubs()
    async with ends(service()) as both:
        stub = service_stub(stubs, both.channel)
        calls = [stub.UnaryCall(simple_request(stubs)) for _ in range(1000)]
        for call in calls:
            assert len((await call).payload.body) == LARGE_REPLY


async def test_thousands_of_small_calls_at_once() -> None:
    stubs = newest_stubs()
    async with ends(service()) as both:
        stub = service_stub(stubs, both.channel)
        calls = [stub.UnaryCall(simple_request(stubs, size=10, reply=number)) for number in range(5000)]
        assert [len((await call).payload.body) for call in calls] == list(range(5000))


async def test_thousands_of_open_streams_on_one_channel() -> None:
    stubs = newest_stubs()
    async with ends(service()) as both:
        stub = service_stub(stubs, both.channel)
        request = stubs.interop.StreamingOutputCallRequest(response_parameters=[{"size": 3}])
        calls = [stub.FullDuplexCall() for _ in range(2000)]
        for call in calls:
            await call.write(request)
        for call in calls:
            assert len((await call.read()).payload.body) == 3
        for call in calls:
            await call.done_writing()
        assert {await call.code() for call in calls} == {CODE.OK}


async def test_thousands_of_timeouts_at_once(autojump_clock: trio.testing.MockClock) -> None:
    stubs = newest_stubs()
    async with deterministic(service()) as both:
        stub = service_stub(stubs, both.channel)
        calls = [stub.FullDuplexCall(timeout=5) for _ in range(2000)]
        assert {await call.code() for call in calls} == {CODE.DEADLINE_EXCEEDED}
        assert (await stub.UnaryCall(simple_request(stubs, reply=7))).payload.body == bytes(7)


async def test_a_timeout_that_is_not_reached() -> None:
    stubs = newest_stubs()
    async with ends(service()) as both:
        call = service_stub(stubs, both.channel).UnaryCall(simple_request(stubs), timeout=30)
        assert len((await call).payload.body) == LARGE_REPLY
        assert await call.code() is CODE.OK


async def test_63_kib_of_metadata() -> None:
    stubs = newest_stubs()
    options = [("grpc.absolute_max_metadata_size", 70_000)]
    sent = (("x-grpc-test-echo-trailing-bin", bytes(range(256)) * 252),)
    async with ends(service(), server={"options": options}, channel={"options": options}) as both:
        call = service_stub(stubs, both.channel).UnaryCall(simple_request(stubs, reply=1), metadata=sent)
        await call
        assert list(await call.trailing_metadata()) == list(sent)


async def test_goaway_sends_the_next_call_to_another_server() -> None:
    """The first server stops gracefully: its call ends well, and the next one goes elsewhere without an error."""
    stubs = newest_stubs()
    add, servicer = service()
    async with trio.open_nursery() as nursery:
        both, targets = [], []
        for _ in range(2):
            server = trio_mq_grpc.server()
            add(servicer, server)
            targets.append(f"tcp://127.0.0.1:{server.add_insecure_port('tcp://127.0.0.1:0')}")
            await nursery.start(server.serve)
            both.append(server)
        async with trio_mq_grpc.insecure_channel(targets) as channel:
            stub = service_stub(stubs, channel)
            first = stub.FullDuplexCall()
            await first.write(stubs.interop.StreamingOutputCallRequest(response_parameters=[{"size": 1}]))
            await first.read()
            nursery.start_soon(both[0].stop, 10)
            assert len((await stub.UnaryCall(simple_request(stubs), wait_for_ready=True)).payload.body) == LARGE_REPLY
            await first.write(stubs.interop.StreamingOutputCallRequest(response_parameters=[{"size": 2}]))
            assert len((await first.read()).payload.body) == 2
            await first.done_writing()
            assert await first.code() is CODE.OK
        nursery.cancel_scope.cancel()


async def test_calls_of_one_peer_beyond_its_limit_are_refused() -> None:
    stubs = newest_stubs()
    options = [("grpc.max_concurrent_streams", 1)]
    async with ends(service(), server={"options": options}) as both:
        first = service_stub(stubs, both.channel).FullDuplexCall()
        await first.write(stubs.interop.StreamingOutputCallRequest(response_parameters=[{"size": 1}]))
        await first.read()
        with fails_with(CODE.RESOURCE_EXHAUSTED):
            await service_stub(stubs, both.channel).UnaryCall(simple_request(stubs))
        # The limit is that of a peer: another channel has its own.
        async with trio_mq_grpc.insecure_channel(both.target) as other:
            assert len((await service_stub(stubs, other).UnaryCall(simple_request(stubs))).payload.body) == LARGE_REPLY
        await first.done_writing()
        assert await first.code() is CODE.OK
        await wait_until(first.done)
        assert len((await service_stub(stubs, both.channel).UnaryCall(simple_request(stubs))).payload.body)
