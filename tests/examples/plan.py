"""How large the play is that the gateway is put through, and what brings its game servers to life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

Fate: TypeAlias = Literal["stays", "leaves", "dies"]


@dataclass(frozen=True)
class Group:
    """Game servers that live in one place and share its fate; *plain* ones are written in pyzmq."""

    size: int
    fate: Fate = "stays"
    plain: bool = False


@dataclass(frozen=True)
class Plan:
    """How large the play is.

    Attributes:
        players: how many ask; the *early* ones do before any server is there.
        work: seconds a server works on one request.
        patience: seconds a player waits for one answer. A request that was lost with its server occupies its player
            for that long.
        hold: seconds of each phase in which nobody comes or goes.
        opening, joining: the servers of the beginning, and those that join while the game runs.
        readers: of the scoreboard; True for one written in pyzmq.
    """

    players: int = 300
    early: int = 10
    work: float = 0.02
    patience: float = 2.0
    hold: float = 2.0
    opening: tuple[Group, ...] = (Group(1, plain=True), Group(5), Group(4, fate="leaves"))
    joining: tuple[Group, ...] = (Group(12), Group(12), Group(12), Group(4, fate="dies"))
    readers: tuple[bool, ...] = (True, False)

    def without_pyzmq(self) -> Plan:
        """The same play for trio_mq alone."""
        opening, joining = (
            tuple(replace(group, plain=False) for group in groups) for groups in (self.opening, self.joining)
        )
        return replace(self, opening=opening, joining=joining, readers=(False,) * len(self.readers))


class Host(Protocol):
    """Where the servers of one group live."""

    async def leave(self) -> None:
        """They finish what they have and leave; returns when they are gone."""

    async def kill(self) -> None:
        """They vanish with what they have; returns when they are gone."""


class Hosting(Protocol):
    """Brings servers and scoreboard readers to life."""

    async def open(self, names: Sequence[str], *, plain: bool) -> Host:
        """Servers of these names, in one place."""

    async def follow(self, *, plain: bool) -> dict[str, object]:
        """Follow the scoreboard to its end, and tell what was seen."""
