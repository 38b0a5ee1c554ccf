"""The roles and places a pair of ends is tried in: who is ours, who binds, over which transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio_mq

from ._dialogues import FIRST_ROUTER, SECOND_ROUTER, Dialogue
from ._ends import OurEnd, join
from ._messages import Frame, Pattern
from ._process import PeerSocket


@dataclass(frozen=True)
class Case:
    """One of our sockets against one of theirs."""

    first: str
    second: str
    ours_is_first: bool
    ours_binds: bool
    transport: str

    def __str__(self) -> str:
        names = [f"our{self.first}", self.second] if self.ours_is_first else [self.first, f"our{self.second}"]
        return f"{'-'.join(names)}-{'bind' if self.ours_binds else 'connect'}-{self.transport}"

    @property
    def ours(self) -> str:
        return self.first if self.ours_is_first else self.second

    @property
    def theirs(self) -> str:
        return self.second if self.ours_is_first else self.first

    @property
    def our_options(self) -> trio_mq.Options:
        """What our end of this pair cannot do without: ROUTERs that talk to each other need names."""
        if self.first != self.second or self.first != "ROUTER":
            return trio_mq.Options()
        return trio_mq.Options(routing_id=FIRST_ROUTER if self.ours_is_first else SECOND_ROUTER, router_mandatory=True)

    @property
    def their_options(self) -> dict[str, int | bytes]:
        if self.first != self.second or self.first != "ROUTER":
            return {}
        return {"ROUTING_ID": SECOND_ROUTER if self.ours_is_first else FIRST_ROUTER, "ROUTER_MANDATORY": 1}

    async def play(
        self, dialogue: Dialogue, ours: OurEnd, theirs: PeerSocket, endpoint: str, messages: Iterable[list[Frame]]
    ) -> None:
        """Connect the two ends and let them say each of *messages*."""
        binder, connecter = (ours, theirs) if self.ours_binds else (theirs, ours)
        await join(binder, connecter, endpoint)
        await ours.wait_connected()
        first, second = (ours, theirs) if self.ours_is_first else (theirs, ours)
        for message in messages:
            await dialogue(first, second, message)


def cases(pairs: Iterable[tuple[str, str]], transports: tuple[str, ...] = ("tcp", "ipc")) -> list[Case]:
    """Each of *pairs* with either side ours, ours binding and connecting, over each of *transports*.

    Which side of a pair of equals comes first matters, too: it speaks first.
    """
    return [
        Case(first, second, ours_is_first, ours_binds, transport)
        for first, second in pairs
        for ours_is_first in (True, False)
        for ours_binds in (True, False)
        for transport in transports
    ]


SIZES = (0, 1, 254, 255, 256, 257, 65536, 16 * 2**20)
"""Around the turn from short to long frames, one read of ours, and far beyond every buffer."""

MULTIPART: list[Frame] = [Pattern(0), Pattern(1), Pattern(255), Pattern(256), Pattern(65536), b"", b"end"]

EndpointOf = Callable[[str], str]
