"""Credentials: PLAIN for channels and ports, tokens for calls."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio

import trio_mq_grpc

from .._kit import bind_address, fails_with, newest_stubs, orders_servicer, receipt

CODE = grpc.StatusCode
SECRET = {"shop": "secret"}


@asynccontextmanager
async def secured(
    transport: str = "ipc", user: str = "shop", password: str = "secret", credentials: Any = None, **options: Any
) -> AsyncIterator[tuple[Any, list[dict[str, Any]]]]:
    """A stub on a channel that knows a password, and what the server saw of its calls."""
    seen: list[dict[str, Any]] = []

    async def place(request: Any, context: Any) -> Any:
        tokens = [entry.value for entry in context.invocation_metadata() if entry.key == "authorization"]
        seen.append(
            {
                "auth": context.auth_context(),
                "identities": context.peer_identities(),
                "key": context.peer_identity_key(),
                "authorization": tokens,
            }
        )
        return receipt()

    stubs = newest_stubs()
    server = trio_mq_grpc.server()
    stubs.orders_grpc.add_OrdersServicer_to_server(orders_servicer(stubs, Place=place), server)
    with bind_address(transport) as address:
        port = server.add_secure_port(address, trio_mq_grpc.PlainServerCredentials(SECRET))
        target = address.replace(":0", f":{port}") if transport == "tcp" else address
        given = credentials or trio_mq_grpc.PlainChannelCredentials(user, password)
        async with server, trio_mq_grpc.secure_channel(target, given, **options) as channel:
            yield stubs.orders_grpc.OrdersStub(channel), seen


def order() -> Any:
    return newest_stubs().orders.Order()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_who_knows_the_password_is_known_to_the_handler(transport: str) -> None:
    async with secured(transport) as (stub, seen):
        await stub.Place(order())
    (call,) = seen
    assert call["auth"]["transport_security_type"] == [b"plain"]
    assert call["auth"]["security_level"] == [b"TSI_SECURITY_NONE"]  # it authenticates, and encrypts nothing
    assert list(call["identities"]) == [b"shop"]
    assert call["auth"][call["key"]] == [b"shop"]


@pytest.mark.parametrize(("user", "password"), [("shop", "wrong"), ("nobody", "secret")])
async def test_who_does_not_know_it_is_turned_away(user: str, password: str) -> None:
    async with secured(user=user, password=password) as (stub, seen):
        with fails_with(CODE.UNAVAILABLE, CODE.UNAUTHENTICATED):
            with trio.fail_after(5):
                await stub.Place(order())
        assert seen == []


async def test_a_channel_without_credentials_is_turned_away() -> None:
    stubs = newest_stubs()
    server = trio_mq_grpc.server()
    with bind_address("ipc") as address:
        server.add_secure_port(address, trio_mq_grpc.PlainServerCredentials(SECRET))
        async with server, trio_mq_grpc.insecure_channel(address) as channel:
            with fails_with(CODE.UNAVAILABLE, CODE.UNAUTHENTICATED):
                with trio.fail_after(5):
                    await stubs.orders_grpc.OrdersStub(channel).Place(order())


# --- of calls --------------------------------------------------------------------------------------------------------


async def test_a_token_goes_with_its_call() -> None:
    async with secured() as (stub, seen):
        await stub.Place(order(), credentials=grpc.access_token_call_credentials("t1"))
        await stub.Place(order())
    assert [call["authorization"] for call in seen] == [["Bearer t1"], []]


async def test_credentials_composed_with_the_channel_s_go_with_every_call() -> None:
    plain = trio_mq_grpc.PlainChannelCredentials("shop", "secret")
    composed = grpc.composite_channel_credentials(plain, grpc.access_token_call_credentials("t1"))
    async with secured(credentials=composed) as (stub, seen):
        await stub.Place(order())
        await stub.Place(order())
    assert [call["authorization"] for call in seen] == [["Bearer t1"]] * 2


async def test_tokens_of_a_channel_and_of_a_call_both_go() -> None:
    plain = trio_mq_grpc.PlainChannelCredentials("shop", "secret")
    composed = grpc.composite_channel_credentials(plain, grpc.access_token_call_credentials("t1"))
    async with secured(credentials=composed) as (stub, seen):
        await stub.Place(order(), credentials=grpc.access_token_call_credentials("t2"))
    assert seen[0]["authorization"] == ["Bearer t1", "Bearer t2"]


@pytest.mark.parametrize("how", ["raises", "says so"])
async def test_a_plug_in_that_fails_leaves_the_call_unauthenticated(how: str) -> None:
    class Broken(grpc.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            if how == "raises":
                raise LookupError("no token today")
            callback(None, LookupError("no token today"))

    async with secured() as (stub, seen):
        with fails_with(CODE.UNAUTHENTICATED, details="no token today"):
            await stub.Place(order(), credentials=grpc.metadata_call_credentials(Broken()))
        assert seen == []
        await stub.Place(order())


async def test_a_call_whose_plug_in_never_answers_ends_with_a_cancelled_channel() -> None:
    asked = trio.Event()
    token = trio.lowlevel.current_trio_token()

    class Silent(grpc.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            token.run_sync_soon(asked.set)

    with trio.CancelScope() as scope:
        async with secured() as (stub, seen):
            call = stub.Place(order(), credentials=grpc.metadata_call_credentials(Silent()))
            await asked.wait()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert seen == []
    with trio.fail_after(2):
        assert await call.code() is CODE.CANCELLED


class Later(grpc.AuthMetadataPlugin):
    """Answers from a thread of its own, as one that asks somebody does."""

    def __call__(self, context: Any, callback: Any) -> None:
        threading.Timer(0.02, callback, ((("authorization", "Bearer later"),), None)).start()


class Never(grpc.AuthMetadataPlugin):
    def __call__(self, context: Any, callback: Any) -> None:
        pass


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("kind", ["Watch", "Upload", "Haggle"])
async def test_streams_wait_for_their_credentials_too(kind: str, fed: bool) -> None:
    def token(context: Any) -> Any:
        return receipt(id=dict(context.invocation_metadata())["authorization"])

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield token(context)

    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        assert [request.id async for request in requests] == ["1"]
        return token(context)

    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            yield token(context)

    stubs = newest_stubs()
    order = stubs.orders.Order(id="1")
    server = trio_mq_grpc.server()
    servicer = orders_servicer(stubs, Watch=watch, Upload=upload, Haggle=haggle)
    stubs.orders_grpc.add_OrdersServicer_to_server(servicer, server)
    plain = trio_mq_grpc.PlainChannelCredentials("shop", "secret")
    given = grpc.composite_channel_credentials(plain, grpc.metadata_call_credentials(Later()))
    with bind_address("ipc") as address, trio.fail_after(5):
        server.add_secure_port(address, trio_mq_grpc.PlainServerCredentials(SECRET))
        async with server, trio_mq_grpc.secure_channel(address, given) as channel:
            method = getattr(stubs.orders_grpc.OrdersStub(channel), kind)
            call = method(order) if kind == "Watch" else method(iter([order])) if fed else method()
            if kind != "Watch" and not fed:
                await call.write(order)
                await call.done_writing()
            got = [await call] if kind == "Upload" else [reply async for reply in call]
            assert [reply.id for reply in got] == ["Bearer later"]


async def test_a_timeout_limits_a_plug_in_that_never_answers() -> None:
    async with secured() as (stub, seen):
        with trio.fail_after(2), fails_with(CODE.DEADLINE_EXCEEDED):
            await stub.Place(order(), timeout=0.05, credentials=grpc.metadata_call_credentials(Never()))
    assert seen == []


async def test_tokens_are_not_sent_in_the_clear() -> None:
    credentials = grpc.access_token_call_credentials("t1")
    async with secured("tcp") as (stub, seen):
        with pytest.raises(grpc.aio.UsageError):
            await stub.Place(order(), credentials=credentials)
        assert seen == []
    options = [("trio_mq_grpc.allow_call_credentials_on_plain", True)]
    async with secured("tcp", options=options) as (stub, seen):
        await stub.Place(order(), credentials=credentials)
        assert seen[0]["authorization"] == ["Bearer t1"]


def test_a_secure_channel_is_not_made_without_credentials() -> None:
    with pytest.raises(TypeError, match="insecure_channel"):
        trio_mq_grpc.secure_channel("tcp://127.0.0.1:1", None)  # type: ignore[arg-type]  # that is the mistake
