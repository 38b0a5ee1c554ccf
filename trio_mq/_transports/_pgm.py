"""``epgm://`` and ``pgm://``: reliable multicast, over UDP and over IP itself. The protocol is `trio_mq._pgm`'s.

Binding and connecting are one and the same here, and open the sockets at the call. A publisher has one peer, the group;
a subscriber has one for each publisher it hears, from the first datagram until it ends or is silent for 300 seconds.
Subscriptions are no business of the wire: everything is sent, and filtered where it is received. There is no security
whatever: anybody on the network can read, forge and disturb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from .._endpoint import Endpoint
from .._errors import EndpointError
from .._options import Options
from .._security import Null
from ._attachment import Attachment, MessageTransport, Owner, Party
from ._multicast_address import MulticastAddress, parse_multicast
from ._pgm_publisher import Publisher
from ._pgm_subscriber import Subscriber

_PUBLISHERS = frozenset({"PUB", "XPUB"})


class EpgmTransport(MessageTransport):
    """PGM packets in UDP datagrams. Needs no privilege."""

    schemes = ("epgm",)
    socket_types = _PUBLISHERS | {"SUB", "XSUB"}
    symmetric = True
    raw: ClassVar[bool] = False

    def parse(self, endpoint: Endpoint, *, binding: bool) -> MulticastAddress:
        return parse_multicast(endpoint)

    def check(self, address: MulticastAddress, options: Options) -> None:
        """`EndpointError` for options that ask for security, `ValueError` for a TPDU that IPv6 leaves no room in."""
        if options.multicast_max_tpdu < 256 and address.is_ipv6:
            raise ValueError("Options: multicast_max_tpdu is at least 256 bytes over IPv6")
        if not isinstance(options.security, Null) or options.authenticator is not None:
            # Ignoring them, as libzmq does, would send in clear what was meant for a few.
            raise EndpointError(str(address), "multicast has no security, and the options ask for some")

    def attach(
        self, address: MulticastAddress, make_party: Callable[[], Party], *, binding: bool, owner: Owner
    ) -> Attachment:
        refusal = self.admits(owner.socket_type, binding=binding)
        if refusal:  # an endpoint of trio_mq.listen has not met the socket before
            raise EndpointError(str(address), refusal)
        kind = Publisher if owner.socket_type in _PUBLISHERS else Subscriber
        return kind(address, make_party, owner, raw=self.raw)


class PgmTransport(EpgmTransport):
    """PGM packets in IP. Needs CAP_NET_RAW; without it `attach` raises `PermissionError`."""

    schemes = ("pgm",)
    raw: ClassVar[bool] = True
