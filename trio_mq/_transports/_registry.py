"""Which transport a scheme stands for. Built-in ones and those of third parties come in through the same door.

A package can offer a transport without being imported first: an entry point of the group ``trio_mq.transports``
whose *name is the scheme* and whose value is a `Transport`, or something to call for one. Entry points are looked
at when an unknown scheme is first met, and only the one asked for is loaded: reading the metadata of every
installed distribution takes milliseconds, which a program that uses tcp alone should not pay.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points

from .._endpoint import SCHEME, Endpoint
from .._errors import EndpointError
from ._abc import Transport

ENTRY_POINTS = "trio_mq.transports"

_transports: dict[str, Transport] = {}


def register_transport(transport: Transport) -> None:
    """Let endpoints of *transport*'s schemes be bound and connected, in the whole process.

    Registering the same object again changes nothing.

    Raises:
        ValueError: one of its schemes is malformed or belongs to another transport; then none was registered.
        TypeError: it is no `Transport`.
    """
    if not isinstance(transport, Transport):
        raise TypeError(f"a transport is an instance of trio_mq.abc.Transport, not {transport!r}")
    for scheme in transport.schemes:
        if SCHEME.fullmatch(scheme) is None:
            raise ValueError(f"{scheme!r} is no scheme: lower-case letters, digits and + . -")
        if _transports.get(scheme, transport) is not transport:
            raise ValueError(f"the scheme {scheme!r} belongs to {_transports[scheme]!r}")
    for scheme in transport.schemes:
        _transports[scheme] = transport


def transport_for(endpoint: Endpoint) -> Transport:
    """The transport of *endpoint*'s scheme.

    Raises:
        EndpointError: there is none; the text lists those there are.
    """
    transport = _find(endpoint.scheme)
    if transport is None:
        raise EndpointError(endpoint.text, f"unknown scheme {endpoint.scheme!r}; known: {', '.join(schemes())}")
    return transport


def schemes() -> tuple[str, ...]:
    """Every scheme that is registered or that an installed package offers, in alphabetical order."""
    return tuple(sorted({*_transports, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))


def has(feature: str) -> bool:
    """Whether *feature* works here: a scheme (``"ipc"``), ``"curve"`` or ``"grpc"``.

    Anything this version does not know (yet) is False, so that a program can ask for what a later one brings.
    """
    if feature == "grpc":
        # The adapter is installed with us, what it needs only with the extra; asking for a spec imports neither.
        return all(importlib.util.find_spec(name) is not None for name in ("trio_mq_grpc", "grpc"))
    transport = _find(feature)
    return transport is not None and transport.available()


def _find(scheme: str) -> Transport | None:
    if scheme not in _transports:
        for entry in entry_points(group=ENTRY_POINTS, name=scheme):
            _register_loaded(entry.load())
            break
    return _transports.get(scheme)


def _register_loaded(offered: object) -> None:
    register_transport(offered() if callable(offered) and not isinstance(offered, Transport) else offered)  # type: ignore[arg-type]  # register_transport refuses what is no Transport
