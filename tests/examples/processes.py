"""Game servers and scoreboard readers in processes of their own, some of them plain pyzmq programs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from .gateway import Endpoints

HERE = Path(__file__).parent
HAVE_PYZMQ = importlib.util.find_spec("zmq") is not None

# Modules are found from the root of the project. A session of its own, because Ctrl-C in the terminal is for the
# gateway, which then ends the others.
run_process = partial(trio.run_process, cwd=HERE.parent.parent, start_new_session=True)


class ServerProcess:
    """A process with game servers. Ending before it is told to is an error."""

    def __init__(self, command: list[str], *, plain: bool) -> None:
        self._command = command
        self._plain = plain
        self._told = False
        self._process: trio.Process

    def __repr__(self) -> str:
        return f"<ServerProcess {' '.join(self._command)}>"

    async def run(self, *, task_status: trio.TaskStatus[ServerProcess]) -> None:
        """Run it to its end; when cancelled, end it."""
        async with trio.open_nursery() as nursery:
            run = partial(run_process, self._command, stdin=subprocess.PIPE, check=False)
            self._process = await nursery.start(run)
            task_status.started(self)
            status = await self._process.wait()
        if not self._told:
            raise RuntimeError(f"{self} ended by itself, with status {status}")

    async def leave(self) -> None:
        """Our servers finish and leave when their standard input ends; a plain one is terminated."""
        self._told = True
        if self._plain:
            self._process.terminate()
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        await self._process.wait()

    async def kill(self) -> None:
        """It has no time for anything."""
        self._told = True
        self._process.kill()
        await self._process.wait()


class ProcessHosting:
    """Starts processes in *nursery* that connect to the gateway at *endpoints*."""

    def __init__(self, nursery: trio.Nursery, endpoints: Endpoints, work: float) -> None:
        self._nursery = nursery
        self._endpoints = endpoints
        self._work = str(work)

    async def open(self, names: Sequence[str], *, plain: bool) -> ServerProcess:
        """One process with servers of these names (a plain one has just one)."""
        requests, results, _ = self._endpoints
        if plain:
            (name,) = names
            command = _plain("pyzmq_game_server.py", name, requests, results, self._work)
        else:
            command = _ours("game_server", "--requests", requests, "--results", results, "--work", self._work, *names)
        process: ServerProcess = await self._nursery.start(ServerProcess(command, plain=plain).run)
        return process

    async def follow(self, *, plain: bool) -> dict[str, Any]:
        """What a process saw that followed the scoreboard to its end."""
        endpoint = self._endpoints.scoreboard
        command = _plain("pyzmq_scoreboard_reader.py", endpoint) if plain else _ours("scoreboard", endpoint)
        ended = await run_process(command, capture_stdout=True)
        seen: dict[str, Any] = json.loads(ended.stdout)
        return seen


def _ours(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.{module}", *arguments]


def _plain(program: str, *arguments: str) -> list[str]:
    return [sys.executable, str(HERE / program), *arguments]
