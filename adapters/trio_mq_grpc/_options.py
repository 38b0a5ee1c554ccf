"""Options of channels and servers: grpcio's pairs of name and value, read once into frozen values.

grpcio's own names mean what they mean there, as far as they have a meaning over ZeroMQ; names that begin with
``trio_mq_grpc.`` are this adapter's. Unknown ones are passed over, as grpcio does, except that those which somebody may
rely on for safety are named in one warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import trio_mq

from ._blocks import MAX_BLOCK
from ._service_config import ServiceConfig

OptionPairs: TypeAlias = "Iterable[tuple[str, Any]] | None"

MEBIBYTE = 1024 * 1024

USER_AGENT = f"trio-mq-grpc/{trio_mq.__version__}"
"""What we call ourselves to peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOptions:
    """What channels and servers have in common. Sizes are bytes, times seconds, None is "no limit" or "off".

    Attributes:
        max_receive_message_length: the largest message taken, after decompression
            (``grpc.max_receive_message_length``; -1: None). 4 MiB, as in grpcio.
        max_send_message_length: the largest message sent (``grpc.max_send_message_length``; -1: None). None.
        max_metadata_size: metadata of one direction of a call, counted as gRPC does
            (``grpc.absolute_max_metadata_size``, else ``grpc.max_metadata_size``). 16 KiB, grpcio's hard limit.
        window: what a call's peer may send before we have read (``trio_mq_grpc.window``). 256 KiB.
        fragment_size: larger messages are sent in pieces of this size (``trio_mq_grpc.fragment_size``). 1 MiB.
        heartbeat_interval: seconds between ZMTP's PINGs (``grpc.keepalive_time_ms``; 2³¹-1: None). 20 s: with it off,
            a cable that is pulled leaves calls without a deadline hanging.
        heartbeat_timeout: seconds of silence after a PING that end a connection (``grpc.keepalive_timeout_ms``). 20 s.
    """

    max_receive_message_length: int | None = 4 * MEBIBYTE
    max_send_message_length: int | None = None
    max_metadata_size: int = MAX_BLOCK
    window: int = 256 * 1024
    fragment_size: int = MEBIBYTE
    heartbeat_interval: float | None = 20.0
    heartbeat_timeout: float | None = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions(SharedOptions):
    """The options of a channel.

    Attributes:
        reconnect_interval: seconds before the second attempt to connect (``grpc.initial_reconnect_backoff_ms``, or
            ``grpc.min_reconnect_backoff_ms``). 0.1 s, not grpcio's 1 s: a program started before its server waits less.
        reconnect_interval_max: its upper bound (``grpc.max_reconnect_backoff_ms``). 5 s, grpcio has 120.
        lb_policy: ``"pick_first"`` or ``"round_robin"`` (``grpc.lb_policy_name``, else the service config's).
        user_agent: the words of the user agent: `USER_AGENT` with ``grpc.primary_user_agent`` before it and
            ``grpc.secondary_user_agent`` after. None unless one of these is given, so that other calls need not say it.
        authority: the virtual host that calls name (``grpc.default_authority``). "": the target.
        service_config: per-method timeouts, limits and retries (``grpc.service_config``, JSON).
        enable_retries: whether the service config's retries happen (``grpc.enable_retries``). True.
        retry_buffer_size: bytes of sent messages kept for another attempt (``grpc.per_rpc_retry_buffer_size``).
            256 KiB.
        allow_call_credentials_on_plain: send call credentials over tcp in the clear
            (``trio_mq_grpc.allow_call_credentials_on_plain``). False.
        strict_reqrep: talk as a REQ socket does, one unary call at a time (``trio_mq_grpc.strict_reqrep``). False.
        brokered: there is a proxy on the way: unary calls with a deadline only (``trio_mq_grpc.brokered``). False;
            True with strict_reqrep.
    """

    reconnect_interval: float = 0.1
    reconnect_interval_max: float = 5.0
    lb_policy: str = "pick_first"
    user_agent: tuple[str, ...] = ()
    authority: str = ""
    service_config: ServiceConfig = field(default_factory=ServiceConfig)
    enable_retries: bool = True
    retry_buffer_size: int = 256 * 1024
    allow_call_credentials_on_plain: bool = False
    strict_reqrep: bool = False
    brokered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(SharedOptions):
    """The options of a server.

    Attributes:
        max_concurrent_streams: calls of one peer that may run at once (``grpc.max_concurrent_streams``). None.
        hide_error_details: tell callers that a handler failed, not how (``trio_mq_grpc.hide_error_details``). False, as
            in grpcio; a public service wants True.
        output_limit: bytes of answers to one peer that may wait; beyond, nothing more is read of it
            (``trio_mq_grpc.output_limit``). 16 MiB.
        max_timeout: seconds; a longer deadline of a caller is shortened to this (``trio_mq_grpc.max_timeout_ms``).
            None.
        max_resets_per_second: unfinished calls that one peer may cancel in a second before it is disconnected
            (``trio_mq_grpc.max_resets_per_second``). 1,000.
    """

    max_concurrent_streams: int | None = None
    hide_error_details: bool = False
    output_limit: int = 16 * MEBIBYTE
    max_timeout: float | None = None
    max_resets_per_second: int = 1000


def parse_channel_options(options: OptionPairs) -> ChannelOptions:
    """The `ChannelOptions` in *options*; of a name that comes twice the last one holds.

    Warns once, with `RuntimeWarning`, if some of them change safety in grpcio and nothing here.

    Raises:
        ValueError: a value is out of its range, or a ``trio_mq_grpc.`` name is known to neither channels nor servers.
        TypeError: a value does not fit its name, or *options* are no pairs.
    """
    given = _given(options, _CHANNEL)
    fields = _read(given, _CHANNEL)
    before, after = fields.pop("_before", ""), fields.pop("_after", "")
    if before or after:
        fields["user_agent"] = tuple(filter(None, (before, USER_AGENT, after)))
    parsed = ChannelOptions(**fields)
    return replace(
        parsed,
        lb_policy=fields.get("lb_policy") or parsed.service_config.lb_policy or parsed.lb_policy,
        brokered=parsed.brokered or parsed.strict_reqrep,
        # Whoever asks for a longer first wait only, means that the later ones are no shorter.
        reconnect_interval_max=max(parsed.reconnect_interval, parsed.reconnect_interval_max),
    )


def parse_server_options(options: OptionPairs) -> ServerOptions:
    """The `ServerOptions` in *options*, as `parse_channel_options` does for a channel."""
    return ServerOptions(**_read(_given(options, _SERVER), _SERVER))


# --- what a value may be ----------------------------------------------------------------------------------------------

_Reader: TypeAlias = Callable[[str, Any], Any]
_Table: TypeAlias = "dict[str, tuple[str, _Reader]]"

_NEVER_MS = 2**31 - 1
"""grpcio's "never": INT_MAX milliseconds."""


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"option {name!r} is a whole number, not {value!r}")
    return value


def _size(name: str, value: Any) -> int:
    if _whole(name, value) < 0:
        raise ValueError(f"option {name!r} is a number of bytes, not {value!r}")
    return int(value)


def positive(name: str, value: Any) -> int:
    """*value*, if it is a whole number above 0; `TypeError` or `ValueError` otherwise."""
    if _whole(name, value) < 1:
        raise ValueError(f"option {name!r} is at least 1, not {value!r}")
    return int(value)


def _limit(name: str, value: Any) -> int | None:
    return None if value is None or _whole(name, value) < 0 else int(value)


def _window(name: str, value: Any) -> int:
    # 2³²-1 is the wire's "no window"; CREDIT counts modulo 2³², so that more cannot be told from less.
    if not 1 <= _whole(name, value) <= 0xFFFFFFFF:
        raise ValueError(f"option {name!r} is 1 to 4294967295, not {value!r}")
    return int(value)


def _milliseconds(name: str, value: Any) -> float:
    if _whole(name, value) < 1:
        raise ValueError(f"option {name!r} is at least 1 millisecond, not {value!r}")
    return int(value) / 1000


def _milliseconds_or_never(name: str, value: Any) -> float | None:
    seconds = _milliseconds(name, value)
    return None if value >= _NEVER_MS else seconds


def _switch(name: str, value: Any) -> bool:
    if value not in (0, 1):
        raise TypeError(f"option {name!r} is True or False (or 1 or 0), not {value!r}")
    return bool(value)


def _text(name: str, value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise TypeError(f"option {name!r} is a str, not {value!r}")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"option {name!r} is printable ASCII, not {value!r}")
    return text


def _policy(name: str, value: Any) -> str:
    if value not in ("pick_first", "round_robin"):
        raise ValueError(f"option {name!r} is 'pick_first' or 'round_robin', not {value!r}")
    return str(value)


def _service_config(_: str, value: Any) -> ServiceConfig:
    return value if isinstance(value, ServiceConfig) else ServiceConfig.parse(value)


# --- which name sets which field --------------------------------------------------------------------------------------

# Where two names set one field, the later line wins.
_SHARED: _Table = {
    "grpc.max_receive_message_length": ("max_receive_message_length", _limit),
    "grpc.max_send_message_length": ("max_send_message_length", _limit),
    "grpc.max_metadata_size": ("max_metadata_size", positive),
    "grpc.absolute_max_metadata_size": ("max_metadata_size", positive),
    "grpc.keepalive_time_ms": ("heartbeat_interval", _milliseconds_or_never),
    "grpc.keepalive_timeout_ms": ("heartbeat_timeout", _milliseconds),
    "trio_mq_grpc.window": ("window", _window),
    "trio_mq_grpc.fragment_size": ("fragment_size", positive),
}
_CHANNEL: _Table = _SHARED | {
    "grpc.min_reconnect_backoff_ms": ("reconnect_interval", _milliseconds),
    "grpc.initial_reconnect_backoff_ms": ("reconnect_interval", _milliseconds),
    "grpc.max_reconnect_backoff_ms": ("reconnect_interval_max", _milliseconds),
    "grpc.lb_policy_name": ("lb_policy", _policy),
    "grpc.primary_user_agent": ("_before", _text),
    "grpc.secondary_user_agent": ("_after", _text),
    "grpc.default_authority": ("authority", _text),
    "grpc.service_config": ("service_config", _service_config),
    "grpc.enable_retries": ("enable_retries", _switch),
    "grpc.per_rpc_retry_buffer_size": ("retry_buffer_size", _size),
    "trio_mq_grpc.allow_call_credentials_on_plain": ("allow_call_credentials_on_plain", _switch),
    "trio_mq_grpc.strict_reqrep": ("strict_reqrep", _switch),
    "trio_mq_grpc.brokered": ("brokered", _switch),
}
_SERVER: _Table = _SHARED | {
    "grpc.max_concurrent_streams": ("max_concurrent_streams", _limit),
    "trio_mq_grpc.hide_error_details": ("hide_error_details", _switch),
    "trio_mq_grpc.output_limit": ("output_limit", positive),
    "trio_mq_grpc.max_timeout_ms": ("max_timeout", _milliseconds),
    "trio_mq_grpc.max_resets_per_second": ("max_resets_per_second", positive),
}

_OURS = "trio_mq_grpc."

# Who sets one of these counts on TLS, on idle or old connections being closed, or on pings being policed.
_SAFETY = (
    "grpc.ssl",
    "grpc.tls",
    "grpc.max_connection_",
    "grpc.http2.max_ping_strikes",
    "grpc.http2.min_recv_ping_interval_without_data_ms",
    "grpc.http2.min_ping_interval_without_data_ms",
)


def _given(options: OptionPairs, known: _Table) -> dict[str, Any]:
    given: dict[str, Any] = {}
    pair: Any  # what users give is looked at, whatever its declared type
    for pair in () if options is None else options:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"options are (name, value) pairs; {pair!r} is none")
        given[pair[0]] = pair[1]
    for name in given:
        # Programs give channels and servers one list, so a name of the other side is no mistake.
        if name.startswith(_OURS) and name not in _CHANNEL and name not in _SERVER:
            ours = sorted(known_name for known_name in _CHANNEL | _SERVER if known_name.startswith(_OURS))
            raise ValueError(f"there is no option {name!r}; there are {', '.join(ours)}")
    ignored = sorted(name for name in given if name not in known and name.startswith(_SAFETY))
    if ignored:
        warnings.warn(
            f"these options have no effect over ZeroMQ, and somebody may rely on them: {', '.join(ignored)}",
            RuntimeWarning,
            stacklevel=4,  # where the channel or the server is made
        )
    return given


def _read(given: dict[str, Any], known: _Table) -> dict[str, Any]:
    return {field_name: reader(name, given[name]) for name, (field_name, reader) in known.items() if name in given}
