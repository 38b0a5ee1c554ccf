"""The benchmarks of multicast: their floors, who publishes to whom, what was delivered, and what a datagram costs."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import _datagrams, _libraries, _network
from tests.benchmarks._conduct import conduct
from tests.benchmarks._figures import RowResult, missed_floors, verdicts
from tests.benchmarks._multicast_rows import MULTICAST_ROWS
from tests.benchmarks._network import open_network
from tests.benchmarks._outcome import Datagrams, Outcome
from tests.benchmarks._report import WIDTH, as_json, machine, render_machine, render_row, render_summary
from tests.benchmarks._scenario import Bound, Contestant, Row, Scenario, Transport, contestant

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts datagrams where a program can read it")
FEW = Scenario(pattern="pub-sub", transport="epgm", size=100, messages=2000, batch=True)
SLOW = replace(FEW, multicast_rate=40e6)  # nothing gets lost, however busy the machine is


def run_of(*, rate: float = 30_000, missing: int = 0, datagrams: bool = True) -> Outcome:
    counted = Datagrams(
        sent=1000, received=1000, rate=rate, source_cpu=2e-5, receiver_cpu=1.5e-5, receive_buffer=212_992
    )
    return Outcome(
        messages=1500, seconds=1.0, cpu_seconds=0.03, missing=missing, datagrams=counted if datagrams else None
    )


def datagram_row() -> Row:
    floor = Bound(against=None, limit=20_000, quantity="datagrams")
    return Row(name="row", title="A row", contestants=(contestant("trio_mq", FEW),), floors=(floor,))


def result_of(*outcomes: Outcome) -> RowResult:
    return RowResult(row=datagram_row(), outcomes={"trio_mq": outcomes})


# --- a floor on datagrams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "met"), [(19_999, False), (20_000, True), (50_000, True)])
def test_a_floor_on_datagrams_is_not_met_by_messages(rate: float, met: bool) -> None:
    (floor,) = verdicts(result_of(run_of(rate=rate)))
    assert floor.met is met


def test_a_floor_on_datagrams_is_missed_where_nobody_counted_them() -> None:
    result = result_of(run_of(), run_of(datagrams=False))
    assert [verdict.met for _, verdict in missed_floors([result])] == [None]


def test_a_missed_floor_on_datagrams_is_told_with_its_unit() -> None:
    result = result_of(run_of(rate=15_000))
    assert "≥ 20k dg MISSED" in render_row(result)
    assert render_summary([result]).splitlines()[1].strip() == (
        "MISSED row: 15.0 k datagrams/s, at least 20.0 k datagrams/s"
    )
    (row,) = as_json([result], {}, rounds=1, full=False)["rows"]
    assert (row["bounds"][0]["quantity"], row["bounds"][0]["met"]) == ("datagrams", False)
    assert row["contestants"][0]["runs"][0]["datagrams"]["rate"] == 15_000


# --- what is printed --------------------------------------------------------------------------------------------------


def test_a_row_that_lost_messages_tells_the_share_delivered() -> None:
    assert "missing, all rounds: trio_mq 500 (75.00% delivered)" in render_row(result_of(run_of(missing=500)))
    assert "delivered" not in render_row(result_of(run_of()))


def test_a_row_of_multicast_tells_what_a_datagram_cost_and_which_buffer_was_granted() -> None:
    text = render_row(result_of(run_of()))
    assert "CPU per datagram at source and receiver: trio_mq 20.0 + 15.0 µs" in text
    assert "receive buffers granted, of 4,096 KiB asked for: 208 KiB" in text
    assert "CPU per datagram" not in render_row(result_of(run_of(datagrams=False)))


def test_the_head_tells_where_multicast_runs_only_if_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_network, "has_namespaces", lambda: "network namespaces need root")
    assert "multicast: over loopback, since network namespaces need root" in render_machine(machine(multicast=True), 9)
    assert "loopback" not in render_machine(machine(), 9)


# --- where a run is ---------------------------------------------------------------------------------------------------


def test_without_namespaces_both_ends_are_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_network, "has_namespaces", lambda: "network namespaces need root")
    with open_network("epgm", "") as network:
        assert network.bind == network.connect
        assert network.bind.startswith("epgm://127.0.0.1;239.")
        assert network.inside == ((), ())


# --- what the kernel tells --------------------------------------------------------------------------------------------


@LINUX
def test_the_kernel_counts_datagrams_that_are_sent_and_received() -> None:
    before = _datagrams.count_datagrams()
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        for _ in range(3):
            sender.sendto(b"", receiver.getsockname())
            receiver.recv(1)
    after = _datagrams.count_datagrams()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] >= 3
    assert after[1] - before[1] >= 3


@LINUX
def test_the_receive_buffer_is_that_of_a_datagram_socket_and_the_socket_stays_open() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as stream:
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)
        assert _datagrams._buffer(datagrams.fileno()) == 100_000
        assert _datagrams._buffer(stream.fileno()) == 0
        granted = _datagrams.granted_buffer()
        assert granted is not None
        assert granted >= 100_000
        os.fstat(datagrams.fileno())
        os.fstat(stream.fileno())


# --- one run ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No namespaces: the tests of the rows are no tests of this machine."""
    monkeypatch.setattr(_network, "has_namespaces", lambda: "the test wants none")


@LINUX
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("batch", [True, False])
async def test_multicast_to_several_processes_counts_what_each_received(batch: bool) -> None:
    outcome = await conduct(contestant("trio_mq", replace(SLOW, batch=batch, processes=2)))
    sent = -(-2000 // SLOW.chunk) * SLOW.chunk
    assert outcome.messages + outcome.missing == 2 * sent
    assert outcome.messages > sent
    assert outcome.datagrams is not None
    assert outcome.datagrams.sent > 0
    assert outcome.datagrams.source_cpu > 0
    assert outcome.datagrams.receiver_cpu > 0
    assert outcome.datagrams.receive_buffer


@LINUX
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(("publisher", "subscriber"), [("trio_mq", "libzmq"), ("libzmq", "trio_mq")])
async def test_ends_of_two_libraries_make_one_run(publisher: str, subscriber: str) -> None:
    if _libraries.missing("libzmq"):
        reason = "no pyzmq here is built on a libzmq with OpenPGM"
        if os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1":
            pytest.fail(f"TRIO_MQ_REQUIRE_PEERS=1 promises every peer, but {reason}")
        pytest.skip(reason)
    outcome = await conduct(Contestant(library=publisher, receiver=subscriber, scenario=SLOW, label="both"))
    assert outcome.messages > 0
    assert outcome.datagrams is not None
    assert outcome.datagrams.received > 0


@pytest.mark.peer("grpc", "trio_mq_grpc")
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("transport", ["epgm", "tcp"])
async def test_a_broadcast_to_several_processes_counts_what_their_servicers_got(transport: Transport) -> None:
    scenario = Scenario(pattern="broadcast", size=100, processes=2, seconds=0.02)
    outcome = await conduct(contestant("trio_mq_grpc", replace(scenario, transport=transport)))
    assert outcome.messages > 2
    if transport == "tcp":
        assert outcome.missing == 0


@pytest.mark.peer("grpc")
async def test_streams_to_several_processes_are_counted_together() -> None:
    outcome = await conduct(contestant("grpc.aio", Scenario(pattern="server-stream", processes=2, seconds=0.02)))
    assert outcome.messages > 2
    assert outcome.missing == 0


# --- left out ---------------------------------------------------------------------------------------------------------


def test_rows_with_libzmq_are_left_out_and_named_where_there_is_none_with_openpgm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_libraries, "pgm_python", lambda: None)
    monkeypatch.setattr(_libraries, "_is_there", lambda _: True)
    left = command._leave_out(MULTICAST_ROWS)
    assert [row.name for row in left] == ["multicast-receivers", "multicast-broadcast-8"]
    text = capsys.readouterr().out
    assert "left out, for want of a pyzmq on a libzmq with OpenPGM: multicast-1000-to-libzmq" in text
    assert _libraries.version("libzmq") is None


# --- the rows themselves ----------------------------------------------------------------------------------------------


def test_the_rows_of_multicast_carry_the_floors_that_were_agreed() -> None:
    floors = {(row.name, bound.against, bound.quantity): bound.limit for row in MULTICAST_ROWS for bound in row.floors}
    assert floors == {
        ("multicast-1000-to-libzmq", "libzmq → libzmq", None): 0.3,
        ("multicast-1000-to-libzmq", None, "datagrams"): 20_000,
        ("multicast-1000-from-libzmq", "libzmq → libzmq", None): 0.3,
        ("multicast-1000-from-libzmq", None, "datagrams"): 20_000,
        ("multicast-100-to-libzmq", "libzmq → libzmq", None): 0.5,
        ("multicast-100-from-libzmq", "libzmq → libzmq", None): 0.5,
    }


def test_a_row_is_named_after_the_end_that_is_not_ours() -> None:
    pairs = {row.name: row.subject.libraries for row in MULTICAST_ROWS if "libzmq" in row.name}
    assert all(
        pair == (("trio_mq", "libzmq") if "-to-" in name else ("libzmq", "trio_mq")) for name, pair in pairs.items()
    )


def test_the_short_set_is_the_rows_of_multicast_with_floors() -> None:
    assert [row.name for row in MULTICAST_ROWS if row.short] == [row.name for row in MULTICAST_ROWS if row.floors]


def test_no_two_rows_of_the_command_have_one_name() -> None:
    assert len({row.name for row in command._ALL}) == len(command._ALL)


def test_every_row_of_multicast_fits_the_width() -> None:
    datagrams = Datagrams(
        sent=9_999_999, received=9_999_999, rate=999_999.0, source_cpu=9.99e-4, receiver_cpu=9.99e-4, receive_buffer=1
    )
    widest = Outcome(messages=99_990_000, seconds=9.0, cpu_seconds=9e4, missing=99_990_000, datagrams=datagrams)
    for row in MULTICAST_ROWS:
        outcomes = {contestant.label: [widest] for contestant in row.field(full=True)}
        for line in render_row(RowResult(row=row, outcomes=outcomes)).splitlines():
            assert len(line) <= WIDTH
