"""Driving iterators that belong to the user: request streams, streaming handlers, what interceptors return."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import trio

_CHECKPOINT_EVERY = 64


@contextmanager
def reported(report: Callable[[Exception], object]) -> Iterator[None]:
    """Pass what the user's code raises in the block to *report*; cancellation and Ctrl-C go on.

    A nursery whose child fails while it is cancelled raises both, in one group, which is no `Exception`: the failure
    is reported, and the cancellation goes on to the scope that it belongs to.
    """
    try:
        yield
    except Exception as exc:  # noqa: BLE001  # whatever it is, it is the user's, and who is told of it is theirs, too
        report(exc)
    except BaseExceptionGroup as group:
        cancelled, failure = group.split(trio.Cancelled)
        if failure is None or failure.subgroup(KeyboardInterrupt):
            raise
        report(failure if isinstance(failure, ExceptionGroup) else _as_exception(failure))
        if cancelled is not None:
            raise cancelled from None
    except (trio.Cancelled, KeyboardInterrupt):
        raise
    except BaseException as exc:  # noqa: BLE001  # SystemExit, asyncio's Cancelled …: one call's code ends no other's channel
        report(_as_exception(exc))


def _as_exception(exc: BaseException) -> Exception:
    error = RuntimeError(f"{type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error


Take: TypeAlias = "Callable[[Any], Awaitable[bool] | bool]"
"""Takes an item, and says whether it wants more: at once, or when it has waited for room."""


async def drive(source: AsyncIterable[Any], take: Take) -> None:
    """Pass each item of *source* to *take*, until it ends or *take* says False.

    One task drives it from the first step to the last, and whatever is raised while *take* waits is thrown into a
    generator that is suspended: a nursery or a cancel scope around its ``yield`` must see its own cancellation, which
    would otherwise leave through us and take the whole program with it.
    """
    iterator = aiter(source)
    throw: Callable[[BaseException], Awaitable[Any]] | None = getattr(iterator, "athrow", None)
    try:
        item = await anext(iterator)
        while True:
            try:
                more = take(item)
                if type(more) is not bool:
                    more = await more
            except BaseException as exc:  # noqa: ASYNC103  # whose scope it was decides
                if throw is None:
                    raise
                item = await throw(exc)  # noqa: ASYNC102  # the generator's own clean-up, at its own pace
            else:
                if not more:
                    break
                item = await anext(iterator)
    except StopAsyncIteration:
        pass
    finally:
        await _close(iterator)  # noqa: ASYNC102  # likewise


async def _close(iterator: AsyncIterator[Any]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


async def drive_any(source: AsyncIterable[Any] | Iterable[Any], take: Take) -> None:
    """`drive`, for an ordinary iterable too, whose steps run on the event loop."""
    if isinstance(source, AsyncIterable):
        await drive(source, take)
        return
    for count, item in enumerate(source, 1):
        more = take(item)
        if not (more if isinstance(more, bool) else await more):
            break
        if not count % _CHECKPOINT_EVERY:
            await trio.lowlevel.checkpoint()
