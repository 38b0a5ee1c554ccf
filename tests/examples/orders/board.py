"""A board that shows what the shop sells, as it hears it; until its standard input ends.

python -m tests.examples.orders.board --ticker ENDPOINT
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import grpc.aio
import trio
from google.protobuf.empty_pb2 import Empty

import trio_mq_grpc

from .desk_pb2 import Tick
from .desk_pb2_grpc import TickerServicer, add_TickerServicer_to_server
from .lines import tell, wait_input_ended

SHOWN_EVERY = 100
"""Ticks."""


class Board(TickerServicer):
    """An ordinary servicer, called by broadcast."""

    def __init__(self) -> None:
        self.sold: Counter[str] = Counter()
        self.heard = 0

    async def Tell(self, request: Tick, context: grpc.aio.ServicerContext[Any, Any]) -> Empty:
        """Take note of a tick, and show the board now and then."""
        self.sold[request.item] = request.sold
        self.heard += 1
        if self.heard % SHOWN_EVERY == 0:
            tell(f"shows {self}")
        return Empty()

    def __str__(self) -> str:
        return ", ".join(f"{count} {item}" for item, count in sorted(self.sold.items()))


def listening(ticker: str) -> tuple[Board, trio_mq_grpc.Server, trio_mq_grpc.Subscription]:
    """A board, its server, and the subscription that counts what it hears."""
    board, server = Board(), trio_mq_grpc.server()
    add_TickerServicer_to_server(board, server)
    return board, server, server.subscribe(ticker)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticker", required=True)
    _, server, subscription = listening(parser.parse_args().ticker)
    async with server:
        tell("listens")
        await wait_input_ended()
    figures = subscription.statistics()
    tell(f"heard {figures.done} ticks and missed {figures.missed}", heard=figures.done, missed=figures.missed)


if __name__ == "__main__":
    trio.run(main)
