"""The play that the gateway is put through: servers join, more join, some leave, some are killed, and it never stops.

It is written once and performed by whatever the `Hosting` brings to life: processes in the demo (`processes.py`), tasks
in one of the tests.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import trio

from .gateway import Gateway
from .ledger import Phase
from .plan import Fate, Group, Host, Hosting, Plan


@dataclass
class Summary:
    """What came of it.

    Attributes:
        phases: all of them, in order.
        asked, answered: requests sent, and those answered, by server.
        repeated: answers that came twice.
        lost: requests that were never answered.
        lost_by_the_living: those among them that had gone to a server which was there to the end.
        dropped: those among them that were still queued in the gateway, by server and reason.
        gone: how each server went that did.
        published, readers: scoreboard updates, and what the readers saw of them.
    """

    phases: list[Phase]
    asked: int
    answered: Counter[str]
    repeated: int
    lost: int
    lost_by_the_living: int
    dropped: Counter[tuple[str, str]]
    gone: dict[str, str]
    published: int = 0
    readers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def settled(self) -> list[Phase]:
        """The phases in which the same servers were there all the time."""
        return [phase for phase in self.phases if phase.servers is not None]


@dataclass
class _Cast:
    group: Group
    names: list[str]
    host: Host


class Play:
    """One performance of *plan*."""

    def __init__(self, plan: Plan, gateway: Gateway, hosting: Hosting) -> None:
        self._plan = plan
        self._gateway = gateway
        self._hosting = hosting
        self._numbers = itertools.count(1)
        self._there: list[_Cast] = []
        self._gone: dict[str, str] = {}
        self._readers: list[dict[str, Any]] = []
        self._over = False

    async def perform(self) -> Summary:
        """The whole play, from the first reader of the scoreboard to the last."""
        scoreboard = self._gateway.scoreboard
        async with trio.open_nursery() as reading:
            for plain in self._plan.readers:
                reading.start_soon(self._read, plain)
            await scoreboard.wait_readers(len(self._plan.readers))
            async with trio.open_nursery() as publishing:
                publishing.start_soon(scoreboard.publish)
                await self._game()
                publishing.cancel_scope.cancel()
            await scoreboard.end()
        summary = self._closed_books()
        async with trio.open_nursery() as leaving:
            for cast in self._there:
                leaving.start_soon(cast.host.leave)
        return summary

    async def _read(self, plain: bool) -> None:
        seen = await self._hosting.follow(plain=plain)
        self._readers.append({"reader": "pyzmq" if plain else "trio_mq", **seen})

    async def _game(self) -> None:
        plan = self._plan
        async with trio.open_nursery() as players:
            self._begin("no server yet, requests wait")
            for number in range(plan.early):
                players.start_soon(self._play, f"player-{number + 1}")
            await trio.sleep(plan.hold / 4)
            await self._open(plan.opening)
            for number in range(plan.early, plan.players):
                players.start_soon(self._play, f"player-{number + 1}")
            await self._hold()
            await self._open(plan.joining)
            await self._hold()
            await self._dismiss("leaves")
            await self._dismiss("dies")
            await self._hold()
            self._begin("the last answers come in")
            self._over = True
        self._gateway.ledger.finish(trio.current_time())

    async def _play(self, player: str) -> None:
        while not self._over:
            await self._gateway.ask(player)

    def _begin(self, name: str, *, servers: int | None = None) -> None:
        self._gateway.ledger.begin(name, trio.current_time(), servers=servers)

    async def _hold(self) -> None:
        """Let the game run with those who are there."""
        count = self._count()
        self._begin(f"{count} servers", servers=count)
        await trio.sleep(self._plan.hold)

    def _count(self) -> int:
        return sum(cast.group.size for cast in self._there)

    async def _open(self, groups: tuple[Group, ...]) -> None:
        """The servers of *groups* join."""
        self._begin(f"{sum(group.size for group in groups)} servers join")
        async with trio.open_nursery() as nursery:
            for group in groups:
                nursery.start_soon(self._open_one, group, [self._name(group) for _ in range(group.size)])
        await self._gateway.roster.wait_size(self._count())

    async def _open_one(self, group: Group, names: list[str]) -> None:
        self._there.append(_Cast(group, names, await self._hosting.open(names, plain=group.plain)))

    def _name(self, group: Group) -> str:
        return f"{'pyzmq' if group.plain else 'game'}-{next(self._numbers):02}"

    async def _dismiss(self, fate: Fate) -> None:
        """Those whose fate it is go."""
        going = [cast for cast in self._there if cast.group.fate == fate]
        self._there = [cast for cast in self._there if cast.group.fate != fate]
        verb = "leave" if fate == "leaves" else "are killed"
        self._begin(f"{sum(cast.group.size for cast in going)} servers {verb}")
        for cast in going:
            await (cast.host.leave() if fate == "leaves" else cast.host.kill())
            self._gone.update(dict.fromkeys(cast.names, "left" if fate == "leaves" else "killed"))
        await self._gateway.roster.wait_size(self._count())

    def _closed_books(self) -> Summary:
        gateway, ledger = self._gateway, self._gateway.ledger
        answered_by_the_living = sum(ledger.answered[name] for cast in self._there for name in cast.names)
        return Summary(
            phases=ledger.phases,
            asked=ledger.asked,
            answered=ledger.answered,
            repeated=ledger.repeated,
            lost=len(ledger.open),
            lost_by_the_living=gateway.sent_to_the_present() - answered_by_the_living,
            dropped=gateway.roster.dropped,
            gone=self._gone,
            published=gateway.scoreboard.published,
            readers=self._readers,
        )
