"""The interop cases and their servicer on grpc.aio: a program that shows that they judge what they mean to judge.

    python -m tests.grpc.interop._on_grpc_aio [VERSION OF GRPCIO-TOOLS ...]

It prints a line for each case that failed, and exits with their number.
"""

from __future__ import annotations

import asyncio
import sys
import traceback

import grpc

from .. import _stubs
from ..interop_service import interop_servicer
from ._cases import CASES


async def failures(version: str) -> int:
    stubs = _stubs.load(version)
    server = grpc.aio.server()
    stubs.interop_grpc.add_TestServiceServicer_to_server(interop_servicer(stubs, asyncio.sleep), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    failed = 0
    for name, case in CASES.items():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                await asyncio.wait_for(case(stubs, channel), 20)
            except (Exception, asyncio.CancelledError):  # noqa: ASYNC103, BLE001  # told, and counted
                failed += 1
                print(f"{name} with {stubs}")
                traceback.print_exc()
    await server.stop(None)
    return failed


async def main() -> int:
    return sum([await failures(version) for version in sys.argv[1:] or [_stubs.NEWEST]])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
