"""Builds a pyzmq whose libzmq has the draft sockets (RADIO, DISH): no wheel and no distribution has them.

``python -m tests.interop.build_drafts`` makes a virtual environment where `_process.DRAFTS` says, which the tests then
find by themselves. It takes a C++ compiler, cmake and two or three minutes. ``--libzmq`` names an archive or an
unpacked folder of libzmq's source, for machines that can reach neither of the places it is looked for.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from ._process import DRAFTS

SOURCES = {
    "https://github.com/zeromq/libzmq/releases/download/v4.3.5/zeromq-4.3.5.tar.gz": "",  # TLS says whose it is
    "http://deb.debian.org/debian/pool/main/z/zeromq3/zeromq3_4.3.4.orig.tar.gz": (
        "0ff5a531c9ffaf0dfdc7dc78d13d1383088f454896d252934c429b2554d10559"
    ),
}
"""Where libzmq's source is, and its SHA-256 where the connection does not vouch for it."""

PYZMQ = "pyzmq==27.1.0"

CMAKE = (
    "-DENABLE_DRAFTS=ON", "-DBUILD_TESTS=OFF", "-DBUILD_STATIC=OFF", "-DWITH_PERF_TOOL=OFF", "-DWITH_DOCS=OFF",
    "-DENABLE_CURVE=OFF", "-DWITH_LIBSODIUM=OFF", "-DWITH_TLS=OFF", "-DCMAKE_BUILD_TYPE=Release",
    # cmake 4 does not know the minimum that libzmq up to 4.3.5 asks for any more.
    "-DCMAKE_POLICY_VERSION_MINIMUM=3.5",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--libzmq", type=Path, help="an archive or a folder of libzmq's source")
    parser.add_argument("--into", type=Path, default=DRAFTS, help="default: %(default)s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = _source(arguments.libzmq, Path(scratch))
        _build_libzmq(source, Path(scratch) / "build", arguments.into / "libzmq")
    _install_pyzmq(arguments.into)
    print(f"done: {arguments.into / 'bin' / 'python'}")


def _source(given: Path | None, scratch: Path) -> Path:
    """The folder of libzmq's source."""
    if given is not None and given.is_dir():
        return given
    archive = scratch / "libzmq.tar.gz" if given is None else given
    if given is None:
        _download(archive)
    with tarfile.open(archive) as packed:
        packed.extractall(scratch / "source", filter="data")
    return next((scratch / "source").glob("*/CMakeLists.txt")).parent


def _download(archive: Path) -> None:
    for url, sha256 in SOURCES.items():
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                data = answer.read()
        except OSError as exc:
            print(f"{url}: {exc}", file=sys.stderr)
            continue
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            sys.exit(f"{url} is not what it was: its SHA-256 differs")
        archive.write_bytes(data)
        return
    sys.exit("libzmq's source cannot be had; give it with --libzmq")


def _build_libzmq(source: Path, build: Path, prefix: Path) -> None:
    shutil.rmtree(prefix, ignore_errors=True)
    _run("cmake", "-S", source, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib", *CMAKE)
    _run("cmake", "--build", build, "--parallel", "--target", "install")


def _install_pyzmq(into: Path) -> None:
    _run(sys.executable, "-m", "venv", into)
    environment = {**os.environ, "ZMQ_PREFIX": str(into / "libzmq"), "ZMQ_DRAFT_API": "1"}
    command = (into / "bin" / "python", "-m", "pip", "install", "--no-cache-dir", "--no-binary", "pyzmq", PYZMQ)
    _run(*command, environment=environment)
    _run(into / "bin" / "python", "-c", "import zmq; assert zmq.DRAFT_API, 'built without draft sockets'")


def _run(*command: object, environment: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, env=environment)


if __name__ == "__main__":
    main()
