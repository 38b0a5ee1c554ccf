"""REQ-REP: one server that works on many questions at once, and askers that give up when it takes too long.

    python -m tests.examples.request_reply

runs both ends.
"""

from __future__ import annotations

import trio

import trio_mq


async def serve(rep: trio_mq.Rep) -> None:
    """Answer requests as they become ready: each has a task of its own, so a slow one holds up nobody."""
    async with trio.open_nursery() as nursery:
        async for request in rep.requests():
            nursery.start_soon(answer, request)


async def answer(request: trio_mq.Request) -> None:
    question = request.frames[0].decode()
    await trio.sleep(10 if "life" in question else 0.01)
    await request.reply(f"{question} Yes.".encode())


async def ask(endpoint: str, question: str) -> None:
    """Ask, and give up after half a second. The late answer to a question given up reaches nobody."""
    async with trio_mq.Req(connect=endpoint) as req:
        with trio.move_on_after(0.5) as patience:
            print((await req.request(question.encode())).decode())
        if patience.cancelled_caught:
            print(f"{question} No answer in time.")
            print((await req.request(b"Can this socket still be used?")).decode())


async def main() -> None:
    async with trio_mq.Rep() as rep, trio.open_nursery() as serving:
        endpoint = await rep.bind("tcp://127.0.0.1:*")
        serving.start_soon(serve, rep)
        async with trio.open_nursery() as asking:
            for question in ("Is it fast?", "Is there a meaning of life?", "Is it pure Python?"):
                asking.start_soon(ask, endpoint, question)
        serving.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
