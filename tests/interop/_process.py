"""Peer processes: started once, lent to one test after another, and replaced when a test leaves one in doubt.

They outlive every `trio.run`, so they are plain `subprocess.Popen` objects whose pipes are waited for with
`trio.lowlevel`; a `trio.Process` belongs to the run that started it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pytest
import trio

from ._messages import Frame, Seen, from_json, to_json
from ._peer import Json

DRAFTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trio_mq" / "drafts"
"""Where a pyzmq with libzmq's draft sockets is built, and looked for."""

SCRIPT = Path(__file__).with_name("_peer.py")

DEADLINE = 5.0
"""Seconds within which a peer on loopback does whatever it is going to do."""

START_DEADLINE = 20.0
"""Seconds for an interpreter to start and import its library on a busy machine."""


class PeerError(Exception):
    """A command failed in the peer process; `kind` is the name of the exception's class there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class PeerCrashedError(Exception):
    """The peer process ended by itself; the text has what it wrote to stderr."""


class Peer:
    """One peer process and the commands it takes. Commands of several tasks are executed one after another."""

    def __init__(self, library: str) -> None:
        self.library = library
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            [interpreter(library), str(SCRIPT), "--library", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._turn = trio.Lock()
        self._buffer = bytearray()
        self._busy = False
        self._stopped = False
        self._answered = False

    def __repr__(self) -> str:
        return f"<Peer {self.library} pid={self._process.pid} returncode={self._process.poll()}>"

    @property
    def usable(self) -> bool:
        """Whether another test may have this process: alive, and no command was abandoned half-way."""
        return not (self._busy or self._stopped) and self._process.poll() is None

    async def call(self, name: str, **arguments: Any) -> Any:
        """Execute one command and give back its answer. A cancelled call makes the process unusable.

        An argument ``seconds`` is the command's own deadline, which it gets besides the one for the answer.

        Raises:
            PeerError: the command failed there.
            PeerCrashedError: the process is gone.
            trio.TooSlowError: no answer came in time.
        """
        deadline = DEADLINE if self._answered else START_DEADLINE
        with trio.fail_after(deadline + arguments.get("seconds", 0)):
            async with self._turn:
                self._write(name, arguments)
                while b"\n" not in self._buffer:
                    await trio.lowlevel.wait_readable(self._answers.fileno())
                    self._read()
                return self._answer()

    def reset(self) -> None:
        """Close all sockets there, so that another test may have the process. Blocks, outside of any trio run."""
        self._write("reset", {})
        while b"\n" not in self._buffer:
            if not select.select([self._answers], [], [], START_DEADLINE)[0]:
                raise PeerCrashedError(f"{self!r} did not answer\n{self._complaints()}")
            self._read()
        self._answer()

    def kill(self) -> None:
        """End the process without a goodbye, as SIGKILL does. Idempotent."""
        self._process.kill()
        self._process.wait()
        for stream in (self._commands, self._answers, self._stderr):
            stream.close()

    def freeze(self) -> None:
        """Stop the process, whose connections stay open and silent, until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._process.send_signal(signal.SIGCONT)
        self._stopped = False

    def _write(self, name: str, arguments: Mapping[str, Any]) -> None:
        self._busy = True
        line = json.dumps({"do": name, **arguments}) + "\n"
        try:
            # A command has a few hundred bytes and the pipe is empty whenever one may be written: this never blocks.
            os.write(self._commands.fileno(), line.encode())
        except BrokenPipeError:
            raise self._crashed() from None

    def _read(self) -> None:
        data = os.read(self._answers.fileno(), 1 << 16)
        if not data:
            raise self._crashed()
        self._buffer += data

    def _answer(self) -> Any:
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer[:] = rest
        self._busy, self._answered = False, True
        answer: Json = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["kind"], answer["error"])
        return answer["ok"]

    def _crashed(self) -> PeerCrashedError:
        self._process.wait()
        return PeerCrashedError(f"{self!r} crashed; its stderr:\n{self._complaints()}")

    def _complaints(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    async def open(self, kind: str, **options: Any) -> PeerSocket:
        """A socket of type *kind* there; *options* by the names they have in pyzmq, without ``ZMQ_``."""
        values = {name: to_json(value) if isinstance(value, bytes) else value for name, value in options.items()}
        return PeerSocket(self, kind, await self.call("open", kind=kind, options=values))

    async def authenticate(self, **passwords: str) -> None:
        """Let this process's PLAIN servers accept these user names with their passwords, and nobody else."""
        await self.call("authenticate", passwords=passwords)


class PeerSocket:
    """A socket in a peer process, with the face that all ends have in these tests (`_ends.End`)."""

    def __init__(self, peer: Peer, kind: str, number: int) -> None:
        self.peer = peer
        self.kind = kind
        self._number = number

    async def bind(self, endpoint: str) -> str:
        return str(await self.peer.call("bind", socket=self._number, endpoint=endpoint))

    async def connect(self, endpoint: str) -> None:
        await self.peer.call("connect", socket=self._number, endpoint=endpoint)

    async def send(self, frames: Sequence[Frame]) -> None:
        described = [to_json(frame) for frame in frames]
        await self.peer.call("send", socket=self._number, frames=described, seconds=DEADLINE)

    async def receive(self) -> list[Seen]:
        message = await self.receive_within(DEADLINE)
        assert message is not None, f"the {self.peer.library} {self.kind} received nothing within {DEADLINE} s"
        return message

    async def receive_within(self, seconds: float) -> list[Seen] | None:
        """A message, or None when none came in time."""
        frames = await self.peer.call("receive", socket=self._number, seconds=seconds)
        return None if frames is None else [from_json(frame) for frame in frames]

    async def send_to(self, group: bytes, body: Frame) -> None:
        """Send a message of a RADIO."""
        await self.peer.call("send_to", socket=self._number, group=to_json(group), body=to_json(body), seconds=DEADLINE)

    async def receive_of(self, seconds: float = DEADLINE) -> list[Seen]:
        """The group and the body of the next message of a DISH."""
        message = await self.peer.call("receive_of", socket=self._number, seconds=seconds)
        assert message is not None, f"the {self.peer.library} {self.kind} received nothing within {seconds} s"
        return [from_json(frame) for frame in message]

    async def join(self, group: bytes) -> None:
        await self.peer.call("join", socket=self._number, group=to_json(group))

    async def leave(self, group: bytes) -> None:
        await self.peer.call("leave", socket=self._number, group=to_json(group))

    async def subscribe(self, topic: bytes) -> None:
        if self.kind == "XSUB":
            await self.send([b"\x01" + topic])
        else:
            await self.set("SUBSCRIBE", topic)

    async def unsubscribe(self, topic: bytes) -> None:
        if self.kind == "XSUB":
            await self.send([b"\x00" + topic])
        else:
            await self.set("UNSUBSCRIBE", topic)

    async def set(self, option: str, value: int | bytes) -> None:
        """Set an option of the open socket."""
        await self.peer.call(
            "set", socket=self._number, option=option, value=to_json(value) if isinstance(value, bytes) else value
        )

    async def wait_event(self, *names: str, seconds: float = DEADLINE) -> Json:
        """The next event of libzmq's monitor that has one of *names*."""
        event: Json | None = await self.peer.call("wait_event", socket=self._number, names=names, seconds=seconds)
        assert event is not None, f"no {' or '.join(names)} in time, but {await self.events()}"
        return event

    async def wait_connected(self) -> None:
        await self.wait_event("HANDSHAKE_SUCCEEDED")

    async def events(self) -> list[str]:
        """The names of all monitor events so far."""
        names: list[str] = await self.peer.call("events", socket=self._number)
        return names

    async def close(self, linger: int = 0) -> None:
        """Close; messages not sent by then are kept for *linger* milliseconds."""
        await self.peer.call("close", socket=self._number, linger=linger)


class Pool:
    """Peer processes that nobody uses at the moment."""

    def __init__(self) -> None:
        self._idle: list[Peer] = []

    def lend(self, library: str) -> Peer:
        """A process with no socket open."""
        for index, peer in enumerate(self._idle):
            if peer.library == library:
                return self._idle.pop(index)
        return Peer(library)

    def take_back(self, peer: Peer) -> None:
        """Keep *peer* for another test if it is in order, else end it."""
        if not peer.usable:
            peer.kill()
            return
        try:
            peer.reset()
        except (PeerCrashedError, PeerError):
            peer.kill()
            raise
        self._idle.append(peer)

    def close(self) -> None:
        """End every process."""
        while self._idle:
            self._idle.pop().kill()


def interpreter(library: str) -> str:
    """The Python that has *library*, as `Peer` calls it; empty if a pyzmq with draft sockets was built nowhere."""
    return drafts_python() if library == "drafts" else sys.executable


@lru_cache(maxsize=1)
def drafts_python() -> str:
    """A Python whose pyzmq has draft sockets: this one, or what `tests.interop.build_drafts` has made."""
    for python in (sys.executable, os.environ.get("TRIO_MQ_DRAFTS_PYTHON", ""), str(DRAFTS / "bin" / "python")):
        if python and Path(python).exists():
            asked = subprocess.run([python, "-c", "import zmq; assert zmq.DRAFT_API"], capture_output=True, check=False)
            if not asked.returncode:
                return python
    return ""


def missing(library: str) -> bool:
    """Whether *library*, as `Peer` calls it, is not installed here."""
    if library == "drafts":
        return not drafts_python()
    return importlib.util.find_spec({"pyzmq": "zmq"}.get(library, library)) is None


def require(library: str) -> None:
    """Skip visibly when *library* is not installed, or fail where TRIO_MQ_REQUIRE_PEERS says that it must be.

    The drafts are never asked of anybody: they are built from sources that no package index has.
    """
    if missing(library):
        if library != "drafts" and os.environ.get("TRIO_MQ_REQUIRE_PEERS") == "1":
            pytest.fail(f"TRIO_MQ_REQUIRE_PEERS=1, but {library} is not installed")
        how = "; python -m tests.interop.build_drafts builds one" if library == "drafts" else ""
        pytest.skip(f"{library} is not installed: no real peer to judge us{how}")
