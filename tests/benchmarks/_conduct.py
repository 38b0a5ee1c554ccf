"""Carries out one run: starts its processes, brings them together, collects what they measured, and ends them.

A run has a deadline. Whatever hangs, the processes are killed and the run is a `RunFailed` with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeAlias

import trio

from ._crowd import crowd
from ._outcome import Outcome
from ._scenario import Contestant, Pattern, Scenario, Transport, can_pin

DEADLINE = 60.0  # seconds for a whole run of little more than one second of traffic

_ROOT = Path(__file__).resolve().parents[2]  # where `tests` can be imported from
_SENDING = frozenset(
    {"push", "request", "publish", "inproc", "unary", "stream", "bidi", "open_calls"}
)  # the roles that get the first core

# pattern → (role that binds, role that connects)
_ROLES: dict[Pattern, tuple[str, str]] = {
    "push-pull": ("pull", "push"),
    "req-rep": ("reply", "request"),
    "pub-sub": ("publish", "subscribe"),
    "broadcast": ("publish", "subscribe"),
    "unary": ("serve", "unary"),
    "server-stream": ("serve", "stream"),
    "bidi": ("serve", "bidi"),
    "open-calls": ("serve", "open_calls"),
}

Reports: TypeAlias = list[dict[str, Any]]


class RunFailed(Exception):
    """One run gave no figure; the message says why."""


def choose_cores() -> tuple[int, int] | None:
    """The cores of the sending and of the receiving end; the same one where there is no other, None without choice."""
    if not can_pin():
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[1 % len(cores)]


async def conduct(contestant: Contestant, *, deadline: float = DEADLINE) -> Outcome:
    """One run of *contestant*. Raises `RunFailed`; its processes are gone in any case."""
    scenario = contestant.scenario
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        errors = stack.enter_context(tempfile.TemporaryFile())
        job = {"library": contestant.library, "scenario": asdict(scenario)}
        try:
            with trio.fail_after(deadline):
                if scenario.transport == "inproc":
                    reports = [await _alone(job, errors)]
                elif scenario.publishes:
                    reports = await _publish(job, scenario, scratch, errors)
                elif _ROLES[scenario.pattern][0] == "serve":
                    reports = await _call(job, scenario, scratch, errors)
                else:
                    reports = await _converse(job, scenario, scratch, errors)
        except trio.TooSlowError:
            raise RunFailed(f"no result within {deadline:g} s{_last_words(errors)}") from None
        except (EOFError, OSError, trio.BrokenResourceError) as exc:
            raise RunFailed(f"{exc}{_last_words(errors)}") from exc
    return _outcome(scenario, reports)


async def _alone(job: dict[str, Any], errors: IO[bytes]) -> dict[str, Any]:
    async with _start({**job, "role": "inproc", "endpoint": "inproc://benchmark"}, errors) as process:
        return await process.event("result")


async def _converse(job: dict[str, Any], scenario: Scenario, scratch: str, errors: IO[bytes]) -> Reports:
    async with _pair(job, scenario, scratch, errors) as (binder, connector):
        endpoint = await _meet(binder, connector)
        with crowd() as join:
            if scenario.idle_peers:
                await trio.to_thread.run_sync(join, endpoint, scenario.idle_peers)
            await connector.tell({"endpoint": endpoint})

            async def collect() -> Reports:
                return [await binder.event("result"), await connector.event("result")]

            return await _unless_one_crashes(collect, binder, connector)


async def _publish(job: dict[str, Any], scenario: Scenario, scratch: str, errors: IO[bytes]) -> Reports:
    async with _pair(job, scenario, scratch, errors) as (publisher, subscribers):
        await subscribers.tell({"endpoint": await _meet(publisher, subscribers)})

        async def collect() -> Reports:
            await subscribers.event("ready")
            await publisher.tell({"go": True})
            received = await subscribers.event("result")
            await publisher.tell({"stop": True})
            return [received, await publisher.event("result")]

        return await _unless_one_crashes(collect, publisher, subscribers)


async def _call(job: dict[str, Any], scenario: Scenario, scratch: str, errors: IO[bytes]) -> Reports:
    async with _pair(job, scenario, scratch, errors) as (server, client):
        await client.tell({"endpoint": await _meet(server, client)})

        async def collect() -> Reports:
            called = await client.event("result")
            await server.tell({"stop": True})
            return [called, await server.event("result")]

        return await _unless_one_crashes(collect, server, client)


def _outcome(scenario: Scenario, reports: Reports) -> Outcome:
    # Exactly one process has a clock of its own: the one that receives, or that makes the round trips.
    measured = max(reports, key=lambda report: report["seconds"])
    if not measured["messages"]:
        raise RunFailed("not a single message arrived")
    sent = max(report["sent"] for report in reports)
    return Outcome(
        messages=measured["messages"],
        seconds=measured["seconds"],
        cpu_seconds=sum(report["cpu"] or 0.0 for report in reports),
        p50=measured["p50"],
        p99=measured["p99"],
        memory=max((report["memory"] for report in reports if report["memory"] is not None), default=None),
        missing=sent * scenario.subscribers - measured["messages"] if scenario.publishes else 0,
    )


def _bind_endpoint(transport: Transport, scratch: str) -> str:
    return "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{scratch}/socket"


@asynccontextmanager
async def _pair(
    job: dict[str, Any], scenario: Scenario, scratch: str, errors: IO[bytes]
) -> AsyncIterator[tuple[_Process, _Process]]:
    """Both processes of a run: the one that binds, and the one that waits to be told where."""
    binds, connects = _ROLES[scenario.pattern]
    async with AsyncExitStack() as stack:
        connector = await stack.enter_async_context(_start({**job, "role": connects, "endpoint": None}, errors))
        endpoint = _bind_endpoint(scenario.transport, scratch)
        binder = await stack.enter_async_context(_start({**job, "role": binds, "endpoint": endpoint}, errors))
        yield binder, connector


async def _meet(binder: _Process, connector: _Process) -> str:
    """Where *binder* is bound; the other has imported its library by then."""
    await connector.event("loaded")
    endpoint: str = (await binder.event("bound"))["endpoint"]
    return endpoint.rstrip("\0")


async def _unless_one_crashes(collect: Callable[[], Awaitable[Reports]], *processes: _Process) -> Reports:
    """What *collect* returns. Its own error, or `EOFError` when a process that it does not listen to has crashed."""
    collected: list[Reports] = []
    failures: list[Exception] = []

    async def attempt() -> None:
        try:
            collected.append(await collect())
        except (EOFError, OSError, trio.BrokenResourceError) as exc:
            failures.append(exc)
        nursery.cancel_scope.cancel()

    async def watch(process: _Process) -> None:
        if await process.wait():
            failures.append(EOFError("a process crashed"))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        for process in processes:
            nursery.start_soon(watch, process)
    if failures:
        raise failures[0]
    return collected[0]


class _Process:
    """A worker and its lines."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.wait = process.wait
        self._rest = b""

    async def tell(self, values: dict[str, Any]) -> None:
        await self._stdin.send_all(json.dumps(values).encode() + b"\n")

    async def event(self, name: str) -> dict[str, Any]:
        """The next line, which is a *name*. `EOFError` when the process ended instead."""
        while b"\n" not in self._rest:
            data = await self._stdout.receive_some()
            if not data:
                raise EOFError(f"a process ended before its {name!r}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        values: dict[str, Any] = json.loads(line)
        if values["event"] != name:
            raise EOFError(f"a process said {values['event']!r} instead of {name!r}")
        return values


@asynccontextmanager
async def _start(job: dict[str, Any], errors: IO[bytes]) -> AsyncIterator[_Process]:
    cores = choose_cores()
    core = cores and cores[0 if job["role"] in _SENDING else 1]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", f"{__package__}._worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=_ROOT,
    )
    try:
        worker = _Process(process)
        await worker.tell({**job, "core": core})
        yield worker
    finally:
        # Killed even when all went well: its figures are here, and its interpreter's end is nobody's business.
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()


def _last_words(errors: IO[bytes]) -> str:
    """The last line anybody wrote to stderr: with Python, the exception."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""
