"""Services: which handler a path means, and how that handler is to be run.

Handlers are what generated code registers. How one is run (awaited, iterated, called in a thread) is decided once for
each, by its function and not by what a call of it returns: to see that, one would have to call it, and a plain function
that is called on the event loop may block everybody.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import grpc
import grpc.aio

from ._metadata import Metadatum

if TYPE_CHECKING:
    from ._served import ServedCall

Run: TypeAlias = "Callable[[ServedCall], Awaitable[None]]"
Compile: TypeAlias = "Callable[[Method], Run]"

COROUTINE: Final = "coroutine"
GENERATOR: Final = "generator"
THREAD: Final = "thread"
UNIMPLEMENTED: Final = "unimplemented"

_MOST_REMEMBERED = 4096
"""Paths that are looked up once. Only those with a handler are remembered, but a catch-all has one for any path."""


class CallDetails(NamedTuple):
    """What a generic handler or an interceptor is told of a call."""

    method: str
    invocation_metadata: tuple[Metadatum, ...]


class Method:
    """A handler, ready to run.

    Attributes:
        path: ``/package.Service/Method``, as it was called.
        streams_requests, streams_responses: more than one message this way.
        behaviour: the servicer's own function.
        style: how that is run; a plain function that turned out to return an awaitable has it changed.
        run: runs one call of it.
    """

    __slots__ = (
        "_compile",
        "behaviour",
        "deserialize",
        "path",
        "run",
        "serialize",
        "streams_requests",
        "streams_responses",
        "style",
    )

    def __init__(self, path: str, handler: Any, compile_: Compile) -> None:
        self.path: str = path
        self.streams_requests: bool = bool(handler.request_streaming)
        self.streams_responses: bool = bool(handler.response_streaming)
        self.deserialize: Callable[[bytes], Any] = handler.request_deserializer or _as_it_is
        self.serialize: Callable[[Any], Any] = handler.response_serializer or _as_it_is
        self.behaviour: Callable[..., Any] = behaviour_of(handler)
        self.style: str = style_of(self.behaviour)
        self._compile = compile_
        self.run: Run = compile_(self)

    def change_style(self, style: str) -> None:
        """It turned out to be run in another way."""
        self.style = style
        self.run = self._compile(self)

    def __repr__(self) -> str:
        return f"<Method {self.path}: {self.style}>"


def _as_it_is(message: Any) -> Any:
    return message


def behaviour_of(handler: Any) -> Callable[..., Any]:
    """The one of its four functions that fits its kind.

    Raises:
        TypeError: it has none.
    """
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour = getattr(handler, kind)
    if not callable(behaviour):
        raise TypeError(f"a handler of kind {kind} has no function for it: {behaviour!r}")
    found: Callable[..., Any] = behaviour
    return found


def style_of(behaviour: Callable[..., Any]) -> str:
    """How *behaviour* is to be run, seen through `functools.partial`, methods, decorators and ``__call__``."""
    function: Any = behaviour
    while True:
        if inspect.iscoroutinefunction(function):
            return COROUTINE
        if inspect.isasyncgenfunction(function):
            return GENERATOR
        inner = _unwrapped(function)
        if inner is None:
            return UNIMPLEMENTED if _is_generated_base(function) else THREAD
        function = inner


def _unwrapped(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return function.func
    if inspect.ismethod(function):
        return function.__func__
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        return wrapped
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return type(function).__call__
    return None


def _is_generated_base(function: Any) -> bool:
    """Whether it is a method that the servicer did not override: such a one only raises, so it needs no thread."""
    code = getattr(function, "__code__", None)
    return (
        code is not None
        and {"set_code", "UNIMPLEMENTED", "set_details", "NotImplementedError"} <= set(code.co_names)
        and "Method not implemented!" in code.co_consts
    )


class Services:
    """All handlers of a server.

    Attributes:
        methods: what was found so far, by the path as it is on the wire; for the one look-up of an ordinary call.
        dynamic: a path alone does not say which handler runs: there are interceptors, or generic handlers of the
            user's own, which may look at the metadata.
    """

    def __init__(self, compile_: Compile, interceptors: Iterable[grpc.aio.ServerInterceptor] = ()) -> None:
        self.methods: dict[bytes, Method] = {}
        self.interceptors: tuple[grpc.aio.ServerInterceptor, ...] = tuple(interceptors)
        self.dynamic: bool = bool(self.interceptors)
        self._compile = compile_
        self._registered: dict[str, Any] = {}
        self._generic: list[grpc.GenericRpcHandler] = []

    def __repr__(self) -> str:
        return f"<Services: {', '.join(self.names()) or 'none'}>"

    def add_generic(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Try *handlers* after those before.

        Raises:
            TypeError: one of them has no ``service`` method.
        """
        for handler in handlers:
            if not callable(getattr(handler, "service", None)):
                raise TypeError(f"a generic handler has a method 'service'; {handler!r} has none")
            self._generic.append(handler)
            if not isinstance(handler, grpc.ServiceRpcHandler):
                self.dynamic = True
        self.methods.clear()

    def add_registered(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Run *handlers*, by method name, before any generic one."""
        for name, handler in handlers.items():
            self._registered[f"/{service}/{name}"] = handler
        self.methods.clear()

    def names(self) -> list[str]:
        """The services that say their name, in order; "" for a generic handler that does not."""
        named = [
            handler.service_name() if isinstance(handler, grpc.ServiceRpcHandler) else "" for handler in self._generic
        ]
        registered = [path[1:].rpartition("/")[0] for path in self._registered]
        return list(dict.fromkeys([*named, *registered]))

    def known(self) -> dict[str, Any]:
        """The handlers that have a path, by that; what a generic handler of the user's own has is not among them."""
        found: dict[str, Any] = {}
        for generic in reversed(self._generic):
            found |= getattr(generic, "_method_handlers", {})  # grpcio's own, for which it has no public name
        return found | self._registered

    def find(self, path: bytes) -> Method | None:
        """The method at *path*, where that alone says it (see `dynamic`); None if there is none."""
        method = self.methods.get(path)
        if method is None:
            name = path.decode()
            handler = self.handler(CallDetails(name, ()))
            if handler is None:
                return None
            method = Method(name, handler, self._compile)
            if len(self.methods) < _MOST_REMEMBERED:
                self.methods[path] = method
        return method

    def handler(self, details: CallDetails) -> Any:
        """The handler for *details*, interceptors aside; None if there is none."""
        handler = self._registered.get(details.method)
        if handler is not None:
            return handler
        for generic in self._generic:
            handler = generic.service(details)  # type: ignore[arg-type]  # it may read both, not set them
            if handler is not None:
                return handler
        return None

    async def resolve(self, details: CallDetails) -> Method | None:
        """The method for *details*, with what the interceptors make of it; None if there is none."""
        handler = await self._intercepted(details, 0)
        return None if handler is None else Method(details.method, handler, self._compile)

    async def _intercepted(self, details: Any, index: int) -> Any:
        if index == len(self.interceptors):
            return self.handler(details)

        async def continuation(details: Any) -> Any:
            return await self._intercepted(details, index + 1)

        return await self.interceptors[index].intercept_service(continuation, details)
