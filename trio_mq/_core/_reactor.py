"""The reactor: who supervises a socket's background tasks, what a crash in them means, and how a block is left.

trio is the event loop; this is the nursery around it, hidden so that it shows in nobody's traceback. A nursery wraps
whatever leaves its block in a group, so the body's exception is held back and raised after the nursery, as it was. What
comes out:

1. a crash of a background task, as `InternalError` (the body's error in its cause);
2. else the body's exception;
3. else a plain `Cancelled`, if the surrounding scope was cancelled.

It knows nothing of sockets; what closing means is a function it is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import InternalError


class Reactor:
    """Runs background tasks until it is stopped; a task that raises stops everything."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nursery: trio.Nursery | None = None
        self._body: trio.CancelScope | None = None
        self._scopes: set[trio.CancelScope] = set()
        self._stopping = False
        self._stopped = trio.Event()
        self.crash: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Reactor of {self._name}: {len(self._scopes)} tasks{', stopping' if self._stopping else ''}>"

    @property
    def running(self) -> bool:
        """Whether tasks run, or may still end."""
        return bool(self._scopes)

    def start(self, task: Callable[..., Awaitable[None]], *args: Any) -> trio.CancelScope:
        """Run ``task(*args)`` in the background; cancelling the scope that is returned ends it."""
        scope = trio.CancelScope()
        if self._nursery is None or self._stopping:
            # Too late for a new task; whoever asked is about to be stopped, too.
            scope.cancel()
            return scope
        self._scopes.add(scope)
        self._nursery.start_soon(
            self._guard, scope, task, args, name=f"{self._name}: {getattr(task, '__qualname__', task)}"
        )
        return scope

    @enable_ki_protection
    async def _guard(
        self, scope: trio.CancelScope, task: Callable[..., Awaitable[None]], args: tuple[Any, ...]
    ) -> None:
        # Ctrl-C belongs to the program, not to a background task of ours that happens to run (decision B11).
        try:
            with scope:
                await task(*args)
        except trio.Cancelled:
            raise
        except BaseException as exc:  # kept in `crash`; `run` raises it as InternalError
            if all(isinstance(leaf, trio.Cancelled) for leaf in _leaves(exc)):
                raise  # a task with a nursery of its own was cancelled
            self._crashed(exc)
        finally:
            self._scopes.discard(scope)
            if self._stopping and not self._scopes:
                self._stopped.set()

    def _crashed(self, exc: BaseException) -> None:
        if self.crash is None:
            self.crash = exc
        if self._body is not None:
            self._body.cancel()
        self.stop()

    def stop(self) -> None:
        """Cancel every task, now; no new ones start."""
        self._stopping = True
        for scope in list(self._scopes):
            scope.cancel()
        if not self._scopes:
            self._stopped.set()

    async def wait_stopped(self) -> None:
        """Return when every task has ended."""
        await self._stopped.wait()

    @asynccontextmanager
    async def run(self, leave: Callable[[bool], Awaitable[None]]) -> AsyncIterator[None]:
        """Run tasks inside the block. On the way out await ``leave(normally)``, then cancel what still runs.

        Raises:
            RuntimeError: the event loop is not trio's.
        """
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError(f"{self._name} needs trio: run the program with trio.run(main), not with asyncio.run")
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    with trio.CancelScope() as self._body:
                        try:
                            yield
                        except trio.Cancelled:
                            raise
                        except BaseException as exc:  # noqa: BLE001  # raised behind the nursery, as it was
                            failure = exc
                    try:
                        await leave(failure is None and self.crash is None)
                    except trio.Cancelled:
                        raise
                    except BaseException as exc:  # noqa: BLE001  # raised behind the nursery, too
                        # Ctrl-C while lingering, say.
                        failure = exc if failure is None else failure
                finally:
                    self.stop()
                    nursery.cancel_scope.cancel()
        except BaseException as exc:  # noqa: ASYNC103, BLE001  # sorted here, raised below; a crash replaces Cancelled
            # Background tasks report and never raise, so it is Cancelled, alone or in a group, or Ctrl-C while the
            # nursery waits for the last of them.
            leaves = list(_leaves(exc))
            others = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
            if others:
                failure = others[0] if failure is None else failure
            elif failure is None and self.crash is None:
                raise leaves[0] from None  # noqa: ASYNC104  # that is the Cancelled, out of its group
        finally:
            self._nursery = None
        if self.crash is not None:
            if failure is not None and all(isinstance(leaf, trio.Cancelled) for leaf in _leaves(failure)):
                failure = None  # tasks of the block that we cancelled because of the crash
            raise self._internal_error(failure) from self._cause(failure)
        if failure is not None:
            raise failure

    def _internal_error(self, failure: BaseException | None) -> InternalError:
        also = "" if failure is None else "; what the block raised is in the cause, too"
        return InternalError(f"a background task of {self._name} crashed: {self.crash!r}{also}")

    def _cause(self, failure: BaseException | None) -> BaseException:
        assert self.crash is not None
        if failure is None:
            return self.crash
        return BaseExceptionGroup("the crash, and what the block raised", [self.crash, failure])


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """*exc*, or what is in it if it is a group."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc
