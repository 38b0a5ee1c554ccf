"""Metadata: what may be sent, in which directions, and what becomes of mistakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import trio

from .._kit import ends, fails_with, receipt

CODE = grpc.StatusCode


class Echo:
    """Keeps what it was sent, and sends it back as trailing metadata."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def place(self, request: Any, context: Any) -> Any:
        self.seen = list(context.invocation_metadata())
        context.set_trailing_metadata([entry for entry in self.seen if entry.key != "user-agent"])
        return receipt()


async def sent_and_echoed(metadata: Any, transport: str = "tcp") -> list[Any]:
    echo = Echo()
    async with ends(transport=transport, Place=echo.place) as both:
        call = both.stub.Place(both.order(), metadata=metadata)
        await call
        assert [tuple(entry) for entry in echo.seen if entry.key != "user-agent"] == list(
            await call.trailing_metadata()
        )
        return list(await call.trailing_metadata())


# --- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [tuple, list, lambda pairs: grpc.aio.Metadata(*pairs), lambda pairs: map(list, pairs)]
)
async def test_metadata_may_be_given_in_any_sequence_of_pairs(shape: Any) -> None:
    pairs = (("key", "value"), ("data-bin", b"\0\1"))
    assert await sent_and_echoed(shape(pairs)) == list(pairs)


async def test_metadata_arrives_exactly(transport: str) -> None:
    pairs = [
        ("spaces", "  inside and around  "),
        ("empty", ""),
        ("printable", "".join(map(chr, range(0x20, 0x7F)))),
        ("every-bin", bytes(range(256))),
        ("empty-bin", b""),
        ("dots.and_lines-0123", "x"),
    ]
    assert await sent_and_echoed(pairs, transport) == pairs


async def test_values_of_one_key_keep_their_order() -> None:
    """Those of different keys need not: `grpc.aio.Metadata` puts them together by key."""
    echo = Echo()
    pairs = [("a", "1"), ("b", "2"), ("a", "3"), ("a", "1")]
    async with ends(Place=echo.place) as both:
        call = both.stub.Place(both.order(), metadata=pairs)
        assert (await call.trailing_metadata()).get_all("a") == ["1", "3", "1"]
        assert [tuple(entry) for entry in echo.seen if entry.key in "ab"] == pairs


async def test_bytes_of_ascii_are_taken_for_text() -> None:
    assert await sent_and_echoed([("key", b"value")]) == [("key", "value")]


async def test_keys_that_mean_something_to_others_pass() -> None:
    pairs = [
        ("grpc-foo", "1"),
        ("host", "h"),
        ("connection", "c"),
        ("grpc-trace-bin", b"t"),
        ("grpc-tags-bin", b"t"),
        ("grpc-previous-rpc-attempts", "1"),
        ("authorization", "Bearer x"),
    ]
    assert sorted(await sent_and_echoed(pairs)) == sorted(pairs)


async def test_keys_that_grpc_drops_are_dropped() -> None:
    assert await sent_and_echoed([("te", "x"), ("content-type", "y"), ("user-agent", "z"), ("kept", "1")]) == [
        ("kept", "1")
    ]


async def test_the_server_sees_named_pairs_and_a_user_agent() -> None:
    echo = Echo()
    async with ends(Place=echo.place) as both:
        await both.stub.Place(both.order(), metadata=(("key", "value"),))
        assert [entry.value for entry in echo.seen if entry.key == "key"] == ["value"]
        assert [entry.value for entry in echo.seen if entry.key == "user-agent"] != []


async def test_the_user_agent_option_names_the_program() -> None:
    echo = Echo()
    options = [("grpc.primary_user_agent", "shop/3.1")]
    async with ends(channel={"options": options}, Place=echo.place) as both:
        await both.stub.Place(both.order())
        (agent,) = [entry.value for entry in echo.seen if entry.key == "user-agent"]
        assert "shop/3.1" in agent


@pytest.mark.parametrize("method", ["Place", "Watch", "Upload", "Haggle"])
async def test_both_kinds_of_response_metadata_come_with_every_kind_of_call(method: str) -> None:
    initial, trailing = ("initial", "1"), ("trailing-bin", b"2")

    async def unary(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((initial,))
        context.set_trailing_metadata((trailing,))
        return receipt()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((initial,))
        yield receipt()
        context.set_trailing_metadata((trailing,))

    async with ends(Place=unary, Upload=unary, Watch=stream, Haggle=stream) as both:
        argument = both.order() if method in ("Place", "Watch") else iter([both.order()])
        call = getattr(both.stub, method)(argument)
        assert await call.code() is CODE.OK
        assert list(await call.initial_metadata()) == [initial]
        assert list(await call.trailing_metadata()) == [trailing]


async def test_metadata_comes_with_an_error_too() -> None:
    async def place(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("initial", "1"),))
        context.set_trailing_metadata((("trailing", "2"),))
        raise ValueError("boom")

    async with ends(Place=place) as both:
        with fails_with(CODE.UNKNOWN) as raised:
            await both.stub.Place(both.order())
        assert list(raised.value.initial_metadata()) == [("initial", "1")]
        assert list(raised.value.trailing_metadata()) == [("trailing", "2")]


async def test_initial_metadata_is_sent_at_once() -> None:
    """A client may wait for it before it sends anything."""

    async def haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("ready", "yes"),))
        async for request in requests:
            yield receipt(id=request.id)

    async with ends(Haggle=haggle) as both:
        call = both.stub.Haggle()
        assert list(await call.initial_metadata()) == [("ready", "yes")]
        await call.write(both.order(id="a"))
        assert (await call.read()).id == "a"
        await call.done_writing()
        assert await call.code() is CODE.OK


async def test_initial_metadata_can_be_sent_once() -> None:
    errors: list[BaseException] = []

    async def place(request: Any, context: Any) -> Any:
        await context.send_initial_metadata(())
        try:
            await context.send_initial_metadata((("late", "1"),))
        except grpc.aio.UsageError as error:
            errors.append(error)
        return receipt()

    async with ends(Place=place) as both:
        call = both.stub.Place(both.order())
        await call
        assert list(await call.initial_metadata()) == []
        assert len(errors) == 1


async def test_initial_metadata_comes_too_late_after_a_message() -> None:
    errors: list[BaseException] = []

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt()
        try:
            await context.send_initial_metadata((("late", "1"),))
        except grpc.aio.UsageError as error:
            errors.append(error)

    async with ends(Watch=watch) as both:
        call = both.stub.Watch(both.order())
        assert await call.code() is CODE.OK
        assert len(errors) == 1


# --- mistakes --------------------------------------------------------------------------------------------------------

BAD_VALUES = [
    [("Upper", "x")],
    [("with space", "x")],
    [("", "x")],
    [(":path", "/x")],
    [("colon:", "x")],
    [("ümlaut", "x")],
    [("key", "two\nlines")],
    [("key", "n\0ll")],
    [("key", "ü")],
    [("key", b"\xff")],
    [("grpc-timeout", "1S")],
    [("grpc-status", "0")],
    [("grpc-encoding", "gzip")],
]

BAD_TYPES = [
    {"key": "value"},
    [("data-bin", "text")],
    [("key", 1)],
    [("key", None)],
    [(1, "x")],
    [(b"key", "x")],
    [("one",)],
    [("one", "two", "three")],
    ["kv"],
    "text",
    7,
]


@pytest.mark.parametrize("metadata", BAD_VALUES, ids=repr)
async def test_a_bad_key_or_value_is_a_value_error_at_the_call(metadata: Any) -> None:
    async with ends(Place=Echo().place) as both:
        with pytest.raises(ValueError):
            both.stub.Place(both.order(), metadata=metadata)
        assert await both.stub.Place(both.order()) == receipt()


@pytest.mark.parametrize("metadata", BAD_TYPES, ids=repr)
async def test_a_wrong_type_is_a_type_error_at_the_call(metadata: Any) -> None:
    async with ends(Place=Echo().place) as both:
        with pytest.raises(TypeError):
            both.stub.Place(both.order(), metadata=metadata)
        assert await both.stub.Place(both.order()) == receipt()


@pytest.mark.parametrize("method", ["Watch", "Upload", "Haggle"])
async def test_every_kind_of_call_checks_its_metadata(method: str) -> None:
    async with ends() as both:
        argument = both.order() if method == "Watch" else iter(())
        with pytest.raises(ValueError):
            getattr(both.stub, method)(argument, metadata=[("Upper", "x")])


@pytest.mark.parametrize("bad", [{"key": "value"}, [("data-bin", "text")], [("key", 1)], [("one",)]], ids=repr)
async def test_bad_trailing_metadata_fails_in_the_handler_and_poisons_nothing(bad: Any) -> None:
    errors: list[BaseException] = []

    async def place(request: Any, context: Any) -> Any:
        try:
            context.set_trailing_metadata(bad)
        except TypeError as error:
            errors.append(error)
        try:
            await context.abort(CODE.ABORTED, "x", trailing_metadata=bad)
        except TypeError as error:
            errors.append(error)
        await context.abort(CODE.NOT_FOUND, "no such order", trailing_metadata=(("good", "1"),))

    async with ends(Place=place) as both:
        with fails_with(CODE.NOT_FOUND, details="no such order") as raised:
            await both.stub.Place(both.order())
        assert list(raised.value.trailing_metadata()) == [("good", "1")]
        assert len(errors) == 2


# --- sizes -----------------------------------------------------------------------------------------------------------


async def test_metadata_below_the_limit_passes() -> None:
    pairs = [("big", "x" * 8000), ("big-bin", bytes(4000))]
    assert await sent_and_echoed(pairs) == pairs


async def test_too_much_metadata_is_resource_exhausted_and_harms_no_other_call() -> None:
    echo = Echo()
    async with ends(Place=echo.place) as both:
        other = both.stub.Place(both.order())
        call = both.stub.Place(both.order(), metadata=(("big", "x" * 20_000),))
        with fails_with(CODE.RESOURCE_EXHAUSTED):
            await call
        assert await other == receipt()


@pytest.mark.parametrize("where", ["initial", "trailing"])
async def test_too_much_metadata_of_a_server_is_resource_exhausted(where: str) -> None:
    async def place(request: Any, context: Any) -> Any:
        entries = (("big", "x" * 20_000),)
        if request.id == "small":
            return receipt()
        if where == "initial":
            await context.send_initial_metadata(entries)
        else:
            context.set_trailing_metadata(entries)
        return receipt()

    async with ends(Place=place) as both:
        with fails_with(CODE.RESOURCE_EXHAUSTED):
            await both.stub.Place(both.order(), timeout=5)
        assert await both.stub.Place(both.order(id="small")) == receipt()


async def test_many_entries_are_too_much_metadata_even_when_they_are_empty() -> None:
    async with ends(Place=Echo().place) as both:
        with fails_with(CODE.RESOURCE_EXHAUSTED):
            await both.stub.Place(both.order(), metadata=[("k", "")] * 2000)


async def test_a_limit_can_be_raised_at_both_ends() -> None:
    options = [("grpc.absolute_max_metadata_size", 100_000), ("grpc.max_metadata_size", 100_000)]
    echo = Echo()
    async with ends(server={"options": options}, channel={"options": options}, Place=echo.place) as both:
        with trio.fail_after(5):
            await both.stub.Place(both.order(), metadata=(("big", "x" * 60_000),))
        assert max(len(entry.value) for entry in echo.seen) == 60_000
