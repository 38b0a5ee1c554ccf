"""The small examples run and print what they promise; the books and pictures of the gateway are right."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from . import publish_subscribe, request_reply, terminal
from .ledger import Ledger


async def test_request_reply_answers_what_it_can_and_gives_up_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(10):
        await request_reply.main()
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "Can this socket still be used? Yes.",
        "Is it fast? Yes.",
        "Is it pure Python? Yes.",
        "Is there a meaning of life? No answer in time.",
    ]


async def test_publish_subscribe_gives_each_listener_its_topics(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(10):
        await publish_subscribe.main()
    heard = Counter(line.partition("*")[0] for line in capsys.readouterr().out.splitlines())
    assert heard == {"berlin": 2, "be": 3, "": 4}


def test_every_request_is_answered_once_or_open() -> None:
    ledger = Ledger()
    ledger.begin("first", now=0.0, servers=2)
    numbers = [ledger.ask() for _ in range(5)]
    ledger.begin("second", now=1.0)
    ledger.ask()
    for number in numbers[:3]:
        ledger.answer(number, "a")
    ledger.answer(numbers[0], "b")
    assert (ledger.asked, ledger.answered, list(ledger.open), ledger.repeated) == (6, {"a": 3}, [4, 5, 6], 1)


def test_an_answer_counts_for_the_phase_of_its_request() -> None:
    ledger = Ledger()
    first = ledger.begin("first", now=0.0, servers=1)
    number = ledger.ask()
    second = ledger.begin("second", now=1.0)
    ledger.answer(number, "a")
    assert first.ended == 1.0
    assert (first.shares, second.shares) == ({"a": 1}, {})


def test_a_server_that_answered_nothing_has_a_share_of_none() -> None:
    ledger = Ledger()
    phase = ledger.begin("uneven", now=0.0, servers=3)
    for server in ("a", "a", "b"):
        ledger.answer(ledger.ask(), server)
    assert phase.spread == (0, 1, 2)


def test_a_picture_is_drawn_over_the_one_before_and_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert terminal.redrawn(["x" * 40, "y"], height=2) == f"\x1b[2F\x1b[J{'x' * 19}\ny\n"


def test_bars_are_as_high_as_shares() -> None:
    assert terminal.bars(Counter(a=8, b=4, c=1)) == "█▄▁"
    assert terminal.bars(Counter()) == ""


def test_what_is_recent_is_what_grew_in_the_last_second() -> None:
    recent = terminal.Recent()
    recent.note(0.0, Counter(a=1))
    recent.note(0.5, Counter(a=10))
    assert recent.note(1.75, Counter(a=15, b=2)) == (Counter(a=5, b=2), 1.25)
