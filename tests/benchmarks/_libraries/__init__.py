"""The contestants: one small module each, with a `LIBRARY` of the same face.

A method of a `Library` is one role in one process. Its loops are what a user of that library would write, and the
fastest of what a user would write.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib import metadata, util
from typing import Any, Protocol, cast

from ...interop._pgm_lab import pgm_python
from .._run import Run

_OPENPGM = "libzmq"  # no wheel has it, so it has an interpreter of its own

# name → (module here, what it has to import, distribution)
_LIBRARIES = {
    "trio_mq": ("_trio_mq", ("trio_mq",), "trio-mq"),
    "pyzmq": ("_pyzmq", ("zmq",), "pyzmq"),
    _OPENPGM: ("_libzmq", ("zmq",), "pyzmq"),
    "pyomq": ("_pyomq", ("pyomq",), "pyomq"),
    "zmq.asyncio": ("_zmq_asyncio", ("zmq",), "pyzmq"),
    "zmq-anyio": ("_zmq_anyio", ("zmq_anyio",), "zmq-anyio"),
    "bare trio": ("_bare_trio", ("trio",), "trio"),
    "trio_mq_grpc": ("_trio_mq_grpc", ("trio_mq_grpc", "grpc", "google.protobuf"), "trio-mq"),
    "grpc.aio": ("_grpc_aio", ("grpc", "google.protobuf"), "grpcio"),
    "grpcio threads": ("_grpc_threads", ("grpc", "google.protobuf"), "grpcio"),
    "grpclib": ("_grpclib", ("grpclib", "google.protobuf"), "grpclib"),
}


class Library(Protocol):
    """A role may be a function or a coroutine function; `launch` is what runs it. Absent roles cannot be compared.

    Messages have the roles up to `reply`, calls those from `serve` on, and both may publish and subscribe.
    """

    def launch(self, role: Callable[[Run], Any], run: Run) -> None: ...
    def push(self, run: Run) -> Any: ...
    def pull(self, run: Run) -> Any: ...
    def inproc(self, run: Run) -> Any: ...
    def request(self, run: Run) -> Any: ...
    def reply(self, run: Run) -> Any: ...
    def publish(self, run: Run) -> Any: ...
    def subscribe(self, run: Run) -> Any: ...
    def serve(self, run: Run) -> Any: ...
    def unary(self, run: Run) -> Any: ...
    def stream(self, run: Run) -> Any: ...
    def bidi(self, run: Run) -> Any: ...
    def open_calls(self, run: Run) -> Any: ...


def load(name: str) -> Library:
    """The library of that *name*, imported."""
    module = importlib.import_module(f"{__name__}.{_LIBRARIES[name][0]}")
    return cast(Library, module.LIBRARY)


def version(name: str) -> str | None:
    """What is installed; None when nothing is."""
    _, _, distribution = _LIBRARIES[name]
    if missing(name):
        return None
    if name == _OPENPGM:
        return _openpgm_version()
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "source tree"


def missing(name: str) -> list[str]:
    """What would have to be importable for it, and is not."""
    if name == _OPENPGM:
        return [] if pgm_python() else ["a pyzmq on a libzmq with OpenPGM"]
    return [module for module in _LIBRARIES[name][1] if not _is_there(module)]


def interpreter(name: str) -> str:
    """The Python to run it with."""
    return (pgm_python() if name == _OPENPGM else None) or sys.executable


@cache
def _openpgm_version() -> str:
    code = "import zmq; print(f'{zmq.zmq_version()} with OpenPGM (pyzmq {zmq.__version__})')"
    ran = subprocess.run([interpreter(_OPENPGM), "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def _is_there(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


def names() -> list[str]:
    return list(_LIBRARIES)
