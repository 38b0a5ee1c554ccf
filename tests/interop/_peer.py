"""A peer process: sockets of pyzmq (or pyomq), driven over stdin and stdout by one JSON object a line.

``drafts`` is a pyzmq that was built with libzmq's draft sockets (`tests.interop.build_drafts`).

It never imports trio_mq, so what it says about a message is somebody else's judgement. Frames travel here as
``{"hex": ...}``, or as ``{"length": ..., "seed": ...}``: both sides make the same bytes from a seed, so 16 MiB need
not go through JSON. What was received is told as ``{"hex": ...}`` or, when long, ``{"length": ..., "sha256": ...}``.

Commands are executed one after another; each wait has the caller's deadline. The end of stdin ends the process.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import select
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

LIBZMQ = ("pyzmq", "drafts")

SHORT = 1024
"""Frames up to this many bytes are told whole, longer ones by length and SHA-256."""

Json = dict[str, Any]


class DeadlineError(Exception):
    """What was waited for did not happen in time."""


@lru_cache(maxsize=16)
def pattern(length: int, seed: int) -> bytes:
    """*length* bytes that look random and follow from *seed*."""
    return random.Random(seed).randbytes(length)


def told(frame: bytes) -> Json:
    """*frame* as a reply describes it."""
    if len(frame) <= SHORT:
        return {"hex": frame.hex()}
    return {"length": len(frame), "sha256": hashlib.sha256(frame).hexdigest()}


def built(frame: Json) -> bytes:
    """The bytes that a command describes as *frame*."""
    if "hex" in frame:
        return bytes.fromhex(frame["hex"])
    return pattern(frame["length"], frame["seed"])


def option_value(value: Any) -> Any:
    """An option's value out of JSON, which has no bytes."""
    return built(value) if isinstance(value, dict) else value


class Host:
    """The sockets of one library in this process, and the commands upon them (methods called ``do_...``)."""

    def __init__(self, library: str) -> None:
        self._name = library
        self._zmq = importlib.import_module("zmq" if library in LIBZMQ else library)
        self._context = self._zmq.Context()
        self._sockets: dict[int, Any] = {}
        self._monitors: dict[int, Any] = {}
        self._history: dict[int, list[str]] = {}
        self._authenticator: Any = None
        self._next = 0

    def run(self) -> None:
        """Execute commands until the end of stdin or ``exit``."""
        for line in self._lines():
            command = json.loads(line)
            name = command.pop("do")
            if name == "exit":
                break
            print(json.dumps(self._answer(getattr(self, f"do_{name}"), command)), flush=True)

    def _lines(self) -> Iterator[bytes]:
        buffer = b""
        while data := self._read_stdin():
            *lines, buffer = (buffer + data).split(b"\n")
            yield from lines

    def _read_stdin(self) -> bytes:
        # A libzmq socket acts upon what its I/O thread reports only within a call from the program: a SUB that nobody
        # calls never subscribes on a connection that it accepted. Programs poll their sockets; so does this one.
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            for socket in self._sockets.values():
                socket.poll(0)
        return os.read(sys.stdin.fileno(), 1 << 16)

    def _answer(self, action: Callable[..., Any], arguments: Json) -> Json:
        # Every failure belongs to the test that asked; only a crash of the interpreter may end this process.
        try:
            return {"ok": action(**arguments)}
        except Exception as exc:  # noqa: BLE001  # passed on to the test, which raises it
            return {"error": str(exc), "kind": type(exc).__name__}

    def do_hello(self) -> Json:
        return {"library": self._name, "version": self._zmq.zmq_version(), "pid": os.getpid()}

    def do_open(self, kind: str, options: Json) -> int:
        socket = self._context.socket(getattr(self._zmq, kind))
        self._next += 1
        self._sockets[self._next] = socket
        for name, value in {"LINGER": 0, **options}.items():
            socket.setsockopt(getattr(self._zmq, name), option_value(value))
        if self._name in LIBZMQ:
            self._monitors[self._next], self._history[self._next] = socket.get_monitor_socket(), []
        return self._next

    def do_set(self, socket: int, option: str, value: Any) -> None:
        self._sockets[socket].setsockopt(getattr(self._zmq, option), option_value(value))

    def do_bind(self, socket: int, endpoint: str) -> str:
        self._sockets[socket].bind(endpoint)
        return str(self._sockets[socket].getsockopt_string(self._zmq.LAST_ENDPOINT))

    def do_connect(self, socket: int, endpoint: str) -> None:
        self._sockets[socket].connect(endpoint)

    def do_send(self, socket: int, frames: list[Json], seconds: float) -> None:
        """Send one message; a ROUTER with ROUTER_MANDATORY tries again until the routing id is known."""
        target, message = self._sockets[socket], [built(frame) for frame in frames]
        deadline = time.monotonic() + seconds
        while True:
            if not target.poll(max(0, deadline - time.monotonic()) * 1000, self._zmq.POLLOUT):
                raise DeadlineError(f"no room to send within {seconds} s")
            try:
                target.send_multipart(message, self._zmq.NOBLOCK)
            except self._zmq.ZMQError as exc:
                if exc.errno not in (self._zmq.EHOSTUNREACH, self._zmq.EAGAIN) or time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
            else:
                return

    def do_send_to(self, socket: int, group: Json, body: Json, seconds: float) -> None:
        """Send a message of a RADIO."""
        target = self._sockets[socket]
        if not target.poll(seconds * 1000, self._zmq.POLLOUT):
            raise DeadlineError(f"no room to send within {seconds} s")
        target.send(built(body), group=built(group).decode("utf-8"))

    def do_receive_of(self, socket: int, seconds: float) -> list[Json] | None:
        """The group and the body of a message that a DISH has, or None when none came in time."""
        source = self._sockets[socket]
        if not source.poll(seconds * 1000, self._zmq.POLLIN):
            return None
        frame = source.recv(self._zmq.NOBLOCK, copy=False)
        return [told(frame.group.encode("utf-8")), told(frame.bytes)]

    def do_join(self, socket: int, group: Json) -> None:
        self._sockets[socket].join(built(group))

    def do_leave(self, socket: int, group: Json) -> None:
        self._sockets[socket].leave(built(group))

    def do_receive(self, socket: int, seconds: float) -> list[Json] | None:
        """One message, or None when none came in time."""
        source = self._sockets[socket]
        if not source.poll(seconds * 1000, self._zmq.POLLIN):
            return None
        return [told(frame) for frame in source.recv_multipart(self._zmq.NOBLOCK)]

    def do_wait_event(self, socket: int, names: list[str], seconds: float) -> Json | None:
        """The next monitor event that has one of *names*, or None when none came in time."""
        deadline = time.monotonic() + seconds
        while (event := self._next_event(socket, max(0, deadline - time.monotonic()))) is not None:
            if event["name"] in names:
                return event
        return None

    def do_events(self, socket: int) -> list[str]:
        """The names of all monitor events so far, oldest first."""
        while self._next_event(socket, 0) is not None:
            pass
        return self._history[socket]

    def _next_event(self, socket: int, seconds: float) -> Json | None:
        from zmq.utils.monitor import recv_monitor_message

        monitor = self._monitors[socket]
        if not monitor.poll(seconds * 1000):
            return None
        event = recv_monitor_message(monitor)
        name = self._zmq.Event(event["event"]).name
        self._history[socket].append(name)
        return {"name": name, "value": event["value"], "endpoint": event["endpoint"].decode()}

    def do_close(self, socket: int, linger: int) -> None:
        target, monitor = self._sockets.pop(socket), self._monitors.pop(socket, None)
        if monitor is not None:
            # In this order: libzmq waits for ever for room to say MONITOR_STOPPED to a monitor that is closed.
            target.disable_monitor()
            monitor.close(linger=0)
        target.close(linger=linger)

    def do_authenticate(self, passwords: dict[str, str]) -> None:
        """Answer ZAP requests of this process: PLAIN with these user names and passwords, nobody else."""
        from zmq.auth.thread import ThreadAuthenticator

        if self._authenticator is None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
        self._authenticator.configure_plain(domain="*", passwords=passwords)

    def do_reset(self) -> None:
        """Close everything, so that the process can serve another test."""
        for socket in list(self._sockets):
            self.do_close(socket, linger=0)
        if self._authenticator is not None:
            # It is not stopped: its address in this process is free only some time later, and the next test wants it.
            self.do_authenticate(passwords={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--library", choices=("pyzmq", "pyomq", "drafts"), default="pyzmq")
    Host(parser.parse_args().library).run()
    # Sockets may still hold messages for peers that are gone: leave without waiting for any of them.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
