"""Two network namespaces joined by a link that can lose packets, and processes that talk multicast in them.

Who is not root becomes root of a user namespace. Where the kernel does not allow that, or there is no `ip` or `nft`,
tests that want the lab are skipped, visibly; where the environment has promised all peers
(``TRIO_MQ_REQUIRE_PEERS=1``) that is a failure instead.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_END = Path(__file__).with_name("_pgm_end.py")
_OFFLOAD = Path(__file__).with_name("_pgm_offload.py")
_RELAY = Path(__file__).with_name("_pgm_relay.py")
_ROOT = Path(__file__).parents[2]
_numbers = itertools.count(os.getpid() * 100)

_HELD = ("--user", "--net", "--mount")
# In a mount namespace of its own, /run is where `ip` may write the names of networks.
_HOLDER = ["unshare", *_HELD, "--map-root-user", "sh", "-c", "mount -t tmpfs none /run && echo ready && exec cat"]
_SWITCHES = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "10000"),
}
"""What forbids user namespaces, and what allows them. Debian and Ubuntu have a switch of their own each."""

LEFT4, RIGHT4, GROUP4 = "10.77.0.1", "10.77.0.2", "239.192.1.1"
LEFT6, RIGHT6, GROUP6 = "fd77::1", "fd77::2", "ff15::7"


@cache
def pgm_python() -> str | None:
    """An interpreter whose pyzmq is built on a libzmq with OpenPGM; None if there is none."""
    candidates = [os.environ.get("TRIO_MQ_PGM_PYTHON"), sys.executable, "/usr/bin/python3"]
    for candidate in candidates:
        if candidate and shutil.which(candidate):
            asked = subprocess.run(
                [candidate, "-c", "import zmq; print(zmq.has('pgm'))"], capture_output=True, text=True, check=False
            )
            if asked.stdout.strip() == "True":
                return candidate
    return None


@cache
def _entering() -> tuple[str, ...]:
    """How a command begins that needs to be root of its networks: nothing for who is root anyway.

    Others get a user namespace, which a process holds as long as this one lives.

    Raises:
        RuntimeError: it cannot be had; why, and what to do.
    """
    if os.geteuid() == 0:
        return ()
    holder = subprocess.Popen(_HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    if not holder.stdout.readline():
        reason = holder.communicate()[1].strip()
        raise RuntimeError(f"only root may have network namespaces here ({reason}): run as root, or {_advice()}")
    atexit.register(holder.communicate)
    return ("nsenter", "--preserve-credentials", *_HELD, f"--target={holder.pid}")


def _advice() -> str:
    """What lets users have namespaces of their own."""
    for name, (forbidding, allowing) in _SWITCHES.items():
        switch = Path("/proc/sys", *name.split("."))
        if switch.exists() and switch.read_text().strip() == forbidding:
            return f"sysctl {name}={allowing}"
    return "outside of a container that forbids user namespaces"


@cache
def has_namespaces() -> str:
    """Why there can be no namespaces here, and what to do; empty if there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    tools = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux"}
    missing = [f"{tool} ({package})" for tool, package in tools.items() if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found: install it, or add /usr/sbin to PATH"
    name = f"probe{next(_numbers)}"
    try:
        _ip("netns", "add", name)
    except RuntimeError as exc:
        return str(exc)
    except subprocess.CalledProcessError as exc:
        return f"this machine allows no network namespaces, not even to root: {exc.stderr.decode().strip()}"
    _ip("netns", "del", name)
    return ""


def inside(namespace: str) -> tuple[str, ...]:
    """How a command begins that runs in *namespace*."""
    return (*_entering(), "ip", "netns", "exec", namespace)


def _ip(*arguments: str) -> None:
    subprocess.run([*_entering(), "ip", *arguments], check=True, capture_output=True)


def _join(left: str, left_device: str, right: str, right_device: str) -> None:
    """A cable between two namespaces."""
    peer = ["peer", "name", right_device, "netns", right]
    _ip("link", "add", left_device, "netns", left, "type", "veth", *peer)
    for name, device in ((left, left_device), (right, right_device)):
        # A relay forwards what it reads, and the kernel would leave checksums of such a cable uncomputed.
        command = [*inside(name), sys.executable, str(_OFFLOAD), device]
        subprocess.run(command, check=True, capture_output=True)


class End:
    """A process with a socket in it."""

    def __init__(self, command: list[str]) -> None:
        # To a file, since nobody reads it meanwhile and a full pipe would stop the process.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process, by close()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=_ROOT
        )
        assert self.read() == {"ready": True}

    def read(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
            if not line:
                self._process.wait()
                self._errors.seek(0)
                text = self._errors.read()[-2000:]
                raise AssertionError(f"the peer ended with {self._process.returncode}: {text}")

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        if self.alive():
            self._process.kill()
        self._process.communicate()
        self._errors.close()


class Lab:
    """Two namespaces, left and right, and the processes in them."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.left, self.middle, self.right = f"mqL{number}", f"mqM{number}", f"mqR{number}"
        self.ends: list[End] = []

    def build(self, relay: tuple[float, float] | None) -> None:
        _ip("netns", "add", self.left)
        _ip("netns", "add", self.right)
        if relay is None:
            _join(self.left, "v0", self.right, "v0")
        else:
            _ip("netns", "add", self.middle)
            _join(self.left, "v0", self.middle, "left")
            _join(self.right, "v0", self.middle, "right")
        self._configure()
        if relay is not None:
            for side in ("left", "right"):
                _ip("-n", self.middle, "link", "set", side, "up", "promisc", "on")
            arguments = ["left", "right", *map(str, relay)]
            self.ends.append(End([*inside(self.middle), sys.executable, str(_RELAY), *arguments]))

    def _configure(self) -> None:
        for name, four, six in ((self.left, LEFT4, LEFT6), (self.right, RIGHT4, RIGHT6)):
            _ip("-n", name, "addr", "add", f"{four}/24", "dev", "v0")
            # Without nodad the address may not be bound for a second or two.
            _ip("-n", name, "addr", "add", f"{six}/64", "dev", "v0", "nodad")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "v0", "up")

    def destroy(self) -> None:
        for end in self.ends:
            end.close()
        for name in (self.left, self.middle, self.right):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def drop(self, *rules: str, where: str | None = None) -> None:
        """Drop what one of *rules* (nftables) matches, of what arrives at *where* (right); without rules: nothing."""
        script = "flush ruleset\ntable inet t {\n chain i {\n  type filter hook input priority 0;\n"
        script += "".join(f"  {rule} drop\n" for rule in rules) + " }\n}\n"
        command = [*inside(where or self.right), "nft", "-f", "-"]
        subprocess.run(command, input=script, text=True, check=True, capture_output=True)

    def start(self, side: str, library: str, role: str, endpoint: str, **plan: Any) -> End:
        """A process on *side*, ready."""
        python = sys.executable if library == "trio_mq" else pgm_python()
        assert python is not None
        command = [*inside(side), "env", f"PYTHONPATH={_ROOT}", python, str(_END), library, role, endpoint]
        end = End([*command, json.dumps(plan)])
        self.ends.append(end)
        return end

    def converse(
        self,
        scheme: str,
        publisher: str,
        subscriber: str,
        plan: dict[str, Any],
        *,
        ipv6: bool = False,
        port: int = 5555,
    ) -> dict[str, Any]:
        """A publisher on the left, a subscriber on the right: what the subscriber says."""
        left, right = endpoints(scheme, ipv6=ipv6, port=port)
        sub = self.start(self.right, subscriber, "sub", right, **plan)
        pub = self.start(self.left, publisher, "pub", left, **plan)
        sub.go_on()
        time.sleep(0.3)  # an IGMP report and a libzmq I/O thread take a moment, and nothing tells when
        pub.go_on()
        heard = sub.read()
        pub.go_on()
        return heard


def endpoints(scheme: str, *, ipv6: bool = False, port: int = 5555) -> tuple[str, str]:
    """The endpoint as the left and as the right side writes it."""
    if ipv6:
        return f"{scheme}://[{LEFT6}];[{GROUP6}]:{port}", f"{scheme}://[{RIGHT6}];[{GROUP6}]:{port}"
    return f"{scheme}://{LEFT4};{GROUP4}:{port}", f"{scheme}://{RIGHT4};{GROUP4}:{port}"


@contextmanager
def open_lab(relay: tuple[float, float] | None = None) -> Iterator[Lab]:
    """A lab, taken down at the end whatever happens.

    Args:
        relay: how much of what goes right is overtaken, and how much comes twice.
    """
    lab = Lab()
    try:
        lab.build(relay)
        yield lab
    finally:
        lab.destroy()
