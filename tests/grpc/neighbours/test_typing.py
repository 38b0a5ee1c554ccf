"""A user's project under mypy --strict and pyright, with the stubs that mypy-protobuf makes of its services."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .._stubs import PROTOS

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ("mypy", "mypy_protobuf", "pyright", "grpc_tools")

SHOP = '''
"""A shop, as somebody may write it who types everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

import grpc
import grpc.aio
import trio

import orders_pb2
import orders_pb2_grpc
import trio_mq_grpc
import trio_mq_grpc.testing


class Shop(orders_pb2_grpc.OrdersServicer):
    async def Place(
        self, request: orders_pb2.Order, context: grpc.aio.ServicerContext[Any, Any]
    ) -> orders_pb2.Receipt:
        if not request.id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "which one?")
        return orders_pb2.Receipt(id=request.id)

    async def Watch(
        self, request: orders_pb2.Order, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[orders_pb2.Receipt]:
        yield orders_pb2.Receipt(id=request.id)

    async def Upload(
        self, request_iterator: AsyncIterator[orders_pb2.Order], context: grpc.aio.ServicerContext[Any, Any]
    ) -> orders_pb2.Receipt:
        return orders_pb2.Receipt(total=len([order async for order in request_iterator]))

    async def Haggle(
        self, request_iterator: AsyncIterator[orders_pb2.Order], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[orders_pb2.Receipt]:
        async for order in request_iterator:
            yield orders_pb2.Receipt(id=order.id)

    async def Forget(self, request: orders_pb2.Order, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        ...


async def serve() -> None:
    server = trio_mq_grpc.server(maximum_concurrent_rpcs=100, options=[("grpc.max_receive_message_length", 1 << 20)])
    orders_pb2_grpc.add_OrdersServicer_to_server(Shop(), server)
    port = server.add_insecure_port("tcp://127.0.0.1:0")
    assert_type(port, int)
    async with server:
        await server.wait_for_termination()


async def shop_with(channel: grpc.aio.Channel) -> None:
    stub = orders_pb2_grpc.OrdersStub(channel)
    receipt = await stub.Place(orders_pb2.Order(id="a"), timeout=1, metadata=(("key", "value"),))
    assert_type(receipt, orders_pb2.Receipt)
    async for message in stub.Watch(orders_pb2.Order()):
        assert_type(message, orders_pb2.Receipt)
    total = await stub.Upload(iter([orders_pb2.Order()]))
    assert_type(total, orders_pb2.Receipt)
    call = stub.Haggle()
    await call.write(orders_pb2.Order())
    await call.done_writing()
    assert_type(await call.code(), grpc.StatusCode)


async def shop() -> None:
    async with trio_mq_grpc.insecure_channel("tcp://127.0.0.1:5555") as channel:
        await shop_with(channel)
        try:
            await channel.channel_ready()
        except grpc.RpcError:
            await channel.close(1)
    async with trio_mq_grpc.testing.channel_for(Shop()) as inproc:
        await shop_with(inproc)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(shop)
'''

MISTAKES = """
from __future__ import annotations

import orders_pb2
import orders_pb2_grpc
import trio_mq_grpc


async def shop() -> None:
    async with trio_mq_grpc.insecure_channel("tcp://127.0.0.1:5555") as channel:
        stub = orders_pb2_grpc.OrdersStub(channel)
        receipt = await stub.Place("an order")
        receipt.nonsense
        trio_mq_grpc.server().add_insecure_port(5555)
"""

missing = [name for name in TOOLS if not importlib.util.find_spec(name)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"{missing} belong to the dependency group dev")


@pytest.fixture(params=["only_async", "default"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the messages' and the services' stubs, of either flavour."""
    flavour = "" if request.param == "default" else f"{request.param}:"
    outs = [f"--mypy_out=quiet:{tmp_path}", f"--mypy_grpc_out={flavour}{tmp_path}"]
    # The plug-ins lie beside the Python that they belong to.
    paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    program = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outs, "orders.proto"]
    subprocess.run(program, cwd=PROTOS, check=True, env={**os.environ, **paths}, capture_output=True)
    return tmp_path


def mypy(project: Path, text: str) -> subprocess.CompletedProcess[str]:
    (project / "shop.py").write_text(text)
    paths = os.pathsep.join([str(project), str(ROOT), str(ROOT / "adapters")])
    # Silent, as for packages that are installed: what mypy thinks of our own code is another step's business.
    program = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "shop.py"]
    return subprocess.run(
        program, cwd=project, env={**os.environ, "MYPYPATH": paths}, capture_output=True, text=True, check=False
    )


def pyright(project: Path, text: str) -> subprocess.CompletedProcess[str]:
    (project / "shop.py").write_text(text)
    paths = ", ".join(f'"{path}"' for path in (project, ROOT, ROOT / "adapters"))
    config = f'{{"extraPaths": [{paths}], "typeCheckingMode": "standard", "include": ["shop.py"]}}'
    (project / "pyrightconfig.json").write_text(config)
    program = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    return subprocess.run(program, cwd=project, capture_output=True, text=True, check=False)


def test_mypy_strict_has_nothing_to_say(project: Path) -> None:
    ran = mypy(project, SHOP)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_mypy_sees_mistakes(project: Path) -> None:
    ran = mypy(project, MISTAKES)
    lines = {line.split(":")[1] for line in ran.stdout.splitlines() if "error:" in line}
    assert lines == {"12", "13", "14"}, ran.stdout


def test_pyright_has_no_errors(project: Path) -> None:
    ran = pyright(project, SHOP)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_pyright_sees_mistakes(project: Path) -> None:
    ran = pyright(project, MISTAKES)
    for line in ("12", "13", "14"):
        assert f"shop.py:{line}:" in ran.stdout, ran.stdout
