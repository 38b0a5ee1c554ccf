"""Threads for plain functions: made when they are needed, up to a limit, and kept for the next function.

`trio.to_thread.run_sync` goes all its way for each function, and that was half of what a plain handler costs
(`tests.benchmarks`, row "rpc-plain-servicer"). Here it begins a thread, so that all of `trio.from_thread` works there,
and then the thread takes one function after the other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any

import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._workers import Pool


class _Errand:
    """One function on its way through a thread."""

    __slots__ = ("abandoned", "args", "context", "error", "function", "task", "thread", "value")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.task: Task = current_task()
        self.context: Context = copy_context()
        self.function: Callable[..., Any] = function
        self.args: tuple[Any, ...] = args
        self.thread: _Thread | None = None
        self.abandoned: bool = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """In the thread."""
        try:
            self.value = self.context.run(self.function, *self.args)
        except BaseException as exc:  # noqa: ASYNC103, BLE001  # raised where the function is waited for
            self.error = exc

    def result(self) -> Any:
        """What the function returned or raised."""
        error, self.error = self.error, None
        if error is None:
            return self.value
        try:
            raise error
        finally:
            del error  # it holds this frame, and would live until the garbage collector comes


class _Thread:
    """One thread, and the task that stands for it on the event loop.

    Attributes:
        begun: it runs, or is about to.
        errands: what it is given to do; None to end.
        scope: cancelled when its call is: `trio.from_thread.check_cancelled` finds that out.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self.scope: trio.CancelScope = trio.CancelScope()
        self.begun: bool = False

    async def host(self) -> None:
        """The task."""
        if self.scope.cancel_called:
            return
        self.begun = True
        with self.scope:
            await trio.to_thread.run_sync(self._work, abandon_on_cancel=True, limiter=self._threads.unlimited)

    def _work(self) -> None:
        while True:
            errand = self.errands.get()
            if errand is None:
                return
            errand.run()
            if not self._threads.report(errand):
                return
            del errand  # while there is nothing to do, the last request and its context are not kept


class Threads:
    """Up to *most* threads for a server's plain functions; not trio's own, of which slow ones would take all.

    Args:
        pool: counts a thread as a running call when its own call has ended before it.

    Attributes:
        busy: how many have something to do.
    """

    def __init__(self, most: int, pool: Pool) -> None:
        self._most = most
        self._pool = pool
        self._count = 0
        self._idle: list[_Thread] = []
        self._waiting: deque[_Errand] = deque()
        self._done: deque[_Errand] = deque()
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken
        self.unlimited: trio.CapacityLimiter = trio.CapacityLimiter(math.inf)

    def __repr__(self) -> str:
        return f"<Threads: {self.busy} busy, {len(self._idle)} idle, {len(self._waiting)} functions wait>"

    @property
    def busy(self) -> int:
        return self._count - len(self._idle)

    @enable_ki_protection
    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let there be threads until cancelled. Those that are busy then go on, and end by themselves."""
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                for thread in self._idle:
                    thread.errands.put(None)
                self._idle.clear()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What ``function(*args)`` returns, called in a thread. If cancelled, the thread is left to itself."""
        await trio.lowlevel.checkpoint_if_cancelled()
        errand = _Errand(function, args)
        if self._idle:
            self._give(self._idle.pop(), errand)
        elif self._count < self._most:
            self._begin_thread(errand)
        else:
            self._waiting.append(errand)

        def abort(_: RaiseCancelT) -> Abort:
            self._abandon(errand)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)
        return errand.result()

    def _begin_thread(self, errand: _Errand) -> None:
        assert self._nursery is not None
        thread = _Thread(self)
        self._count += 1
        self._nursery.start_soon(thread.host)
        self._give(thread, errand)

    def _give(self, thread: _Thread, errand: _Errand) -> None:
        errand.thread = thread
        thread.errands.put(errand)

    def _abandon(self, errand: _Errand) -> None:
        """Nobody waits for it any more. Until it returns, its thread counts as a running call."""
        thread = errand.thread
        if thread is None:
            self._waiting.remove(errand)
            return
        thread.scope.cancel()
        if thread.begun:
            errand.abandoned = True
            thread.errands.put(None)
            self._pool.hold()
        else:
            self._ended()

    def _ended(self) -> None:
        """There is a thread less, and room for one that somebody may wait for."""
        self._count -= 1
        if self._waiting and self._nursery is not None:
            self._begin_thread(self._waiting.popleft())

    def report(self, errand: _Errand) -> bool:
        """In the thread: *errand* is done; False if there is nobody any more to tell."""
        self._done.append(errand)
        try:
            self._token.run_sync_soon(self._collect, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    def _collect(self) -> None:
        """On the event loop: see to everything that is done."""
        while self._done:
            errand = self._done.popleft()
            thread = errand.thread
            assert thread is not None
            if errand.abandoned:
                self._pool.release()
                self._ended()
                continue
            reschedule(errand.task)
            if self._waiting:
                self._give(thread, self._waiting.popleft())
            elif self._nursery is None:
                thread.errands.put(None)
            else:
                self._idle.append(thread)
