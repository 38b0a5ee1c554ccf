"""Publishes numbers as fast as it may until it is killed: ``python -m tests.grpc._ticking ENDPOINT``."""

from __future__ import annotations

import itertools
import sys

import trio
from google.protobuf.wrappers_pb2 import Int64Value

import trio_mq_grpc


async def main(endpoint: str) -> None:
    async with trio_mq_grpc.EventPublisher(endpoint, bind=True) as publisher:
        await publisher.wait_subscribed(Int64Value)
        for number in itertools.count():
            await publisher.publish(Int64Value(value=number))
            await trio.sleep(0.0005)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
