"""What every suite may use: endpoints to bind, and the rules for real peers and for gRPC.

A test that needs a real ZeroMQ peer is marked ``@pytest.mark.peer("zmq")`` with the modules it needs (a module of tests
may call ``pytest.importorskip("zmq")`` instead). Where a module is missing the test is skipped, and pytest's summary
says so; where the environment has promised that all peers are there (``TRIO_MQ_REQUIRE_PEERS=1``, as `.ci/run` does),
such a skip is a failure: a suite that judges nothing must not look green.

trio_mq_grpc is optional as a whole, so `tests/grpc` is skipped as a whole where the extra `grpc` is not installed, with
one line that says so; the same promise makes that a failure, too.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TRANSPORTS = ("tcp", "ipc", "inproc")

# On a busy machine the time of one example says nothing. Where CI=true, hypothesis has already made its choices
# reproducible; this profile inherits that.
settings.register_profile("trio_mq", settings.default, deadline=None)
settings.load_profile("trio_mq")

# Whoever runs us in the background of a shell has Ctrl-C ignored, by us and by every process that we start; tests of it
# would find that nothing happens.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- endpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn; a test that only some fit parametrizes ``transport`` itself."""
    return str(request.param)


@pytest.fixture
def endpoint_for() -> Iterator[Callable[[str], str]]:
    """Makes endpoints of a transport, a new one at each call, that can be bound and dialled in either order.

    ``endpoint_for("tcp")`` gives a port that is free now, not a wildcard, because the end that dials may come first.
    """
    numbers = itertools.count(1)
    # Not tmp_path, which has the test's name in it: the path of an ipc endpoint may have some hundred bytes in all.
    folder = tempfile.mkdtemp(prefix="mq-")

    def make(transport: str) -> str:
        match transport:
            case "tcp":
                return f"tcp://127.0.0.1:{_free_port()}"
            case "ipc":
                if not hasattr(socket, "AF_UNIX"):
                    pytest.skip("this platform has no ipc")
                return f"ipc://{folder}/{next(numbers)}"
            case "inproc":
                return f"inproc://{Path(folder).name}/{next(numbers)}"
            case _:
                raise ValueError(f"{transport!r} is none of {TRANSPORTS}")

    try:
        yield make
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def endpoint(transport: str, endpoint_for: Callable[[str], str]) -> str:
    """One endpoint of each transport in turn."""
    return endpoint_for(transport)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- gRPC ------------------------------------------------------------------------------------------------------------

GRPC_TESTS = Path(__file__).resolve().parent / "grpc"
OF_THE_EXTRA = ("grpc", "google", "google.protobuf")
"""Modules that ``trio-mq[grpc]`` brings, each behind the package it lies in."""


class SkippedFolder(pytest.Directory):
    """In place of a folder whose modules cannot be imported here: one skip that says why, and no import."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        pytest.skip(f"tests/grpc: could not import {missing_of_the_extra()!r}; the extra grpc is not installed")


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if path == GRPC_TESTS and missing_of_the_extra():
        folder: pytest.Collector = SkippedFolder.from_parent(parent, path=path)
        return folder
    return None


def missing_of_the_extra() -> str | None:
    """The first module of the extra that is not installed."""
    return next((name for name in OF_THE_EXTRA if importlib.util.find_spec(name) is None), None)


# --- real peers ------------------------------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("peer"):
        for module in marker.args:
            pytest.importorskip(module)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _is_promised(item.get_closest_marker("peer"), report):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _is_promised(None, report):
        _fail(report)
    return report


def _is_promised(marker: pytest.Mark | None, report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Whether *report* skips something that this environment has promised to run."""
    if os.environ.get("TRIO_MQ_REQUIRE_PEERS") != "1":
        return False
    return marker is not None or "could not import" in str(report.longrepr)


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"TRIO_MQ_REQUIRE_PEERS=1 promises every peer, and this was skipped: {report.longrepr}"
