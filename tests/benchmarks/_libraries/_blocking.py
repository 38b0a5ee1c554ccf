"""A binding with pyzmq's blocking calls: pyzmq itself, and pyomq, which has the same names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .._run import END, GREETINGS, HELLO, PAUSE, READY, Run
from .._scenario import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAIN = 256  # messages taken from one subscriber before the poller is asked again


class Blocking:
    """Such a binding.

    Args:
        zmq: its module.
        nothing_there: what it raises when a call that must not wait finds no message.
        no_mark: the value of a high-water mark that stands for none.
    """

    def __init__(self, zmq: Any, *, nothing_there: type[Exception], no_mark: int) -> None:
        self._zmq = zmq
        self._nothing_there = nothing_there
        self._no_mark = no_mark

    def launch(self, role: Callable[[Run], None], run: Run) -> None:
        role(run)

    def push(self, run: Run) -> None:
        with self._open(self._zmq.PUSH) as socket:
            socket.connect(run.endpoint)
            _send(socket, run)

    def pull(self, run: Run) -> None:
        with self._open(self._zmq.PULL) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            _receive(socket, run)

    def inproc(self, run: Run) -> None:
        # Two threads that share one core, where the process was put. On a core each they would only pass the
        # interpreter's lock to and fro: pyzmq then has 0.6 of this rate, pyomq 0.8.
        with self._context() as context, self._socket(context, self._zmq.PULL) as pull:
            pull.bind(run.endpoint)
            sender = threading.Thread(target=self._push_from_thread, args=(context, run), daemon=True)
            sender.start()
            _receive(pull, run)
            sender.join()

    def _push_from_thread(self, context: Any, run: Run) -> None:
        with self._socket(context, self._zmq.PUSH) as push:
            push.connect(run.endpoint)
            _send(push, run)

    def request(self, run: Run) -> None:
        with self._open(self._zmq.REQ) as socket:
            socket.connect(run.endpoint)
            for message in run.trips():
                socket.send(message)
                socket.recv()

    def reply(self, run: Run) -> None:
        with self._open(self._zmq.REP) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            message = b""
            while message != run.last:
                message = socket.recv()
                run.begin()
                socket.send(message)

    def publish(self, run: Run) -> None:
        with self._open(self._zmq.PUB, self._no_mark) as socket:
            socket.bind(run.endpoint)
            run.announce(socket.last_endpoint)
            for message in run.greetings():
                socket.send(message)
                time.sleep(PAUSE)
            for chunk in run.chunks():
                for message in chunk:
                    socket.send(message)
            for message in run.farewells():
                socket.send(message)
                time.sleep(PAUSE)

    def subscribe(self, run: Run) -> None:
        with self._context() as context, ExitStack() as stack:
            opened = (self._socket(context, self._zmq.SUB, self._no_mark) for _ in range(run.scenario.subscribers))
            sockets = [stack.enter_context(socket) for socket in opened]
            for socket in sockets:
                _greet(socket, run)
            for socket in sockets:
                while socket.recv() in GREETINGS:
                    pass
                run.begin()
            if len(sockets) == 1:
                _count(sockets[0], run)
            else:
                self._count_all(sockets, run)

    def _count_all(self, sockets: list[Any], run: Run) -> None:
        poller = self._zmq.Poller()
        for socket in sockets:
            poller.register(socket, self._zmq.POLLIN)
        counts = dict.fromkeys(sockets, 1)
        now, nothing_there = self._zmq.NOBLOCK, self._nothing_there
        while counts:
            for socket, _ in poller.poll():
                taken = 0
                try:
                    for _ in range(_DRAIN):
                        if socket.recv(now) == END:
                            poller.unregister(socket)
                            run.subscriber_ended(counts.pop(socket) + taken)
                            break
                        taken += 1
                    else:
                        counts[socket] += taken
                except nothing_there:
                    counts[socket] += taken

    @contextmanager
    def _open(self, kind: int, mark: int = MARK) -> Iterator[Any]:
        with self._context() as context, self._socket(context, kind, mark) as socket:
            yield socket

    @contextmanager
    def _context(self) -> Iterator[Any]:
        context = self._zmq.Context()
        yield context
        # Not after an error: it would wait, for ever, for messages that nobody will take.
        context.term()

    @contextmanager
    def _socket(self, context: Any, kind: int, mark: int = MARK) -> Iterator[Any]:
        socket = context.socket(kind)
        socket.sndhwm = socket.rcvhwm = mark
        socket.linger = -1
        yield socket
        socket.close()


def _send(socket: Any, run: Run) -> None:
    for chunk in run.chunks():
        for message in chunk:
            socket.send(message)


def _receive(socket: Any, run: Run) -> None:
    for arrivals in run.arrivals():
        for _ in arrivals:
            message = socket.recv()
        run.newest = message


def _greet(socket: Any, run: Run) -> None:
    socket.connect(run.endpoint)
    socket.subscribe(HELLO)
    socket.recv()
    for topic in run.topics:
        socket.subscribe(topic)
    socket.subscribe(READY)
    while socket.recv() != READY:
        pass
    run.subscriber_ready()


def _count(socket: Any, run: Run) -> None:
    count = 1
    while socket.recv() != END:
        count += 1
    run.subscriber_ended(count)
