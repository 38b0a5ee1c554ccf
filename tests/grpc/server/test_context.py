"""What a handler may ask of its context, and do to its call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import trio
import trio.testing

from trio_mq_grpc._blocks import Head
from trio_mq_grpc._deadline import deadline
from trio_mq_grpc._wire import END, HEAD, MSG, STATUS, Announcement

from ._raw import Caller, Code, Unit, echo, serving


async def ended(body: Callable[[Any], Any], **options: Any) -> Unit:
    """The one unit with which a unary call ends whose handler runs *body*."""

    async def handler(request: bytes, context: Any) -> bytes:
        return await body(context) or b"reply"

    async with serving(unary_unary={"M": handler}, **options) as (_, caller):
        await caller.call("M", b"x", head=Head(metadata=(("key", "value"), ("data-bin", b"\xff"))))
        return await caller.receive()


async def test_code_details_and_trailers_go_out_with_the_status() -> None:
    async def body(context: Any) -> None:
        assert (context.code(), context.details(), context.done()) == (None, "", False)
        context.set_code(Code.NOT_FOUND)
        context.set_details("gone")
        context.set_trailing_metadata((("why", "moved"),))
        assert context.code() is Code.NOT_FOUND
        assert list(context.trailing_metadata()) == [("why", "moved")]

    unit = await ended(body)
    assert unit.flags == STATUS | END  # the message is dropped
    assert (unit.code, unit.details, unit.trailers) == (Code.NOT_FOUND, "gone", (("why", "moved"),))


async def test_trailers_go_with_a_reply_too() -> None:
    async def body(context: Any) -> None:
        context.set_trailing_metadata(grpc.aio.Metadata(("a", "1"), ("a", "2")))

    unit = await ended(body)
    assert unit.flags == MSG | STATUS | END
    assert unit.frames[0] == b"reply"
    assert unit.trailers == (("a", "1"), ("a", "2"))


@pytest.mark.parametrize(
    ("given", "code"), [(5, Code.NOT_FOUND), (99, Code.UNKNOWN), ((3, "x"), Code.INVALID_ARGUMENT)]
)
async def test_codes_may_be_numbers(given: Any, code: Any) -> None:
    async def body(context: Any) -> None:
        context.set_code(given)

    assert (await ended(body)).code is code


async def test_ok_set_by_hand_keeps_the_message_and_has_no_text() -> None:
    async def body(context: Any) -> None:
        context.set_code(Code.OK)
        context.set_details("fine")

    unit = await ended(body)
    assert (unit.frames[0], unit.code, unit.details) == (b"reply", Code.OK, "")


async def test_abort_ends_the_call_whatever_the_handler_does_with_the_exception() -> None:
    async def body(context: Any) -> bytes:
        try:
            await context.abort(Code.ABORTED, "enough", (("k", "v"),))
        except grpc.aio.AbortError:
            pass
        assert context.done()
        return b"ignored"

    unit = await ended(body)
    assert (unit.flags, unit.code, unit.details, unit.trailers) == (STATUS | END, Code.ABORTED, "enough", (("k", "v"),))


async def test_abort_inside_a_nursery_still_gives_its_status() -> None:
    async def body(context: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(context.abort, Code.ABORTED, "from a child")

    unit = await ended(body)
    assert (unit.code, unit.details) == (Code.ABORTED, "from a child")


async def test_what_was_set_before_stands_in_for_what_abort_leaves_out() -> None:
    async def body(context: Any) -> None:
        context.set_details("before")
        context.set_trailing_metadata((("k", "v"),))
        await context.abort(Code.ABORTED)

    unit = await ended(body)
    assert (unit.details, unit.trailers) == ("before", (("k", "v"),))


async def test_abort_with_ok_is_a_mistake_of_the_handler() -> None:
    async def body(context: Any) -> None:
        await context.abort(Code.OK, "fine")

    unit = await ended(body)
    assert unit.code is Code.UNKNOWN
    assert "OK" in unit.details


async def test_abort_with_status_takes_its_three_attributes() -> None:
    class Rich(grpc.Status):
        code = Code.DATA_LOSS
        details = "rich"
        trailing_metadata = (("grpc-status-details-bin", b"\x01"),)

    async def body(context: Any) -> None:
        await context.abort_with_status(Rich())

    unit = await ended(body)
    assert (unit.code, unit.trailers) == (Code.DATA_LOSS, (("grpc-status-details-bin", b"\x01"),))


@pytest.mark.parametrize("bad", [{"k": "v"}, ["k"], [("k", 5)], [("K", "v")], 7])
async def test_bad_trailing_metadata_is_an_error_at_the_call_and_spoils_nothing(bad: Any) -> None:
    async def body(context: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            context.set_trailing_metadata(bad)
        await context.abort(Code.ABORTED, "later")

    assert (await ended(body)).details == "later"


async def test_initial_metadata_goes_out_at_once_and_once() -> None:
    proceed = trio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("early", "bird"),))
        with pytest.raises(grpc.aio.UsageError):
            await context.send_initial_metadata(())
        await proceed.wait()
        return b"x"

    async with serving(unary_unary={"M": handler}) as (_, caller):
        await caller.call("M", b"")
        unit = await caller.receive()
        assert (unit.flags, unit.head.metadata) == (HEAD, (("early", "bird"),))
        proceed.set()
        assert (await caller.receive()).value == 1


async def test_the_caller_s_metadata_has_named_pairs_and_a_user_agent() -> None:
    async def body(context: Any) -> None:
        metadata = context.invocation_metadata()
        assert isinstance(metadata, tuple)
        assert [(entry.key, entry.value) for entry in metadata[:2]] == [("key", "value"), ("data-bin", b"\xff")]
        assert dict(metadata)["user-agent"]

    assert (await ended(body)).code is Code.OK


@pytest.mark.parametrize(("transport", "begins"), [("tcp", "ipv4:127.0.0.1:"), ("ipc", "unix:"), ("inproc", "unix:")])
async def test_peer_is_written_as_grpc_does(transport: str, begins: str, endpoint: str) -> None:
    async def body(context: Any) -> bytes:
        assert context.peer_identities() is None
        assert context.peer_identity_key() is None
        assert context.auth_context()["transport_security_type"] == [b"null"]
        return context.peer().encode()  # type: ignore[no-any-return]  # the context is of any type here

    assert (await ended(body, endpoint=endpoint)).frames[0].decode().startswith(begins)


async def test_the_deadline_is_known_and_inherited(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        before = context.time_remaining()
        assert deadline.get() == pytest.approx(trio.current_time() + before)
        await trio.sleep(1)
        assert before - context.time_remaining() == pytest.approx(1)
        return b"%d" % before

    async def without(request: bytes, context: Any) -> bytes:
        assert context.time_remaining() is None
        return b"%f" % deadline.get()

    async with serving(unary_unary={"M": handler, "N": without}) as (_, caller):
        assert await caller.answer("M", b"", head=Head(timeout_us=5_000_000)) == b"5"
        assert await caller.answer("N", b"") == b"inf"  # in the same task


async def test_a_deadline_ends_the_call_and_cancels_the_handler(autojump_clock: trio.testing.MockClock) -> None:
    cancelled = trio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            await trio.sleep_forever()
        finally:
            assert context.code() is Code.DEADLINE_EXCEEDED
            cancelled.set()
        return b""

    async with serving(unary_unary={"M": handler}) as (_, caller):
        began = trio.current_time()
        unit = await caller.failure("M", b"", head=Head(timeout_us=3_000_000))
        assert (unit.code, unit.details) == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        assert trio.current_time() - began == pytest.approx(3, abs=0.01)
        await cancelled.wait()


async def test_a_server_may_shorten_deadlines(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return b"%d" % context.time_remaining()

    async with serving(unary_unary={"M": handler}, options=[("trio_mq_grpc.max_timeout_ms", 2000)]) as (_, caller):
        assert await caller.answer("M", b"") == b"2"
        assert await caller.answer("M", b"", head=Head(timeout_us=60_000_000)) == b"2"


async def test_cancel_ends_the_own_call_only_and_a_kept_context_does_nothing() -> None:
    kept: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"cancel":
            kept.append(context)
            assert context.is_active()
            assert context.cancel()
            await trio.sleep_forever()
        return request

    async with serving(unary_unary={"M": handler}) as (_, caller):
        unit = await caller.failure("M", b"cancel")
        assert unit.code is Code.CANCELLED
        (context,) = kept
        assert context.cancelled()
        assert not context.cancel()
        assert await caller.answer("M", b"x") == b"x"


async def test_done_callbacks_are_called_once_at_the_end_or_at_once_and_may_fail() -> None:
    called: list[str] = []

    def fail(context: Any) -> None:
        raise RuntimeError("a callback that fails")

    async def handler(request: bytes, context: Any) -> bytes:
        context.add_done_callback(fail)
        context.add_done_callback(lambda context: called.append("end"))
        try:
            await context.abort(Code.ABORTED)
        finally:
            context.add_done_callback(lambda context: called.append("late"))
            assert not context.add_callback(lambda: called.append("never"))
        return b""

    async with serving(unary_unary={"M": handler}) as (_, caller):
        await caller.failure("M", b"")
    assert called == ["end", "late"]


async def test_nothing_passes_from_one_call_to_the_next() -> None:
    from contextvars import ContextVar

    secret: ContextVar[str] = ContextVar("secret", default="nothing")
    secret.set("the server's")
    tasks: set[Any] = set()

    async def handler(request: bytes, context: Any) -> bytes:
        tasks.add(trio.lowlevel.current_task())
        assert context.state == {}
        context.state["seen"] = True
        before = secret.get()
        secret.set("the caller's")
        return before.encode()

    async with serving(unary_unary={"M": handler}) as (_, caller):
        assert [await caller.answer("M", b"") for _ in range(3)] == [b"the server's"] * 3
    assert len(tasks) == 1  # it was one task all the time


async def test_writing_and_reading_after_the_end_is_an_error() -> None:
    errors: list[BaseException] = []

    async def handler(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            await context.abort(Code.ABORTED)
        except grpc.aio.AbortError:
            for attempt in (lambda: context.write(b"x"), context.read, lambda: context.send_initial_metadata(())):
                try:
                    await attempt()
                except trio.ClosedResourceError as exc:
                    errors.append(exc)
        yield b"never"

    async with serving(stream_stream={"M": handler}) as (_, caller):
        call_id = await caller.call("M", flags=0)
        assert (await caller.receive()).code is Code.ABORTED
        await caller.data(call_id, b"x")
        await caller.nothing_comes()
    assert len(errors) == 3
    assert all(isinstance(error, grpc.aio.UsageError) for error in errors)


async def test_two_tasks_cannot_wait_for_one_stream() -> None:
    busy = 0

    async def read(context: Any, nursery: trio.Nursery) -> None:
        nonlocal busy
        try:
            await context.read()
        except trio.BusyResourceError:
            busy += 1
            nursery.cancel_scope.cancel()

    async def handler(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, context, nursery)
            nursery.start_soon(read, context, nursery)
        return b"%d" % busy

    async with serving(stream_unary={"M": handler}) as (_, caller):
        await caller.call("M", flags=0)
        assert (await caller.receive()).frames[0] == b"1"


@pytest.mark.parametrize("wrong", [None, "text", 5])
async def test_a_reply_that_is_no_message_is_unknown_with_the_type_s_error(wrong: Any) -> None:
    async def handler(request: bytes, context: Any) -> Any:
        return wrong

    async with serving(unary_unary={"M": handler}) as (_, caller):
        unit = await caller.failure("M", b"")
        assert unit.code is Code.UNKNOWN
        assert "TypeError" in unit.details


async def test_what_a_handler_raises_is_unknown_and_may_be_kept_from_callers() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"set":
            context.set_code(Code.OUT_OF_RANGE)
        raise KeyError("secret")

    async with serving(unary_unary={"M": handler}) as (_, caller):
        unit = await caller.failure("M", b"")
        assert (unit.code, unit.details) == (Code.UNKNOWN, "Unexpected <class 'KeyError'>: 'secret'")
        assert (await caller.failure("M", b"set")).code is Code.OUT_OF_RANGE
    options = [("trio_mq_grpc.hide_error_details", True)]
    async with serving(unary_unary={"M": handler}, options=options) as (_, caller):
        assert "secret" not in (await caller.failure("M", b"")).details


async def test_messages_sent_before_a_failure_arrive_before_its_status() -> None:
    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        raise ValueError("third")

    async with serving(unary_stream={"M": handler}) as (_, caller):
        await caller.call("M", b"")
        messages, end = await caller.receive_end()
        assert messages == [b"1", b"2"]
        assert (end.code, end.value) == (Code.UNKNOWN, 2)


async def test_a_reply_above_the_limits_is_resource_exhausted() -> None:
    async with serving(
        Announcement(epoch=1, max_message=500),
        unary_unary={"M": echo},
        options=[("grpc.max_send_message_length", 1000)],
    ) as (_, caller):
        unit = await caller.failure("M", bytes(600))
        assert unit.code is Code.RESOURCE_EXHAUSTED
        assert "(600 vs. 500)" in unit.details


async def test_a_request_above_the_limit_is_resource_exhausted_with_both_numbers() -> None:
    async with serving(unary_unary={"M": echo}, options=[("grpc.max_receive_message_length", 1000)]) as (_, caller):
        unit = await caller.failure("M", bytes(1001))
        assert unit.code is Code.RESOURCE_EXHAUSTED
        assert "(1001 vs. 1000)" in unit.details


async def test_a_generated_base_method_takes_no_thread() -> None:
    def base(request: bytes, context: Any) -> Any:
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")

    async with serving(unary_unary={"M": base}, stream_stream={"S": base}) as (served, caller):
        assert (await caller.failure("M", b"")).code is Code.UNIMPLEMENTED
        assert (await caller.failure("S", b"")).code is Code.UNIMPLEMENTED
        assert served._home.services.methods[b"/test.Service/M"].style == "unimplemented"


async def test_many_calls_at_once_are_all_answered() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await trio.lowlevel.checkpoint()
        return request

    async with serving(unary_unary={"M": handler}) as (_, caller):
        ids = {await caller.call("M", b"%d" % number): b"%d" % number for number in range(1000)}
        for _ in range(1000):
            unit = await caller.receive()
            assert unit.frames[0] == ids.pop(unit.call_id)
        assert isinstance(caller, Caller)
        assert not ids
