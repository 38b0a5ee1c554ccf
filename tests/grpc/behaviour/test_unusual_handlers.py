"""Handlers of every shape that Python has: plain functions in threads, decorated ones, callables, generators."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
import trio
import trio.lowlevel
import trio.testing

from .._kit import ends, fails_with, ids_of, newest_stubs, orders, receipt, wait_until

CODE = grpc.StatusCode


# --- plain functions run in threads ----------------------------------------------------------------------------------


def place(request: Any, context: Any) -> Any:
    assert threading.current_thread() is not threading.main_thread()
    return receipt(id=request.id)


def watch(request: Any, context: Any) -> Iterator[Any]:
    for number in range(request.quantity):
        assert threading.current_thread() is not threading.main_thread()
        yield receipt(id=str(number))


def upload(requests: Iterator[Any], context: Any) -> Any:
    return receipt(id="+".join(request.id for request in requests))


def haggle(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    for request in requests:
        yield receipt(id=request.id)


PLAIN: dict[str, Any] = {"Place": place, "Watch": watch, "Upload": upload, "Haggle": haggle}


async def test_a_plain_servicer_of_all_four_kinds_works(transport: str) -> None:
    async with ends(transport=transport, **PLAIN) as both:
        assert (await both.stub.Place(both.order(id="a"))).id == "a"
        assert await ids_of(both.stub.Watch(both.order(quantity=100))) == [str(number) for number in range(100)]
        assert (await both.stub.Upload(iter(orders(both.stubs, "abc")))).id == "a+b+c"
        assert await ids_of(both.stub.Haggle(iter(orders(both.stubs, "abc")))) == list("abc")


async def test_a_plain_handler_answers_while_its_stream_is_written() -> None:
    async with ends(**PLAIN) as both:
        call = both.stub.Haggle()
        for each in "abc":
            await call.write(both.order(id=each))
            assert (await call.read()).id == each
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_plain_and_async_methods_live_in_one_servicer() -> None:
    async def async_watch(request: Any, context: Any) -> AsyncIterator[Any]:
        yield receipt(id="async")

    async with ends(Place=place, Watch=async_watch) as both:
        assert (await both.stub.Place(both.order(id="plain"))).id == "plain"
        assert await ids_of(both.stub.Watch(both.order())) == ["async"]


async def test_a_plain_function_may_return_any_iterator() -> None:
    def watch(request: Any, context: Any) -> list[Any]:
        return [receipt(id="a"), receipt(id="b")]

    async with ends(Watch=watch) as both:
        assert await ids_of(both.stub.Watch(both.order())) == ["a", "b"]


async def test_a_generator_stays_in_one_thread_and_keeps_its_context_variables() -> None:
    """One hop per item would lose the variables and change the thread under sqlite connections and thread-locals."""
    step: contextvars.ContextVar[int] = contextvars.ContextVar("step", default=0)

    def watch(request: Any, context: Any) -> Iterator[Any]:
        for _ in range(20):
            step.set(step.get() + 1)
            yield receipt(id=str(threading.get_ident()), total=step.get())

    async with ends(Watch=watch) as both:
        replies = [message async for message in both.stub.Watch(both.order())]
        assert len({reply.id for reply in replies}) == 1
        assert [reply.total for reply in replies] == list(range(1, 21))


async def test_a_plain_handler_blocks_nobody_but_itself() -> None:
    released = threading.Event()

    def slow(request: Any, context: Any) -> Any:
        if request.id == "slow":
            assert released.wait(10)
        return receipt(id=request.id)

    async with ends(Place=slow) as both:
        waiting = both.stub.Place(both.order(id="slow"))
        assert (await both.stub.Place(both.order(id="quick"))).id == "quick"
        assert not waiting.done()
        released.set()
        assert (await waiting).id == "slow"


async def test_the_number_of_threads_is_that_of_the_pool() -> None:
    from concurrent.futures import ThreadPoolExecutor

    running, most = 0, 0
    lock = threading.Lock()
    barrier = threading.Barrier(2)

    def count(request: Any, context: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(10)
        with lock:
            running -= 1
        return receipt()

    with ThreadPoolExecutor(2) as pool:
        async with ends(server={"migration_thread_pool": pool}, Place=count) as both:
            calls = [both.stub.Place(both.order()) for _ in range(8)]
            for call in calls:
                await call
    assert most == 2


async def test_context_variables_reach_plain_handlers() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    class Sets(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            user.set("ada")
            return await continuation(handler_call_details)

    def who(request: Any, context: Any) -> Any:
        return receipt(id=user.get())

    async with ends(server={"interceptors": [Sets()]}, Place=who) as both:
        assert (await both.stub.Place(both.order())).id == "ada"


# --- what a plain handler can do with its context --------------------------------------------------------------------


async def test_a_plain_handler_can_ask_its_context() -> None:
    seen: dict[str, Any] = {}

    def ask(request: Any, context: Any) -> Any:
        seen["metadata"] = [tuple(entry) for entry in context.invocation_metadata()]
        seen["peer"] = context.peer()
        seen["remaining"] = context.time_remaining()
        seen["active"] = context.is_active()
        seen["identities"] = context.peer_identities()
        seen["key"] = context.peer_identity_key()
        seen["auth"] = context.auth_context()
        return receipt()

    async with ends(Place=ask) as both:
        await both.stub.Place(both.order(), timeout=20, metadata=(("key", "value"),))
    assert ("key", "value") in seen["metadata"]
    assert seen["peer"].startswith("ipv4:127.0.0.1:")
    assert 10 < seen["remaining"] <= 20
    assert seen["active"] is True
    assert (seen["identities"], seen["key"]) == (None, None)
    assert "transport_security_type" in seen["auth"]


async def test_a_plain_handler_can_set_status_and_metadata() -> None:
    def set_all(request: Any, context: Any) -> Any:
        context.send_initial_metadata((("initial", "1"),))
        context.set_trailing_metadata((("trailing", "2"),))
        context.set_code(CODE.ALREADY_EXISTS)
        context.set_details("twice")
        return receipt()

    async with ends(Place=set_all) as both:
        call = both.stub.Place(both.order())
        with fails_with(CODE.ALREADY_EXISTS, details="twice"):
            await call
        assert list(await call.initial_metadata()) == [("initial", "1")]
        assert list(await call.trailing_metadata()) == [("trailing", "2")]


@pytest.mark.parametrize("method", ["Place", "Watch", "Upload", "Haggle"])
async def test_a_plain_handler_can_abort(method: str) -> None:
    def unary(request: Any, context: Any) -> Any:
        context.abort(CODE.NOT_FOUND, "no such order")

    def stream(request: Any, context: Any) -> Iterator[Any]:
        yield receipt()
        context.abort(CODE.NOT_FOUND, "no such order")

    async with ends(Place=unary, Upload=unary, Watch=stream, Haggle=stream) as both:
        argument = both.order() if method in ("Place", "Watch") else iter(())
        call = getattr(both.stub, method)(argument)
        assert (await call.code(), await call.details()) == (CODE.NOT_FOUND, "no such order")


async def test_a_plain_handler_that_raises_is_unknown() -> None:
    def unary(request: Any, context: Any) -> Any:
        raise LookupError("in a thread")

    def stream(request: Any, context: Any) -> Iterator[Any]:
        yield receipt(id="before")
        raise LookupError("in a thread")

    async with ends(Place=unary, Watch=stream) as both:
        with fails_with(CODE.UNKNOWN, details="in a thread"):
            await both.stub.Place(both.order())
        call = both.stub.Watch(both.order())
        assert (await call.read()).id == "before"
        with fails_with(CODE.UNKNOWN, details="in a thread"):
            await call.read()


async def test_callbacks_of_a_plain_handler_run_when_the_call_has_ended() -> None:
    seen: list[str] = []

    def adds(request: Any, context: Any) -> Any:
        assert context.add_callback(lambda: seen.append("ended"))
        return receipt()

    async with ends(Place=adds) as both:
        await both.stub.Place(both.order())
        await wait_until(lambda: seen)
        assert seen == ["ended"]


async def test_a_plain_handler_sees_that_its_client_has_gone() -> None:
    gone = threading.Event()
    began = threading.Event()

    def watches(request: Any, context: Any) -> Any:
        context.add_callback(gone.set)
        began.set()
        assert gone.wait(10)
        assert not context.is_active()
        began.clear()
        return receipt()

    async with ends(Place=watches) as both:
        call = both.stub.Place(both.order())
        await wait_until(began.is_set)
        call.cancel()
        await wait_until(lambda: not began.is_set())


async def test_a_deadline_leaves_a_thread_behind_but_not_its_client() -> None:
    released = threading.Event()
    states: list[bool] = []

    def slow(request: Any, context: Any) -> Any:
        if request.id == "slow":
            assert released.wait(10)
            states.append(context.is_active())
        return receipt(id=request.id)

    async with ends(server={"maximum_concurrent_rpcs": 1}, Place=slow) as both:
        with fails_with(CODE.DEADLINE_EXCEEDED):
            await both.stub.Place(both.order(id="slow"), timeout=0.05)
        # Its place among the running calls stays taken while the thread runs.
        with fails_with(CODE.RESOURCE_EXHAUSTED):
            await both.stub.Place(both.order(id="quick"))
        released.set()
        await wait_until(lambda: states)
        assert states == [False]
        with trio.fail_after(5):
            while await (call := both.stub.Place(both.order(id="quick"))).code() is CODE.RESOURCE_EXHAUSTED:
                await trio.sleep(0.01)
            assert (await call).id == "quick"


async def test_a_plain_generator_whose_client_has_gone_is_ended() -> None:
    ended = threading.Event()

    def endless(request: Any, context: Any) -> Iterator[Any]:
        try:
            while True:
                yield receipt(note=bytes(10_000))
        finally:
            ended.set()

    async with ends(Watch=endless) as both:
        async with both.stub.Watch(both.order()) as call:
            await call.read()
        await wait_until(ended.is_set)


async def test_a_method_that_is_not_overridden_takes_no_thread() -> None:
    """The generated base method is a plain function; answering it from a thread would be a way to use them all up."""
    released = threading.Event()

    def hold(request: Any, context: Any) -> Any:
        assert released.wait(10)
        return receipt()

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        async with ends(server={"migration_thread_pool": pool}, Place=hold) as both:
            held = both.stub.Place(both.order())
            assert await both.stub.Forget(both.order()).code() is CODE.UNIMPLEMENTED
            released.set()
            await held


# --- async functions in disguise -------------------------------------------------------------------------------------


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def plain_decorator(function: Callable[..., Any]) -> Any:
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


class CallableObject:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def __call__(self, request: Any, context: Any) -> Any:
        return await self._function(request, context)


def partially(function: Callable[..., Any]) -> Callable[..., Any]:
    async def with_extra(extra: str, request: Any, context: Any) -> Any:
        return await function(request, context)

    return functools.partial(with_extra, "extra")


async def async_place(request: Any, context: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return receipt(id=request.id)


DISGUISES = [wrapping, plain_decorator, CallableObject, partially]


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
async def test_an_async_unary_handler_is_recognised_in_disguise(disguise: Any) -> None:
    async with ends(Place=disguise(async_place)) as both:
        for each in "abc":
            assert (await both.stub.Place(both.order(id=each))).id == each


async def async_watch(request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(request.quantity):
        await trio.lowlevel.checkpoint()
        yield receipt(id=str(number))


async def async_haggle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield receipt(id=request.id)


@pytest.mark.parametrize("disguise", [wrapping, plain_decorator], ids=lambda disguise: disguise.__name__)
async def test_an_async_generator_is_recognised_in_disguise(disguise: Any) -> None:
    async with ends(Watch=disguise(async_watch), Haggle=disguise(async_haggle)) as both:
        for _ in range(3):
            assert await ids_of(both.stub.Watch(both.order(quantity=3))) == ["0", "1", "2"]
        assert await ids_of(both.stub.Haggle(iter(orders(both.stubs, "abc")))) == list("abc")


async def test_a_method_once_seen_to_be_async_runs_in_the_loop_at_once() -> None:
    threads: list[bool] = []

    def disguised(request: Any, context: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return async_place(request, context)

    async with ends(Place=disguised) as both:
        for _ in range(3):
            await both.stub.Place(both.order())
        assert threads == [False, True, True]


async def test_an_async_iterator_need_not_be_a_generator() -> None:
    class Numbers:
        def __init__(self, count: int) -> None:
            self.left = count

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return receipt(id=str(self.left))

    def watch(request: Any, context: Any) -> Any:
        return Numbers(request.quantity)

    async with ends(Watch=watch) as both:
        for _ in range(2):
            assert await ids_of(both.stub.Watch(both.order(quantity=3))) == ["2", "1", "0"]


async def test_methods_of_an_ordinary_class_work() -> None:
    """Bound methods, with state, and inherited ones."""
    stubs = newest_stubs()

    class Base(stubs.orders_grpc.OrdersServicer):  # type: ignore[misc, name-defined]  # made at run time
        async def Place(self, request: Any, context: Any) -> Any:
            return receipt(id=f"{self.prefix}{request.id}")

    class Shop(Base):
        prefix = "shop-"

        async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield receipt(id=self.prefix)

        @classmethod
        async def Upload(cls, requests: AsyncIterator[Any], context: Any) -> Any:
            return receipt(id=f"{cls.prefix}{len(await ids_of(requests))}")

    async with ends((stubs.orders_grpc.add_OrdersServicer_to_server, Shop())) as both:
        assert (await both.stub.Place(both.order(id="a"))).id == "shop-a"
        assert await ids_of(both.stub.Watch(both.order())) == ["shop-"]
        assert (await both.stub.Upload(iter(orders(both.stubs, "ab")))).id == "shop-2"


async def test_a_handler_may_open_nurseries_and_scopes() -> None:
    async def place(request: Any, context: Any) -> Any:
        results: list[str] = []

        async def work(name: str) -> None:
            await trio.lowlevel.checkpoint()
            results.append(name)

        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:
                for each in "abc":
                    nursery.start_soon(work, each)
        return receipt(id="".join(sorted(results)))

    async with ends(Place=place) as both:
        assert (await both.stub.Place(both.order())).id == "abc"


async def test_a_generator_may_yield_from_inside_a_nursery() -> None:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        send, receive = trio.open_memory_channel[str](0)

        async def produce() -> None:
            async with send:
                for each in "abc":
                    await send.send(each)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            async for each in receive:
                yield receipt(id=each)

    async with ends(Watch=watch) as both:
        assert await ids_of(both.stub.Watch(both.order())) == list("abc")


async def test_plain_servicers_are_refused_under_a_clock_that_jumps(autojump_clock: trio.testing.MockClock) -> None:
    """Such a clock jumps over every deadline while a thread works."""
    import trio_mq_grpc.testing

    stubs = newest_stubs()

    class Plain(stubs.orders_grpc.OrdersServicer):  # type: ignore[misc, name-defined]  # made at run time
        def Place(self, request: Any, context: Any) -> Any:
            return receipt()

    with pytest.raises((TypeError, ValueError, RuntimeError), match="Place"):
        async with trio_mq_grpc.testing.channel_for(Plain()):
            pass


async def test_a_streaming_handler_that_returns_its_responses_instead_of_yielding_them_fails() -> None:
    async def watch(request: Any, context: Any) -> Any:
        return [receipt(id="a")]

    async with ends(Watch=watch) as both:
        with fails_with(CODE.UNKNOWN, details="yields its responses"):
            await ids_of(both.stub.Watch(both.order()))
