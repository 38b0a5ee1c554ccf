"""Where the two ends of a run are: on the loopback device, or two network namespaces where multicast may have them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..interop._pgm_lab import GROUP4, endpoints, has_namespaces, inside, open_lab
from ._scenario import Transport


class Network(NamedTuple):
    """Endpoints, and how to get there.

    Attributes:
        bind: what the end that binds is given.
        connect: what the other is given; None: what the first says.
        inside: how a command of the sending, and of the receiving end begins.
    """

    bind: str
    connect: str | None = None
    inside: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@contextmanager
def open_network(transport: Transport, scratch: str) -> Iterator[Network]:
    """The network of one run, there until the block is left; *scratch* is a folder for what needs one."""
    match transport:
        case "tcp":
            yield Network("tcp://127.0.0.1:*")
        case "ipc":
            yield Network(f"ipc://{scratch}/socket")
        case "inproc":
            yield Network("inproc://benchmark")
        case "epgm" if has_namespaces():  # the reason why there are none
            endpoint = f"epgm://127.0.0.1;{GROUP4}:{_free_port()}"
            yield Network(endpoint, endpoint)
        case "epgm":
            with open_lab() as lab:
                left, right = endpoints("epgm")
                yield Network(left, right, (inside(lab.left), inside(lab.right)))


def multicast_runs() -> str:
    """Where runs over multicast are, in words."""
    reason = has_namespaces()
    return f"over loopback, since {reason}" if reason else "between two network namespaces joined by veth"


def _free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
