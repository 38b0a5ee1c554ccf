"""Stubs of our `.proto` files, made by several generations of grpcio-tools and used side by side in one process.

Knows where generators live and how what they write is imported; does not know what the tests do with it. Each
generator has an environment of its own, because it brings its own protobuf; what it wrote is kept there, under a name
made of what it was made from. Nothing generated is committed.

The message modules of all generations describe the same messages, and protobuf gives one class for one description, so
a request made by the stubs of one generation may be sent by another's.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tests._setup import scratch

PROTOS = Path(__file__).parent / "protos"

ALWAYS = ("1.49.1", "1.62.3", "1.85.1")
"""Before `_registered_method`; the last without a version check; the newest."""

ON_REQUEST = ("1.66.2", "1.76.0")
"""Between them, with ``TRIO_MQ_ALL_GENERATORS=1``: what they write differs only in the version that they check for."""

NEWEST_PYTHON = {"1.49.1": (3, 11), "1.62.3": (3, 12), "1.66.2": (3, 13)}
"""The last Python that a generator has wheels for, where there is one: building it takes a quarter of an hour."""

NEWEST = ALWAYS[-1]


def generators() -> tuple[str, ...]:
    """The versions of grpcio-tools that this Python can run and that were asked for, oldest first."""
    wanted = ALWAYS + (ON_REQUEST if os.environ.get("TRIO_MQ_ALL_GENERATORS") == "1" else ())
    runnable = [version for version in wanted if NEWEST_PYTHON.get(version, (9,)) >= sys.version_info[:2]]
    return tuple(sorted(runnable, key=lambda version: [int(number) for number in version.split(".")]))


@dataclass(frozen=True)
class Stubs:
    """What one generator made of `interop.proto` and `orders.proto`."""

    version: str
    interop: Any
    interop_grpc: Any
    orders: Any
    orders_grpc: Any

    def __repr__(self) -> str:
        return f"<Stubs of grpcio-tools {self.version}>"


@cache
def load(version: str = NEWEST) -> Stubs:
    """The stubs that grpcio-tools *version* generates, made now if they are not kept from an earlier run.

    Raises:
        OSError, subprocess.CalledProcessError: the generator could not be installed, or failed.
        RuntimeError: the installed grpcio is older than the generator allows.
    """
    folder = generate(version)
    prefix = f"stubs_{version.replace('.', '_')}"
    loaded = {name: _load(folder, prefix, name) for name in ("interop", "orders")}
    return Stubs(version, *loaded["interop"], *loaded["orders"])


def generate(version: str) -> Path:
    """The folder with what grpcio-tools *version* writes for our `.proto` files."""
    sources = sorted(PROTOS.glob("*.proto"))
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = _home(version) / f"stubs-{digest}"
    if not folder.exists():
        python = _generator(version)
        # Made elsewhere and moved, so that a folder of that name is a complete one, whoever was interrupted.
        with tempfile.TemporaryDirectory(dir=_home(version)) as new:
            out = [f"--python_out={new}", f"--grpc_python_out={new}"]
            # 1.49 imports pkg_resources, which warns each time.
            command = [str(python), "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{PROTOS}", *out]
            subprocess.run([*command, *(source.name for source in sources)], check=True, cwd=PROTOS)
            with contextlib.suppress(OSError):  # another run was faster, with the same result
                os.rename(new, folder)
                os.mkdir(new)  # for the context manager to remove
    return folder


def _home(version: str) -> Path:
    return scratch() / f".venv-grpcio-tools-{version}"


def _generator(version: str) -> Path:
    """The Python of an environment that has grpcio-tools *version* and nothing of ours."""
    home = _home(version)
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = home / ".installed"
    if not stamp.exists() or stamp.read_text() != sys.version:
        venv.create(home, clear=True, with_pip=False)
        # 1.49 needs pkg_resources, which setuptools gave up; the others do not mind.
        wanted = ["--only-binary", ":all:", f"grpcio-tools=={version}", "setuptools<81"]
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "install", "-qq", *wanted], check=True)
        stamp.write_text(sys.version)
    return python


def _load(folder: Path, prefix: str, name: str) -> tuple[ModuleType, ModuleType]:
    """``name_pb2`` and ``name_pb2_grpc`` of *folder*, unchanged, under names of their own in `sys.modules`."""
    messages = _import(f"{prefix}_{name}_pb2", folder / f"{name}_pb2.py")
    with _known_as(f"{name}_pb2", messages):  # by this name its twin imports it
        services = _import(f"{prefix}_{name}_pb2_grpc", folder / f"{name}_pb2_grpc.py")
    return messages, services


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # it stays there: `testing.channel_for` looks up where a servicer's base comes from
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _known_as(name: str, module: ModuleType) -> Iterator[None]:
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
