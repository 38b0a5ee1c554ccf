"""How a call ends: codes, `Status`, and what becomes of an exception on either side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import grpc.aio
import trio

from ._blocks import Entry
from ._metadata import as_metadata

CODES: tuple[grpc.StatusCode, ...] = tuple(sorted(grpc.StatusCode, key=lambda code: code.value[0]))
"""The 17 codes, each at its number."""

_NUMBERS: dict[grpc.StatusCode, int] = {code: number for number, code in enumerate(CODES)}


def to_code(code: object) -> grpc.StatusCode:
    """The `grpc.StatusCode` that *code* means: a code, its number, or its value; UNKNOWN for anything else.

    A peer may send a number that is invented after this, and servicers written in plain ints are common.
    """
    if isinstance(code, grpc.StatusCode):
        return code
    if isinstance(code, tuple) and code:
        code = code[0]
    if isinstance(code, int) and 0 <= code < len(CODES):
        return CODES[code]
    return grpc.StatusCode.UNKNOWN


def code_number(code: grpc.StatusCode) -> int:
    """The number of *code* on the wire, 0 to 16."""
    return _NUMBERS[code]


@dataclass(frozen=True, slots=True)
class Status:
    """The outcome of a call.

    Attributes:
        code: one of the 17 codes.
        details: the text beside it, for people.
        trailers: the trailing metadata.
        not_processed: no handler saw the call, so that it may be sent again whatever it does.
    """

    code: grpc.StatusCode
    details: str = ""
    trailers: tuple[Entry, ...] = ()
    not_processed: bool = False


OK = Status(grpc.StatusCode.OK)
"""Success with nothing more to say."""


def make_error(status: Status, initial_metadata: Iterable[Entry] = (), debug: str = "") -> grpc.aio.AioRpcError:
    """The exception for *status*, a new one each time.

    Several tasks may await one failed call. One object raised in all of them would collect all their tracebacks and
    contexts, and keep their frames alive.
    """
    return grpc.aio.AioRpcError(
        status.code, as_metadata(initial_metadata), as_metadata(status.trailers), status.details, debug
    )


def status_of_exception(exc: BaseException, *, hide_details: bool = False) -> Status:
    """The outcome of a handler that ended with *exc*.

    A group is looked into as long as it has one leaf besides cancellations: a handler with a nursery fails like one
    without. A `trio.Cancelled` that got this far is the handler's own, hence CANCELLED; everything else is UNKNOWN with
    the type and the text, as in grpcio. *hide_details* keeps both from the caller, to whom they may tell too much.
    """
    exc = _only_leaf(exc)
    if isinstance(exc, trio.Cancelled) or type(exc).__name__ == "CancelledError":  # or asyncio's
        return Status(grpc.StatusCode.CANCELLED, "the handler was cancelled")
    if hide_details:
        return Status(grpc.StatusCode.UNKNOWN, "the handler failed")
    return Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(exc)}: {_text(exc)}")


def _only_leaf(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        failures = [inner for inner in exc.exceptions if not _is_cancelled(inner)]
        if len(failures) > 1:
            break
        exc = failures[0] if failures else exc.exceptions[0]
    return exc


def _is_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(_is_cancelled(inner) for inner in exc.exceptions)
    return isinstance(exc, trio.Cancelled)


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001  # a __str__ that fails must not take the status of the call with it
        return "(its text cannot be had)"
