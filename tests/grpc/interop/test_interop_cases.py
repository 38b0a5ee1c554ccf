"""gRPC's interop cases between our own ends: of each generation of generated code, over each transport."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from .._kit import ends, usable_generators
from .._stubs import load
from ..interop_service import interop_servicer
from ._cases import CASES

ROOT = Path(__file__).resolve().parents[3]
NEWEST = usable_generators()[-1]
PAIRS = [(version, "tcp") for version in usable_generators()] + [(NEWEST, "ipc"), (NEWEST, "inproc")]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("version", "transport"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def test_an_official_interop_case_passes(name: str, version: str, transport: str) -> None:
    stubs = load(version)
    service = (stubs.interop_grpc.add_TestServiceServicer_to_server, interop_servicer(stubs, trio.sleep))
    async with ends(service, stubs=stubs, transport=transport) as both:
        await CASES[name](stubs, both.channel)


@pytest.mark.parametrize("client", usable_generators())
@pytest.mark.parametrize("server", usable_generators())
async def test_client_and_server_may_be_generated_by_different_versions(client: str, server: str) -> None:
    theirs = load(server)
    service = (theirs.interop_grpc.add_TestServiceServicer_to_server, interop_servicer(theirs, trio.sleep))
    async with ends(service, stubs=theirs) as both:
        for name in ("empty_unary", "ping_pong", "client_streaming", "server_streaming"):
            await CASES[name](load(client), both.channel)


async def test_the_cases_run_side_by_side_on_one_channel() -> None:
    stubs = load(NEWEST)
    service = (stubs.interop_grpc.add_TestServiceServicer_to_server, interop_servicer(stubs, trio.sleep))
    async with ends(service, stubs=stubs) as both, trio.open_nursery() as nursery:
        for each in CASES.values():
            nursery.start_soon(each, stubs, both.channel)


async def test_channel_soak() -> None:
    """A channel for each call, a hundred times, against one server."""
    import trio_mq_grpc

    stubs = load(NEWEST)
    service = (stubs.interop_grpc.add_TestServiceServicer_to_server, interop_servicer(stubs, trio.sleep))
    async with ends(service, stubs=stubs) as both:
        for _ in range(100):
            async with trio_mq_grpc.insecure_channel(both.target) as channel:
                await CASES["large_unary"](stubs, channel)


def test_the_cases_and_their_servicer_pass_on_grpc_aio() -> None:
    """The judge is judged: what fails above fails because of us."""
    program = [sys.executable, "-W", "error", "-m", "tests.grpc.interop._on_grpc_aio", *usable_generators()]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
