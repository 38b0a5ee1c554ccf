"""Which socket types go together, and the numbers that ZMTP 2.0 has for them."""

from __future__ import annotations

from typing import Final

_PARTNERS: Final[dict[str, frozenset[str]]] = {
    "PAIR": frozenset({"PAIR"}),
    "PUB": frozenset({"SUB", "XSUB"}),
    "SUB": frozenset({"PUB", "XPUB"}),
    "REQ": frozenset({"REP", "ROUTER"}),
    "REP": frozenset({"REQ", "DEALER"}),
    "DEALER": frozenset({"REP", "DEALER", "ROUTER"}),
    "ROUTER": frozenset({"REQ", "DEALER", "ROUTER"}),
    "PULL": frozenset({"PUSH"}),
    "PUSH": frozenset({"PULL"}),
    "XPUB": frozenset({"SUB", "XSUB"}),
    "XSUB": frozenset({"PUB", "XPUB"}),
    # The draft types of RFCs 41, 48, 49, 51 and 52.
    "CLIENT": frozenset({"SERVER"}),
    "SERVER": frozenset({"CLIENT"}),
    "RADIO": frozenset({"DISH"}),
    "DISH": frozenset({"RADIO"}),
    "SCATTER": frozenset({"GATHER"}),
    "GATHER": frozenset({"SCATTER"}),
    "PEER": frozenset({"PEER"}),
    "CHANNEL": frozenset({"CHANNEL"}),
}

# 15/ZMTP has 0 to 8; libzmq writes 9 and 10 as well.
_NUMBERED: Final = ("PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH", "XPUB", "XSUB")

SOCKET_TYPES: Final = frozenset(_PARTNERS)
"""Every socket type that has a handshake."""

IDENTIFIED: Final = frozenset({"REQ", "DEALER", "ROUTER"})
"""The types that tell their Identity, even an empty one. (37/ZMTP's example leaves ROUTER out; libzmq does not.)"""


def accepts(ours: str, theirs: str) -> bool:
    """Whether a socket of type *ours* talks to one of type *theirs*."""
    return theirs in _PARTNERS.get(ours, ())


def partners(ours: str) -> list[str]:
    """The types a socket of type *ours* talks to, sorted."""
    return sorted(_PARTNERS.get(ours, ()))


def number_of(socket_type: str) -> int | None:
    """The number of *socket_type* in ZMTP 2.0; None if it is younger than that."""
    return _NUMBERED.index(socket_type) if socket_type in _NUMBERED else None


def type_with_number(number: int) -> str:
    """The type that has *number* in ZMTP 2.0; empty if none has."""
    return _NUMBERED[number] if number < len(_NUMBERED) else ""
