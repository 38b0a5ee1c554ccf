"""The health service: what is said with `set` is what Check, Watch and List tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio

import trio_mq_grpc
from trio_mq_grpc import HealthServicer

from ._kit import SOON, fails_with, wait_until
from ._work import inproc

health_pb2: Any = pytest.importorskip("grpc_health.v1.health_pb2")
health_pb2_grpc: Any = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

Request = health_pb2.HealthCheckRequest
Response = health_pb2.HealthCheckResponse
SERVING, NOT_SERVING, UNKNOWN = Response.SERVING, Response.NOT_SERVING, Response.SERVICE_UNKNOWN
SERVICE = "shop.v1.Orders"


@asynccontextmanager
async def served(health: HealthServicer) -> AsyncIterator[tuple[trio_mq_grpc.Server, Any]]:
    """A server with *health*, and a stub to ask."""
    server, endpoint = trio_mq_grpc.server(), inproc()
    health.add_to(server)
    server.add_insecure_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.insecure_channel(endpoint) as channel:
            yield server, health_pb2_grpc.HealthStub(channel)


async def test_a_server_is_serving_and_of_others_nothing_is_known() -> None:
    async with served(HealthServicer()) as (_, stub):
        assert (await stub.Check(Request())).status == SERVING
        with fails_with(grpc.StatusCode.NOT_FOUND):
            await stub.Check(Request(service=SERVICE))


async def test_check_tells_what_was_set() -> None:
    health = HealthServicer()
    async with served(health) as (_, stub):
        for status in (SERVING, NOT_SERVING, SERVING):
            await health.set(SERVICE, status)
            assert (await stub.Check(Request(service=SERVICE))).status == status


async def test_watch_tells_each_change_of_its_service_and_no_other() -> None:
    health = HealthServicer()
    async with served(health) as (_, stub), stub.Watch(Request(service=SERVICE)) as call:
        assert (await call.read()).status == UNKNOWN
        await health.set("another", NOT_SERVING)
        await health.set(SERVICE, SERVING)
        assert (await call.read()).status == SERVING
        await health.set(SERVICE, SERVING)
        await health.set(SERVICE, NOT_SERVING)
        assert (await call.read()).status == NOT_SERVING


async def test_list_tells_all_and_refuses_too_many() -> None:
    if not hasattr(health_pb2, "HealthListRequest"):
        pytest.skip("this grpcio-health-checking has no List")
    health = HealthServicer()
    async with served(health) as (_, stub):
        await health.set(SERVICE, NOT_SERVING)
        response = await stub.List(health_pb2.HealthListRequest())
        assert {name: each.status for name, each in response.statuses.items()} == {"": SERVING, SERVICE: NOT_SERVING}
        for number in range(98):
            await health.set(str(number), SERVING)
        assert len((await stub.List(health_pb2.HealthListRequest())).statuses) == 100
        await health.set("one more", SERVING)
        with fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED):
            await stub.List(health_pb2.HealthListRequest())


async def test_after_a_graceful_shutdown_nothing_is_serving_for_good() -> None:
    health = HealthServicer()
    async with served(health) as (_, stub), stub.Watch(Request(service=SERVICE)) as call:
        await health.set(SERVICE, SERVING)
        while (await call.read()).status != SERVING:
            pass
        await health.enter_graceful_shutdown()
        assert (await call.read()).status == NOT_SERVING
        await health.set(SERVICE, SERVING)
        assert (await stub.Check(Request(service=SERVICE))).status == NOT_SERVING
        assert (await stub.Check(Request())).status == NOT_SERVING
        assert not call.done()  # shutting down is announced long before a server stops


async def test_a_server_that_stops_tells_those_who_watch_and_does_not_wait_for_them() -> None:
    health = HealthServicer()
    async with served(health) as (server, stub), stub.Watch(Request()) as call:
        assert (await call.read()).status == SERVING
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.stop, 60)
            assert (await call.read()).status == NOT_SERVING
            with fails_with(grpc.StatusCode.UNAVAILABLE, details="the server is stopping"):
                await call.read()
        assert not await server.wait_for_termination(0)


async def test_the_handler_of_a_watch_ends_with_its_call() -> None:
    health = HealthServicer()
    async with served(health) as (server, stub):
        async with stub.Watch(Request()) as call:
            await call.read()
            assert server._home.pool.busy == 1
        await wait_until(lambda: server._home.pool.busy == 0)


async def test_grpcios_own_function_adds_it_too() -> None:
    server, endpoint = trio_mq_grpc.server(), inproc()
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    server.add_insecure_port(endpoint)
    with trio.fail_after(SOON):
        async with server, trio_mq_grpc.insecure_channel(endpoint) as channel:
            assert (await health_pb2_grpc.HealthStub(channel).Check(Request())).status == SERVING
