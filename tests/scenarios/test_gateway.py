"""The gateway scenario, scaled down: work spreads evenly over whoever is there, and only those who go lose any."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.examples import scoreboard
from tests.examples.game_server import serve
from tests.examples.gateway import Endpoints, open_gateway
from tests.examples.plan import Group, Plan
from tests.examples.processes import ProcessHosting
from tests.examples.scenario import Play, Summary

ROOT = Path(__file__).parents[2]

AS_TASKS = Plan(
    players=200,
    patience=10,
    hold=3,
    opening=(Group(8), Group(2, fate="leaves")),
    joining=(Group(36), Group(4, fate="dies")),
    readers=(False, False),
)
AS_PROCESSES = Plan(
    players=60,
    hold=1,
    opening=(Group(1, plain=True), Group(2), Group(2, fate="leaves")),
    joining=(Group(6), Group(2, fate="dies")),
)


class TaskHost:
    """Game servers that are tasks of one nursery."""

    def __init__(self) -> None:
        self._shifts: list[trio.CancelScope] = []
        self._life = trio.CancelScope()
        self._gone = trio.Event()

    async def run(
        self, names: Sequence[str], endpoints: Endpoints, work: float, *, task_status: trio.TaskStatus[TaskHost]
    ) -> None:
        with self._life:
            async with trio.open_nursery() as nursery:
                for name in names:
                    server = partial(serve, name, endpoints.requests, endpoints.results, work)
                    self._shifts.append(await nursery.start(server))
                task_status.started(self)
        self._gone.set()

    async def leave(self) -> None:
        for shift in self._shifts:
            shift.cancel()
        await self._gone.wait()

    async def kill(self) -> None:
        self._life.cancel()
        await self._gone.wait()


class TaskHosting:
    """Starts game servers as tasks of *nursery*."""

    def __init__(self, nursery: trio.Nursery, endpoints: Endpoints, work: float) -> None:
        self._nursery = nursery
        self._endpoints = endpoints
        self._work = work

    async def open(self, names: Sequence[str], *, plain: bool) -> TaskHost:
        assert not plain
        host: TaskHost = await self._nursery.start(TaskHost().run, names, self._endpoints, self._work)
        return host

    async def follow(self, *, plain: bool) -> dict[str, Any]:
        assert not plain
        return await scoreboard.follow(self._endpoints.scoreboard)


def assert_it_went_well(plan: Plan, summary: Summary) -> None:
    """What holds however large the play is and whoever performs it."""
    opening, joining = (sum(group.size for group in groups) for groups in (plan.opening, plan.joining))
    going = sum(group.size for group in plan.opening + plan.joining if group.fate != "stays")
    assert [phase.servers for phase in summary.settled] == [opening, opening + joining, opening + joining - going]
    assert len(summary.gone) == going

    assert summary.asked == summary.answered.total() + summary.lost
    assert summary.lost <= plan.players, "each player waits for one answer at a time"
    assert summary.lost_by_the_living == 0
    assert summary.repeated == 0
    assert sum(summary.dropped.values()) <= summary.lost
    assert {server for server, _ in summary.dropped} <= set(summary.gone), "only for those who went may any be dropped"
    assert {reason for _, reason in summary.dropped} <= {"disconnected"}

    waited = summary.phases[0]
    assert (waited.asked, waited.shares.total()) == (plan.early, plan.early), (
        "who asks before the first server waits for it"
    )
    for phase in summary.settled:
        assert len(phase.shares) == phase.servers, f"somebody had nothing to do: {phase}"
    assert [reader["leader"] for reader in summary.readers] == [summary.readers[0]["leader"]] * len(plan.readers)
    assert all(reader["seen"] == summary.published for reader in summary.readers)


async def test_tasks_share_the_work_evenly_while_servers_come_and_go(autojump_clock: trio.testing.MockClock) -> None:
    bind = Endpoints("inproc://gateway/requests", "inproc://gateway/results", "inproc://gateway/scoreboard")
    async with open_gateway(bind, patience=AS_TASKS.patience) as gateway, trio.open_nursery() as nursery:
        hosting = TaskHosting(nursery, gateway.endpoints, AS_TASKS.work)
        summary = await Play(AS_TASKS, gateway, hosting).perform()
        nursery.cancel_scope.cancel()
    assert_it_went_well(AS_TASKS, summary)
    for phase in summary.settled:
        least, _, most = phase.spread
        assert most - least <= 2, f"equals must have equal shares: {phase}"


@pytest.mark.peer("zmq")
async def test_processes_share_the_work_evenly_while_servers_come_and_go() -> None:
    plan = AS_PROCESSES
    with trio.fail_after(20):
        async with open_gateway(patience=plan.patience) as gateway, trio.open_nursery() as nursery:
            hosting = ProcessHosting(nursery, gateway.endpoints, plan.work)
            summary = await Play(plan, gateway, hosting).perform()
            nursery.cancel_scope.cancel()
    assert_it_went_well(plan, summary)
    for phase in summary.settled:
        least, _, most = phase.spread
        assert least >= 0.8 * most, f"equals must have equal shares: {phase}"
    assert all(phase.shares["pyzmq-01"] > 0 for phase in summary.settled)
    assert {reader["reader"] for reader in summary.readers} == {"pyzmq", "trio_mq"}


async def test_the_demo_needs_this_project_alone_and_tells_what_came_of_it() -> None:
    command = [sys.executable, "-m", "tests.examples.gateway", "--without-pyzmq", "--players=60", "--hold=0.3"]
    with trio.fail_after(30):
        ended = await trio.run_process(command, cwd=ROOT, capture_stdout=True)
    told = ended.stdout.decode()
    assert "trio_mq takes the parts of the plain ZeroMQ programs" in told
    assert "0 of the lost were for servers that stayed" in told
    assert "a plain pyzmq program" not in told


async def test_ctrl_c_ends_the_demo_plainly_and_its_processes_with_it() -> None:
    command = [sys.executable, "-m", "tests.examples.gateway"]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            run = partial(
                trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                check=False, cwd=ROOT,
            )  # fmt: skip
            process: trio.Process = await nursery.start(run)
            assert process.stdout is not None
            assert process.stderr is not None
            shown = b""
            while b"10 servers " not in shown:
                shown += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            # The streams end when the last process that holds them has: the servers are gone, too.
            rest = [chunk async for chunk in process.stdout]
            errors = b"".join([chunk async for chunk in process.stderr])
            status = await process.wait()
    assert status == 130
    assert b"".join(rest).endswith(b"stopped\n")
    assert errors == b""
