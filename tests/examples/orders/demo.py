"""The demo: the shop in this process, everybody else in processes of their own, and what they tell on the terminal."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import trio

from ..processes import run_process
from .lines import heard
from .shop import Endpoints, Shop, open_shop


@dataclass
class Plan:
    """How large it is."""

    customers: int = 3
    orders: int = 100
    workers: int = 3
    boards: int = 4
    seconds: float = 0.01


@dataclass
class Account:
    """What came of it, by figures that the processes have told, each by who told it."""

    figures: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, name: str, figures: dict[str, int]) -> None:
        for figure, value in figures.items():
            self.figures.setdefault(figure, Counter())[name] += value

    def of(self, figure: str) -> Counter[str]:
        return self.figures.get(figure, Counter())


class Process:
    """A process of the demo, whose lines are printed."""

    def __init__(self, demo: Demo, name: str, module: str, *arguments: str) -> None:
        self._demo = demo
        self._name = name
        self._command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
        self._process: trio.Process
        self._ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[Process]) -> None:
        """Run it to its end; started when it has told its first line."""
        async with trio.open_nursery() as nursery:
            run = partial(run_process, self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=True)
            self._process = await nursery.start(run)
            rest = b""
            first = True
            assert self._process.stdout is not None
            async for chunk in self._process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._demo.hear(self._name, line.decode())
                    if first:
                        first = False
                        task_status.started(self)
        self._ended.set()

    async def leave(self) -> None:
        """Tell it to go, and wait until it has."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        await self._ended.wait()

    async def wait(self) -> None:
        """Wait until it has gone by itself."""
        await self._ended.wait()


class Demo:
    """Everybody together."""

    def __init__(self, plan: Plan, nursery: trio.Nursery) -> None:
        self.plan = plan
        self.account = Account()
        self._nursery = nursery
        self._began = trio.current_time()

    def say(self, name: str, text: str) -> None:
        """Print what *name* has to say."""
        print(f"{trio.current_time() - self._began:6.2f} s  {name:<12} {text}", flush=True)

    def hear(self, name: str, line: str) -> None:
        """Print a line of a process, and keep its figures."""
        text, figures = heard(line)
        self.say(name, text)
        self.account.add(name, figures)

    async def perform(self) -> Shop:
        """From the opening of the shop to its end."""
        async with open_shop() as (shop, endpoints):
            self.say("shop", f"takes calls at {endpoints.calls}; nobody else is there yet")
            workers = await self._start_all("worker", self.plan.workers, self._worker_arguments(endpoints))
            boards = await self._start_all("board", self.plan.boards, ["--ticker", endpoints.ticker])
            await shop.wait_boards(self.plan.boards)  # or the first ticks would go past those who are just joining
            arguments = ["--calls", endpoints.calls, "--orders", str(self.plan.orders)]
            customers = await self._start_all("customer", self.plan.customers, arguments)
            for customer in customers:
                await customer.wait()
            await shop.wait_packed()
            self.say("shop", f"{sum(shop.packed.values())} orders are packed; it closes")
            async with trio.open_nursery() as nursery:
                for process in (*workers, *boards):
                    nursery.start_soon(process.leave)
        return shop

    def _worker_arguments(self, endpoints: Endpoints) -> list[str]:
        where = ["--packing", endpoints.packing, "--dispatch", endpoints.dispatch]
        return [*where, "--seconds", str(self.plan.seconds)]

    async def _start_all(self, role: str, count: int, arguments: list[str]) -> list[Process]:
        started: dict[int, Process] = {}

        async def start(number: int) -> None:
            name = f"{role} {number}"
            given = [name, *arguments] if role == "worker" else arguments
            started[number] = await self._nursery.start(Process(self, name, role, *given).run)

        async with trio.open_nursery() as nursery:
            for number in range(1, count + 1):
                nursery.start_soon(start, number)
        return list(started.values())


async def demo(plan: Plan) -> tuple[Shop, Account]:
    """Perform *plan*."""
    async with trio.open_nursery() as nursery:
        performance = Demo(plan, nursery)
        shop = await performance.perform()
    return shop, performance.account


def report(shop: Shop, account: Account) -> list[str]:
    """What happened, and what should not have."""
    calls = ", ".join(f"{count} {method}" for method, count in shop.calls.items())
    shares = ", ".join(f"{count} by {worker}" for worker, count in sorted(shop.packed.items()))
    ticks = sum(shop.sold.values())
    heard_by_all = {ticks} == set(account.of("heard").values())
    missed = sum(account.of("missed").values())
    print(f"\nCalls     {calls}")
    print(f"One-way   {sum(shop.packed.values())} of {ticks} orders packed: {shares}")
    print(f"Broadcast {ticks} ticks to {len(account.of('heard'))} boards, {missed} missed")
    problems = []
    if sum(shop.packed.values()) != ticks:
        problems.append("not every order was packed once")
    if not heard_by_all:
        problems.append("a board has not heard every tick")
    return problems


def main() -> None:
    """Run the demo; Ctrl-C leaves it. Exits with 1 if something was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.examples.orders",
        description="A shop takes orders by gRPC calls, has them packed one-way and broadcasts what it sells.",
    )
    for name, default in vars(Plan()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="(%(default)s)")
    plan = Plan(**vars(parser.parse_args()))
    result = None
    try:
        result = trio.run(demo, plan)
    except* KeyboardInterrupt:
        print("\nstopped")
    if result is None:
        sys.exit(130)
    problems = report(*result)
    if problems:
        sys.exit("; ".join(problems))


if __name__ == "__main__":
    main()
