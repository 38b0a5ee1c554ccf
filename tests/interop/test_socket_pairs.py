"""Every pair of socket types that fit, with libzmq at the other end."""

from __future__ import annotations

import pytest

from ._cases import MULTIPART, SIZES, Case, EndpointOf, cases
from ._dialogues import DIALOGUES
from ._ends import open_ours
from ._messages import Frame, Pattern
from ._process import Peer

THREE_SIZES: list[list[Frame]] = [[Pattern(0)], [Pattern(256)], [Pattern(65536)]]

# The whole range of sizes is tried where nothing but the frames themselves differs from pair to pair.
SIZED_PAIRS = [("PUSH", "PULL"), ("DEALER", "ROUTER")]


@pytest.mark.parametrize("case", cases(DIALOGUES), ids=str)
async def test_a_pair_talks(case: Case, pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open(case.theirs, **case.their_options)
    async with open_ours(case.ours, case.our_options) as ours:
        messages = [*THREE_SIZES, MULTIPART]
        await case.play(DIALOGUES[case.first, case.second], ours, theirs, endpoint_of(case.transport), messages)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", cases(SIZED_PAIRS), ids=str)
async def test_a_frame_of_any_size_arrives(case: Case, size: int, pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open(case.theirs)
    async with open_ours(case.ours) as ours:
        # Twice: the second comes into buffers and states that the first has left behind.
        messages: list[list[Frame]] = [[Pattern(size, seed=1)], [Pattern(size, seed=2)]]
        await case.play(DIALOGUES[case.first, case.second], ours, theirs, endpoint_of(case.transport), messages)


@pytest.mark.parametrize("case", cases([("PUSH", "PULL")]), ids=str)
async def test_many_messages_arrive_once_each_and_in_order(case: Case, pyzmq: Peer, endpoint_of: EndpointOf) -> None:
    theirs = await pyzmq.open(case.theirs)
    async with open_ours(case.ours) as ours:
        messages: list[list[Frame]] = [[b"%d" % number, Pattern(number)] for number in range(300)]
        await case.play(DIALOGUES["PUSH", "PULL"], ours, theirs, endpoint_of(case.transport), messages)


@pytest.mark.parametrize("pair", [("PUSH", "PULL"), ("REQ", "REP"), ("XPUB", "XSUB")], ids="-".join)
@pytest.mark.parametrize("ours_is_first", [True, False], ids=["ours-first", "ours-second"])
async def test_a_connecter_may_start_before_its_binder(
    pair: tuple[str, str], ours_is_first: bool, pyzmq: Peer, endpoint_of: EndpointOf
) -> None:
    case = Case(*pair, ours_is_first=ours_is_first, ours_binds=False, transport="ipc")
    theirs = await pyzmq.open(case.theirs)
    async with open_ours(case.ours) as ours:
        await ours.connect(endpoint_of("ipc"))
        await theirs.bind(endpoint_of("ipc"))
        await ours.wait_connected()
        first, second = (ours, theirs) if ours_is_first else (theirs, ours)
        await DIALOGUES[pair](first, second, [Pattern(300)])
