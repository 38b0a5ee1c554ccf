"""The benchmarks of calls: their floors, when they are left out, and a floor on the subject's own figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import _libraries
from tests.benchmarks._conduct import conduct
from tests.benchmarks._figures import RowResult, Spread, missed_floors, verdicts
from tests.benchmarks._outcome import Outcome
from tests.benchmarks._report import WIDTH, as_json, render_row, render_summary
from tests.benchmarks._rows import ROWS
from tests.benchmarks._rpc_rows import RPC_ROWS
from tests.benchmarks._scenario import Bound, Contestant, Pattern, Row, Scenario, contestant

ROOT = Path(__file__).resolve().parents[2]
KIB = 1024


def open_calls(memory: float | None) -> Outcome:
    return Outcome(messages=10_000, seconds=0.5, cpu_seconds=1.0, memory=memory)


def memory_row() -> Row:
    scenario = Scenario(pattern="open-calls", in_flight=10_000)
    return Row(
        name="row",
        title="A row",
        contestants=(Contestant(library="bare trio", scenario=scenario, label="ours"),),
        quantity="memory",
        floors=(Bound(against=None, limit=12 * KIB),),
        targets=(Bound(against=None, limit=5 * KIB),),
    )


def result_of(*memories: float) -> RowResult:
    return RowResult(row=memory_row(), outcomes={"ours": [open_calls(memory) for memory in memories]})


# --- a bound against nobody -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "met"), [(12.1 * KIB, False), (12 * KIB, True), (4 * KIB, True)])
def test_a_bound_against_nobody_is_on_the_subjects_own_median(memory: float, met: bool) -> None:
    floor, _ = verdicts(result_of(memory, 90 * KIB, 1 * KIB))
    assert floor.ratio == Spread(memory, 1 * KIB, 90 * KIB)
    assert floor.met is met


def test_a_bound_against_nobody_is_missed_when_the_subject_failed() -> None:
    result = RowResult(row=memory_row(), outcomes={"ours": [open_calls(1.0)]}, failures={"ours": "hung"})
    assert [verdict.met for _, verdict in missed_floors([result])] == [None]


def test_memory_is_printed_in_kib_with_its_bounds_on_the_subjects_line() -> None:
    _, ours = render_row(result_of(6.25 * KIB)).splitlines()
    assert ours.split() == "ours 6.2 KiB 6.2 KiB .. 6.2 KiB 100.00 ≤ 12K met ≤ 5K 80%".split()


def test_the_summary_names_a_missed_floor_that_is_against_nobody() -> None:
    lines = render_summary([result_of(13 * KIB)]).splitlines()
    assert lines[1].strip() == "MISSED row: 13.0 KiB, at most 12.0 KiB"


def test_the_json_has_the_bound_in_bytes() -> None:
    (row,) = as_json([result_of(6 * KIB)], {}, rounds=1, full=False)["rows"]
    floor = row["bounds"][0]
    assert (floor["against"], floor["at_most"], floor["met"]) == (None, 12 * KIB, True)


# --- left out ---------------------------------------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    def is_there(module: str) -> bool:
        return module not in modules

    monkeypatch.setattr(_libraries, "_is_there", is_there)


def test_rows_whose_subject_is_not_installed_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "grpc")
    assert command._leave_out([*ROWS, *RPC_ROWS]) == list(ROWS)
    text = capsys.readouterr().out
    assert "left out, for want of grpc: rpc-unary-64" in text
    assert all(row.name in text for row in RPC_ROWS)


def test_nothing_is_left_out_when_all_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch)
    assert command._leave_out(RPC_ROWS) == list(RPC_ROWS)
    assert capsys.readouterr().out == ""


def test_a_command_whose_rows_are_all_left_out_fails_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, "grpc")
    path = tmp_path / "results.json"
    assert command.main(["--rows", "rpc-unary-64", "--json", str(path)]) == 2
    assert not path.exists()


def test_a_library_whose_package_is_not_there_at_all_is_missing() -> None:
    assert _libraries._is_there("google_that_is_not_there.protobuf") is False
    assert _libraries._is_there("trio") is True


def test_the_command_imports_neither_grpc_nor_protobuf() -> None:
    code = "import sys, tests.benchmarks.__main__; print([m for m in ('grpc', 'google.protobuf') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# --- one run ----------------------------------------------------------------------------------------------------------


@pytest.mark.peer("grpc", "trio_mq_grpc")
@pytest.mark.parametrize("pattern", ["unary", "server-stream", "bidi"])
async def test_calls_are_counted_at_the_client_and_cost_both_ends(pattern: Pattern) -> None:
    outcome = await conduct(contestant("trio_mq_grpc", Scenario(pattern=pattern, in_flight=4, seconds=0.02)))
    assert outcome.messages > 4
    assert outcome.seconds > 0
    assert outcome.cpu_seconds > 0
    assert outcome.memory is None


@pytest.mark.peer("grpc", "trio_mq_grpc")
async def test_open_calls_are_as_many_as_asked_for_and_their_memory_is_measured() -> None:
    outcome = await conduct(contestant("trio_mq_grpc", Scenario(pattern="open-calls", in_flight=200)))
    assert outcome.messages == 200
    assert outcome.memory is not None
    assert outcome.memory > 0


@pytest.mark.peer("grpc", "trio_mq_grpc")
async def test_a_broadcast_reaches_every_subscriber() -> None:
    outcome = await conduct(
        contestant("trio_mq_grpc", Scenario(pattern="broadcast", subscribers=2, size=100, seconds=0.02))
    )
    assert outcome.messages > 2
    assert outcome.missing == 0


# --- the rows themselves ----------------------------------------------------------------------------------------------


def test_the_rows_of_calls_carry_the_floors_that_were_agreed() -> None:
    floors = {(row.name, bound.against): bound.limit for row in RPC_ROWS for bound in row.floors}
    assert floors == {
        ("rpc-unary-64", "grpc.aio"): 8,
        ("rpc-unary-64", "grpcio threads"): 8,
        ("rpc-unary-64", "grpclib"): 10,
        ("rpc-unary-64-timeout", "grpc.aio"): 5,
        ("rpc-unary-64-metadata", "grpc.aio"): 6,
        ("rpc-unary-1", "grpc.aio"): 0.45,
        ("rpc-unary-1", "grpcio threads"): 0.75,
        ("rpc-stream", "grpc.aio"): 15,
        ("rpc-stream", "grpclib"): 5,
        ("rpc-bidi", "grpc.aio"): 12,
        ("rpc-unary-1048576", "grpc.aio"): 2,
        ("rpc-plain-servicer", "grpcio threads"): 2,
        ("rpc-broadcast-8", "grpc.aio"): 3,
        ("rpc-open-calls", None): 12 * KIB,
    }


def test_the_short_set_is_the_rows_of_calls_with_floors_or_targets() -> None:
    assert [row.name for row in RPC_ROWS if row.short] == [row.name for row in RPC_ROWS if row.floors or row.targets]


def test_no_row_of_calls_has_the_name_of_another_row() -> None:
    assert len({row.name for row in ROWS + RPC_ROWS}) == len(ROWS) + len(RPC_ROWS)


def test_every_row_of_calls_fits_the_width() -> None:
    widest = Outcome(
        messages=99_990_000, seconds=9.0, cpu_seconds=9e5, p50=9.999e-3, p99=9.999e-3, memory=99.9 * KIB, missing=9
    )
    for row in RPC_ROWS:
        outcomes = {contestant.label: [widest] for contestant in row.field(full=True)}
        for line in render_row(RowResult(row=row, outcomes=outcomes)).splitlines():
            assert len(line) <= WIDTH
