"""A worker of the pool: packs what the shop pushes to it, until its standard input ends; then it finishes what it has.

python -m tests.examples.orders.worker NAME --packing ENDPOINT --dispatch ENDPOINT
"""

from __future__ import annotations

import argparse
from typing import Any

import grpc.aio
import trio
from google.protobuf.empty_pb2 import Empty

import trio_mq_grpc

from .desk_pb2 import Order, Parcel
from .desk_pb2_grpc import DispatchStub, PackingServicer, add_PackingServicer_to_server
from .lines import tell, wait_input_ended


class Worker(PackingServicer):
    """An ordinary servicer. What it returns is ignored, because it was called one-way."""

    def __init__(self, name: str, seconds: float, dispatch: grpc.aio.Channel) -> None:
        self.name = name
        self.packed = 0
        self._seconds = seconds
        self._dispatch = DispatchStub(dispatch)

    async def Pack(self, request: Order, context: grpc.aio.ServicerContext[Any, Any]) -> Empty:
        """Pack an order, and say so."""
        await trio.sleep(self._seconds)
        self.packed += 1
        await self._dispatch.Packed(Parcel(number=request.number, worker=self.name))
        return Empty()


async def work(
    name: str,
    packing: str,
    dispatch: str,
    *,
    seconds: float,
    hands: int = 2,
    task_status: trio.TaskStatus[trio_mq_grpc.Server] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Work until the server is stopped, on at most *hands* orders at once. Returns how many were packed."""
    async with trio_mq_grpc.oneway_channel(dispatch) as channel:
        worker, server = Worker(name, seconds, channel), trio_mq_grpc.server()
        add_PackingServicer_to_server(worker, server)
        server.add_oneway_port(packing, bind=False, concurrency=hands)
        async with server:
            task_status.started(server)
            await server.wait_for_termination()
    return worker.packed


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--packing", required=True)
    parser.add_argument("--dispatch", required=True)
    parser.add_argument("--seconds", type=float, default=0.02)
    given = parser.parse_args()
    async with trio.open_nursery() as nursery:

        async def leave(server: trio_mq_grpc.Server) -> None:
            await wait_input_ended()
            await server.stop(grace=5)

        async def run(*, task_status: trio.TaskStatus[trio_mq_grpc.Server]) -> None:  # noqa: ASYNC128  # `serve` says when
            packed = await work(
                given.name, given.packing, given.dispatch, seconds=given.seconds, task_status=task_status
            )
            tell(f"has packed {packed} orders and leaves", packed=packed)

        server = await nursery.start(run)
        tell("is there")
        nursery.start_soon(leave, server)


if __name__ == "__main__":
    trio.run(main)
