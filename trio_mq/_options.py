"""`Options`: everything about a socket that is not its type, its endpoints or its messages.

A frozen value. Durations are seconds, sizes are bytes, counts are whole messages; `None` always means *this
mechanism is off* (no mark, no limit, no heartbeat). It knows which socket types have a use for which field, and
refuses the rest by name; it does not know what any of them does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from ._security import Authenticator, Null, Plain, Security

Overflow: TypeAlias = Literal["block"]

_PUBLISHERS = frozenset({"PUB", "XPUB"})
_RELIABLE_MULTICAST = frozenset({"PUB", "XPUB", "SUB", "XSUB"})
_CONFLATING = frozenset({"DEALER", "PUSH", "PULL", "PUB", "SUB"})
_IDENTIFIED = frozenset({"REQ", "DEALER", "ROUTER", "REP"})

# Fields that only some socket types have a use for. A field that is not here fits them all.
_FITS: Mapping[str, frozenset[str]] = {
    "conflate": _CONFLATING,
    "routing_id": _IDENTIFIED,
    "probe_router": frozenset({"REQ", "DEALER", "ROUTER"}),
    "req_correlate": frozenset({"REQ"}),
    "req_relaxed": frozenset({"REQ"}),
    "router_mandatory": frozenset({"ROUTER"}),
    "router_handover": frozenset({"ROUTER"}),
    "xpub_verbose": frozenset({"XPUB"}),
    "xpub_verboser": frozenset({"XPUB"}),
    "xpub_manual": frozenset({"XPUB"}),
    "xpub_welcome": frozenset({"XPUB"}),
    "invert_matching": frozenset({"PUB", "XPUB", "SUB", "XSUB"}),
    "overflow": _PUBLISHERS | {"RADIO", "ROUTER"},
    "peer_events": frozenset({"PAIR", "DEALER", "ROUTER", "PULL"}),
    "multicast_rate": _RELIABLE_MULTICAST,
    "multicast_recovery": _RELIABLE_MULTICAST,
    "multicast_max_tpdu": _RELIABLE_MULTICAST,
}

_SWITCHES = (
    "immediate",
    "conflate",
    "ipv6",
    "multicast_loop",
    "eager_reads",
    "peer_events",
    "probe_router",
    "req_relaxed",
    "router_mandatory",
    "router_handover",
    "xpub_verbose",
    "xpub_verboser",
    "xpub_manual",
    "invert_matching",
)

_NEVER_OFF = ("backlog", "max_handshakes", "multicast_hops", "multicast_max_tpdu")

# What libzmq, too, lets act on a socket that is already open.
CHANGEABLE = frozenset(
    {"send_hwm", "receive_hwm", "linger", "router_mandatory", "router_handover", "xpub_verbose", "xpub_verboser"}
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a socket behaves.

    Attributes:
        send_hwm: messages that may wait for one peer (ZMQ_SNDHWM). None: no mark.
        receive_hwm: messages of one peer that may wait to be received (ZMQ_RCVHWM); beyond it we stop reading from
            that peer and nothing is dropped. None: no mark.
        send_hwm_bytes, receive_hwm_bytes: the same in bytes of payload; a queue below its mark takes one more
            message of any size. libzmq has no such option.
        linger: seconds that leaving a socket's block waits for queued messages to reach the kernel (ZMQ_LINGER).
            0 drops them at once, `math.inf` waits until done. On SUB and XSUB the default counts as 0.
        immediate: queue only for peers whose handshake is done (ZMQ_IMMEDIATE). False: a connecting socket queues
            for an endpoint from `connect` on and keeps the queue across reconnects.
        conflate: keep only the newest one-frame message in each queue (ZMQ_CONFLATE).
        routing_id: our ZMTP Identity, 1–255 bytes that do not begin with a zero byte (ZMQ_ROUTING_ID); empty: none.
        reconnect_interval: seconds before the second attempt to connect (ZMQ_RECONNECT_IVL). The wait doubles with
            each attempt up to *reconnect_interval_max* (ZMQ_RECONNECT_IVL_MAX), is jittered over its full length,
            and starts again after the first traffic.
        retry: whether a failed or lost connection is dialled again (ZMQ_RECONNECT_STOP): True always, False never,
            or a function of the error (None for a plain end of stream) that says.
        connect_timeout: seconds for one attempt to connect (ZMQ_CONNECT_TIMEOUT). None: the system's.
        handshake_interval: seconds from connected to ready (ZMQ_HANDSHAKE_IVL).
        heartbeat_interval: seconds between PINGs (ZMQ_HEARTBEAT_IVL).
        heartbeat_timeout: seconds of silence after a PING that end a connection (ZMQ_HEARTBEAT_TIMEOUT); None: the
            interval.
        heartbeat_ttl: seconds of our silence after which the peer shall end the connection (ZMQ_HEARTBEAT_TTL), at
            most 65.5 because libzmq wraps beyond; None: not announced.
        max_message_size: bytes one incoming frame may have (ZMQ_MAXMSGSIZE); a longer one ends the connection.
        max_frames: frames one incoming message may have; more end the connection.
        ipv6: let names resolve to IPv6 and ``*`` mean both families (ZMQ_IPV6).
        tcp_keepalive: True or False for SO_KEEPALIVE, None for the system's (ZMQ_TCP_KEEPALIVE);
            tcp_keepalive_idle, tcp_keepalive_interval: seconds; tcp_keepalive_count: probes.
        backlog: pending connections of a listener (ZMQ_BACKLOG).
        max_handshakes: connections of one listener that may be in their handshake at once.
        send_buffer, receive_buffer: bytes of SO_SNDBUF, SO_RCVBUF (ZMQ_SNDBUF, ZMQ_RCVBUF). None: autotuned.
        accept_filter: networks in CIDR form; a tcp connection from elsewhere is closed at accept
            (ZMQ_TCP_ACCEPT_FILTER). Empty: all may come.
        use_fd: a listening descriptor to adopt instead of binding one (ZMQ_USE_FD).
        multicast_rate: bits a second that a publisher sends over ``pgm`` and ``epgm``, repairs and headers included
            (ZMQ_RATE, there in kilobits and by default 100: some eight full datagrams a second). None: no limit.
        multicast_recovery: seconds of traffic at that rate that a publisher keeps for repair, and a subscriber waits
            for (ZMQ_RECOVERY_IVL, by default 10). Without a rate 64 MiB are kept. Set both alike on both ends where
            one is libzmq's.
        multicast_max_tpdu: bytes of the largest IP packet that is sent, its headers among them
            (ZMQ_MULTICAST_MAXTPDU). A libzmq subscriber with a smaller one cannot read what is larger.
        multicast_hops: routers that multicast passes, plus one (ZMQ_MULTICAST_HOPS); 1 stays in the local network.
        multicast_loop: whether sockets of this machine hear its own multicast, too (ZMQ_MULTICAST_LOOP).
        eager_reads: look again a few times before sleeping when a peer usually answers at once. Halves a round
            trip for some CPU time; adapts itself; False saves power.
        security: `Null()`, `Plain(...)` or `Curve(...)`.
        authenticator: asked about each peer that our listeners accept; see `AuthenticationRequest`.
        properties: READY properties of our own, readable at the peer (ZMQ_METADATA). Names begin with ``X-``,
            values are printable ASCII.
        peer_events: deliver `PeerJoined` and `PeerLeft` among the received messages, in order.
        overflow: ``"block"``: a PUB, XPUB or RADIO waits instead of dropping when a matching queue is full
            (ZMQ_XPUB_NODROP), a ROUTER waits for that peer. None: the socket type's own rule.
        probe_router: send an empty message on each new connection (ZMQ_PROBE_ROUTER).
        req_correlate: prefix requests with an id frame (ZMQ_REQ_CORRELATE); None: when the peer is a REP.
        req_relaxed: `send` may abandon the request before (ZMQ_REQ_RELAXED).
        router_mandatory: `HostUnreachableError` for unknown routing ids (ZMQ_ROUTER_MANDATORY).
        router_handover: a newcomer takes over a routing id in use (ZMQ_ROUTER_HANDOVER).
        xpub_verbose: report every subscription, not only the first of a topic (ZMQ_XPUB_VERBOSE);
            xpub_verboser: and every cancellation (ZMQ_XPUB_VERBOSER).
        xpub_manual: subscriptions are only reported; the program applies its own (ZMQ_XPUB_MANUAL).
        xpub_welcome: a message queued first to each new subscriber (ZMQ_XPUB_WELCOME_MSG).
        invert_matching: publish to those whose subscriptions do *not* match (ZMQ_INVERT_MATCHING), on both ends.
    """

    send_hwm: int | None = 1000
    receive_hwm: int | None = 1000
    send_hwm_bytes: int | None = None
    receive_hwm_bytes: int | None = None
    linger: float = 5.0
    immediate: bool = False
    conflate: bool = False
    routing_id: bytes = b""
    reconnect_interval: float = 0.1
    reconnect_interval_max: float = 5.0
    retry: bool | Callable[[Exception | None], bool] = True
    connect_timeout: float | None = None
    handshake_interval: float | None = 30.0
    heartbeat_interval: float | None = None
    heartbeat_ttl: float | None = None
    heartbeat_timeout: float | None = None
    max_message_size: int | None = None
    max_frames: int | None = None
    ipv6: bool = False
    tcp_keepalive: bool | None = None
    tcp_keepalive_idle: int | None = None
    tcp_keepalive_interval: int | None = None
    tcp_keepalive_count: int | None = None
    backlog: int = 100
    max_handshakes: int = 256
    send_buffer: int | None = None
    receive_buffer: int | None = None
    accept_filter: tuple[str, ...] = ()
    use_fd: int | None = None
    multicast_rate: float | None = 40e6
    multicast_recovery: float = 2.0
    multicast_max_tpdu: int = 1500
    multicast_hops: int = 1
    multicast_loop: bool = True
    eager_reads: bool = True
    security: Security = field(default_factory=Null)
    authenticator: Authenticator | None = None
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)
    peer_events: bool = False
    overflow: Overflow | None = None
    probe_router: bool = False
    req_correlate: bool | None = None
    req_relaxed: bool = False
    router_mandatory: bool = False
    router_handover: bool = False
    xpub_verbose: bool = False
    xpub_verboser: bool = False
    xpub_manual: bool = False
    xpub_welcome: bytes | None = None
    invert_matching: bool = False

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("send_hwm", "receive_hwm", "send_hwm_bytes", "receive_hwm_bytes", "backlog", "max_handshakes"):
            _whole_number(name, getattr(self, name), least=1)
        for name in ("max_message_size", "max_frames"):
            _whole_number(name, getattr(self, name), least=0)
        for name in ("tcp_keepalive_idle", "tcp_keepalive_interval", "tcp_keepalive_count"):
            _whole_number(name, getattr(self, name), least=1)
        _whole_number("multicast_max_tpdu", self.multicast_max_tpdu, least=128)
        if self.multicast_max_tpdu > 65535:
            raise ValueError(f"Options: multicast_max_tpdu is at most 65535 bytes, not {self.multicast_max_tpdu}")
        if self.multicast_rate is not None:
            _bits_a_second("multicast_rate", self.multicast_rate)
        _seconds("multicast_recovery", self.multicast_recovery, least=0.0, exclusive=True)
        if self.multicast_recovery == math.inf:
            raise ValueError("Options: multicast_recovery is finite; a window without end would need such a memory")
        _whole_number("multicast_hops", self.multicast_hops, least=1)
        if self.multicast_hops > 255:
            raise ValueError(f"Options: multicast_hops is at most 255, not {self.multicast_hops}")
        _seconds("linger", self.linger, least=0.0)
        for name in ("reconnect_interval", "reconnect_interval_max"):
            _seconds(name, getattr(self, name), least=0.0)
        for name in ("connect_timeout", "handshake_interval", "heartbeat_interval", "heartbeat_timeout"):
            if getattr(self, name) is not None:
                _seconds(name, getattr(self, name), least=0.0, exclusive=True)
        if self.heartbeat_ttl is not None:
            _seconds("heartbeat_ttl", self.heartbeat_ttl, least=0.1)
            if self.heartbeat_ttl > 65.5:
                raise ValueError("Options: heartbeat_ttl is at most 65.5 seconds (libzmq peers wrap beyond)")
        _check_routing_id(self.routing_id)
        if self.overflow not in (None, "block"):
            raise ValueError(f"Options: overflow is None or 'block', not {self.overflow!r}")
        if isinstance(self.security, Plain) and self.security.server and self.authenticator is None:
            raise ValueError("Options: Plain(server=True) needs an authenticator to ask about user names and passwords")
        for name, text in self.properties.items():
            _check_property(name, text)

    def _check_kinds(self) -> None:
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"Options: {name} is True or False, not {getattr(self, name)!r}")
        for name in ("req_correlate", "tcp_keepalive"):
            if getattr(self, name) not in (None, True, False):
                raise TypeError(f"Options: {name} is True, False or None, not {getattr(self, name)!r}")
        if not isinstance(self.retry, bool) and not callable(self.retry):
            raise TypeError(f"Options: retry is True, False or a function of the error, not {self.retry!r}")
        if not isinstance(self.security, (Null, Plain)):
            raise TypeError(f"Options: security is Null(), Plain(...) or Curve(...), not {self.security!r}")
        if self.authenticator is not None and not callable(self.authenticator):
            raise TypeError(f"Options: authenticator is an async function, not {self.authenticator!r}")
        if self.xpub_welcome is not None and not isinstance(self.xpub_welcome, bytes):
            raise TypeError(f"Options: xpub_welcome is bytes, not {self.xpub_welcome!r}")
        networks: object = self.accept_filter
        if not isinstance(networks, (tuple, list)) or not all(isinstance(network, str) for network in networks):
            raise TypeError(f"Options: accept_filter is a tuple of networks as str, not {networks!r}")
        if not isinstance(self.properties, Mapping):
            raise TypeError(f"Options: properties is a mapping of str to str, not {self.properties!r}")
        for name in ("send_buffer", "receive_buffer"):
            _whole_number(name, getattr(self, name), least=1)
        _whole_number("use_fd", self.use_fd, least=0)

    def check_for(self, socket_type: str) -> None:
        """Raise `ValueError` naming a field that was set and that *socket_type* has no use for."""
        for entry in fields(self):
            fits = _FITS.get(entry.name)
            if fits is not None and socket_type not in fits and getattr(self, entry.name) != entry.default:
                raise ValueError(
                    f"Options: {entry.name} means nothing on {socket_type}; it is for {', '.join(sorted(fits))}"
                )

    def changed_fields(self, other: Options) -> set[str]:
        """The names of the fields in which *other* differs."""
        return {entry.name for entry in fields(self) if getattr(self, entry.name) != getattr(other, entry.name)}

    def should_retry(self, error: Exception | None) -> bool:
        """Whether an endpoint that ended with *error* (None: end of stream) is dialled again."""
        return self.retry if isinstance(self.retry, bool) else bool(self.retry(error))


def checked_options(options: Options) -> Options:
    """*options*, if it is one. Raises `TypeError`."""
    if not isinstance(options, Options):
        raise TypeError(f"options is an Options, not {type(options).__name__}")
    return options


def _whole_number(name: str, value: Any, *, least: int) -> None:
    if value is None and name not in _NEVER_OFF:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        also = "" if name in _NEVER_OFF else " or None"
        raise TypeError(f"Options: {name} is a whole number{also}, not {value!r}")
    if value < least:
        remedy = "" if name in _NEVER_OFF else "; None means no limit"
        raise ValueError(f"Options: {name} is at least {least}, not {value}{remedy}")


def _seconds(name: str, value: Any, *, least: float, exclusive: bool = False) -> None:
    if value is None:
        raise ValueError(f"Options: {name} has no off; write 0 (at once) or math.inf (until done)")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Options: {name} is a number of seconds, not {value!r}")
    if math.isnan(value) or value < least or (exclusive and value == least):
        raise ValueError(f"Options: {name} is {'above' if exclusive else 'at least'} {least:g} seconds, not {value}")


def _bits_a_second(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Options: {name} is a number of bits a second or None, not {value!r}")
    if not 1000 <= value < math.inf:
        raise ValueError(f"Options: {name} is at least 1000 bits a second, not {value}; None means no limit")


def _check_routing_id(routing_id: bytes) -> None:
    if not isinstance(routing_id, bytes):
        raise TypeError(f"Options: routing_id is bytes, not {routing_id!r}")
    if len(routing_id) > 255:
        raise ValueError(f"Options: routing_id has at most 255 bytes, not {len(routing_id)}")
    if routing_id[:1] == b"\0":
        raise ValueError("Options: a routing_id must not begin with a zero byte; those are made by ROUTER sockets")


def _check_property(name: object, text: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"Options: properties has names that are str, not {name!r}")
    # 37/ZMTP: names are letters, digits, "-_.+"; those of applications begin with "X-".
    if (
        not name.lower().startswith("x-")
        or len(name) > 255
        or not all(c.isascii() and (c.isalnum() or c in "-_.+") for c in name)
    ):
        raise ValueError(f"Options: the property {name!r} must begin with X- and have only letters, digits and - _ . +")
    if not isinstance(text, str):
        raise TypeError(f"Options: the value of property {name!r} is a str, not {text!r}")
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f"Options: the value of property {name!r} must be printable ASCII, as libzmq peers read text")
