"""trio's own sockets with messages of a known length: the least a round trip can cost on trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from .._run import Run


class _BareTrio:
    def launch(self, role: Callable[[Run], Awaitable[None]], run: Run) -> None:
        trio.run(role, run)

    async def request(self, run: Run) -> None:
        host, _, port = run.endpoint.removeprefix("tcp://").rpartition(":")
        with trio.socket.socket() as socket:
            await socket.connect((host, int(port)))
            socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            for message in run.trips():
                await socket.send(message)
                await socket.recv(len(message))

    async def reply(self, run: Run) -> None:
        with trio.socket.socket() as listener:
            await listener.bind(("127.0.0.1", 0))
            listener.listen()
            run.announce(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            socket, _ = await listener.accept()
        with socket:
            socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            message = b""
            # A message of 16 bytes that was sent by itself arrives by itself; a looser peer would need a loop here.
            while message != run.last:
                message = await socket.recv(run.scenario.size)
                run.begin()
                await socket.send(message)


LIBRARY = _BareTrio()
