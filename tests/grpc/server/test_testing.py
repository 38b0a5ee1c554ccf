"""What users test their services with: `trio_mq_grpc.testing`."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import trio
import trio.testing

from trio_mq_grpc import MessageInterceptor
from trio_mq_grpc.testing import channel_for

from ._raw import kind_of


class EchoServicer:
    """As generated code has it: the base of a servicer."""

    def Echo(self, request: bytes, context: Any) -> Any:  # the method's name in the service
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")


def add_EchoServicer_to_server(servicer: Any, server: Any) -> None:  # as generated
    handlers: Any = {"Echo": kind_of("unary_unary")(servicer.Echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))


class Echo(EchoServicer):
    async def Echo(self, request: bytes, context: Any) -> bytes:
        await trio.sleep(5)
        return request


class PlainEcho(EchoServicer):
    def Echo(self, request: bytes, context: Any) -> bytes:
        return request


async def test_a_servicer_is_called_over_the_channel(autojump_clock: trio.testing.MockClock) -> None:
    async with channel_for(Echo()) as channel:
        assert await channel.unary_unary("/test.Echo/Echo")(b"x") == b"x"


async def test_a_pair_says_how_a_servicer_is_added(autojump_clock: trio.testing.MockClock) -> None:
    async with channel_for((add_EchoServicer_to_server, Echo())) as channel:
        assert await channel.unary_unary("/test.Echo/Echo")(b"x") == b"x"


async def test_deadlines_happen_when_the_clock_says_so(mock_clock: trio.testing.MockClock) -> None:
    async with channel_for(Echo()) as channel:
        call = channel.unary_unary("/test.Echo/Echo")(b"x", timeout=3)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(2.9)
        await trio.testing.wait_all_tasks_blocked()
        assert not call.done()
        mock_clock.jump(0.2)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_servicer_without_a_generated_base_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="pair"):
        async with channel_for(object()):
            raise AssertionError("it was not entered")


async def test_plain_functions_are_refused_under_a_clock_that_jumps(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(TypeError, match=r"/test\.Echo/Echo"):
        async with channel_for(PlainEcho()):
            raise AssertionError("it was not entered")


async def test_plain_functions_are_fine_under_the_real_clock() -> None:
    async with channel_for(PlainEcho()) as channel:
        assert await channel.unary_unary("/test.Echo/Echo")(b"x") == b"x"


async def test_a_base_that_was_not_overridden_is_no_plain_function(autojump_clock: trio.testing.MockClock) -> None:
    async with channel_for(EchoServicer()) as channel:
        assert await channel.unary_unary("/test.Echo/Echo")(b"x").code() is grpc.StatusCode.UNIMPLEMENTED


async def test_both_ends_take_interceptors_and_options(autojump_clock: trio.testing.MockClock) -> None:
    class Upper(MessageInterceptor):
        async def on_response(self, message: bytes, context: Any) -> bytes:
            return message.upper()

    options = [("grpc.max_receive_message_length", 10)]
    async with channel_for(Echo(), server_interceptors=[Upper()], server_options=options) as channel:
        echo = channel.unary_unary("/test.Echo/Echo")
        assert await echo(b"x") == b"X"
        assert await echo(bytes(11)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
