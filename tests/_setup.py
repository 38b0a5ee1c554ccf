"""A private environment with trio_mq and one of its dependency groups, made by a Python that has nothing else.

    python3 -m tests._setup GROUP [NAME]

Standard library only. Knows where environments live and what pyproject.toml asks for; does not know what runs in them.
An environment is made once and used again for as long as pyproject.toml, the Python and the place stay the same; an
interrupted set-up is taken up again by the next one. Neither root nor a writable home is needed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

OLDEST_PYTHON = (3, 11)
THIS_PYTHON = sys.version.split()[0]
ROOT = Path(__file__).resolve().parent.parent


def scratch() -> Path:
    """Where environments and caches may be written: this checkout, or a folder of our own when it is read-only."""
    if os.access(ROOT, os.W_OK):
        return ROOT
    user = str(os.getuid()) if sys.platform != "win32" else "user"
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir(), f"trio_mq-{user}-{checkout}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # The name can be guessed, and what lies inside is executed: somebody else's folder is not ours to use.
    if sys.platform != "win32" and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        raise SystemExit(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    return folder


def environment(group: str, name: str = ".venv") -> Path:
    """The Python of the environment *name*, in which trio_mq (editable) and the dependency group *group* are installed.

    Raises:
        SystemExit: this Python is too old, or making or filling the environment failed; the text or pip says why.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise SystemExit(f"trio_mq needs Python {'.'.join(map(str, OLDEST_PYTHON))} or later, not {THIS_PYTHON}")
    folder = scratch() / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = folder / f".installed-{group}"
    wanted = _fingerprint()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        say(f"using {folder}")
        return python

    began = time.monotonic()
    if not python.exists() or _python_of(folder) != THIS_PYTHON:
        _make(folder)
    if subprocess.call([str(python), "-c", "import pip"], stderr=subprocess.DEVNULL):  # interrupted, or made without
        _command([str(python), "-m", "ensurepip"], "see what ensurepip says above")
    say(f"installing trio_mq and the dependency group {group!r} into {folder}")
    # Twice quiet: an index that lacks one of the packages is worth a warning to pip, but not to the reader.
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    _command([*pip, "--editable", str(ROOT), *_requirements(group)], "see what pip says above")
    stamp.write_text(wanted)
    say(f"ready after {time.monotonic() - began:.0f} s")
    return python


def become(python: Path, *arguments: str, **variables: str) -> NoReturn:
    """Go on as ``python *arguments``, in this checkout and with *variables* in the environment."""
    command = [str(python), *arguments]
    say(f"running {' '.join(command)}")
    sys.stdout.flush()
    os.chdir(ROOT)
    os.environ.update(variables)
    if sys.platform == "win32":  # its exec returns to the shell before the program has ended
        raise SystemExit(subprocess.call(command))
    # Not a child: Ctrl-C and the exit code are then the program's own affair.
    os.execv(python, command)


def say(text: str) -> None:
    print(f"[set-up] {text}", flush=True)


def _make(folder: Path) -> None:
    """Make the environment, in place of one that another Python made; but only where that one was ours to delete."""
    if folder.exists() and any(folder.iterdir()) and not any(folder.glob(".installed-*")):
        raise SystemExit(f"{folder} was made by somebody else, for Python {_python_of(folder)}; please move it away")
    say(f"making {folder} with Python {THIS_PYTHON}")
    advice = "on Debian and Ubuntu, venv is the package python3-venv"
    _command([sys.executable, "-m", "venv", "--clear", str(folder)], advice)


def _python_of(folder: Path) -> str:
    """The version of the Python that made the environment, as it says itself."""
    lines = (folder / "pyvenv.cfg").read_text().splitlines() if (folder / "pyvenv.cfg").exists() else []
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("version")), "unknown")


def _command(command: list[str], advice: str) -> None:
    if subprocess.call(command):
        raise SystemExit(f"[set-up] failed: {' '.join(command)}\n[set-up] {advice}")


def _requirements(group: str) -> Iterator[str]:
    """What ``[dependency-groups]`` lists under *group*, with the groups it includes."""
    for entry in _pyproject()["dependency-groups"][group]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _requirements(entry["include-group"])


def _pyproject() -> dict[str, Any]:
    import tomllib  # not at the top: a Python without it is told so in plain words by environment()

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _fingerprint() -> str:
    """Changes with everything that makes an installed environment stale, as far as it can be seen from outside."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


if __name__ == "__main__":
    environment(*sys.argv[1:])
