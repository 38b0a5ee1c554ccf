"""`Endpoint`: a scheme and what follows it, taken apart but not understood.

Which schemes exist is the registry's business, and what the rest means is the transport's; this module knows
only that an endpoint is ``scheme://address``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._errors import EndpointError

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
"""What a scheme looks like. Lower case only: libzmq compares schemes byte by byte, and so must we, or a
program that works with us fails with ``TCP://`` when its endpoint list is handed to a libzmq peer."""


@dataclass(frozen=True)
class Endpoint:
    """Where to bind or connect, as the user wrote it: ``tcp://127.0.0.1:5555``.

    Attributes:
        scheme: ``"tcp"``.
        rest: ``"127.0.0.1:5555"``, still to be parsed by the scheme's transport.
    """

    scheme: str
    rest: str

    @property
    def text(self) -> str:
        """The whole endpoint; parsing it again gives an equal value."""
        return f"{self.scheme}://{self.rest}"

    def __str__(self) -> str:
        return self.text


def parse_endpoint(text: str) -> Endpoint:
    """*text* as an `Endpoint`.

    Raises:
        EndpointError: it is not ``scheme://address``.
        TypeError: it is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"an endpoint is a str such as 'tcp://127.0.0.1:5555', not {type(text).__name__}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise EndpointError(text, "an endpoint is scheme://address, such as tcp://127.0.0.1:5555")
    if SCHEME.fullmatch(scheme) is None:
        raise EndpointError(text, f"a scheme is lower-case letters, digits and + . -, not {scheme!r}")
    if not rest:
        raise EndpointError(text, f"an address must follow {scheme}://")
    return Endpoint(scheme, rest)
