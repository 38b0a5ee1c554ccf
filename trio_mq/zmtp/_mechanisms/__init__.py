"""Security mechanisms, one module each."""

from __future__ import annotations

from ._abc import Mechanism as Mechanism
from ._null import NullMechanism as NullMechanism
from ._plain import PlainClient as PlainClient
from ._plain import PlainServer as PlainServer
