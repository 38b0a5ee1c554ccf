"""Checks an environment that holds nothing but what ``pip install trio-mq`` brought.

    ENVIRONMENT/bin/python -I tests/_installed.py

With ``--grpc`` it checks one that holds what the extra `grpc` brings as well.

It runs isolated (-I), so that the checkout it lies in cannot stand in for the installed packages.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

BORN_WITH = {"pip", "setuptools", "wheel"}
FOREIGN = {"zmq", "pyomq", "anyio", "asyncio", "grpc", "google.protobuf", "nacl", "trio_mq_grpc"}
OF_THE_EXTRA = ("grpcio", "protobuf")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(name: str, found: set[str]) -> set[str]:
    """The installed distributions that *name* needs, itself included."""
    if name not in found:
        found.add(name)
        for requirement in metadata.requires(name) or []:
            match = re.match(r"[\w.-]+", requirement)
            if match and "extra ==" not in requirement and is_installed(match[0]):
                needs(normal(match[0]), found)
    return found


def is_installed(name: str) -> bool:
    return any(normal(distribution.name) == normal(name) for distribution in metadata.distributions())


def main(grpc: bool) -> None:
    installed = {normal(distribution.name) for distribution in metadata.distributions()} - BORN_WITH
    wanted = {"trio-mq"}.union(*(needs(name, set()) for name in ("trio", *(OF_THE_EXTRA if grpc else ()))))
    assert installed == wanted, f"pip install brought {sorted(installed)}"

    import trio  # noqa: F401  # what trio itself imports is no concern of ours

    before = set(sys.modules)
    import trio_mq

    came_along = FOREIGN & (set(sys.modules) - before)
    assert not came_along, f"import trio_mq imports {sorted(came_along)}"

    package = Path(trio_mq.__file__).parent
    assert package.is_relative_to(sys.prefix), f"{package} is not the installed one"
    assert (package / "py.typed").is_file(), "py.typed is not shipped"
    shipped = {str(path).split("/")[0] for path in metadata.files("trio-mq") or []}
    packages = {name for name in shipped if not name.endswith(".dist-info")}
    assert packages == {"trio_mq", "trio_mq_grpc"}, f"the wheel has {shipped}"
    print(f"installed: {', '.join(sorted(installed))}; {len(dir(trio_mq))} names; no other library imported")
    if grpc:
        check_adapter()


def check_adapter() -> None:
    import google.protobuf

    import trio_mq_grpc
    from trio_mq_grpc.v1 import blocks_pb2

    package = Path(trio_mq_grpc.__file__).parent
    assert package.is_relative_to(sys.prefix), f"{package} is not the installed one"
    assert (package / "py.typed").is_file(), "py.typed is not shipped"
    assert blocks_pb2.Status.FromString(blocks_pb2.Status(code=5).SerializeToString()).code == 5
    print(f"trio_mq_grpc: {len(dir(trio_mq_grpc))} names, with protobuf {google.protobuf.__version__}")


if __name__ == "__main__":
    main(grpc="--grpc" in sys.argv[1:])
