"""A gateway between players and game servers, the larger one of the examples that have no services.

    python -m tests.examples.gateway

Players' requests are PUSHed to whichever game servers are there, which PULL them; results come back the same way; a
scoreboard goes out over PUB-SUB. Servers come and go while the game runs, and the gateway never stops: see
`scenario.py` for the play, `game_server.py` and `pyzmq_game_server.py` for the other side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

import trio_mq
from trio_mq import events

from .ledger import Ledger
from .scoreboard import Scoreboard

# Few, so that a server which is slow to take its requests is passed over, and one that goes takes few along.
SEND_HWM = 20


class Endpoints(NamedTuple):
    """Where the gateway is bound."""

    requests: str
    results: str
    scoreboard: str


TCP = Endpoints("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


def name_of(peer: trio_mq.Peer) -> str:
    """What a game server calls itself, or its address."""
    return peer.properties.get("X-Server", peer.address)


class Roster:
    """Which game servers are there, as the monitor of the gateway's PUSH socket tells it.

    Attributes:
        present: the servers that are connected, by the name they tell, or by address (a pyzmq server cannot tell one).
        dropped: requests that were still queued here for a server when it went, by server and reason.
    """

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._changed = trio.Event()

    def note(self, event: events.Event) -> None:
        """Take account of *event*."""
        match event:
            case events.HandshakeSucceeded(peer=peer):
                self.present.add(name_of(peer))
            case events.Disconnected(peer=peer):
                self.present.discard(name_of(peer))
            case events.Dropped(peer=trio_mq.Peer() as peer, reason=reason, count=count):
                self.dropped[name_of(peer), reason] += count
            case _:
                return
        self._changed.set()
        self._changed = trio.Event()

    async def wait_size(self, count: int) -> None:
        """Return when exactly *count* servers are there."""
        while len(self.present) != count:
            await self._changed.wait()


class Gateway:
    """The gateway in operation; `open_gateway` gives one.

    Attributes:
        endpoints: where it is bound, with the real ports.
        ledger: account of every request.
        roster: the game servers that are there.
        scoreboard: points of the players.
        patience: seconds a player waits for the answer to one request before giving it up.
    """

    def __init__(self, endpoints: Endpoints, requests: trio_mq.Push, scoreboard: Scoreboard, patience: float) -> None:
        self.endpoints = endpoints
        self.ledger = Ledger()
        self.roster = Roster()
        self.scoreboard = scoreboard
        self.patience = patience
        self._requests = requests
        self._waiting: dict[int, tuple[str, trio.Event]] = {}

    async def ask(self, player: str) -> None:
        """Send a request of *player* to a game server and wait for the result, or until patience is at its end.

        While no server is there, or all have as much work as they may have, it waits in `send`.
        """
        number, answered = self.ledger.ask(), trio.Event()
        self._waiting[number] = player, answered
        await self._requests.send_multipart([b"%d" % number, player.encode()])
        with trio.move_on_after(self.patience):
            await answered.wait()
        self._waiting.pop(number, None)

    async def collect(self, results: trio_mq.Pull) -> None:
        """Take in results until cancelled."""
        async for frames in results.multiparts():
            match frames:
                case [server, number, points] if number.isdigit() and points.isdigit():
                    self.ledger.answer(int(number), server.decode())
                    self._tell(int(number), int(points))

    def _tell(self, number: int, points: int) -> None:
        if number in self._waiting:
            player, answered = self._waiting.pop(number)
            self.scoreboard.points[player] += points
            answered.set()

    async def watch(self) -> None:
        """Keep the roster until cancelled."""
        async with self._requests.monitor() as happenings:
            async for event in happenings:
                self.roster.note(event)

    def sent_to_the_present(self) -> int:
        """How many requests went to the servers that are connected now."""
        return sum(peer.sent for peer in self._requests.statistics().peers if peer.state == "ready")


@asynccontextmanager
async def open_gateway(bind: Endpoints = TCP, *, patience: float = 3.0) -> AsyncIterator[Gateway]:
    """A gateway bound to *bind*, in operation until the block is left."""
    async with (
        trio_mq.Push(options=trio_mq.Options(send_hwm=SEND_HWM)) as requests,
        trio_mq.Pull() as results,
        trio_mq.Pub() as pub,
        trio.open_nursery() as nursery,
    ):
        endpoints = Endpoints(
            await requests.bind(bind.requests), await results.bind(bind.results), await pub.bind(bind.scoreboard)
        )
        gateway = Gateway(endpoints, requests, Scoreboard(pub), patience)
        nursery.start_soon(gateway.watch)
        nursery.start_soon(gateway.collect, results)
        yield gateway
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    from .demo import main

    main()
