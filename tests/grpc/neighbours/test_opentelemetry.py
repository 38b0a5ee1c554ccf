"""OpenTelemetry's interceptors for grpc.aio, as they come, on both sides."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.instrumentation import grpc as instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from .._kit import ends, fails_with, ids_of, orders, receipt, wait_until

CODE = grpc.StatusCode


async def place(request: Any, context: Any) -> Any:
    if request.id == "abort":
        await context.abort(CODE.NOT_FOUND, "no such order")
    if request.id == "raise":
        raise LookupError("boom")
    return receipt(id=request.id)


async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(request.quantity):
        yield receipt(id=str(number))
    if request.id == "abort":
        await context.abort(CODE.NOT_FOUND, "no such order")


async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
    return receipt(id="+".join(await ids_of(requests)))


async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield receipt(id=request.id)


HANDLERS: dict[str, Any] = {"Place": place, "Watch": watch, "Upload": upload, "Haggle": haggle}


def client_interceptors(provider: TracerProvider) -> Any:
    return instrumentation.aio_client_interceptors(tracer_provider=provider)  # type: ignore[no-untyped-call]  # theirs


def server_interceptors(provider: TracerProvider) -> Any:
    return [instrumentation.aio_server_interceptor(tracer_provider=provider)]  # type: ignore[no-untyped-call]  # theirs


class Traced:
    """Both sides traced into one memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def ends(self, **keywords: Any) -> Any:
        return ends(
            server={"interceptors": server_interceptors(self.provider)},
            channel={"interceptors": client_interceptors(self.provider)},
            **HANDLERS,
            **keywords,
        )

    async def pair(self) -> tuple[Any, Any]:
        """The spans of the client and of the server, of the one call that was made."""
        await wait_until(lambda: len(self.exporter.get_finished_spans()) == 2)
        by_kind = {span.kind: span for span in self.exporter.get_finished_spans()}
        return by_kind[SpanKind.CLIENT], by_kind[SpanKind.SERVER]


async def make(both: Any, method: str) -> list[str]:
    match method:
        case "Place":
            return [(await both.stub.Place(both.order(id="a"))).id]
        case "Watch":
            return await ids_of(both.stub.Watch(both.order(quantity=1)))
        case "Upload":
            return [(await both.stub.Upload(iter(orders(both.stubs, "a")))).id]
        case _:
            return await ids_of(both.stub.Haggle(iter(orders(both.stubs, "a"))))


@pytest.mark.parametrize("method", ["Place", "Watch", "Upload", "Haggle"])
async def test_a_call_of_any_kind_has_a_span_on_each_side_in_one_trace(
    method: str, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    traced = Traced()
    with caplog.at_level(logging.WARNING):
        async with traced.ends(transport=transport) as both:
            assert await make(both, method) == ["a" if method != "Watch" else "0"]
            client, server = await traced.pair()
    assert client.name == server.name == f"/shop.v1.Orders/{method}"
    assert server.context.trace_id == client.context.trace_id
    assert server.parent.span_id == client.context.span_id
    assert client.attributes["rpc.method"] == server.attributes["rpc.method"] == method
    assert client.attributes["rpc.service"] == server.attributes["rpc.service"] == "shop.v1.Orders"
    assert server.attributes["rpc.grpc.status_code"] == 0
    assert server.status.status_code is not StatusCode.ERROR
    # It logs what it does not understand, such as the address of a peer.
    assert caplog.records == []


async def test_the_server_s_span_knows_its_client_s_address() -> None:
    traced = Traced()
    async with traced.ends() as both:
        await make(both, "Place")
        _, server = await traced.pair()
    assert "127.0.0.1" in str(server.attributes.values()) or "localhost" in str(dict(server.attributes))


@pytest.mark.parametrize("how", ["abort", "raise"])
async def test_a_unary_call_that_fails_is_an_error_on_both_sides(how: str) -> None:
    traced = Traced()
    async with traced.ends() as both:
        with fails_with(CODE.NOT_FOUND, CODE.UNKNOWN):
            await both.stub.Place(both.order(id=how))
        client, server = await traced.pair()
    assert client.status.status_code is StatusCode.ERROR
    assert client.attributes["rpc.grpc.status_code"] == {"abort": 5, "raise": 2}[how]
    if how == "abort":
        assert server.attributes["rpc.grpc.status_code"] == 5
    else:
        assert {event.name for event in server.events} == {"exception"}


async def test_a_stream_that_fails_is_an_error_on_the_client_s_side() -> None:
    traced = Traced()
    async with traced.ends() as both:
        with fails_with(CODE.NOT_FOUND):
            await ids_of(both.stub.Watch(both.order(id="abort", quantity=3)))
        client, server = await traced.pair()
    assert client.status.status_code is StatusCode.ERROR
    assert client.attributes["rpc.grpc.status_code"] == server.attributes["rpc.grpc.status_code"] == 5


async def test_calls_side_by_side_have_traces_of_their_own() -> None:
    traced = Traced()
    async with traced.ends() as both:
        calls = [both.stub.Place(both.order(id=str(number))) for number in range(20)]
        assert [(await call).id for call in calls] == [str(number) for number in range(20)]
        await wait_until(lambda: len(traced.exporter.get_finished_spans()) == 40)
    assert len({span.context.trace_id for span in traced.exporter.get_finished_spans()}) == 20


async def test_a_span_of_the_caller_is_the_parent_of_the_call() -> None:
    traced = Traced()
    async with traced.ends() as both:
        with traced.provider.get_tracer("test").start_as_current_span("outer") as outer:
            await make(both, "Place")
        await wait_until(lambda: len(traced.exporter.get_finished_spans()) == 3)
    (client,) = [span for span in traced.exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
    assert client.parent is not None
    assert client.parent.span_id == outer.get_span_context().span_id


async def test_a_handler_s_own_span_lies_below_the_server_s() -> None:
    traced = Traced()

    async def inner(request: Any, context: Any) -> Any:
        with traced.provider.get_tracer("test").start_as_current_span("inner"):
            return receipt()

    async with ends(server={"interceptors": server_interceptors(traced.provider)}, Place=inner) as both:
        await both.stub.Place(both.order())
        await wait_until(lambda: len(traced.exporter.get_finished_spans()) == 2)
    below, server = traced.exporter.get_finished_spans()
    assert below.parent is not None
    assert server.context is not None
    assert below.parent.span_id == server.context.span_id
