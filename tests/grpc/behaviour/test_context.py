"""What a handler can ask of its context and do with it."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio
import trio.testing

from .._kit import Ends, ends, fails_with, ids_of, orders, receipt, wait_until

CODE = grpc.StatusCode


async def outcome(call: Any) -> tuple[Any, str, list[Any]]:
    return await call.code(), await call.details(), list(await call.trailing_metadata())


# --- abort -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Place", "Watch", "Upload", "Haggle"])
async def test_abort_ends_a_call_of_any_kind_with_its_status(method: str) -> None:
    async def unary(request: Any, context: Any) -> Any:
        await context.abort(CODE.PERMISSION_DENIED, "not you", (("why", "because"),))

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.abort(CODE.PERMISSION_DENIED, "not you", (("why", "because"),))
        yield receipt()

    async with ends(Place=unary, Upload=unary, Watch=stream, Haggle=stream) as both:
        argument = both.order() if method in ("Place", "Watch") else iter([both.order()])
        call = getattr(both.stub, method)(argument)
        assert await outcome(call) == (CODE.PERMISSION_DENIED, "not you", [("why", "because")])


async def test_abort_always_raises_abort_error() -> None:
    raised: list[BaseException] = []

    async def place(request: Any, context: Any) -> Any:
        try:
            await context.abort(CODE.NOT_FOUND, "no")
        except BaseException as error:
            raised.append(error)
            raise

    async with ends(Place=place) as both:
        await both.stub.Place(both.order()).code()
        assert [type(error) for error in raised] == [grpc.aio.AbortError]


async def test_swallowing_the_abort_does_not_undo_it() -> None:
    async def place(request: Any, context: Any) -> Any:
        try:
            await context.abort(CODE.NOT_FOUND, "no")
        except grpc.aio.AbortError:
            return receipt(id="yes")

    async with ends(Place=place) as both:
        assert await outcome(both.stub.Place(both.order())) == (CODE.NOT_FOUND, "no", [])


async def test_what_was_set_before_an_abort_fills_what_it_leaves_empty() -> None:
    async def place(request: Any, context: Any) -> Any:
        context.set_details("set before")
        context.set_trailing_metadata((("set", "before"),))
        if request.id == "empty":
            await context.abort(CODE.NOT_FOUND)
        await context.abort(CODE.NOT_FOUND, "of the abort", (("of", "abort"),))

    async with ends(Place=place) as both:
        assert await outcome(both.stub.Place(both.order(id="empty"))) == (
            CODE.NOT_FOUND,
            "set before",
            [("set", "before")],
        )
        assert await outcome(both.stub.Place(both.order())) == (CODE.NOT_FOUND, "of the abort", [("of", "abort")])


@pytest.mark.parametrize(("code", "becomes"), [(5, CODE.NOT_FOUND), (99, CODE.UNKNOWN), (-1, CODE.UNKNOWN)])
async def test_a_code_may_be_a_number(code: int, becomes: Any) -> None:
    async def place(request: Any, context: Any) -> Any:
        if request.id == "abort":
            await context.abort(code, "number")
        context.set_code(code)
        context.set_details("number")
        return receipt()

    async with ends(Place=place) as both:
        for each in ("abort", "set"):
            assert (await outcome(both.stub.Place(both.order(id=each))))[:2] == (becomes, "number")


@pytest.mark.parametrize("ok", [CODE.OK, 0])
async def test_abort_with_ok_is_a_mistake_that_the_client_hears_of(ok: Any) -> None:
    async def place(request: Any, context: Any) -> Any:
        await context.abort(ok, "fine")

    async with ends(Place=place) as both:
        assert await both.stub.Place(both.order()).code() is CODE.UNKNOWN


async def test_abort_with_status_takes_an_object() -> None:
    class Status(grpc.Status):
        code = CODE.DATA_LOSS
        details = "gone"
        trailing_metadata = (("where", "attic"),)

    async def place(request: Any, context: Any) -> Any:
        await context.abort_with_status(Status())

    async with ends(Place=place) as both:
        assert await outcome(both.stub.Place(both.order())) == (CODE.DATA_LOSS, "gone", [("where", "attic")])


async def test_an_abort_inside_a_nursery_gives_its_status() -> None:
    async def child(context: Any) -> None:
        await context.abort(CODE.NOT_FOUND, "in a child")

    async def place(request: Any, context: Any) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, context)
            await trio.sleep_forever()

    async with ends(Place=place) as both:
        assert await outcome(both.stub.Place(both.order())) == (CODE.NOT_FOUND, "in a child", [])


async def test_an_abort_and_another_failure_in_one_nursery_give_the_abort_s_status() -> None:
    async def child(context: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while being cancelled")

    async def place(request: Any, context: Any) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, context)
            await trio.testing.wait_all_tasks_blocked()
            await context.abort(CODE.NOT_FOUND, "first")

    async with ends(Place=place) as both:
        assert await outcome(both.stub.Place(both.order())) == (CODE.NOT_FOUND, "first", [])


# --- code, details, trailing metadata --------------------------------------------------------------------------------


async def test_a_code_that_is_not_ok_discards_the_message() -> None:
    async def place(request: Any, context: Any) -> Any:
        context.set_code(CODE.ALREADY_EXISTS)
        context.set_details("twice")
        return receipt(id="never seen")

    async with ends(Place=place) as both:
        with fails_with(CODE.ALREADY_EXISTS, details="twice"):
            await both.stub.Place(both.order())


async def test_a_stream_ends_with_the_code_that_was_set() -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="a")
        context.set_code(CODE.RESOURCE_EXHAUSTED)
        context.set_details("that is all")

    async with ends(Watch=watch) as both:
        call = both.stub.Watch(both.order())
        assert (await call.read()).id == "a"
        assert await outcome(call) == (CODE.RESOURCE_EXHAUSTED, "that is all", [])


async def test_the_context_tells_what_was_set() -> None:
    seen: list[Any] = []

    async def place(request: Any, context: Any) -> Any:
        seen.append((context.code(), context.details(), list(context.trailing_metadata())))
        context.set_code(CODE.OK)
        context.set_details("well")
        context.set_trailing_metadata((("a", "1"),))
        seen.append((context.code(), context.details(), list(context.trailing_metadata())))
        return receipt()

    async with ends(Place=place) as both:
        await both.stub.Place(both.order())
        assert seen[0][0] is None
        assert not seen[0][1]
        assert seen[0][2] == []
        assert seen[1] == (CODE.OK, "well", [("a", "1")])


# --- who calls -------------------------------------------------------------------------------------------------------


async def asked(question: str, transport: str) -> Any:
    answers: list[Any] = []

    async def place(request: Any, context: Any) -> Any:
        answers.append(getattr(context, question)())
        return receipt()

    async with ends(transport=transport, Place=place) as both:
        await both.stub.Place(both.order())
    return answers[0]


async def test_peer_is_an_address_as_grpc_writes_it() -> None:
    kind, host, port = (await asked("peer", "tcp")).split(":")
    assert (kind, host) == ("ipv4", "127.0.0.1")
    assert int(port) > 0


@pytest.mark.parametrize("transport", ["ipc", "inproc"])
async def test_peer_of_this_machine_is_unix(transport: str) -> None:
    """OpenTelemetry's interceptor knows ipv4:, ipv6: and unix:, and complains at each call about anything else."""
    assert (await asked("peer", transport)).startswith("unix:")


async def test_nobody_is_authenticated_on_an_insecure_port(transport: str) -> None:
    context = await asked("auth_context", transport)
    assert context["security_level"] == [b"TSI_SECURITY_NONE"]
    assert context["transport_security_type"] in ([b"insecure"], [b"null"])
    assert await asked("peer_identities", transport) is None
    assert await asked("peer_identity_key", transport) is None


async def test_the_context_is_grpc_s_own_class() -> None:
    seen: list[bool] = []

    async def place(request: Any, context: Any) -> Any:
        seen.append(isinstance(context, grpc.aio.ServicerContext))
        return receipt()

    async with ends(Place=place) as both:
        await both.stub.Place(both.order())
        assert seen == [True]


async def test_invocation_metadata_is_a_tuple() -> None:
    assert isinstance(await asked("invocation_metadata", "tcp"), tuple)


async def test_time_remaining_is_none_without_a_deadline() -> None:
    assert await asked("time_remaining", "tcp") is None


# --- reading and writing ---------------------------------------------------------------------------------------------


async def test_a_handler_may_read_and_write_by_its_context() -> None:
    async def upload(requests: Any, context: Any) -> Any:
        seen = []
        while (request := await context.read()) is not grpc.aio.EOF:
            seen.append(request.id)
        assert await context.read() is grpc.aio.EOF
        return receipt(id="+".join(seen))

    async def haggle(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(receipt(id=request.id))

    async def watch(request: Any, context: Any) -> None:
        for number in range(3):
            await context.write(receipt(id=str(number)))

    async with ends(Upload=upload, Haggle=haggle, Watch=watch) as both:
        assert (await both.stub.Upload(iter(orders(both.stubs, "abc")))).id == "a+b+c"
        assert await ids_of(both.stub.Haggle(iter(orders(both.stubs, "abc")))) == list("abc")
        assert await ids_of(both.stub.Watch(both.order())) == ["0", "1", "2"]


async def test_both_styles_may_be_mixed_in_one_handler() -> None:
    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        first = await context.read()
        await context.write(receipt(id=f"written {first.id}"))
        async for request in requests:
            yield receipt(id=f"yielded {request.id}")
        await context.write(receipt(id="last"))

    async with ends(Haggle=haggle) as both:
        ids = await ids_of(both.stub.Haggle(iter(orders(both.stubs, "abc"))))
        assert ids == ["written a", "yielded b", "yielded c", "last"]


async def test_a_handler_that_does_not_read_everything_may_return() -> None:
    async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
        return receipt(id="enough")

    async with ends(Upload=upload) as both:
        for _ in range(20):
            assert (await both.stub.Upload(iter(orders(both.stubs, ["a"] * 100)))).id == "enough"


# --- the end of a call -----------------------------------------------------------------------------------------------


async def test_done_callbacks_run_when_the_call_has_ended() -> None:
    seen: list[Any] = []

    async def place(request: Any, context: Any) -> Any:
        assert not context.done()
        assert not context.cancelled()
        context.add_done_callback(lambda given: seen.append((given is context, context.done(), context.cancelled())))
        return receipt()

    async with ends(Place=place) as both:
        await both.stub.Place(both.order())
        await wait_until(lambda: seen)
        assert seen == [(True, True, False)]


async def test_a_done_callback_that_fails_harms_nothing() -> None:
    seen: list[Any] = []

    def fail(context: Any) -> None:
        raise RuntimeError("broken callback")

    async def place(request: Any, context: Any) -> Any:
        context.add_done_callback(fail)
        context.add_done_callback(seen.append)
        return receipt()

    async with ends(Place=place) as both:
        for _ in range(3):
            await both.stub.Place(both.order())
        await wait_until(lambda: len(seen) == 3)


async def test_the_code_of_a_cancelled_call_is_cancelled() -> None:
    contexts: list[Any] = []

    async def place(request: Any, context: Any) -> Any:
        contexts.append(context)
        await trio.sleep_forever()

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await wait_until(lambda: contexts)
        call.cancel()
        await wait_until(contexts[0].done)
        assert contexts[0].cancelled()
        assert contexts[0].code() is CODE.CANCELLED


async def test_a_handler_may_cancel_its_own_call() -> None:
    async def place(request: Any, context: Any) -> Any:
        context.cancel()
        await trio.sleep_forever()

    async with ends(Place=place) as both:
        assert await both.stub.Place(both.order()).code() is CODE.CANCELLED


async def test_cancelling_a_context_after_its_call_touches_no_other_call() -> None:
    contexts: list[Any] = []

    async def place(request: Any, context: Any) -> Any:
        for earlier in contexts:
            earlier.cancel()
        contexts.append(context)
        await trio.sleep(0.001)
        return receipt(id=request.id)

    async with ends(Place=place) as both:
        assert [(await both.stub.Place(both.order(id=each))).id for each in "abcdef"] == list("abcdef")


# --- what belongs to one call only -----------------------------------------------------------------------------------


async def test_users_may_keep_things_on_the_context() -> None:
    async def place(request: Any, context: Any) -> Any:
        context.user = "ada"
        context.state["basket"] = 3
        return receipt(id=context.user, total=context.state["basket"])

    async with ends(Place=place) as both:
        assert (await both.stub.Place(both.order())) == receipt(id="ada", total=3)


async def test_context_variables_do_not_pass_from_one_call_to_the_next() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []

    async def place(request: Any, context: Any) -> Any:
        seen.append(user.get())
        user.set(f"secret of {request.id}")
        await trio.lowlevel.checkpoint()
        assert user.get() == f"secret of {request.id}"
        return receipt()

    async with ends(Place=place) as both:
        for each in "abc":
            await both.stub.Place(both.order(id=each))
        calls = [both.stub.Place(both.order(id=each)) for each in "defg"]
        for call in calls:
            await call
        assert seen == ["nobody"] * 7


# --- compression -----------------------------------------------------------------------------------------------------


async def test_compression_cannot_be_set_after_the_headers() -> None:
    errors: list[BaseException] = []

    async def place(request: Any, context: Any) -> Any:
        await context.send_initial_metadata(())
        try:
            context.set_compression(grpc.Compression.Gzip)
        except RuntimeError as error:
            errors.append(error)
        return receipt()

    async with ends(Place=place) as both:
        await both.stub.Place(both.order())
        assert len(errors) == 1


async def _note_of_zeros(both: Ends) -> bytes:
    return bytes((await both.stub.Place(both.order(note=bytes(100_000)))).note)


@pytest.mark.parametrize("compression", list(grpc.Compression))
@pytest.mark.parametrize("level", ["channel", "call", "server", "context"])
async def test_compression_at_any_level_changes_no_message(compression: Any, level: str) -> None:
    async def place(request: Any, context: Any) -> Any:
        if level == "context":
            context.set_compression(compression)
        return receipt(note=request.note)

    keywords = {"compression": compression}
    channel = keywords if level == "channel" else {}
    server = keywords if level == "server" else {}
    async with ends(server=server, channel=channel, Place=place) as both:
        if level == "call":
            reply = await both.stub.Place(both.order(note=bytes(100_000)), compression=compression)
            assert reply.note == bytes(100_000)
        else:
            assert await _note_of_zeros(both) == bytes(100_000)
