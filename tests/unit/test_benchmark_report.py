"""The benchmarks' arithmetic and table: what counts as a figure, when a floor is missed, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO

import pytest
import trio

from tests.benchmarks._compare import compare
from tests.benchmarks._conduct import RunFailed, _last_words, conduct
from tests.benchmarks._figures import RowResult, Spread, missed_floors, ratios, spread, verdicts
from tests.benchmarks._outcome import Outcome
from tests.benchmarks._report import WIDTH, as_json, render_header, render_machine, render_row, render_summary
from tests.benchmarks._rows import ROWS
from tests.benchmarks._scenario import Bound, Contestant, Quantity, Row, Scenario

OURS, THEIRS = "trio_mq", "pyzmq"


def contestant(label: str, scenario: Scenario) -> Contestant:
    return Contestant(library=label, scenario=scenario, label=label)


def make_row(
    *,
    quantity: Quantity = "rate",
    floor: float | None = 1.0,
    target: float | None = 2.0,
    scenario: Scenario | None = None,
    note: str = "",
) -> Row:
    scenario = scenario or Scenario(pattern="req-rep" if quantity == "p50" else "push-pull")
    return Row(
        name="row",
        title="A row",
        contestants=(contestant(OURS, scenario), contestant(THEIRS, scenario)),
        more=(contestant("pyomq", scenario),),
        quantity=quantity,
        floors=() if floor is None else (Bound(against=THEIRS, limit=floor),),
        targets=() if target is None else (Bound(against=THEIRS, limit=target),),
        note=note,
    )


def run_at(rate: float, *, seconds: float = 1.0, cpu: float = 1.0, missing: int = 0) -> Outcome:
    return Outcome(messages=round(rate * seconds), seconds=seconds, cpu_seconds=cpu, missing=missing)


def trips_of(p50: float, p99: float = 1e-3) -> Outcome:
    return Outcome(messages=10_000, seconds=1.0, cpu_seconds=1.0, p50=p50, p99=p99)


def result_of(
    row: Row, ours: Sequence[Outcome], theirs: Sequence[Outcome], failures: Mapping[str, str] | None = None
) -> RowResult:
    return RowResult(row=row, outcomes={OURS: ours, THEIRS: theirs}, failures=failures or {})


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_figure_is_the_median_with_the_least_and_the_greatest() -> None:
    assert spread([3.0, 1.0, 9.0, 2.0, 4.0]) == Spread(3.0, 1.0, 9.0)


def test_nothing_measured_is_no_figure() -> None:
    assert spread([]) is None


def test_a_ratio_is_taken_within_each_round_and_not_between_medians() -> None:
    # Medians of 200 and 100 would give 2.0; round by round it is 0.5, 2.0, 4.0 … of a machine that changes its pace.
    ours = [run_at(100), run_at(200), run_at(900), run_at(200), run_at(50)]
    theirs = [run_at(200), run_at(100), run_at(100), run_at(50), run_at(100)]
    assert ratios(result_of(make_row(), ours, theirs), THEIRS) == Spread(2.0, 0.5, 9.0)
    assert ratios(result_of(make_row(), ours[:3], theirs[2:]), THEIRS) == Spread(4.0, 1.0, 9.0)


def test_a_rate_is_received_messages_by_the_receivers_own_seconds() -> None:
    outcome = Outcome(messages=3000, seconds=1.5, cpu_seconds=0.006)
    assert outcome.rate == 2000
    assert outcome.cpu_per_million == pytest.approx(2.0)


# --- floors and targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "met"), [(99, False), (100, True), (101, True)])
def test_a_floor_on_a_rate_is_met_from_its_limit_upwards(rate: int, met: bool) -> None:
    result = result_of(make_row(), [run_at(rate)], [run_at(100)])
    assert [verdict.met for verdict in verdicts(result) if verdict.kind == "floor"] == [met]


@pytest.mark.parametrize(("p50", "met"), [(1.3e-4, False), (1.2e-4, True), (0.5e-4, True)])
def test_a_floor_on_a_round_trip_is_met_from_its_limit_downwards(p50: float, met: bool) -> None:
    result = result_of(make_row(quantity="p50", floor=1.2), [trips_of(p50)], [trips_of(1e-4)])
    assert [verdict.met for verdict in verdicts(result) if verdict.kind == "floor"] == [met]


def test_time_a_message_takes_is_compared_the_other_way_round_than_its_rate() -> None:
    result = result_of(make_row(quantity="time", floor=1.2, target=None), [run_at(100)], [run_at(150)])
    (verdict,) = verdicts(result)
    assert verdict.ratio == Spread(1.5, 1.5, 1.5)
    assert verdict.met is False


def test_a_target_says_how_near_the_subject_came() -> None:
    rate = result_of(make_row(floor=None, target=2.0), [run_at(130)], [run_at(100)])
    trip = result_of(make_row(quantity="p50", floor=None, target=0.6), [trips_of(1.2e-4)], [trips_of(1e-4)])
    assert [verdict.nearness for verdict in verdicts(rate)] == [pytest.approx(0.65)]
    assert [verdict.nearness for verdict in verdicts(trip)] == [pytest.approx(0.5)]


def test_a_missed_target_is_no_missed_floor() -> None:
    result = result_of(make_row(), [run_at(150)], [run_at(100)])
    assert [verdict.met for verdict in verdicts(result)] == [True, False]
    assert missed_floors([result]) == []


def test_a_floor_is_missed_by_the_median_and_not_by_one_bad_round() -> None:
    theirs = [run_at(100)] * 3
    assert not missed_floors([result_of(make_row(), [run_at(10), run_at(110), run_at(120)], theirs)])
    assert missed_floors([result_of(make_row(), [run_at(10), run_at(99), run_at(120)], theirs)])


@pytest.mark.parametrize("failed", [OURS, THEIRS])
def test_a_floor_that_could_not_be_judged_counts_as_missed(failed: str) -> None:
    # Even with good rounds before: whoever hangs now and then would otherwise pass on its better days.
    result = result_of(make_row(), [run_at(300)], [run_at(100)], {failed: "no result within 60 s"})
    assert [verdict.met for verdict in verdicts(result)] == [None, None]
    assert [verdict.met for _, verdict in missed_floors([result])] == [None]


def test_a_bound_against_somebody_who_does_not_always_run_is_refused() -> None:
    row = make_row()
    with pytest.raises(ValueError, match="pyomq"):
        Row(name="row", title="", contestants=row.contestants, more=row.more, floors=(Bound(against="pyomq", limit=1),))


# --- the order of runs ------------------------------------------------------------------------------------------------


class Conductor:
    """Runs nothing and notes who would have run; those in *failing* fail."""

    def __init__(self, *failing: str) -> None:
        self.ran: list[str] = []
        self._failing = failing

    async def __call__(self, contestant: Contestant) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.ran.append(contestant.label)
        if contestant.label in self._failing:
            raise RunFailed("hung")
        return run_at(1000)


async def compare_by(conduct: Conductor, *, rounds: int, full: bool = True, absent: str = "") -> RowResult:
    def installed(library: str) -> str | None:
        return None if library == absent else "1.0"

    def watch(number: int, contestant: Contestant, outcome: Outcome | str) -> None:
        assert number < rounds

    return await compare(make_row(), rounds=rounds, full=full, conduct=conduct, watch=watch, installed=installed)


async def test_rounds_are_interleaved_and_reversed_every_second_time() -> None:
    conductor = Conductor()
    result = await compare_by(conductor, rounds=3)
    assert conductor.ran == [OURS, THEIRS, "pyomq", "pyomq", THEIRS, OURS, OURS, THEIRS, "pyomq"]
    assert {label: len(outcomes) for label, outcomes in result.outcomes.items()} == {OURS: 3, THEIRS: 3, "pyomq": 3}


async def test_the_short_set_leaves_out_who_has_no_bound() -> None:
    conductor = Conductor()
    await compare_by(conductor, rounds=1, full=False)
    assert conductor.ran == [OURS, THEIRS]


async def test_who_fails_does_not_run_again_and_the_others_go_on() -> None:
    conductor = Conductor(THEIRS)
    result = await compare_by(conductor, rounds=3)
    assert (conductor.ran.count(OURS), conductor.ran.count(THEIRS), conductor.ran.count("pyomq")) == (3, 1, 3)
    assert result.failures == {THEIRS: "hung"}


async def test_a_row_ends_when_its_subject_fails() -> None:
    conductor = Conductor(OURS)
    await compare_by(conductor, rounds=3)
    assert conductor.ran == [OURS]


async def test_a_library_that_is_not_installed_is_absent_and_never_run() -> None:
    conductor = Conductor()
    result = await compare_by(conductor, rounds=1, absent=THEIRS)
    assert conductor.ran == [OURS, "pyomq"]
    assert result.failures == {THEIRS: "absent"}


# --- one run ----------------------------------------------------------------------------------------------------------


async def test_a_run_that_hangs_ends_at_its_deadline_and_is_a_failure() -> None:
    with pytest.raises(RunFailed, match="no result within"):
        await conduct(contestant("bare trio", Scenario(pattern="req-rep")), deadline=0.01)


async def test_a_run_whose_process_crashes_fails_with_the_last_words() -> None:
    with pytest.raises(RunFailed, match="AttributeError"):
        await conduct(contestant("bare trio", Scenario(pattern="pub-sub")))


def test_a_traceback_that_was_cut_short_is_not_the_last_word() -> None:
    traceback = 'Traceback (most recent call last):\n  File "worker.py", line 45, in <module>\n    main()\n'
    for cut in range(len(traceback) + 1):
        errors = BytesIO(f"{traceback}ValueError: no\n{traceback[:cut]}".encode())
        assert _last_words(errors) == ": ValueError: no"


async def test_a_setting_that_is_not_there_fails_the_run() -> None:
    # A constant that was renamed would otherwise be measured as one that makes no difference.
    with pytest.raises(RunFailed, match="trio has no NOT_THERE"):
        await conduct(contestant("bare trio", Scenario(pattern="req-rep", settings=(("trio:NOT_THERE", 1),))))


async def test_round_trips_over_bare_trio_are_measured_in_both_processes() -> None:
    outcome = await conduct(contestant("bare trio", Scenario(pattern="req-rep", seconds=0.02)))
    assert outcome.messages > 10
    assert outcome.p50 is not None
    assert outcome.p99 is not None
    assert 0 < outcome.p50 <= outcome.p99 < 1
    assert outcome.cpu_seconds > 0


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_row_prints_figures_ratios_floors_and_targets() -> None:
    result = result_of(make_row(), [run_at(1_300_000, cpu=1.95)] * 3, [run_at(1_000_000, cpu=2.0)] * 3)
    title, ours, theirs = render_row(result).splitlines()
    assert title == "A row"
    assert ours.split() == "trio_mq 1.30 M 1.30 M .. 1.30 M 1.50".split()
    assert theirs.split() == "pyzmq 1.00 M 1.00 M .. 1.00 M 2.00 × 1.30 1.30 .. 1.30 ≥ 1 met ≥ 2 65%".split()


def test_a_missed_floor_is_written_in_capitals() -> None:
    text = render_row(result_of(make_row(), [run_at(800)], [run_at(1000)]))
    assert "≥ 1 MISSED" in text


def test_a_note_appears_only_when_a_target_is_missed() -> None:
    row = make_row(note="the kernel")
    assert "In the way: the kernel" in render_row(result_of(row, [run_at(1500)], [run_at(1000)]))
    assert "the kernel" not in render_row(result_of(row, [run_at(2500)], [run_at(1000)]))


def test_a_failed_contestant_has_its_reason_in_the_table() -> None:
    text = render_row(result_of(make_row(), [run_at(1000)], [], {THEIRS: "no result within 60 s: ValueError: x"}))
    assert "no result within 60 s: ValueError: x" in text
    assert "≥" not in text


def test_round_trips_print_their_p99() -> None:
    text = render_row(result_of(make_row(quantity="p50"), [trips_of(63e-6, 2e-4)], [trips_of(126e-6, 3e-4)]))
    assert "63 µs" in text
    assert "× 0.50" in text
    assert "p99 in µs: trio_mq 200; pyzmq 300" in text


def test_missing_messages_of_a_publisher_are_printed_even_when_there_are_none() -> None:
    row = make_row(scenario=Scenario(pattern="pub-sub"))
    text = render_row(result_of(row, [run_at(1000), run_at(1000)], [run_at(1000, missing=4), run_at(1000, missing=3)]))
    assert "messages missing, all rounds: trio_mq 0; pyzmq 7" in text


def test_large_messages_print_their_bytes_a_second() -> None:
    row = make_row(scenario=Scenario(pattern="push-pull", size=1_000_000))
    assert "MB/s: trio_mq 3,000; pyzmq 1,000" in render_row(result_of(row, [run_at(3000)], [run_at(1000)]))


def test_runs_that_were_too_short_are_named() -> None:
    assert "runs below 1 s: pyzmq 0.90 s" in render_row(
        result_of(make_row(), [run_at(1000)], [run_at(1000, seconds=0.9), run_at(1000)])
    )


def test_the_summary_names_every_missed_floor() -> None:
    good = result_of(make_row(), [run_at(3000)], [run_at(1000)])
    bad = result_of(make_row(floor=2.0), [run_at(1500)], [run_at(1000)])
    lines = render_summary([good, bad]).splitlines()
    assert lines[0] == "Floors: 1 of 2 met. Targets: 1 of 2 reached."
    assert [line.strip() for line in lines[1:]] == ["MISSED row: × 1.50, at least 2 × pyzmq"]


def test_every_row_fits_the_width() -> None:
    # The widest that can be: the longest labels with the longest figures.
    for row in ROWS:
        widest = Outcome(messages=99_990_000, seconds=9.0, cpu_seconds=9e4, p50=9.999e-3, p99=9.999e-3, missing=9)
        outcomes = {contestant.label: [widest] for contestant in row.field(full=True)}
        for line in render_row(RowResult(row=row, outcomes=outcomes)).splitlines():
            assert len(line) <= WIDTH
    assert len(render_header()) <= WIDTH


FACTS = {
    "date": "2020-01-01", "processor": "p", "cores": 2, "system": "s", "load": 0.0, "python": "3", "pinned": "no",
    "versions": {},
}  # fmt: skip


def test_the_head_says_when_there_are_too_few_rounds_for_a_verdict() -> None:
    assert "fewer than 9 rounds" in render_machine(FACTS, 8)
    assert "fewer than 9 rounds" not in render_machine(FACTS, 9)


def test_the_head_warns_of_a_machine_that_is_not_quiet() -> None:
    assert "others are at work" in render_machine({**FACTS, "load": 3.0}, 9)
    assert "others are at work" not in render_machine(FACTS, 9)


def test_the_json_has_every_run_and_every_verdict() -> None:
    result = result_of(make_row(), [run_at(1500), run_at(1500)], [run_at(1000), run_at(1000)])
    written = json.loads(json.dumps(as_json([result], {"cores": 2}, rounds=2, full=False)))
    (row,) = written["rows"]
    ours, theirs = row["contestants"]
    assert [run["messages"] for run in ours["runs"]] == [1500, 1500]
    assert theirs["ratio"] == {"median": 1.5, "low": 1.5, "high": 1.5}
    assert [(bound["kind"], bound["at_least"], bound["met"]) for bound in row["bounds"]] == [
        ("floor", 1.0, True),
        ("target", 2.0, False),
    ]


# --- the rows themselves ----------------------------------------------------------------------------------------------


def test_the_rows_carry_the_floors_that_were_agreed() -> None:
    floors = {(row.name, bound.against): bound.limit for row in ROWS for bound in row.floors}
    assert floors == {
        ("push-pull-tcp-16", "pyzmq"): 1.0,
        ("push-pull-tcp-16", "zmq.asyncio"): 15.0,
        ("push-pull-tcp-16", "zmq-anyio"): 80.0,
        ("push-pull-tcp-1024", "pyzmq"): 0.8,
        ("push-pull-tcp-65536", "pyzmq"): 1.4,
        ("push-pull-tcp-1048576", "pyzmq"): 1.4,
        ("batch-tcp-16", "pyzmq"): 2.0,
        ("req-rep-tcp-16", "pyzmq"): 1.2,
        ("req-rep-tcp-16", "bare trio"): 1.3,
        ("req-rep-tcp-16", "zmq.asyncio"): 0.6,
        ("pub-sub-1", "pyzmq"): 0.6,
        ("pub-sub-8", "pyzmq"): 0.6,
        ("pub-sub-subscriptions-10", "trio_mq, 10 topics"): 1.2,
        ("one-active-peer", "trio_mq, alone"): 0.9,
    }


def test_the_short_set_is_the_rows_with_floors_or_targets() -> None:
    assert [row.name for row in ROWS if row.short] == [row.name for row in ROWS if row.floors or row.targets]


def test_no_two_rows_have_one_name() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
