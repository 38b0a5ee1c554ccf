"""A customer: makes calls of all four kinds, and tells what they gave.

python -m tests.examples.orders.customer --calls ENDPOINT
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc.aio
import trio

import trio_mq_grpc

from .desk_pb2 import Bid, Goods, Order, Receipt
from .desk_pb2_grpc import OrdersStub
from .lines import tell
from .shop import PRICES

if TYPE_CHECKING:
    from .desk_pb2_grpc import (
        OrdersAsyncStub,
    )  # what an OrdersStub is to type checkers when its channel is asynchronous

AT_ONCE = 8
"""Orders under way."""


async def restock(stub: OrdersAsyncStub, each: int) -> None:
    """Bring goods: a stream of requests, one response."""

    def goods() -> Iterator[Goods]:
        for item in PRICES:
            yield from (Goods(item=item, quantity=1) for _ in range(each))

    stock = await stub.Restock(goods())
    tell(f"brought {each} of each; the shop has now {sum(stock.quantities.values())} things")


async def haggle(stub: OrdersAsyncStub, item: str) -> None:
    """Bid until it is accepted: a stream each way, where each bid depends on the answer before."""
    cents, bids = PRICES[item] // 2, 1
    call = stub.Haggle()
    await call.write(Bid(item=item, cents=cents))
    async for answer in call:
        if answer.accepted:
            await call.done_writing()
        else:
            cents, bids = (cents + answer.cents + 1) // 2, bids + 1
            await call.write(Bid(item=item, cents=cents))
    tell(f"gets a {item} for {cents / 100:.2f} after {bids} bids, instead of {PRICES[item] / 100:.2f}")


async def place(stub: OrdersAsyncStub, count: int) -> list[Receipt]:
    """Place orders, several at once: one request and one response each."""
    receipts: list[Receipt] = []
    refused: Counter[str] = Counter()
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(order: Order) -> None:
        async with limit:
            try:
                receipts.append(await stub.Place(order, timeout=10))
            except grpc.aio.AioRpcError as error:
                refused[f"{error.code().name}: {error.details()}"] += 1

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, Order(item=sorted(PRICES)[number % len(PRICES)], quantity=1))
        nursery.start_soon(one, Order(item="fish"))
    took = trio.current_time() - began
    tell(f"has placed {len(receipts)} orders in {took:.2f} s", placed=len(receipts))
    for reason, times in refused.items():
        tell(f"was refused {times} times: {reason}")
    return receipts


async def track(stub: OrdersAsyncStub, receipts: list[Receipt]) -> None:
    """Follow orders until they are packed: one request, a stream of responses."""

    async def one(receipt: Receipt) -> None:
        steps = [progress.step async for progress in stub.Track(receipt)]
        assert steps == ["taken", "packed"]

    async with trio.open_nursery() as nursery:
        for receipt in receipts:
            nursery.start_soon(one, receipt)
    tell(f"has seen {len(receipts)} orders from taken to packed", packed=len(receipts))


async def shop_at(calls: str, orders: int) -> None:
    """All of it, over one connection."""
    async with trio_mq_grpc.insecure_channel(calls) as channel:
        await channel.channel_ready()
        stub = OrdersStub(channel)
        await restock(stub, orders)
        await haggle(stub, "cake")
        receipts = await place(stub, orders)
        await track(stub, receipts)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", required=True)
    parser.add_argument("--orders", type=int, default=100)
    given = parser.parse_args()
    await shop_at(given.calls, given.orders)


if __name__ == "__main__":
    trio.run(main)
