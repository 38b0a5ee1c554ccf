"""pyomq, an implementation in Rust that shares nothing with libzmq, at the other end."""

from __future__ import annotations

import pytest

from ._cases import MULTIPART, SIZES, Case, EndpointOf, cases
from ._dialogues import DIALOGUES
from ._ends import open_ours
from ._messages import Frame, Pattern
from ._process import Peer

PAIRS = [("PUSH", "PULL"), ("REQ", "REP"), ("PUB", "SUB")]


@pytest.mark.parametrize("case", cases(PAIRS), ids=str)
async def test_a_pair_talks(case: Case, pyomq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyomq.open(case.theirs)
    async with open_ours(case.ours) as ours:
        messages: list[list[Frame]] = [[Pattern(size)] for size in SIZES[:-1]]
        await case.play(
            DIALOGUES[case.first, case.second], ours, theirs, endpoint_of(case.transport), [*messages, MULTIPART]
        )
