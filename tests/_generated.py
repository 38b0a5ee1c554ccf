"""Makes the Python files of ``proto/`` again, or checks that they would come out as they are.

    python3 -m tests._generated            writes them into adapters/
    python3 -m tests._generated --check    says what differs, and writes nothing

Standard library only: it makes an environment for itself. The group `gen` pins the version of protoc, because what
another one writes differs, and may not be importable with the oldest protobuf that is allowed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ._setup import ROOT, environment, say

NEWEST_PYTHON = (3, 12)
"""The newest one for which the pinned grpcio-tools has wheels."""

COULD_NOT_JUDGE = 77
"""The exit code of a check that is skipped, to `.ci/run` as to many others."""

SOURCE_ROOT = "adapters"
SUFFIXES = {".py", ".pyi"}


def generate(folder: Path) -> None:
    """Run buf, as ``buf.gen.yaml`` says, with *folder* in place of the checkout."""
    python = environment("gen", ".venv-gen")
    buf = python.with_name("buf.exe" if sys.platform == "win32" else "buf")
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    # buf wants a folder for its cache even when there is nothing to fetch; a home need not be writable.
    variables = {**os.environ, "PATH": path, "BUF_CACHE_DIR": str(folder / "cache")}
    subprocess.run([str(buf), "generate", "--output", str(folder)], cwd=ROOT, env=variables, check=True)


def generated(root: Path) -> dict[str, bytes]:
    """The generated files below *root*, by their paths from there."""
    found = (path for path in (root / SOURCE_ROOT).rglob("*_pb2*") if path.suffix in SUFFIXES)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def differences(fresh: dict[str, bytes], committed: dict[str, bytes]) -> Iterator[str]:
    """One line for each file that is not what it should be."""
    for name in sorted(fresh.keys() | committed.keys()):
        if name not in committed:
            yield f"{name} is missing"
        elif name not in fresh:
            yield f"{name} has no schema any more"
        elif fresh[name] != committed[name]:
            yield f"{name} differs"


def write(fresh: dict[str, bytes]) -> None:
    """Put the *fresh* files in place of those in the checkout."""
    for name in generated(ROOT).keys() - fresh.keys():
        (ROOT / name).unlink()
    for name, content in fresh.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(content)


def main(check: bool) -> None:
    if sys.version_info[:2] > NEWEST_PYTHON:
        print(f"grpcio-tools of the group `gen` has no wheel for Python {sys.version.split()[0]}")
        raise SystemExit(COULD_NOT_JUDGE)
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = generated(Path(scratch))
    found = list(differences(fresh, generated(ROOT)))
    if not check:
        write(fresh)
    say("\n".join(found) or f"{len(fresh)} generated files are as their schemas say")
    if check and found:
        raise SystemExit("the generated files are not those of the schemas; run python3 -m tests._generated")


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])
