"""Credit: both ends count alike, any size passes, nothing can be lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mq_grpc._flow import Assembly, ReceiveWindow, SendWindow
from trio_mq_grpc._wire import CHARGE, Breach


def test_one_message_of_any_size_passes_and_then_none() -> None:
    sending, receiving = SendWindow(100), ReceiveWindow(100)
    sending.charge(1 << 30)
    receiving.arrived(1 << 30)
    assert sending.balance <= 0
    with pytest.raises(Breach, match="without credit"):
        receiving.arrived(0)


def test_empty_messages_are_not_free() -> None:
    sending = SendWindow(CHARGE * 3)
    for _ in range(3):
        assert sending.balance > 0
        sending.charge(0)
    assert sending.balance <= 0


def test_credit_is_due_when_half_a_window_was_taken() -> None:
    receiving = ReceiveWindow(1000)
    assert receiving.taken(400 - CHARGE) is None
    assert receiving.taken(100 - CHARGE) == 500
    assert receiving.taken(500 - CHARGE) == 1000


def test_an_older_total_that_was_overtaken_changes_nothing() -> None:
    sending = SendWindow(100)
    sending.charge(200)
    assert sending.grant(1000)
    balance = sending.balance
    assert not sending.grant(500)
    assert sending.balance == balance


def test_only_a_grant_that_opens_the_window_says_so() -> None:
    sending = SendWindow(1000)
    assert not sending.grant(10)
    sending.charge(5000)
    assert not sending.grant(20)
    assert sending.grant(10_000)


def test_a_balance_of_exactly_0_lets_nothing_pass_and_any_grant_opens_it() -> None:
    sending, receiving = SendWindow(100 + CHARGE), ReceiveWindow(100 + CHARGE)
    sending.charge(100)
    receiving.arrived(100)
    assert sending.balance == 0
    with pytest.raises(Breach, match="without credit"):
        receiving.arrived(0)
    assert sending.grant(1)


def test_totals_wrap_at_32_bits() -> None:
    sending, receiving = SendWindow(1 << 31), ReceiveWindow(1 << 31)
    for _ in range(9):
        size = (1 << 30) - CHARGE
        sending.charge(size)
        receiving.arrived(size)
        total = receiving.taken(size)
        if total is not None:
            sending.grant(total)
    assert sending.balance > 0


def test_without_a_window_there_is_no_limit() -> None:
    sending, receiving = SendWindow(None), ReceiveWindow(None)
    for _ in range(100):
        sending.charge(1 << 40)
        receiving.arrived(1 << 40)
    assert sending.balance > 0


@given(st.integers(64, 4096), st.lists(st.integers(0, 2000), max_size=60), st.randoms(use_true_random=False))
def test_a_sender_that_keeps_to_its_balance_never_breaches(window: int, sizes: list[int], random: object) -> None:
    sending, receiving = SendWindow(window), ReceiveWindow(window)
    on_the_way: list[int] = []
    waiting = list(sizes)
    while waiting or on_the_way:
        if waiting and sending.balance > 0 and random.random() < 0.6:  # type: ignore[attr-defined]  # hypothesis's Random
            size = waiting.pop()
            sending.charge(size)
            receiving.arrived(size)
            on_the_way.append(size)
        elif on_the_way:
            total = receiving.taken(on_the_way.pop(0))
            if total is not None:
                sending.grant(total)
        else:
            assert sending.balance > 0, "nothing is on the way, and nothing may be sent: a deadlock"


def test_pieces_make_the_message_that_was_announced() -> None:
    assembly = Assembly(6, compressed=True)
    assert assembly.add(b"abc", last=False) is None
    assert assembly.add(b"def", last=True) == b"abcdef"


@pytest.mark.parametrize(("pieces", "size"), [([b"abc", b"d"], 3), ([b"ab"], 3)])
def test_pieces_of_another_size_are_refused(pieces: list[bytes], size: int) -> None:
    assembly = Assembly(size, compressed=False)
    with pytest.raises(Breach, match="another size"):
        for at, piece in enumerate(pieces):
            assembly.add(piece, last=at == len(pieces) - 1)
