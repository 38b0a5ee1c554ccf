"""The deadline of the call that is being served, in a context variable.

A handler's cancel scope does not carry its call's deadline (that would cost a third of all unary calls), so
`trio.current_effective_deadline()` does not know it; calls that the handler makes read it here.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Any, Final

deadline: Final[ContextVar[float]] = ContextVar("trio_mq_grpc deadline", default=math.inf)
"""In seconds of trio's clock; `math.inf` outside a handler, and in one whose call has no deadline."""


def seconds(timeout: Any) -> float:
    """*timeout*, if it is a number of seconds.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(timeout, (int, float)) or math.isnan(timeout):
        raise ValueError(f"timeout is a number of seconds, not {timeout!r}")
    return timeout
