"""A game server: PULLs requests, works on each for a while, PUSHes the results back.

    python -m tests.examples.game_server --requests ENDPOINT --results ENDPOINT --work SECONDS NAME...

runs one server for each NAME in this process until its standard input ends; then they finish what they have and leave.
"""

from __future__ import annotations

import argparse
import os

import trio

import trio_mq


async def serve(
    name: str, requests_at: str, results_at: str, work: float, *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    """One game server, until the scope that *task_status* gets is cancelled.

    It then takes in nothing more, answers everything it has received, and returns. If the task itself is cancelled, the
    server vanishes with whatever it has.
    """
    introduction = trio_mq.Options(properties={"X-Server": name})
    async with (
        trio_mq.Push(connect=results_at) as results,
        trio_mq.Pull(connect=requests_at, options=introduction) as requests,
    ):

        async def answer(number: bytes, player: bytes) -> None:
            await trio.sleep(work)
            await results.send_multipart([name.encode(), number, b"%d" % (int(number) % 6 + 1)])

        with trio.CancelScope() as shift:
            task_status.started(shift)
            while True:
                # A cancelled receive has taken nothing, so this is the place to stop at; an answer is never cut short.
                request = await requests.receive_multipart()
                with trio.CancelScope(shield=True):
                    await answer(*request)
        await requests.disconnect(requests_at)
        while requests.can_receive():
            await answer(*await requests.receive_multipart())


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--work", type=float, required=True)
    parser.add_argument("names", nargs="+")
    given = parser.parse_args()
    async with trio.open_nursery() as nursery:
        shifts = [await nursery.start(serve, name, given.requests, given.results, given.work) for name in given.names]
        # The end of standard input is an order to leave that works on every system, and comes by itself if whoever
        # started this is killed. A thread, because not everything that stdin can be is something trio can wait for.
        await trio.to_thread.run_sync(os.read, 0, 1, abandon_on_cancel=True)
        for shift in shifts:
            shift.cancel()


if __name__ == "__main__":
    trio.run(main)
