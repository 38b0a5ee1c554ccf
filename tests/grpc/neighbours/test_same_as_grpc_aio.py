"""The same handler and the same client on grpc.aio and on trio_mq_grpc: they see the same.

Plays are made at random. Left out are the cases in which we differ on purpose: abort with OK, which hangs there, and
the texts of errors that grpcio itself raises.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trio_mq_grpc

from ._scripts import KINDS, Outcome, Play, Scripted, perform

ROOT = Path(__file__).resolve().parents[3]

TEXT = st.text(max_size=20).filter(lambda text: "\0" not in text)
FAILURES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=10).map(str.strip)
ENTRY = st.one_of(
    st.tuples(st.sampled_from(["x-a", "x-b", "x-c_1.2"]), ASCII), st.tuples(st.sampled_from(["x-a-bin"]), TEXT)
)
METADATA = st.lists(ENTRY.map(list), max_size=3)

STEP = st.one_of(
    st.tuples(st.just("send"), TEXT),
    st.tuples(st.just("send"), TEXT),
    st.tuples(st.just("read")),
    st.tuples(st.just("initial"), METADATA),
    st.tuples(st.just("trailing"), METADATA),
    st.tuples(st.just("code"), st.sampled_from([*FAILURES, "OK"])),
    st.tuples(st.just("details"), TEXT),
    st.tuples(st.just("abort"), st.sampled_from(FAILURES), TEXT, METADATA),
    st.tuples(st.just("swallowed abort"), st.sampled_from(FAILURES), TEXT),
    st.tuples(st.just("fail"), TEXT),
)
PLAY = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "style": st.sampled_from(["yield", "write"]),
        "steps": st.lists(STEP.map(list), max_size=6),
        "requests": st.lists(TEXT, min_size=1, max_size=3),
        "metadata": METADATA,
    }
)


class RealThing:
    """A process with grpc.aio that performs plays."""

    def __init__(self) -> None:
        program = [sys.executable, "-m", "tests.grpc.neighbours._scripts"]
        self._process = subprocess.Popen(
            program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def perform(self, play: Play) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(play) + "\n")
        self._process.stdin.flush()
        return cast("Outcome", json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture(scope="module")
def real_thing() -> Iterator[RealThing]:
    process = RealThing()
    yield process
    process.close()


def ours(play: Play) -> Outcome:
    async def main() -> Outcome:
        handler = Scripted()
        server = trio_mq_grpc.server(handlers=[handler])
        port = server.add_insecure_port("tcp://127.0.0.1:0")
        async with server, trio_mq_grpc.insecure_channel(f"tcp://127.0.0.1:{port}") as channel:
            return await perform(play, channel, handler)

    return trio.run(main)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(play=PLAY)
def test_whatever_a_handler_does_its_client_sees_the_same(play: Any, real_thing: RealThing) -> None:
    assert ours(play) == real_thing.perform(play)
