"""Fixtures of the interop suite: peer processes on loan, endpoints, and a deadline for every test."""

from __future__ import annotations

import contextlib
import functools
import inspect
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ._process import Peer, Pool, require

HERE = Path(__file__).parent

TEST_DEADLINE = 30.0
"""Seconds after which a test has failed, whatever it waits for: a hang is a finding, not a stalled suite."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function) or HERE not in item.path.parents:
            continue
        if inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)
        if "start_peer" in item.fixturenames:
            item.add_marker(pytest.mark.peer("pyomq" if "pyomq" in item.fixturenames else "zmq"))


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        with trio.fail_after(TEST_DEADLINE):
            await test(*args, **kwargs)

    return bounded


@pytest.fixture(scope="session")
def peer_pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@pytest.fixture
def start_peer(peer_pool: Pool) -> Iterator[Callable[[str], Peer]]:
    """``start_peer("pyzmq")`` lends a process until the end of the test; call it again for another one."""
    lent: list[Peer] = []

    def start(library: str) -> Peer:
        require(library)
        lent.append(peer_pool.lend(library))
        return lent[-1]

    yield start
    with contextlib.ExitStack() as stack:
        for peer in lent:
            stack.callback(peer_pool.take_back, peer)


@pytest.fixture
def pyzmq(start_peer: Callable[[str], Peer]) -> Peer:
    """A process with libzmq, driven through pyzmq."""
    return start_peer("pyzmq")


@pytest.fixture
def pyomq(start_peer: Callable[[str], Peer]) -> Peer:
    """A process with pyomq."""
    return start_peer("pyomq")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room below the 107 bytes that an ipc endpoint may have."""
    directory = Path(tempfile.mkdtemp(prefix="trio_mq-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def endpoint_of(short_path: Path) -> Callable[[str], str]:
    """``endpoint_of("ipc")``: an endpoint of that transport to bind to, used by nobody else."""
    return {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{short_path}/socket"}.__getitem__
