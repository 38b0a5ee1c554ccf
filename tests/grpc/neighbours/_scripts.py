"""Handlers that do what a script says, and clients that write down what came of it.

Neutral to the loop, to run on grpc.aio and on trio_mq_grpc alike. As a program, it is the grpc.aio side: it reads plays
as lines of JSON and answers with outcomes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypedDict

import grpc

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

Step = list[Any]
"""``[verb, argument, ...]``; what each verb does is in `_act`."""


class Play(TypedDict):
    """One call: its kind, the style of its handler, what that does, and what the client sends."""

    kind: str
    style: str
    steps: list[Step]
    requests: list[str]
    metadata: list[list[str]]


class Outcome(TypedDict):
    """What the client saw, and what the handler was given."""

    messages: list[str]
    code: str
    details: str
    initial: list[list[str]]
    trailing: list[list[str]]
    seen: list[str]


# --- the handler -----------------------------------------------------------------------------------------------------


class Scripted(grpc.GenericRpcHandler):
    """Serves any play; `seen` has the requests that handlers read, and the metadata, of the latest one."""

    def __init__(self) -> None:
        self.play: Play | None = None
        self.seen: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        assert self.play is not None
        kind = self.play["kind"]
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        if kind.endswith("unary"):
            return make(self._unary)
        return make(self._yielding if self.play["style"] == "yield" else self._writing)

    async def _unary(self, request: Any, context: Any) -> bytes:
        async with aclosing(self._run(request, context)) as messages:
            sent = [message async for message in messages]
        return sent[-1] if sent else b""

    async def _yielding(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        async with aclosing(self._run(request, context)) as messages:
            async for message in messages:
                yield message

    async def _writing(self, request: Any, context: Any) -> None:
        async with aclosing(self._run(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    async def _run(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
        assert self.play is not None
        # Sorted by key only: the values of one key keep their order, those of several need not.
        entries = sorted(context.invocation_metadata(), key=lambda entry: str(entry[0]))
        self.seen = [f"{key}={value!r}" for key, value in entries if key.startswith("x-")]
        if isinstance(request, bytes):
            self.seen.append(request.decode())
        else:
            # All of them, first: a handler that ends earlier races with its client's writes, which in grpcio may make
            # any status INTERNAL, "Internal error from Core".
            while (message := await context.read()) is not grpc.aio.EOF:
                self.seen.append(message.decode())
        for verb, *arguments in self.play["steps"]:
            if verb == "send":
                yield arguments[0].encode()
            else:
                await self._act(verb, arguments, context)

    async def _act(self, verb: str, arguments: list[Any], context: Any) -> None:
        match verb:
            case "initial":
                await context.send_initial_metadata(_pairs(arguments[0]))
            case "trailing":
                context.set_trailing_metadata(_pairs(arguments[0]))
            case "code":
                context.set_code(grpc.StatusCode[arguments[0]])
            case "details":
                context.set_details(arguments[0])
            case "read":
                assert self.play is not None
                if self.play["kind"].startswith("stream"):
                    request = await context.read()
                    self.seen.append("EOF" if request is grpc.aio.EOF else request.decode())
            case "abort":
                await context.abort(grpc.StatusCode[arguments[0]], arguments[1], _pairs(arguments[2]))
            case "swallowed abort":
                try:
                    await context.abort(grpc.StatusCode[arguments[0]], arguments[1])
                except grpc.aio.AbortError:
                    pass
            case "fail":
                raise LookupError(arguments[0])


def _pairs(entries: list[list[str]]) -> tuple[tuple[str, Any], ...]:
    return tuple((key, value.encode() if key.endswith("-bin") else value) for key, value in entries)


def _plain(metadata: Any) -> list[list[str]]:
    ordered = sorted(metadata, key=lambda entry: str(entry[0]))
    return [[key, value.decode() if isinstance(value, bytes) else value] for key, value in ordered]


# --- the client ------------------------------------------------------------------------------------------------------


async def perform(play: Play, channel: Any, handler: Scripted) -> Outcome:
    """Make the call of *play* on *channel*, whose server has *handler*."""
    handler.play, handler.seen = play, []
    method = getattr(channel, play["kind"])("/any/method")
    requests = [request.encode() for request in play["requests"]]
    argument: Any = requests[0] if play["kind"].startswith("unary") else iter(requests)
    call = method(argument, metadata=_pairs(play["metadata"]), timeout=20)
    messages: list[str] = []
    try:
        if play["kind"].endswith("stream"):
            while (message := await call.read()) is not grpc.aio.EOF:
                messages.append(message.decode())
        else:
            messages.append((await call).decode())
    except grpc.aio.AioRpcError:
        pass  # the call tells the same
    return {
        "messages": messages,
        "code": (await call.code()).name,
        "details": _comparable(await call.code(), await call.details()),
        "initial": _plain(await call.initial_metadata()),
        "trailing": _plain(await call.trailing_metadata()),
        "seen": handler.seen,
    }


def _comparable(code: grpc.StatusCode, details: str) -> str:
    """*details*, where they are somebody's promise: not of errors that are not the script's own, and not beside OK.

    grpcio 1.62 passed the latter on, 1.85 does not.
    """
    if code is grpc.StatusCode.OK:
        return ""
    return "an unexpected error" if details.startswith("Unexpected ") and "LookupError" not in details else details


# --- the grpc.aio side -----------------------------------------------------------------------------------------------


async def main() -> None:
    handler = Scripted()
    server = grpc.aio.server(handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await perform(json.loads(line), channel, handler)), flush=True)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
