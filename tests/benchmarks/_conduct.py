"""Carries out one run: starts its processes, brings them together, collects what they measured, and ends them.

A run has a deadline. Whatever hangs, the processes are killed and the run is a `RunFailed` with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import trio

from . import _libraries
from ._crowd import crowd
from ._network import Network, open_network
from ._outcome import Datagrams, Outcome
from ._scenario import Contestant, Pattern, Scenario, can_pin

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
        try:
            with trio.fail_after(deadline):
                opening = open_network(scenario.transport, scratch)
                stage = _Stage(contestant, await trio.to_thread.run_sync(stack.enter_context, opening), errors)
                if scenario.transport == "inproc":
                    reports = [await _alone(stage)]
                elif scenario.publishes:
                    reports = await _publish(stage)
                elif _ROLES[scenario.pattern][0] == "serve":
                    reports = await _call(stage)
                else:
                    reports = await _converse(stage)
        except trio.TooSlowError:
            raise RunFailed(f"no result within {deadline:g} s{_last_words(errors)}") from None
        except (EOFError, OSError, trio.BrokenResourceError, subprocess.CalledProcessError) as exc:
            raise RunFailed(f"{exc}{_last_words(errors)}") from exc
    return _outcome(scenario, reports)


@dataclass(frozen=True)
class _Stage:
    """Who runs, where, and the file for what its processes write to stderr."""

    contestant: Contestant
    network: Network
    errors: IO[bytes]

    @property
    def scenario(self) -> Scenario:
        return self.contestant.scenario


async def _alone(stage: _Stage) -> dict[str, Any]:
    async with _start(stage, "inproc", stage.network.bind) as process:
        return await process.event("result")


async def _converse(stage: _Stage) -> Reports:
    async with _ends(stage) as (binder, connectors):
        endpoint = await _meet(stage, binder, connectors)
        with crowd() as join:
            if stage.scenario.idle_peers:
                await trio.to_thread.run_sync(join, endpoint, stage.scenario.idle_peers)
            await _tell(connectors, endpoint=endpoint)

            async def collect() -> Reports:
                return [await binder.event("result"), *await _events(connectors, "result")]

            return await _unless_one_crashes(collect, binder, *connectors)


async def _publish(stage: _Stage) -> Reports:
    async with _ends(stage) as (publisher, subscribers):
        await _tell(subscribers, endpoint=await _meet(stage, publisher, subscribers))

        async def collect() -> Reports:
            await _events(subscribers, "ready")
            await publisher.tell({"go": True})
            received = await _events(subscribers, "result")
            await publisher.tell({"stop": True})
            return [*received, await publisher.event("result")]

        return await _unless_one_crashes(collect, publisher, *subscribers)


async def _call(stage: _Stage) -> Reports:
    async with _ends(stage) as (server, clients):
        await _tell(clients, endpoint=await _meet(stage, server, clients))

        async def collect() -> Reports:
            called = await _events(clients, "result")
            await server.tell({"stop": True})
            return [*called, await server.event("result")]

        return await _unless_one_crashes(collect, server, *clients)


def _outcome(scenario: Scenario, reports: Reports) -> Outcome:
    # Those that receive, or make the round trips, have clocks of their own: one process, or `scenario.processes`. All
    # clocks of a machine have one zero, so several are busy from the first one's first message to the last one's last.
    measured = [report for report in reports if report["ended"]]
    messages = sum(report["messages"] for report in measured)
    if not messages:
        raise RunFailed("not a single message arrived")
    sent = max(report["sent"] for report in reports)
    began, ended = min(report["began"] for report in measured), max(report["ended"] for report in measured)
    seconds = ended - began
    return Outcome(
        messages=messages,
        seconds=seconds,
        cpu_seconds=_cpu(reports),
        p50=measured[0]["p50"],
        p99=measured[0]["p99"],
        memory=max((report["memory"] for report in reports if report["memory"] is not None), default=None),
        missing=sent * scenario.subscribers * scenario.processes - messages if scenario.publishes else 0,
        datagrams=_datagrams(measured, reports[-1], seconds),
    )


def _cpu(reports: Reports) -> float:
    return sum(report["cpu"] or 0.0 for report in reports)


def _datagrams(receivers: Reports, source: dict[str, Any], seconds: float) -> Datagrams | None:
    counted = [report["datagrams"] for report in receivers]
    if source["datagrams"] is None or None in counted:
        return None
    sent, _ = source["datagrams"]
    received = max(received for _, received in counted)  # each counts what all in the same place received
    return Datagrams(
        sent=sent,
        received=received,
        rate=received / seconds,
        source_cpu=source["cpu"] / max(sent, 1),
        receiver_cpu=_cpu(receivers) / max(received, 1),
        receive_buffer=min((report["receive_buffer"] or 0 for report in receivers), default=0) or None,
    )


@asynccontextmanager
async def _ends(stage: _Stage) -> AsyncIterator[tuple[_Process, list[_Process]]]:
    """The process that binds, and those, usually one, that wait to be told where."""
    binds, connects = _ROLES[stage.scenario.pattern]
    async with AsyncExitStack() as stack:
        connectors = [
            await stack.enter_async_context(_start(stage, connects, None)) for _ in range(stage.scenario.processes)
        ]
        yield await stack.enter_async_context(_start(stage, binds, stage.network.bind)), connectors


async def _meet(stage: _Stage, binder: _Process, connectors: Sequence[_Process]) -> str:
    """Where to connect to *binder*, which is bound; the others have imported their library by then."""
    await _events(connectors, "loaded")
    endpoint: str = (await binder.event("bound"))["endpoint"]
    return stage.network.connect or endpoint.rstrip("\0")


async def _tell(processes: Iterable[_Process], **values: Any) -> None:
    for process in processes:
        await process.tell(values)


async def _events(processes: Iterable[_Process], name: str) -> Reports:
    return [await process.event(name) for process in processes]


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
async def _start(stage: _Stage, role: str, endpoint: str | None) -> AsyncIterator[_Process]:
    side = 0 if role in _SENDING else 1
    library = stage.contestant.libraries[side]
    process = await trio.lowlevel.open_process(
        [*stage.network.inside[side], _libraries.interpreter(library), "-m", f"{__package__}._worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stage.errors,
        cwd=_ROOT,
    )
    try:
        worker = _Process(process)
        core = _core(stage.scenario, role, side)
        job = {"library": library, "role": role, "endpoint": endpoint, "core": core}
        await worker.tell({**job, "scenario": asdict(stage.scenario)})
        yield worker
    finally:
        # Killed even when all went well: its figures are here, and its interpreter's end is nobody's business.
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()


def _core(scenario: Scenario, role: str, side: int) -> int | None:
    """The core of a process. None: those that it finds, for many that would only stand in a queue for one."""
    cores = choose_cores()
    alone = scenario.processes == 1 or role != _ROLES[scenario.pattern][1]
    return cores[side] if cores and alone else None


def _last_words(errors: IO[bytes]) -> str:
    """What the last process to say it says of its end: with Python, the line of the exception.

    The others are killed then, and may have written a part of a traceback behind it.
    """
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines(keepends=True) if line.strip()]
    whole = [line for line in lines if line.endswith("\n") and not line.startswith((" ", "Traceback "))]
    return f": {(whole or lines)[-1].strip()}" if lines else ""
