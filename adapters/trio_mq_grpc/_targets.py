"""Targets and addresses, as gRPC writes them and as ZeroMQ does, in the one form that the sockets take.

A program that swaps its channel keeps its configuration: ``host:port``, ``dns:///``, ``ipv4:``, ``ipv6:``, ``unix:``
and ``unix-abstract:`` become ZeroMQ endpoints. What is an endpoint already stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

_ENDPOINT = re.compile(r"[a-z][a-z0-9+.-]*://.")
_HOST_PORT = re.compile(r"(\[[^\[\]]+\]|[^:\[\]/]+):(\d{1,5})")
# Schemes of gRPC and of the web that name something no ZeroMQ socket can reach.
_FOREIGN = ("xds:", "vsock:", "http:", "https:", "google-c2p:")


def connect_endpoints(target: str | Iterable[str]) -> tuple[str, ...]:
    """The endpoints that *target* means, in its order: one string, or several; ``ipv4:`` and ``ipv6:`` may list more.

    Raises:
        ValueError: a target has no port, names no host, or has a scheme that cannot be reached over ZeroMQ.
        TypeError: it is no string and no iterable of strings.
    """
    targets = (target,) if isinstance(target, str) else tuple(_strings(target))
    if not targets:
        raise ValueError("a channel needs at least one target")
    return tuple(endpoint for text in targets for endpoint in _connect_endpoints(text))


def bind_endpoint(address: str) -> str:
    """The endpoint to listen on that *address* means. Port 0 becomes ``*``: any free one.

    Raises:
        ValueError: as in `connect_endpoints`; a name service is none to listen on.
        TypeError: it is no string.
    """
    if not isinstance(address, str):
        raise TypeError(f"an address is a str such as '127.0.0.1:50051', not {type(address).__name__}")
    if address.startswith("tcp://"):
        return f"{address[:-1]}*" if address.endswith(":0") else address
    if address.startswith("dns:"):
        raise ValueError(f"{address!r}: dns: is for targets; give a port the host or interface itself")
    endpoints = _connect_endpoints(address, lowest_port=0)
    if len(endpoints) != 1:
        raise ValueError(f"{address!r}: a port listens on one address")
    return bind_endpoint(endpoints[0]) if endpoints[0].startswith("tcp://") else endpoints[0]


def peer_name(address: str) -> str:
    """A peer's *address* as `ServicerContext.peer` gives it: ``ipv4:127.0.0.1:5``, ``ipv6:%5B::1%5D:5``, ``unix:...``.

    ipc and inproc both become ``unix:``: instrumentation takes these three forms and complains about any other.
    """
    scheme, _, rest = address.partition(":")
    rest = rest.removeprefix("//")
    if scheme == "tcp":
        return f"ipv6:{quote(rest, safe=':.%')}" if rest.startswith("[") else f"ipv4:{rest}"
    if scheme in ("ipc", "inproc"):
        return f"unix:{rest}"
    return address


def _strings(target: Iterable[str]) -> Iterable[str]:
    try:
        texts = list(target)
    except TypeError:
        raise TypeError(f"a target is a str or several, not {type(target).__name__}") from None
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a target is a str such as 'tcp://127.0.0.1:50051', not {text!r}")
    return texts


def _connect_endpoints(text: str, lowest_port: int = 1) -> list[str]:
    if text.startswith(_FOREIGN):
        raise ValueError(f"{text!r} cannot be reached over ZeroMQ; write tcp://host:port, ipc://path or inproc://name")
    if text.startswith("dns:"):
        return [_tcp(text, _dns_name(text), lowest_port)]
    if text.startswith(("ipv4:", "ipv6:")):
        addresses = text[5:].removeprefix("///").split(",")
        return [_tcp(text, address.replace("%5B", "[").replace("%5D", "]"), lowest_port) for address in addresses]
    if text.startswith("unix-abstract:"):
        return [f"ipc://@{_named(text, 'unix-abstract:')}"]
    if text.startswith("unix:"):
        return [f"ipc://{_named(text, 'unix:')}"]
    if _ENDPOINT.match(text):
        return [text]
    return [_tcp(text, text, lowest_port)]


def _dns_name(text: str) -> str:
    rest = text.removeprefix("dns:")
    if rest.startswith("//") and not rest.startswith("///"):
        raise ValueError(f"{text!r}: a DNS server cannot be chosen; write dns:///host:port")
    return rest.removeprefix("///")


def _named(text: str, scheme: str) -> str:
    # gRPC has unix:relative, unix:/absolute and unix:///absolute.
    rest = text.removeprefix(scheme)
    path = rest[2:] if rest.startswith("///") else rest
    if path in ("", "/") or path.startswith("//"):
        raise ValueError(f"{text!r}: a path must follow {scheme}")
    return path


def _tcp(text: str, address: str, lowest_port: int) -> str:
    found = _HOST_PORT.fullmatch(address)
    if found is None:
        # gRPC falls back to 443, the port of https; nobody serves ZeroMQ there.
        raise ValueError(f"{text!r} is no target: write host:port, [ipv6]:port or a ZeroMQ endpoint")
    if not lowest_port <= int(found[2]) <= 65535:
        raise ValueError(f"{text!r}: a port is {lowest_port} to 65535")
    return f"tcp://{address}"
