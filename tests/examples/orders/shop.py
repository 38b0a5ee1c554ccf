"""The shop: serves customers, pushes their orders to workers, and broadcasts what it sells."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio
import trio
from google.protobuf.empty_pb2 import Empty

import trio_mq_grpc

from .desk_pb2 import Answer, Bid, Goods, Order, Parcel, Progress, Receipt, Stock, Tick
from .desk_pb2_grpc import (
    DispatchServicer,
    OrdersServicer,
    PackingStub,
    TickerStub,
    add_DispatchServicer_to_server,
    add_OrdersServicer_to_server,
)

Context = grpc.aio.ServicerContext[Any, Any]
PRICES = {"bread": 350, "cake": 2800, "roll": 90}
"""In cents."""


class Endpoints(NamedTuple):
    """Where the shop is bound."""

    calls: str
    packing: str
    dispatch: str
    ticker: str


TCP = Endpoints(*["tcp://127.0.0.1:0"] * 4)


class Shop(OrdersServicer, DispatchServicer):
    """An ordinary servicer of two services.

    Attributes:
        stock: what is there, by item.
        sold: orders taken, by item.
        packed: orders that were packed, by worker.
        calls: calls served, by method.
    """

    def __init__(self, packing: grpc.aio.Channel, ticker: trio_mq_grpc.BroadcastChannel) -> None:
        self.stock = Counter(bread=20, cake=20, roll=20)
        self.sold: Counter[str] = Counter()
        self.packed: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._packing = PackingStub(packing)
        self._ticker = TickerStub(ticker)
        self._listeners = ticker
        self._last = 0
        self._open: dict[int, trio.Event] = {}

    async def Place(self, request: Order, context: Context) -> Receipt:
        """Take an order: one request, one response."""
        self.calls["Place"] += 1
        item, quantity = request.item, request.quantity or 1
        if item not in PRICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"we do not sell {item!r}")
        if self.stock[item] < quantity:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"there are only {self.stock[item]} {item}s")
        self._last += 1
        number = self._last
        self._open[number] = trio.Event()
        self.stock[item] -= quantity
        self.sold[item] += quantity
        # Each is queued and not answered. The first waits while no worker has time; the second never does.
        await self._packing.Pack(Order(number=number, item=item, quantity=quantity))
        await self._ticker.Tell(Tick(item=item, sold=self.sold[item], left=self.stock[item]))
        return Receipt(number=number)

    async def Track(self, request: Receipt, context: Context) -> AsyncIterator[Progress]:
        """Tell what becomes of an order: a stream of responses."""
        self.calls["Track"] += 1
        packed = self._open.get(request.number)
        if packed is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no order {request.number}")
        yield Progress(step="taken")
        assert packed is not None
        await packed.wait()
        yield Progress(step="packed")

    async def Restock(self, request_iterator: AsyncIterator[Goods], context: Context) -> Stock:
        """Take in goods: a stream of requests."""
        self.calls["Restock"] += 1
        async for goods in request_iterator:
            self.stock[goods.item] += goods.quantity
        return Stock(quantities=self.stock)

    async def Haggle(self, request_iterator: AsyncIterator[Bid], context: Context) -> AsyncIterator[Answer]:
        """Answer bids: a stream each way. One may bid a tenth below the price."""
        self.calls["Haggle"] += 1
        async for bid in request_iterator:
            lowest = PRICES.get(bid.item, 0) * 9 // 10
            yield Answer(accepted=bid.cents >= lowest, cents=max(lowest, bid.cents))

    async def Packed(self, request: Parcel, context: Context) -> Empty:
        """Hear from a worker, who does not wait for the answer."""
        self.packed[request.worker] += 1
        self._open[request.number].set()
        return Empty()

    async def wait_boards(self, count: int) -> None:
        """Return when *count* boards are listening."""
        await self._listeners.wait_subscribed("/desk.v1.Ticker/Tell", count)

    async def wait_packed(self) -> None:
        """Return when every order that was taken is packed."""
        for packed in list(self._open.values()):
            await packed.wait()


@asynccontextmanager
async def open_shop(bind: Endpoints = TCP) -> AsyncIterator[tuple[Shop, Endpoints]]:
    """A shop in operation, and where it really is bound."""
    async with (
        trio_mq_grpc.oneway_channel(bind.packing, bind=True) as packing,
        trio_mq_grpc.broadcast_channel(bind.ticker, bind=True) as ticker,
    ):
        shop, server = Shop(packing, ticker), trio_mq_grpc.server()
        add_OrdersServicer_to_server(shop, server)
        add_DispatchServicer_to_server(shop, server)
        calls = server.add_insecure_port(bind.calls)
        dispatch = server.add_oneway_port(bind.dispatch)
        async with server:
            yield (
                shop,
                Endpoints(
                    bind.calls.replace(":0", f":{calls}"),
                    packing.endpoints[0],
                    bind.dispatch.replace(":0", f":{dispatch}"),
                    ticker.endpoints[0],
                ),
            )
